"""Running a simulator: over processes, resumable, with failures kept out and counted.

The draws are cut into chunks with seeds of their own, so that the result does not depend on how many workers
there are, nor on how often the run was interrupted.
"""

from __future__ import annotations

import inspect
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic, exclusive
from deepfield.inference.priors import Prior
from deepfield.inference.simulations import Simulations

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")
_TRIES = 3
Outcome = tuple[Array, Array, str]  # kept rows of theta, their data, and the first error in words


@dataclass(frozen=True)
class _Job:
    """What a worker has to know."""

    simulator: Callable[..., Any]
    batched: bool
    tensors: bool
    seeded: bool

    def run(self, theta: Array, seed: int) -> Outcome:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            if self.batched:
                try:
                    data = self._call(theta, seed)
                except Exception:  # some row of the batch: find which
                    return self._one_by_one(theta, seed, lambda row, s: self._call(row[None], s)[0])
                if len(data) != len(theta):
                    raise DeepfieldError(
                        f"the simulator was given {len(theta)} rows and returned {len(data)}: pass batched=False "
                        "if it takes one row"
                    )
                return theta, data, ""
            return self._one_by_one(theta, seed, self._call)

    def _call(self, theta: Array, seed: int) -> Array:
        given = torch.as_tensor(theta, dtype=torch.float32) if self.tensors else theta
        found = self.simulator(given, seed=seed) if self.seeded else self.simulator(given)
        if isinstance(found, torch.Tensor):
            found = found.detach().cpu().numpy()
        return np.asarray(found, dtype=np.float64)

    def _one_by_one(self, theta: Array, seed: int, call: Callable[[Array, int], Array]) -> Outcome:
        good, data, words = [], [], ""
        for i, row in enumerate(theta):
            try:
                data.append(np.atleast_1d(call(row, seed + 1 + i)))
                good.append(i)
            except Exception as error:
                words = words or f"{type(error).__name__}: {error}"
        return theta[good], np.array(data), words


_job: _Job | None = None


def _begin(job: _Job) -> None:
    global _job
    torch.set_num_threads(1)
    _job = job


def _work(theta: Array, seed: int) -> Outcome:
    assert _job is not None
    return _job.run(theta, seed)


