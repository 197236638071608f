"""Real candidates of lenses, and nets that have seen simulations alone, real galaxies, or some candidates.

    DEEPFIELD_DATA=... python benchmarks/lensing_real.py

Space Warps candidates (CFHTLS pictures, graded 0.3 to 3) of the half of the subjects that is not trained on,
against galaxies of SDSS with noise added. How well each net ranks the candidates as the experts did, and how many
of those of grade 2 and above it finds at a false-positive rate of 1 % of the galaxies.

simulations alone           simulated CFHTLS pictures
adapted                     the same, features drawn towards those of candidates and galaxies without labels
painted                     real galaxies, half of them with the arcs of simulated lenses, others with what fools
                            finders or nothing: neither the candidates nor the galaxies of the test
..., fine-tuned             gone on with graded candidates and galaxies

Writes benchmarks/results/lensing_real.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepfield import lensing
from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.core.table import Table
from deepfield.data.images.collection import Images
from deepfield.data.images.together import together
from deepfield.lensing import LensingConfig
from deepfield.lensing.classical import arc_score, sky_noise
from deepfield.lensing.score import agreement, auroc, recall_at
from deepfield.lensing.simulate import draw, paint
from deepfield.lensing.surveys import surveys

RESULT = Path(__file__).parent / "results" / "lensing_real.json"
LEVEL, SCATTER, SOFT = 7.0, 9.0, 9.0
"""Of the candidates' pictures: level and noise of the sky (of 255), and the brightness in noise where it bends."""


def as_picture(fluxes: torch.Tensor) -> np.ndarray:
    """Fluxes (N, 3, S, S) in g, r, i as the pictures of Space Warps: i, r, g as red, green, blue, in bytes.

    The sky's noise and level are matched to the candidates' (9 and 7 of 255); light is compressed by an arcsinh.
    """
    return shown(fluxes[:, [2, 1, 0]] / sky_noise(fluxes)[:, [2, 1, 0], None, None])


def shown(x: torch.Tensor) -> np.ndarray:
    """Light in units of the sky's noise as bytes; the colour is kept, the brightness compressed (Lupton 2004)."""
    middle = x.mean(1, keepdim=True) / SOFT
    gain = torch.where(middle.abs() < 1e-2, torch.ones_like(middle), torch.asinh(middle) / middle)
    return (LEVEL + SCATTER * x * gain).clamp(0, 255).round().byte().numpy()


