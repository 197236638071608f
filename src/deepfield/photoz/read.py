"""Catalogues in: any file or table of a survey to the standard table of photometric redshifts.

The standard columns are described in :mod:`deepfield.data.photometry`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import astropy.table
import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data import columns as column_maps
from deepfield.data import files

log = logging.getLogger("deepfield.photoz")


def read(
    catalog: Any,
    *,
    columns: column_maps.ColumnsLike = None,
    bands: Sequence[str] | None = None,
    target: str | None = None,
    gaps: Sequence[str] = (),
) -> Table:
    """Read a catalogue into the standard table; rows keep their order and none is dropped.

    Parameters
    ----------
    catalog
        A path (FITS, HDF5, Parquet, CSV, ECSV, text; ``FILE::GROUP`` for a table inside), an astropy table,
        a pandas data frame, a pyarrow table, a structured array or a dictionary of arrays.
    columns
        None to guess from the names, a preset (``sdss``, ``des``, ``hsc``, ``lsst``, ``euclid``,
        ``legacy``, ``standard``, ``plain``), or a dictionary from standard names to the catalogue's, as for
        :func:`deepfield.data.columns.resolve`.
    bands
        Bands wanted, in this order; by default all that are found.
    target
        Name of the column of the true redshift, read as ``z_spec``.
    gaps
        Those of ``bands`` that the catalogue need not have.

    Returns
    -------
    Table
        ``mag_<band>`` and ``mag_err_<band>`` (mag), or ``flux_<band>`` and ``flux_err_<band>`` (nJy), and
        ``z_spec``, ``ebv``, ``class``, ``id`` where there are such; other columns under their own names.
        ``meta``: ``bands``, ``reading`` (what was read as what), ``notes`` (rows not observed, not detected
        or impossible, per band), ``dereddened``, ``survey`` (the preset's name, if it is a survey's).

    Raises
    ------
    TableError
        If the file cannot be read or no photometry is found in it.

    Examples
    --------
    >>> table = read({"objID": [1, 2], "u": [19.1, 99.0], "err_u": [0.1, 99.0], "r": [17.0, -99.0]})
    >>> table.colnames, table.meta["bands"]
    (['mag_u', 'mag_err_u', 'mag_r', 'id'], ('u', 'r'))
    >>> table.column("mag_u"), table.column("mag_r")
    (array([19.1,  inf]), array([17., nan]))
    """
    table = _table(catalog)
    mapping = column_maps.resolve(table.colnames, columns, bands=bands, target=target, gaps=gaps)
    log.info(mapping.message)
    result = mapping.apply(table)
    for note in result.meta["notes"]:
        log.info(note)
    return result


def read_batches(
    path: files.PathLike,
    *,
    columns: column_maps.ColumnsLike = None,
    bands: Sequence[str] | None = None,
    target: str | None = None,
    gaps: Sequence[str] = (),
    rows: int = 65536,
    start: int = 0,
    extra: Sequence[str] = (),
) -> Iterator[Table]:
    """Yield the catalogue as standard tables of ``rows`` rows, in order, one batch in memory at a time.

    Only columns with a standard name are read, and those named in ``extra``; the first ``start`` rows are
    skipped. The other parameters, and the errors, are those of :func:`read`.
    """
    names = files.header(path).names
    mapping = column_maps.resolve(names, columns, bands=bands, target=target, gaps=gaps)
    log.info(mapping.message)
    wanted = list(dict.fromkeys([*mapping.sources, *extra]))
    for batch in files.iter_batches(path, wanted, rows=rows, start=start):
        yield mapping.apply(batch)


def redshifts(table: Table, target: str = "z_spec") -> NDArray[np.float64]:
    """The true redshifts (N,) to learn from, NaN where masked.

    Raises
    ------
    TableError
        If there is no such column, or no finite redshift in it.

    Examples
    --------
    >>> redshifts(Table({"z_spec": [0.1, 0.2]}))
    array([0.1, 0.2])
    """
    z = table.column(target)
    if not np.isfinite(z).any():
        raise TableError(f"column '{target}' holds no finite redshift to learn from")
    return z


def _table(catalog: Any) -> astropy.table.Table:
    if isinstance(catalog, (str, os.PathLike)):
        return files.read(catalog)
    origin = type(catalog).__module__.split(".")[0]
    if origin == "pyarrow":
        from deepfield.data._arrow import columns_of

        table = Table(columns_of(catalog), copy=False)
    elif origin == "pandas":
        table = Table({str(name): _plain(catalog[name]) for name in catalog.columns}, copy=False)
    elif isinstance(catalog, astropy.table.Table):
        table = catalog
    elif isinstance(catalog, Mapping) or (isinstance(catalog, np.ndarray) and catalog.dtype.names):
        table = Table(catalog, copy=False)
    else:
        raise TableError(
            f"cannot read a {type(catalog).__name__}: give a path, an astropy, pandas or pyarrow table, "
            "a structured array or a dictionary of arrays"
        )
    if len(table) == 0:
        raise TableError("the catalogue has no rows")
    return table


def _plain(series: Any) -> Any:
    """Convert a pandas column to numpy; missing text becomes empty and missing numbers are masked."""
    hidden = np.asarray(series.isna())
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iufb" and not isinstance(series.dtype, np.dtype) and hidden.any():
        filled = series.to_numpy(dtype=series.dtype.numpy_dtype, na_value=0)
        return np.ma.array(filled, mask=hidden)
    values = series.to_numpy()
    if values.dtype.kind == "O" and all(isinstance(v, str) for v in values[~hidden]):
        return np.where(hidden, "", values).astype(np.str_)
    return values


def as_table(catalog: Any, **options: Any) -> Table:
    """A table as it is, anything else through :func:`read`: what lets every verb take a path or a data frame."""
    return catalog if isinstance(catalog, Table) else read(catalog, **options)
