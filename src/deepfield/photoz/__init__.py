"""Photometric redshifts: how far is this galaxy? Magnitudes in, a calibrated p(z) out.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfield.core.lazy import lazy

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

lazy(__name__, _HOMES, saved_model="PhotozModel")
