"""HDF5 catalogues, through h5py: a group of equally long datasets (RAIL) or a compound dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from deepfield.core.errors import TableError
from deepfield.core.table import shorten
from deepfield.data._source import Columns, Source

META = "__table_column_meta__"


class Hdf5Source(Source):
    """The one table of an HDF5 file; of several the group ``photometry``, or the one named ``group``."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        self.file = h5py.File(path, "r")
        try:
            self.place = self._choose(group)
            node = self.file[self.place]
            self.compound = isinstance(node, h5py.Dataset)
            members = node.dtype.names if self.compound else _datasets(node)
            lengths = {len(node)} if self.compound else {len(node[name]) for name in members}
            if len(lengths) > 1:
                sizes = shorten(map(str, sorted(lengths)))
                raise TableError(f"the datasets of '{self.place}' have different lengths: {sizes}")
            super().__init__(list(members), lengths.pop() if lengths else 0)
        except BaseException:
            self.close()
            raise

    def _choose(self, group: str | None) -> str:
        places = _places(self.file)
        if group is not None:
            wanted = "/" + group.strip("/")
            if wanted in places:
                return wanted
            raise TableError(f"there is no table '{group}'; tables: {shorten(places)}")
        if not places:
            raise TableError("there is no table in it: no compound dataset and no group of 1-d datasets")
        if len(places) == 1:
            return places[0]
        named = [place for place in places if place.endswith("/photometry")]
        if len(named) == 1:
            return named[0]
        raise TableError(
            f"it holds {len(places)} tables ({shorten(places)}): choose one with 'FILE::{places[0][1:]}'"
        )

    def slice(self, columns: Sequence[str], start: int, stop: int) -> Columns:
        node = self.file[self.place]
        if self.compound:
            block = node.fields(list(columns))[start:stop]
            return {name: _plain(block[name]) for name in columns}
        return {name: _plain(_read(node[name], start, stop)) for name in columns}

    def close(self) -> None:
        self.file.close()


def _datasets(group: Any) -> list[str]:
    """Names of the members of a group that are columns: datasets with rows, none of them compound."""
    return [
        name
        for name, item in group.items()
        if isinstance(item, h5py.Dataset) and item.ndim >= 1 and item.dtype.names is None
    ]


def _places(file: Any) -> list[str]:
    """Paths of everything in the file that looks like a table."""
    if "pandas_type" in file.attrs or any("pandas_type" in g.attrs for g in file.values()):
        raise TableError("it was written by pandas' to_hdf, whose layout needs pickle: write Parquet instead")
    found = ["/"] if any(file[name].ndim == 1 for name in _datasets(file)) else []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype.names is not None and not name.endswith(META):
                found.append("/" + name)
        elif any(item[member].ndim == 1 and not member.endswith(META) for member in _datasets(item)):
            found.append("/" + name)

    file.visititems(visit)
    compound = {place for place in found if isinstance(file[place], h5py.Dataset)}
    only_meta = {"/"} if compound and all(name.endswith(META) for name in _datasets(file)) else set()
    return sorted(set(found) - only_meta)


def _read(dataset: Any, start: int, stop: int) -> np.ndarray:
    if h5py.check_string_dtype(dataset.dtype) is not None:
        return np.asarray(dataset.asstr(errors="replace")[start:stop], dtype=np.str_)
    return dataset[start:stop]


def _plain(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "S":
        return np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "O":
        return np.asarray([v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values])
    if values.dtype.kind in "iufc":
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    return values


def write(table: Any, path: Path) -> None:
    """Write a table as one 1-d dataset per column at the root; masked numbers become NaN."""
    with h5py.File(path, "w") as file:
        for name in table.colnames:
            column = table[name]
            values = np.asarray(np.ma.getdata(column))
            hidden = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
            if hidden is not None and hidden.any() and values.dtype.kind in "iufb":
                values = values.astype(np.float64)
                values[hidden] = np.nan
            text = values.dtype.kind in "UO"
            file.create_dataset(name, data=values.astype(h5py.string_dtype()) if text else values)
