"""Strong lenses in a survey: simulate what it sees, find the lenses, measure them, weigh them.

One galaxy in ten thousand bends the light of another behind it into arcs. Which cutouts show that, how many wrong
ones will be handed to the eye, and how heavy are the lenses?

    python examples/lensing.py            # a small LSST; some minutes
    python examples/lensing.py --quick    # a tiny one

Needs the extra ``report`` (matplotlib).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from deepfield import lensing
from deepfield.core import pictures
from deepfield.lensing.classical import arc_score, subtract
from deepfield.lensing.score import auroc, false_positives


def survey(n: int, seed: int, lens_fraction: float = 0.5):
    """Simulated cutouts with their truth, the central 8 arcsec: half lenses, half what fools finders."""
    drawn = lensing.simulate(n, survey="lsst", seed=seed, lens_fraction=lens_fraction)
    own = drawn.survey
    return lensing.read(drawn.images.numpy(), catalog=drawn.table, bands=own.bands, pixel_scale=own.pixel, crop=40)


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Tell the story; returns the numbers that it printed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--images", type=int, default=8000, help="to train on")
    parser.add_argument("--quick", action="store_true", help="tiny sets and networks")
    parser.add_argument("--out", type=Path, default=Path("lensing.png"), help="the figure")
    options = parser.parse_args(arguments)
    n, small = options.images, {"group": "none", "pixels": 40, "learning_rate": 5e-3}
    if options.quick:
        n, small = 160, {**small, "pixels": 16, "parameters": 2500, "epochs": 2, "progress": False}

    # 1. What the survey sees, twice: to learn from, and to look into. `lensing.read("set.hdf5")` takes your own.
    train, test = survey(n, seed=1), survey(max(n // 4, 100), seed=2)
    print(f"{train!r} to train on")

    # 2. Find. The probabilities are calibrated on images kept from training, at their share of lenses;
    #    in the survey, where a lens is rare, the same evidence is worth less.
    finder = lensing.train(train, task="find", seed=0, **small)
    found = lensing.find(finder, test, prior=1e-4)
    truth = np.asarray(test.table["is_lens"])
    print(lensing.score(found.probability, truth, repeats=20))
    best = int(np.argmin(found.rank))
    print(f"the likeliest: p = {found.probability[best]:.3f} here, {found.posterior[best]:.4f} in the survey")

    # 3. What a threshold costs: of a million galaxies, how many wrong ones does the eye get?
    half = float(np.median(found.probability[truth == 1]))
    wrong = false_positives(found.probability, truth, half, galaxies=1e6)
    print(f"to have half of the lenses, {wrong} of a million such galaxies are looked at in vain")

    # 4. The method to beat: subtract the galaxy, look for blue light around it.
    pixels, _ = test.load()
    arcs = auroc(arc_score(pixels), truth)
    print(f"area under the ROC curve: {auroc(found.joint, truth):.3f}, of the arc filter {arcs:.3f}")

    # 5. Measure: a posterior of every lens; its Einstein radius weighs the lens once redshifts are known.
    lenses = survey(n, seed=3, lens_fraction=1.0)
    gauge = lensing.train(lenses, task="measure", seed=0, **small)
    theirs = test[np.flatnonzero(truth == 1)]
    measured = lensing.measure(gauge, theirs)
    result = lensing.score_measurement(measured, theirs.table, repeats=20)
    print(f"theta_E: scatter {result.theta_e_scatter:.3f}, in 68.3 %: {result.theta_e_coverage_683:.3f}")
    low, middle, high = measured.einstein_mass(theirs.table["z_lens"], theirs.table["z_source"], [0.16, 0.5, 0.84])
    print(f"the first lens: {middle[0]:.2e} (+{high[0] - middle[0]:.1e} -{middle[0] - low[0]:.1e}) solar masses")

    # 6. The figure: the top of the list, and what is left of each when its galaxy is subtracted.
    top = np.argsort(found.rank)[:8]
    kinds = np.asarray(test.table["kind"]).astype(str)
    rows = {
        "candidates": (list(pixels[top].numpy()), [f"{kinds[k]} {found.probability[k]:.2f}" for k in top]),
        "galaxy subtracted": (list(subtract(pixels[top]).numpy()), [""] * len(top)),
    }
    pictures.contact_sheet(rows).savefig(options.out, dpi=110)
    print(f"figure: {options.out}")
    return {"auroc": auroc(found.joint, truth), "arcs": arcs, "coverage": result.theta_e_coverage_683}


if __name__ == "__main__":
    main()
