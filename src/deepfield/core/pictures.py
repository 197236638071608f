"""Figures of classes and images for reports: contact sheets, confusion, reliability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.figures import BLUE, CYCLE, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
_GREY, _PALE = "#6b6b6b", "#e3e8ee"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure as Canvas

    return Canvas(figsize=(width, height), layout="constrained")


def as_picture(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Pixels (B, H, W) as a picture (H, W, 3): bytes as they are, fluxes through an arcsinh of their own spread.

    Bands of fluxes go from blue to red. One band gives grey; of two the mean stands in for green; of more than
    three the first three are shown.

    Examples
    --------
    >>> as_picture(np.zeros((3, 4, 4), dtype=np.uint8)).shape
    (4, 4, 3)
    """
    x = np.asarray(pixels)
    if x.ndim != 3 or not x.shape[0]:
        raise DeepfieldError(f"an image is (bands, height, width), not of shape {x.shape}")
    if x.dtype != np.uint8:
        flux = np.nan_to_num(x.astype(np.float64))
        flux = flux - np.median(flux, axis=(1, 2), keepdims=True)
        middle = np.abs(flux.mean(0))
        softening = max(3 * float(np.quantile(middle, 0.3)), 1e-30)
        grey = np.asinh(flux.mean(0) / softening)
        gain = np.where(middle > 0, grey * softening / np.where(middle > 0, flux.mean(0), 1.0), 1.0)
        bright = flux * gain / softening
        x = (255 * np.clip(bright / max(float(np.quantile(bright, 0.999)), 1e-9), 0, 1)).astype(np.uint8)
        x = x[:3][::-1]  # as red, green, blue
    if len(x) == 2:
        x = np.stack([x[0], x.mean(0).astype(np.uint8), x[1]])
    return np.moveaxis(x[:3] if len(x) > 1 else np.repeat(x, 3, 0), 0, -1)


def contact_sheet(rows: Mapping[str, tuple[Sequence[ArrayLike], Sequence[str]]], *, size: float = 0.85) -> Figure:
    """Rows of small pictures, each row with its name, each picture with a line below.

    Parameters
    ----------
    rows : mapping
        Name of the row to its images (n of (B, H, W)) and n captions; a row may be empty.
    size : float
        Inches of a picture.
    """
    with style():
        most = max((len(images) for images, _ in rows.values()), default=0)
        if not most:
            raise DeepfieldError("no image for the contact sheet: nothing to draw")
        figure = _figure(size * most + 1.0, (size + 0.22) * len(rows))
        grid = figure.subplots(len(rows), most, squeeze=False)
        for line, (name, (images, captions)) in zip(grid, rows.items()):
            for j, axes in enumerate(line):
                axes.set(xticks=[], yticks=[])
                axes.set_frame_on(False)
                if j < len(images):
                    axes.imshow(as_picture(images[j]), interpolation="nearest")
                    axes.set_xlabel(captions[j], fontsize=6.5, labelpad=1.5)
            line[0].set_ylabel(name, fontsize=8)
    return figure


def confusion(matrix: ArrayLike, names: Sequence[str]) -> Figure:
    """Confusion matrix (C, C), true classes in rows: shares of each row as colour, counts as numbers."""
    with style():
        counts = np.asarray(matrix, dtype=np.float64)
        if counts.shape != (len(names), len(names)):
            raise DeepfieldError(f"{len(names)} names do not fit a matrix of shape {counts.shape}")
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        side = 1.6 + 0.55 * len(names)
        figure = _figure(side + 0.6, side)
        axes = figure.subplots()
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in np.ndindex(*counts.shape):
            axes.text(
                j, i, f"{counts[i, j]:,.0f}\n{share[i, j]:.0%}", ha="center", va="center", fontsize=7,
                color="white" if share[i, j] > 0.55 else "black",
            )  # fmt: skip
        places = np.arange(len(names))
        axes.set_xticks(places, names, rotation=35, ha="right")
        axes.set_yticks(places, names)
        axes.tick_params(length=0)
        axes.set(xlabel="chosen", ylabel="true")
    return figure


def reliability(curves: Mapping[str, Mapping[str, Any]], *, columns: int = 4) -> Figure:
    """Observed against predicted frequency, a panel for each answer, with the 95 % band of a calibrated model.

    Parameters
    ----------
    curves : mapping
        By name ``predicted``, ``observed``, ``error`` and ``n`` of each bin, as
        :func:`deepfield.trust.classification.reliability` gives them.
    columns : int
        Panels side by side.
    """
    with style():
        if not curves:
            raise DeepfieldError("no reliability curve: nothing to draw")
        wide = min(columns, len(curves))
        lines = -(-len(curves) // wide)
        figure = _figure(2.3 * wide, 2.4 * lines)
        panels = figure.subplots(lines, wide, squeeze=False, sharex=True, sharey=True).ravel()
        for axes, (name, curve) in zip(panels, curves.items()):
            p, seen, error = (
                np.asarray(curve[key], dtype=np.float64) for key in ("predicted", "observed", "error")
            )
            axes.plot([0, 1], [0, 1], color=_GREY, lw=0.7)
            axes.fill_between(p, p - 1.96 * error, p + 1.96 * error, color=_PALE, lw=0)
            axes.plot(p, seen, "o-", color=BLUE, ms=3.5, lw=1.1)
            axes.set(xlim=(0, 1), ylim=(0, 1))
            axes.set_title(name, fontsize=8)
        for axes in panels[len(curves) :]:
            axes.axis("off")
        figure.supxlabel("predicted", fontsize=9)
        figure.supylabel("observed", fontsize=9)
    return figure


def turning(angles: ArrayLike, change: Mapping[str, ArrayLike], *, ylabel: str, floor: float = 1e-9) -> Figure:
    """How much an answer changes as the image is turned, by angle (degrees), on a logarithmic axis.

    Changes below ``floor`` are drawn at it.
    """
    with style():
        figure = _figure(5.4, 3.2)
        axes = figure.subplots()
        for i, (name, values) in enumerate(change.items()):
            y = np.maximum(np.asarray(values, dtype=np.float64), floor)
            axes.semilogy(np.asarray(angles), y, "o-", color=CYCLE[i % 6], ms=3, lw=1.1, label=name)
        axes.set(xlabel="angle by which the image is turned [deg]", ylabel=ylabel)
        axes.set_xlim(float(np.min(angles)), float(np.max(angles)))
        axes.legend(loc="lower center", ncols=len(change))
    return figure
