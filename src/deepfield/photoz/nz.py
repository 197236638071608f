"""Redshift distributions of samples and tomographic bins, with their uncertainty."""

from __future__ import annotations

import logging
import numbers
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.core.table import shorten

log = logging.getLogger("deepfield")
Array = NDArray[np.float64]
_CHUNK = 8192


@dataclass(frozen=True)
class RedshiftDistribution:
    """n(z) of B samples on G cells in redshift.

    Attributes
    ----------
    edges : (G + 1,) array
        Of the cells.
    density : (B, G) array
        n(z) of unit area in each sample.
    realisations : (R, B, G) array
        Resamples of it; their scatter is the uncertainty.
    bins : (B + 1,) array
        Edges in point redshift that made the samples.
    counts : (B,) array
        Objects of each sample.
    shift, shift_error : (B,) array
        Mean redshift of calibration objects minus that of n(z) as estimated from their densities, and its standard
        error; NaN without a calibration sample.
    shifted : bool
        Whether n(z) is moved by ``shift``, and the realisations by draws about it. If not, they are those of the
        densities alone, and shift and error are the prior on Delta z of a later analysis.
    """

    edges: Array
    density: Array
    realisations: Array
    bins: Array
    counts: NDArray[np.intp]
    shift: Array = field(default_factory=lambda: np.empty(0))
    shift_error: Array = field(default_factory=lambda: np.empty(0))
    shifted: bool = False

    @property
    def grid(self) -> Array:
        """Centres of the cells, (G,)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])

    @property
    def mean(self) -> Array:
        """Mean redshift of each sample, (B,)."""
        return (self.density * self.grid * np.diff(self.edges)).sum(-1)

    @property
    def mean_error(self) -> Array:
        """Standard error of the mean redshift of each sample, (B,)."""
        means = (self.realisations * self.grid * np.diff(self.edges)).sum(-1)
        return means.std(0, ddof=1) if len(means) > 1 else np.full(len(self.density), np.nan)

    def band(self, level: float = 0.683) -> tuple[Array, Array]:
        """Lower and upper edge of the pointwise interval, (B, G) each."""
        low, high = np.quantile(self.realisations, [0.5 - level / 2, 0.5 + level / 2], axis=0)
        return low, high

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write to HDF5 as a qp ensemble (``interp``, one density for each sample), or to ECSV or CSV.

        The realisations go into the group ``realisations`` of the HDF5 file; text files have their band.

        Raises
        ------
        DeepfieldError
            If the ending is another.
        """
        suffix = Path(path).suffix.lower()
        if suffix not in (".hdf5", ".h5", ".ecsv", ".csv"):
            raise DeepfieldError(f"n(z) is written to .hdf5, .ecsv or .csv, not to '{path}'")
        with atomic(path) as temporary:
            (self._write_hdf5 if suffix in (".hdf5", ".h5") else self._write_text)(temporary)

    def _write_hdf5(self, path: Path) -> None:
        import h5py

        ancil = {"z_mean": self.mean, "z_mean_error": self.mean_error, "count": self.counts}
        ancil |= {"bin_low": self.bins[:-1], "bin_high": self.bins[1:]}
        ancil |= {"shift": self.shift, "shift_error": self.shift_error}
        ancil |= {"shifted": np.full(len(self.counts), self.shifted)}
        with h5py.File(path, "w") as file:
            file["meta/pdf_name"], file["meta/pdf_version"] = np.array([b"interp"]), np.array([0])
            file["meta/xvals"], file["data/yvals"] = self.grid[None], self.density
            for name, values in ancil.items():
                file[f"ancil/{name}"] = values
            file["realisations/yvals"] = self.realisations

    def _write_text(self, path: Path) -> None:
        from astropy.table import Table

        (low, high), columns = self.band(), {"z": self.grid}
        for b, curve in enumerate(self.density):
            columns |= {f"n_{b + 1}": curve, f"n_{b + 1}_lo68": low[b], f"n_{b + 1}_hi68": high[b]}
        table_format = "ascii.ecsv" if path.suffix.lower() == ".ecsv" else "ascii.csv"
        Table(columns).write(path, format=table_format, overwrite=True)


