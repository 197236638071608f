"""From a model and images to class probabilities or vote fractions, in memory or file to file."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfield.data.images.collection import Images
from deepfield.data.images.serve import (
    Counts,
    check,
    checked_target,
    codes,
    features_of,
    identifiers,
    identity,
    open_images,
    serve_file,
    tell_unserved,
)
from deepfield.morphology.model import MorphologyModel
from deepfield.morphology.prediction import MorphologyPrediction

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("deepfield")


def predict(model: MorphologyModel, images: Images, *, device: str = "auto") -> MorphologyPrediction:
    """What every image shows, in order; broken images are NaN, and a warning counts them.

    Parameters
    ----------
    model : MorphologyModel
    images : Images
        With the model's bands and pixels on a side, as :func:`deepfield.morphology.read` gives them.
    device : str
        Where the net works; "auto" takes the accelerator where there is one.

    Raises
    ------
    DeepfieldError
        If there is no such device, or the images have another number of bands or another size, or are bytes where
        the model takes fluxes.
    """
    prediction = answer(model, *features_of(model.on(device), images))
    tell_unserved(prediction.reasons)
    return prediction


def answer(model: MorphologyModel, features: Tensor, reasons: NDArray[np.str_]) -> MorphologyPrediction:
    """The prediction behind features (N, V, F) of :meth:`MorphologyModel.features`."""
    head, flat = model.calibrated(features)
    return MorphologyPrediction(head, flat, answers=model.answers, reasons=reasons)


def predict_file(
    model: str | os.PathLike[str],
    images: Any,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    progress: bool = True,
    **options: Any,
) -> Counts:
    """Predictions for a file or folder of images to Parquet, in order; a killed run goes on where it stopped.

    Parameters
    ----------
    model : path
        A model folder, or the name of a model that comes with the package.
    images : path
        What :func:`deepfield.morphology.read` takes; ``options`` are its own.
    out : path
        ``.parquet``.
    device : str
        As for :func:`predict`.

    Raises
    ------
    DeepfieldError
        If ``out`` is no Parquet file, or the model or the images are missing or do not fit.
    """
    from deepfield.core.prediction_files import KEY, describe

    target = checked_target(out, images)
    served = MorphologyModel.load(model).on(device)
    stamps = open_images(served, images, **options)
    check(served, stamps)
    nothing = served.features(torch.zeros(1, len(served.bands), served.side, served.side))
    metadata = {KEY: describe(answer(served, nothing, np.array([""])))}
    return serve_file(
        stamps,
        target,
        lambda part: _arrow(served, part).replace_schema_metadata(metadata),
        job={"source": str(images), "model": identity(model), "options": str(options)},
        progress=progress,
    )


def _arrow(model: MorphologyModel, part: Images) -> pa.Table:
    """The rows of one batch as they stand in the file."""
    import pyarrow as pa

    from deepfield.core.prediction_files import feature_column

    found = answer(model, *features_of(model, part))
    arrays: dict[str, Any] = {"object_id": pa.array(identifiers(part))}
    arrays |= {name: pa.array(values) for name, values in found.columns().items()}
    arrays["reason"] = pa.array(found.reasons.tolist(), pa.string())
    arrays["reason_code"] = pa.array(codes(found.reasons))
    arrays["features"] = feature_column(found.features.numpy())
    return pa.table(arrays)


class _Answers(nn.Module):
    """Raw pixels (N, B, S, S) to class probabilities (N, C), or concentrations (N, M, A) of each member."""

    def __init__(self, model: MorphologyModel) -> None:
        super().__init__()
        self.net, self.size, self.temperature = model.served, len(model.answers), model.temperature
        self.heads: Any = nn.ModuleList(getattr(model.model.head, "members", [model.model.head]))
        self.votes = model.tree is not None

    def forward(self, x: Tensor) -> Tensor:
        features = self.net(x).unflatten(1, (-1, self.size))
        if self.votes:
            found = [head.concentrations(features[:, k]) for k, head in enumerate(self.heads)]
            return torch.stack(found, 1) / self.temperature
        log_p = features.softmax(-1).mean(1).clamp_min(1e-37).log()
        return (log_p / self.temperature).softmax(-1)


def export(model: MorphologyModel | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a model as ONNX: raw pixels (N, B, side, side) as float32 in, "answers" out.

    Answers are class probabilities (N, C), or for votes the concentrations (N, members, A) of the posterior. The
    file's metadata has their names.
    """
    from deepfield.scale.onnx import write_graph

    loaded = model if isinstance(model, MorphologyModel) else MorphologyModel.load(model)
    card = {"morphology": loaded.describe(), "answers": loaded.answers}
    example = torch.rand(2, len(loaded.bands), loaded.side, loaded.side)
    write_graph(_Answers(loaded).eval(), example, path, output="answers", card=json.loads(json.dumps(card)))
