"""Figures of the report of emulators: arrays in, a matplotlib ``Figure`` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.figures import BLUE, ORANGE, SKY, VERMILION, _figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


def bands(k: Array, z: Array, error: Array) -> Figure:
    """Relative errors (N, Z, K) over scale, of all redshifts; and over scale and redshift, 95 % of cosmologies."""
    size = 100 * np.abs(error)
    with style():
        figure = _figure(9.0, 3.4)
        left, right = figure.subplots(1, 2)
        rows = size.reshape(-1, len(k))
        for level, colour, label in ((0.5, BLUE, "median"), (0.95, ORANGE, "95 %"), (1.0, VERMILION, "largest")):
            left.loglog(k, np.quantile(rows, level, axis=0), color=colour, label=label)
        left.set_xlabel("$k$ [1/Mpc]")
        left.set_ylabel("relative error of $P(k)$ [%]")
        left.legend()
        order = np.argsort(z)
        kept = np.unique(np.linspace(0, len(k) - 1, 120).astype(int))
        high = np.quantile(size, 0.95, axis=0)[order][:, kept]
        image = right.pcolormesh(k[kept], np.arange(len(z)), high, norm="log", cmap="cividis", rasterized=True)
        right.set_xscale("log")
        right.set_xlabel("$k$ [1/Mpc]")
        right.set_yticks(np.arange(len(z)), [f"{one:g}" for one in np.asarray(z)[order]])
        right.set_ylabel("$z$")
        figure.colorbar(image, ax=right, label="95 % of cosmologies below [%]")
    return figure


def corner(theta: Array, names: Sequence[str], size: Array, worst: Any) -> Figure:
    """Cosmologies (N, D) in each pair of parameters, by the size (N,) of their error; ``worst`` (W,) stand out."""
    d, colours = len(names), 100 * size
    labels = [name.replace("_", " ") for name in names]
    with style():
        figure = _figure(1.1 * d, 1.1 * d)
        grid = figure.subplots(d - 1, d - 1, squeeze=False)
        dots: Any = None
        for i in range(d - 1):
            for j in range(d - 1):
                axes = grid[i, j]
                if j > i:
                    axes.set_axis_off()
                    continue
                x, y = theta[:, j], theta[:, i + 1]
                dots = axes.scatter(x, y, 7, colours, cmap="cividis", linewidths=0)
                axes.plot(x[worst], y[worst], "o", ms=5, mfc="none", mec=VERMILION, label="_worst")
                axes.tick_params(labelleft=j == 0, labelbottom=i == d - 2, labelsize=6)
                axes.locator_params(nbins=3)
                if j == 0:
                    axes.set_ylabel(labels[i + 1], fontsize=7)
                if i == d - 2:
                    axes.set_xlabel(labels[j], fontsize=7)
        figure.colorbar(
            dots, cax=figure.add_axes((0.62, 0.86, 0.3, 0.02)), label="mean error [%]", orientation="horizontal"
        )
    return figure


def learning(curve: Sequence[Mapping[str, float]]) -> Figure:
    """Errors by the number of simulations: rows with ``simulations``, ``median`` and ``p95`` (of one)."""
    with style():
        figure = _figure(4.6, 3.2)
        axes = figure.subplots()
        for name, colour, label in (("median", BLUE, "median"), ("p95", ORANGE, "95 %")):
            axes.loglog([r["simulations"] for r in curve], [100 * r[name] for r in curve], "o-", color=colour)
            axes.get_lines()[-1].set_label(label)
        axes.set_xlabel("simulations")
        axes.set_xticks([r["simulations"] for r in curve], [f"{r['simulations']:g}" for r in curve], minor=False)
        axes.set_xticks([], minor=True)
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylabel("relative error [%]")
        axes.legend()
    return figure


def speed(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Speed against accuracy: points with ``name``, ``microseconds`` for a spectrum, ``median`` error (of one)."""
    with style():
        figure = _figure(5.6, 3.4)
        axes = figure.subplots()
        for point in points:
            own = point["name"].startswith("deepfield")
            axes.loglog(point["microseconds"], 100 * point["median"], "o", color=BLUE if own else SKY, label="_")
            axes.annotate(
                point["name"],
                (point["microseconds"], 100 * point["median"]),
                textcoords="offset points",
                xytext=(6, -12 if point["name"].endswith("here") else 4),
                fontsize=8,
            )
        axes.margins(0.3)
        axes.set_xlabel("processor time of a spectrum [microseconds]")
        axes.set_ylabel("median relative error [%]")
    return figure
