"""From a model and a catalogue to redshift densities, in memory or file to file."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

import deepfield
from deepfield.core.calibrators import CalibrationError
from deepfield.core.devices import one_thread
from deepfield.core.distributions import GaussianMixture
from deepfield.core.errors import DeepfieldError
from deepfield.core.heads import GivenMixture
from deepfield.core.prediction import Prediction
from deepfield.core.store import META
from deepfield.core.table import Table
from deepfield.photoz.features import warn_absent, warn_uncorrected
from deepfield.photoz.model import ALWAYS, PhotozModel
from deepfield.photoz.prediction import RedshiftPrediction
from deepfield.photoz.read import as_table, read, read_batches

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("deepfield")
_ROWS = 65_536


@dataclass
class Counts:
    """Rows of a prediction run, and why some of them could not be served."""

    rows: int = 0
    unserved: dict[str, int] = field(default_factory=dict)

    def add(self, why: NDArray[np.int8], texts: list[str]) -> None:
        """Count the codes of a batch; 0 means served."""
        self.rows += len(why)
        for code, n in enumerate(np.bincount(why, minlength=len(texts))):
            if code and n:
                self.unserved[texts[code]] = self.unserved.get(texts[code], 0) + int(n)

    def summary(self) -> str:
        """One line."""
        reasons = "; ".join(f"{n:,}: {reason}" for reason, n in sorted(self.unserved.items()))
        told = f"{sum(self.unserved.values()):,} rows have NaN ({reasons})"
        if any(reason.endswith(ALWAYS) for reason in self.unserved):
            told += "; to serve rows without a band, train on data with such gaps, or with --bands of the others"
        return told


def predict(model: PhotozModel, table: Table) -> RedshiftPrediction:
    """A redshift density for every row, in order; rows that cannot be served are NaN, and a warning counts them.

    Parameters
    ----------
    model : PhotozModel
    table : Table
        With the model's bands, as ``photoz.read`` and ``photoz.simulate`` give it; or what ``photoz.read`` takes.

    Raises
    ------
    TableError
        If a band of the model is not in the table.
    """
    return serve(model, as_table(table, bands=model.bands, gaps=model.missing))[0]


def _warn(model: PhotozModel, table: Table, x: torch.Tensor) -> None:
    """What the user of a model should know before it meets this catalogue, or its first rows."""
    warn_uncorrected(table, model.config.extinction)
    warn_absent(table, model.missing)
    if strange := model.strange(x):
        log.warning(
            "%s: their densities are extrapolations. Are units (AB magnitudes, fluxes nJy) and zero points those "
            "of the training catalogue?",
            strange,
        )
    if model.structured:
        log.warning(
            "this model's densities have the redshift structure of its training field: they are right for objects "
            "of that field alone"
        )


def serve(model: PhotozModel, table: Table) -> tuple[RedshiftPrediction, NDArray[np.int8]]:
    """The densities of :func:`predict` and the reason code of each row, with the warnings that are due."""
    x = model.encode(table)
    _warn(model, table, x)
    prediction, why = model.predict_raw(x)
    counts = Counts()
    counts.add(why, model.reason_texts)
    if counts.unserved:
        log.warning("%s", counts.summary())
    return prediction, why


_POINTS = {
    "zmode": "mode",
    "zmean": "mean",
    "zmedian": "median",
    "z_std": "std",
    "z_lo68": "low",
    "z_hi68": "high",
}


def columns_of(prediction: Prediction, model: PhotozModel | None = None) -> dict[str, NDArray[Any]]:
    """The point columns that the field's tools read: zmode, zmean, zmedian, z_lo68, z_hi68, z_std, p_<class>."""
    found = prediction.summary(0.6827)
    columns = {column: found[name] for column, name in _POINTS.items()}
    if model is not None and model.labels:
        shares = class_probabilities(model, prediction)
        columns |= {f"p_{label}": shares[:, c] for c, label in enumerate(model.labels)}
    return {name: values.astype(np.float32) for name, values in columns.items()}


