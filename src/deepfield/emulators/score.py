"""How wrong an emulator is, and whether its errors cover."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.emulators.model import Emulation, Emulator, EmulatorConfig
from deepfield.emulators.train import arrays, train

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Relative errors over all simulations and elements, as shares of one.

    Parameters
    ----------
    n : int
        Simulations.
    rms, median, p95, p99, largest : float
        Of the size of the relative error.
    median_worst : float
        Median over simulations of the worst element of each.
    coverage_683, coverage_955 : float
        How often the truth is within one and two stated standard deviations.
    """

    n: int
    rms: float
    median: float
    p95: float
    p99: float
    largest: float
    median_worst: float
    coverage_683: float
    coverage_955: float

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers."""
        return asdict(self)

    def __str__(self) -> str:
        names = ("rms", "median", "p95", "p99", "largest", "median_worst")
        sizes = ", ".join(f"{name.replace('_', ' ')} {100 * getattr(self, name):.3g} %" for name in names)
        covered = f"covered {self.coverage_683:.1%} (68.3 %), {self.coverage_955:.1%} (95.5 %)"
        return f"{self.n} simulations: {sizes}; {covered}"


def score(found: Emulation, truth: ArrayLike) -> Score:
    """Compare an emulation with the truth (N, ...).

    Raises
    ------
    DeepfieldError
        If the shapes differ, or a true value is zero or not finite.

    Examples
    --------
    >>> found = Emulation(np.array([[1.01, 2.0]]), np.array([[0.02, 0.02]]))
    >>> round(score(found, [[1.0, 2.0]]).largest, 3)
    0.01
    """
    known = np.asarray(truth, dtype=float)
    if known.shape != found.mean.shape:
        raise DeepfieldError(f"the truth has shape {known.shape}, the emulation {found.mean.shape}")
    if not (np.isfinite(known) & (known != 0)).all():
        raise DeepfieldError("relative errors need true values that are finite and not zero")
    error = np.abs(found.mean / known - 1).reshape(len(known), -1)
    pull = np.abs((found.mean - known) / found.std)
    median, p95, p99 = np.quantile(error, [0.5, 0.95, 0.99]).tolist()
    return Score(
        n=len(known),
        rms=float(np.sqrt((error**2).mean())),
        median=median,
        p95=p95,
        p99=p99,
        largest=float(error.max()),
        median_worst=float(np.median(error.max(1))),
        coverage_683=float((pull < 1).mean()),
        coverage_955=float((pull < 2).mean()),
    )


def leave_out(
    table: Table, config: EmulatorConfig, *, inputs: Any, outputs: Any, folds: int = 9, seed: int = 0
) -> tuple[Emulation, Array]:
    """Predictions for every simulation by an emulator that has not seen it, and the truths (N, K).

    The kernels or nets are trained anew in each of ``folds`` parts. A simulation that lies outside the ranges
    of the others is predicted all the same, with the ranges of all.
    """
    if not 2 <= folds <= len(table):
        raise DeepfieldError(f"folds are 2 to the number of simulations, {len(table)}; got {folds}")
    order = np.random.default_rng(seed).permutation(len(table))
    means, stds, truth = [], [], None
    for part in np.array_split(order, folds):
        rest = np.setdiff1d(order, part)
        fitted = train(table[rest], config, inputs=inputs, outputs=outputs, progress=False)
        theta, truth = arrays(table, fitted.inputs, fitted.outputs)
        found = fitted.expand(*fitted.components(theta[part]))
        means.append(found.mean)
        stds.append(found.std)
    back = np.argsort(order, kind="stable")
    assert truth is not None
    return Emulation(np.concatenate(means)[back], np.concatenate(stds)[back]), truth


def learning_curve(
    table: Table, config: EmulatorConfig, *, inputs: Any, outputs: Any, sizes: Sequence[int], seed: int = 0
) -> list[dict[str, float]]:
    """Errors on a third of the simulations, by how many of the others an emulator was trained on.

    Returns
    -------
    list of dict
        For each of ``sizes``: ``simulations``, and ``median``, ``p95`` and ``largest`` relative error (of one).

    Raises
    ------
    DeepfieldError
        If a size is below ten, or above two thirds of the table.

    Examples
    --------
    >>> x = np.random.default_rng(0).uniform(0.5, 1, 60)
    >>> table = Table({"a": x, "curve": np.exp(-x[:, None] * np.linspace(0.1, 2, 30))})
    >>> rows = learning_curve(table, EmulatorConfig(), inputs="a", outputs="curve", sizes=[10, 40])
    >>> rows[1]["median"] < rows[0]["median"]
    True
    """
    order = np.random.default_rng(seed).permutation(len(table))
    held, rest = np.split(order, [len(table) // 3])
    found = []
    for n in sizes:
        if not 10 <= n <= len(rest):
            raise DeepfieldError(f"a learning curve goes from 10 to {len(rest)} simulations here; got {n}")
        fitted = train(table[rest[:n]], config, inputs=inputs, outputs=outputs, progress=False)
        theta, truth = arrays(table, fitted.inputs, fitted.outputs)
        one = score(fitted.expand(*fitted.components(theta[held])), truth[held])
        found.append({"simulations": n, "median": one.median, "p95": one.p95, "largest": one.largest})
    return found


def score_table(emulator: Emulator, table: Table) -> Score:
    """Score an emulator on simulations in a table with its inputs and outputs."""
    theta, truth = arrays(table, emulator.inputs, emulator.outputs)
    return score(emulator.predict(theta), truth)
