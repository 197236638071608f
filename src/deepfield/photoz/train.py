"""Training a photo-z model: members together, distilled into one net, calibrated on rows of its own."""

from __future__ import annotations

import copy
import logging
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.batches import Batches
from deepfield.core.devices import one_thread
from deepfield.core.distil import Neighbourhood, distil
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.fit import FitConfig
from deepfield.core.fit import fit as core_fit
from deepfield.core.model import Model, members
from deepfield.core.store import checkpoints, versions
from deepfield.core.table import Table, no_column
from deepfield.core.warp import Structure, Warped, find_structure, interpolate
from deepfield.data.photometry import bands_of
from deepfield.photoz.features import PhotometryFeatures, encode, settle_extinction
from deepfield.photoz.model import (
    PhotozConfig,
    PhotozModel,
    build,
    on_photometry,
    parts,
)
from deepfield.photoz.read import as_table, redshifts
from deepfield.physics.photometry import magnitude
from deepfield.trust.calibration import calibrate

log = logging.getLogger("deepfield")
_FEWEST_ROWS = 100


@dataclass(frozen=True)
class Fit:
    """A trained model and what training leaves behind.

    Attributes
    ----------
    model : PhotozModel
        Calibrated, ready to save.
    teacher : Model or None
        The ensemble that ``model`` was distilled from.
    held_out : tuple of Tensor (N, 2B) and array (N,)
        Raw input and redshifts of the rows for early stopping.
    """

    model: PhotozModel
    teacher: Model | None
    held_out: tuple[Tensor, NDArray[np.float64]]


def train(table: Table, config: PhotozConfig | None = None, **options: Any) -> PhotozModel:
    """Fit p(z | photometry) to a catalogue with spectroscopic redshifts; see :func:`fit` for the options.

    Examples
    --------
    >>> from deepfield import photoz
    >>> table = photoz.simulate(500, survey="sdss", seed=0)
    >>> model = photoz.train(table, members=1, epochs=2, progress=False)
    >>> model.bands
    ('u', 'g', 'r', 'i', 'z')
    """
    return fit(table, config, **options).model