def _mixture(prediction: Prediction) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Weights, means and widths (N, K), before any recalibration."""
    density = prediction.distribution()
    assert isinstance(density, GaussianMixture)
    return density.weights.numpy(), density.means.numpy(), density.stds.numpy()


def _by_class(model: PhotozModel, values: Any) -> Any:
    """Mixture parameters (N, members * classes * K) as (N, members, classes, K)."""
    if not model.labels:
        raise DeepfieldError("this model was trained without classes: train with --classes COLUMN")
    return values.reshape(len(values), -1, len(model.labels), model.config.components)


def class_probabilities(model: PhotozModel, prediction: Prediction) -> NDArray[np.float64]:
    """p(class | photometry) (N, classes), in the order of ``model.labels``.

    Raises
    ------
    DeepfieldError
        If the model was not trained with classes.
    """
    return _by_class(model, _mixture(prediction)[0]).sum((1, 3))


def density_of_class(model: PhotozModel, prediction: Prediction, label: str) -> Prediction:
    """The redshift densities p(z | photometry, class) if every object were of class ``label``."""
    if label not in model.labels:
        raise DeepfieldError(f"no class '{label}'; the model knows: {', '.join(model.labels) or 'none'}")
    parts = [_by_class(model, values)[:, :, model.labels.index(label)] for values in _mixture(prediction)]
    weights, means, stds = (part.reshape(len(part), -1) for part in parts)
    return Prediction.mixture(weights / weights.sum(1, keepdims=True), means, stds)


def predict_file(
    model: str | os.PathLike[str],
    catalog: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    engine: str = "torch",
    columns: Any = None,
    workers: int = 0,
    progress: bool = True,
) -> Counts:
    """Densities for a catalogue file, to Parquet (streamed, resumable) or to a qp HDF5 ensemble (in memory).

    Parameters
    ----------
    model : path
        A model folder, or an exported ``.onnx``.
    catalog : path
        Any format that :func:`deepfield.photoz.read` knows.
    out : path
        ``.parquet`` or ``.hdf5``.
    engine : str
        "torch" or "onnx".
    columns
        As for :func:`deepfield.photoz.read`.
    workers : int
        Threads; 0 takes one per core.

    Raises
    ------
    DeepfieldError
        If the ending of ``out`` is neither, or the model, the catalogue or a band is missing.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in (".parquet", ".hdf5", ".h5") or Path(out).is_dir():
        raise DeepfieldError(f"densities are written to .parquet or .hdf5, not to '{out}'")
    if Path(out).exists() and Path(catalog).exists() and os.path.samefile(out, catalog):
        raise DeepfieldError(f"'{out}' is the catalogue itself: give another --out")
    if workers < 0:
        raise DeepfieldError(f"workers is a number of threads, or 0 for one per core, not {workers}")
    served, identity = open_model(model, engine)
    counts = Counts()
    if suffix == ".parquet":
        _to_parquet(served, identity, catalog, Path(out), counts, columns, workers, progress)
    else:
        _to_qp(served, catalog, Path(out), counts, columns)
    return counts


def open_model(path: str | os.PathLike[str], engine: str = "torch") -> tuple[PhotozModel, str]:
    """A saved model on the engine asked for, and the digest that identifies it.

    Raises
    ------
    DeepfieldError
        If the engine is unknown, or the model is missing or damaged.
    """
    source = Path(path)
    if engine not in ("torch", "onnx"):
        raise DeepfieldError(f"engine '{engine}' is neither 'torch' nor 'onnx'")
    if source.suffix == ".onnx":
        return _open_onnx(source)
    model = PhotozModel.load(source)
    identity = hashlib.sha256((source / META).read_bytes()).hexdigest()
    if engine == "torch":
        return model, identity
    with tempfile.TemporaryDirectory() as scratch:
        exported = Path(scratch) / "model.onnx"
        export(model, exported)
        return _open_onnx(exported)[0], f"onnx:{identity}"


def _open_onnx(path: Path) -> tuple[PhotozModel, str]:
    from deepfield.scale.onnx import OnnxMixture

    runtime = OnnxMixture(path)
    model = PhotozModel.rebuild(runtime.card.get("photoz", {}), runtime.card.get("card", {}), model=runtime)
    return model, hashlib.sha256(path.read_bytes()).hexdigest()


def export(model: PhotozModel | str | os.PathLike[str], path: str | os.PathLike[str]) -> None:
    """Write a model as ONNX: fluxes and errors in nJy (N, 2B) in, weights, means and widths (N, 3K) out."""
    from deepfield.scale import onnx

    loaded = model if isinstance(model, PhotozModel) else PhotozModel.load(model)
    card = {"photoz": loaded.describe(), "card": {k: v for k, v in loaded.card.items() if k != "history"}}
    onnx.export(loaded.model, path, n_inputs=2 * len(loaded.bands), card=card)


