"""Training a photo-z model: members together, distilled into one net, calibrated on rows of its own."""

from __future__ import annotations

import copy
import logging
import os
import platform
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import deepfield
from deepfield.core.batches import Batches
from deepfield.core.distil import distil
from deepfield.core.errors import TableError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.model import Model, members
from deepfield.core.table import Table
from deepfield.data.photometry import bands_of
from deepfield.photoz.model import PhotozConfig, PhotozModel, build, encode
from deepfield.trust.calibration import fit_conformal

log = logging.getLogger("deepfield")
_FEWEST_ROWS = 100


def train(
    table: Table,
    config: PhotozConfig | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> PhotozModel:
    """Fit p(z | photometry) to a catalogue with spectroscopic redshifts.

    Rows without a usable redshift or any photometry are left out with a message; rows with missing bands or
    non-detections are trained on. A share of the rows stops the training in time, another calibrates.

    Parameters
    ----------
    table : Table
        From :func:`deepfield.photoz.read` or :func:`deepfield.photoz.simulate`.
    config : PhotozConfig, optional
        Single fields may be given as keywords instead: ``train(table, members=1, seed=3)``.
    checkpoint : path, optional
        Folder for checkpoints; a killed training goes on from there.
    progress : bool
        Whether to draw progress bars.

    Raises
    ------
    TableError
        If bands or redshifts are missing, or fewer than 100 rows are usable.
    """
    config = replace(config or PhotozConfig(), **overrides)
    config = replace(config, bands=config.bands or bands_of(table))
    x, y, labels, used = _rows(table, config)
    rng = np.random.default_rng(config.seed)
    order = torch.from_numpy(rng.permutation(len(x)))
    n_val, n_cal = round(config.validation * len(x)), round(config.calibration * len(x))
    val, cal, fitted = order[:n_val], order[n_val : n_val + n_cal], order[n_val + n_cal :]

    folder = Path(checkpoint) if checkpoint else None
    batches = _batches(x, y, fitted, config, seed=config.seed)
    held_out = _batches(x, y, val, config, seed=None)
    missing = _missing(x, config.bands)
    teacher = build(config, n_classes=len(labels), gaps=bool(missing))
    prepare(teacher, x[fitted], y[fitted])
    history = {
        "members": asdict(
            fit(teacher, batches, held_out, _recipe(config, len(fitted)), **_watch(folder, "members", progress))
        )
    }
    model, n_nets = teacher, config.members
    if config.distil and config.members > 1:
        model, n_nets = copy.deepcopy(members(teacher)[0]), 1
        recipe, watch = _recipe(config, len(fitted), student=True), _watch(folder, "student", progress)
        history["student"] = asdict(distil(teacher, model, batches, held_out, recipe, **watch))
    result = PhotozModel(
        config,
        model,
        n_nets,
        labels,
        missing=missing,
        reference=_reference(config.bands),
    )
    if n_cal:
        prediction, _ = result.predict_raw(x[cal])
        result.conformal = fit_conformal(
            prediction.cdf(y[cal, 0].numpy()),
            result.reference_magnitude(x[cal]),
            name=f"mag_{result.reference}",
        )
    stages = {"members": teacher, "student": model} if n_nets == 1 and config.members > 1 else {"model": teacher}
    result.card = {
        "data": {"rows": len(table), "used": len(x), "sha256": table.digest()},
        "split": {"train": len(fitted), "validation": n_val, "calibration": n_cal, "seed": config.seed},
        "validation_nll": {name: float(_nll(m, x[val], y[val])) for name, m in stages.items()},
        "history": history,
        "versions": {
            "deepfield": deepfield.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "redshift_range": [float(y[:, 0].min()), float(y[:, 0].max())],
    }
    log.info("trained on %s of %s rows (%s)", len(fitted), len(table), used)
    return result


def _rows(table: Table, config: PhotozConfig) -> tuple[Tensor, Tensor, tuple[str, ...], str]:
    """Input, target (N, 1 or 2) and class names of the usable rows."""
    x = encode(table, config.bands)
    z = redshifts(table, config.target)
    good = np.isfinite(z) & (z > -0.1) & (z < 20) & ~np.isnan(x.numpy()[:, : len(config.bands)]).all(1)
    note = f"{len(z) - good.sum()} rows without a redshift between -0.1 and 20 or without photometry left out"
    if good.sum() < len(z):
        log.warning("%s", note)
    if good.sum() < _FEWEST_ROWS:
        raise TableError(
            f"{good.sum()} usable rows with photometry and '{config.target}'; training needs {_FEWEST_ROWS}"
        )
    target = [z]
    labels: tuple[str, ...] = ()
    if config.classes:
        names, index = np.unique(np.asarray(table[config.classes]).astype(str)[good], return_inverse=True)
        labels = tuple(str(n) for n in names)
        full = np.zeros(len(z))
        full[good] = index
        target.append(full)
    y = torch.from_numpy(np.stack(target, 1)[good].astype(np.float32))
    return x[torch.from_numpy(good)], y, labels, note


def _missing(x: Tensor, bands: tuple[str, ...]) -> tuple[str, ...]:
    """Bands in which a flux, or the error of a detected one, is missing in some row."""
    flux, error = x.chunk(2, -1)
    gap = (flux.isnan() | (error.isnan() & (flux != 0))).any(0)
    return tuple(band for band, missing in zip(bands, gap.tolist()) if missing)


def redshifts(table: Table, target: str) -> NDArray[np.float64]:
    """The spectroscopic redshifts (N,); ``read`` has renamed the target column to z_spec."""
    return table.column("z_spec" if target not in table.colnames and "z_spec" in table.colnames else target)


def quickly(config: PhotozConfig) -> PhotozConfig:
    """The configuration with one network in place of an ensemble and its student."""
    return replace(config, members=1, distil=False)


def train_to_folder(table: Table, folder: str | os.PathLike[str], config: PhotozConfig) -> PhotozModel:
    """Train and save; checkpoints lie beside ``folder`` until the model is written."""
    target = Path(folder)
    checkpoints = target.with_name(f".{target.name}.checkpoints")
    checkpoints.mkdir(parents=True, exist_ok=True)
    model = train(table, config, checkpoint=checkpoints)
    model.save(target)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return model


def prepare(model: Model, x: Tensor, y: Tensor) -> Model:
    """Tell features, scaling and head of every member what the training data look like."""
    for part in members(model):
        net: Any = part.net
        features, mlp = net
        mlp.standardise.fit(features.fit(x)(x))
    model.head.fit_target(y if y.shape[1] > 1 else y[:, 0])
    return model


def _batches(x: Tensor, y: Tensor, rows: Tensor, config: PhotozConfig, *, seed: int | None) -> Batches:
    target = y[rows] if y.shape[1] > 1 else y[rows, 0]
    size = config.batch if seed is not None else 8192
    jitter = _Noise(config.noise) if config.noise and seed is not None else None
    return Batches(x[rows], target, size=size, seed=seed, augment=jitter)


class _Noise:
    """Photometric noise drawn afresh, in units of each flux's error."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        flux, error = x.chunk(2, -1)
        draw = torch.randn(flux.shape, generator=generator) * self.scale * error.nan_to_num(0.0)
        return torch.cat([flux + draw, error], -1), y


def _recipe(config: PhotozConfig, rows: int, *, student: bool = False) -> FitConfig:
    """One cycle of about 1,100 steps, but 10 to 40 passes; the choice was made on validation rows."""
    epochs = config.epochs or min(40, max(10, round(1100 * config.batch / rows)))
    return FitConfig(
        epochs=epochs,
        learning_rate=config.learning_rate * (0.5 if student else 1),
        weight_decay=config.weight_decay,
        patience=max(10, epochs // 3),
        seed=config.seed,
    )


def _watch(folder: Path | None, stage: str, progress: bool) -> dict[str, Any]:
    return {
        "checkpoint": None if folder is None else folder / f"{stage}.ckpt",
        "progress": f"{stage:<8}" if progress else False,
    }


def _nll(model: Model, x: Tensor, y: Tensor) -> NDArray[np.float64]:
    return -model.predict(x).log_prob(y[:, 0].numpy()).mean()


def _reference(bands: tuple[str, ...]) -> str:
    """The band that magnitude cuts are usually made in: i, else r, else the middle one."""
    return next((b for b in ("i", "r", "vis") if b in bands), bands[len(bands) // 2])
