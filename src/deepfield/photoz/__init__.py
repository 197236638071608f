"""Photometric redshifts: how far is this galaxy? Magnitudes in, a calibrated p(z) out."""

from deepfield.photoz.export_qp import to_qp
from deepfield.photoz.model import PhotozConfig, PhotozModel
from deepfield.photoz.predict import class_probabilities, density_of_class, export, predict, predict_file
from deepfield.photoz.read import read
from deepfield.photoz.run import run
from deepfield.photoz.score import Score, score
from deepfield.photoz.simulate import simulate
from deepfield.photoz.train import Fit, fit, train

load = PhotozModel.load

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
