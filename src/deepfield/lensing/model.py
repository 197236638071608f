"""The lensing models: p(lens | image), q(parameters | image of a lens), their configuration and calibration."""

from __future__ import annotations

import functools
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from deepfield.core.calibrators import PITMap
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.flow import Flow
from deepfield.core.heads import Bernoulli, Head
from deepfield.core.model import Model
from deepfield.core.nets import ConvNet
from deepfield.core.nets.camera import Camera
from deepfield.core.nets.group import GROUPS
from deepfield.core.nets.stretch import KINDS
from deepfield.core.store import Saved, revive, save, settings
from deepfield.core.vision import CHUNK, RANGES, assemble, check_net, embed, in_range, ordinary
from deepfield.lensing.parameters import NAMES, UNITS

TASKS = ("find", "measure")
_RANGES = RANGES | {
    "draws": (64, 1e8), "pixels": (0, 1024), "moments": (0, 8), "transforms": (1, 8), "context": (4, 256),
    "hidden": (8, 1024), "align": (0, 1e4),
}  # fmt: skip


@dataclass(frozen=True)
class LensingConfig:
    """What a lensing model is, and how it is trained.

    Parameters
    ----------
    task : str
        "find": is it a lens? "measure": which lens is it?
    survey : str
        Train on simulated images of this survey, fresh ones in each epoch, in place of given images.
    draws : int
        Images simulated in an epoch.
    group : str
        What the net is blind to by construction, as in morphology: by default "p4m" to find (turns by 90
        degrees and mirrors), and "none" to measure, where the way a lens lies is asked for.
    pixels : int
        Pixels on a side of what the net sees, images being averaged down to it; 0 takes those of the images, 64 at
        most.
    contrast : bool
        Whether the net sees, beside the image, what stands out from a smooth galaxy in its middle and from the
        colour of that galaxy (:class:`deepfield.core.nets.contrast.Contrast`).
    stretch : str
        "linear" for pictures, "asinh" for fluxes, "auto" by the type of the pixels (bytes or floats).
    members : int
        Networks trained together and averaged; the spread of several is the interval of a probability.
    parameters : int
        Weights of each member's net, about.
    moments : int
        To measure: highest moment of the last maps over the image that is kept (see
        :class:`deepfield.core.nets.ConvNet`).
    context : int
        To measure: features that the flow is given.
    transforms : int
        To measure: of the flow.
    hidden : int
        To measure: width of the layers of the flow's transforms.
    dropout : float
        Before the last layer.
    epochs : int
        Most passes over the training images; 0 chooses by their number. Training stops earlier if held-out
        images say so.
    batch : int
        Images in a step.
    learning_rate : float
        Of the optimiser.
    weight_decay : float
        Of the optimiser.
    rotate : bool
        Whether each step sees the images turned by quarter turns, the parameters with them; pixels and their noise
        stay as they are.
    flip : bool
        Whether half of the images are mirrored in each step, the parameters with them.
    zoom : float
        To find: largest change of scale in each step (0.3: from 1/1.3 to 1.3).
    shift : float
        To find: largest change of place in each step, as a share of the side.
    blur : float
        Largest change of the point-spread function in each step: sigma of a further Gaussian in the net's pixels.
    noise : float
        Largest change of the noise in each step, in units of the spread of all pixels.
    thaw : float
        When training goes on from another model (``init``): the learning rate of all layers over the usual one,
        after the last layer has been fitted alone. 0 leaves the others frozen.
    align : float
        Weight of the alignment of features with those of unlabelled images of another kind, if such are given (see
        :func:`deepfield.core.align.coral`).
    validation : float
        Share of the images kept from training to stop in time; of simulated ones, more are drawn.
    calibration : float
        Share of the images kept from training to calibrate; of simulated ones, more are drawn.
    seed : int
        Of everything random.
    """

    task: str = "find"
    survey: str = ""
    draws: int = 8192
    group: str = ""
    pixels: int = 0
    contrast: bool = True
    stretch: str = "auto"
    members: int = 1
    parameters: int = 60_000
    moments: int = 3
    context: int = 32
    transforms: int = 2
    hidden: int = 64
    dropout: float = 0.1
    epochs: int = 0
    batch: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    rotate: bool = True
    flip: bool = True
    zoom: float = 0.0
    shift: float = 0.0
    blur: float = 0.0
    noise: float = 0.0
    thaw: float = 0.1
    align: float = 1.0
    validation: float = 0.1
    calibration: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.task not in TASKS:
            raise DeepfieldError(f"the task is {' or '.join(TASKS)}, not '{self.task}'")
        if self.symmetry not in GROUPS:
            raise DeepfieldError(f"group '{self.group}' is not one of {', '.join(GROUPS)}")
        if self.task == "measure" and self.symmetry != "none":
            raise DeepfieldError(f"a net of group {self.group} cannot tell how a lens lies: take group none")
        if self.task == "measure" and (self.zoom or self.shift):
            raise DeepfieldError("zoom and shift would change what is measured: they are for finding alone")
        if self.stretch not in ("auto", *KINDS):
            raise DeepfieldError(f"stretch '{self.stretch}' is not one of auto, {', '.join(KINDS)}")
        if self.pixels:
            in_range(self, {"pixels": RANGES["pixels"]})
        in_range(self, _RANGES)

    @property
    def symmetry(self) -> str:
        """The group, chosen by the task if none is given."""
        return self.group or {"find": "p4m", "measure": "none"}[self.task]

    def head(self) -> Head:
        """Of one member."""
        if self.task == "find":
            return Bernoulli()
        return Flow(len(NAMES), context=self.context, transforms=self.transforms, hidden=self.hidden)

    def net(self) -> dict[str, Any]:
        """Options of a member's net, its width aside."""
        options = {"group": self.symmetry, "dropout": self.dropout}
        return options | ({"moments": self.moments} if self.task == "measure" else {})

    def camera(self, bands: int, kind: str) -> Camera:
        """What shows the net its images."""
        return Camera(bands, self.pixels, kind, contrast=self.contrast)


