"""The main job: images in, ranked candidates and their Einstein radii out, and a report for a referee."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepfield.core import pictures
from deepfield.core.errors import DataError, DeepfieldError
from deepfield.core.figures import coverage_curve
from deepfield.core.report import Report
from deepfield.core.store import shipped
from deepfield.data import registry
from deepfield.data.images.collection import Images
from deepfield.data.images.read import read
from deepfield.lensing import plots
from deepfield.lensing.candidates import RARE, Candidates
from deepfield.lensing.classical import arc_score, subtract
from deepfield.lensing.measurement import Measurement
from deepfield.lensing.model import LensingConfig, LensingModel
from deepfield.lensing.parameters import UNITS
from deepfield.lensing.predict import find, measure
from deepfield.lensing.score import Score, agreement, false_positives, recall_at, score, score_measurement
from deepfield.lensing.simulate import Simulated, simulate
from deepfield.lensing.surveys import survey as survey_named
from deepfield.lensing.train import train
from deepfield.trust.metrics import pit_coverage

log = logging.getLogger("deepfield")
GALAXIES = 1e6
"""Galaxies of the survey whose false positives the report foretells."""
_SHOWN = ("auroc", "tpr0", "tpr10", "log_loss", "calibration_error", "calibration_floor")
_TEST = 1500
_PANELS = 8
_REAL = "spacewarps_cfhtls"


def run(
    data: str | None = None,
    *,
    out: str | os.PathLike[str] = "report",
    survey: str = "lsst",
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Simulate a survey, find its lenses, measure them, and report; real candidates too where they are at hand.

    Parameters
    ----------
    data : str, optional
        A set with ``is_lens`` in the form of ``survey``'s images; by default simulated.
    out : path
        Folder for ``index.html`` and ``report.json``.
    survey : str
        The models that come with the package for it are used, or small ones are trained.
    seed : int
        Of the simulation.

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    if Path(out).is_file():
        raise DeepfieldError(f"--out {out} is a file; give a folder")
    began = time.perf_counter()
    finder, gauge = (model_for(task, survey, progress=progress) for task in ("find", "measure"))
    ready = time.perf_counter() - began
    test, source = _data(data, finder, survey, seed)
    found = find(finder, test)
    flag = np.asarray(test.table["is_lens"]) == 1
    lenses = test[np.flatnonzero(flag)]
    measured = measure(gauge, lenses)
    table = test.table
    columns = {"theta_e": "theta_e", "snr": "source_snr"}
    along: dict[str, Any] = {k: table.column(c) for k, c in columns.items() if c in table.colnames}
    ours = score(found.probability, flag.astype(int), **along)
    arcs = arc_score(test.load()[0].nan_to_num(0.0))
    classical = score(_as_probability(arcs), flag.astype(int))
    told = score_measurement(measured, lenses.table)
    log.info("%s images of %s: %s", len(test), source, ours)
    report = Report("Strong lensing", f"{source}: {len(test):,} images that the models have not seen", began=began)
    report.facts(
        {
            "data": source,
            "finder": f"group {finder.config.symmetry}, {finder.card.get('parameters', 0):,} weights",
            "prior": f"{finder.prior:.2f} in training, {found.prior:g} in the survey",
            "temperature": finder.temperature,
            "models ready after": f"{ready:.0f} s",
            "seed": seed,
        }
    )
    _finding(report, found, flag, ours, classical)
    _candidates(report, found, test, flag)
    _measuring(report, measured, lenses, told)
    _real(report, finder, found, flag)
    return report.write(out)


def model_for(task: str, survey: str, *, progress: bool = True) -> LensingModel:
    """The model that comes with the package for a survey, or a small one that is trained in a minute or two."""
    name = f"lens-{'finder' if task == 'find' else 'measurer'}-{survey}"
    if name in shipped():
        return LensingModel.load(name)
    log.warning("no model '%s' comes with the package: a small one is trained, far from what is possible", name)
    return train(None, quick(task, survey), progress=progress)


def quick(task: str, survey: str) -> LensingConfig:
    """A configuration that trains in about a minute on simulations of its own."""
    return LensingConfig(
        task=task, survey=survey, draws=1024, epochs=4, group="none", pixels=48, parameters=12_000,
        learning_rate=5e-3, validation=0.25, calibration=0.5,
    )  # fmt: skip


def _data(name: str | None, finder: LensingModel, survey: str, seed: int) -> tuple[Images, str]:
    """Images to test on, and what they are."""
    own = survey_named(survey)
    known: dict[str, Any] = {"bands": own.bands, "crop": finder.crop, "pixel_scale": own.pixel}
    if name is not None:
        return read(name, **known), name
    drawn: Simulated = simulate(_TEST, survey=survey, seed=10_000_019 + seed)
    return read(drawn.images.numpy(), catalog=drawn.table, **known), f"simulated {survey} images"


def _as_probability(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks between 0 and 1: a score that is no probability, for metrics of the order alone."""
    order = np.argsort(np.argsort(scores, kind="stable"), kind="stable")
    return (order + 0.5) / len(order)