def n_of_z(
    prediction: Any,
    *,
    bins: int | ArrayLike | None = None,
    edges: ArrayLike | None = None,
    point: str = "mode",
    training: ArrayLike | None = None,
    calibration: tuple[Any, ArrayLike] | None = None,
    shift: bool = True,
    repeats: int = 100,
    seed: int = 0,
) -> RedshiftDistribution:
    """Estimate n(z) of a sample, or of tomographic bins, from the densities of its objects.

    Stacking the densities is right where the sample has the redshifts and selection of the training set. Where
    it has others, pass ``training``: n(z) is then the maximum-likelihood one, whose prior replaces that of the
    training set in each density (the implicit prior of Malz & Hogg 2022, ApJ 928, 127, by the iteration of
    Saerens, Latinne & Decaestecker 2002, stopped early as a regularisation).

    Parameters
    ----------
    prediction : Prediction
        N densities; rows of NaN do not count.
    bins : int or edges, optional
        Tomographic bins in the point estimate: that many of equal number, or between edges.
    edges : (G + 1,) array, optional
        Cells in redshift; 300 from 0 to the highest quantile unless given.
    point : 'mode', 'median' or 'mean'
        What assigns objects to bins.
    training : (M,) array, optional
        Redshifts of the training set. The masses of all objects of a bin in all cells are then held at once: 8 G
        bytes for each object, 2.4 kB with 300 cells, hence 24 GB for ten million; take a random sample of a larger
        bin. Stacking needs no such memory.
    calibration : (Prediction, redshifts), optional
        Objects of known redshift that the model has not seen, selected as the sample is. In each bin n(z) is
        estimated from their densities in the same way; by how much its mean misses that of their redshifts is the
        shift of the bin, an unbiased estimate of the bias of n(z). Brighter objects tell another.
    shift : bool
        Whether n(z) is moved by the shift and the realisations by draws from a normal law of its error about it,
        so that ``mean`` and ``mean_error`` hold both; else they are reported alone. What would leave the cells
        gathers in the first or the last, and the mean is still the shifted one.
    repeats, seed : int
        Poisson bootstrap over objects.

    Raises
    ------
    DeepfieldError
        If no object has a density, or edges do not increase.
    """
    where = np.asarray(getattr(prediction, point), dtype=np.float64)
    kept = np.flatnonzero(np.isfinite(where))
    if not len(kept):
        raise DeepfieldError(f"no object has a density, all {len(where)} are NaN: n(z) cannot be estimated")
    cells = _cells(prediction, kept, edges)
    limits = _limits(where[kept], bins)
    index = np.searchsorted(limits[1:-1], where, side="right")
    index[(where < limits[0]) | (where > limits[-1])] = -1
    rng = np.random.default_rng(seed)
    prior = None if training is None else _prior(np.asarray(training, dtype=np.float64), cells)
    samples = [kept[index[kept] == b] for b in range(len(limits) - 1)]
    found = [_one_sample(prediction, rows, cells, prior, repeats, rng) for rows in samples]
    density = np.stack([own for own, _ in found])
    realisations = np.stack([drawn for _, drawn in found], axis=1)
    move, error = _shifts(calibration, limits, point, cells, prior, repeats, rng)
    if calibration is not None and shift:
        width, centres = np.diff(cells), 0.5 * (cells[1:] + cells[:-1])
        for b in np.flatnonzero(np.isfinite(move)):
            before = density[b].copy()
            density[b] = _moved(before, cells, move[b])
            if abs((density[b] - before) @ (centres * width) - move[b]) > 1e-6:
                log.warning("bin %s cannot be shifted by %.4f within the redshift cells", b + 1, move[b])
            for r, delta in enumerate(move[b] + error[b] * rng.standard_normal(repeats)):
                realisations[r, b] = _moved(realisations[r, b], cells, delta)
    counts = np.array([len(rows) for rows in samples])
    shifted = calibration is not None and shift
    return RedshiftDistribution(cells, density, realisations, limits, counts, move, error, shifted)


def _moved(density: Array, cells: Array, delta: float) -> Array:
    """The density (G,) with its mean moved by delta.

    What would leave the cells, as redshifts below zero would, stays in the cell at the end. The mean then falls
    short of the move, which is made longer until it does not.
    """
    width, centres = np.diff(cells), 0.5 * (cells[1:] + cells[:-1])
    whole = np.concatenate([[0.0], np.cumsum(density * width)])
    wanted = (density * width) @ centres + delta * whole[-1]
    mass, step = density * width, delta
    for _ in range(100):
        below = np.interp(cells - step, cells, whole)
        below[0], below[-1] = 0.0, whole[-1]
        mass = np.diff(below)
        if not abs(missing := wanted - mass @ centres) > 1e-9:
            break
        step += missing
    return mass / width


