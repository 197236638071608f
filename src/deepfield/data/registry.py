"""The data sets deepfield knows: where they are, what they are, whom to cite; and how to get them.

A data set is looked for in the folder that the environment variable ``DEEPFIELD_DATA`` names, then in the
cache, then fetched from its public address. It comes in one of two forms:

- *compact*: one file, mostly Parquet with standard columns, ``<science>/<name>.parquet``. Its sha256 is
  registered. Where the entry says so it holds a fixed random subset of the rows of the original.
- *original*: the files as published, at a fixed commit. Where their sha256 is registered it is checked.
  Where it is not, the address is pinned by its commit only; then the first download is read, and
  its columns, its number of rows and a sample of its rows must be those of the compact form, before its
  sha256 is noted beside it and checked from then on. An original of thousands of small files is named by its
  home alone.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from deepfield.core.errors import DataError, TableError
from deepfield.core.files import atomic
from deepfield.core.table import Table, shorten
from deepfield.data import columns, files

VARIABLE = "DEEPFIELD_DATA"


@dataclass(frozen=True)
class RemoteFile:
    """A file at a public address; ``sha256`` and ``size`` (bytes) are None where they are not known."""

    url: str
    sha256: str | None = None
    size: int | None = None

    @property
    def name(self) -> str:
        """File name without folders."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Compact:
    """The compact form of a data set: its path under ``DEEPFIELD_DATA``, what it must be, its rows."""

    path: str
    sha256: str
    size: int
    rows: int
    subset: bool


@dataclass(frozen=True)
class Dataset:
    """One registered data set; ``content`` is photometry (standard columns), images, votes, measurements, spectra
    or maps.

    Small originals have no compact form.
    """

    name: str
    title: str
    science: str
    bands: tuple[str, ...]
    simulated: bool
    licence: str
    citation: str
    home: str
    commit: str
    reader: str
    files: tuple[RemoteFile, ...]
    compact: Compact | None = None
    count: int = 0
    fingerprint: tuple[str, ...] = ()
    notes: str = ""
    content: str = "photometry"

    @property
    def rows(self) -> int:
        """How many there are: in the compact form, or else ``count``."""
        return self.count if self.compact is None else self.compact.rows


@functools.cache
def _registry() -> dict[str, Dataset]:
    text = resources.files("deepfield.data").joinpath("datasets.json").read_text(encoding="utf-8")
    return {entry["name"]: _dataset(entry) for entry in json.loads(text)}


def _dataset(entry: dict[str, Any]) -> Dataset:
    remote = tuple(RemoteFile(**item) for item in entry.pop("files"))
    compact = Compact(**entry.pop("compact")) if "compact" in entry else None
    marks = tuple(entry.pop("fingerprint", ()))
    plain = entry | {"bands": tuple(entry["bands"])}
    return Dataset(**plain, files=remote, compact=compact, fingerprint=marks)


def list_datasets() -> tuple[Dataset, ...]:
    """Return every registered data set, in the order of the registry.

    Examples
    --------
    >>> [dataset.name for dataset in list_datasets()][:2]
    ['sdss_mgs', 'sdss_boss_dr10']
    """
    return tuple(_registry().values())


def dataset(name: str) -> Dataset:
    """Return what is registered under a name.

    Raises
    ------
    DataError
        If there is no such data set; the message lists those there are.

    Examples
    --------
    >>> dataset("zcosmos_bright").bands
    ('u', 'b', 'v', 'g', 'r', 'i', 'z', 'j', 'k')
    """
    known = _registry()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean '{near[0]}'? " if near else ""
        raise DataError(f"no data set '{name}'; {hint}data sets: {shorten(known)}")
    return known[name]


def cite(name: str) -> str:
    """Return whom to cite for a data set, where it comes from and under which licence.

    Examples
    --------
    >>> "Lilly" in cite("zcosmos_bright")
    True
    """
    entry = dataset(name)
    return f"{entry.citation}\nSource: {entry.home} at commit {entry.commit}\nLicence: {entry.licence}"


def available(name: str) -> bool:
    """Whether a data set is at hand without a network, in ``DEEPFIELD_DATA`` or in the cache."""
    entry = dataset(name)
    return bool(_local(entry))


def get(name: str, *, progress: bool = True) -> tuple[Path, ...]:
    """Return the paths of the files of a data set, fetched and verified if need be.

    Parameters
    ----------
    name
        Name of the data set.
    progress
        Whether a download shows a progress bar.

    Returns
    -------
    tuple of Path
        One path for the compact form, one for each file of the original.

    Raises
    ------
    DataError
        If the data set is unknown, cannot be fetched, or is not what was registered.
    """
    entry = dataset(name)
    local = _local(entry)
    if local:
        _check(entry, local)
        return local
    return _fetch(entry, progress)


def load(name: str, *, progress: bool = True) -> Table:
    """Read a data set into the standard table of its science; images and votes keep their own columns.

    ``meta`` holds ``dataset`` (the name), ``form`` (compact or original) and ``bands``; that of photometry
    ``reading`` and ``notes`` too.

    Raises
    ------
    DataError
        As :func:`get`.
    """
    entry = dataset(name)
    paths = get(name, progress=progress)
    result = _read(entry, paths)
    if entry.content == "photometry":
        result = columns.resolve(result.colnames, "standard", bands=entry.bands).apply(result)
    result.meta["bands"] = entry.bands
    result.meta.update(dataset=name, form="compact" if _is_compact(entry, paths) else "original")
    return result


