"""What the methods that answer with a density on a grid of redshifts have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.data.photometry import photometry

Array = NDArray[np.float64]


def redshift_grid(z: ArrayLike, points: int = 401) -> Array:
    """Even grid from zero to a little beyond the highest of the redshifts.

    Examples
    --------
    >>> redshift_grid([0.1, 1.0], 3)
    array([0.   , 0.525, 1.05 ])
    """
    return np.linspace(0.0, 1.05 * float(np.max(np.maximum(z, 0.01))), points)


def normalise(pdf: Array, grid: Array) -> Array:
    """Densities (N, G) scaled to one by the trapezium rule."""
    return pdf / np.asarray(np.trapezoid(pdf, grid, axis=1))[:, None]


def log_score(pdf: Array, grid: Array, z: Array) -> float:
    """Mean log density at the true redshifts, each density linear between grid points."""
    place = np.clip(np.searchsorted(grid, z) - 1, 0, grid.size - 2)
    share = np.clip((z - grid[place]) / (grid[place + 1] - grid[place]), 0, 1)
    rows = np.arange(z.size)
    value = (1 - share) * pdf[rows, place] + share * pdf[rows, place + 1]
    return float(np.log(np.maximum(value, 1e-10)).mean())


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count`` rows."""
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


class Photometry:
    """Fluxes and errors in nJy with every gap in the errors filled from the training rows."""

    def __init__(self, bands: Sequence[str], table: Any) -> None:
        self.bands = tuple(bands)
        flux, error = photometry(table, self.bands)
        known = np.where(error > 0, error, np.nan)
        typical = np.nanmedian(np.where(np.isfinite(flux), np.abs(flux), np.nan), axis=0)
        noise = [np.nanquantile(k, 0.2) if np.isfinite(k).any() else 0.01 * t for k, t in zip(known.T, typical)]
        self.noise = np.nan_to_num(np.array(noise), nan=1.0)
        self.has_errors = bool(np.isfinite(known).any())

    def __call__(self, table: Any) -> tuple[Array, Array]:
        """Fluxes and errors (N, B); NaN only where a band was not observed."""
        flux, error = photometry(table, self.bands)
        unknown = np.isfinite(flux) & ~(error > 0)
        guess = np.sqrt(self.noise**2 + (0.02 * np.nan_to_num(flux)) ** 2)
        return flux, np.where(unknown, guess, np.where(np.isfinite(flux), error, np.nan))
