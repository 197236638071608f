"""Posteriors side by side: a triangle of marginals and of regions that hold 68 and 95 % of the draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter

from deepfield.core.errors import DeepfieldError
from deepfield.core.figures import CYCLE, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_CELLS, _SMOOTH = 60, 1.6


def triangle(
    draws: Mapping[str, ArrayLike], names: Sequence[str], *, truth: ArrayLike | None = None, size: float = 1.9
) -> Figure:
    """Marginals on the diagonal, pairs below it.

    Parameters
    ----------
    draws : mapping
        For each posterior, by its label, draws (N, D). The first is filled.
    names : sequence of str
        Of the D parameters.
    truth : array (D,), optional
        Marked by lines.
    size : float
        Inches for each parameter.

    Raises
    ------
    DeepfieldError
        If a set of draws has another number of parameters.

    Examples
    --------
    >>> figure = triangle({"a": np.random.default_rng(0).normal(size=(500, 2))}, ["x", "y"])
    >>> len(figure.axes)
    3
    """
    sets = {label: np.asarray(values, dtype=float) for label, values in draws.items()}
    dim = len(names)
    for label, values in sets.items():
        if values.ndim != 2 or values.shape[1] != dim:
            raise DeepfieldError(f"draws of '{label}' have shape {values.shape}; {dim} parameters are named")
    everything = np.concatenate([values[:: max(1, len(values) // 5000)] for values in sets.values()])
    low, high = np.quantile(everything, [0.002, 0.998], axis=0)
    low, high = low - 0.12 * (high - low), high + 0.12 * (high - low)
    with style():
        from matplotlib.figure import Figure as Canvas

        figure = Canvas(figsize=(size * dim + 0.9, size * dim + 0.5), layout="constrained")
        grid = figure.add_gridspec(dim, dim)
        for i in range(dim):
            for j in range(i + 1):
                axes = figure.add_subplot(grid[i, j])
                for (label, values), colour in zip(sets.items(), CYCLE):
                    first = label == next(iter(sets))
                    if i == j:
                        _marginal(axes, values[:, i], (low[i], high[i]), colour, first)
                    else:
                        _pair(axes, values[:, [j, i]], (low[[j, i]], high[[j, i]]), colour, first)
                if truth is not None:
                    place = np.asarray(truth, dtype=float)
                    axes.axvline(place[j], color="0.3", lw=0.7, ls=":")
                    if i != j:
                        axes.axhline(place[i], color="0.3", lw=0.7, ls=":")
                axes.set_xlim(low[j], high[j])
                axes.set_xlabel(names[j] if i == dim - 1 else "")
                axes.set_ylabel(names[i] if j == 0 and i else "")
                axes.tick_params(labelbottom=i == dim - 1, labelleft=j == 0 and i > 0)
        handles = [_handle(colour) for _, colour in zip(sets, CYCLE)]
        figure.legend(handles, list(sets), loc="outside upper right" if dim < 2 else "upper right")
    return figure


def _handle(colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour)


def _marginal(axes: Any, values: Array, bounds: tuple[float, float], colour: str, filled: bool) -> None:
    density, edges = np.histogram(values, _CELLS, bounds, density=True)
    density = gaussian_filter(density, _SMOOTH, mode="nearest")
    centres = 0.5 * (edges[1:] + edges[:-1])
    axes.plot(centres, density, color=colour, lw=1.2)
    if filled:
        axes.fill_between(centres, density, color=colour, alpha=0.25, lw=0)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.08 * density.max()))
    axes.set_yticks([])


def _pair(axes: Any, values: Array, bounds: tuple[Array, Array], colour: str, filled: bool) -> None:
    ranges = list(zip(*bounds))
    density, x, y = np.histogram2d(values[:, 0], values[:, 1], _CELLS, ranges)
    density = gaussian_filter(density, _SMOOTH, mode="nearest")
    inner = 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])
    levels = region_levels(density, (0.95, 0.68))
    if filled:
        axes.contourf(*inner, density.T, [*levels, density.max() * 1.01], colors=[colour], alpha=0.25)
    axes.contour(*inner, density.T, levels, colors=[colour], linewidths=1.1)
    axes.set_ylim(*ranges[1])


def region_levels(density: Array, shares: Sequence[float]) -> list[float]:
    """The density above which each share of the whole lies, for shares that fall.

    Examples
    --------
    >>> region_levels(np.array([1.0, 2.0, 3.0, 4.0]), [0.95, 0.65])
    [1.0, 3.0]
    """
    ordered = np.sort(density.ravel())[::-1]
    total = np.cumsum(ordered) / ordered.sum()
    places = np.searchsorted(total, np.asarray(shares)).clip(max=len(ordered) - 1)
    return [float(value) for value in ordered[places]]
