"""Any catalogue file in, a Table out: FITS, HDF5, Parquet, CSV, ECSV, text, structured ``.npy``.

The format is told from the first bytes of the file, then from its ending. Every failure is a
:class:`~deepfield.core.errors.TableError` of one line that names the file. A table inside a file that
holds several is chosen with ``group=`` or by writing ``FILE::GROUP``.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from deepfield.core.errors import TableError
from deepfield.core.files import atomic
from deepfield.core.table import Table, no_column
from deepfield.data._source import Source

PathLike = str | os.PathLike[str]

ENDINGS = {
    ".parquet": "Parquet",
    ".pq": "Parquet",
    ".parq": "Parquet",
    ".hdf5": "HDF5",
    ".h5": "HDF5",
    ".hdf": "HDF5",
    ".he5": "HDF5",
    ".fits": "FITS",
    ".fit": "FITS",
    ".fts": "FITS",
    ".ecsv": "ECSV",
    ".csv": "text",
    ".tsv": "text",
    ".txt": "text",
    ".dat": "text",
    ".cat": "text",
    ".ascii": "text",
    ".tbl": "text",
    ".train": "text",
    ".test": "text",
    ".npy": "NumPy",
}
MAGIC = {b"PAR1": "Parquet", b"\x89HDF\r\n\x1a\n": "HDF5", b"SIMPLE  =": "FITS", b"\x93NUMPY": "NumPy"}
BINARY = ("Parquet", "HDF5", "FITS", "NumPy")
KNOWN = "FITS, HDF5, Parquet, CSV, ECSV, text or .npy"


@dataclass(frozen=True)
class Header:
    """What a file holds, before its rows are read."""

    format: str
    names: tuple[str, ...]
    rows: int


def read(path: PathLike, columns: Sequence[str] | None = None, *, group: str | None = None) -> Table:
    r"""Read a catalogue into a :class:`~deepfield.core.table.Table`, rows in the order of the file.

    Parameters
    ----------
    path
        The file; or a folder of Parquet files (a HATS catalogue). ``FILE::GROUP`` chooses a table inside.
    columns
        Names of the columns wanted; all of them by default.
    group
        The HDF5 group or FITS extension (its name or number), if the file holds several tables.

    Raises
    ------
    TableError
        If the file is missing, empty, truncated, of an unknown format, without rows or lacks a column.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "galaxies.csv"
    >>> _ = path.write_text("id,mag_r,z_spec\n1,20.1,0.12\n2,21.3,0.35\n")
    >>> read(path).colnames
    ['id', 'mag_r', 'z_spec']
    """
    with _open(path, group) as (_, source):
        wanted = _choose(source, columns)
        return Table(source.slice(wanted, 0, source.rows), copy=False)


def header(path: PathLike, *, group: str | None = None) -> Header:
    """Return the format, the column names and the number of rows of a file, without reading the rows.

    Text files have to be read for it.
    """
    with _open(path, group) as (kind, source):
        return Header(kind, tuple(source.names), source.rows)


def iter_batches(
    path: PathLike,
    columns: Sequence[str] | None = None,
    *,
    rows: int = 65536,
    start: int = 0,
    group: str | None = None,
) -> Iterator[Table]:
    """Yield tables of ``rows`` rows each (the last may be shorter), in the order of the file.

    Parquet, HDF5 and uncompressed FITS hold about one batch (Parquet: one row group) in memory at a time;
    text is read whole.

    Parameters
    ----------
    path, columns, group
        As for :func:`read`.
    rows
        Rows per batch, at least 1.
    start
        Rows to skip at the head of the file, so that an interrupted run can go on.
    """
    if rows < 1 or start < 0:
        raise TableError(f"batches need rows >= 1 and start >= 0, not rows={rows}, start={start}")
    with _open(path, group) as (_, source):
        for batch in source.batches(_choose(source, columns), start, rows):
            yield Table(batch, copy=False)


def write(table: Any, path: PathLike) -> Path:
    """Write a table in the format of the ending of ``path``; the file is whole or absent.

    Raises
    ------
    TableError
        If the ending is unknown or the format cannot hold a column.
    """
    target = Path(path)
    writer = _writer(target)
    with _clear(target, "write"), atomic(target) as temporary:
        writer(table, temporary)
    return target


def file_format(path: PathLike) -> str:
    """Name the format of a file from its first bytes, then from its ending.

    Raises
    ------
    TableError
        If the file is missing, empty or of no known format.
    """
    place = Path(path)
    if place.is_dir():
        from deepfield.data._arrow import parts

        if parts(place):
            return "Parquet"
        raise TableError(f"'{place}' is a folder without Parquet files: give a file")
    if not place.exists():
        raise TableError(f"there is no file '{place}'")
    head = _head(place)
    if not head:
        raise TableError(f"'{place}' is empty")
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    return _by_ending(place, head)


def _by_ending(place: Path, head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        raise TableError(f"'{place}' is a Git LFS pointer, not the file itself: run 'git lfs pull'")
    if head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html")):
        raise TableError(f"'{place}' is a web page, not a catalogue: the download may have failed")
    if head.startswith(b"# %ECSV"):
        return "ECSV"
    kind = ENDINGS.get(_ending(place))
    if kind in BINARY:
        raise TableError(f"'{place}' is not a {kind} file although it is named so: damaged or misnamed")
    if kind is None and (head.startswith((b"\x80", b"PK")) or b"\0" in head):
        raise TableError(f"'{place}' is of an unknown format: give {KNOWN}")
    return "text"


def _head(place: Path) -> bytes:
    try:
        with place.open("rb") as file:
            head = file.read(512)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(place) as file:
                head = file.read(512)
    except (OSError, EOFError) as error:
        raise TableError(f"cannot read '{place}': {_line(error)}") from error
    return head


def _ending(place: Path) -> str:
    name = place.name.lower().removesuffix(".gz")
    return Path(name).suffix


@contextmanager
def _open(path: PathLike, group: str | None) -> Iterator[tuple[str, Source]]:
    text = os.fspath(path)
    if group is None and "::" in text and not Path(text).exists():
        text, group = text.rsplit("::", 1)
    place = Path(text)
    kind = file_format(place)
    with _clear(place, "read"):
        source = _source(place, kind, group)
    try:
        with _clear(place, "read"):
            yield kind, source
    finally:
        source.close()


def _source(place: Path, kind: str, group: str | None) -> Source:
    if kind == "Parquet":
        from deepfield.data._arrow import ParquetSource

        return ParquetSource(place)
    if kind == "HDF5":
        from deepfield.data._hdf5 import Hdf5Source

        return Hdf5Source(place, group)
    if kind == "FITS":
        from deepfield.data._fits import FitsSource

        return FitsSource(place, group)
    if kind == "NumPy":
        return _NumpySource(place)
    from deepfield.data import _text

    raw = place.read_bytes()
    return _text.source(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)


class _NumpySource(Source):
    def __init__(self, place: Path) -> None:
        self.array = np.load(place, allow_pickle=False, mmap_mode="r")
        if self.array.dtype.names is None or self.array.ndim != 1:
            raise TableError("the array has no named columns: a one-dimensional structured array is needed")
        super().__init__(list(self.array.dtype.names), len(self.array))

    def slice(self, columns: Sequence[str], start: int, stop: int) -> dict[str, Any]:
        part = self.array[start:stop]
        return {name: np.array(part[name]) for name in columns}


@contextmanager
def _clear(place: Path, verb: str) -> Iterator[None]:
    """Turn whatever a library raises over a broken file into one line that names the file."""
    try:
        yield
    except TableError as error:
        message = str(error)
        raise (error if str(place) in message else TableError(f"'{place}': {message}")) from error.__cause__
    except (MemoryError, GeneratorExit):
        raise
    except Exception as error:
        raise TableError(f"cannot {verb} '{place}': {_line(error)}") from error


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:200]


def _choose(source: Source, columns: Sequence[str] | None) -> list[str]:
    wanted = source.names if columns is None else list(dict.fromkeys(columns))
    for name in wanted:
        if name not in source.names:
            raise TableError(no_column(name, source.names))
    return wanted


def _writer(target: Path) -> Callable[[Any, Path], None]:
    kind = ENDINGS.get(_ending(target))
    compressed = target.name.lower().endswith(".gz")
    if kind == "FITS":
        return partial(_write_astropy, form="fits")
    if compressed or kind in (None, "NumPy"):
        raise TableError(f"cannot write '{target}': end it in .parquet, .hdf5, .fits, .csv, .ecsv or .txt")
    if kind == "Parquet":
        from deepfield.data._arrow import write as parquet_write

        return parquet_write
    if kind == "HDF5":
        from deepfield.data._hdf5 import write as hdf5_write

        return hdf5_write
    if _ending(target) == ".csv":
        from deepfield.data._text import write_csv

        return write_csv
    return partial(_write_astropy, form="ascii.ecsv" if kind == "ECSV" else "ascii.commented_header")


def _write_astropy(table: Any, path: Path, *, form: str) -> None:
    """Write by astropy, without ``meta``: what it holds is ours, not the file's."""
    bare = table.copy(copy_data=False)
    bare.meta.clear()
    bare.write(path, format=form, overwrite=True)
