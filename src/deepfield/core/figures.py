"""Figures for reports: plain arrays in, a matplotlib ``Figure`` out, no global state touched.

Colours are those of Okabe & Ito (2008), told apart by colour-blind readers and in grey. Every band in a figure
is a range that a perfect result keeps to with probability 0.95, unless its label says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import betabinom, binom

from deepfield.core.errors import DeepfieldError
from deepfield.core.optional import require

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
BLUE, VERMILION, ORANGE, SKY = "#0072B2", "#D55E00", "#E69F00", "#56B4E9"
CYCLE = (BLUE, VERMILION, "#009E73", "#AA4499", ORANGE, SKY)
_DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5)), (0, (3, 1, 1, 1, 1, 1)), "-")
_GREY, _PALE, _INK, _FRAME = "#6b6b6b", "#e3e8ee", "#1a1a1a", "#444444"
_STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.labelsize": 9.5,
    "axes.titlesize": 9.5,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "axes.edgecolor": _FRAME,
    "axes.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 2.4,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "mathtext.fontset": "dejavusans",
    "svg.fonttype": "path",
    "svg.hashsalt": "deepfield",
    **{f"{axis}tick.direction": "in" for axis in "xy"},
    **{f"{axis}tick.color": _FRAME for axis in "xy"},
    **{f"{axis}tick.labelcolor": _INK for axis in "xy"},
    **{"xtick.top": True, "ytick.right": True},
}


def style() -> AbstractContextManager[None]:
    """Give the look of every figure here to one's own, in a ``with`` block."""
    return require("matplotlib", extra="report").rc_context(_STYLE)


def _figure(width: float, height: float, **layout: Any) -> Figure:
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained", **layout)


def _pairs(x: ArrayLike, y: ArrayLike, names: str) -> tuple[Array, Array]:
    """The rows in which both are finite."""
    a, b = np.asarray(x, dtype=np.float64).ravel(), np.asarray(y, dtype=np.float64).ravel()
    if a.shape != b.shape:
        raise DeepfieldError(f"{names} should have one length, not {len(a)} and {len(b)}")
    good = np.isfinite(a) & np.isfinite(b)
    if not good.any():
        raise DeepfieldError(f"no row has both of {names}: nothing to draw")
    return a[good], b[good]


