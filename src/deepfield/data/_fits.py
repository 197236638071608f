"""FITS binary and ASCII tables, through astropy, memory-mapped where the file allows it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Column, MaskedColumn

from deepfield.core.errors import TableError
from deepfield.core.table import shorten
from deepfield.data._source import Columns, Source


class FitsSource(Source):
    """The first table extension of a FITS file, or the one whose name or number is ``group``."""

    def __init__(self, path: Path, group: str | None = None) -> None:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            self.file = fits.open(path, memmap=True, lazy_load_hdus=False)
        try:
            if any("truncated" in str(warning.message) for warning in said):
                raise TableError("the file is truncated: it is shorter than its header says")
            self.table = self._choose(group)
            super().__init__(self.table.columns.names, int(self.table.header["NAXIS2"]))
        except BaseException:
            self.close()
            raise

    def _choose(self, group: str | None) -> Any:
        kinds = (fits.BinTableHDU, fits.TableHDU)
        tables = {number: hdu for number, hdu in enumerate(self.file) if isinstance(hdu, kinds)}
        if not tables:
            raise TableError("there is no table in it, only images")
        if group is None:
            return next(iter(tables.values()))
        for number, hdu in tables.items():
            if group.lower() in (hdu.name.lower(), str(number)):
                return hdu
        names = (f"{number} ({hdu.name})" if hdu.name else str(number) for number, hdu in tables.items())
        raise TableError(f"there is no table '{group}'; tables: {shorten(names)}")

    def slice(self, columns: Sequence[str], start: int, stop: int) -> Columns:
        part = self.table.data[start:stop]
        return {name: self._column(part, name) for name in columns}

    def _column(self, part: Any, name: str) -> Column:
        values = np.array(part.field(name))
        if values.dtype.kind in "iufc":
            values = values.astype(values.dtype.newbyteorder("="), copy=False)
        info = self.table.columns[name]
        if info.null is not None and values.dtype.kind in "iu":
            return MaskedColumn(values, mask=values == info.null, unit=info.unit)
        return Column(values, unit=info.unit)

    def close(self) -> None:
        self.file.close()
