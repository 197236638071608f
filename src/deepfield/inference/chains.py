"""Draws for other programs (GetDist, ArviZ, anesthetic, any table), and observations from files."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import TableError
from deepfield.core.files import atomic
from deepfield.core.optional import require
from deepfield.core.table import Table
from deepfield.data import files
from deepfield.inference.posterior import Posterior
from deepfield.inference.simulations import DATA

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