def fit(
    table: Table,
    config: PhotozConfig | None = None,
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Fit:
    """Train the members, distil them into one net, calibrate it.

    Rows without a usable redshift or any photometry are left out with a message; rows with missing bands or
    non-detections are trained on. A share of the rows stops the training in time, another calibrates.

    Parameters
    ----------
    table : Table
        From :func:`deepfield.photoz.read` or :func:`deepfield.photoz.simulate`; or what ``read`` takes.
    config : PhotozConfig, optional
        Single fields may be given as keywords instead: ``fit(table, members=1, seed=3)``.
    checkpoint : path, optional
        Folder for checkpoints, which no other training may use meanwhile; a killed one goes on from there.
    progress : bool
        Whether to draw progress bars.

    Raises
    ------
    TableError
        If bands or redshifts are missing, or fewer than 100 rows are usable.
    """
    table, config = _settled(table, config or PhotozConfig(), overrides)
    rows = _rows(table, config)
    rng = np.random.default_rng(config.seed)
    order = torch.from_numpy(rng.permutation(len(rows.x)))
    n_val, n_cal = (round(share * len(order)) for share in (config.validation, config.calibration))
    val, cal, fitted = order[:n_val], order[n_val : n_val + n_cal], order[n_val + n_cal :]
    if not len(val):
        raise TableError(f"a validation share of {config.validation} leaves none of {len(order)} rows")
    found = _structure(rows, fitted, config)
    with one_thread():
        teacher, student, history = _learn(_straight(rows, found), fitted, val, config, checkpoint, progress)
    teacher, student = _structured(teacher, found), student and _structured(student, found)
    model = PhotozModel(
        config,
        student or teacher,
        1 if student else config.members,
        rows.labels,
        missing=rows.missing,
        reference=_reference(config.bands),
    )
    if n_cal:
        x, z = rows.x[cal], rows.y[cal, 0].numpy()
        pit, share = model.predict_raw(x)[0].cdf(z), 0.4 if config.recalibrate else 0.0
        name = f"mag_{model.reference}"
        fitted_to = calibrate(pit, model.reference_magnitude(x), share=share, name=name, seed=config.seed)
        model.conformal = fitted_to.conformal
        model.pit_map = None if fitted_to.pit_map.is_identity else fitted_to.pit_map
    held_out = rows.x[val], rows.y[val, 0].numpy().astype(np.float64)
    stages = {"members": teacher} | ({"student": student} if student else {})
    model.card = {
        "data": {"rows": len(table), "used": len(order), "sha256": table.digest()},
        "split": {"train": len(fitted), "validation": n_val, "calibration": n_cal, "seed": config.seed},
        "validation_nll": {
            k: float(-m.predict(held_out[0]).log_prob(held_out[1]).mean()) for k, m in stages.items()
        },
        "structure": found is not None,
        "magnitudes": _magnitudes(rows.x[fitted], config.bands),
        "redshift_range": [float(rows.y[:, 0].min()), float(rows.y[:, 0].max())],
        "history": history,
        "versions": versions(),
    }
    return Fit(model, teacher if student else None, held_out)


def _settled(table: Any, config: PhotozConfig, overrides: dict[str, Any]) -> tuple[Table, PhotozConfig]:
    """The catalogue as a table, and the settings with what it decides of them."""
    known = [f.name for f in fields(PhotozConfig)]
    if unknown := sorted(set(overrides) - set(known)):
        raise DeepfieldError(f"no setting {', '.join(unknown)}; there are {', '.join(known)}")
    config = replace(config, **overrides)
    target = None if config.target == "z_spec" else config.target
    table = as_table(table, bands=config.bands or None, target=target)
    config = replace(config, bands=config.bands or bands_of(table))
    return table, replace(config, extinction=settle_extinction(table, config.bands, config.extinction))


def _learn(
    rows: _Rows,
    fitted: Tensor,
    val: Tensor,
    config: PhotozConfig,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
) -> tuple[Model, Model | None, dict[str, Any]]:
    """The ensemble, its student where one is wanted, and the history of each."""

    def watch(stage: str) -> dict[str, Any]:
        path = None if checkpoint is None else Path(checkpoint) / f"{stage}.ckpt"
        return {"checkpoint": path, "progress": f"{stage:<8}" if progress else False}

    teacher = build(config, n_classes=len(rows.labels), gaps=bool(rows.missing))
    features, core = parts(teacher)
    prepare(teacher, rows.x[fitted], rows.y[fitted])
    batches = (
        _batches(rows, fitted, features, config, seed=config.seed),
        _batches(rows, val, features, config, seed=None),
    )
    recipe = _recipe(config, len(fitted))
    history = {"members": asdict(core_fit(core, *batches, config=recipe, **watch("members")))}
    if not config.distil or config.members == 1:
        return teacher, None, history
    student = copy.deepcopy(members(core)[0])
    seen = features(rows.x[fitted])
    scaling: Any = student.net
    near = Neighbourhood(seen, scaling.standardise.scale)
    nearby = Batches(torch.arange(len(seen)), size=2 * config.batch, seed=config.seed, augment=near)
    recipe = _student_recipe(config, len(fitted))
    history["student"] = asdict(distil(core, student, nearby, batches[1], config=recipe, **watch("student")))
    return teacher, on_photometry(features, student), history


def _structure(rows: _Rows, fitted: Tensor, config: PhotozConfig) -> Structure | None:
    """The map that irons out the structure of the training redshifts, where they have any and it is wanted."""
    if rows.labels or config.estimator == "point":
        return None
    z = rows.y[fitted, 0].numpy()
    found = find_structure(z[z != 0], seed=config.seed)
    if found is None:
        return None
    crowd = "the training redshifts crowd at narrow values, as along one line of sight"
    if config.structure == "off":
        log.warning(
            "%s: if all that you will serve lies in the same field, structure='auto' gains about %.2f nats for "
            "each galaxy; for other fields this is right as it is",
            crowd,
            found.gain,
        )
        return None
    log.warning("%s, and the densities will too: they are right for objects of the same field alone", crowd)
    return found


def _straight(rows: _Rows, found: Structure | None) -> _Rows:
    """The rows with redshifts as the networks see them."""
    if found is None:
        return rows
    mapped, _ = interpolate(rows.y.double(), torch.from_numpy(found.knots), torch.from_numpy(found.values))
    return replace(rows, y=mapped.float())


def _structured(model: Model, found: Structure | None) -> Model:
    """The model of mapped redshifts as a model of redshifts."""
    if found is None:
        return model
    return Model(model.net, Warped(model.head, len(found.knots)).set_map(found.knots, found.values))


@dataclass(frozen=True)
class _Rows:
    """Usable rows: raw input, target (N, 1 or 2), class names, bands that may be missing."""

    x: Tensor
    y: Tensor
    labels: tuple[str, ...]
    missing: tuple[str, ...]


def _rows(table: Table, config: PhotozConfig) -> _Rows:
    x = encode(table, config.bands, config.extinction)
    z = redshifts(table, config.target)
    good = np.isfinite(z) & (z > -0.1) & (z < 20) & ~np.isnan(x.numpy()[:, : len(config.bands)]).all(1)
    if good.sum() < len(z):
        left = len(z) - good.sum()
        log.warning(
            "%s rows without a redshift between -0.1 and 20, photometry, or E(B-V) if needed, are left out", left
        )
    if good.sum() < _FEWEST_ROWS:
        raise TableError(
            f"{good.sum()} usable rows with photometry and '{config.target}'; training needs {_FEWEST_ROWS}"
        )
    if (zeros := int((z[good] == 0).sum())) > 3:
        log.warning("%s redshifts are exactly 0: leave such rows out if they are failures", zeros)
    target = [z[good]]
    labels: tuple[str, ...] = ()
    if config.classes:
        if config.classes not in table.colnames:
            raise TableError(no_column(config.classes, table.colnames))
        labels, index = _classes(table[config.classes][good])
        target.append(index)
    y = torch.from_numpy(np.stack(target, 1).astype(np.float32))
    x = x[torch.from_numpy(good)]
    return _Rows(x, y, labels, _missing(x, config.bands))


def _classes(column: Any) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Class names, and the number of each row's class; -1 where it is masked or blank, hence unknown."""
    plain = np.ma.asarray(column)
    names = np.char.strip(np.asarray(plain.data).astype(str))
    names[np.ma.getmaskarray(plain)] = ""
    labels = np.unique(names[names != ""])
    if len(labels) < 2:
        raise TableError(f"classes need two names or more; the column has {', '.join(labels) or 'none'}")
    return tuple(str(n) for n in labels), np.where(names == "", -1, np.searchsorted(labels, names))


def _magnitudes(x: Tensor, bands: tuple[str, ...]) -> dict[str, list[float]]:
    """The magnitudes between which 98 % of the training rows lie, in each band that is seen."""
    seen = magnitude(x[:, : len(bands)].double().numpy())
    found = {band: column[np.isfinite(column)] for band, column in zip(bands, seen.T)}
    return {band: np.quantile(mag, [0.01, 0.99]).tolist() for band, mag in found.items() if len(mag)}


def _missing(x: Tensor, bands: tuple[str, ...]) -> tuple[str, ...]:
    """Bands in which a flux, or the error of a detected one, is missing in some row."""
    flux, error = x.chunk(2, -1)
    gap = (flux.isnan() | (error.isnan() & (flux != 0))).any(0)
    return tuple(band for band, missing in zip(bands, gap.tolist()) if missing)


def quickly(config: PhotozConfig) -> PhotozConfig:
    """The configuration with one network in place of an ensemble and its student."""
    return replace(config, members=1, distil=False)


def train_to_folder(table: Table, folder: str | os.PathLike[str], config: PhotozConfig) -> PhotozModel:
    """Train and save; checkpoints lie beside ``folder`` until the model is written.

    Raises
    ------
    DeepfieldError
        If another process trains into ``folder``, or the checkpoints there are of another training.
    """
    with checkpoints(folder, {"config": asdict(config), "data": table.digest()}) as place:
        model = train(table, config, checkpoint=place)
        model.save(folder)
    return model


def prepare(model: Model, x: Tensor, y: Tensor) -> None:
    """Tell features, scalings and heads what the training data look like."""
    features, core = parts(model)
    seen = features.fit(x)(x)
    for member in members(core):
        net: Any = member.net
        net.standardise.fit(seen)
    model.head.fit_target(y if y.shape[1] > 1 else y[:, 0])


def _batches(
    rows: _Rows, chosen: Tensor, features: PhotometryFeatures, config: PhotozConfig, *, seed: int | None
) -> Batches:
    """Features are computed once, but for noise that is new in every step."""
    x, target = rows.x[chosen], rows.y[chosen] if rows.labels else rows.y[chosen, 0]
    if seed is None:
        return Batches(features(x), target, size=8192, seed=None)
    if not config.noise:
        return Batches(features(x), target, size=config.batch, seed=seed)
    return Batches(x, target, size=config.batch, seed=seed, augment=_Noise(config.noise, features))


class _Noise:
    """Features of photometry with noise drawn afresh, in units of each flux's error."""

    def __init__(self, scale: float, features: PhotometryFeatures) -> None:
        self.scale, self.features = scale, features

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        flux, error = x.chunk(2, -1)
        draw = torch.randn(flux.shape, generator=generator) * self.scale * error.nan_to_num(0.0)
        return self.features(torch.cat([flux + draw, error], -1)), y


def _recipe(config: PhotozConfig, rows: int) -> FitConfig:
    """One cycle of about 1,100 steps, but 10 to 40 passes; the choice was made on validation rows."""
    epochs = config.epochs or min(40, max(10, round(1100 * config.batch / rows)))
    return FitConfig(
        epochs=epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        patience=max(10, epochs // 3),
        seed=config.seed,
    )


def _student_recipe(config: PhotozConfig, rows: int) -> FitConfig:
    """About 4,000 steps of twice the batch; there is nothing to overfit, so no decay and no early end."""
    epochs = 4 * config.epochs or min(400, max(2, round(8000 * config.batch / rows)))
    return FitConfig(
        epochs=epochs,
        learning_rate=0.6 * config.learning_rate,
        weight_decay=0.0,
        optimizer="soap",
        warmup=0.05,
        average=0.995,
        patience=epochs,
        seed=config.seed,
    )


def _reference(bands: tuple[str, ...]) -> str:
    """The band that magnitude cuts are usually made in: i, else r, else the middle one."""
    return next((b for b in ("i", "r", "vis") if b in bands), bands[len(bands) // 2])
