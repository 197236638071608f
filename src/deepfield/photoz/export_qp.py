"""Redshift densities as ``qp`` files, the HDF5 form that the tools of LSST DESC (RAIL and its kin) read.

Layout of qp 1.1: group ``meta`` names the parameterisation, ``data`` holds its arrays and ``ancil`` the columns
beside them. Gaussian mixtures keep their own parameters (``mixmod``); other densities are
given on points of their own (``interp_irregular``). Writing needs h5py alone, so that a catalogue can be
streamed without loading qp.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.core.optional import require
from deepfield.core.table import shorten
from deepfield.trust.metrics import nodes

LEVEL = 0.6827
POINTS = ("zmode", "zmean", "zmedian", "z_lo68", "z_hi68")
_POINTS = 256
_ROWS = 4096


def point_columns(prediction: Any) -> dict[str, NDArray[np.float64]]:
    """The columns that go beside a density, (N,) each: zmode, zmean, zmedian, z_lo68, z_hi68.

    The interval is the prediction's own at 68.27 per cent: conformal where it was calibrated.
    """
    if not len(prediction):
        return {name: np.empty(0) for name in POINTS}
    low, high = prediction.interval(LEVEL)
    return {
        "zmode": prediction.mode,
        "zmean": prediction.mean,
        "zmedian": prediction.median,
        "z_lo68": low,
        "z_hi68": high,
    }


class QpWriter:
    """Appends predictions to an open qp file, chunk by chunk; made by :func:`qp_writer`."""

    def __init__(self, file: h5py.File) -> None:
        self._file = file
        self._names: set[str] = set()
        self._kind = ""
        self.rows = 0

    def append(
        self, prediction: Any, ids: ArrayLike | None = None, extra: Mapping[str, ArrayLike] | None = None
    ) -> None:
        """Write the densities of some more objects.

        Parameters
        ----------
        prediction : Prediction
            N scalar densities; NaN rows stay in their place.
        ids : (N,) integers or strings, optional
            Written as ``object_id``; row numbers unless given.
        extra : mapping of (N,) arrays, optional
            More columns; those of :func:`point_columns` are computed unless they are among them.

        Raises
        ------
        DeepfieldError
            If a column has another length, or columns differ between calls.
        """
        columns = _columns(prediction, ids, extra, start=self.rows)
        kind, meta, data = _parameters(prediction)
        if self._kind and (kind != self._kind or set(columns) != self._names):
            raise DeepfieldError(
                "predictions appended to one file must have the same form and the same columns; here the form was "
                f"{self._kind} and is {kind}, and columns differ in {shorten(sorted(self._names ^ set(columns)))}"
            )
        if not self._kind:
            for name, value in meta.items():
                self._file[f"meta/{name}"] = value
        self._kind, self._names = kind, set(columns)
        for name, values in data.items():
            self._extend(f"data/{name}", values)
        for name, values in columns.items():
            self._extend(f"ancil/{name}", values)
        self.rows += len(prediction)

    def _extend(self, name: str, values: NDArray[Any]) -> None:
        if name not in self._file:
            tail = values.shape[1:]
            self._file.create_dataset(
                name, data=values, maxshape=(None, *tail), chunks=(_ROWS, *tail), dtype=values.dtype
            )
            return
        column = self._file[name]
        if values.dtype.kind == "S" and values.dtype.itemsize > column.dtype.itemsize:
            before = column[:].astype(values.dtype)
            del self._file[name]
            self._extend(name, np.concatenate([before, values]))
            return
        column.resize(self.rows + len(values), axis=0)
        column[self.rows :] = values


def _columns(
    prediction: Any, ids: ArrayLike | None, extra: Mapping[str, ArrayLike] | None, *, start: int = 0
) -> dict[str, NDArray[Any]]:
    """What stands beside the densities, as qp stores it; row numbers count from ``start``."""
    own = np.arange(start, start + len(prediction)) if ids is None else ids
    more = dict(extra or {})
    points = {} if more.keys() >= set(POINTS) else point_columns(prediction)
    columns = {"object_id": own, **points, **more}
    stored = {name: _storable(np.ma.asarray(given), name) for name, given in columns.items()}
    for name, values in stored.items():
        if values.shape[:1] != (len(prediction),):
            raise DeepfieldError(f"column '{name}' has shape {values.shape} for {len(prediction)} predictions")
    return stored


def _storable(values: Any, name: str) -> NDArray[Any]:
    """Fixed-width bytes for text, as qp stores it; NaN for masked numbers."""
    if np.ma.is_masked(values):
        values = values.astype(np.float64).filled(np.nan) if values.dtype.kind in "iuf" else values.filled()
    plain = np.asarray(values)
    if plain.dtype.kind in "UO":
        encoded = [str(value).encode() for value in plain.ravel()]
        return np.array(encoded or [b""], dtype="S")[: plain.size].reshape(plain.shape)
    if plain.dtype.kind not in "biufS":
        raise DeepfieldError(f"column '{name}' of type {plain.dtype} is neither numbers nor text, as HDF5 needs")
    return plain


def _parameters(prediction: Any) -> tuple[str, dict[str, Any], dict[str, NDArray[Any]]]:
    mixture = prediction.parameters()
    if mixture is not None:
        weights, means, stds = (np.array(part, dtype=np.float32) for part in mixture)
        lost = ~(np.isfinite(weights) & np.isfinite(means) & np.isfinite(stds)).all(1)
        weights[lost] = np.nan
        # qp builds one grid from all means and widths: a NaN among them would spoil every quantile
        for part, filler in ((means, 0.0), (stds, 1.0)):
            part[lost] = np.median(part[~lost]) if (~lost).any() else filler
        meta = {"pdf_name": np.array([b"mixmod"]), "pdf_version": np.array([0])}
        return "mixmod", meta, {"weights": weights, "means": means, "stds": stds}
    points, density = _resolved(prediction)
    meta = {"pdf_name": np.array([b"interp_irregular"]), "pdf_version": np.array([0])}
    return "interp_irregular", meta, {"xvals": points, "yvals": density}


def _resolved(prediction: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (N, J) that follow each density, and the density there, of unit area by the trapezoid rule."""
    points = nodes(prediction, _POINTS)
    density = np.exp(prediction.log_prob(points))
    lost = ~(np.isfinite(points) & np.isfinite(density)).all(1)
    points[lost] = np.linspace(0, 1, _POINTS)  # qp wants increasing points even of a row of NaN
    density[lost] = np.nan
    area = 0.5 * (np.diff(points, axis=1) * (density[:, 1:] + density[:, :-1])).sum(1, keepdims=True)
    return points, density / area


