"""Streams keep their order, survive kills, and hold little."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.scale._footer import joined
from deepfield.scale.stream import SHARD, stream_parquet

ROWS, SIZE = 1000, 10


def source(start: int, total: int = ROWS):
    for a in range(start, total, SIZE):
        yield np.arange(a, min(a + SIZE, total))


def double(batch) -> pa.Table:
    return pa.table({"row": batch, "twice": 2 * batch}).replace_schema_metadata({"note": "kept"})


def run(target, function=double, batches=source, job=None, **options) -> int:
    return stream_parquet(batches, function, target, job=job or {"model": "a"}, progress=False, **options)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 90
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def check(target, total: int = ROWS) -> None:
    table = pq.read_table(target)
    assert table["row"].to_pylist() == list(range(total))
    assert table["twice"].to_pylist() == [2 * v for v in range(total)]
    assert table.schema.metadata[b"note"] == b"kept"
    assert [p.name for p in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("total", [1, 10, 79, 80, 81, 1000])
def test_rows_are_all_there(tmp_path, total):
    assert run(tmp_path / "out.parquet", batches=lambda start: source(start, total)) == total
    check(tmp_path / "out.parquet", total)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_order_is_kept_whichever_batch_is_ready_first(tmp_path, workers):
    rng = np.random.default_rng(0)
    pauses = rng.uniform(0, 0.005, ROWS)

    def slowly(batch):
        time.sleep(pauses[batch[0]])
        return double(batch)

    run(tmp_path / "out.parquet", slowly, workers=workers)
    check(tmp_path / "out.parquet")


def test_a_failure_keeps_what_is_done_and_the_next_run_goes_on(tmp_path):
    target, seen = tmp_path / "out.parquet", []

    def fails(batch):
        if batch[0] == 700:
            raise DeepfieldError("row 700 is odd")
        return double(batch)

    with pytest.raises(DeepfieldError, match="row 700 is odd"):
        run(target, fails, workers=1)
    assert not target.exists()

    def again(batch):
        seen.append(batch[0])
        return double(batch)

    run(target, again, workers=1)
    check(target)
    # At most a shard, and what was waiting for it, is done twice.
    assert 700 - SHARD * SIZE - 2 * SIZE <= min(seen) <= 700


def test_what_another_job_left_is_discarded(tmp_path):
    target = tmp_path / "out.parquet"

    def fails(batch):
        if batch[0] == 500:
            raise DeepfieldError("stop")
        return pa.table({"row": batch, "twice": 0 * batch})

    for job in ({"model": "b"}, {"model": "a", "size": 3}):
        with pytest.raises(DeepfieldError, match="stop"):
            run(target, fails, job=job)
        assert any(tmp_path.glob(".out.parquet.parts/*.footer"))
        run(target)
        check(target)


def short_of(path, size: int) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def longer(path, more: bytes) -> None:
    with path.open("ab") as file:
        file.write(more)


DAMAGES = {
    "damaged footer": lambda parts: (parts / "000003.footer").write_bytes(b"short"),
    "lost footer": lambda parts: (parts / "000003.footer").unlink(),
    "lost rows": lambda parts: short_of(parts / "rows", 7000),
    "all rows lost": lambda parts: (parts / "rows").unlink(),
    "half a shard more": lambda parts: longer(parts / "rows", b"PAR1" + bytes(5000)),
    "half a final footer": lambda parts: longer(parts / "rows", b"abc"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_done_again_and_the_file_is_the_same_to_the_byte(tmp_path, damage):
    target, whole = tmp_path / "out.parquet", tmp_path / "whole" / "out.parquet"
    run(whole)

    def fails(batch):
        if batch[0] == 900:
            raise DeepfieldError("stop")
        return double(batch)

    with pytest.raises(DeepfieldError, match="stop"):
        run(target, fails, workers=1)
    parts = tmp_path / ".out.parquet.parts"
    assert len(list(parts.glob("[0-9]*.footer"))) > 4 and (parts / "rows").stat().st_size > 7000
    DAMAGES[damage](parts)
    seen = []
    run(target, lambda batch: (seen.append(int(batch[0])), double(batch))[1])
    assert min(seen) == {"damaged footer": 240, "lost footer": 240, "all rows lost": 0}.get(damage, min(seen))
    assert target.read_bytes() == whole.read_bytes()
    shutil.rmtree(whole.parent)
    check(target)


def test_two_runs_do_not_write_one_target(tmp_path):
    target = tmp_path / "out.parquet"

    def function(batch):
        if batch[0] == 500:
            with pytest.raises(DeepfieldError, match=rf"out.parquet' is being written .*number {os.getpid()}\)"):
                run(target)
        return double(batch)

    run(target, function)
    check(target)


def test_a_run_after_a_killed_one_is_not_locked_out(tmp_path):
    target, script = tmp_path / "out" / "out.parquet", tmp_path / "run.py"
    script.write_text(SCRIPT)
    killed = subprocess.Popen([sys.executable, script, target], env={**os.environ, "OMP_NUM_THREADS": "1"})
    lock = target.parent / f".{target.name}.parts" / "lock"
    wait_for(lambda: lock.is_file() and lock.read_text() == str(killed.pid))
    with pytest.raises(
        DeepfieldError, match=f"another process .number {killed.pid}.: wait for it, or write to an"
    ):
        run(target)
    killed.kill()
    killed.wait(timeout=30)
    run(target)
    check(target)


def _as(batch, kind) -> pa.Table:
    return pa.table({"row": batch, "twice": pa.array(2 * batch).cast(kind)})


OTHERS = {
    "type": (lambda b: _as(b, pa.float64()), r"'twice' \(int64.*'twice' \(double"),
    "order": (lambda b: _as(b, pa.int64()).select(["twice", "row"]), r"'row' \(.*'twice' \("),
    "name": (lambda b: _as(b, pa.int64()).rename_columns(["row", "double"]), r"'twice' \(.*'double' \("),
    "more": (lambda b: _as(b, pa.int64()).append_column("z", pa.array(b)), r"no further one in .*'z' \("),
}


@pytest.mark.parametrize("at", [30, SHARD * SIZE, 500], ids=["in a shard", "a shard", "a later shard"])
@pytest.mark.parametrize("other", OTHERS)
def test_batches_of_other_columns_are_refused_by_name(tmp_path, other, at):
    function, said = OTHERS[other]
    with pytest.raises(DeepfieldError, match="different columns: " + said):
        run(tmp_path / "out.parquet", lambda b: function(b) if b[0] >= at else _as(b, pa.int64()), workers=1)
    assert not (tmp_path / "out.parquet").exists()


def test_a_resumed_run_with_other_columns_is_refused_too(tmp_path):
    def stops(batch):
        if batch[0] == 500:
            raise DeepfieldError("stop")
        return _as(batch, pa.int64())

    with pytest.raises(DeepfieldError, match="stop"):
        run(tmp_path / "out.parquet", stops, workers=1)
    with pytest.raises(DeepfieldError, match=r"different columns: 'twice' \(int64.*'twice' \(double"):
        run(tmp_path / "out.parquet", lambda b: _as(b, pa.float64()), workers=1)


def test_rows_that_are_lost_in_joining_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("deepfield.scale.stream.joined", lambda footers: joined(footers[:-1]))
    with pytest.raises(
        DeepfieldError, match=r"has 960 rows where 1000 were written: delete .*\.out\.parquet\.parts"
    ):
        run(tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_no_rows_are_an_error(tmp_path):
    with pytest.raises(DeepfieldError, match="the catalogue has no rows"):
        run(tmp_path / "out.parquet", batches=lambda start: iter(()))
    assert list(tmp_path.iterdir()) == []


def test_an_older_result_stays_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "out.parquet"
    run(target)
    before = target.read_bytes()

    def fails(batch):
        assert target.read_bytes() == before
        if batch[0] == 500:
            raise DeepfieldError("stop")
        return double(batch)

    with pytest.raises(DeepfieldError, match="stop"):
        run(target, fails)
    assert target.read_bytes() == before
    run(target)
    check(target)


def test_few_batches_are_in_flight(tmp_path):
    alive, most, lock = 0, 0, threading.Lock()

    def batches(start):
        nonlocal alive, most
        for batch in source(start, 2000):
            with lock:
                alive += 1
                most = max(most, alive)
            yield batch

    def function(batch):
        nonlocal alive
        time.sleep(0.001)
        with lock:
            alive -= 1
        return double(batch)

    run(tmp_path / "out.parquet", function, batches, workers=2)
    assert most <= 5, f"{most} batches were read ahead"


def test_memory_does_not_grow_with_the_catalogue(tmp_path):
    def peak(total: int) -> int:
        def batches(start):
            for a in range(start, total, 20_000):
                yield np.arange(a, a + 20_000)

        tracemalloc.start()
        allocated, pool = [], pa.default_memory_pool()

        def function(batch):
            allocated.append(pool.bytes_allocated())
            return double(batch)

        run(tmp_path / f"{total}.parquet", function, batches, workers=2)
        found = tracemalloc.get_traced_memory()[1] + max(allocated)
        tracemalloc.stop()
        return found

    small, large = peak(800_000), peak(4_000_000)
    assert large < 1.5 * small + 2**20, f"{small} bytes for 0.8 million rows, {large} for 4 million"


SCRIPT = textwrap.dedent("""
    import sys, time
    import numpy as np, pyarrow as pa
    from deepfield.scale.stream import stream_parquet

    def batches(start):
        for a in range(start, 1000, 10):
            yield np.arange(a, a + 10)

    def function(batch):
        time.sleep(0.01)
        return pa.table({"row": batch, "twice": 2 * batch}).replace_schema_metadata({"note": "kept"})

    stream_parquet(batches, function, sys.argv[1], job={"model": "a"}, workers=1, progress=False)
""")


def test_kill_9_costs_a_shard_at_most(tmp_path):
    target, script = tmp_path / "out" / "out.parquet", tmp_path / "run.py"
    script.write_text(SCRIPT)
    parts = target.parent / f".{target.name}.parts"
    killed = subprocess.Popen([sys.executable, script, target], env={**os.environ, "OMP_NUM_THREADS": "1"})
    wait_for(lambda: len(list(parts.glob("[0-9]*.footer"))) >= 3)
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait(timeout=30) == -signal.SIGKILL
    done = sum(pq.read_metadata(p).num_rows for p in parts.glob("[0-9]*.footer"))
    assert 240 <= done < 1000 and not target.exists()
    assert json.loads((parts / "job.json").read_text()) == {"model": "a"}

    seen = []

    def function(batch):
        seen.append(int(batch[0]))
        return double(batch)

    run(target, function)
    assert min(seen) == done, "rows that were on disk were done again"
    check(target)
