"""Readers of the original files of registered data sets: the formats of those who published them.

Each takes the paths of the files of one data set in their registered order and returns a table with
standard column names, sentinels not yet mapped.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deepfield.core.errors import TableError
from deepfield.core.table import Table, no_column
from deepfield.data import files

UGRIZ = ("u", "g", "r", "i", "z")


def mlz(paths: Sequence[Path]) -> Table:
    """SDSS main sample as in MLZ: 19 numbers a row under a header that names 18 (it omits ``eu``).

    The columns are redshift, five magnitudes, four colours, the five errors of the magnitudes and the four
    of the colours; colours are not kept.
    """
    values = np.concatenate([_numbers(path, 19) for path in paths])
    places = {"z_spec": 0}
    places |= {f"mag_{band}": 1 + i for i, band in enumerate(UGRIZ)}
    places |= {f"mag_err_{band}": 10 + i for i, band in enumerate(UGRIZ)}
    return Table({name: values[:, place].copy() for name, place in places.items()})


def annz(paths: Sequence[Path]) -> Table:
    """BOSS DR10 as in ANNZ: commas in the rows, ``F:MAG_U;F:MAGERR_U;...;D:Z`` in the header.

    A galaxy that occurs in several of the files is kept once, where it occurs first, so that no row can
    be in a training and a test set.
    """
    tables = []
    for path in paths:
        names = _annz_names(path)
        tables.append((names, _numbers(path, len(names), delimiter=",")))
    wanted = {f"mag_{b}": f"MAG_{b.upper()}" for b in UGRIZ}
    wanted |= {f"mag_err_{b}": f"MAGERR_{b.upper()}" for b in UGRIZ} | {"z_spec": "Z"}
    for path, (names, _) in zip(paths, tables):
        for name in wanted.values():
            if name not in names:
                raise TableError(f"'{path}': {no_column(name, names)}")
    values = np.concatenate([v[:, [names.index(name) for name in wanted.values()]] for names, v in tables])
    _, first = np.unique(values, axis=0, return_index=True)
    values = values[np.sort(first)]
    return Table({name: values[:, i].copy() for i, name in enumerate(wanted)})


def sdss_colors(paths: Sequence[Path]) -> Table:
    """SDSS galaxies and quasars: a structured ``.npy`` (or CSV) of u, g, r, i, z, class and redshift."""
    table = files.read(paths[0])
    names = {band: f"mag_{band}" for band in UGRIZ}
    names |= {"redshift": "z_spec", "redshift_err": "z_spec_err", "spec_class": "spec_class"}
    result = _renamed(table, names, paths[0])
    classes = np.asarray(result["spec_class"])
    result["spec_class"] = np.char.strip(np.char.decode(classes) if classes.dtype.kind == "S" else classes)
    return result


def zcosmos(paths: Sequence[Path]) -> Table:
    """zCOSMOS-bright with the COSMOS photometry: CSV, ``-99`` and ``-99.9`` or nothing for no magnitude.

    ``secure`` is a redshift above 0.001 (no star) of confidence class 3 or 4 with any decimal, 2.5, 9.3
    or 9.5; the classes are those of Lilly et al. (2009), ApJS 184, 218.
    """
    bands = ("u", "b", "v", "g", "r", "i", "z", "j", "k", "ic")
    names = {"id_zcosmos": "id", "alpha": "ra", "delta": "dec", "zpec": "z_spec", "cc": "zconf"}
    names |= {"mag_sel": "mag_sel"}
    names |= {f"{band}_photzi25": f"mag_{band}" for band in bands}
    names |= {f"e{band}_photzi25": f"mag_err_{band}" for band in bands}
    table = _renamed(files.read(paths[0]), names, paths[0])
    for band in bands:
        mag, error = table.column(f"mag_{band}"), table.column(f"mag_err_{band}")
        missing = ~(mag > -50)
        mag[missing], error[missing] = np.nan, np.nan
        table[f"mag_{band}"], table[f"mag_err_{band}"] = mag, error
    table["secure"] = _secure(table.column("z_spec"), table.column("zconf"))
    return table


def _secure(redshift: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    tenths = np.round(10 * confidence).astype(int)
    return (redshift > 0.001) & (np.isin(tenths // 10, (3, 4)) | np.isin(tenths, (25, 93, 95)))


def rail(paths: Sequence[Path]) -> Table:
    """RAIL's sample of cosmoDC2: HDF5 with ``photometry/mag_u_lsst``, ``mag_err_u_lsst`` and ``redshift``."""
    bands = (*UGRIZ, "y")
    names = {f"mag_{band}_lsst": f"mag_{band}" for band in bands}
    names |= {f"mag_err_{band}_lsst": f"mag_err_{band}" for band in bands}
    return _renamed(files.read(paths[0]), names | {"redshift": "z_spec", "id": "id"}, paths[0])


READERS: dict[str, Callable[[Sequence[Path]], Table]] = {
    "mlz": mlz,
    "annz": annz,
    "sdss_colors": sdss_colors,
    "zcosmos": zcosmos,
    "rail": rail,
}
"""The readers by the name under which the registry knows them."""


def _renamed(table: Table, names: dict[str, str], path: Path) -> Table:
    for name in names:
        if name not in table.colnames:
            raise TableError(f"'{path}': {no_column(name, table.colnames)}")
    result = table[list(names)]
    result.rename_columns(list(names), list(names.values()))
    return result


def _annz_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip()
    if not header.startswith("#") or ";" not in header:
        raise TableError(f"'{path}' does not start with a header such as '#F:MAG_U;F:MAGERR_U;...;D:Z'")
    return [field.split(":", 1)[-1].strip() for field in header.lstrip("#").split(";")]


def _numbers(path: Path, count: int, delimiter: str | None = None) -> np.ndarray:
    """Read rows of exactly ``count`` numbers under comment lines, shape (N, count)."""
    try:
        values = np.loadtxt(path, delimiter=delimiter, ndmin=2, comments="#")
    except (OSError, ValueError) as error:
        raise TableError(f"cannot read '{path}': {str(error).splitlines()[0]}") from error
    if values.shape[1] != count or len(values) == 0:
        found = f"{values.shape[1]} columns and {len(values)} rows"
        raise TableError(f"'{path}' has {found}: {count} columns and some rows were expected")
    return values
