"""The morphology model: q(classes or votes | image), its configuration, its first layers, its calibration."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.heads import Categorical, Ensemble, Head
from deepfield.core.model import Model
from deepfield.core.nets import ConvNet
from deepfield.core.nets.camera import Camera
from deepfield.core.nets.group import GROUPS
from deepfield.core.nets.stretch import KINDS
from deepfield.core.vision import CHUNK, ImageModel, assemble, in_range
from deepfield.core.votes import Votes
from deepfield.morphology.trees import Tree, from_dict, tree


@dataclass(frozen=True)
class MorphologyConfig:
    """What a morphology model is, and how it is trained.

    Parameters
    ----------
    labels : tuple of str
        The column with the class of each image, names or numbers; or several columns with the share of each class
        (vote fractions, soft labels). By default ``label_name``, ``class`` or ``label``.
    tree : str
        In place of labels, votes over a tree of questions: "gz2", "decals12", "decals5" or "desi".
    group : str
        What the net is blind to by construction: "c8" turns by 45 degrees, "p4" by 90; "d8" and "p4m" the same and
        mirrors too, save for two classes that a mirror exchanges: their probabilities it exchanges, exactly;
        "none" nothing. By default d8 where there are such classes, else c8.
    pixels : int
        Pixels on a side of what the net sees; images are averaged down to it.
    stretch : str
        "linear" for pictures, "asinh" for fluxes, "auto" by the type of the pixels (bytes or floats).
    members : int
        Networks trained together and averaged.
    parameters : int
        Weights of each member, about.
    dropout : float
        Before the last layer.
    epochs : int
        Most passes over the training images; 0 chooses by their number. Training stops earlier if held-out
        images say so.
    batch : int
        Images in a step.
    learning_rate : float
        Of the optimiser, at its highest.
    weight_decay : float
        Of the optimiser.
    rotate : bool
        Whether each step sees the images turned by any angle.
    flip : bool
        Whether each step sees half of the images mirrored.
    swap : tuple of str
        Two classes that a mirror exchanges, such as clockwise and anticlockwise spirals; recognised by itself
        where their names say so.
    zoom : float
        Largest change of scale in each step (0.3: from 1/1.3 to 1.3).
    shift : float
        Largest change of place, as a share of the side.
    blur : float
        Largest further blur: sigma of a Gaussian in the net's pixels.
    noise : float
        Most noise that is added, in units of the spread of all pixels.
    thaw : float
        When training goes on from another model (``init``): the learning rate of all layers over the usual one,
        after the last layer has been fitted alone. 0 leaves the others frozen.
    average : bool
        Whether the net is asked of each image turned by 0, 90, 180 and 270 degrees, and mirrored where the task is
        blind to it, and the answers averaged; calibrated as such. For the group "none", which is not blind to it.
    validation : float
        Share of the images kept from training to stop in time.
    calibration : float
        Share of the images kept from training to calibrate.
    seed : int
        Of everything random.
    """

    labels: tuple[str, ...] = ()
    tree: str = ""
    group: str = ""
    pixels: int = 64
    stretch: str = "auto"
    members: int = 1
    parameters: int = 100_000
    dropout: float = 0.3
    epochs: int = 0
    batch: int = 32
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    rotate: bool = True
    flip: bool = True
    swap: tuple[str, ...] = ()
    zoom: float = 0.3
    shift: float = 0.04
    blur: float = 0.7
    noise: float = 0.2
    thaw: float = 0.1
    average: bool = False
    validation: float = 0.1
    calibration: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("labels", "swap"):  # "a,b" is how a command line says it
            given = getattr(self, name)
            parts = (given,) if isinstance(given, str) else given
            object.__setattr__(
                self, name, tuple(p.strip() for part in parts for p in part.split(",") if p.strip())
            )
        if self.labels and self.tree:
            raise DeepfieldError(f"give labels ({', '.join(self.labels)}) or a tree ('{self.tree}'), not both")
        if self.tree:
            tree(self.tree)  # tells which trees there are
        if self.group and self.group not in GROUPS:
            raise DeepfieldError(f"group '{self.group}' is not one of {', '.join(GROUPS)}")
        if self.stretch not in ("auto", *KINDS):
            raise DeepfieldError(f"stretch '{self.stretch}' is not one of auto, {', '.join(KINDS)}")
        if len(self.swap) not in (0, 2) or len(set(self.swap)) < len(self.swap):
            raise DeepfieldError(f"swap names two classes that a mirror exchanges, not {', '.join(self.swap)}")
        in_range(self)


def head_of(labels: Sequence[str], questions: Tree | None) -> Head:
    """Classes that exclude one another, or votes over a tree."""
    return Votes(list(questions.groups)) if questions else Categorical(len(labels))


def build(
    config: MorphologyConfig,
    net: dict[str, Any],
    *,
    bands: int,
    kind: str,
    labels: Sequence[str] = (),
    questions: Tree | None = None,
) -> Model:
    """The untrained model: a camera, then the members side by side."""

    def member() -> Model:
        head = head_of(labels, questions)
        return Model(ConvNet(bands, head.n_features, **net), head)

    return assemble(Camera(bands, config.pixels, kind), config.members, member, seed=config.seed)


@dataclass(kw_only=True)
class MorphologyModel(ImageModel):
    """A trained model of classes or votes; see :class:`deepfield.core.vision.ImageModel`.

    Parameters
    ----------
    labels : tuple of str
        Class names; empty for votes.
    tree : Tree or None
        The questions, for votes.
    temperature : float
        Divides the log probabilities of classes; of votes it divides the concentrations.
    """

    domain = "morphology"
    settings = MorphologyConfig

    labels: tuple[str, ...] = ()
    tree: Tree | None = None

    @property
    def answers(self) -> tuple[str, ...]:
        """Columns of a prediction: ``p_<class>``, or ``<question>_<answer>``."""
        return self.tree.columns if self.tree else tuple(f"p_{label}" for label in self.labels)

    @property
    def blind_to_mirrors(self) -> bool:
        """Whether a mirror image is the same to the task."""
        return self.config.flip and not self.config.swap

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """Features (N, V, F) of raw pixels (N, B, side, side), from each member, and each turn if averaged."""
        size, average = len(self.answers), self.config.average
        found = []
        for start in range(0, len(x), CHUNK):
            part = x[start : start + CHUNK].to(self.device)
            versions = [part.rot90(k, (2, 3)) for k in range(4 if average else 1)]
            versions += [v.flip(3) for v in versions] if average and self.blind_to_mirrors else []
            found.append(torch.cat([self.served(v).unflatten(1, (-1, size)) for v in versions], 1).cpu())
        return torch.cat(found) if found else torch.zeros(0, self.config.members, size)

    def calibrated(self, features: Tensor) -> tuple[Head, Tensor]:
        """Head and features (N, ...) of the average of all versions (N, V, F), at the model's temperature."""
        if not self.tree:
            p = features.double().softmax(-1).mean(1)
            return Categorical(len(self.labels)), p.clamp_min(1e-300).log() / self.temperature
        head, versions = self.model.head, features.shape[1]
        own = list(head.members) if isinstance(head, Ensemble) else [head]
        heads = [copy.deepcopy(own[v % len(own)]) for v in range(versions)]  # a file shares no tensors
        moved = features - float(np.log(self.temperature))
        return (heads[0] if versions == 1 else Ensemble(heads)), moved.flatten(1)

    def own(self) -> dict[str, Any]:
        """Class names, or the questions."""
        return {"labels": list(self.labels), "tree": asdict(self.tree) if self.tree else None}

    @classmethod
    def restored(cls, described: dict[str, Any], known: dict[str, Any]) -> dict[str, Any]:
        """Class names or questions, and the untrained model."""
        labels = tuple(described["labels"])
        questions = from_dict(described["tree"]) if described["tree"] else None
        if not questions and not 2 <= len(labels) <= 4096:
            raise ModelError("the model asks for a net of absurd size")
        config, net, bands = known["config"], known["net"], len(known["bands"])
        model = build(config, net, bands=bands, kind=known["kind"], labels=labels, questions=questions)
        return {"model": model, "labels": labels, "tree": questions}
