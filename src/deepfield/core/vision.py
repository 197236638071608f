"""Models of images: a camera, then convolutional nets side by side; how they are built, served and tuned.

What the sciences of images share: the shapes of galaxies and the search for lenses differ in heads and targets.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from deepfield.core.batches import Batches
from deepfield.core.devices import pick_device
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.model import Model, Parallel, ensemble, members
from deepfield.core.nets import ConvNet, width_for
from deepfield.core.nets.camera import Camera
from deepfield.core.store import Saved, revive, save, settings

_NET_RANGES = {"width": (1, 2000), "kernel": (1, 31), "expand": (0, 16), "dropout": (0, 0.99)}
CHUNK = 256  # images in one call of the net
RANGES = {
    "pixels": (16, 1024), "members": (1, 100), "parameters": (1000, 1e8), "epochs": (0, 1e6), "batch": (2, 1e6),
    "learning_rate": (1e-9, 1), "weight_decay": (0, 100), "dropout": (0, 0.99), "zoom": (0, 1), "shift": (0, 0.5),
    "blur": (0, 2), "noise": (0, 100), "thaw": (0, 1), "seed": (0, 2**32 - 1),
}  # fmt: skip
"""What the settings of a model of images may be, in every science."""


def in_range(config: Any, ranges: dict[str, tuple[float, float]] = RANGES) -> None:
    """Refuse settings out of their range, by name; those that a configuration lacks are not looked at.

    Raises
    ------
    DeepfieldError
    """
    for name, (least, most) in ranges.items():
        if not least <= getattr(config, name, least) <= most:
            raise DeepfieldError(f"{name} lies between {least} and {most:g}, got {getattr(config, name)}")
    if not (
        0 < config.validation < 1 and config.calibration >= 0 and config.validation + config.calibration < 0.9
    ):
        raise DeepfieldError(
            f"validation ({config.validation}) and calibration ({config.calibration}) are shares of the images "
            "and must leave some to train on"
        )


def net_options(parameters: int, bands: int, outputs: int, **chosen: Any) -> dict[str, Any]:
    """What builds one net of about so many parameters; stored with a model, so that later defaults change nothing.

    Examples
    --------
    >>> options = net_options(20_000, 3, 2, group="p4")
    >>> options["group"], options["depth"]
    ('p4', [1, 2, 2])
    """
    known = inspect.signature(ConvNet).parameters.values()
    options = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY} | chosen
    options |= {name: list(options[name]) for name in ("depth", "exchange")}
    rest = {name: value for name, value in options.items() if name != "width"}
    return options | {"width": width_for(parameters, bands, outputs, **rest)}


def check_net(net: dict[str, Any], *, bands: int, side: int, members: int) -> None:
    """Refuse a description that would fill the memory before its weights are looked at.

    Raises
    ------
    ModelError
    """
    depth, low = list(net["depth"]), min(net["depth"])
    fine = all(least <= net[name] <= most for name, (least, most) in _NET_RANGES.items())
    fine = fine and 0 <= net.get("moments", 0) <= 8
    size = 20 * (1 + sum(depth)) * (2 * net["width"]) ** 2 * net["expand"] * members
    small = 1 <= bands <= 60 and 16 <= side <= 2**14 and low >= 0 and sum(depth) <= 200 and size <= 1e10
    if not (fine and small):
        raise ModelError("the model asks for a net of absurd size")


def assemble(camera: Camera, count: int, member: Callable[[], Model], *, seed: int) -> Model:
    """The untrained model: a camera, then ``count`` members, each with its own random start."""

    def one(k: int) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed * 1009 + k)
            return member()

    core = ensemble([one(k) for k in range(count)])
    return Model(nn.Sequential(camera, core.net), core.head)


def parts(model: Model) -> tuple[Camera, Model]:
    """The camera, and the model of what it gives; weights are shared."""
    stages: Any = model.net
    return stages[0], Model(stages[1], model.head)


def nets_of(core: Model) -> list[ConvNet]:
    """The convolutional net of each member."""
    found: list[Any] = [member.net for member in members(core)]
    return found


def ordinary(model: Model) -> nn.Module:
    """The net with its filters expanded to ordinary convolutions, for inference."""
    camera, core = parts(model)
    plain: list[nn.Module] = [net.ordinary() for net in nets_of(core)]
    return nn.Sequential(camera, Parallel(plain) if len(plain) > 1 else plain[0]).eval()


@torch.no_grad()
def embed(served: nn.Module, x: Tensor) -> Tensor:
    """What the members make of raw pixels (N, B, side, side) before their last layer (N, E)."""
    stages: Any = served
    camera, body = stages[0], stages[1]
    nets: list[Any] = list(body.nets) if isinstance(body, Parallel) else [body]
    device = next(served.parameters()).device
    found = [
        torch.cat([net.embed(seen) for net in nets], 1).cpu()
        for seen in (camera(x[i : i + CHUNK].to(device)) for i in range(0, len(x), CHUNK))
    ]
    return torch.cat(found) if found else torch.zeros(0, sum(net.n_features for net in nets))


def inherit(model: Model, base: Model, *, last: bool) -> None:
    """Take over the weights of another model: with or without those of the last layers and heads."""
    taken = {
        name: value
        for name, value in base.state_dict().items()
        if last or not (".project." in name or name.startswith("head."))
    }
    model.load_state_dict(model.state_dict() | taken)


Loader = Callable[[str], Iterable[tuple[Tensor, Tensor]]]


def fit_last(core: Model, load: Loader, config: Any, **watch: Any) -> dict[str, Any]:
    """Fit the last layers on what the frozen trunks make of the images as they are (Kumar et al. 2022).

    To begin with new answers by moving all layers would spoil what they know.

    Parameters
    ----------
    load : callable
        ``load("train")`` and ``load("validation")`` give what the nets see, and targets, in order.
    config
        With ``batch``, ``weight_decay`` and ``seed``.
    """
    core.eval()
    nets = nets_of(core)
    last = Model(_Last(nets), core.head)

    def batches(part: str, size: int, seed: int | None) -> Batches:
        found, y = [], []
        for x, target in load(part):
            with torch.no_grad():
                found.append(torch.cat([net.embed(x) for net in nets], 1))
            y.append(target)
        return Batches(torch.cat(found), torch.cat(y), size=size, seed=seed)

    size = min(config.batch, 256)
    fitted = batches("train", size, config.seed)
    epochs = min(60, max(10, round(3000 * size / len(fitted.tensors[0]))))
    recipe = FitConfig(epochs=epochs, learning_rate=1e-2, weight_decay=config.weight_decay, seed=config.seed)
    return asdict(fit(last, fitted, batches("validation", 4096, None), config=recipe, **watch))


class _Last(nn.Module):
    """The last layers of several nets, each on its own part of their embeddings in a row."""

    def __init__(self, nets: list[ConvNet]) -> None:
        super().__init__()
        self.sizes = [net.n_features for net in nets]
        self.layers = nn.ModuleList(net.project for net in nets)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(part) for layer, part in zip(self.layers, x.split(self.sizes, 1))], 1)


def recipe(config: Any, rows: int, held_out: int) -> FitConfig:
    """One cycle of about 4,000 steps, but 12 to 60 passes.

    The loss of an image's class varies by about one nat, the difference between two epochs by half of that; votes
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


