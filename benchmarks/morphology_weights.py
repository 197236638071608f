"""Train the morphology models that ship with the package, and measure them once on images they have not seen.

    DEEPFIELD_DATA=... python benchmarks/morphology_weights.py --only galaxy-zoo-sdss

galaxy-zoo-sdss  elliptical, spiral, edge-on, merger, from SDSS gri pictures (Galaxy Zoo 1), three d8 nets
spiral-sense-sdss  clockwise or anticlockwise, one d8 net: simulated spirals, then all real ones

Writes src/deepfield/morphology/weights/<name>/ with the model card. The classes: trained, stopped and calibrated
on the sample's train rows; the card's metrics are those of its val rows. The senses: trained on all rows; the
card's metrics are of nets trained on four fifths of them and tested on the others, by ``morphology.py chirality``,
whose ``--models`` keeps the very net that ships: ``--trained FOLDER`` takes it.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from morphology import PARAMETERS, PIXELS, galaxies, invariance, scores
from morphology_page import results
from morphology_senses import senses, spirals

from deepfield import morphology
from deepfield.data import registry
from deepfield.morphology import MorphologyConfig, MorphologyModel

WEIGHTS = Path(__file__).parents[1] / "src" / "deepfield" / "morphology" / "weights"
LIMITS = (
    "For SDSS pictures (gri as blue, green, red, 128 pixels, the central 72 used) of galaxies like those of "
    "Galaxy Zoo 1's sample. Of other surveys, filters or scales it gives numbers that nobody has checked. It says "
    "what volunteers would say, with their biases; 'edge-on' includes spirals whose sense could not be told."
)


SENSES_LIMITS = (
    "For SDSS pictures (gri, the central 64 of 128 pixels) of spirals of Galaxy Zoo 1. It has to say one of the "
    "two of every image, of an elliptical too: look at p. A mirror image exchanges the two probabilities, exactly."
)


def classes(settings: dict[str, Any], trained: str) -> MorphologyModel:
    rows, test = galaxies()
    config = MorphologyConfig(
        labels=("class",), group="d8", pixels=PIXELS, parameters=PARAMETERS, members=3, epochs=36, validation=0.06,
        calibration=0.06, **settings,
    )  # fmt: skip
    model = morphology.load(trained) if trained else morphology.train(rows, config)
    found = scores(morphology.predict(model, test).probabilities, test, model)
    model.card["about"] = "elliptical, spiral, edge-on or merger, from SDSS pictures (Galaxy Zoo 1)"
    model.card["limits"] = LIMITS
    model.card["test"] = {"images": len(test), **found, **invariance(model, test.load()[0])}
    return model


def sense(settings: dict[str, Any], trained: str) -> MorphologyModel:
    base, tuned = (None, None) if trained else senses("d8")
    model = morphology.load(trained) if trained else morphology.train(spirals(), tuned, init=base, **settings)
    runs = [run for run in results("chirality")["runs"].values() if run["group"] == "d8" and run["seed"] > 1]
    tested = [run["tested"] for run in runs]
    names = ("accuracy", "log_loss", "calibration_error")
    found = {m: float(np.average([r["simulated, then real"][m] for r in runs], weights=tested)) for m in names}
    model.card["about"] = "spirals clockwise or anticlockwise, from SDSS pictures (Galaxy Zoo 1)"
    model.card["limits"] = SENSES_LIMITS
    model.card["test"] = {"images": sum(tested), "of": "nets trained on other folds", **found}
    return model


MODELS = {"galaxy-zoo-sdss": classes, "spiral-sense-sdss": sense}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--settings", default="{}", help="JSON of further fields of the configuration")
    parser.add_argument("--trained", default="", help="a net that is trained already")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only:
        began = time.process_time()
        model = MODELS[name](json.loads(options.settings), options.trained)
        entry = registry.dataset("galaxy_zoo1_sdss")
        model.card["source"] = {"data": entry.name, "citation": entry.citation, "licence": entry.licence}
        if not options.trained:
            model.card["cpu_seconds"] = time.process_time() - began
        model.save(WEIGHTS / name)
        print(name, {k: round(v, 4) for k, v in model.card["test"].items() if isinstance(v, float)}, flush=True)


if __name__ == "__main__":
    main()
