"""The main job: real images in, a calibrated class for every galaxy out, and a report for a referee."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deepfield.core import figures, pictures
from deepfield.core.errors import DataError, DeepfieldError
from deepfield.core.report import Report
from deepfield.core.vision import parts
from deepfield.data import registry
from deepfield.data.images.collection import Images
from deepfield.data.images.read import read
from deepfield.morphology.classical import StructureRegression
from deepfield.morphology.explore import Index, embed
from deepfield.morphology.model import MorphologyConfig, MorphologyModel
from deepfield.morphology.predict import answer, predict
from deepfield.morphology.prediction import MorphologyPrediction
from deepfield.morphology.score import Score, score
from deepfield.morphology.simulate import simulate
from deepfield.morphology.targets import targets
from deepfield.morphology.train import fit

log = logging.getLogger("deepfield")
DEFAULT = "galaxy_zoo1_sdss"
_CROP = {DEFAULT: 72}
"""Central pixels that hold the galaxy; chosen on held-out training rows (benchmarks/morphology.py)."""
_CLASSES = {"elliptical": "elliptical", "spiral_cw": "spiral", "spiral_acw": "spiral", "edge_on": "edge-on",
            "merger": "merger"}  # fmt: skip
_SHOWN = ("accuracy", "log_loss", "macro_f1", "calibration_error", "calibration_floor")
_BEST = {"accuracy": "max", "log_loss": "min", "macro_f1": "max", "calibration_error": "min"}
_ANGLES = np.arange(0, 361, 15)
_TURNED = 192  # images that are turned
_PANELS = 7


def run(
    data: str | None = None,
    *,
    out: str | os.PathLike[str] = "report",
    config: MorphologyConfig | None = None,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Read, train, calibrate, score against structural parameters, and report.

    Parameters
    ----------
    data : str, optional
        A registered data set of images with classes; without the default one (Galaxy Zoo 1) at hand, simulated
        SDSS-like galaxies take its place, and the report says so.
    out : path
        Folder for ``index.html``, ``report.json`` and the model.
    config : MorphologyConfig, optional
        By default a net of group c8 that trains in about two minutes on two cores.
    seed : int
        Of the split and the training.

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    if Path(out).is_file():
        raise DeepfieldError(f"--out {out} is a file; give a folder")
    began = time.perf_counter()
    rows, test, source = _data(data, seed)
    log.info("%s: %s images to train and calibrate on, %s to test on", source, len(rows), len(test))
    fitted = fit(rows, config or quick(seed), progress=progress)
    model, trained = fitted.model, time.perf_counter() - began
    if model.tree is not None:
        raise DeepfieldError("the report is of classes: give a configuration with labels, not with a tree")
    model.save(Path(out) / "model")
    clock = time.perf_counter()
    ours = predict(model, test)
    rate = len(test) / (time.perf_counter() - clock)
    log.info("trained in %.0f s; now the classical method", trained)
    classical = _classical(model, rows, fitted.rows)
    answers = {"deepfield": ours.probabilities, "structural parameters": classical.predict(_seen(model, test))}
    y = targets(test.table, model.config.labels, classes=model.labels).y.numpy()
    scores = {name: score(p, y, classes=model.labels) for name, p in answers.items()}
    subtitle = f"{source}: {len(test):,} galaxies the model has not seen"
    report = Report("Galaxy morphology", subtitle, began=began)
    report.facts(
        {
            "data": source,
            "citation": _citation(source) if data or source == DEFAULT else "simulated by deepfield",
            "split": f"{len(rows):,} images to train, stop and calibrate; {len(test):,} for this report",
            "seed": seed,
            "net": f"group {model.config.group}, {model.card['parameters']:,} weights, {model.config.pixels} px",
            "temperature": model.temperature,
            "training": f"{trained:.0f} s",
            "prediction": f"{rate:,.0f} images per second",
        }
    )
    _tables(report, scores)
    _figures(report, model, scores, test, y, classical)
    _sheets(report, model, ours, rows[fitted.rows["train"]], test, y)
    return report.write(out)


def quick(seed: int = 0) -> MorphologyConfig:
    """A configuration that trains on some thousand images in about two minutes on two cores."""
    return MorphologyConfig(group="c8", pixels=32, parameters=60_000, epochs=20, calibration=0.15, seed=seed)


def _data(name: str | None, seed: int) -> tuple[Images, Images, str]:
    """Images to train on, images to test on, and what they are."""
    try:
        images = read(name or DEFAULT, crop=_CROP.get(name or DEFAULT, 0))
    except DataError as error:
        if name is not None:
            raise
        log.warning("%s; going on with simulated galaxies", error)
        drawn = simulate(2500, survey="sdss", seed=seed)
        drawn.table["class"] = drawn.table["kind"]
        scale: dict[str, Any] = {"pixel_scale": drawn.survey.pixel, "psf_fwhm": drawn.survey.fwhm}
        images = read(drawn.images.numpy(), catalog=drawn.table, bands=drawn.survey.bands, **scale)
        return *images.split(0.75, seed=seed), "simulated SDSS-like galaxies"
    names = images.table["label_name"].tolist() if "label_name" in images.table.colnames else []
    if set(names) & set(_CLASSES):
        images = four_classes(images)
    if "split" in images.table.colnames:
        training = np.asarray(images.table["split"]).astype(str) == "train"
        if 0 < training.sum() < len(training):
            return images[training], images[~training], name or DEFAULT
    return *images.split(0.75, seed=seed), name or DEFAULT


def four_classes(images: Images) -> Images:
    """Galaxy Zoo 1's images with their ``class`` of four, both senses of spiral being one; others left out."""
    named = np.array([_CLASSES.get(str(v), "") for v in images.table["label_name"]])
    log.info("%s images whose class the volunteers could not tell are left out", (named == "").sum())
    images = images[named != ""]
    images.table["class"] = named[named != ""]
    images.table.remove_column("label_name")
    return images


