"""Figures of the search for lenses: ROC, completeness, measured against true, a lens with its curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from deepfield.core.figures import BLUE, CYCLE, style
from deepfield.core.pictures import as_picture
from deepfield.lensing.curves import curves
from deepfield.lensing.lens import Lens

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMES = {"theta_e": r"Einstein radius $\theta_E$ [arcsec]", "snr": "signal-to-noise ratio of the arcs"}


def _canvas(width: float, height: float) -> Any:
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def roc(found: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """ROC curves with a logarithmic axis of false positives, of methods by name (``false`` and ``true`` rates)."""
    with style():
        figure = _canvas(4.2, 3.4)
        axes = figure.subplots()
        least = 1.0
        for colour, (name, curve) in zip(CYCLE, found.items()):
            false, true = np.asarray(curve["false"]), np.asarray(curve["true"])
            step = false[false > 0].min() if (false > 0).any() else 1e-4
            least = min(least, float(step))
            axes.step(np.maximum(false, 0.5 * step), true, where="post", color=colour, label=name, lw=1.4)
        line = np.geomspace(0.5 * least, 1, 50)
        axes.plot(line, line, color="#6b6b6b", lw=0.8, ls=":", label="chance")
        axes.set(xscale="log", xlim=(0.5 * least, 1), ylim=(0, 1.02), xlabel="false-positive rate")
        axes.set_ylabel("share of the lenses found")
        axes.legend(loc="upper left")
    return figure


def completeness(found: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """Completeness in bins of some properties, as :func:`deepfield.lensing.score.completeness` gives it."""
    with style():
        figure = _canvas(3.6 * len(found), 3.0)
        for axes, (name, told) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items()):
            share, x = np.asarray(told["share"]), np.asarray(told["middle"])
            low, high = share - np.asarray(told["lo68"]), np.asarray(told["hi68"]) - share
            axes.errorbar(x, share, np.maximum([low, high], 0), fmt="o-", color=BLUE, ms=3.5, lw=1, capsize=2)
            axes.set(xscale="log", ylim=(0, 1.02), xlabel=_NAMES.get(name, name), ylabel="share found")
            axes.xaxis.set_major_formatter("{x:g}")
            axes.xaxis.set_minor_formatter("")
    return figure


def against(
    truth: ArrayLike, middle: ArrayLike, low: ArrayLike, high: ArrayLike, *, name: str, most: int = 150
) -> Figure:
    """Measured against true values with their intervals, of some of the objects."""
    t, m, a, b = (np.asarray(v, dtype=np.float64) for v in (truth, middle, low, high))
    rows = np.flatnonzero(np.isfinite(t + m + a + b))
    rows = rows[:: max(1, len(rows) // most)]
    with style():
        figure = _canvas(3.6, 3.4)
        axes = figure.subplots()
        bars = np.maximum([m[rows] - a[rows], b[rows] - m[rows]], 0)
        axes.errorbar(t[rows], m[rows], bars, fmt="o", ms=2.2, lw=0.7, color=BLUE, alpha=0.7)
        ends = [float(np.min(t[rows])), float(np.max(t[rows]))] if len(rows) else [0.0, 1.0]
        axes.plot(ends, ends, color="#1a1a1a", lw=0.8)
        axes.set(xlabel=f"true {name}", ylabel=f"measured {name}")
    return figure


def lens(pixels: ArrayLike, model: Lens, pixel: float) -> Figure:
    """An image (B, S, S) of ``pixel`` arcsec a pixel with the critical curves and caustics of its lens."""
    image = as_picture(pixels)
    half = 0.5 * image.shape[0] * pixel
    found = curves(model)
    with style():
        figure = _canvas(3.4, 3.3)
        axes = figure.subplots()
        axes.imshow(image, extent=(-half, half, -half, half), interpolation="nearest")
        for lines, kind, colour in ((found.critical, "-", "#ffd166"), (found.caustics, "--", "#ef6f6c")):
            for line in lines:
                x, y = np.asarray(line, dtype=np.float64).T[:2]
                axes.plot(x, y, kind, color=colour, lw=1.1)
        axes.set(xlim=(-half, half), ylim=(-half, half), xlabel="arcsec", ylabel="arcsec")
    return figure
