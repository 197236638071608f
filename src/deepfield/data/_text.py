"""Text catalogues: CSV and its relatives, whitespace tables and ECSV.

The header is the first line that holds no number, or the last comment line before the data. Decimal
numbers, ``nan``, ``inf`` and the usual words for "no value" are understood; everything else is text.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv

from deepfield.core.errors import TableError
from deepfield.data import _arrow
from deepfield.data._source import Columns, Source

NO_VALUE = ["", "NaN", "nan", "NAN", "null", "NULL", "Null", "None", "NA", "N/A", "n/a", "--", '""', "#N/A"]
DELIMITERS = ",;\t|"


class EcsvSource(Source):
    """An ECSV file, read whole by astropy."""

    def __init__(self, text: str) -> None:
        from astropy.table import Table

        self.table = Table.read(text.splitlines(), format="ascii.ecsv")
        super().__init__(self.table.colnames, len(self.table))

    def slice(self, columns: Any, start: int, stop: int) -> Columns:
        return {name: self.table[name][start:stop] for name in columns}


@dataclass(frozen=True)
class Layout:
    """How a text table is laid out: names, delimiter (None: white space), lines before the data."""

    names: list[str]
    delimiter: str | None
    skip: int


def source(raw: bytes) -> Source:
    """Read a text table, all of it, whatever its delimiter.

    Raises
    ------
    TableError
        If it is not text, has no header, or has a row with another number of columns.
    """
    text = decode(raw)
    if text.startswith("# %ECSV"):
        return EcsvSource(text)
    layout = sniff(text)
    Source(layout.names, rows=1)  # complains of duplicates before the parser renames them
    return _arrow.ArrowSource(_parse(text, layout))


def decode(raw: bytes) -> str:
    """Decode UTF-8 (with or without byte-order mark) or Latin-1; refuse binary."""
    if b"\0" in raw[:65536]:
        raise TableError("it is neither a known binary format nor text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        head = raw[:65536]
        odd = sum(byte < 32 and byte not in b"\t\n\r\f" for byte in head)
        if odd > 0.01 * len(head):
            raise TableError("it is neither a known binary format nor text") from None
        return raw.decode("latin-1")


def sniff(text: str) -> Layout:
    r"""Find the names, the delimiter and the first line of data.

    Examples
    --------
    >>> sniff("#u g r\n1.0 2.0 3.0\n")
    Layout(names=['u', 'g', 'r'], delimiter=None, skip=1)
    >>> sniff("#Table1\nu,g\n1,2\n").names
    ['u', 'g']
    """
    comment: str | None = None
    for number, line in enumerate(io.StringIO(text)):
        if not line.strip():
            continue
        if line.lstrip().startswith("#"):
            comment = line.strip().lstrip("#").strip() or comment
            continue
        delimiter = max(DELIMITERS, key=line.count)
        chosen = delimiter if delimiter in line.strip("\r\n ") else None
        first = _fields(line, chosen)
        if not any(_is_number(field) for field in first):
            return Layout(first, chosen, number + 1)
        return Layout(_from_comment(comment, first), chosen, number)
    raise TableError("there are no rows")


def _from_comment(comment: str | None, first: list[str]) -> list[str]:
    if comment is None:
        raise TableError(
            f"there is no header: the first line is '{' '.join(first)[:60]}'; put one with the "
            "names of the columns before it"
        )
    options = [_fields(comment, delimiter) for delimiter in [*DELIMITERS, None]]
    for names in options:
        if len(names) == len(first):
            return names
    best = max(len(names) for names in options)
    raise TableError(f"the header names {best} columns but the rows have {len(first)}")


def _fields(line: str, delimiter: str | None) -> list[str]:
    if delimiter is None:  # quotes are understood here too: a CSV of one column has no delimiter
        line, delimiter = " ".join(line.split()), " "
    row = next(csv.reader([line.strip("\r\n")], delimiter=delimiter, skipinitialspace=True), [])
    return [field.strip() for field in row]


def _is_number(field: str) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _parse(text: str, layout: Layout) -> pa.Table:
    body = text.split("\n", layout.skip)[-1] if layout.skip else text
    delimiter = layout.delimiter or ","
    if layout.delimiter is None:
        rows = (line.split() for line in body.splitlines())
        body = "\n".join(",".join(row) for row in rows if row and not row[0].startswith("#"))
    data = body.encode()
    if not data.strip():
        raise TableError("there are no rows")
    return pacsv.read_csv(
        pa.BufferReader(data),
        read_options=pacsv.ReadOptions(
            column_names=layout.names, block_size=min(max(len(data) + 1, 1 << 16), 1 << 30)
        ),
        parse_options=pacsv.ParseOptions(delimiter=delimiter),
        convert_options=pacsv.ConvertOptions(null_values=NO_VALUE, strings_can_be_null=False),
    )


def write_csv(table: Any, path: Path) -> None:
    """Write a table as CSV with a header line."""
    pacsv.write_csv(_arrow.to_arrow(table), path)
