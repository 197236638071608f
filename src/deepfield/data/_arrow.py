"""Parquet files (one, or a folder of them such as a HATS catalogue) and Arrow tables, through pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepfield.core.errors import TableError
from deepfield.data._source import Columns, Source


def parts(folder: Path) -> list[Path]:
    """List the Parquet files of a partitioned catalogue in the order of their names; nothing hidden is one."""
    found = (p for p in folder.rglob("*.parquet") if p.is_file() and not p.name.startswith("data_thumbnail"))
    return sorted(p for p in found if not any(n.startswith(("_", ".")) for n in p.relative_to(folder).parts))


class ArrowSource(Source):
    """An Arrow table in memory."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__(table.column_names, table.num_rows)
        self.table = table

    def slice(self, columns: Sequence[str], start: int, stop: int) -> Columns:
        return columns_of(self.table.select(list(columns)).slice(start, stop - start))


class ParquetSource(Source):
    """One Parquet file or several with the same columns, read a row group at a time."""

    def __init__(self, path: Path) -> None:
        self.paths = parts(path) if path.is_dir() else [path]
        self.counts = [pq.read_metadata(part).num_rows for part in self.paths]
        first, origin = pq.read_schema(self.paths[0]), self.paths[0].name
        super().__init__(first.names, sum(self.counts))
        self.odd: dict[str, str] = {}  # columns whose type is not the same in all parts: harmless until read
        for part in self.paths[1:]:
            other = pq.read_schema(part)
            if lone := sorted(set(other.names) ^ set(first.names)):
                raise TableError(
                    f"'{part.name}' has other columns than '{origin}': only one of them has '{lone[0]}'"
                )
            for was, now in ((first.field(name), other.field(name)) for name in first.names):
                if not now.equals(was):
                    text = f"'{was.name}' is {_type(now)} in '{part.name}' and {_type(was)} in '{origin}'"
                    self.odd.setdefault(was.name, text)

    def _check(self, columns: Sequence[str]) -> None:
        for name in columns:
            if name in self.odd:
                raise TableError(f"column {self.odd[name]}: write all parts with one type")

    def slice(self, columns: Sequence[str], start: int, stop: int) -> Columns:
        self._check(columns)
        if (start, stop) == (0, self.rows):
            whole = [pq.ParquetFile(part).read(columns=list(columns)) for part in self.paths]
            return columns_of(pa.concat_tables([part.select(list(columns)) for part in whole]))
        return next(self.batches(columns, start, stop - start))

    def batches(self, columns: Sequence[str], start: int, size: int) -> Iterator[Columns]:
        self._check(columns)
        waiting: list[pa.RecordBatch] = []
        count = 0
        for batch in self._groups(columns, start, size):
            waiting.append(batch)
            count += batch.num_rows
            if count >= size:
                table = pa.Table.from_batches(waiting)
                while count >= size:
                    yield columns_of(table.slice(0, size))
                    table, count = table.slice(size), count - size
                waiting = table.to_batches()
        if count:
            yield columns_of(pa.Table.from_batches(waiting))

    def _groups(self, columns: Sequence[str], start: int, size: int) -> Iterator[pa.RecordBatch]:
        for part, rows in zip(self.paths, self.counts):
            if start >= rows:
                start -= rows
                continue
            with pq.ParquetFile(part, pre_buffer=False) as file:
                group = 0
                while start >= (inside := file.metadata.row_group(group).num_rows):
                    start, group = start - inside, group + 1
                groups = list(range(group, file.num_row_groups))
                for batch in file.iter_batches(batch_size=size, row_groups=groups, columns=list(columns)):
                    skip = min(start, batch.num_rows)
                    start -= skip
                    if skip < batch.num_rows:
                        yield batch.slice(skip).select(list(columns))


def _type(field: pa.Field) -> str:
    return f"{field.type}{'' if field.nullable else ', never null'}"


def columns_of(table: pa.Table) -> Columns:
    """Convert the columns of an Arrow table to numpy arrays, masked where integers are null."""
    return {name: _array(table.column(i), name) for i, name in enumerate(table.column_names)}


def _array(column: pa.ChunkedArray, name: str) -> Any:
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_decimal(kind) or pa.types.is_null(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_fixed_size_list(kind):
        flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        if column.null_count:
            raise TableError(f"column '{name}' holds lists and nulls, which has no plain array")
        return flat.reshape(len(column), kind.list_size)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = column.fill_null("").to_numpy(zero_copy_only=False)
        return values.astype(np.str_) if len(values) else np.empty(0, dtype="U1")
    elif column.null_count and (pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        filled = column.fill_null(False if pa.types.is_boolean(kind) else 0)
        hidden = column.is_null().to_numpy(zero_copy_only=False)
        return np.ma.array(filled.to_numpy(zero_copy_only=False), mask=hidden)
    return column.to_numpy(zero_copy_only=False) if not pa.types.is_floating(kind) else _floats(column)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    chunks = [chunk.to_numpy(zero_copy_only=False) for chunk in column.chunks]
    values = chunks[0] if len(chunks) == 1 else np.concatenate(chunks) if chunks else np.empty(0)
    return values if values.dtype != np.float16 else values.astype(np.float32)


def write(table: Any, path: Path) -> None:
    """Write a table as Parquet; masked values become nulls, columns of several numbers become lists."""
    pq.write_table(to_arrow(table), path)


def to_arrow(table: Any) -> pa.Table:
    """Convert an astropy table to an Arrow table."""
    return pa.table({name: _to_array(table[name]) for name in table.colnames})


def _to_array(column: Any) -> pa.Array:
    hidden = np.ma.getmaskarray(column) if isinstance(column, np.ma.MaskedArray) else None
    values = np.asarray(np.ma.getdata(column))
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind in "fiuc":
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.ndim > 1:
        flat = pa.array(values.reshape(-1))
        return pa.FixedSizeListArray.from_arrays(flat, int(np.prod(values.shape[1:])))
    return pa.array(values, mask=hidden.ravel() if hidden is not None and hidden.any() else None)
