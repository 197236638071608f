"""The lensing models: p(lens | image), q(parameters | image of a lens), their configuration and calibration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from deepfield.core.calibrators import PITMap
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.flow import Flow
from deepfield.core.heads import Bernoulli, Head
from deepfield.core.model import Model
from deepfield.core.nets import ConvNet
from deepfield.core.nets.camera import Camera
from deepfield.core.nets.group import GROUPS
from deepfield.core.nets.stretch import KINDS
from deepfield.core.vision import RANGES, ImageModel, assemble, in_range
from deepfield.lensing.parameters import NAMES, UNITS

TASKS = ("find", "measure")
_RANGES = RANGES | {
    "draws": (64, 1e8), "pixels": (0, 1024), "moments": (0, 8), "transforms": (1, 8), "context": (4, 256),
    "hidden": (8, 1024), "align": (0, 1e4), "arcs": (0, 1e4),
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
        colour of that galaxy.
    stretch : str
        "linear" for pictures, "asinh" for fluxes, "auto" by the type of the pixels (bytes or floats).
    members : int
        Networks trained together and averaged; the spread of several is the interval of a probability.
    parameters : int
        Weights of each member's net, about.
    moments : int
        To measure: highest moment of the last maps over the image that is kept.
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
    arcs : float
        To find: weight of the map of the arcs, which a finder learns beside the answer where the training images
        come with one, as simulated ones do (:mod:`deepfield.lensing.arcs`). 0 leaves it out.
    align : float
        Weight of the alignment of features with those of unlabelled images of another kind, if such are given.
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
    arcs: float = 1.0
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


@dataclass(kw_only=True)
class LensingModel(ImageModel):
    """A trained finder or measurer; see :class:`deepfield.core.vision.ImageModel`.

    Parameters
    ----------
    prior : float
        To find: the share of lenses among the training images, at which its probabilities are calibrated.
    temperature, offset : float
        To find: of the log odds; see :func:`deepfield.lensing.candidates.calibrated`.
    pit_maps : dict of PITMap
        To measure: of each parameter the map that makes its quantiles cover.
    """

    domain = "lensing"
    settings = LensingConfig

    prior: float = 0.5
    offset: float = 0.0
    pit_maps: dict[str, PITMap] = field(default_factory=dict)

    def of_task(self, task: str) -> LensingModel:
        """The model itself, if it is for the task.

        Raises
        ------
        ModelError
        """
        if self.config.task != task:
            raise ModelError(f"this model was trained to {self.config.task}, not to {task}")
        return self

    def own(self) -> dict[str, Any]:
        """Prior, offset and maps."""
        maps = {name: found.to_dict() for name, found in self.pit_maps.items()}
        return {"prior": self.prior, "offset": self.offset, "pit_maps": maps}

    @classmethod
    def restored(cls, described: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        """Prior, offset, maps and the untrained model."""
        prior, offset = float(described["prior"]), float(described.get("offset", 0.0))
        if not (0 < prior < 1 and abs(offset) < 100):
            raise ModelError(f"a prior of {prior} and an offset of {offset} are none")
        maps = {n: PITMap.from_dict(m) for n, m in dict(described["pit_maps"]).items() if n in UNITS}
        model = build(known["config"], known["net"], bands=len(known["bands"]), kind=known["kind"])
        return {"model": model, "prior": prior, "offset": offset, "pit_maps": maps}
