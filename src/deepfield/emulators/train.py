"""Train an emulator on a table of simulations."""

from __future__ import annotations

import fnmatch
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepfield.core.batches import Batches
from deepfield.core.errors import DeepfieldError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.store import versions
from deepfield.core.table import Table, shorten
from deepfield.emulators.model import Emulator, EmulatorConfig, build_net, compress
from deepfield.emulators.process import GaussianProcesses

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")


def columns(table: Table, patterns: Sequence[str] | str) -> list[str]:
    """Columns whose names fit patterns such as ``pk_*``, in the order of the table.

    Raises
    ------
    DeepfieldError
        If a pattern fits none.

    Examples
    --------
    >>> columns(Table({"h": [1], "pk_0": [1], "pk_1": [1]}), "pk_*")
    ['pk_0', 'pk_1']
    """
    wanted = [p.strip() for p in patterns.split(",")] if isinstance(patterns, str) else list(patterns)
    for pattern in wanted:
        if not fnmatch.filter(table.colnames, pattern):
            raise DeepfieldError(f"no column fits '{pattern}'; columns: {shorten(table.colnames)}")
    return [name for name in table.colnames if any(fnmatch.fnmatch(name, p) for p in wanted)]


def arrays(table: Table, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Array, Array]:
    """Inputs (N, D) and outputs (N, K); a column of vectors counts as its numbers.

    Raises
    ------
    DeepfieldError
        If a value is no finite number.
    """
    theta = np.stack([table.column(name) for name in inputs], -1)
    parts = [np.asarray(table[name], dtype=float).reshape(len(table), -1) for name in outputs]
    y = np.concatenate(parts, 1)
    for what, values in (("inputs", theta), ("outputs", y)):
        bad = ~np.isfinite(values).all(1)
        if bad.any():
            raise DeepfieldError(f"{bad.sum()} rows have {what} that are no numbers, first row {np.argmax(bad)}")
    return theta, y


def train(
    table: Table,
    config: EmulatorConfig | None = None,
    *,
    inputs: Sequence[str] | str,
    outputs: Sequence[str] | str,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool = True,
    **changes: Any,
) -> Emulator:
    """Fit q(outputs | inputs) to simulations.

    Parameters
    ----------
    table : Table
        A row for each simulation.
    config : EmulatorConfig, optional
        Or its fields as keywords.
    inputs, outputs : names or patterns
        ``"omega_m,h"``, ``"pk_*"``, or a column of vectors.

    Returns
    -------
    Emulator
        Its card has the error on simulations that were left out.

    Raises
    ------
    DeepfieldError
        If columns are missing or not finite, or there are fewer than ten rows.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(0.5, 1, 40)
    >>> table = Table({"a": x, "curve": np.exp(-x[:, None] * np.linspace(0, 2, 30))})
    >>> emulator = train(table, inputs="a", outputs="curve")
    >>> found = emulator.predict({"a": 0.77})
    >>> bool(np.abs(found.mean[0, -1] / np.exp(-1.54) - 1) < 1e-3)
    True
    """
    config = config or EmulatorConfig(**changes)
    names, wanted = columns(table, inputs), columns(table, outputs)
    if shared := set(names) & set(wanted):
        raise DeepfieldError(f"'{min(shared)}' is both an input and an output")
    if len(table) < 10:
        raise DeepfieldError(f"{len(table)} simulations are too few to train an emulator: ten at the least")
    theta, y = arrays(table, names, wanted)
    ranges = np.stack([theta.min(0), theta.max(0)], -1)
    if (fixed := ranges[:, 0] == ranges[:, 1]).any():
        raise DeepfieldError(f"'{names[int(np.argmax(fixed))]}' is the same in all rows: leave it out")
    logarithm = config.logarithm and bool((y > 0).all())
    rows = np.log(y) if logarithm else y
    basis, target = compress(rows, config.components)
    began = time.perf_counter()
    found = Emulator(config, names, wanted, ranges, basis, logarithm, torch.nn.Identity())
    unit = torch.from_numpy(found.unit(theta))
    if config.method == "process":
        seen, residual, expected = _fit_processes(found, unit, target)
    else:
        seen, residual, expected = _fit_net(found, unit, target, checkpoint, progress)
    scaled = basis["axes"] * basis["scale"][:, None]
    lost = rows[seen] - basis["centre"] - target[seen] @ scaled
    error = residual @ scaled - lost
    expected = np.sqrt(expected**2 @ scaled**2 + basis["rest"] ** 2)
    # The factor by which the stated errors would have had to be larger for 68.3 % of them to cover.
    found.inflation = float(np.quantile(np.abs(error) / np.maximum(expected, 1e-12), 0.683))
    size = np.abs(error) if logarithm else np.abs(error) / np.abs(rows).mean(0)
    found.card = {
        "about": f"emulator of {len(basis['centre'])} numbers from {', '.join(names)}",
        "rows": len(table),
        "data_sha256": table.digest(),
        "components": len(basis["axes"]),
        "left_out": {"median": float(np.median(size)), "p95": float(np.quantile(size, 0.95))},
        "seconds": round(time.perf_counter() - began, 1),
        "versions": versions(),
    }
    return found


def _fit_processes(found: Emulator, x: torch.Tensor, target: Array) -> tuple[Any, Array, Array]:
    """All rows, with residuals (prediction less truth) and stated errors (N, C) as each is left out in turn."""
    processes = GaussianProcesses(x, target.shape[1])
    processes.fit(torch.from_numpy(target))
    found.model = processes.eval()
    with torch.no_grad():
        spread = 1 / processes.inverse.diagonal(dim1=1, dim2=2) - (2 * processes.nugget).exp()[:, None]
    return slice(None), -processes.left_out().numpy(), spread.clamp_min(1e-8).sqrt().T.numpy()


def _fit_net(
    found: Emulator, x: torch.Tensor, target: Array, checkpoint: Any, progress: bool
) -> tuple[Any, Array, Array]:
    """The rows on which the fit was stopped, with residuals and stated errors."""
    config = found.config
    model = build_net(config, x.shape[1], target.shape[1])
    model.head.fit_target(torch.from_numpy(target))
    order = np.random.default_rng(config.seed).permutation(len(x))
    held, used = order[: max(len(x) // 10, 2)], order[max(len(x) // 10, 2) :]
    inputs, wanted = x.float(), torch.from_numpy(target).float()
    fit(
        model,
        Batches(inputs[used], wanted[used], size=64, seed=config.seed),
        Batches(inputs[held], wanted[held], size=4096, seed=None),
        FitConfig(epochs=config.epochs, seed=config.seed, patience=config.epochs, optimizer="soap", device="cpu"),
        checkpoint=checkpoint,
        progress=progress,
    )
    found.model = model.eval()
    with torch.no_grad():
        density = model(inputs[held])
    return held, (density.mean - wanted[held]).double().numpy(), density.stddev.double().numpy()