@contextmanager
def qp_writer(path: str | os.PathLike[str]) -> Iterator[QpWriter]:
    """Open a qp file to append predictions to; it appears when the block ends well."""
    with atomic(path) as temporary, h5py.File(temporary, "w") as file:
        yield QpWriter(file)


def write_qp(
    prediction: Any,
    path: str | os.PathLike[str],
    ids: ArrayLike | None = None,
    extra: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write N scalar densities as a qp HDF5 ensemble, in their order.

    Parameters
    ----------
    prediction : Prediction
        N scalar densities; the rows that could not be served have NaN weights and NaN columns.
    path : path
        Ending in .hdf5, which qp looks at.
    ids : (N,) integers or strings, optional
        Written as ``object_id``; row numbers unless given.
    extra : mapping of (N,) arrays, optional
        More columns.

    Raises
    ------
    DeepfieldError
        If the ending is another or a column has another length.

    Examples
    --------
    >>> import tempfile
    >>> from deepfield.core.prediction import Prediction
    >>> path = Path(tempfile.mkdtemp()) / "pz.hdf5"
    >>> write_qp(Prediction.mixture([[1.0]], [[0.5]], [[0.1]]), path, ids=[7])
    >>> prediction, columns = read_qp(path)
    >>> columns["object_id"].tolist(), prediction.mean.round(3).tolist()
    ([7], [0.5])
    """
    if Path(path).suffix.lower() not in (".hdf5", ".h5", ".hdf"):
        raise DeepfieldError(f"qp ensembles are HDF5 files: '{path}' should end in .hdf5")
    with qp_writer(path) as writer:
        writer.append(prediction, ids, extra)


def to_qp(prediction: Any, ids: ArrayLike | None = None, extra: Mapping[str, ArrayLike] | None = None) -> Any:
    """N scalar densities as a ``qp.Ensemble`` in memory, with the content that :func:`write_qp` writes.

    Parameters
    ----------
    prediction, ids, extra
        As for :func:`write_qp`; ``ids`` and ``extra`` are columns of the ensemble's ``ancil``.

    Raises
    ------
    MissingExtraError
        If qp is not installed (extra ``photoz``).
    DeepfieldError
        If a column has another length.

    Examples
    --------
    >>> from deepfield.core.prediction import Prediction
    >>> ensemble = to_qp(Prediction.mixture([[1.0]], [[0.5]], [[0.1]]), ids=[7])
    >>> ensemble.ancil["object_id"].tolist(), ensemble.ancil["zmean"].round(3).tolist()
    ([7], [0.5])
    """
    return ensemble(prediction, _columns(prediction, ids, extra))


def ensemble(prediction: Any, columns: Mapping[str, NDArray[Any]]) -> Any:
    """Densities as a ``qp.Ensemble`` with these columns (N, ...) beside them and no others; see :func:`to_qp`."""
    qp = require("qp", extra="photoz")
    kind, _, data = _parameters(prediction)
    return qp.Ensemble(getattr(qp, kind), data=data, ancil=dict(columns))


def is_qp(path: str | os.PathLike[str]) -> bool:
    """Whether a file is HDF5 with the groups of a qp ensemble."""
    if not Path(path).is_file() or not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "meta/pdf_name" in file and "data" in file


def read_qp(path: str | os.PathLike[str], *, grid: ArrayLike | None = None) -> tuple[Any, dict[str, NDArray[Any]]]:
    """Read a qp ensemble, whoever wrote it, as a Prediction and its columns.

    Mixtures (``mixmod``) and densities on a grid (``interp``) are taken as they are; other forms are
    evaluated by qp (extra ``photoz``) on ``grid``, by default 3,001 points over all the quantiles.

    Raises
    ------
    DeepfieldError
        If the file is missing, damaged or of another kind.
    """
    from deepfield.core.prediction import Prediction

    if not is_qp(path):
        raise DeepfieldError(f"{path} is not a qp ensemble, or does not exist")
    try:
        with h5py.File(path, "r") as file:
            kind = file["meta/pdf_name"][0].decode()
            data = {name: values[()] for name, values in file["data"].items()}
            points = file["meta/xvals"][()].ravel() if kind == "interp" else np.empty(0)
            columns = {name: _text(values[()]) for name, values in file.get("ancil", {}).items()}
        if kind == "mixmod":
            weights = data["weights"] / data["weights"].sum(1, keepdims=True)
            lost = 0 * weights.sum(1, keepdims=True)  # NaN in a row that was not served
            return Prediction.mixture(weights, data["means"] + lost, data["stds"] + lost), columns
        if kind == "interp":
            return Prediction.tabulated(points, data["yvals"]), columns
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DeepfieldError(f"{path} is a damaged qp ensemble: {error}") from None
    ensemble = require("qp", extra="photoz").read(str(path))
    if grid is None:
        low, high = np.nanmin(ensemble.ppf(1e-4)), np.nanmax(ensemble.ppf(1 - 1e-4))
        grid = np.linspace(low, high, 3001)
    return Prediction.tabulated(grid, np.maximum(ensemble.pdf(np.asarray(grid)), 0)), columns


def _text(values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype.kind == "S":
        return np.char.decode(values)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
