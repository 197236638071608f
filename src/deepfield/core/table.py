"""The table every science reads into: an astropy table with three habits more.

A catalogue is a :class:`Table` from the file to the model. It splits reproducibly, knows a digest of
its contents (stored with every trained model) and hands out columns as plain floating-point arrays.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable
from typing import Any

import astropy.table
import numpy as np

from deepfield.core.errors import TableError


class Table(astropy.table.Table):
    """An :class:`astropy.table.Table` that splits, has a digest and hands out columns as floats.

    Everything astropy's table does, this one does: it is sliced, masked, joined and written the same way.

    Examples
    --------
    >>> table = Table({"mag_r": [20.1, 21.5, 19.8, 22.0], "z_spec": [0.1, 0.4, 0.2, 0.6]})
    >>> train, test = table.split(0.75, seed=0)
    >>> len(train), len(test)
    (3, 1)
    >>> table.column("mag_r")
    array([20.1, 21.5, 19.8, 22. ])
    """

    def split(self, fraction: float, *, seed: int) -> tuple[Table, Table]:
        """Split the rows at random into two tables; each keeps the order of its rows.

        Parameters
        ----------
        fraction
            Share of the rows in the first table, between 0 and 1, both excluded.
        seed
            The same seed gives the same split of a table of the same length.

        Raises
        ------
        TableError
            If ``fraction`` is not between 0 and 1 or leaves one of the tables empty.
        """
        if not 0 < fraction < 1:
            raise TableError(f"the fraction of a split lies between 0 and 1, not {fraction}")
        count = len(self)
        first = round(fraction * count)
        if first in (0, count):
            raise TableError(f"a split of {count} rows at {fraction} leaves one side empty")
        order = np.random.default_rng(seed).permutation(count)
        return self[np.sort(order[:first])], self[np.sort(order[first:])]

    def digest(self) -> str:
        """Sha256 of names, types and values: equal for equal contents, whatever the file format was.

        The order of the rows counts; the order of the columns, the byte order and ``meta`` do not.

        Examples
        --------
        >>> a = Table({"x": [1.0, 2.0], "y": [1, 2]})
        >>> a.digest() == a[["y", "x"]].digest()
        True
        >>> a.digest() == a[::-1].digest()
        False
        """
        digest = hashlib.sha256(str(len(self)).encode())
        for name in sorted(self.colnames):
            digest.update(f"\0{name}\0".encode())
            for part in _canonical(self[name]):
                digest.update(part)
        return digest.hexdigest()

    def column(self, name: str) -> np.ndarray:
        """Return a column as float64 of shape (N,), with NaN where it is masked.

        Raises
        ------
        TableError
            If there is no such column, or it holds text or more than one number per row.

        Examples
        --------
        >>> Table({"mag_r": [20.1]}).column("mag_R")
        Traceback (most recent call last):
        ...
        deepfield.core.errors.TableError: no column 'mag_R'; did you mean 'mag_r'? columns: mag_r
        """
        if name not in self.colnames:
            raise TableError(no_column(name, self.colnames))
        return numbers(self[name], name).astype(np.float64)


def numbers(values: Any, name: str) -> np.ndarray:
    """Return a column as a native floating-point array of shape (N,), NaN where masked.

    float32 stays float32; integers and booleans become float64; an object column is converted if it
    holds numbers and ``None``.

    Raises
    ------
    TableError
        If the values are text or have more than one dimension.

    Examples
    --------
    >>> numbers(np.ma.array([1, 2], mask=[False, True]), "x")
    array([ 1., nan])
    """
    mask = np.ma.getmaskarray(values) if isinstance(values, np.ma.MaskedArray) else None
    plain = np.asarray(np.ma.getdata(values))
    if plain.ndim != 1:
        raise TableError(
            f"column '{name}' has shape {plain.shape}: one number per row is needed; choose one of its parts"
        )
    if plain.dtype.kind == "O":
        try:
            plain = plain.astype(np.float64)
        except (TypeError, ValueError):
            raise TableError(_text_message(plain, name)) from None
    if plain.dtype.kind not in "fiub":
        raise TableError(_text_message(plain, name))
    keep = plain.dtype.kind == "f" and plain.dtype.itemsize in (4, 8)
    native = plain.dtype.newbyteorder("=") if keep else np.dtype(np.float64)
    result = plain.astype(native, copy=bool(mask is not None and mask.any()))
    if mask is not None and mask.any():
        result[mask] = np.nan
    return result


def no_column(name: str, names: Iterable[str]) -> str:
    """Say that a column is missing, which one may be meant and which there are.

    Examples
    --------
    >>> no_column("mag_x", ["a", "b"])
    "no column 'mag_x'; columns: a, b"
    """
    known = list(names)
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.7)
    hint = f"did you mean '{lower[near[0]]}'? " if near else ""
    return f"no column '{name}'; {hint}columns: {shorten(known)}"


def text(cell: Any) -> str:
    """A cell as text, bytes or not, without the blanks around it.

    Examples
    --------
    >>> text(b"M 31 "), text(7)
    ('M 31', '7')
    """
    return (cell.decode() if isinstance(cell, bytes) else str(cell)).strip()


def shorten(names: Iterable[str], limit: int = 20) -> str:
    """Join names with commas, and count those beyond ``limit``.

    Examples
    --------
    >>> shorten("abcd", limit=2)
    'a, b and 2 more'
    """
    known = [str(name) for name in names]
    more = f" and {len(known) - limit} more" if len(known) > limit else ""
    return ", ".join(known[:limit]) + more if known else "none"


def _text_message(values: np.ndarray, name: str) -> str:
    example = next((v for v in values if not _is_number(v)), values[0] if len(values) else "")
    if isinstance(example, bytes):
        example = example.decode("utf-8", "replace")
    comma = ", with decimal points and not commas" if re.fullmatch(r"[+-]?\d+,\d+", str(example).strip()) else ""
    return f"column '{name}' holds text such as {str(example)[:40]!r}: numbers are needed{comma}"


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return value is None
    return True


def _canonical(column: Any) -> Iterable[bytes]:
    """Yield the bytes that stand for a column: native byte order, one NaN, text as UTF-8, then the mask."""
    mask = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    masked = mask is not None and bool(mask.any())
    values = np.asarray(np.ma.getdata(column))
    if values.dtype.kind in "fc":
        values = values.astype(values.dtype.newbyteorder("<"))
        if masked:
            values[mask] = np.nan
        values[np.isnan(values)] = np.nan
    elif values.dtype.kind in "iubmM":
        values = values.astype(values.dtype.newbyteorder("<"))
        if masked:
            values[mask] = 0
            yield np.packbits(np.asarray(mask)).tobytes()
    else:
        hidden = np.asarray(mask).ravel() if masked else np.zeros(values.size, dtype=bool)
        texts = ["" if gone else _text(value) for value, gone in zip(values.ravel(), hidden)]
        yield f"text\0{values.shape}\0".encode() + "\x1f".join(texts).encode("utf-8", "surrogateescape")
        return
    yield f"{values.dtype.str}\0{values.shape}\0".encode()
    yield np.ascontiguousarray(values).tobytes()


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
