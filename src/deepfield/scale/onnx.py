"""Export to ONNX: raw quantities in, weights, means and widths out, in one file that any runtime serves."""

from __future__ import annotations

import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.files import atomic
from deepfield.core.heads import Ensemble, GivenMixture, Head
from deepfield.core.model import Model
from deepfield.core.optional import require
from deepfield.core.prediction import Prediction
from deepfield.core.warp import Warped

CARD = "deepfield"
BLOCK = 4096  # rows in one call: what lies between the layers then stays in a core's own cache


class MixtureParameters(nn.Module):
    """x (N, F) to (N, 3K): weights, means and widths of the mixture, the average of all members."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        head = model.head.inner if isinstance(model.head, Warped) else model.head
        heads = list(head.members) if isinstance(head, Ensemble) else [head]
        if not all(hasattr(head, "parameters_of") for head in heads):
            kind = type(heads[0]).__name__
            raise DeepfieldError(f"only Gaussian mixtures are exported; this model's head is a {kind}")
        self.model = model
        self.heads: Any = nn.ModuleList(heads)

    def forward(self, x: Tensor) -> Tensor:
        features = self.model.net(x)
        parts = features.split([h.n_features for h in self.heads], -1)
        logw, means, stds = (
            torch.cat(t, -1) for t in zip(*(h.parameters_of(f) for h, f in zip(self.heads, parts)))
        )
        return torch.cat([logw.exp() / len(self.heads), means, stds], -1)


def export(
    model: Model, path: str | os.PathLike[str], *, n_inputs: int, card: dict[str, Any] | None = None
) -> None:
    """Write ``model`` as ONNX with one input "x" (rows, n_inputs) and one output "mixture" (rows, 3K).

    ``card`` is kept in the file's metadata. Where the head maps its target (:class:`deepfield.core.warp.Warped`)
    the output is "mixture_of_u", the mixture of u = G(y), and the card's "map" has G as two lists, y and u, to be
    interpolated linearly: a quantile of y is G^-1 of the quantile of u.

    Raises
    ------
    DeepfieldError
        If the head is no Gaussian mixture.
    """
    wrapped = MixtureParameters(model).eval()
    card = dict(card or {})
    if isinstance(model.head, Warped):
        card["map"] = [model.head.knots.tolist(), model.head.values.tolist()]
    output = "mixture_of_u" if isinstance(model.head, Warped) else "mixture"
    write_graph(wrapped, torch.ones(8, n_inputs), path, output=output, card=card)


def write_graph(
    module: nn.Module, example: Tensor, path: str | os.PathLike[str], *, output: str, card: dict[str, Any]
) -> None:
    """Write a module as ONNX with one input "x", like ``example`` but with any number of rows, and one output.

    ``card`` is kept in the file's metadata.
    """
    onnx = require("onnx", extra="onnx")
    require("onnxscript", extra="onnx")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with atomic(path) as temporary, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (example,),
            str(temporary),
            input_names=["x"],
            output_names=[output],
            dynamic_shapes={"x": {0: torch.export.Dim("rows")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(str(temporary))
        entry = graph.metadata_props.add()
        entry.key, entry.value = CARD, json.dumps(card)
        onnx.save(graph, str(temporary))


class OnnxMixture:
    """An exported model on onnxruntime.

    Parameters
    ----------
    path : path
        Written by :func:`export`.
    threads : int
        Of one call; one thread and several callers is faster for small nets.

    Raises
    ------
    ModelError
        If the file is missing or is no exported deepfield model.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 1) -> None:
        runtime = require("onnxruntime", extra="onnx")
        if not Path(path).is_file():
            raise ModelError(f"no ONNX model at {path}: the file does not exist")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self.session = runtime.InferenceSession(
                os.fspath(path), options, providers=runtime.get_available_providers()
            )
        except Exception as error:
            raise ModelError(f"{path} is not an ONNX model: {str(error).splitlines()[0]}") from None
        metadata = self.session.get_modelmeta().custom_metadata_map
        try:
            self.card: dict[str, Any] = json.loads(metadata[CARD])
            (entry,), (out,) = self.session.get_inputs(), self.session.get_outputs()
            if not isinstance(self.card, dict) or entry.name != "x" or out.shape[1] % 3:
                raise ValueError("not the form that export writes")
            self.n_inputs: int = int(entry.shape[1])
            self.head: Head = GivenMixture(out.shape[1] // 3)
            if "map" in self.card:
                self.head = Warped(self.head, len(self.card["map"][0])).set_map(*self.card["map"])
        except (KeyError, ValueError, TypeError, IndexError):
            raise ModelError(f"{path} was not written by deepfield export, or its card is damaged") from None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Rows (N, F) float32 to mixtures (N, 3K): weights, means, widths."""
        if x.ndim != 2 or x.shape[1] != self.n_inputs:
            raise ModelError(f"this model takes rows of {self.n_inputs} numbers, got an array of shape {x.shape}")
        rows = np.ascontiguousarray(x, dtype=np.float32)
        starts = range(0, max(len(rows), 1), BLOCK)
        return np.concatenate([self.session.run(None, {"x": rows[a : a + BLOCK]})[0] for a in starts])

    def predict(self, x: Tensor) -> Prediction:
        """As a :class:`deepfield.core.model.Model` does."""
        return Prediction(self.head, self(x.numpy()))