def fingerprint(table: Table, bands: Sequence[str], rows: Sequence[int] | None = None) -> list[str]:
    """Return a short hash per row of the magnitudes and the redshift, to six significant digits.

    Parameters
    ----------
    table
        A table with ``mag_<band>`` and ``z_spec``.
    bands
        The bands that count.
    rows
        Indices of the rows wanted; all by default.

    Examples
    --------
    >>> fingerprint(Table({"mag_r": [20.0], "z_spec": [0.1]}), ["r"])
    ['d0a266784a7f']
    """
    names = [*(f"mag_{band}" for band in bands), "z_spec"]
    values = np.stack([table.column(name) for name in names], axis=1)
    chosen = values if rows is None else values[list(rows)]
    texts = ("|".join(f"{value:.6g}" for value in row) for row in chosen.tolist())
    return [hashlib.sha256(text.encode()).hexdigest()[:12] for text in texts]


def _is_compact(entry: Dataset, paths: Sequence[Path]) -> bool:
    return entry.compact is not None and len(paths) == 1 and paths[0].name == Path(entry.compact.path).name


def _read(entry: Dataset, paths: Sequence[Path]) -> Table:
    from deepfield.data.originals import READERS

    try:
        plain = _is_compact(entry, paths) and paths[0].suffix == ".parquet"
        return files.read(paths[0]) if plain else READERS[entry.reader](paths)
    except TableError as error:
        raise DataError(f"data set '{entry.name}': {error}") from error


def _root() -> Path | None:
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    root = Path(text).expanduser()
    if not root.is_dir():
        raise DataError(f"{VARIABLE} names '{text}', which is not a folder")
    return root


def cache_folder(name: str) -> Path:
    """Folder of the cache in which the files of a data set are kept."""
    import pooch

    return Path(pooch.os_cache("deepfield")) / name


def _local(entry: Dataset) -> tuple[Path, ...]:
    """Return the first complete set of files at hand, or nothing."""
    root = _root()
    if entry.compact is not None:
        compact = Path(entry.compact.path)
        places = [] if root is None else [root / compact, root / compact.name]
        for place in [*places, cache_folder(entry.name) / compact.name]:
            if place.is_file():
                return (place,)
    folders = [] if root is None else [root / entry.name, root / entry.science / entry.name]
    for folder in [*folders, cache_folder(entry.name)]:
        paths = tuple(folder / file.name for file in entry.files)
        if paths and all(path.is_file() for path in paths):
            return paths
    return ()


def _check(entry: Dataset, paths: Sequence[Path]) -> None:
    if entry.compact is not None and _is_compact(entry, paths):
        _same(paths[0], entry.compact.sha256, entry.name)
        return
    for path, file in zip(paths, entry.files):
        note = _note(path)
        expected = file.sha256 or (note.read_text().strip() if note.is_file() else None)
        if expected is not None:
            _same(path, expected, entry.name)
    if any(file.sha256 is None and not _note(path).is_file() for path, file in zip(paths, entry.files)):
        _verify(entry, _read(entry, paths))
        if paths[0].parent == cache_folder(entry.name):
            _remember(paths)


def _same(path: Path, sha256: str, name: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise DataError(
            f"data set '{name}': '{path}' is not the registered file (sha256 {found[:12]}..., not "
            f"{sha256[:12]}...): delete it and fetch it again"
        )


def _verify(entry: Dataset, table: Table) -> None:
    """Compare an original whose sha256 is not registered with what is known of its contents."""
    if len(table) < entry.rows:
        raise DataError(f"data set '{entry.name}': {len(table)} rows were read, at least {entry.rows} are in it")
    absent = set(entry.fingerprint) - set(fingerprint(table, entry.bands))
    if absent:
        raise DataError(
            f"data set '{entry.name}': {len(absent)} of {len(entry.fingerprint)} known rows are not in it: "
            "the files are not the registered ones"
        )


def _note(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _remember(paths: Sequence[Path]) -> None:
    for path in paths:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        with atomic(_note(path)) as temporary:
            temporary.write_text(found + "\n")


def _wanted(entry: Dataset) -> str:
    if entry.compact is not None:
        return entry.compact.path
    return ", ".join(f"{entry.science}/{entry.name}/{file.name}" for file in entry.files)


def _fetch(entry: Dataset, progress: bool) -> tuple[Path, ...]:
    import pooch

    if not entry.files:
        raise DataError(
            f"data set '{entry.name}' is not at hand and its original is many files at {entry.home} (commit "
            f"{entry.commit}): set {VARIABLE} to a folder that holds {_wanted(entry)}"
        )
    folder = cache_folder(entry.name)
    pooch.get_logger().setLevel("WARNING")
    paths = []
    for file in entry.files:
        known = f"sha256:{file.sha256}" if file.sha256 else None
        try:
            place = pooch.retrieve(file.url, known_hash=known, fname=file.name, path=folder, progressbar=progress)
        except ValueError as error:
            raise DataError(f"data set '{entry.name}': {file.url} is not the registered file") from error
        except Exception as error:
            raise DataError(
                f"data set '{entry.name}' is not at hand and {file.url} cannot be fetched "
                f"({type(error).__name__}): with a network try again, without one set {VARIABLE} to a folder "
                f"that holds {_wanted(entry)}"
            ) from error
        paths.append(Path(place))
    _check(entry, paths)
    return tuple(paths)