def _citation(name: str) -> str:
    entry = registry.dataset(name)
    return f"{entry.citation} ({entry.licence})"


def _seen(model: MorphologyModel, images: Images) -> Tensor:
    """Images as the classical method sees them, not stretched; zero where broken."""
    blocks = [images.load(slice(i, i + 512))[0] for i in range(0, len(images), 512)]
    return torch.cat([_reduced(model, block).nan_to_num(0.0) for block in blocks])


def _reduced(model: MorphologyModel, x: Tensor) -> Tensor:
    """At twice the net's resolution, where there is as much: structural parameters need more pixels."""
    camera = parts(model.model)[0]
    return camera.reduce(x, min(x.shape[-1], 2 * camera.pixels))


def _classical(model: MorphologyModel, images: Images, rows: dict[str, NDArray[np.int64]]) -> StructureRegression:
    """The method to beat, on the rows that the net was fitted and calibrated on."""
    chosen = images[np.sort(np.concatenate(list(rows.values())))]
    y = targets(chosen.table, model.config.labels, classes=model.labels).y.numpy()
    return StructureRegression().fit(_seen(model, chosen), y, classes=len(model.labels))


def _tables(report: Report, scores: dict[str, Score]) -> None:
    report.table(
        "metrics",
        [{"method": name, **{k: s.metrics[k] for k in _SHOWN}} for name, s in scores.items()],
        "Scores on the test images with bootstrap errors. Log-loss in nats; macro F1 is the mean over classes, "
        "rare ones counting as much as common ones. The calibration error of a perfectly calibrated model would "
        "be the calibration floor. Structural parameters are concentration, asymmetry, smoothness, Gini, M20, "
        "shape, size and colours (Conselice 2003; Lotz et al. 2004) in a logistic regression.",
        best=_BEST,
        labels={"log_loss": "log-loss", "macro_f1": "macro F<sub>1</sub>"},
    )
    ours = scores["deepfield"]
    lines = [
        {"class": name, "galaxies": int(sum(ours.confusion[i])), **ours.per_class[name]}
        for i, name in enumerate(ours.classes)
    ]
    report.table("classes", lines, "The same for deepfield, class by class.")


def _figures(
    report: Report,
    model: MorphologyModel,
    scores: dict[str, Score],
    test: Images,
    y: NDArray[Any],
    classical: StructureRegression,
) -> None:
    ours = scores["deepfield"]
    report.figure("confusion", pictures.confusion(ours.confusion, ours.classes), "Confusion of the classes.")
    report.figure(
        "reliability",
        pictures.reliability(ours.reliability),
        "Reliability: how often a class is right against its probability. In the band if calibrated.",
    )
    change = invariance(model, test[np.flatnonzero(y >= 0)[:_TURNED]], classical)
    report.figure(
        "invariance",
        pictures.turning(_ANGLES, change, ylabel="mean largest change of p"),
        "Invariance: change of the class probabilities as the image is turned. Quarter turns are exact, those "
        "between resample the pixels, which changes the image itself.",
    )
    report.figure(
        "training",
        figures.training_curves(model.card["history"]["members"]),
        "Loss of each epoch: on the training images as they were turned, and on held-out images.",
    )