def simulate(
    prior: Any,
    simulator: Callable[..., Any],
    n: int,
    *,
    seed: int = 0,
    batched: bool = True,
    workers: int = 1,
    chunk: int = 0,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Simulations:
    """Draw from the prior and run the simulator.

    Parameters
    ----------
    prior : Prior, or whatever :meth:`Prior.of` takes
        With a torch distribution the simulator is given float32 tensors, as sbi's simulators expect.
    simulator : callable
        ``simulator(theta)`` with theta (B, D) to data (B, ...); or of one row (D,), with ``batched=False``. If it
        has an argument ``seed`` it is given one; torch's generator is seeded for it in any case.
    n : int
        Number of draws; those that fail (an exception, NaN) are left out and counted, not replaced.
    workers : int
        Processes. A worker that dies loses nothing: its chunk is run again by another.
    chunk : int
        Rows at a time, which the simulator's seeds depend on; 0 takes a 64th of all, at most 1,000.
    folder : path, optional
        Chunks are kept here as they finish; the same call goes on where an earlier one was killed.

    Raises
    ------
    DeepfieldError
        If every simulation fails, or the folder holds another job's chunks.

    Examples
    --------
    >>> table = simulate({"mean": (0, 1)}, lambda theta: theta + 0.1, 20, seed=0)
    >>> table.theta.shape, table.x.shape
    ((20, 1), (20, 1))
    """
    if n < 1 or workers < 1 or chunk < 0:
        raise DeepfieldError(f"n and workers are at least 1, chunk at least 0, not {n}, {workers} and {chunk}")
    own = Prior.of(prior)
    job = _Job(simulator, batched, _speaks_torch(prior), _takes_seed(simulator))
    size = chunk or min(1000, -(-n // 64))  # whatever the workers, or the rows would depend on them
    theta = own.sample(n, seed=seed)
    chunks = {i: theta[i * size : (i + 1) * size] for i in range(-(-n // size))}
    seeds = [int(s) for s in np.random.SeedSequence(seed).generate_state(len(chunks))]
    found: dict[int, Outcome] = {}
    place = exclusive(folder, f"'{folder}'") if folder else nullcontext()
    with place, tqdm(total=n, disable=not progress, desc="simulate", leave=False) as bar:
        store = (
            _Store(Path(folder), {"prior": own.to_dict(), "n": n, "seed": seed, "chunk": size}) if folder else None
        )

        def keep(i: int, outcome: Outcome) -> None:
            found[i] = outcome
            if store:
                store.write(i, outcome)
            bar.update(len(chunks[i]))

        for i in chunks:
            if store and (outcome := store.read(i)) is not None:
                found[i] = outcome
                bar.update(len(chunks[i]))
        todo = {i: (part, seeds[i]) for i, part in chunks.items() if i not in found}
        if found and todo:
            log.info(
                "%d of %d simulations are in %s already", n - sum(len(t) for t, _ in todo.values()), n, folder
            )
        if workers == 1:
            for i, arguments in todo.items():
                keep(i, job.run(*arguments))
        else:
            _spread(job, todo, workers, keep)
    return _gather([found[i] for i in sorted(found)], n, own)


def simulate_at(
    simulator: Callable[..., Any], theta: Array, *, seed: int, tensors: bool = False, batched: bool = True
) -> Array:
    """Data (N, ...) at given parameters (N, D).

    Raises
    ------
    DeepfieldError
        If a simulation fails or is not finite.

    Examples
    --------
    >>> simulate_at(lambda theta: theta + 1, np.zeros((2, 1)), seed=0).tolist()
    [[1.0], [1.0]]
    """
    job = _Job(simulator, batched, tensors, _takes_seed(simulator))
    kept, data, words = job.run(np.asarray(theta, dtype=float), seed)
    if len(kept) < len(theta) or not np.isfinite(data).all():
        raise DeepfieldError(f"the simulator fails at given parameters: {words or 'its data are not finite'}")
    return data[:, None] if data.ndim == 1 else data


def _spread(
    job: _Job, todo: dict[int, tuple[Array, int]], workers: int, keep: Callable[[int, Outcome], None]
) -> None:
    """Run chunks over processes; after a crash the pool is built anew and goes on with what is not done."""
    left, crashes = dict(todo), 0
    while left:
        # A fork carries any function over, also one that was typed at a prompt.
        pool = ProcessPoolExecutor(workers, mp_context=get_context("fork"), initializer=_begin, initargs=(job,))
        try:
            waiting: dict[Future[Outcome], int] = {
                pool.submit(_work, *arguments): i for i, arguments in left.items()
            }
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    i = waiting.pop(future)
                    keep(i, future.result())
                    left.pop(i)
        except BrokenProcessPool:
            crashes += 1
            log.warning("a worker died; its chunk is run again (%d of %d are left)", len(left), len(todo))
            if crashes >= _TRIES + len(todo) // 10:
                raise DeepfieldError(
                    f"workers died {crashes} times (out of memory?); {len(todo) - len(left)} of {len(todo)} "
                    "chunks are done. Use fewer workers, and a folder to go on from"
                ) from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _gather(outcomes: list[Outcome], n: int, prior: Prior) -> Simulations:
    kept = [(theta, data) for theta, data, _ in outcomes if len(theta)]
    words = next((w for _, _, w in outcomes if w), "")
    failed = n - sum(len(theta) for theta, _ in kept)
    if not kept:
        raise DeepfieldError(f"all {n} simulations failed; the first with {words or 'no message'}")
    shapes = {data.shape[1:] for _, data in kept}
    if len(shapes) > 1:
        raise DeepfieldError(f"the simulator returns data of different shapes: {sorted(map(str, shapes))[:3]}")
    if failed:
        log.warning("%d of %d simulations raised an error, the first %s", failed, n, words)
    theta, data = (np.concatenate(parts) for parts in zip(*kept))
    return Simulations.of(theta, data, prior, lost={"failed": failed} if failed else None)


class _Store:
    """Finished chunks on disk."""

    def __init__(self, folder: Path, job: dict[str, Any]) -> None:
        self.folder = folder
        note, text = folder / "job.json", json.dumps(job, sort_keys=True)
        if note.is_file() and note.read_text() != text:
            raise DeepfieldError(f"'{folder}' is of another prior, number or seed; choose another folder")
        with atomic(note) as temporary:
            temporary.write_text(text)

    def _path(self, i: int) -> Path:
        return self.folder / f"chunk-{i:06d}.npz"

    def write(self, i: int, outcome: Outcome) -> None:
        with atomic(self._path(i)) as temporary:
            np.savez(temporary, theta=outcome[0], x=outcome[1], words=np.array(outcome[2]))

    def read(self, i: int) -> Outcome | None:
        if not self._path(i).is_file():
            return None
        with np.load(self._path(i), allow_pickle=False) as file:
            return file["theta"], file["x"], str(file["words"])


def _takes_seed(simulator: Callable[..., Any]) -> bool:
    try:
        arguments = inspect.signature(simulator).parameters
    except (TypeError, ValueError):  # some compiled functions do not say
        return False
    for argument in list(arguments.values())[1:]:
        needed = argument.default is argument.empty and argument.kind is argument.POSITIONAL_OR_KEYWORD
        if needed and argument.name != "seed":
            raise DeepfieldError(
                f"the simulator wants '{argument.name}': it is called as simulator(theta), or as simulator(theta, "
                "seed=...) if it has an argument of that name"
            )
    return "seed" in arguments


def _speaks_torch(prior: Any) -> bool:
    first = prior[0] if isinstance(prior, list | tuple) and prior else prior
    return isinstance(first, torch.distributions.Distribution) or hasattr(prior, "dists")
