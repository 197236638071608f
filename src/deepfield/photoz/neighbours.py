"""Photometric redshifts from the nearest neighbours in colours and magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.spatial import cKDTree

from deepfield.core.errors import DeepfieldError
from deepfield.data.photometry import bands_of
from deepfield.photoz.gridded import Photometry, chunks, normalise, redshift_grid
from deepfield.photoz.read import redshifts
from deepfield.physics import photometry as ph

if TYPE_CHECKING:
    from deepfield.core.prediction import Prediction

Array = NDArray[np.float64]

_OTHERS = 0.01  # share of the sample's own redshift distribution mixed into every density


class NearestNeighbours:
    """Redshifts of the training rows nearest in colours and magnitude, as a kernel density.

    The features are asinh magnitudes (Lupton et al. 1999): one magnitude and the colours of neighbouring bands,
    each divided by its typical error and an intrinsic width in quadrature. Rows with missing bands are compared
    in the bands they have. The number of neighbours, the widths and the bandwidth are chosen on the validation
    rows by log likelihood.

    Parameters
    ----------
    bands
        Names of the bands; those of the training table by default.
    neighbours
        Candidates for their number.
    grid
        Redshifts of the densities, ascending; 401 to just beyond the training rows by default.

    Examples
    --------
    >>> from deepfield.photoz.simulate import simulate
    >>> train, val, test = (simulate(k, survey="sdss", seed=i) for i, k in enumerate((1000, 200, 200)))
    >>> pz = NearestNeighbours().fit(train, val).predict(test)
    >>> bool(np.median(np.abs(pz.median - test["z_spec"])) < 0.03)
    True
    """

    def __init__(
        self,
        *,
        bands: Sequence[str] | None = None,
        neighbours: Sequence[int] = (5, 10, 20, 40, 80),
        grid: ArrayLike | None = None,
    ) -> None:
        self.bands = None if bands is None else tuple(bands)
        self.neighbours = tuple(neighbours)
        self.grid = None if grid is None else np.asarray(grid, float)
        self.chosen: dict[str, float] = {}

    def fit(self, train: Any, val: Any = None, *, target: str = "z_spec") -> NearestNeighbours:
        """Remember the training rows; choose on the validation rows, or on a tenth of the training rows."""
        z = redshifts(train, target)
        rows = np.flatnonzero(np.isfinite(z))
        if val is None:
            rng = np.random.default_rng(0)
            rng.shuffle(rows)
            rows, held = rows[rows.size // 10 :], train[rows[: rows.size // 10]]
        else:
            held = val
        if rows.size < 2:
            raise DeepfieldError(f"nearest neighbours need at least two rows with a redshift, not {rows.size}")
        self.bands = self.bands or tuple(bands_of(train))
        self._input = Photometry(self.bands, train)
        self._z = z[rows]
        self.grid = redshift_grid(self._z) if self.grid is None else self.grid
        self._mags, self._errors = self._magnitudes(train[rows])
        self._overall = self._sample_density()
        held_z = redshifts(held, target)
        chosen = np.flatnonzero(np.isfinite(held_z))[:2000]
        self._tune(self._magnitudes(held[chosen])[0], held_z[chosen])
        return self

    def _sample_density(self) -> Array:
        """The training rows' own redshift distribution (G,), smoothed by the rule of thumb of Silverman (1986)."""
        grid = np.asarray(self.grid)
        middles = (grid[1:] + grid[:-1]) / 2
        edges = np.concatenate([[grid[0] - 1e-9], middles, [grid[-1] + 1e-9]])
        counts = np.histogram(self._z, edges)[0] / np.diff(edges)
        width = 1.06 * float(np.std(self._z)) * self._z.size**-0.2 + 1e-3
        smooth = gaussian_filter1d(counts, max(width / float(np.mean(np.diff(grid))), 0.5), mode="nearest")
        return normalise(smooth[None] + 1e-6, grid)[0]

    def predict(self, table: Any) -> Prediction:
        """Densities of N rows on ``grid``, as a `deepfield.core.prediction.Prediction`."""
        from deepfield.core.prediction import Prediction

        return Prediction.tabulated(np.asarray(self.grid), self.pdf(table))

    def pdf(self, table: Any) -> Array:
        """Densities (N, G) on ``grid``; a row with no band in common with the training has the sample's own."""
        if not self.chosen or self.grid is None:
            raise DeepfieldError("fit the nearest neighbours to a training table first")
        c = self.chosen
        distance, near = self._query(self._magnitudes(table)[0], c["width"], c["weight"], int(c["neighbours"]))
        at = self.grid[None]
        parts = [self._density(distance[p], near[p], c["scale"], c["least"], at) for p in chunks(len(near), 250)]
        return normalise(np.concatenate(parts), self.grid)

    def _magnitudes(self, table: Any) -> tuple[Array, Array]:
        flux, error = self._input(table)
        soft = ph.best_softening(self._input.noise)
        return ph.asinh_magnitude(flux, soft), ph.asinh_magnitude_error(flux, error, soft)

    def _features(self, mags: Array, have: NDArray[np.intp], width: float, weight: float) -> Array:
        """One magnitude and the colours of neighbouring bands in units of their scales, (N, bands in ``have``)."""
        errors = np.nanmedian(self._errors[:, have], axis=0)
        middle = len(have) // 2
        colours = mags[:, have[:-1]] - mags[:, have[1:]]
        scale = np.sqrt(errors[:-1] ** 2 + errors[1:] ** 2 + width**2)
        return np.column_stack([mags[:, have[middle]] * weight / np.hypot(width, errors[middle]), colours / scale])

    def _query(self, mags: Array, width: float, weight: float, k: int) -> tuple[Array, NDArray[np.intp]]:
        """Distances and training rows (N, k) of the nearest, -1 where a row has no band to compare."""
        distance, near = np.full((len(mags), k), np.inf), np.full((len(mags), k), -1, dtype=np.intp)
        seen = np.isfinite(mags)
        patterns, which = np.unique(seen, axis=0, return_inverse=True)
        for i, pattern in enumerate(patterns):
            have = np.flatnonzero(pattern)
            source = np.flatnonzero(np.isfinite(self._mags[:, have]).all(1)) if have.size else have
            if source.size == 0:
                continue
            tree = cKDTree(self._features(self._mags[source], have, width, weight))
            rows = np.flatnonzero(which.ravel() == i)
            number = min(k, source.size)
            found = tree.query(self._features(mags[rows], have, width, weight), k=np.arange(1, number + 1))
            distance[rows, :number], near[rows, :number] = found[0], source[found[1]]
        return distance, near

    def _density(self, distance: Array, near: NDArray[np.intp], scale: float, least: float, at: Array) -> Array:
        """Kernel densities (N, G) at redshifts ``at`` of shape (1, G), or (N, 1) for one redshift each."""
        used = near >= 0
        middle = np.median(np.where(used, distance, 0.0), axis=1, keepdims=True)
        weight = np.where(used, 1 / (1 + (np.where(used, distance, 0.0) / np.maximum(middle, 1e-12)) ** 2), 0.0)
        weight = weight / np.maximum(weight.sum(1, keepdims=True), 1e-30)
        z = self._z[near]
        mean = (weight * z).sum(1, keepdims=True)
        std = np.sqrt((weight * (z - mean) ** 2).sum(1, keepdims=True))
        width = np.hypot(scale * std, least)
        kernels = np.exp(-0.5 * ((at[:, None, :] - z[:, :, None]) / width[:, :, None]) ** 2)
        pdf = np.einsum("nk,nkg->ng", weight, kernels) / (width * np.sqrt(2 * np.pi))
        share = np.where(used.any(1, keepdims=True), _OTHERS, 1.0)
        return (1 - share) * pdf + share * np.interp(at, np.asarray(self.grid), self._overall)

    def _tune(self, mags: Array, z: Array) -> None:
        """Choose first the metric, then the number of neighbours and the bandwidth."""
        most = min(max(self.neighbours), len(self._z))
        some = sorted({min(k, most) for k in self.neighbours})

        def score(found: tuple[Array, NDArray[np.intp]], k: int, scale: float, least: float) -> float:
            density = self._density(found[0][:, :k], found[1][:, :k], scale, least, z[:, None])
            return float(np.log(np.maximum(density, 1e-10)).mean())

        metrics = {
            (width, weight): self._query(mags, width, weight, most)
            for width in (0.01, 0.03, 0.1)
            for weight in (0.03, 0.1, 0.3, 1.0)
        }
        middle = some[len(some) // 2]
        width, weight = max(metrics, key=lambda m: score(metrics[m], middle, 0.6, 0.003))
        trials = [(k, s, b) for k in some for s in (0.2, 0.4, 0.7, 1.0) for b in (0.001, 0.003, 0.01)]
        k, scale, least = max(trials, key=lambda t: score(metrics[width, weight], *t))
        self.chosen = {"width": width, "weight": weight, "neighbours": k, "scale": scale, "least": least}
