"""From a model and images to candidates with their probability, and to posteriors; in memory or to files."""

from __future__ import annotations

import json
import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfield.core.files import atomic
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
from deepfield.lensing.candidates import RARE, Candidates, at_prior, calibrated, candidates, ranks
from deepfield.lensing.measurement import SAMPLES, Measurement
from deepfield.lensing.model import LensingModel

if TYPE_CHECKING:
    import pyarrow as pa

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")


Given = LensingModel | str | os.PathLike[str]


def _of(model: Given, task: str, device: str) -> LensingModel:
    """A model for the task, by itself, its folder or its name."""
    loaded = model if isinstance(model, LensingModel) else LensingModel.load(model)
    return loaded.of_task(task).on(device)


def find(model: Given, images: Images, *, prior: float = RARE, device: str = "auto") -> Candidates:
    """How likely each image shows a lens; broken images are NaN, and a warning counts them.

    Parameters
    ----------
    model : LensingModel or path
        Trained to find; a folder, or the name of a model that comes with the package, is loaded.
    images : Images
        With the model's bands and pixels on a side.
    prior : float
        Share of lenses among the survey's galaxies.
    device : str
        "auto" takes the accelerator where there is one; or "cpu", "cuda", "cuda:1", "mps".

    Raises
    ------
    DeepfieldError
        If the model measures, the prior is none, there is no such device, or the images do not fit.
    """
    finder = _of(model, "find", device)
    found = candidates(finder, *features_of(finder, images), prior=prior)
    tell_unserved(found.reasons)
    return found


def measure(
    model: Given, images: Images, *, samples: int = SAMPLES, seed: int = 0, device: str = "auto"
) -> Measurement:
    """The posterior of each lens's parameters; broken images are NaN, and a warning counts them.

    Every image is taken to be of a lens: that is what :func:`find` is for. Devices are as there; samples are
    drawn on the processor.

    Raises
    ------
    DeepfieldError
        If the model finds, there is no such device, or the images do not fit.
    """
    gauge = _of(model, "measure", device)
    features, reasons = features_of(gauge, images)
    tell_unserved(reasons)
    return Measurement(gauge, features, reasons, samples=samples, seed=seed)


def find_file(
    model: str | os.PathLike[str],
    images: Any,
    out: str | os.PathLike[str],
    *,
    prior: float = RARE,
    measurer: str | os.PathLike[str] | None = None,
    least: float = 0.5,
    device: str = "auto",
    progress: bool = True,
    **options: Any,
) -> Counts:
    """Candidates of a file or folder of images to Parquet, in order with their rank; a killed run goes on.

    Parameters
    ----------
    model, measurer : path
        Model folders, or names of models that come with the package. With a measurer the file has quantiles of the
        parameters, of those images whose probability is ``least`` or more.
    images : path
        What :func:`deepfield.data.images.read.read` takes; ``options`` are its own.
    out : path
        ``.parquet``.
    device : str
        As for :func:`find`.

    Raises
    ------
    DeepfieldError
        If ``out`` is no Parquet file, or the models or the images are missing or do not fit.
    """
    target = checked_target(out, images)
    finder = _of(model, "find", device)
    gauge = _of(measurer, "measure", device) if measurer else None
    stamps = open_images(finder, images, **options)
    check(finder, stamps)
    if gauge is not None:
        check(gauge, stamps)
    at_prior(0.0, finder.prior, prior)

    def answer(part: Images) -> pa.Table:
        found = candidates(finder, *features_of(finder, part), prior=prior)
        columns = found.columns()
        if gauge is not None:
            columns |= _measured(gauge, part, found.probability >= least)
        return _arrow(part, columns, found.reasons)

    whole = target.with_name(f".{target.name}.unranked.parquet")
    job = {
        "source": str(images), "model": identity(model), "prior": prior, "least": least,
        "measurer": identity(measurer) if measurer else "",
    }  # fmt: skip
    counts = serve_file(stamps, whole, answer, job=job, progress=progress)
    _rank(whole, target)
    return counts


def _measured(gauge: LensingModel, part: Images, chosen: NDArray[np.bool_]) -> dict[str, Array]:
    """Columns of a measurement of some of the images, NaN for the others."""
    features = torch.full((len(part), gauge.model.head.n_features), torch.nan)
    rows = np.flatnonzero(chosen)
    if len(rows):
        features[rows] = features_of(gauge, part[rows])[0]
    return Measurement(gauge, features, np.full(len(part), "")).columns()


def _rank(whole: Any, target: Any) -> None:
    """The same rows with a column ``rank``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rank = ranks(pq.read_table(whole, columns=["log_odds"])["log_odds"].to_numpy())
    file, start = pq.ParquetFile(whole), 0
    schema = file.schema_arrow.insert(1, pa.field("rank", pa.int64()))
    with atomic(target) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for group in range(file.num_row_groups):
            rows = file.read_row_group(group)
            column = pa.array(rank[start : start + len(rows)])
            writer.write_table(rows.add_column(1, schema.field("rank"), column))
            start += len(rows)
    whole.unlink()


def measure_file(
    model: str | os.PathLike[str],
    images: Any,
    out: str | os.PathLike[str],
    *,
    device: str = "auto",
    progress: bool = True,
    **options: Any,
) -> Counts:
    """Posterior quantiles of a file or folder of images to Parquet, in order; a killed run goes on.

    Parameters and errors as :func:`find_file`.
    """
    target = checked_target(out, images)
    gauge = _of(model, "measure", device)
    stamps = open_images(gauge, images, **options)
    check(gauge, stamps)

    def answer(part: Images) -> pa.Table:
        features, reasons = features_of(gauge, part)
        return _arrow(part, Measurement(gauge, features, reasons).columns(), reasons)

    return serve_file(
        stamps, target, answer, job={"source": str(images), "model": identity(model)}, progress=progress
    )


def _arrow(part: Images, columns: dict[str, Array], reasons: NDArray[np.str_]) -> pa.Table:
    """The rows of one batch as they stand in the file."""
    import pyarrow as pa

    arrays: dict[str, Any] = {"object_id": pa.array(identifiers(part))}
    arrays |= {name: pa.array(np.asarray(values, dtype=np.float32)) for name, values in columns.items()}
    arrays["reason"] = pa.array(reasons.tolist(), pa.string())
    arrays["reason_code"] = pa.array(codes(reasons))
    return pa.table(arrays)


class _Odds(nn.Module):
    """Raw pixels (N, B, S, S) to calibrated log odds (N, 1) of the mean probability of the members."""

    def __init__(self, model: LensingModel) -> None:
        super().__init__()
        self.net, self.model = model.served, [model]  # in a list: it is no part of the graph

    def forward(self, x: Tensor) -> Tensor:
        odds = self.net(x)
        yes, no = (torch.nn.functional.logsigmoid(sign * odds).exp().mean(1, keepdim=True) for sign in (1, -1))
        raw: Tensor = yes.clamp_min(1e-37).log() - no.clamp_min(1e-37).log()
        return torch.as_tensor(calibrated(raw, self.model[0]))


def export(model: Given, path: str | os.PathLike[str]) -> None:
    """Write a finder as ONNX: raw pixels (N, B, side, side) as float32 in, ``log_odds`` (N, 1) out.

    The file's metadata describes the model.
    """
    from deepfield.scale.onnx import write_graph

    loaded = _of(model, "find", "cpu")
    example = torch.rand(2, len(loaded.bands), loaded.side, loaded.side)
    card = json.loads(json.dumps({"lensing": loaded.describe()}))
    write_graph(_Odds(loaded).eval(), example, path, output="log_odds", card=card)