def invariance(
    model: MorphologyModel, images: Images, classical: StructureRegression | None = None
) -> dict[str, NDArray[np.float64]]:
    """Mean over images of the largest change of a probability, at angles of 0, 15, ... 360 degrees, by method."""
    x, reasons = images.load()
    x = x[torch.from_numpy(reasons == "")].float()

    def ask(turned: Tensor) -> dict[str, NDArray[np.float64]]:
        found = answer(model, model.features(turned), np.full(len(turned), "")).probabilities
        more = {} if classical is None else {"structural parameters": classical.predict(_reduced(model, turned))}
        return {"deepfield": found, **more}

    straight = ask(x)
    changes: dict[str, list[float]] = {name: [] for name in straight}
    for angle in _ANGLES:
        for name, p in ask(turn(x, float(angle))).items():
            changes[name].append(float(np.nanmean(np.abs(p - straight[name]).max(1))))
    return {name: np.array(values) for name, values in changes.items()}


def turn(x: Tensor, angle: float) -> Tensor:
    """Images (N, B, S, S) turned by an angle in degrees: exactly by quarter turns, else by cubic interpolation.

    Examples
    --------
    >>> x = torch.rand(1, 1, 16, 16)
    >>> bool((turn(x, 90.0) == x.rot90(1, (2, 3))).all())
    True
    """
    quarters, rest = divmod(angle, 90.0)
    if rest:
        c, s = float(np.cos(np.deg2rad(rest))), float(np.sin(np.deg2rad(rest)))
        matrix = torch.tensor([[c, -s, 0.0], [s, c, 0.0]]).expand(len(x), 2, 3)
        grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
        x = F.grid_sample(x, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return x.rot90(int(quarters), (2, 3))


def _sheets(
    report: Report,
    model: MorphologyModel,
    ours: MorphologyPrediction,
    fitted: Images,
    test: Images,
    y: NDArray[Any],
) -> None:
    """Contact sheets: sure and right, unsure, sure and wrong; neighbours; oddities."""
    p = ours.probabilities
    known = (y >= 0) & ~np.isnan(p).any(1)
    top, chosen = np.nan_to_num(p).max(1), np.nan_to_num(p).argmax(1)
    kinds = {
        "confident": ("The surest right answers, by class.", known & (chosen == y), -top),
        "uncertain": ("The least sure answers, by true class.", known, top),
        "wrong": ("The surest wrong answers, by true class.", known & (chosen != y), -top),
    }
    for name, (caption, which, key) in kinds.items():
        sheet = {}
        for c, label in enumerate(model.labels):
            rows = np.flatnonzero(which & (y == c))
            rows = rows[np.argsort(key[rows], kind="stable")][:_PANELS]
            captions = [f"{model.labels[chosen[r]]} {top[r]:.2f}" for r in rows]
            sheet[label] = (list(test.load(rows)[0].numpy()) if len(rows) else [], captions)
        if any(captions for _, captions in sheet.values()):
            report.figure(name, pictures.contact_sheet(sheet), caption)
    index, found = Index(embed(model, fitted)), embed(model, test)
    sheet = {}
    for c, label in enumerate(model.labels):
        asked = np.flatnonzero(known & (y == c))[:1]
        if len(asked):
            near, distance = index.nearest(found[asked], min(_PANELS - 1, len(index)))
            images = [*test.load(asked)[0].numpy(), *fitted.load(near[0])[0].numpy()]
            sheet[label] = (images, ["asked", *(f"{d:.1f}" for d in distance[0])])
    report.figure("neighbours", pictures.contact_sheet(sheet), "Training images nearest to a test image.")
    odd = np.argsort(-np.nan_to_num(index.anomaly(found), nan=-np.inf))[: 2 * _PANELS]
    lines = {
        name: (list(test.load(part)[0].numpy()), [f"{model.labels[chosen[r]]} {top[r]:.2f}" for r in part])
        for name, part in (("oddest", odd[:_PANELS]), ("then", odd[_PANELS:]))
        if len(part)
    }
    report.figure("anomalies", pictures.contact_sheet(lines), "Test images least like any training image.")
