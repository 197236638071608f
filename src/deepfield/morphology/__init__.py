"""Galaxy morphology: what does this galaxy look like? Images in, calibrated classes or votes out.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfield.core.lazy import lazy

if TYPE_CHECKING:
    from deepfield.core.nets.stretch import Stretch
    from deepfield.data.images.collection import Images
    from deepfield.data.images.read import cutouts, read
    from deepfield.morphology.explore import Index, anomaly, embed, rank, similar
    from deepfield.morphology.labels import read_votes
    from deepfield.morphology.model import MorphologyConfig, MorphologyModel
    from deepfield.morphology.predict import export, predict, predict_file
    from deepfield.morphology.prediction import MorphologyPrediction, read_prediction
    from deepfield.morphology.run import run
    from deepfield.morphology.score import Score, score
    from deepfield.morphology.simulate import Simulated, simulate
    from deepfield.morphology.targets import targets
    from deepfield.morphology.train import Fit, fit, train
    from deepfield.morphology.trees import classes, tree, trees

    load = MorphologyModel.load

_HOMES = {
    "explore": ("Index", "anomaly", "embed", "rank", "similar"),
    "deepfield.data.images.collection": ("Images",),
    "labels": ("read_votes",),
    "model": ("MorphologyConfig", "MorphologyModel"),
    "predict": ("export", "predict", "predict_file"),
    "prediction": ("MorphologyPrediction", "read_prediction"),
    "deepfield.data.images.read": ("cutouts", "read"),
    "run": ("run",),
    "score": ("Score", "score"),
    "simulate": ("Simulated", "simulate"),
    "deepfield.core.nets.stretch": ("Stretch",),
    "targets": ("targets",),
    "train": ("Fit", "fit", "train"),
    "trees": ("classes", "tree", "trees"),
}

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

lazy(__name__, _HOMES, saved_model="MorphologyModel")
