"""Galaxy morphology: what does this galaxy look like? Images in, calibrated classes or votes out.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfield.morphology.explore import Index, anomaly, embed, rank, similar
    from deepfield.morphology.images import Images
    from deepfield.morphology.labels import read_votes
    from deepfield.morphology.model import MorphologyConfig, MorphologyModel
    from deepfield.morphology.predict import export, predict, predict_file
    from deepfield.morphology.prediction import MorphologyPrediction, read_prediction
    from deepfield.morphology.read import cutouts, read
    from deepfield.morphology.run import run
    from deepfield.morphology.score import Score, score
    from deepfield.morphology.simulate import Simulated, simulate
    from deepfield.morphology.stretch import Stretch
    from deepfield.morphology.targets import targets
    from deepfield.morphology.train import Fit, fit, train
    from deepfield.morphology.trees import classes, tree, trees

    load = MorphologyModel.load

_HOMES = {
    "explore": ("Index", "anomaly", "embed", "rank", "similar"),
    "images": ("Images",),
    "labels": ("read_votes",),
    "model": ("MorphologyConfig", "MorphologyModel"),
    "predict": ("export", "predict", "predict_file"),
    "prediction": ("MorphologyPrediction", "read_prediction"),
    "read": ("cutouts", "read"),
    "run": ("run",),
    "score": ("Score", "score"),
    "simulate": ("Simulated", "simulate"),
    "stretch": ("Stretch",),
    "targets": ("targets",),
    "train": ("Fit", "fit", "train"),
    "trees": ("classes", "tree", "trees"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Fit",
    "Images",
    "Index",
    "MorphologyConfig",
    "MorphologyModel",
    "MorphologyPrediction",
    "Score",
    "Simulated",
    "Stretch",
    "anomaly",
    "classes",
    "cutouts",
    "embed",
    "export",
    "fit",
    "load",
    "predict",
    "predict_file",
    "rank",
    "read",
    "read_prediction",
    "read_votes",
    "run",
    "score",
    "similar",
    "simulate",
    "targets",
    "train",
    "tree",
    "trees",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return __getattr__("MorphologyModel").load
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


class _Room(ModuleType):
    """A module in which importing ``predict.py`` does not hide the function ``predict`` behind the file's name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
