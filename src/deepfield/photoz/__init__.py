"""Photometric redshifts: how far is this galaxy? Magnitudes in, a calibrated p(z) out.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfield.photoz.export_qp import to_qp
    from deepfield.photoz.model import PhotozConfig, PhotozModel
    from deepfield.photoz.predict import class_probabilities, density_of_class, export, predict, predict_file
    from deepfield.photoz.read import read
    from deepfield.photoz.run import run
    from deepfield.photoz.score import Score, score
    from deepfield.photoz.simulate import simulate
    from deepfield.photoz.train import Fit, fit, train

    load = PhotozModel.load

_HOMES = {
    "export_qp": ("to_qp",),
    "model": ("PhotozConfig", "PhotozModel"),
    "predict": ("class_probabilities", "density_of_class", "export", "predict", "predict_file"),
    "read": ("read",),
    "run": ("run",),
    "score": ("Score", "score"),
    "simulate": ("simulate",),
    "train": ("Fit", "fit", "train"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Fit",
    "PhotozConfig",
    "PhotozModel",
    "Score",
    "class_probabilities",
    "density_of_class",
    "export",
    "fit",
    "load",
    "predict",
    "predict_file",
    "read",
    "run",
    "score",
    "simulate",
    "to_qp",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        return __getattr__("PhotozModel").load
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


class _Room(ModuleType):
    """A module in which importing ``predict.py`` does not hide the function ``predict`` behind the file's name."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in _HOME):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Room