def learn(
    core: Model,
    load: Loader,
    batches: Any,
    held_out: Any,
    config: Any,
    settings: FitConfig,
    *,
    tuning: bool,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    loss: Callable[..., Tensor] | None = None,
    keep_worse: bool = False,
) -> dict[str, Any]:
    """Fit in place; the history of each stage.

    Parameters
    ----------
    load, batches, held_out
        For :func:`fit_last`, and for :func:`deepfield.core.fit.fit`.
    tuning : bool
        Whether the trunks come from another model: the last layers are then fitted alone, and after that all at
        ``config.thaw`` times the learning rate, unless that makes it worse.
    checkpoint : path, optional
        Folder for checkpoints.
    loss : callable, optional
        For the fit of all layers.
    keep_worse : bool
        Whether all layers are kept as fitted though the held-out loss has become worse: where they are drawn
        towards something else.
    """

    def watch(stage: str) -> dict[str, Any]:
        path = None if checkpoint is None else Path(checkpoint) / f"{stage}.ckpt"
        return {"checkpoint": path, "progress": f"{stage:<8}" if progress else False}

    history = {}
    if tuning:
        history["head"] = fit_last(core, load, config, **watch("head"))
        if not config.thaw:
            return history
        settings = replace(settings, learning_rate=config.thaw * config.learning_rate)
    before = {name: value.clone() for name, value in core.state_dict().items()}
    history["members"] = asdict(fit(core, batches, held_out, config=settings, loss=loss, **watch("members")))
    kept = {stage: told["validation"][told["best_epoch"]] for stage, told in history.items()}
    if tuning and not keep_worse and kept["members"] > kept["head"]:
        core.load_state_dict(before)
        history["members"]["best_epoch"] = -1
    return history


