"""Train the morphology models that ship with the package, and measure them once on images they have not seen.

    DEEPFIELD_DATA=... python benchmarks/morphology_weights.py --only galaxy-zoo-sdss

galaxy-zoo-sdss  elliptical, spiral, edge-on, merger, from SDSS gri pictures (Galaxy Zoo 1), three c8 nets

Writes src/deepfield/morphology/weights/<name>/ with the model card. Trained, stopped and calibrated on the
sample's train rows; the card's metrics are those of its val rows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from morphology import PARAMETERS, PIXELS, galaxies, invariance, scores

from deepfield import morphology
from deepfield.data import registry
from deepfield.morphology import MorphologyConfig

WEIGHTS = Path(__file__).parents[1] / "src" / "deepfield" / "morphology" / "weights"
LIMITS = (
    "For SDSS pictures (gri as blue, green, red, 128 pixels, the central 72 used) of galaxies like those of "
    "Galaxy Zoo 1's sample. Of other surveys, filters or scales it gives numbers that nobody has checked. It says "
    "what volunteers would say, with their biases; 'edge-on' includes spirals whose sense could not be told."
)


MODELS: dict[str, dict[str, Any]] = {
    "galaxy-zoo-sdss": {
        "about": "elliptical, spiral, edge-on or merger, from SDSS pictures (Galaxy Zoo 1)",
        "images": galaxies,
        "config": {"labels": ("class",), "members": 3, "epochs": 36, "validation": 0.06, "calibration": 0.06},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--settings", default="{}", help="JSON of further fields of the configuration")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.only:
        asked = MODELS[name]
        rows, test = asked["images"]()
        config = MorphologyConfig(
            group="c8", pixels=PIXELS, parameters=PARAMETERS, seed=0, **asked["config"],
            **json.loads(options.settings),
        )  # fmt: skip
        began = time.process_time()
        model = morphology.train(rows, config)
        found = scores(morphology.predict(model, test).probabilities, test, model)
        entry = registry.dataset("galaxy_zoo1_sdss")
        model.card |= {
            "about": asked["about"],
            "limits": LIMITS,
            "source": {"data": entry.name, "citation": entry.citation, "licence": entry.licence},
            "cpu_seconds": time.process_time() - began,
            "test": {"images": len(test), **found, **invariance(model, test.load()[0])},
        }
        model.save(WEIGHTS / name)
        print(name, {k: round(v, 4) for k, v in found.items() if isinstance(v, float)}, flush=True)


if __name__ == "__main__":
    main()