def build(config: LensingConfig, net: dict[str, Any], *, bands: int, kind: str) -> Model:
    """The untrained model: a camera, then the members side by side."""
    camera = config.camera(bands, kind)

    def member() -> Model:
        head = config.head()
        return Model(ConvNet(camera.channels, head.n_features, **net), head)

    return assemble(camera, config.members, member, seed=config.seed)


@dataclass
class LensingModel:
    """A trained model with its calibration: what is saved, loaded and asked.

    Parameters
    ----------
    config : LensingConfig
        With the pixels that the net sees.
    model : Model
    bands : tuple of str
    side, crop : int
        Pixels on a side of the images it takes, and of the centre of the originals that went into them (0: all).
    kind : str
        "linear" or "asinh".
    net : dict
        What builds a member.
    prior : float
        To find: the share of lenses among the training images, at which its probabilities are calibrated.
    temperature : float
        To find: divides the log odds.
    pit_maps : dict of PITMap
        To measure: of each parameter the map that makes its quantiles cover.
    card : dict
        Training data, metrics, versions.
    seen : dict
        ``dtype`` of the training images and ``native``, pixels on a side of the originals.
    """

    config: LensingConfig
    model: Model
    bands: tuple[str, ...]
    side: int
    crop: int
    kind: str
    net: dict[str, Any]
    prior: float = 0.5
    temperature: float = 1.0
    pit_maps: dict[str, PITMap] = field(default_factory=dict)
    card: dict[str, Any] = field(default_factory=dict)
    seen: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def served(self) -> nn.Module:
        """The net with its filters expanded to ordinary convolutions, for inference."""
        return ordinary(self.model)

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Features (N, F) of raw pixels (N, B, side, side): log odds of each member, or what its flow is given."""
        found = [self.served(x[i : i + CHUNK]) for i in range(0, len(x), CHUNK)]
        return torch.cat(found) if found else torch.zeros(0, self.model.head.n_features)

    def embed(self, x: Tensor) -> Tensor:
        """What the members make of raw pixels (N, B, side, side) before their last layer (N, E)."""
        return embed(self.served, x)

    def of_task(self, task: str) -> LensingModel:
        """The model itself, if it is for the task.

        Raises
        ------
        ModelError
        """
        if self.config.task != task:
            raise ModelError(f"this model was trained to {self.config.task}, not to {task}")
        return self

    def describe(self) -> dict[str, Any]:
        """All but the weights, as plain JSON."""
        return {
            "lensing": asdict(self.config),
            "bands": list(self.bands),
            "side": self.side,
            "crop": self.crop,
            "kind": self.kind,
            "net": self.net,
            "prior": self.prior,
            "temperature": self.temperature,
            "pit_maps": {name: found.to_dict() for name, found in self.pit_maps.items()},
            "seen": self.seen,
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder."""
        save(folder, Saved("lensing", self.describe(), self.model.state_dict(), self.card))

    @classmethod
    def rebuild(cls, described: dict[str, Any], card: dict[str, Any]) -> LensingModel:
        """The inverse of :meth:`describe`, with untrained weights.

        Raises
        ------
        ModelError
            If the description is damaged, absurd or from a newer version.
        """
        try:
            config = LensingConfig(**settings(described["lensing"], LensingConfig))
            bands, net = tuple(described["bands"]), dict(described["net"])
            side, crop, kind = int(described["side"]), int(described["crop"]), str(described["kind"])
            check_net(net, bands=len(bands), side=side, members=config.members)
            model = build(config, net, bands=len(bands), kind=kind)
            prior, warmth = float(described["prior"]), float(described["temperature"])
            if not (0 < prior < 1 and 0 < warmth < 1e6):
                raise ModelError(f"a prior of {prior} and a temperature of {warmth} are none")
            maps = {n: PITMap.from_dict(m) for n, m in dict(described["pit_maps"]).items() if n in UNITS}
            seen = dict(described["seen"])
            return cls(config, model, bands, side, crop, kind, net, prior, warmth, maps, card, seen)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"the model's configuration is damaged: {error}") from None

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LensingModel:
        """Read a model folder, or a model that comes with the package; ModelError if it is not whole."""
        found: LensingModel = revive(folder, "lensing", cls.rebuild)
        return found