def _finding(report: Report, found: Candidates, flag: NDArray[np.bool_], ours: Score, classical: Score) -> None:
    rows: list[dict[str, Any]] = [{"method": "deepfield", **{k: ours.metrics[k] for k in _SHOWN}}]
    rows.append({"method": "arc filter", **{k: classical.metrics[k] for k in _SHOWN[:3]}})
    report.table(
        "metrics",
        rows,
        f"Finding, with bootstrap errors. TPR0 and TPR10: lenses found before the first and the eleventh false "
        f"positive among {int((~flag).sum()):,} images that are no lenses (Metcalf et al. 2019 have 10^5 images). "
        "The arc filter looks for blue residuals around the subtracted galaxy.",
        best={"auroc": "max", "tpr0": "max", "tpr10": "max"},
        labels={"auroc": "AUROC", "tpr0": "TPR<sub>0</sub>", "tpr10": "TPR<sub>10</sub>", "log_loss": "log-loss"},
    )
    served = ~np.isnan(found.probability)
    lines = []
    for share in (0.3, 0.5, 0.7):
        threshold = float(np.quantile(found.probability[flag & served], 1 - share))
        wrong = false_positives(found.probability[served], flag[served].astype(int), threshold, galaxies=GALAXIES)
        lines.append({"completeness": share, "threshold": threshold, "false positives": wrong})
    report.table(
        "survey",
        lines,
        f"What a survey of {GALAXIES:,.0f} galaxies of this mix hands to the eye at a completeness, by the rate "
        f"among the negatives here. The hard negatives are far commoner here than on the sky. With a lens in "
        f"{1 / RARE:,.0f}, {GALAXIES * RARE:,.0f} are lenses.",
    )
    report.figure(
        "roc",
        plots.roc({"deepfield": ours.curves["roc"], "arc filter": classical.curves["roc"]}),
        "ROC: lenses found against the share of others that are taken for one.",
    )
    curve = {"lens": ours.curves["reliability"]}
    report.figure("reliability", pictures.reliability(curve), "How often images are lenses against p(lens).")
    if "completeness" in ours.curves:
        report.figure(
            "completeness",
            plots.completeness(ours.curves["completeness"]),
            "Share of the lenses found at the threshold of ten false positives, with 68 % intervals.",
        )


def _candidates(report: Report, found: Candidates, test: Images, flag: NDArray[np.bool_]) -> None:
    """The top of the list, each with what is left when its galaxy is subtracted; and the worst errors."""
    order = np.argsort(found.rank)
    wrong = order[~flag[order]][:_PANELS]
    missed = order[flag[order]][::-1][:_PANELS]
    kinds = (
        np.asarray(test.table["kind"]).astype(str) if "kind" in test.table.colnames else np.where(flag, "lens", "")
    )
    sheet_of = {}
    for name, rows in {"top": order[:_PANELS], "false": wrong, "missed": missed}.items():
        x = test.load(rows)[0]
        captions = [f"{kinds[r]} {found.probability[r]:.2f}" for r in rows]
        sheet_of[name] = (list(x.numpy()), captions)
        sheet_of[f"{name}, left"] = (list(subtract(x).numpy()), [""] * len(rows))
    report.figure(
        "candidates",
        pictures.contact_sheet(sheet_of),
        "The likeliest lenses, the likeliest of what is none, and the lenses that were missed by most; below each "
        "what is left when a smooth elliptical galaxy is subtracted.",
    )


