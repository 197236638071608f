"""Galaxy morphology for a survey: from images to classes, neighbours and what to label next.

A survey has images of galaxies and labels for some of them. What is each of the others, how sure can one be, does
the answer depend on how the camera was turned, which image is odd, and which should be labelled next?

    python examples/morphology.py                       # Galaxy Zoo 1 in SDSS; some minutes
    python examples/morphology.py --rows 400 --quick    # a small run

Needs the extras ``morphology`` (pillow) and ``report`` (matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deepfield import data, morphology
from deepfield.core import pictures

CLASSES = {"elliptical": "elliptical", "spiral_cw": "spiral", "spiral_acw": "spiral", "edge_on": "edge-on"}


def galaxies(rows: int | None):
    """Images with a class each: real ones, or simulated where they are not at hand."""
    if data.available("galaxy_zoo1_sdss"):
        images = morphology.read("galaxy_zoo1_sdss", crop=72)  # the central pixels hold the galaxy
        names = np.array([CLASSES.get(str(name), "") for name in images.table["label_name"]])
        images = images[names != ""]
        images.table["kind"] = names[names != ""]
    else:
        print("the Galaxy Zoo images are not at hand: simulating galaxies in their place")
        drawn = morphology.simulate(rows or 3000, size=64, seed=0)
        images = morphology.read(drawn.images.numpy(), catalog=drawn.table, bands=drawn.survey.bands)
    order = np.random.default_rng(0).permutation(len(images))
    return images[np.sort(order[:rows])]


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Tell the story; returns the numbers that it printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, help="use only so many galaxies")
    parser.add_argument("--quick", action="store_true", help="one very small network")
    parser.add_argument("--out", type=Path, default=Path("morphology.png"), help="the figure")
    options = parser.parse_args(arguments)

    # 1. Images. `morphology.read("folder", catalog="table.csv")` takes your own. Keep some that nobody has seen.
    images = galaxies(options.rows)
    train, test = images.split(0.75, seed=0)
    print(f"{images!r}; {len(train):,} to train on")

    # 2. Train two nets that cannot see how an image is turned. Some images stop the training, some calibrate.
    small = {"pixels": 32, "parameters": 5000, "epochs": 3} if options.quick else {"pixels": 32}
    model = morphology.train(train, labels=("kind",), members=2, seed=0, **small)

    # 3. Predict, and score against the labels.
    found = morphology.predict(model, test)
    truth = morphology.targets(test.table, ["kind"], classes=model.labels)
    result = morphology.score(found, truth.y.numpy(), classes=model.labels)
    print(result)

    # 4. Turn the camera by 90 degrees: nothing changes.
    pixels, _ = test.load()
    turned = morphology.read(pixels.rot90(1, (2, 3)).numpy(), bands=test.bands)
    change = float(np.abs(morphology.predict(model, turned).probabilities - found.probabilities).max())
    print(f"largest change of a probability when every image is turned by 90 degrees: {change:.1e}")

    # 5. The net's own map: what looks like the first galaxy, what looks like nothing else?
    embedding = morphology.embed(model, test)
    near, _ = morphology.similar(embedding, [0], n=6)
    odd = np.argsort(-morphology.anomaly(embedding))[:7]

    # 6. Whose label would teach the most? Where the two nets disagree.
    ask = np.argsort(-morphology.rank(model, test)["information"])[:7]

    # 7. The figure.
    sure = np.argsort(-found.probabilities.max(1))[:7]
    rows = {"surest": sure, "like the first": [0, *near[0]], "oddest": odd, "label next": ask}
    sheet = {
        name: (list(pixels[np.asarray(chosen)].numpy()), [str(found.chosen[i]) for i in chosen])
        for name, chosen in rows.items()
    }
    pictures.contact_sheet(sheet).savefig(options.out, dpi=110)
    print(f"figure: {options.out}")
    return {"accuracy": result.accuracy, "change": change}


if __name__ == "__main__":
    main()
