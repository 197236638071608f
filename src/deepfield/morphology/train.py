"""Training: images and labels or votes to a calibrated model; from scratch, or on from another model."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.augment import Augment, Seen
from deepfield.core.devices import one_thread
from deepfield.core.errors import TableError
from deepfield.core.model import members
from deepfield.core.nets import parameters_of
from deepfield.core.nets.camera import Camera
from deepfield.core.nets.group import GROUPS
from deepfield.core.store import checkpoints, versions
from deepfield.core.vision import learn, net_options, parts, recipe
from deepfield.data.images.collection import Images
from deepfield.data.images.serve import digest, features_of, take_over, tell_broken
from deepfield.morphology.model import MorphologyConfig, MorphologyModel, build, head_of
from deepfield.morphology.predict import answer
from deepfield.morphology.targets import Targets, swapped, targets
from deepfield.morphology.trees import tree
from deepfield.trust.temperature import fit_scale, fit_temperature

log = logging.getLogger("deepfield")
_FEWEST_ROWS = 40
_SMALL = 1_000_000  # weights of a member
_SAMPLE = 512  # images from which the stretch is learnt


@dataclass(frozen=True)
class Fit:
    """A trained model and which images it has seen.

    Attributes
    ----------
    model : MorphologyModel
        Calibrated, ready to save.
    rows : dict of int arrays
        Rows of the images in ``train``, ``validation`` (early stopping) and ``calibration``.
    """

    model: MorphologyModel
    rows: dict[str, NDArray[np.int64]]


def train(images: Images, config: MorphologyConfig | None = None, **options: Any) -> MorphologyModel:
    """Fit q(classes or votes | image) to labelled images; see :func:`fit` for the options.

    Examples
    --------
    >>> from deepfield import morphology
    >>> s = morphology.simulate(80, size=32, seed=0)
    >>> images = morphology.read(s.images.numpy(), catalog=s.table, bands=s.survey.bands)
    >>> model = morphology.train(images, tree="decals5", pixels=16, parameters=3000, epochs=1, progress=False)
    >>> morphology.predict(model, images[:2]).probabilities.shape
    (2, 34)
    """
    return fit(images, config, **options).model


def fit(
    images: Images,
    config: MorphologyConfig | None = None,
    *,
    init: MorphologyModel | str | os.PathLike[str] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Fit:
    """Train the members, and calibrate them.

    Images without a label or a vote are left out with a message, broken ones too. Classes are weighted by the
    likelihood alone: a rare class is rare in the answers as well, and no image is shown twice.

    Parameters
    ----------
    images : Images
        From :func:`deepfield.morphology.read`; its table has the labels or votes.
    config : MorphologyConfig, optional
        Single fields may be given as keywords instead: ``fit(images, tree="gz2", members=3)``.
    init : MorphologyModel or path, optional
        Go on from this model: its net and camera, with a new last layer if the answers are others. The last layer
        is fitted first, then all layers at ``thaw`` times the learning rate.
    checkpoint : path, optional
        Folder for checkpoints; a killed training goes on from there.
    progress : bool
        Whether to draw progress bars.

    Raises
    ------
    TableError
        If labels or votes are missing, or fewer than 40 images have any.
    DeepfieldError
        If ``swap`` names no classes, or ``init`` does not fit.
    """
    base = MorphologyModel.load(init) if isinstance(init, str | os.PathLike) else init
    config = replace(config or MorphologyConfig(), **overrides)
    if base is not None:
        config = replace(
            config, **{k: getattr(base.config, k) for k in ("group", "pixels", "members", "parameters")}
        )
    truth = targets(images.table, config.labels, tree=tree(config.tree) if config.tree else None)
    swap = swapped(truth.labels, config.swap)
    config = replace(config, swap=swap, group=config.group or ("d8" if swap else "c8"))
    rows = _split(truth, config)
    model = _begin(images, truth, rows["train"], config, base)
    # In a net this small a second thread waits more than it works, and on a busy machine far more.
    small = parameters_of(model.model) < _SMALL * config.members
    with one_thread() if small else contextlib.nullcontext():
        history = _learn(model, base, images, truth, rows, checkpoint, progress)
    if len(rows["calibration"]):
        model.temperature = _temperature(model, images[rows["calibration"]], truth.y[rows["calibration"]])
    tell_broken(images[np.concatenate(list(rows.values()))])
    model.card = {
        "data": {"images": len(images), "used": sum(map(len, rows.values())), "sha256": digest(images)},
        "split": {name: len(part) for name, part in rows.items()} | {"seed": config.seed},
        "parameters": parameters_of(model.model),
        "temperature": model.temperature,
        "history": history,
        "versions": versions(),
    }
    return Fit(model, rows)


def _split(truth: Targets, config: MorphologyConfig) -> dict[str, NDArray[np.int64]]:
    """Rows to train on, to stop by and to calibrate on, at random."""
    usable = np.flatnonzero(truth.known)
    if len(usable) < len(truth.known):
        log.warning("%s images without a label or a vote are left out", len(truth.known) - len(usable))
    if len(usable) < _FEWEST_ROWS:
        raise TableError(f"{len(usable)} images have a label or a vote; training needs {_FEWEST_ROWS}")
    order = np.random.default_rng(config.seed).permutation(usable)
    n_val, n_cal = (round(share * len(order)) for share in (config.validation, config.calibration))
    if not n_val:
        raise TableError(f"a validation share of {config.validation} leaves none of {len(order)} images")
    part = np.split(order, [n_val, n_val + n_cal])
    return {"train": np.sort(part[2]), "validation": np.sort(part[0]), "calibration": np.sort(part[1])}


def _begin(
    images: Images, truth: Targets, rows: NDArray[np.int64], config: MorphologyConfig, base: MorphologyModel | None
) -> MorphologyModel:
    """The model before training: stretch and target scaling learnt, weights fresh or taken over."""
    sample, reasons = images[rows[:: max(1, len(rows) // _SAMPLE)]].load()
    sample = sample[torch.from_numpy(reasons == "")]
    if not len(sample):
        raise TableError(f"none of the images can be used: {next((r for r in reasons.tolist() if r), '')}")
    kind = config.stretch if config.stretch != "auto" else "asinh" if sample.is_floating_point() else "linear"
    kind = base.kind if base else kind
    outputs = head_of(truth.labels, truth.tree).n_features
    pair = [list(truth.labels).index(name) for name in config.swap] if GROUPS[config.group][1] else []
    chosen = {"dropout": config.dropout, "exchange": pair}
    bands = len(images.bands)
    net = (
        (base.net | chosen)
        if base
        else net_options(config.parameters, bands, outputs, group=config.group, **chosen)
    )
    fresh = build(config, net, bands=len(images.bands), kind=kind, labels=truth.labels, questions=truth.tree)
    crop = int(images.meta.get("crop", 0))
    seen = {"dtype": images.dtype, "native": images.meta["native"]}
    model = MorphologyModel(
        config=config, model=fresh, bands=images.bands, side=images.size, crop=crop, kind=kind, net=net,
        labels=truth.labels, tree=truth.tree, seen=seen,
    )  # fmt: skip
    camera, core = parts(fresh)
    if base is None:
        known = {"pixel_scale": images.meta["pixel_scale"], "psf_fwhm": images.meta["psf_fwhm"]}
        camera.stretch.fit(camera.reduce(sample), **known)
    core.head.fit_target(truth.y[rows])
    if base is not None:
        take_over(model, base, images, last=model.answers == base.answers)
    elif truth.tree is None:
        share = truth.shares[rows].mean(0)
        for member in members(core):
            last: Any = member.net.project
            last.bias.data.copy_(torch.from_numpy(np.log(share + 1e-4)))
    return model


def _learn(
    model: MorphologyModel,
    base: MorphologyModel | None,
    images: Images,
    truth: Targets,
    rows: dict[str, NDArray[np.int64]],
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
) -> dict[str, Any]:
    """Fit in place; the history of each stage."""
    config, (camera, core) = model.config, parts(model.model)

    def load(part: str) -> Any:
        where = rows[part]
        return images[where].batches(truth.y[where], size=256, seed=None, augment=Seen(camera))

    batches = images[rows["train"]].batches(
        truth.y[rows["train"]],
        size=config.batch,
        seed=config.seed,
        augment=augmentation(camera, config, truth.labels),
    )
    settings = recipe(config, len(rows["train"]), len(rows["validation"]))
    return learn(
        core, load, batches, load("validation"), config, settings, tuning=base is not None,
        checkpoint=checkpoint, progress=progress,
    )  # fmt: skip


def augmentation(camera: Camera, config: MorphologyConfig, labels: Sequence[str] = ()) -> Augment:
    """What is changed at random in each step; a mirror exchanges the classes that are named in ``swap``."""
    exchange = None
    if config.swap:
        exchange, places = torch.arange(len(labels)), [list(labels).index(name) for name in config.swap]
        exchange[places] = exchange[places[::-1]]
    names = ("rotate", "flip", "zoom", "shift", "blur", "noise")
    return Augment(camera, **{name: getattr(config, name) for name in names}, exchange=exchange)


def _temperature(model: MorphologyModel, images: Images, y: Tensor) -> float:
    """What makes the answers on images kept from training likeliest."""
    features, reasons = features_of(model, images)
    good = torch.from_numpy(reasons == "")
    if not bool(good.any()):
        return 1.0
    features, y = features[good].double(), y[good]
    if model.tree is None:
        log_p = features.softmax(-1).mean(1).clamp_min(1e-300).log()
        return fit_temperature(log_p.numpy(), y.numpy())
    prediction = answer(model, features, reasons[reasons == ""])

    def loss(temperature: float) -> float:
        moved = prediction.head(prediction.features.double() - float(np.log(temperature)))
        return -float(moved.log_prob(y.double()).detach().mean())

    return fit_scale(loss, len(y))


def train_to_folder(
    images: Images, folder: str | os.PathLike[str], config: MorphologyConfig, *, init: str = ""
) -> MorphologyModel:
    """Train and save; checkpoints lie beside ``folder`` until the model is written."""
    with checkpoints(folder, {"config": asdict(config), "data": digest(images), "init": init}) as place:
        model = train(images, config, init=init or None, checkpoint=place)
        model.save(folder)
    return model