def _nmad(values: Array) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def density_scatter(
    truth: ArrayLike,
    estimate: ArrayLike,
    *,
    outlier: float = 0.15,
    xlabel: str = r"$z_\mathrm{spec}$",
    ylabel: str = r"$z_\mathrm{phot}$",
    bins: int = 120,
) -> Figure:
    """Estimates against truths as a density, with the scaled error (estimate - truth)/(1 + truth) below.

    Parameters
    ----------
    truth, estimate : (N,) array
        Rows that are not finite are left out.
    outlier : float
        Where the dashed lines lie in scaled error.
    xlabel, ylabel, bins
        Of the axes: names, and number of cells.
    """
    with style():
        from matplotlib.colors import LogNorm

        x, y = _pairs(truth, estimate, "truth and estimate")
        scaled = (y - x) / (1 + x)
        figure = _figure(5.0, 6.2)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
        low, high = np.quantile(np.concatenate([x, y]), [0.0005, 0.9995])
        margin = 0.04 * max(high - low, 1e-6)
        span = np.array([max(low - margin, 0) if low >= 0 else low - margin, high + margin])
        tail = float(np.quantile(np.abs(scaled), 0.999))
        reach = max(1.6 * outlier if tail > 0.7 * outlier else 1.3 * tail, 6 * _nmad(scaled), 1e-9)
        counts, *edges = np.histogram2d(x, y, bins, [span, span])
        lower, *edges_below = np.histogram2d(x, scaled, (bins, bins // 3), [span, [-reach, reach]])
        norm = LogNorm(1, max(counts.max(), 10))
        for axes, grid, sides in ((top, counts, edges), (below, lower, edges_below)):
            cells = np.where(grid.T > 0, grid.T, np.nan)
            mesh = axes.pcolormesh(*sides, cells, norm=norm, cmap=_density_colours(), rasterized=True)
        for offset, pattern in ((0, "-"), (outlier, "--"), (-outlier, "--")):
            top.plot(span, span + offset * (1 + span), pattern, color=VERMILION, lw=0.8)
            below.axhline(offset, ls=pattern, color=VERMILION, lw=0.8)
        figure.colorbar(mesh, ax=[top, below], label="objects per cell", pad=0.015, aspect=42, format="{x:.0f}")
        top.set(xlim=span, ylim=span, ylabel=ylabel)
        below.set(ylim=(-reach, reach), xlabel=xlabel, ylabel="scaled error")
        far, spread = np.mean(np.abs(scaled) > outlier), rf"$\sigma_\mathrm{{NMAD}}$ {_nmad(scaled):.4f}"
        text = f"{len(x):,} objects\nbias {scaled.mean():+.4f}\n{spread}\noutliers {far:.2%}"
        top.text(0.04, 0.96, text, transform=top.transAxes, va="top", linespacing=1.5)
    return figure


def _density_colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("deepfield", ["#cfdfec", "#7fb0d3", "#2f7fb5", "#0b4a7a", "#06213a"])


def pit_histogram(pit: ArrayLike, *, bins: int = 20) -> Figure:
    """Histogram of PIT values (N,) with the band that uniform values keep to in 95 of 100 bins."""
    with style():
        values = np.asarray(pit, dtype=np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            raise DeepfieldError("no finite PIT value: nothing to draw")
        figure = _figure(4.8, 3.3)
        axes = figure.subplots()
        n = len(values)
        heights, edges = np.histogram(values, bins, (0, 1))
        low, high = (binom.ppf(q, n, 1 / bins) * bins / n for q in (0.025, 0.975))
        axes.axhspan(low, high, color=_PALE, lw=0, label="95 % of bins, if calibrated")
        axes.axhline(1, color=_GREY, lw=0.7)
        axes.stairs(heights * bins / n, edges, color=BLUE, lw=1.4, baseline=None, label=f"{n:,} objects")
        top = max(1.6, 1.25 * heights.max() * bins / n)
        axes.set(xlim=(0, 1), ylim=(0, top), xlabel="PIT  $F(z_\\mathrm{true})$", ylabel="relative frequency")
        ordered = np.sort(values)
        distance = max((np.arange(1, n + 1) / n - ordered).max(), (ordered - np.arange(n) / n).max())
        axes.text(0.03, 0.95, f"KS distance {distance:.4f}", transform=axes.transAxes, va="top")
        axes.legend(loc="upper right")
    return figure


def coverage_curve(
    levels: ArrayLike,
    coverage: ArrayLike | Mapping[str, ArrayLike],
    *,
    n: int,
    n_cal: int | None = None,
) -> Figure:
    """Coverage of intervals against their nominal level, and the difference with its 95 per cent band.

    Parameters
    ----------
    levels : (L,) array
        Nominal.
    coverage : (L,) array or several by name
        Measured.
    n : int
        Objects it was measured on.
    n_cal : int, optional
        Rows a conformal calibration used: the band is then Beta-binomial, else binomial.
    """
    with style():
        nominal = np.asarray(levels, dtype=np.float64)
        named = coverage if isinstance(coverage, Mapping) else {"": coverage}
        figure = _figure(4.8, 5.2)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
        inner = np.linspace(0.01, 0.99, 99)
        rank = None if n_cal is None else np.minimum(np.ceil((n_cal + 1) * inner), n_cal)
        law = binom(n, inner) if rank is None else betabinom(n, rank, (n_cal or 0) + 1 - rank)
        low, high = law.ppf(0.025) / n, law.ppf(0.975) / n
        top.fill_between(inner, low, high, color=_PALE, lw=0, label="95 %, if calibrated")
        below.fill_between(inner, low - inner, high - inner, color=_PALE, lw=0)
        top.plot([0, 1], [0, 1], color=_GREY, lw=0.7)
        below.axhline(0, color=_GREY, lw=0.7)
        for i, (name, values) in enumerate(named.items()):
            measured = np.asarray(values, dtype=np.float64)
            look = {"color": CYCLE[i % 6], "ls": _DASHES[i % 6], "lw": 1.4}
            top.plot(nominal, measured, label=name or None, **look)
            below.plot(nominal, measured - nominal, **look)
        top.set(xlim=(0, 1), ylim=(0, 1), ylabel="coverage")
        below.set(xlabel="nominal level of the interval", ylabel="coverage − level")
        best = min(float(np.nanmax(np.abs(np.asarray(v) - nominal))) for v in named.values())
        reach = max(1.3 * best, 3 * float(np.max(high - inner)))  # curves far off are seen above
        below.set_ylim(-reach, reach)
        top.legend(loc="upper left")
    return figure


def example_densities(
    prediction: Any, truth: ArrayLike, *, rows: ArrayLike | None = None, n: int = 9, xlabel: str = "$z$"
) -> Figure:
    """Densities of some objects with the 68 per cent interval shaded and the truth as a line.

    Parameters
    ----------
    prediction : Prediction
        N scalar densities.
    truth : (N,) array
        NaN where unknown.
    rows : (n,) integers, optional
        Which objects; unless given, n at even steps from the narrowest density to the widest, so that nobody
        picked them.
    n : int
        Number of panels.
    xlabel : str
        Of the panels.
    """
    with style():
        y = np.asarray(truth, dtype=np.float64)
        chosen = _by_width(prediction, y, n) if rows is None else np.asarray(rows, dtype=np.intp)
        part, y = prediction[chosen], y[chosen]
        columns = min(3, len(chosen))
        lines = -(-len(chosen) // columns)
        figure = _figure(1.75 * columns, 1.45 * lines + 0.45)
        panels = np.atleast_1d(figure.subplots(lines, columns, squeeze=False)).ravel()
        low, high = part.quantile(0.0005), part.quantile(0.9995)
        inner = part.interval(0.683)
        for i, axes in enumerate(panels):
            if i >= len(chosen):
                axes.axis("off")
                continue
            ends = np.array([low[i], high[i], y[i]])
            margin = 0.05 * max(np.nanmax(ends) - np.nanmin(ends), 1e-9)
            grid = np.linspace(np.nanmin(ends) - margin, np.nanmax(ends) + margin, 500)
            density = part[i : i + 1].pdf(grid)[0]
            inside = (grid >= inner[0][i]) & (grid <= inner[1][i])
            axes.fill_between(grid, 0, density, where=inside, color=SKY, alpha=0.35, lw=0)
            axes.plot(grid, density, color=BLUE, lw=1.3)
            axes.axvline(y[i], color=VERMILION, lw=1.2, ls="--")
            axes.set(xlim=grid[[0, -1]], ylim=(0, 1.15 * np.nanmax(density)), yticks=[])
            axes.tick_params(labelsize=8)
            axes.locator_params(axis="x", nbins=3)
        _key(figure, xlabel)
    return figure


def _key(figure: Figure, xlabel: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=BLUE, lw=1.3, label="density"),
        Patch(color=SKY, alpha=0.35, lw=0, label="68.3 % interval"),
        Line2D([], [], color=VERMILION, lw=1.2, ls="--", label="truth"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3)
    figure.supxlabel(xlabel, fontsize=9.5)


def _by_width(prediction: Any, truth: Array, n: int) -> NDArray[np.intp]:
    width = np.asarray(prediction.std)
    good = np.flatnonzero(np.isfinite(width) & np.isfinite(truth))
    if not len(good):
        raise DeepfieldError("no object has both a density and a truth: nothing to draw")
    ordered = good[np.argsort(width[good], kind="stable")]
    return ordered[np.unique(np.round(np.linspace(0.02, 0.98, n) * (len(good) - 1)).astype(np.intp))]


def error_against(x: ArrayLike, error: ArrayLike, *, xlabel: str, outlier: float = 0.15, bins: int = 12) -> Figure:
    """Median, scatter and outliers of an error along x, in bins of equal number.

    Parameters
    ----------
    x, error : (N,) array
        Rows that are not finite are left out.
    xlabel : str
        With its unit.
    outlier : float
        Absolute error beyond which an object counts as an outlier.
    bins : int
        Number wanted; each has 20 objects at least.
    """
    with style():
        along, dz = _pairs(x, error, "x and error")
        count = max(1, min(bins, len(along) // 20))
        edges = np.unique(np.quantile(along, np.linspace(0, 1, count + 1)))
        index = np.clip(np.searchsorted(edges, along, side="right") - 1, 0, max(len(edges) - 2, 0))
        groups = [dz[index == i] for i in range(max(len(edges) - 1, 1))]
        middle = np.array([np.median(along[index == i]) for i in range(len(groups))])
        size = np.array([len(group) for group in groups])
        median, scatter = np.array([np.median(g) for g in groups]), np.array([_nmad(g) for g in groups])
        share = np.array([np.mean(np.abs(g) > outlier) for g in groups])
        figure = _figure(5.4, 4.6)
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[1.8, 1])
        reach = 3.2 * float(np.max(np.abs(median) + scatter)) or 1.0
        _underlay(top, along, dz, reach)
        top.axhline(0, color=_GREY, lw=0.7)
        band = {"color": ORANGE, "alpha": 0.3, "lw": 0, "label": r"$\pm\sigma_\mathrm{NMAD}$"}
        top.fill_between(middle, median - scatter, median + scatter, **band)
        look: dict[str, Any] = {"ms": 3.5, "lw": 1.2}
        wobble = 1.2533 * scatter / np.sqrt(size)  # standard error of a Gaussian's median
        top.errorbar(middle, median, wobble, fmt="o-", color=VERMILION, label="median", **look)
        top.set(ylim=(-reach, reach), ylabel=r"$\Delta z / (1+z)$")
        top.legend(loc="upper left", ncols=2)
        likely = np.maximum(share, 0.5 / size)
        spread = np.abs(np.stack([binom.ppf(q, size, likely) for q in (0.159, 0.841)]) / size - share)
        below.errorbar(middle, 100 * share, 100 * spread, fmt="s-", color=BLUE, **look)
        below.set(xlabel=xlabel, ylabel="outliers [%]")
        below.set_ylim(0, max(1.0, 130 * float(np.max(share + spread[1]))))
    return figure


def _underlay(axes: Axes, x: Array, y: Array, reach: float) -> None:
    """The objects themselves, pale."""
    low, high = np.quantile(x, [0.001, 0.999])
    sides = np.linspace(low, high, 110), np.linspace(-reach, reach, 60)
    if sides[0][0] < sides[0][-1]:
        cells = np.histogram2d(x, y, sides)[0].T
        shown = np.where(cells > 0, cells, np.nan)
        axes.pcolormesh(*sides, shown, cmap=_density_colours(), alpha=0.35, rasterized=True)


def training_curves(history: Mapping[str, Any]) -> Figure:
    """Loss of each epoch on training and on held-out rows.

    Parameters
    ----------
    history : mapping
        ``train`` and ``validation``, lists with a loss for each epoch, and ``best_epoch``; or several such
        mappings by the name of the stage.
    """
    with style():
        stages = {"": history} if "train" in history else dict(history)
        figure = _figure(max(4.8, 2.7 * len(stages)), 3.2)
        for axes, (name, run) in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages.items()):
            train, held = np.asarray(run["train"], float), np.asarray(run["validation"], float)
            axes.plot(np.arange(1, len(train) + 1), train, color=ORANGE, ls=_DASHES[1], lw=1.3, label="training")
            axes.plot(np.arange(1, len(held) + 1), held, color=BLUE, lw=1.3, label="held out")
            best = int(run.get("best_epoch", -1))
            if 0 <= best < len(held):
                axes.plot(best + 1, held[best], "o", color=VERMILION, ms=5, label=f"kept: epoch {best + 1}")
            _loss_limits(axes, np.concatenate([train, held]))
            axes.set(xlabel="epoch", ylabel="loss", title=name)
            axes.legend(loc="upper right")
    return figure


def _loss_limits(axes: Axes, losses: Array) -> None:
    """Show the end of the training: the first epochs may be far above."""
    finite = losses[np.isfinite(losses)]
    if len(finite) > 8:
        low, middle = finite.min(), np.quantile(finite, 0.9)
        room = max(middle - low, 1e-9)
        axes.set_ylim(low - 0.08 * room, middle + 0.6 * room)


def n_of_z(
    grid: ArrayLike,
    density: ArrayLike,
    *,
    low: ArrayLike | None = None,
    high: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    xlabel: str = "redshift $z$",
) -> Figure:
    """Redshift distributions of one or more samples, (G,) or (B, G), with their error bands.

    Parameters
    ----------
    grid : (G,) array
        Redshifts.
    density : (G,) or (B, G) array
        n(z) of each sample.
    low, high, truth : as density, optional
        Edges of the band; a dashed line.
    xlabel : str
        Of the axis.
    """
    with style():
        z, curves = np.asarray(grid, float), np.atleast_2d(np.asarray(density, float))
        figure = _figure(6.0, 3.4)
        axes = figure.subplots()
        for i, curve in enumerate(curves):
            colour = CYCLE[i % 6]
            if low is not None and high is not None:
                axes.fill_between(z, np.atleast_2d(low)[i], np.atleast_2d(high)[i], color=colour, alpha=0.25, lw=0)
            axes.plot(z, curve, color=colour, lw=1.4, label=f"bin {i + 1}" if len(curves) > 1 else "n(z)")
            if truth is not None:
                axes.plot(z, np.atleast_2d(truth)[i], color=colour, lw=1.0, ls="--", label="_truth")
        axes.set(xlim=(z[0], z[-1]), xlabel=xlabel, ylabel="$n(z)$")
        axes.set_ylim(0, None)
        axes.legend(loc="upper right")
    return figure