def light_of(picture: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`shown`, save for what is saturated."""
    seen = (picture.float() - LEVEL) / SCATTER
    middle = torch.sinh(seen.mean(1, keepdim=True) / SOFT)
    gain = torch.where(middle.abs() < 1e-2, torch.ones_like(middle), torch.asinh(middle) / middle)
    return seen / gain


def painted(galaxies: Images, n: int, seed: int) -> Images:
    """Pictures of real galaxies with what simulations have beside their galaxy: arcs, what fools, or nothing."""
    survey, rng = surveys()["cfhtls"], np.random.default_rng(seed)
    table = bright(n, seed)
    for band in survey.bands:
        table[f"lens_mag_{band}"] = 60.0
    table["neighbours"] = 0 * np.asarray(table["neighbours"])
    table["defect_u"] = np.nan
    size, sky = galaxies.size, np.sqrt(survey.pixel_noise()[0])[::-1].copy()
    pixels, edge = galaxies.load()[0], (survey.size - galaxies.size) // 2
    images, start = np.empty((n, 3, size, size), np.uint8), 0
    for part in paint(table, survey, seed=seed, noise=False):
        beside = part[:, [2, 1, 0], edge : edge + size, edge : edge + size] / torch.tensor(sky)[:, None, None]
        under = pixels[torch.from_numpy(rng.integers(0, len(pixels), len(part)))]
        images[start : start + len(part)] = shown(light_of(under) + beside.float())
        start += len(part)
    whole = {"is_lens": np.asarray(table["is_lens"], dtype=float), "arcs": np.asarray(table["arcs"])}
    return lensing.read(images, catalog=Table(whole))


def bright(n: int, seed: int) -> Table:
    """Rows of a simulation whose galaxies are as bright as those that people took for lenses.

    Both cuts and ``SOFT`` were found by the brightness of the pictures of all candidates, without their grades.
    """
    table = draw(6 * n, survey="cfhtls", seed=seed, snr=60.0)
    rows = np.flatnonzero(np.asarray(table["lens_mag_i"]) < 18.7)[:n]
    if len(rows) < n:
        raise DeepfieldError(f"{len(rows)} of {n} galaxies are bright enough: draw more")
    return table[rows]


def pictures(options: argparse.Namespace) -> dict[str, Images]:
    """Simulated CFHTLS as pictures; the real candidates; SDSS galaxies blurred and scaled to match."""
    crop = 64  # 12 arcsec of CFHTLS
    table = bright(options.pictures, 5)
    images = np.concatenate([as_picture(part) for part in paint(table, "cfhtls", seed=5)])
    sims = lensing.read(images, catalog=table, crop=crop)
    real = lensing.read("spacewarps_cfhtls", crop=crop)
    sdss = lensing.read("galaxy_zoo1_sdss", crop=96, size=crop)
    sdss = sdss[np.random.default_rng(0).permutation(len(sdss))[: options.galaxies]]
    x = sdss.load()[0].float()
    sky = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)) * 6  # their sky is smoother
    none = (x + sky).clamp(0, 255).byte().numpy()
    flags = Table({"is_lens": np.zeros(len(none)), "zooid": np.array([f"sdss{k}" for k in range(len(none))])})
    return {"sims": sims, "real": real, "none": lensing.read(none, catalog=flags)}


def labelled(stamps: Images) -> Images:
    """Candidates with a probability for a label: what the grade says, 3 for certain."""
    out = stamps[:]
    out.table = Table(
        {
            "is_lens": np.clip(stamps.table.column("grade") / 3, 0.02, 0.98),
            "zooid": np.asarray(stamps.table["zooid"]),
        }
    )
    return out


def real(options: argparse.Namespace) -> dict[str, Any]:
    sets = pictures(options)
    ids = np.asarray(sets["real"].table["zooid"]).astype(str)
    unique = np.random.default_rng(1).permutation(np.unique(ids))
    known = np.isin(ids, unique[: len(unique) // 2])  # a subject is in one half alone
    half = len(sets["none"]) // 2
    train_real, test_real = sets["real"][known], sets["real"][~known]
    train_none, test_none = sets["none"][:half], sets["none"][half:]
    base = LensingConfig(
        task="find", group="none", pixels=48, parameters=25_000, learning_rate=5e-3, epochs=options.epochs,
        blur=0.5, noise=0.1, validation=0.05, calibration=0.05,
    )  # fmt: skip
    few = replace(base, epochs=12, validation=0.15, calibration=0.0)
    truth = sets["sims"].table
    flags = Table({"is_lens": np.asarray(truth["is_lens"], dtype=float), "arcs": np.asarray(truth["arcs"])})
    sims = sets["sims"][:]
    sims.table = flags
    unlabelled = together([train_real, train_none[: len(train_real)]])
    models = {"simulations alone": lensing.train(sims, base, progress=False)}
    models["adapted"] = lensing.train(sims, base, unlabelled=unlabelled, progress=False)
    models["painted"] = lensing.train(painted(train_none, options.pictures, 6), base, progress=False)
    tuning = together([labelled(train_real), train_none[: 2 * len(train_real)]])
    for name in ("simulations alone", "adapted", "painted"):
        models[f"{name}, fine-tuned"] = lensing.train(tuning, few, init=models[name], progress=False)
    grade = test_real.table.column("grade")
    results: dict[str, Any] = {
        "what": "candidates of the half of the subjects not trained on, against SDSS galaxies with noise added: a "
        "finder may tell the cameras apart, so that recall after fine-tuning is no "
        "measure of lenses alone; the rank correlation with the grade is within one camera.",
        "candidates": len(grade), "of grade 2 and above": np.count_nonzero(grade >= 2), "galaxies": len(test_none),
    }  # fmt: skip
    for name, model in models.items():
        results[name] = compared(lensing.find(model, test_real).joint, lensing.find(model, test_none).joint, grade)
    arcs = [arc_score(s.load()[0].float()[:, [2, 1, 0]]) for s in (test_real, test_none)]
    results["arc filter"] = compared(arcs[0], arcs[1], grade)
    own = lensing.find(models["simulations alone"], sims).probability
    results["simulations alone"]["recall at 1 % on simulations (seen)"] = recall_at(own, flags["is_lens"], 0.01)
    return results


def compared(theirs: np.ndarray, none: np.ndarray, grade: np.ndarray) -> dict[str, Any]:
    sure = grade >= 2
    label = np.concatenate([np.ones(sure.sum()), np.zeros(len(none))])
    both = np.concatenate([theirs[sure], none])
    within = (grade >= 2) | (grade < 1)
    found = agreement(theirs, grade)
    return {
        "recall at 1 % of SDSS": recall_at(both, label, 0.01), "auroc against SDSS": auroc(both, label),
        "auroc of grade 2 and above against below 1": auroc(theirs[within], sure[within].astype(int)),
        **{k: {"value": v.value, "error": v.error} for k, v in found.items()},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--galaxies", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=12)
    torch.set_num_threads(1)
    began = time.process_time()
    found = real(parser.parse_args())
    found |= {"cpu_seconds": round(time.process_time() - began), "machine": machine()}
    with atomic(RESULT) as temporary:
        temporary.write_text(json.dumps(found, indent=1, default=float))
    print(json.dumps(found, default=float))


if __name__ == "__main__":
    main()
