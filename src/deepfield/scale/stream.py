"""A function over a catalogue larger than memory: batches in, an ordered Parquet file out, resumable.

A Parquet file is groups of rows, one after the other, and a footer that says where each begins. Shards of the
result are written one behind the other into a growing file beside the target, and the footer of each is kept
apart; the last act writes one footer for all, so that nothing is copied. A killed run finds the shards whose
footers are whole, checks that they belong to the same job, and goes on behind them.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import LOCK, atomic, exclusive
from deepfield.scale._footer import joined, read

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

SHARD = 8  # batches in one shard: what a kill can cost


def stream_parquet(
    batches: Callable[[int], Iterator[Any]],
    function: Callable[[Any], pa.Table],
    target: str | os.PathLike[str],
    *,
    job: dict[str, Any],
    total: int | None = None,
    workers: int = 0,
    progress: bool = True,
) -> int:
    """Write ``function`` of every batch to ``target``, in order, with several threads at work.

    Parameters
    ----------
    batches : callable
        ``batches(start)`` iterates over the batches from row ``start`` on.
    function : callable
        Batch to Arrow table, a row for each of the batch: a resumed run goes on from the rows written.
        Called from threads, so its heavy parts should release the interpreter lock.
    target : path
        The Parquet file to write.
    job : dict
        What makes this job itself (source, its size and time, model): a resumed run must have the same.
    total : int, optional
        Rows expected, for the progress bar.
    workers : int
        Threads; 0 takes one per core.

    Returns
    -------
    int
        Rows written.

    Raises
    ------
    DeepfieldError
        If there are no rows, a batch has other columns than those before it, or another process is writing the
        same target.
    """
    target = Path(target)
    workers = workers or os.cpu_count() or 1
    with exclusive(target.with_name(f".{target.name}.parts"), f"'{target}'") as folder:
        shards = _Shards(folder, job)
        bar = tqdm(
            total=total, initial=shards.rows, unit=" rows", unit_scale=True, desc="predict", disable=not progress
        )
        with bar, ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(workers) as pool:
            pending: deque[Future[pa.Table]] = deque()
            for batch in batches(shards.rows):
                pending.append(pool.submit(function, batch))
                # A short queue: batches in flight are what memory holds.
                if len(pending) > workers + 1:
                    bar.update(shards.add(pending.popleft().result(), writer))
            while pending:
                bar.update(shards.add(pending.popleft().result(), writer))
            shards.flush(writer)
            shards.flush(writer)  # waits
        shards.finish(target)
        return shards.rows


class _Shards:
    """The parts of a target that is not whole yet, in a hidden folder beside it."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder, self.data = folder, folder / "rows"
        self.held: list[pa.Table] = []
        self.writing: Future[None] | None = None
        note, text = folder / "job.json", json.dumps(job, sort_keys=True)
        if not (note.is_file() and note.read_text() == text):
            self._discard(folder.iterdir())  # left by another job
            with atomic(note) as temporary:
                temporary.write_text(text)
        self.data.touch()
        self.footers = list(self._whole())
        self._discard(p for p in folder.glob("*.footer") if int(p.stem) >= len(self.footers))

    @staticmethod
    def _discard(paths: Iterator[Path]) -> None:
        for path in paths:
            if path.name != LOCK:
                path.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.footer"

    def _whole(self) -> Iterator[pq.FileMetaData]:
        """The footers up to the first that is absent or damaged, or whose rows are: work goes on from there.

        That the rows are there is told by the length of their file; what is in them is not checked. A footer is
        written after ``fsync`` of its rows, so only a broken disk, or another hand, can make them differ.
        """
        import pyarrow.parquet as pq

        size = self.data.stat().st_size
        length = 0
        for number in itertools.count():
            try:
                footer = pq.read_metadata(self._path(number))
            except (OSError, ValueError):
                return
            length += _length(footer)
            if length > size:
                return
            yield footer

    @property
    def rows(self) -> int:
        return sum(footer.num_rows for footer in self.footers)

    def add(self, table: pa.Table, writer: Executor) -> int:
        """Keep a table; every SHARD tables go to disk, in a thread of their own."""
        self.held.append(table)
        if len(self.held) >= SHARD:
            self.flush(writer)
        return table.num_rows

    def flush(self, writer: Executor) -> None:
        """Send what is held on its way to disk."""
        if self.writing:
            self.writing.result()
        if self.held:
            self.writing = writer.submit(self._write, self.held)
            self.held = []

    def _write(self, tables: list[pa.Table]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for other in tables[1:]:
            _same_columns(_arrow_columns(tables[0].schema), _arrow_columns(other.schema))
        table = pa.concat_tables(tables)
        if self.footers:
            table = table.replace_schema_metadata(None)  # it is in the first footer
        made: list[pq.FileMetaData] = []
        with self.data.open("r+b") as file:
            file.seek(self._starts()[-1])
            file.truncate()
            # Floats of network origin do not compress; writing them plain is several times faster.
            with pq.ParquetWriter(
                file,
                table.schema,
                compression="NONE",
                use_dictionary=False,
                write_statistics=False,
                metadata_collector=made,
            ) as shard:
                shard.write_table(table, row_group_size=max(1, table.num_rows))
            if self.footers:  # the file will have one schema, the first
                _same_columns(*(_parquet_columns(footer.schema) for footer in (self.footers[0], made[0])))
            file.flush()
            os.fsync(file.fileno())
        with atomic(self._path(len(self.footers))) as temporary:
            made[0].write_metadata_file(temporary)
        self.footers.append(made[0])

    def _starts(self) -> list[int]:
        """Where in the file each shard begins, and the next one would."""
        return list(itertools.accumulate(map(_length, self.footers), initial=0))

    def finish(self, target: Path) -> None:
        """One footer for all shards makes them the file that was asked for."""
        import pyarrow.parquet as pq

        if not self.footers:
            shutil.rmtree(self.folder)
            raise DeepfieldError("the catalogue has no rows")
        *starts, end = self._starts()
        footer = joined([(read(self._path(number)), start) for number, start in enumerate(starts)])
        with self.data.open("r+b") as file:
            file.seek(end)
            file.truncate()
            file.write(footer)
            file.flush()
            os.fsync(file.fileno())
        if (found := pq.read_metadata(self.data).num_rows) != self.rows:
            raise DeepfieldError(
                f"{self.data} has {found} rows where {self.rows} were written: delete {self.folder} to start anew"
            )
        os.replace(self.data, target)
        shutil.rmtree(self.folder)


def _arrow_columns(schema: pa.Schema) -> list[tuple[str, str]]:
    """Names and types."""
    return [(field.name, f"{field.type}{'' if field.nullable else ', never null'}") for field in schema]


def _parquet_columns(schema: pq.ParquetSchema) -> list[tuple[str, str]]:
    """Names and types as they are on disk."""
    found = []
    for column in map(schema.column, range(len(schema))):
        kind = f"{column.physical_type.lower()} {column.length or ''} {column.logical_type}".replace("None", "")
        found.append((column.path, f"{' '.join(kind.split())}, level {column.max_definition_level}"))
    return found


def _same_columns(first: list[tuple[str, str]], other: list[tuple[str, str]]) -> None:
    """Rows of other columns, put behind the first under the first ones' schema, would be read as garbage."""
    for was, now in itertools.zip_longest(first, other):
        if was != now:
            raise DeepfieldError(
                f"the batches have different columns: {_told(was)} in the first, {_told(now)} in a later one; "
                "give the column one type, and the columns one order, in the whole catalogue"
            )


def _told(column: tuple[str, str] | None) -> str:
    return f"'{column[0]}' ({column[1]})" if column else "no further one"


def _length(footer: pq.FileMetaData) -> int:
    """Bytes of a shard without its footer."""
    group = footer.row_group(footer.num_row_groups - 1)
    columns = [group.column(i) for i in range(group.num_columns)]
    return max((c.dictionary_page_offset or c.data_page_offset) + c.total_compressed_size for c in columns)
