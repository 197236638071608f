"""Training: images and labels or votes to a calibrated model; from scratch, or on from another model."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import deepfield
from deepfield.core.augment import Augment, Seen
from deepfield.core.batches import Batches
from deepfield.core.devices import one_thread
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.fit import FitConfig
from deepfield.core.fit import fit as core_fit
from deepfield.core.model import Model, members
from deepfield.core.nets import ConvNet, parameters_of
from deepfield.core.nets.group import GROUPS
from deepfield.core.store import checkpoints
from deepfield.data.images.collection import Images
from deepfield.data.images.serve import serve
from deepfield.morphology.model import (
    Camera,
    MorphologyConfig,
    MorphologyModel,
    build,
    head_of,
    net_options,
    parts,
)
from deepfield.morphology.predict import answer, check, check_pixels
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
    config = replace(config, swap=swapped(truth.labels, config.swap))
    rows = _split(truth, config)
    model = _begin(images, truth, rows["train"], config, base)
    # In a net this small a second thread waits more than it works, and on a busy machine far more.
    small = parameters_of(model.model) < _SMALL * config.members
    with one_thread() if small else contextlib.nullcontext():
        history = _learn(model, base, images, truth, rows, checkpoint, progress)
    if len(rows["calibration"]):
        model.temperature = _temperature(model, images[rows["calibration"]], truth.y[rows["calibration"]])
    _tell_broken(images, rows)
    model.card = {
        "data": {"images": len(images), "used": sum(map(len, rows.values())), "sha256": digest(images)},
        "split": {name: len(part) for name, part in rows.items()} | {"seed": config.seed},
        "parameters": parameters_of(model.model),
        "temperature": model.temperature,
        "history": history,
        "versions": {
            "deepfield": deepfield.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
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
    net = net_options(config, len(images.bands), outputs, exchange=pair)
    net = (dict(base.net) | {"exchange": pair, "dropout": config.dropout}) if base else net
    fresh = build(config, net, bands=len(images.bands), kind=kind, labels=truth.labels, questions=truth.tree)
    crop = int(images.meta.get("crop", 0))
    seen = {"dtype": images.dtype, "native": images.meta["native"]}
    model = MorphologyModel(
        config, fresh, images.bands, images.size, crop, kind, net, truth.labels, truth.tree, seen=seen
    )
    camera, core = parts(fresh)
    if base is None:
        known = {"pixel_scale": images.meta["pixel_scale"], "psf_fwhm": images.meta["psf_fwhm"]}
        camera.stretch.fit(camera.reduce(sample), **known)
    core.head.fit_target(truth.y[rows])
    if base is not None:
        _take_over(model, base, images)
    elif truth.tree is None:
        share = truth.shares[rows].mean(0)
        for member in members(core):
            last: Any = member.net.project
            last.bias.data.copy_(torch.from_numpy(np.log(share + 1e-4)))
    return model


def _take_over(model: MorphologyModel, base: MorphologyModel, images: Images) -> None:
    """The weights of another model, but for the last layer if the answers are others; not its camera."""
    if len(model.bands) != len(base.bands):
        raise DeepfieldError(
            f"the images have {len(model.bands)} bands, the model to go on from {len(base.bands)}: "
            f"{', '.join(base.bands)}"
        )
    check_pixels(base, images)
    same = model.answers == base.answers
    own = model.model.state_dict()
    taken = {
        name: value
        for name, value in base.model.state_dict().items()
        if same or not (".project." in name or name.startswith("head."))
    }
    model.model.load_state_dict(own | taken)
    stretch, scale = parts(model.model)[0].stretch, images.meta["pixel_scale"]
    if said := stretch.check(images.bands, scale, images.meta["psf_fwhm"]):
        images.warn(said)
    stretch.tell(pixel_scale=scale, psf_fwhm=images.meta["psf_fwhm"])


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
    recipe = _recipe(config, len(rows["train"]), len(rows["validation"]))

    def watch(stage: str) -> dict[str, Any]:
        path = None if checkpoint is None else Path(checkpoint) / f"{stage}.ckpt"
        return {"checkpoint": path, "progress": f"{stage:<8}" if progress else False}

    history = {}
    if base is not None:
        history["head"] = _fit_head(core, camera, images, truth, rows, config, watch("head"))
        if not config.thaw:
            return history
        recipe = replace(recipe, learning_rate=config.thaw * config.learning_rate)
    batches = images[rows["train"]].batches(
        truth.y[rows["train"]],
        size=config.batch,
        seed=config.seed,
        augment=augmentation(camera, config, truth.labels),
    )
    held_out = images[rows["validation"]].batches(
        truth.y[rows["validation"]], size=256, seed=None, augment=Seen(camera)
    )
    before = {name: value.clone() for name, value in core.state_dict().items()}
    history["members"] = asdict(core_fit(core, batches, held_out, config=recipe, **watch("members")))
    kept = {stage: told["validation"][told["best_epoch"]] for stage, told in history.items()}
    if base is not None and kept["members"] > kept["head"]:
        core.load_state_dict(before)  # the thaw has made it worse
        history["members"]["best_epoch"] = -1
    return history


def augmentation(camera: Camera, config: MorphologyConfig, labels: Sequence[str] = ()) -> Augment:
    """What is changed at random in each step; a mirror exchanges the classes that are named in ``swap``."""
    exchange = None
    if config.swap:
        exchange, places = torch.arange(len(labels)), [list(labels).index(name) for name in config.swap]
        exchange[places] = exchange[places[::-1]]
    names = ("rotate", "flip", "zoom", "shift", "blur", "noise")
    return Augment(camera, **{name: getattr(config, name) for name in names}, exchange=exchange)


def _fit_head(
    core: Model,
    camera: Camera,
    images: Images,
    truth: Targets,
    rows: dict[str, NDArray[np.int64]],
    config: MorphologyConfig,
    watch: dict[str, Any],
) -> dict[str, Any]:
    """Fit the last layers on what the frozen trunks make of the images as they are (Kumar et al. 2022).

    To begin with new answers by moving all layers would spoil what they know.
    """
    core.eval()
    nets: list[Any] = [member.net for member in members(core)]
    last = Model(_Last(nets), core.head)

    def batches(part: str, size: int, seed: int | None) -> Batches:
        found, y = [], []
        for x, target in images[rows[part]].batches(
            truth.y[rows[part]], size=256, seed=None, augment=Seen(camera)
        ):
            with torch.no_grad():
                found.append(torch.cat([net.embed(x) for net in nets], 1))
            y.append(target)
        return Batches(torch.cat(found), torch.cat(y), size=size, seed=seed)

    size = min(config.batch, 256)
    fitted = batches("train", size, config.seed)
    epochs = min(60, max(10, round(3000 * size / len(fitted.tensors[0]))))
    recipe = FitConfig(epochs=epochs, learning_rate=1e-2, weight_decay=config.weight_decay, seed=config.seed)
    return asdict(core_fit(last, fitted, batches("validation", 4096, None), config=recipe, **watch))


class _Last(nn.Module):
    """The last layers of several nets, each on its own part of their embeddings in a row."""

    def __init__(self, nets: list[ConvNet]) -> None:
        super().__init__()
        self.sizes = [net.n_features for net in nets]
        self.layers = nn.ModuleList(net.project for net in nets)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(part) for layer, part in zip(self.layers, x.split(self.sizes, 1))], 1)


def _recipe(config: MorphologyConfig, rows: int, held_out: int) -> FitConfig:
    """One cycle of about 4,000 steps, but 12 to 60 passes.

    The loss of a galaxy's class varies by about one nat, the difference between two epochs by half of that; votes
    have larger losses, of which the best epoch tells more.
    """
    epochs = config.epochs or min(60, max(12, round(4000 * config.batch / rows)))
    steps = epochs * max(1, rows // config.batch)
    return FitConfig(
        epochs=epochs,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        average=min(0.998, max(0.9, 1 - 20 / steps)),  # over a twentieth of the training, some epochs at most
        patience=max(8, epochs // 3),
        tolerance=min(0.05, 0.5 / held_out**0.5),
        seed=config.seed,
    )


def _temperature(model: MorphologyModel, images: Images, y: Tensor) -> float:
    """What makes the answers on images kept from training likeliest."""
    check(model, images)
    features, reasons = serve(images, model.features)
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


def _tell_broken(images: Images, rows: dict[str, NDArray[np.int64]]) -> None:
    reasons = images[np.concatenate(list(rows.values()))].reasons()
    if (broken := int((reasons != "").sum())) > 0:
        log.warning("%s broken images were left out, first: %s", broken, reasons[reasons != ""][0])


def digest(images: Images) -> str:
    """Sha256 of the catalogue and of some of the images: what a training was made from."""
    sha = hashlib.sha256(images.table.digest().encode())
    sha.update(f"{len(images)} {images.size} {images.bands}".encode())
    x, _ = images.load(np.unique(np.linspace(0, len(images) - 1, 64).astype(int)))
    sha.update(np.ascontiguousarray(x.numpy()).tobytes())
    return sha.hexdigest()


def train_to_folder(
    images: Images, folder: str | os.PathLike[str], config: MorphologyConfig, *, init: str = ""
) -> MorphologyModel:
    """Train and save; checkpoints lie beside ``folder`` until the model is written."""
    with checkpoints(folder, {"config": asdict(config), "data": digest(images), "init": init}) as place:
        model = train(images, config, init=init or None, checkpoint=place)
        model.save(folder)
    return model
