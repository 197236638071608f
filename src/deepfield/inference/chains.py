"""Draws for other programs (GetDist, ArviZ, anesthetic, any table), and observations from files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.files import atomic
from deepfield.core.optional import require
from deepfield.core.table import Table
from deepfield.core.triangles import triangle
from deepfield.data import files
from deepfield.inference.posterior import Posterior
from deepfield.inference.simulations import DATA

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


def write_chain(theta: ArrayLike, names: Sequence[str], path: str | os.PathLike[str]) -> None:
    """Write draws (n, D): a table by its ending, or GetDist's ``.txt`` with ``.paramnames`` beside it.

    GetDist's rows are weight, -log posterior (0, not known) and parameters; anesthetic reads them too.

    Raises
    ------
    TableError
        If the ending is unknown.
    """
    draws, target = np.asarray(theta, dtype=float), Path(path)
    if target.suffix != ".txt":
        files.write(Table({name: column for name, column in zip(names, draws.T)}), target)
        return
    with atomic(target) as temporary:
        np.savetxt(temporary, np.column_stack([np.ones(len(draws)), np.zeros(len(draws)), draws]))
    with atomic(target.with_suffix(".paramnames")) as temporary:
        temporary.write_text("".join(f"{name}\n" for name in names))


def to_getdist(theta: ArrayLike, names: Sequence[str], **options: Any) -> Any:
    """The draws (n, D) as ``getdist.MCSamples``."""
    module = require("getdist", extra="inference")
    return module.MCSamples(samples=np.asarray(theta, dtype=float), names=list(names), **options)


def to_arviz(theta: ArrayLike, names: Sequence[str]) -> Any:
    """The draws (n, D), or chains (T, C, D) as :class:`Chains` holds them, as ArviZ's posterior."""
    module = require("arviz", extra="inference")
    draws = np.asarray(theta, dtype=float)
    chains = draws[:, None] if draws.ndim == 2 else draws
    return module.from_dict({"posterior": {name: chains[..., i].T for i, name in enumerate(names)}})


def to_anesthetic(theta: ArrayLike, names: Sequence[str], **options: Any) -> Any:
    """The draws (n, D) as ``anesthetic.MCMCSamples``; options are its own, such as ``labels`` and ``logL``."""
    module = require("anesthetic", extra="anesthetic")
    return module.MCMCSamples(data=np.asarray(theta, dtype=float), columns=list(names), **options)


def plot(
    draws: ArrayLike | Mapping[str, ArrayLike],
    names: Sequence[str],
    path: str | os.PathLike[str] | None = None,
    *,
    truth: ArrayLike | None = None,
) -> Figure:
    """A triangle of marginals, and of regions that hold 68 and 95 % of the draws.

    Parameters
    ----------
    draws : array (n, D), or mapping of them
        One posterior, or several by their labels.
    names : sequence of str
        Of the parameters.
    path : path, optional
        Where the figure is written; the ending says how (``.png``, ``.pdf``, ``.svg``).
    truth : array (D,), optional
        Marked by lines.

    Raises
    ------
    DeepfieldError
        If draws or truth have another number of parameters, or the ending is unknown.

    Examples
    --------
    >>> len(plot(np.random.default_rng(0).normal(size=(500, 2)), ["a", "b"], truth=[0.1, 0.2]).axes)
    3
    """
    sets = draws if isinstance(draws, Mapping) else {"posterior": draws}
    if truth is not None and np.shape(truth) != (len(names),):
        raise DeepfieldError(f"the truth is one number for each of {', '.join(names)}, not {np.shape(truth)}")
    figure = triangle(sets, names, truth=truth)
    if path is not None:
        known = figure.canvas.get_supported_filetypes()
        if Path(path).suffix[1:] not in known:
            raise DeepfieldError(f"no figure can be written to '{path}'; endings are {', '.join(sorted(known))}")
        with atomic(path) as temporary:
            figure.savefig(temporary, dpi=200)
    return figure


def read_observation(path: str | os.PathLike[str], posterior: Posterior) -> Array:
    """An observation of a model's shape from ``.npy``, ``.npz``, a table of one row, or a text of numbers.

    Raises
    ------
    TableError
        If the file cannot be read or holds something else.
    """
    place = Path(path)
    shape = posterior.encoding.shape
    try:
        if place.suffix == ".npy":
            found = np.load(place, allow_pickle=False)
        elif place.suffix == ".npz":
            with np.load(place, allow_pickle=False) as file:
                found = file[DATA] if DATA in file.files else file[file.files[0]]
        elif place.suffix in (".hdf5", ".h5") and (alone := _vectors(place)) is not None:
            found = alone
        elif place.suffix in (".txt", ".dat"):
            found = np.loadtxt(place)
        else:
            table = files.read(place)
            columns = [name for name in table.colnames if name not in posterior.prior.names]
            trained = list(posterior.card.get("columns", []))
            if trained and set(trained) & set(columns):  # by name: other columns and another order do no harm
                missing = [name for name in trained if name not in columns]
                if missing:
                    raise TableError(f"'{path}' lacks the columns {', '.join(missing)} of the simulations' data")
                columns = trained
            parts = [np.asarray(table[n], dtype=float).reshape(len(table), -1) for n in columns]
            found = np.asarray(table[DATA]) if DATA in columns else np.concatenate(parts, 1)
        found = np.asarray(found, dtype=np.float64)
    except (OSError, ValueError, IndexError, TypeError, zipfile.BadZipFile) as error:
        if isinstance(error, TableError):
            raise
        raise TableError(
            f"no observation in '{place}': {str(error).splitlines()[0] if str(error) else error}"
        ) from None
    if found.size == int(np.prod(shape)):
        return found.reshape(shape)
    raise TableError(f"'{place}' holds {found.size} numbers of shape {found.shape}; the model takes {shape}")


def _vectors(path: Path) -> Any:
    """The array ``x`` of an HDF5 file where it stands alone, as no table has only columns of vectors; or None."""
    with h5py.File(path, "r") as file:
        found = file.get(DATA)
        return found[()] if isinstance(found, h5py.Dataset) and found.ndim > 1 else None