@dataclass(kw_only=True)
class ImageModel:
    """A trained model of images with its calibration: what is saved, loaded and asked.

    A science adds what its answers need, and says how they are stored: :meth:`own` and :meth:`restored`.

    Parameters
    ----------
    config
        The science's settings, with the pixels that the net sees.
    model : Model
    bands : tuple of str
    side, crop : int
        Pixels on a side of the images it takes, and of the centre of the originals that went into them (0: all).
    kind : str
        "linear" or "asinh".
    net : dict
        What builds a member.
    temperature : float
        Divides the log probabilities, or as the science says.
    card : dict
        Training data, metrics, versions.
    seen : dict
        ``dtype`` of the training images ("uint8" or "float32", "" if not known) and ``native``, pixels on a side
        of the originals before they were resampled. A folder without it is taken to be of images as they were.
    """

    domain: ClassVar[str]
    settings: ClassVar[type]

    config: Any
    model: Model
    bands: tuple[str, ...]
    side: int
    crop: int
    kind: str
    net: dict[str, Any]
    temperature: float = 1.0
    card: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        usual = {"linear": "uint8", "asinh": "float32"}[self.kind] if self.config.stretch == "auto" else ""
        self.seen = {"dtype": usual, "native": self.crop or self.side} | self.seen

    @functools.cached_property
    def served(self) -> nn.Module:
        """The net with its filters expanded to ordinary convolutions, for inference."""
        return ordinary(self.model)

    @property
    def device(self) -> torch.device:
        """Where it is asked; see :meth:`on`."""
        return next(self.served.parameters()).device

    def on(self, device: str = "auto") -> Self:
        """The same model, asked on a device: "auto" takes the accelerator where there is one.

        Raises
        ------
        DeepfieldError
            If there is no such device.
        """
        self.served.to(pick_device(device))
        return self

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Features (N, F) of raw pixels (N, B, side, side)."""
        parts = [self.served(x[i : i + CHUNK].to(self.device)).cpu() for i in range(0, len(x), CHUNK)]
        return torch.cat(parts) if parts else torch.zeros(0, self.model.head.n_features)

    def embed(self, x: Tensor) -> Tensor:
        """What the members make of raw pixels (N, B, side, side) before their last layer (N, E)."""
        return embed(self.served, x)

    def own(self) -> dict[str, Any]:
        """What the science adds, as plain JSON."""
        raise NotImplementedError

    @classmethod
    def restored(cls, described: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        """The inverse of :meth:`own`, and the untrained ``model``, as fields.

        ``known`` has config, bands, kind and net.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """All but the weights, as plain JSON."""
        plain = {name: getattr(self, name) for name in ("side", "crop", "kind", "net", "temperature", "seen")}
        return {self.domain: asdict(self.config), "bands": list(self.bands), **plain, **self.own()}

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder."""
        save(folder, Saved(self.domain, self.describe(), self.model.state_dict(), self.card))

    @classmethod
    def rebuild(cls, described: dict[str, Any], card: dict[str, Any]) -> Self:
        """The inverse of :meth:`describe`, with untrained weights.

        Raises
        ------
        ModelError
            If the description is damaged, absurd or from a newer version.
        """
        try:
            config = cls.settings(**settings(described[cls.domain], cls.settings))
            bands, side, net = tuple(described["bands"]), int(described["side"]), dict(described["net"])
            check_net(net, bands=len(bands), side=side, members=config.members)
            warmth = float(described["temperature"])
            if not 0 < warmth < 1e6:
                raise ModelError(f"the model's temperature of {warmth} is none")
            known = {"config": config, "bands": bands, "kind": str(described["kind"]), "net": net}
            return cls(
                **known, **cls.restored(described, known), side=side, crop=int(described["crop"]), card=card,
                temperature=warmth, seen=dict(described.get("seen", {})),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"the model's configuration is damaged: {error}") from None

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Read a model folder, or a model that comes with the package; ModelError if it is not whole."""
        found: Self = revive(folder, cls.domain, cls.rebuild)
        return found
