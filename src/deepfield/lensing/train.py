"""Training finders and measurers: on images from files or from the simulator; anew, or on from a model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfield.core.align import coral
from deepfield.core.augment import Augment, Seen
from deepfield.core.devices import one_thread
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.model import members
from deepfield.core.nets import parameters_of
from deepfield.core.nets.camera import Camera
from deepfield.core.store import checkpoints, versions
from deepfield.core.vision import learn, net_options, nets_of, parts, recipe
from deepfield.data.images.collection import Images
from deepfield.data.images.serve import check, digest, features_of, take_over, tell_broken
from deepfield.data.images.together import together
from deepfield.lensing.arcs import ArcMap, supervised
from deepfield.lensing.candidates import fit_calibration, log_odds
from deepfield.lensing.measurement import Measurement
from deepfield.lensing.model import LensingConfig, LensingModel, build
from deepfield.lensing.parameters import ANGLES, UNITS, carry
from deepfield.lensing.sets import Sets, Simulator, given, maps_of, paired, simulated
from deepfield.trust.calibration import fit_pit_map

_SMALL = 1_000_000  # weights of a member
_SAMPLE = 512  # images from which the stretch is learnt


@dataclass(frozen=True)
class Fit:
    """A trained model and which images it has seen.

    Attributes
    ----------
    model : LensingModel
        Calibrated, ready to save.
    rows : dict of int arrays
        Rows of the given images in ``train``, ``validation`` (early stopping) and ``calibration``.
    """

    model: LensingModel
    rows: dict[str, NDArray[np.int64]]


def train(
    images: Images | Sequence[Images] | None = None, config: LensingConfig | None = None, **options: Any
) -> LensingModel:
    """Fit p(lens | image) or q(parameters | image of a lens); see :func:`fit` for the options.

    Examples
    --------
    >>> from deepfield import lensing
    >>> model = lensing.train(survey="lsst", draws=64, pixels=16, parameters=2000, epochs=1, progress=False)
    >>> model.config.task, model.bands
    ('find', ('g', 'r', 'i'))
    """
    return fit(images, config, **options).model


def fit(
    images: Images | Sequence[Images] | None = None,
    config: LensingConfig | None = None,
    *,
    init: LensingModel | str | os.PathLike[str] | None = None,
    unlabelled: Images | None = None,
    simulate: Simulator | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **overrides: Any,
) -> Fit:
    """Train the members, and calibrate them.

    Parameters
    ----------
    images : Images, several, or None
        With ``is_lens`` in their table (0, 1, or a probability: what an expert's grade is worth), and to
        measure the lenses' parameters (:data:`deepfield.lensing.parameters.UNITS`); rows without are left out.
        None where the configuration names a ``survey`` to simulate.
    config : LensingConfig, optional
        Single fields may be given as keywords instead: ``fit(survey="euclid", members=3)``.
    init : LensingModel or path, optional
        Go on from this model: its net and camera. The last layer is fitted first, then all layers at ``thaw``
        times the learning rate. Some hundred labelled images are enough.
    unlabelled : Images, optional
        Images of the survey in which the model shall be used: the features of the training images are drawn
        towards theirs, by ``align`` times :func:`deepfield.core.align.coral`. Best with about as many lenses
        among them as there are in the training, or the alignment itself shifts the answer.
    simulate : callable, optional
        In place of :func:`deepfield.lensing.simulate`: takes n, survey, seed and lens_fraction.
    checkpoint : path, optional
        Folder for checkpoints; a killed training goes on from there.
    progress : bool
        Whether to draw progress bars.

    Raises
    ------
    TableError
        If labels are missing or wrong, or fewer than 40 images have any.
    DeepfieldError
        If neither images nor a survey are given or both, or ``init`` does not fit.
    """
    base = LensingModel.load(init) if isinstance(init, str | os.PathLike) else init
    config = replace(config or LensingConfig(), **overrides)
    if base is not None:
        net = ("group", "members", "parameters", "moments", "context", "transforms", "hidden")
        kept = ("task", "pixels", "contrast", *net)
        config = replace(config, **{k: getattr(base.config, k) for k in kept})
    sets = _sets(images, config, simulate)
    model = _begin(sets, config, base)
    # In a net this small a second thread waits more than it works, and on a busy machine far more.
    small = parameters_of(model.model) < _SMALL * config.members
    with one_thread() if small else contextlib.nullcontext():
        history = _learn(model, sets, base is not None, unlabelled, checkpoint, progress)
    if len(sets.parts["calibration"][1]):
        calibrate(model, *sets.parts["calibration"])
    for part, _ in sets.parts.values():
        tell_broken(part)
    model.card = {
        "data": sets.data | ({"unlabelled": digest(unlabelled)} if unlabelled is not None else {}),
        "split": {name: len(y) for name, (_, y) in sets.parts.items()} | {"seed": config.seed},
        "parameters": parameters_of(model.model),
        "prior": model.prior,
        "temperature": model.temperature,
        "offset": model.offset,
        "history": history,
        "versions": versions(),
    }
    return Fit(model, sets.where)


def _sets(images: Any, config: LensingConfig, simulate: Simulator | None) -> Sets:
    if (images is None) == (not config.survey):
        raise DeepfieldError("give images to train on, or a survey to simulate them in: one of the two")
    shares: dict[str, Any] = {
        "validation": config.validation, "calibration": config.calibration, "seed": config.seed,
    }  # fmt: skip
    if images is not None:
        stamps = images if isinstance(images, Images) else together(list(images))
        return given(stamps, config.task, **shares)
    if simulate is None:
        from deepfield.lensing.simulate import simulate as own

        simulate = own
    return simulated(simulate, config.task, survey=config.survey, images=config.draws, **shares)


def _begin(sets: Sets, config: LensingConfig, base: LensingModel | None) -> LensingModel:
    """The model before training: stretch and target scaling learnt, weights fresh or taken over."""
    images, y = sets.parts["train"]
    sample, reasons = images[:: max(1, len(images) // _SAMPLE)].load()
    sample = sample[torch.from_numpy(reasons == "")]
    if not len(sample):
        raise TableError(f"none of the images can be used: {next((r for r in reasons.tolist() if r), '')}")
    kind = config.stretch if config.stretch != "auto" else "asinh" if sample.is_floating_point() else "linear"
    kind = base.kind if base else kind
    config = replace(config, pixels=config.pixels or min(images.size, 64))
    channels, outputs = config.camera(len(images.bands), kind).channels, config.head().n_features
    net = dict(base.net) if base else net_options(config.parameters, channels, outputs, **config.net())
    fresh = build(config, net, bands=len(images.bands), kind=kind)
    seen = {"dtype": images.dtype, "native": images.meta["native"]}
    crop, prior = int(images.meta.get("crop", 0)), 0.5
    camera, core = parts(fresh)
    if config.task == "find":
        prior = float(y.mean())
        for member in members(core):
            last: Any = member.net.project
            last.bias.data.fill_(float(np.log(prior / (1 - prior))))
    core.head.fit_target(y)
    model = LensingModel(
        config=config, model=fresh, bands=images.bands, side=images.size, crop=crop, kind=kind, net=net,
        prior=prior, seen=seen,
    )  # fmt: skip
    if base is not None:
        take_over(model, base, images, last=True)
    else:
        known = {"pixel_scale": images.meta["pixel_scale"], "psf_fwhm": images.meta["psf_fwhm"]}
        camera.stretch.fit(camera.reduce(sample), **known)
    return model


def _learn(
    model: LensingModel,
    sets: Sets,
    tuning: bool,
    unlabelled: Images | None,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool,
) -> dict[str, Any]:
    """Fit in place; the history of each stage."""
    config, (camera, core) = model.config, parts(model.model)
    augment = augmentation(camera, config)
    loss = None
    # One of the two: what is drawn towards other images need not know where the arcs of these are.
    asked = config.task == "find" and config.arcs > 0 and unlabelled is None
    arcs = asked and bool(maps_of(sets.parts["train"][0]))
    if arcs:
        core.arcs = nn.ModuleList(ArcMap(net) for net in nets_of(core))
        loss = supervised(config.arcs)
    batches = sets.batches(config.batch, config.seed, augment, arcs)
    if unlabelled is not None:
        check(model, unlabelled)
        # Seed and targets aside they are changed as the others are; what turns with the image is not asked of
        # them.
        plain = augmentation(camera, replace(config, task="find"))
        batches = paired(batches, unlabelled.usable(), plain, size=config.batch, seed=config.seed + 1)
        loss = aligned(config.align)
    seen = Seen(camera)
    return learn(
        core, lambda part: sets.in_order(part, seen), batches, sets.in_order("validation", seen), config,
        recipe(config, sets.rows, len(sets.parts["validation"][1])), tuning=tuning, checkpoint=checkpoint,
        progress=progress, loss=loss, keep_worse=unlabelled is not None,
    )  # fmt: skip


def augmentation(camera: Camera, config: LensingConfig) -> Augment:
    """What is changed at random in each step; the parameters of a lens turn with its image."""
    names = ("rotate", "flip", "zoom", "shift", "blur", "noise")
    options = {name: getattr(config, name) for name in names}
    return Augment(camera, **options, quarters=True, carry=carry if config.task == "measure" else None)


def aligned(weight: float) -> Callable[..., Tensor]:
    """A loss for :func:`deepfield.core.fit.fit`: that of the model, and how far features lie from those of others.

    Batches are (x, y, other); without ``other``, as in validation, it is the model's own loss. Both kinds pass the
    net together, so that its batch norms see what they will be asked of.
    """

    def loss(model: Any, x: Tensor, y: Tensor, other: Tensor | None = None) -> Tensor:
        if other is None:
            return model.loss(x, y)
        found = []
        for member in members(model):
            net: Any = member.net
            features = net.embed(torch.cat([x, other]))
            own, theirs = features[: len(x)], features[len(x) :]
            likelihood = member.head.loss(net.project(net.dropout(own)), y)
            found.append(likelihood + weight * coral(own, theirs))
        return torch.stack(found).mean()

    return loss


def calibrate(model: LensingModel, images: Images, y: Tensor) -> None:
    """Fit the calibration, in place, to images kept from training: temperature and offset, or maps of PIT values.

    Parameters
    ----------
    y : Tensor
        Targets, as :func:`deepfield.lensing.sets.targets` gives them.
    """
    features, reasons = features_of(model, images)
    model.temperature, model.offset, model.pit_maps = 1.0, 0.0, {}
    good = torch.from_numpy(reasons == "")
    if not bool(good.any()):
        return
    features, y = features[good], y[good]
    if model.config.task == "find":
        odds, share = log_odds(features.double().numpy()), y.double().numpy()
        model.temperature, model.offset = fit_calibration(odds, share, model.prior)
        return
    pit = Measurement(model, features, reasons[reasons == ""]).pit(y)
    model.pit_maps = {name: fit_pit_map(pit[name]) for name in UNITS if name not in ANGLES}


def train_to_folder(
    images: Images | Sequence[Images] | None,
    folder: str | os.PathLike[str],
    config: LensingConfig,
    *,
    init: str = "",
    unlabelled: Images | None = None,
) -> LensingModel:
    """Train and save; checkpoints lie beside ``folder`` until the model is written."""
    stamps = [images] if isinstance(images, Images) else list(images or ())
    job = {
        "config": asdict(config),
        "data": [digest(s) for s in (*stamps, *([unlabelled] if unlabelled is not None else []))],
        "init": init,
    }
    with checkpoints(folder, job) as place:
        model = train(stamps or None, config, init=init or None, unlabelled=unlabelled, checkpoint=place)
        model.save(folder)
    return model