def _to_parquet(
    served: PhotozModel,
    identity: str,
    catalog: Any,
    out: Path,
    counts: Counts,
    columns: Any,
    workers: int,
    progress: bool,
) -> None:
    from deepfield.core.prediction_files import KEY, describe
    from deepfield.data.files import header
    from deepfield.scale.stream import stream_parquet

    def batches(start: int) -> Iterator[tuple[int, Table]]:
        told = False
        for table in read_batches(
            catalog, columns=columns, bands=served.bands, gaps=served.missing, rows=_ROWS, start=start
        ):
            if not told:
                _warn(served, table, served.encode(table))
                told = True
            yield start, table
            start += len(table)

    job = {"source": os.path.abspath(catalog), "model": identity, "columns": str(columns), **_state(catalog)}
    job["version"] = deepfield.__version__  # another may write other columns
    # The description is the same for all rows, and with many calibration rows long.
    nothing = served.predict_raw(torch.full((1, 2 * len(served.bands)), torch.nan), dtype=torch.float32)[0]
    metadata = {KEY: describe(_native(nothing)[0])}
    with one_thread():  # several batches at once beat several threads on one batch
        stream_parquet(
            batches,
            lambda batch: _arrow(served, *batch).replace_schema_metadata(metadata),
            out,
            job=job,
            total=header(catalog).rows,
            workers=workers,
            progress=progress,
        )
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(out).iter_batches(columns=["reason_code"]):
        counts.add(batch.column(0).to_numpy(), served.reason_texts)


def _state(catalog: Any) -> dict[str, Any]:
    """Size and time of a catalogue, which tell whether it is still the one that a killed run had read."""
    from deepfield.data._arrow import parts

    place = Path(os.fspath(catalog).split("::")[0])
    found = [path.stat() for path in (parts(place) if place.is_dir() else [place])]
    return {
        "files": len(found),
        "size": sum(s.st_size for s in found),
        "time": max((s.st_mtime for s in found), default=0),
    }


def _arrow(served: PhotozModel, start: int, table: Table) -> pa.Table:
    """The rows of one batch as they stand in the file."""
    import pyarrow as pa

    from deepfield.core.prediction_files import feature_column

    prediction, why = served.predict_raw(served.encode(table), dtype=torch.float32)
    native, rest = _native(prediction)
    arrays: dict[str, Any] = {"object_id": _ids(table, start)}
    arrays |= {name: pa.array(values) for name, values in columns_of(native, served).items()}
    arrays["reason"] = pa.DictionaryArray.from_arrays(pa.array(why), pa.array(served.reason_texts))
    arrays["reason_code"] = pa.array(why)
    arrays["features"] = feature_column(native.features.numpy())
    if rest is not None:
        arrays["group"] = pa.array(rest)
    return pa.table(arrays)


def _native(prediction: Prediction) -> tuple[Prediction, NDArray[np.int64] | None]:
    """The prediction as weights, means and widths, where it is a mixture: what other tools understand."""
    given = isinstance(prediction.head, GivenMixture)
    if given or not isinstance(prediction.distribution(slice(0, 1)), GaussianMixture):
        return prediction, prediction.group
    options: dict[str, Any] = {
        "pit_map": prediction.pit_map,
        "conformal": prediction.conformal,
        "group": prediction.group,
        "dtype": torch.float32,
    }
    return Prediction.mixture(*_mixture(prediction), **options), prediction.group


def _ids(table: Table, start: int = 0) -> NDArray[Any]:
    """The catalogue's identifiers, missing ones -1 or empty; or row numbers."""
    if "id" not in table.colnames:
        return np.arange(start, start + len(table))
    ids = np.ma.asarray(table["id"])
    return np.asarray(ids.filled(-1 if ids.dtype.kind in "iuf" else "") if np.ma.is_masked(ids) else ids)


def _to_qp(served: PhotozModel, catalog: Any, out: Path, counts: Counts, columns: Any) -> None:
    from deepfield.photoz.export_qp import write_qp

    table = read(catalog, columns=columns, bands=served.bands, gaps=served.missing)
    x = served.encode(table)
    _warn(served, table, x)
    prediction, why = served.predict_raw(x)
    counts.add(why, served.reason_texts)
    extra = columns_of(prediction, served) | {"reason_code": why}
    # qp has no place for the conformal correction, so the wide interval is written out beside the narrow one.
    with contextlib.suppress(CalibrationError):
        extra["z_lo95"], extra["z_hi95"] = prediction.interval(0.9545)
    write_qp(prediction, out, ids=_ids(table), extra=extra)
