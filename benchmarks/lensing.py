"""How well lenses are found and measured: on held-out simulations, another code's, and real candidates.

    DEEPFIELD_DATA=... python benchmarks/lensing.py find measure prior --work WORK

find     finders that ship with the package on simulated images with what fools finders (10^4 of them),
         beside the arc filter; on sets of lenstronomy (--other, see lensing_lenstronomy_sets.py); on the
         challenge's own space samples, scaled to the noise of the training
measure  measurers on held-out lenses: bias, scatter, coverage; beside the likeliest fit and its time
prior    calibration at the training's share of lenses, and at a rarer one by Bayes' correction

Real candidates are in lensing_real.py.
Test sets are used here alone; settings were chosen on other images (lensing_weights.py).
Writes benchmarks/results/lensing_<part>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lensing_weights import CROP, TEST_SEED, images

from deepfield import lensing
from deepfield.core.errors import DeepfieldError
from deepfield.core.report import machine
from deepfield.core.store import shipped
from deepfield.core.table import Table
from deepfield.core.vision import parts
from deepfield.data.images.collection import Images
from deepfield.lensing import LensingModel
from deepfield.lensing._scene import PSF
from deepfield.lensing.classical import arc_score, fit_lens, sky_noise
from deepfield.lensing.parameters import UNITS, encode
from deepfield.lensing.score import auroc, score, tpr_at
from deepfield.lensing.surveys import Survey, surveys
from deepfield.physics.stamps import Painter

RESULTS = Path(__file__).parent / "results"
PRESETS = ("lsst", "euclid")
RARE = 0.05
GALAXIES = ("early", "spiral", "edge-on", "merger")
"""What is no lens as the challenge has it: galaxies as they come, nothing made to fool."""


def told(found: lensing.Score) -> dict[str, Any]:
    """Metrics as plain numbers."""
    return {k: {"value": round(v.value, 5), "error": round(v.error, 5)} for k, v in found.metrics.items()}


def model_of(kind: str, survey: str) -> LensingModel | None:
    name = f"lens-{kind}-{survey}"
    if name not in shipped():
        print(f"no model {name} ships with the package: left out", flush=True)
        return None
    return LensingModel.load(name)


# -- finding --------------------------------------------------------------------------------------------------


def scored(model: LensingModel, test: Images) -> dict[str, Any]:
    found = lensing.find(model, test)
    served = np.flatnonzero(np.isfinite(found.joint))  # not those without data
    unserved, test = len(test) - len(served), test[served]
    probability, joint = found.probability[served], found.joint[served]
    label = test.table.column("is_lens")
    along = {k: test.table.column(c) for k, c in {"theta_e": "theta_e", "snr": "source_snr"}.items()}
    result = score(probability, label, repeats=50, **along)  # type: ignore[arg-type]
    curves = {k: result.curves[k] for k in ("reliability", "completeness", "negatives")}
    kinds = np.asarray(test.table["kind"]).astype(str)
    threshold = float(np.sort(joint[label == 0])[::-1][min(10, int((label == 0).sum()) - 1)])
    names = [str(k) for k in np.unique(kinds) if k != "lens"]
    taken = {k: float((probability[kinds == k] > 0.5).mean()) for k in names}
    lens = kinds == "lens"
    apart = {k: auroc(joint[lens | (kinds == k)], label[lens | (kinds == k)]) for k in names}
    parts = {
        "galaxies alone against all lenses": np.isin(kinds, (*GALAXIES, "lens")),
        "galaxies alone against lenses of S/N above 50 wider than the PSF": np.isin(kinds, GALAXIES)
        | lens & secure(test),
    }
    easier = {
        k: {"auroc": auroc(joint[m], label[m]), "tpr0": tpr_at(joint[m], label[m], 0),
            "tpr10": tpr_at(joint[m], label[m], 10), "images": int(m.sum())}
        for k, m in parts.items()
    }  # fmt: skip
    return {
        "metrics": told(result), "without data": unserved, "taken for lenses (p > 0.5)": taken,
        "auroc against each": apart, **easier,
        "threshold": threshold, **curves,
    }  # fmt: skip


def secure(test: Images) -> np.ndarray:
    """Lenses whose images a person could tell apart."""
    wide = test.table.column("theta_e") > max(test.meta["psf_fwhm"])
    return wide & (test.table.column("source_snr") > 50)


def find(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for survey in PRESETS:
        model = model_of("finder", survey)
        if model is None:
            continue
        test = images(options.work, survey, 2 * options.negatives, TEST_SEED + 1, 0.5)
        arcs = np.concatenate([arc_score(test.load(slice(i, i + 500))[0]) for i in range(0, len(test), 500)])
        label = test.table.column("is_lens")
        results[survey] = {
            "simulated": scored(model, test),
            "arc filter": {"auroc": auroc(arcs, label), "tpr0": tpr_at(arcs, label, 0),
                           "tpr10": tpr_at(arcs, label, 10)},
        }  # fmt: skip
        for path in options.other:
            if survey in Path(path).name:
                results[survey]["lenstronomy"] = scored(model, of_other(path, survey))
        results[survey]["challenge samples"] = challenge(model, survey)
    return results


def of_other(path: str, survey: str) -> Images:
    """Images of another simulator, as the models see them."""
    own = surveys()[survey]
    return lensing.read(path, bands=own.bands, pixel_scale=own.pixel, psf_fwhm=own.fwhm, crop=CROP[survey])


def challenge(model: LensingModel, survey: str) -> dict[str, Any]:
    """The few samples of the challenge at hand, 16 from space and 12 of u, g, r, i from the ground.

    Their flux is scaled to the noise of the training.
    """
    path = Path(os.environ.get("DEEPFIELD_DATA", "")) / "lensing" / "bologna_challenge_samples.npz"
    if not path.is_file():
        return {"left out": "the samples are not at hand"}
    where = {"euclid": "space", "lsst": "ground"}[survey]
    with np.load(path) as file:
        x, label = torch.from_numpy(file[where]), file[f"{where}_label"]
    x = x[:, None] if survey == "euclid" else x[:, 1:]
    unit = 1 / parts(model.model)[0].stretch.unit.flatten()
    x = x * (unit / sky_noise(x).median(0).values)[:, None, None]
    own = surveys()[survey]
    found = lensing.find(model, lensing.read(x.numpy(), bands=own.bands, crop=CROP[survey], pixel_scale=own.pixel))
    told = {"images": len(label), "lenses": int(label.sum())}
    if len(np.unique(label)) < 2:
        return told | {"median p": float(np.nanmedian(found.probability))}
    return told | {"auroc": auroc(found.joint, label)}


# -- measuring ------------------------------------------------------------------------------------------------


def psf_of(table: Table, row: int, survey: Survey, size: int = 25) -> torch.Tensor:
    """A simulated image's own PSF in the best band (size, size), averaged over each pixel."""
    painter, band = Painter(survey, 64), survey.best
    width, *shape = (torch.tensor([float(table[f"{name}_{band}"][row])]) for name in PSF)
    transform = painter.psf(survey.bands.index(band), width, torch.stack(shape, 1)) * painter.pixel_response
    whole = torch.fft.fftshift(torch.fft.irfft2(transform, s=(painter.side, painter.side))[0])
    inside = slice(painter.side // 2 - size // 2, painter.side // 2 + size // 2 + 1)
    return whole[inside, inside].double()


def fitted(test: Images, found: lensing.Measurement, survey: str, count: int) -> dict[str, Any]:
    """Likeliest fits of the best band, begun at the posterior's median: their errors and their time."""
    own = surveys()[survey]
    band = own.bands.index(own.best)
    rows, errors, sigma, seconds, fitted_rows = np.arange(min(count, len(test))), [], [], [], []
    gain = 1 / own.pixel_noise()[1][band]
    x = test.load(rows)[0][:, band].double()
    noise = sky_noise(x[:, None].float())[:, 0]
    median = Table({n: found.quantile(n, 0.5)[rows] for n in UNITS})
    median["q"] = np.clip(median["q"], 0.05, 0.999)
    start, truth = encode(median), test.table.column("theta_e")
    for k in rows:
        psf = psf_of(test.table, int(k), own)
        began = time.perf_counter()
        try:
            one = fit_lens(x[k], start[k], pixel=own.pixel, noise=float(noise[k]), gain=gain, psf=psf)
        except (DeepfieldError, RuntimeError):
            continue
        seconds.append(time.perf_counter() - began)
        errors.append(one.values["theta_e"] / truth[k] - 1)
        sigma.append(one.theta_e_error / truth[k])
        fitted_rows.append(k)
    e, ours = np.array(errors), (median["theta_e"] / truth[rows] - 1)[fitted_rows]
    return {
        "lenses": len(e), "failed": len(rows) - len(e), **spread(e),
        "the posterior's on the same lenses": spread(ours),
        "median of its own errors": float(np.median(sigma)), "seconds for each": float(np.median(seconds)),
        "band": own.best,
    }  # fmt: skip


def spread(e: np.ndarray) -> dict[str, float]:
    """Of relative errors."""
    middle = float(np.median(e))
    return {
        "bias": middle, "scatter": float(1.4826 * np.median(np.abs(e - middle))),
        "far off (20 %)": float((np.abs(e) > 0.2).mean()),
    }  # fmt: skip


def quartiles(found: lensing.Measurement, truth: Table) -> list[dict[str, float]]:
    """Bias of theta_e by its true value, where a posterior that leans on its population shrinks; and coverage."""
    right, middle = truth.column("theta_e"), found.quantile("theta_e", 0.5)
    low, high = found.interval("theta_e", 0.683)
    edges = np.quantile(right, [0, 0.25, 0.5, 0.75, 1])
    parts = [(right >= a) & (right <= b) for a, b in pairwise(edges)]
    return [
        {"from": float(right[m].min()), "to": float(right[m].max()), **spread(middle[m] / right[m] - 1),
         "coverage_683": float(((low <= right) & (right <= high))[m].mean())}
        for m in parts
    ]  # fmt: skip


def measure(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for survey in PRESETS:
        model = model_of("measurer", survey)
        if model is None:
            continue
        test = images(options.work, survey, options.lenses, TEST_SEED + 2, 1.0)
        began = time.perf_counter()
        found = lensing.measure(model, test)
        _ = found.quantile("theta_e", 0.5)
        seconds = (time.perf_counter() - began) / len(test)
        results[survey] = {
            "simulated": told(lensing.score_measurement(found, test.table)),
            "by theta_e": quartiles(found, test.table),
            "seconds for each": seconds,
        }
        for path in options.other:
            if survey in Path(path).name:
                other = of_other(path, survey)
                lenses = other[np.flatnonzero(other.table.column("is_lens"))]
                told_of = lensing.score_measurement(lensing.measure(model, lenses), lenses.table)
                results[survey]["lenstronomy"] = told(told_of)
        results[survey]["fit"] = fitted(test, found, survey, options.fits)
        snr = test.table.column("source_snr")
        bright = np.flatnonzero(snr > np.median(snr))
        part = lensing.measure(model, test[bright])
        results[survey]["brighter half"] = told(lensing.score_measurement(part, test[bright].table))
    return results


# -- calibration ----------------------------------------------------------------------------------------------


def prior(options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {}
    for survey in PRESETS:
        model = model_of("finder", survey)
        if model is None:
            continue
        same = images(options.work, survey, 2 * options.negatives, TEST_SEED + 1, 0.5)
        rare = images(options.work, survey, options.negatives, TEST_SEED + 3, RARE)
        found, few = lensing.find(model, same), lensing.find(model, rare, prior=RARE)
        label = rare.table.column("is_lens")
        rows = {
            f"at {model.prior:.2f}": score(found.probability, same.table.column("is_lens"), repeats=20),
            f"at {RARE}, corrected": score(few.posterior, label, repeats=20),
            f"at {RARE}, as trained": score(few.probability, label, repeats=20),
        }
        results[survey] = {k: told(v) | {"reliability": v.curves["reliability"]} for k, v in rows.items()}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {"find": find, "measure": measure, "prior": prior}
    parser.add_argument("parts", nargs="*", default=list(known), choices=list(known))
    parser.add_argument("--work", type=Path, default=Path("benchmarks/work/lensing"))
    parser.add_argument("--negatives", type=int, default=10_000)
    parser.add_argument("--lenses", type=int, default=4000)
    parser.add_argument("--fits", type=int, default=60)
    parser.add_argument(
        "--other", nargs="*", default=[], help="sets of lenstronomy, with the survey in their names"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    for part in options.parts:
        began = time.process_time()
        found = known[part](options)
        found |= {"cpu_seconds": round(time.process_time() - began), "machine": machine()}
        (RESULTS / f"lensing_{part}.json").write_text(json.dumps(found, indent=1, default=float))
        print(part, json.dumps(found, default=float)[:3000], flush=True)


if __name__ == "__main__":
    main()
