"""Photometric redshifts: how far is this galaxy? Magnitudes in, a calibrated p(z) out."""

from deepfield.photoz.model import PhotozConfig, PhotozModel
from deepfield.photoz.predict import class_probabilities, density_of_class, export, predict, predict_file
from deepfield.photoz.read import read
from deepfield.photoz.train import train

load = PhotozModel.load

__all__ = [
    "PhotozConfig",
    "PhotozModel",
    "class_probabilities",
    "density_of_class",
    "export",
    "load",
    "predict",
    "predict_file",
    "read",
    "train",
]
