"""Tables of parameters and outputs: in memory, or from files that a cluster has written."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.files import atomic
from deepfield.core.table import Table, no_column, shorten
from deepfield.data import files
from deepfield.inference.priors import Prior, places

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")

DATA = "x"
"""The column that holds the data, if they stand in one."""


@dataclass(frozen=True)
class Simulations:
    """Parameters and the data that a simulator made of them, row by row; all of them finite.

    Parameters
    ----------
    theta : Array (N, D)
    x : Array (N, ...)
        A vector, a sequence (channels, length) or a map (channels, height, width) for each row.
    names : tuple of str
        Of the parameters.
    lost : dict
        How many simulations were left out, by reason.
    columns : tuple of str
        Names of the data's columns in the table they were read from; none where they have no names.

    Examples
    --------
    >>> table = Simulations.of([[0.1], [0.2], [0.3]], [[1.0], [np.nan], [3.0]], Prior({"a": (0, 1)}))
    >>> len(table), table.lost
    (2, {'not finite': 1})
    """

    theta: Array
    x: Array
    names: tuple[str, ...]
    lost: dict[str, int] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    @classmethod
    def of(cls, theta: ArrayLike, x: ArrayLike, prior: Prior, *, lost: Mapping[str, int] | None = None) -> Self:
        """Check and clean: rows with NaN or infinite numbers are left out and counted.

        Raises
        ------
        TableError
            If the numbers of rows differ, nothing is left, or parameters lie outside the prior.
        """
        rows = prior.rows(theta)
        data = np.asarray(x, dtype=np.float64)
        data = data[:, None] if data.ndim == 1 else data
        if len(data) != len(rows):
            raise TableError(f"{len(rows)} rows of parameters and {len(data)} of data: one of each is needed")
        counts = dict(lost or {})
        good = np.isfinite(rows).all(1) & np.isfinite(data.reshape(len(data), -1)).all(1)
        if not good.all():
            counts["not finite"] = counts.get("not finite", 0) + int((~good).sum())
        if not good.any():
            told = ", ".join(f"{n} {why}" for why, n in counts.items()) or "the table is empty"
            raise TableError(f"no simulation is left: {told}")
        rows, data = rows[good], data[good]
        outside = ~prior.inside(rows)
        if outside.any():
            column = np.argmax(_outside(rows, prior.support()).sum(0))
            low, high = prior.support()[column]
            least, most = rows[:, column].min(), rows[:, column].max()
            raise TableError(
                f"{outside.sum()} of {len(rows)} simulations lie outside the prior, most in "
                f"'{prior.names[column]}', which goes from {least:.4g} to {most:.4g} and "
                f"in the prior from {low:.4g} to {high:.4g}: give the prior the simulations were drawn from"
            )
        if counts:
            total = len(rows) + sum(counts.values())
            told = ", ".join(f"{n} {why}" for why, n in counts.items())
            log.warning(
                "of %d simulations %s; they are left out, so the posterior is that among those that succeed",
                total,
                told,
            )
        return cls(rows, data, prior.names, counts)

    def __len__(self) -> int:
        return len(self.theta)

    def __repr__(self) -> str:
        return f"Simulations({len(self):,} of {', '.join(self.names)}; data {self.x.shape[1:]}; lost {self.lost})"

    def __getitem__(self, rows: Any) -> Self:
        return type(self)(self.theta[rows], self.x[rows], self.names, columns=self.columns)

    def marginal(self, names: Sequence[str]) -> Self:
        """The same data with some of the parameters alone, in this table's order; the others count as noise.

        With :meth:`Prior.marginal` an estimator learns the posterior of these parameters, the others integrated
        out, which is less to learn than all of them together (Miller et al. 2021).

        Raises
        ------
        DeepfieldError
            If a name is unknown, or none is given.

        Examples
        --------
        >>> Simulations.of([[0.1, 0.9]], [[1.0]], Prior({"a": (0, 1), "b": (0, 1)})).marginal(["b"]).theta
        array([[0.9]])
        """
        kept = places(self.names, names)
        return replace(self, theta=self.theta[:, kept], names=tuple(self.names[i] for i in kept))

    def split(self, fraction: float, *, seed: int) -> tuple[Self, Self]:
        """Two sets of rows at random, as :meth:`deepfield.core.table.Table.split`."""
        order = np.random.default_rng(seed).permutation(len(self))
        first = round(fraction * len(self))
        return self[np.sort(order[:first])], self[np.sort(order[first:])]

    def digest(self) -> str:
        """Sha256 of names, parameters and data."""
        sha = hashlib.sha256("|".join(self.names).encode())
        for part in (self.theta, self.x):
            sha.update(str(part.shape).encode())
            sha.update(np.ascontiguousarray(part).tobytes())
        return sha.hexdigest()

    @classmethod
    def read(cls, path: str | os.PathLike[str], prior: Prior, *, data: Sequence[str] = ()) -> Self:
        """A finished table: Parquet, HDF5, FITS, CSV, or ``.npz`` with arrays.

        Parameters
        ----------
        path
            Columns named as the parameters of the prior (or, in ``.npz``, one array ``theta``); the data in a
            column ``x``, in the columns named by ``data``, or in all other numeric columns in their order.
        prior : Prior
        data : sequence of str

        Raises
        ------
        TableError
            If the file or a column is missing or makes no sense.
        """
        columns = _npz(Path(path)) if Path(path).suffix == ".npz" else _columns(files.read(path))
        if "theta" in columns and not set(prior.names) <= set(columns):
            theta = columns.pop("theta")
        else:
            for name in prior.names:
                if name not in columns:
                    raise TableError(f"'{path}': {no_column(name, columns)}")
            theta = np.stack([columns.pop(name) for name in prior.names], -1)
        for name in data:
            if name not in columns:
                raise TableError(f"'{path}': {no_column(name, columns)}")
        chosen = list(data) or ([DATA] if DATA in columns else list(columns))
        if not chosen:
            raise TableError(f"'{path}' has parameters ({shorten(prior.names)}) and no data")
        try:
            parts = [np.asarray(columns[name], dtype=np.float64) for name in chosen]
        except (TypeError, ValueError):
            raise TableError(f"'{path}': the data ({shorten(chosen)}) should be numbers; name them") from None
        x = parts[0] if len(parts) == 1 else np.concatenate([p.reshape(len(p), -1) for p in parts], 1)
        return replace(cls.of(theta, x, prior), columns=() if chosen == [DATA] else tuple(chosen))

    def write(self, path: str | os.PathLike[str]) -> None:
        """To ``.npz`` (arrays ``theta`` and ``x``), or a table format by its ending."""
        target = Path(path)
        if target.suffix == ".npz":
            with atomic(target) as temporary:
                np.savez(temporary, theta=self.theta, x=self.x)
            return
        table = Table({name: column for name, column in zip(self.names, self.theta.T)})
        table[DATA] = self.x
        files.write(table, target)


def noise_root(noise: ArrayLike, x: Array) -> Array:
    """A matrix (K, K) that makes noise for data (N, K) of unit noise: from deviations (K,) or a covariance (K, K).

    Raises
    ------
    DeepfieldError
        If the shape is not that of the data, or the covariance not one.

    Examples
    --------
    >>> noise_root([2.0, 3.0], np.zeros((5, 2))).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    given = np.asarray(noise, dtype=float)
    if x.ndim != 2 or given.shape not in ((x.shape[1],), (x.shape[1],) * 2):
        raise DeepfieldError(
            f"noise is a deviation for each number of a vector, or their covariance: shape {given.shape} does not "
            f"fit data of shape {x.shape[1:]}"
        )
    if given.ndim == 1 and np.isfinite(given).all() and (given >= 0).all():
        return np.diag(given)
    try:
        root = np.linalg.cholesky(given) if given.ndim == 2 and np.allclose(given, given.T) else given * np.nan
    except np.linalg.LinAlgError:
        root = given * np.nan
    if not np.isfinite(root).all():
        raise DeepfieldError("noise should be positive: deviations, or a symmetric positive definite covariance")
    return root


def add_noise(simulations: Simulations, root: Array, *, seed: int) -> Simulations:
    """The same simulations with one draw of noise; ``root`` as :func:`noise_root` gives it."""
    noise = np.random.default_rng(seed).standard_normal(simulations.x.shape) @ root.T
    return Simulations(simulations.theta, simulations.x + noise, simulations.names)


def _outside(rows: Array, bounds: Array) -> NDArray[np.bool_]:
    return (rows < bounds[:, 0]) | (rows > bounds[:, 1])


def _columns(table: Table) -> dict[str, Any]:
    return {name: _plain(table[name]) for name in table.colnames}


def _plain(column: Any) -> Any:
    if column.dtype.kind == "O" and len({np.shape(row) for row in column}) == 1:
        return np.stack([np.asarray(row) for row in column])  # lists of one length
    real = column.dtype.kind == "f"
    return np.ma.filled(np.ma.asarray(column), np.nan) if real else np.asarray(column)


def _npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise TableError(
            f"cannot read '{path}': {str(error).splitlines()[0] if str(error) else 'damaged'}"
        ) from None