def _cells(prediction: Any, kept: NDArray[np.intp], edges: ArrayLike | None) -> Array:
    if edges is None:
        some = prediction[kept[:: max(1, len(kept) // 10_000)]]
        return np.linspace(0, float(np.quantile(some.quantile(0.999), 0.999)) * 1.05, 301)
    cells = np.asarray(edges, dtype=np.float64)
    if cells.ndim != 1 or len(cells) < 2 or (np.diff(cells) <= 0).any():
        raise DeepfieldError(f"edges of the redshift cells should increase, unlike {shorten(cells.ravel(), 8)}")
    return cells


def _limits(where: Array, bins: int | ArrayLike | None) -> Array:
    if bins is None or isinstance(bins, numbers.Integral):  # numpy's integers too
        limits = np.quantile(where, np.linspace(0, 1, int(bins or 1) + 1))
    else:
        limits = np.asarray(bins, dtype=np.float64)
    if limits.ndim != 1 or len(limits) < 2 or (np.diff(limits) < 0).any():
        raise DeepfieldError(f"edges of tomographic bins should increase, unlike {shorten(limits.ravel(), 8)}")
    return limits


def _masses(prediction: Any, cells: Array) -> Array:
    """Probability of each cell, (n, G), of the part of the density that lies in the cells."""
    mass = np.maximum(np.diff(prediction.cdf(cells[None]), axis=1), 0)
    return mass / np.maximum(mass.sum(1, keepdims=True), 1e-300)


def _one_sample(
    prediction: Any, rows: NDArray[np.intp], cells: Array, prior: Array | None, repeats: int, rng: Any
) -> tuple[Array, Array]:
    """The density (G,) and its realisations (R, G)."""
    if not len(rows):
        nothing = np.full(len(cells) - 1, np.nan)
        return nothing, np.tile(nothing, (repeats, 1))
    if prior is None:
        total, drawn = np.zeros(len(cells) - 1), np.zeros((repeats, len(cells) - 1))
        for start in range(0, len(rows), _CHUNK):
            mass = _masses(prediction[rows[start : start + _CHUNK]], cells)
            total += mass.sum(0)
            drawn += rng.poisson(1.0, size=(repeats, len(mass))) @ mass
    else:
        ratio = np.empty((len(rows), len(cells) - 1))  # all of it: each of thousands of passes needs it
        for start in range(0, len(rows), _CHUNK):
            ratio[start : start + _CHUNK] = _masses(prediction[rows[start : start + _CHUNK]], cells) / prior
        total = _most_likely(ratio, np.ones(len(rows)))
        drawn = np.stack([_most_likely(ratio, rng.poisson(1.0, len(rows)).astype(float)) for _ in range(repeats)])
    width = np.diff(cells)
    return total / total.sum() / width, drawn / np.maximum(drawn.sum(1, keepdims=True), 1e-300) / width


def _prior(redshifts: Array, cells: Array) -> Array:
    """Share of the training set in each cell, smoothed over neighbours and never zero."""
    counts = np.histogram(redshifts[np.isfinite(redshifts)], cells)[0].astype(float)
    if not counts.any():
        raise DeepfieldError(f"no training redshift lies in the redshift cells, {cells[0]:g} to {cells[-1]:g}")
    smooth = np.convolve(np.pad(counts, 2, mode="edge"), [1 / 9, 2 / 9, 3 / 9, 2 / 9, 1 / 9], "valid")
    return (smooth + 1e-3 * smooth.mean()) / (smooth + 1e-3 * smooth.mean()).sum()


def _most_likely(ratio: Array, weights: Array, *, steps: int = 30) -> Array:
    """Shares of the cells that maximise sum_i w_i log(sum_g ratio_ig share_g), by early-stopped EM."""
    share = np.full(ratio.shape[1], 1 / ratio.shape[1])
    for _ in range(steps):
        evidence = np.maximum(ratio @ share, 1e-300)
        share = share * ((weights / evidence) @ ratio)
        share /= max(share.sum(), 1e-300)
    return share


def _shifts(
    calibration: tuple[Any, ArrayLike] | None,
    limits: Array,
    point: str,
    cells: Array,
    prior: Array | None,
    repeats: int,
    rng: Any,
) -> tuple[Array, Array]:
    """Mean of truth minus mean of n(z) of the calibration objects in each bin, and its error, (B,) each."""
    shift = np.full(len(limits) - 1, np.nan)
    error = shift.copy()
    if calibration is None:
        return shift, error
    densities, truth = calibration[0], np.asarray(calibration[1], dtype=np.float64)
    if truth.shape != (len(densities),):
        raise DeepfieldError(f"{len(densities)} calibration densities need as many redshifts, not {truth.shape}")
    where = np.asarray(getattr(densities, point), dtype=np.float64)
    known = np.isfinite(where) & np.isfinite(truth) & (where >= limits[0]) & (where <= limits[-1])
    index = np.searchsorted(limits[1:-1], where, side="right")
    for b in range(len(shift)):
        own = np.flatnonzero(known & (index == b))
        if len(own) < 2:
            log.warning("bin %s has %s calibration objects: its shift is unknown", b + 1, len(own))
            continue
        shift[b], error[b] = _shift(_masses(densities[own], cells), truth[own], cells, prior, repeats, rng)
    return shift, error


def _shift(
    mass: Array, truth: Array, cells: Array, prior: Array | None, repeats: int, rng: Any
) -> tuple[float, float]:
    """Of one bin with masses (n, G) and redshifts (n,)."""
    centres = 0.5 * (cells[1:] + cells[:-1])
    if prior is None:  # the mean of the stack is the mean of the means
        residual = truth - mass @ centres
        return float(residual.mean()), float(residual.std(ddof=1) / np.sqrt(len(residual)))
    ratio, ones = mass / prior, np.ones(len(truth))
    draws = [ones, *(rng.poisson(1.0, len(truth)) + 1e-9 for _ in range(max(repeats, 20)))]
    found = [(w @ truth) / w.sum() - _most_likely(ratio, w) @ centres for w in draws]
    return float(found[0]), float(np.std(found[1:], ddof=1))
