"""A function over a catalogue larger than memory: batches in, an ordered Parquet file out, resumable.

Results are kept as numbered shards beside the target until the last is there; a killed run finds them, checks
that they belong to the same job, and goes on after the last whole one.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm.auto import tqdm

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic

if TYPE_CHECKING:
    import pyarrow as pa

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
    """
    target = Path(target)
    shards = _Shards(target, job)
    workers = workers or os.cpu_count() or 1
    bar = tqdm(
        total=total, initial=shards.rows, unit=" rows", unit_scale=True, desc="predict", disable=not progress
    )
    with bar, ThreadPoolExecutor(workers) as pool:
        pending: deque[Future[pa.Table]] = deque()
        source = batches(shards.rows)
        for batch in source:
            pending.append(pool.submit(function, batch))
            # A short queue: batches in flight are what memory holds.
            if len(pending) > workers + 1:
                bar.update(shards.add(pending.popleft().result()))
        while pending:
            bar.update(shards.add(pending.popleft().result()))
    return shards.join()


class _Shards:
    """The numbered parts of a target file, in a hidden folder beside it."""

    def __init__(self, target: Path, job: dict[str, Any]) -> None:
        self.target = target
        self.folder = target.with_name(f".{target.name}.parts")
        self.held: list[pa.Table] = []
        note = self.folder / "job.json"
        if self.folder.exists() and not (note.is_file() and note.read_text() == json.dumps(job, sort_keys=True)):
            shutil.rmtree(self.folder)  # left by another job
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            with atomic(note) as temporary:
                temporary.write_text(json.dumps(job, sort_keys=True))
        self.paths: list[Path] = []
        self.rows = 0
        while (rows := self._count(self._path(len(self.paths)))) is not None:
            self.paths.append(self._path(len(self.paths)))
            self.rows += rows

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:06d}.parquet"

    @staticmethod
    def _count(path: Path) -> int | None:
        """Rows of a whole shard; None where it is absent or damaged, and the work goes on from there."""
        import pyarrow.parquet as pq

        try:
            return pq.read_metadata(path).num_rows
        except (OSError, ValueError):
            return None

    def add(self, table: pa.Table) -> int:
        """Keep a table; every SHARD tables go to disk."""
        self.held.append(table)
        if len(self.held) >= SHARD:
            self._flush()
        return table.num_rows

    def _flush(self) -> None:
        import pyarrow as pa

        if not self.held:
            return
        path = self._path(len(self.paths))
        table = pa.concat_tables(self.held)
        with atomic(path) as temporary:
            _write(table, temporary)
        self.held.clear()
        self.paths.append(path)
        self.rows += table.num_rows

    def join(self) -> int:
        """The shards as one file; one shard becomes the file itself."""
        import pyarrow.parquet as pq

        self._flush()
        if not self.paths:
            shutil.rmtree(self.folder)
            raise DeepfieldError("the catalogue has no rows")
        if len(self.paths) == 1:
            os.replace(self.paths[0], self.target)
        else:
            with (
                atomic(self.target) as temporary,
                pq.ParquetWriter(
                    temporary,
                    pq.read_schema(self.paths[0]),
                    compression="NONE",
                    use_dictionary=False,
                    write_statistics=False,
                ) as writer,
            ):
                for path in self.paths:
                    writer.write_table(pq.read_table(path, memory_map=True))
        shutil.rmtree(self.folder)
        return self.rows


def _write(table: pa.Table, path: Path) -> None:
    """Floats of network origin do not compress; writing them plain is several times faster."""
    import pyarrow.parquet as pq

    pq.write_table(table, path, compression="NONE", use_dictionary=False, write_statistics=False)
