"""Train the lensing models that ship with the package, and measure them once on images they have not seen.

    python benchmarks/lensing_weights.py --only lens-finder-lsst --work WORK

lens-finder-lsst, lens-finder-euclid      p(lens | image), of simulated images with what fools finders
lens-measurer-lsst, lens-measurer-euclid  q(theta_E, q, phi, shear, source | image of a lens)

Writes src/deepfield/lensing/weights/<name>/ with the model card. Sets and checkpoints are kept in WORK, so
that a killed run goes on, and a finished one is only measured. Those that ship were trained so and gone on with
(``--init``, ``--seed``), as their cards say, the last time with ``--seed 6 --settings '{"thaw": 0.6}'``.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepfield import lensing
from deepfield.core.report import machine
from deepfield.data.images.collection import Images
from deepfield.lensing import LensingConfig
from deepfield.lensing.simulate import write
from deepfield.lensing.surveys import surveys
from deepfield.lensing.train import calibrate, train_to_folder

WEIGHTS = Path(__file__).parents[1] / "src" / "deepfield" / "lensing" / "weights"
CROP = {"lsst": 40, "euclid": 64}
"""Central pixels that hold the lens: 8 and 6.4 arcsec."""
SIMULATOR = 3
"""Raised when the simulator gives other images for the same seed: 2 has noise that neighbouring pixels share, 3 a
PSF of each image's own."""
TEST_SEED = 2_000_000
"""Seeds from here on are looked at once; what the nets see was chosen on 4,000 images of seed 1,000,000."""
LIMITS = (
    "Trained on simulations alone, which are simpler than the sky: on real images expect lower completeness and "
    "purity. For cutouts in nJy with the pixels, bands, depth and seeing of the preset, a galaxy in the middle. A "
    "probability is calibrated at the training's share of lenses among such cutouts as are simulated."
)
FIND = LensingConfig(
    task="find", group="none", parameters=100_000, learning_rate=5e-3, validation=0.04, calibration=0.06
)
MEASURE = LensingConfig(task="measure", parameters=100_000, learning_rate=4e-3, validation=0.04, calibration=0.1)
MODELS: dict[str, tuple[str, LensingConfig, int, int]] = {  # survey, settings, images, epochs
    "lens-finder-lsst": ("lsst", replace(FIND, pixels=40), 60_000, 20),
    "lens-measurer-lsst": ("lsst", replace(MEASURE, pixels=40), 30_000, 12),
    "lens-finder-euclid": ("euclid", replace(FIND, pixels=48), 40_000, 16),
    "lens-measurer-euclid": ("euclid", replace(MEASURE, pixels=48), 20_000, 14),
}


def images(work: Path, survey: str, n: int, seed: int, fraction: float) -> Images:
    """A simulated set, made once, as the models see it."""
    path = work / f"{survey}_{n}_{seed}_{fraction:g}_{SIMULATOR}.hdf5"
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        write(path, n, survey=survey, seed=seed, lens_fraction=fraction)
    own = surveys()[survey]
    found = lensing.read(
        path, bands=own.bands, pixel_scale=own.pixel, psf_fwhm=own.fwhm, crop=CROP.get(survey, 0), cache=2**32
    )
    # Measurers are neither trained nor tested on cutouts with a defect, which surveys' masks tell of.
    return found if fraction < 1 else found[np.flatnonzero(np.isnan(found.table["defect_u"]))]


def tested(model: lensing.LensingModel, test: Images) -> dict[str, Any]:
    """Metrics of a model on a set with truth."""
    if model.config.task == "find":
        found = lensing.find(model, test)
        told = lensing.score(found.probability, test.table["is_lens"], snr=test.table["source_snr"])
    else:
        told = lensing.score_measurement(lensing.measure(model, test), test.table)
    return {name: {"value": round(m.value, 5), "error": round(m.error, 5)} for name, m in told.metrics.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/lensing"))
    parser.add_argument("--images", type=int, default=0, help="in place of the usual number")
    parser.add_argument("--epochs", type=int, default=0, help="in place of the usual number")
    parser.add_argument("--test", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0, help="of the images to train on")
    parser.add_argument("--init", default="", help="go on from this model, on another set, in place of a new one")
    parser.add_argument("--settings", default="{}", help="JSON of further fields of the configuration")
    options = parser.parse_args()
    if options.init and not options.seed:
        parser.error("going on needs other images than the first: give --seed")
    torch.set_num_threads(1)
    for name in options.only:
        survey, settings, count, epochs = MODELS[name]
        fraction = 0.5 if settings.task == "find" else 1.0
        rows = images(options.work, survey, options.images or count, options.seed, fraction)
        config = replace(settings, epochs=options.epochs or epochs, **json.loads(options.settings))
        place = options.work / name
        done = (place / "model.json").exists()
        model = (
            lensing.LensingModel.load(place) if done else train_to_folder(rows, place, config, init=options.init)
        )
        if config.task == "find":  # on more images than training keeps for it
            held = images(options.work, survey, 8000, TEST_SEED - 1, fraction)
            calibrate(model, held, torch.from_numpy(held.table.column("is_lens")).float())
        seconds = sum(stage["seconds"] for stage in model.card["history"].values())
        source: dict[str, Any] = {
            "data": f"deepfield.lensing.simulate, survey {survey}",
            "images": len(rows),
            "seed": options.seed,
        }
        if options.init and "source" not in model.card:
            before = lensing.LensingModel.load(options.init).card
            source["begun from"] = before["source"] | {"training_seconds": before["training_seconds"]}
        source = model.card.get("source", source)
        test = images(options.work, survey, options.test, TEST_SEED, fraction)
        what = {"find": "lens or none", "measure": "Einstein radius, axis ratio, angles, shear, source"}
        model.card |= {
            "about": f"{what[config.task]}, from simulated {survey} images in {', '.join(rows.bands)}",
            "limits": LIMITS,
            "source": source,
            "training_seconds": round(seconds),
            "temperature": model.temperature,
            "offset": model.offset,
            "machine": machine(),
            "test": {"images": len(test), "lens_fraction": fraction, **tested(model, test)},
        }
        for folder in (WEIGHTS / name, place):
            model.save(folder)
        told = {k: v["value"] for k, v in model.card["test"].items() if isinstance(v, dict)}
        print(name, f"{seconds:.0f} s", {k: round(float(np.asarray(v)), 4) for k, v in told.items()}, flush=True)


if __name__ == "__main__":
    main()