def _measuring(report: Report, measured: Measurement, lenses: Images, told: Score) -> None:
    names = ("bias", "scatter", "coverage_683", "coverage_955")
    rows = [{"parameter": p, **{n: told.metrics[f"{p}_{n}"] for n in names}} for p in UNITS]
    report.table(
        "measuring",
        rows,
        "Posteriors of all the lenses: median error and its scatter (1.4826 MAD), of theta_E relative; and how "
        "often intervals of 68.3 % and 95.5 % hold the truth.",
        labels={"coverage_683": "in 68.3 %", "coverage_955": "in 95.5 %"},
    )
    pit = np.array(told.curves["pit"]["theta_e"])
    levels = np.arange(0.05, 1.0, 0.05)
    report.figure(
        "coverage",
        coverage_curve(levels, pit_coverage(pit, levels), n=len(pit)),
        "Coverage of the intervals of theta_E.",
    )
    truth = lenses.table.column("theta_e")
    low, middle, high = measured.quantile("theta_e", [0.15866, 0.5, 0.84134])
    report.figure(
        "theta_e",
        plots.against(truth, middle, low, high, name="theta_E [arcsec]"),
        "Einstein radii: posterior medians with 68 % intervals against the truth.",
    )
    width = (high - low) / middle
    best = int(np.nanargmin(np.where(truth > np.median(truth), width, np.inf)))
    report.figure(
        "lens",
        plots.lens(lenses.load([best])[0][0].numpy(), measured.lens(best), lenses.meta["pixel_scale"]),
        "A well-measured lens with the critical curve (solid) and the caustic (dashed) of the draw nearest its "
        "posterior's median.",
    )


def _real(report: Report, finder: LensingModel, found: Candidates, flag: NDArray[np.bool_]) -> None:
    """Real candidates: the arc filter on their pixels, and the grades of experts."""
    try:
        candidates = read(_REAL)
    except (DataError, DeepfieldError) as error:
        log.warning("%s; the report goes on without real candidates", error)
        return
    grade = candidates.table.column("grade")
    x = candidates.load()[0].float()
    fluxes = x[:, [2, 1, 0]]  # pictures have i, r, g as red, green, blue
    own = agreement(arc_score(fluxes), grade)
    order = np.argsort(-grade, kind="stable")
    best, worst = order[:_PANELS], order[-_PANELS:]
    sheet_of = {}
    for name, rows in {"best": best, "faint": worst}.items():
        sheet_of[name] = (list(candidates.load(rows)[0].numpy()), [f"grade {grade[r]:.1f}" for r in rows])
        left = subtract(fluxes[torch.from_numpy(rows)])
        sheet_of[f"{name}, left"] = (list(left.numpy()), [""] * len(rows))
    entry = registry.dataset(_REAL)
    report.figure(
        "real",
        pictures.contact_sheet(sheet_of),
        f"Real candidates of CFHTLS by the grade that experts gave ({entry.citation}), and what is left of them. "
        f"The arc filter's score goes with the grade by a rank correlation of {own['spearman']}.",
    )
    served = ~np.isnan(found.joint)
    report.text(
        f"The finder's recall at a false-positive rate of 1 % is "
        f"{recall_at(found.joint[served], flag[served].astype(int), 0.01):.2f} on its own simulations. On real "
        "images it is lower: nets trained on simulations alone find in published tests half of the lenses "
        "that they find in simulations. What a finder for pictures does with these candidates, before and after "
        "it is adapted to real images and fine-tuned on some of them, is in the benchmark.",
        heading="From simulations to the sky",
    )
