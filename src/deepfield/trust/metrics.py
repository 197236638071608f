"""How good is a predictive density? Proper scores, calibration, and the error of each number.

Functions of a scalar prediction (:class:`deepfield.core.prediction.Prediction`, or anything that slices and
has its ``cdf``, ``quantile``, ``log_prob`` and ``interval``) and the truths y, one per object. Scores come
back per object, in the unit of y where they have one: their mean is the metric, and their spread gives its
error. Objects without a prediction or without a truth have NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr
from scipy.stats import betabinom, binom

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]
_CHUNK = 8192
_PROBABILITIES = ndtr(np.linspace(-5, 5, 41))
_WITHIN = 0.5 - 0.5 * np.cos(np.pi * np.arange(6) / 6)


@dataclass(frozen=True)
class Metric:
    """A number and its bootstrap standard error."""

    value: float
    error: float

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "-"
        digits = 4 if not self.error > 0 else min(max(1 - math.floor(math.log10(self.error)), 0), 7)
        return f"{self.value:.{digits}f} ± {self.error:.{digits}f}"


class Named:
    """Of a score: its metrics are attributes too.

    Examples
    --------
    >>> @dataclass
    ... class Score(Named):
    ...     metrics: dict[str, Metric]
    >>> Score({"bias": Metric(0.1, 0.02)}).bias
    0.1
    """

    def __getattr__(self, name: str) -> float:
        found = self.__dict__.get("metrics", {})
        if name in found:
            return float(found[name])
        raise AttributeError(f"a score has no '{name}'; its metrics are {', '.join(found)}")


def plain(metrics: Mapping[str, Metric]) -> dict[str, dict[str, float]]:
    """Metrics as JSON.

    Examples
    --------
    >>> plain({"bias": Metric(0.1, 0.02)})
    {'bias': {'value': 0.1, 'error': 0.02}}
    """
    return {name: {"value": found.value, "error": found.error} for name, found in metrics.items()}


def _truths(prediction: Any, y: ArrayLike) -> Array:
    values = np.asarray(y, dtype=np.float64)
    if values.shape != (len(prediction),):
        raise DeepfieldError(f"{len(prediction)} predictions need as many truths, not shape {values.shape}")
    return values


def _in_chunks(function: Callable[[Any, Array], Array], prediction: Any, y: Array) -> Array:
    starts = range(0, len(y), _CHUNK)
    parts = [function(prediction[i : i + _CHUNK], y[i : i + _CHUNK]) for i in starts]
    return np.concatenate(parts) if parts else np.empty(0)


def pit(prediction: Any, y: ArrayLike) -> Array:
    """Probability integral transform F_i(y_i), (N,) in [0, 1]: uniform if the densities are calibrated."""
    return np.clip(np.asarray(prediction.cdf(_truths(prediction, y)), dtype=np.float64), 0, 1)


def pit_ks(values: ArrayLike, axis: int = -1) -> Any:
    """Kolmogorov-Smirnov distance of PIT values from the uniform law, along ``axis``; no NaN allowed.

    Examples
    --------
    >>> float(pit_ks([0.25, 0.5, 0.75]))
    0.25
    """
    u = np.sort(np.moveaxis(np.asarray(values, dtype=np.float64), axis, -1), -1)
    n = u.shape[-1]
    if n == 0:
        return np.full(u.shape[:-1], np.nan)
    steps = np.arange(1, n + 1) / n
    return np.maximum((steps - u).max(-1), (u - steps + 1 / n).max(-1))


def coverage(prediction: Any, y: ArrayLike, levels: ArrayLike) -> Array:
    """Fraction of truths inside ``prediction.interval(level)`` at each level, (L,).

    Rows without a prediction or a truth do not count.

    Examples
    --------
    >>> from types import SimpleNamespace as Fake
    >>> class Unit(Fake):
    ...     def __len__(self): return 4
    ...     def interval(self, level): return np.zeros(4), np.full(4, level)
    >>> coverage(Unit(), [0.1, 0.4, 0.8, np.nan], [0.5, 0.9]).round(2).tolist()
    [0.67, 1.0]
    """
    truth = _truths(prediction, y)
    return np.array([_covered(prediction, truth, float(level)) for level in np.atleast_1d(levels)])


def _covered(prediction: Any, truth: Array, level: float) -> float:
    low, high = prediction.interval(level)
    known = np.isfinite(truth) & ~np.isnan(low) & ~np.isnan(high)
    inside = (truth >= low) & (truth <= high)
    return float(inside[known].mean()) if known.any() else math.nan


def pit_coverage(values: ArrayLike, levels: ArrayLike) -> Array:
    """Coverage of central intervals at each level, (L,), from PIT values (N,) alone.

    Examples
    --------
    >>> pit_coverage([0.05, 0.3, 0.5, 0.6], [0.5, 0.95]).tolist()
    [0.75, 1.0]
    """
    u = np.asarray(values, dtype=np.float64)
    scores = np.sort(2 * np.abs(u[~np.isnan(u)] - 0.5))
    if not len(scores):
        return np.full(np.size(levels), np.nan)
    return np.searchsorted(scores, np.atleast_1d(levels) + 1e-12, side="right") / len(scores)


def expected_calibration_error(values: ArrayLike, levels: ArrayLike | None = None) -> float:
    """Mean |coverage - level| of central intervals from PIT values (N,); 0.01 to 0.99 unless told.

    The regression form of the expected calibration error (Kuleshov, Fenner & Ermon 2018, arXiv:1807.00263).

    Examples
    --------
    >>> round(expected_calibration_error(np.full(10, 0.5)), 2)
    0.5
    """
    nominal = np.arange(0.01, 0.995, 0.01) if levels is None else np.atleast_1d(levels)
    return float(np.abs(pit_coverage(values, nominal) - nominal).mean())


def classification_calibration_error(probability: ArrayLike, label: ArrayLike, *, bins: int = 15) -> float:
    """Expected calibration error of class probabilities (Guo et al. 2017, arXiv:1706.04599).

    Parameters
    ----------
    probability : (N,) or (N, C) array
        Of the positive class, or of each class.
    label : (N,) integers
        0 or 1, or the class.
    bins : int
        Of equal width in the positive class's probability, or in the winning one's. Of two classes the former sees
        more: an offset of all log odds makes one side too sure and the other too modest, and the winners hide it.

    Examples
    --------
    >>> round(classification_calibration_error([0.9, 0.9, 0.2, 0.2], [1, 1, 0, 1]), 3)
    0.2
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(label)
    stated, right = (p, y == 1) if p.ndim == 1 else (p.max(-1), p.argmax(-1) == y)
    which = np.minimum((stated * bins).astype(int), bins - 1)
    gap = np.bincount(which, weights=right - stated, minlength=bins)
    return float(np.abs(gap).sum() / len(stated))


def crps_mixture(weights: ArrayLike, means: ArrayLike, stds: ArrayLike, y: ArrayLike) -> Array:
    """Continuous ranked probability score of Gaussian mixtures, (N,), in closed form.

    Parameters
    ----------
    weights, means, stds : (N, K) array
        Of the Gaussians.
    y : (N,) array
        Truths.

    Notes
    -----
    Grimit, Gneiting, Berrocal & Johnson 2006, QJRMS 132, eq. 5.

    Examples
    --------
    >>> float(crps_mixture([[1.0]], [[0.0]], [[1.0]], [0.0])[0].round(6))  # (sqrt(2) - 1) / sqrt(pi)
    0.233695
    """
    w, m, s = (np.asarray(part, dtype=np.float64) for part in (weights, means, stds))

    def absolute(mean: Array, std: Array) -> Array:
        """E|X| of a Gaussian."""
        u = mean / std
        return 2 * std * np.exp(-0.5 * u * u) / math.sqrt(2 * math.pi) + mean * (2 * ndtr(u) - 1)

    score = (w * absolute(np.asarray(y, dtype=np.float64)[:, None] - m, s)).sum(-1)
    for k in range(m.shape[-1]):  # a loop over one index keeps the memory at (N, K)
        spread = absolute(m - m[:, k : k + 1], np.hypot(s, s[:, k : k + 1]))
        score -= 0.5 * w[:, k] * (w * spread).sum(-1)
    return score


def nodes(prediction: Any, count: int = 400) -> Array:
    """Points (N, count) that resolve each density: its quantiles, then moved to where its mass is hard to see.

    The step between two quantiles is divided at Chebyshev points, which crowd at the feet of narrow peaks.
    Comparing the exact mass of each cell with the trapezoid rule then tells where points are wanting, and the
    points are spread so that each cell has an equal share of (error^(1/3), mass, count).
    """
    coarse = np.asarray(prediction.quantile(_PROBABILITIES), dtype=np.float64)
    fine = (coarse[:, :-1, None] + np.diff(coarse, axis=1)[..., None] * _WITHIN).reshape(len(coarse), -1)
    points = np.concatenate([fine, coarse[:, -1:]], axis=1)
    density, mass = np.exp(prediction.log_prob(points)), np.diff(prediction.cdf(points), axis=1)
    error = np.cbrt(np.abs(mass - 0.5 * np.diff(points, axis=1) * (density[:, 1:] + density[:, :-1])))
    share = error / np.maximum(error.sum(1, keepdims=True), 1e-300) + 0.2 * mass + 0.2 / error.shape[1]
    reached = np.concatenate([np.zeros((len(points), 1)), np.cumsum(share, axis=1)], axis=1)
    reached = np.nan_to_num(reached / reached[:, -1:])
    row = 2.0 * np.arange(len(points))[:, None]  # apart, so that one call interpolates all rows
    wanted = np.linspace(0, 1, count) + row
    return np.interp(wanted.ravel(), (reached + row).ravel(), points.ravel()).reshape(wanted.shape)


def _crps_by_quadrature(prediction: Any, y: Array) -> Array:
    own = nodes(prediction)
    points = np.concatenate([own, y[:, None]], axis=1)
    below = np.concatenate([prediction.cdf(own), prediction.cdf(y)[:, None]], axis=1)
    order = np.argsort(points, axis=1, kind="stable")
    points, below = np.take_along_axis(points, order, 1), np.take_along_axis(below, order, 1)
    after = points[:, :-1] >= y[:, None]
    left, right = below[:, :-1] - after, below[:, 1:] - after
    area = np.diff(points, axis=1) * (left * left + left * right + right * right) / 3  # F linear between
    return area.sum(1)


def _squared_norm_by_quadrature(prediction: Any, y: Array) -> Array:
    """Simpson's rule with the middle of each cell taken from its exact mass."""
    points = nodes(prediction)
    width, density = np.diff(points, axis=1), np.exp(prediction.log_prob(points))
    mass, left, right = np.diff(prediction.cdf(points), axis=1), density[:, :-1], density[:, 1:]
    middle = np.maximum((6 * mass / np.maximum(width, 1e-300) - left - right) / 4, 0)
    return (width * (left * left + 4 * middle * middle + right * right)).sum(1) / 6


def _mixture_of(prediction: Any) -> tuple[Array, Array, Array] | None:
    parameters = getattr(prediction, "parameters", None)
    return None if parameters is None else parameters()


def crps(prediction: Any, y: ArrayLike) -> Array:
    """Continuous ranked probability score, integral of (F(t) - [t >= y])^2 dt, (N,), in the unit of y.

    In closed form where ``prediction.parameters()`` gives a Gaussian mixture, else by quadrature on nodes
    that follow each density (relative error below 1e-3). Lower is better; a point has its absolute error.
    """
    truth = _truths(prediction, y)
    mixture = _mixture_of(prediction)
    if mixture is not None:
        return crps_mixture(*mixture, truth)
    return _in_chunks(_crps_by_quadrature, prediction, truth)


def squared_norm(prediction: Any) -> Array:
    """Integral of p(t)^2 dt, (N,), in 1 / unit of y.

    In closed form where there is one, else by quadrature (relative error below 1e-3).
    """
    plain = getattr(prediction, "pit_map", None) is None and hasattr(prediction, "distribution")
    if plain and len(prediction) and hasattr(prediction.distribution(slice(0, 1)), "squared_norm"):
        return np.asarray(prediction.squared_norm(), dtype=np.float64)
    return _in_chunks(_squared_norm_by_quadrature, prediction, np.zeros(len(prediction)))


def cde_loss(prediction: Any, y: ArrayLike) -> Array:
    """Terms of the conditional density estimation loss, (N,), in 1 / unit of y.

    Integral of p^2 minus 2 p(y): the mean over objects is the L2 distance from the true conditional density
    up to a constant of the data (Izbicki & Lee 2017, EJS 11). Lower is better.
    """
    return squared_norm(prediction) - 2 * np.exp(np.asarray(prediction.log_prob(_truths(prediction, y))))


def coverage_law(level: float, n_test: int, n_cal: int | None = None) -> Any:
    """The law of the number of ``n_test`` rows that an interval of a nominal level covers.

    Binomial for a perfect density. Beta-binomial for a split-conformal interval calibrated on ``n_cal`` rows,
    whose coverage itself is Beta(k, n_cal + 1 - k), k = ceil((n_cal + 1) level) (Vovk 2012; Angelopoulos &
    Bates 2021, arXiv:2107.07511, section 3.2).

    Returns
    -------
    frozen scipy distribution

    Raises
    ------
    DeepfieldError
        If the level is outside (0, 1) or ``n_cal`` too small for it.

    Examples
    --------
    >>> round(float(coverage_law(0.9, 1000).std()) / 1000, 5)
    0.00949
    >>> round(float(coverage_law(0.9, 1000, n_cal=999).std()) / 1000, 5)
    0.01341
    """
    if not 0 < level < 1:
        raise DeepfieldError(f"a level should lie between 0 and 1, not {level}")
    if n_cal is None:
        return binom(n_test, level)
    rank = math.ceil((n_cal + 1) * level - 1e-9)
    if rank > n_cal:
        raise DeepfieldError(f"{n_cal} calibration rows are too few for a conformal level of {level:g}")
    return betabinom(n_test, rank, n_cal + 1 - rank)


def coverage_band(
    level: float, n_test: int, n_cal: int | None = None, *, confidence: float = 0.9545
) -> tuple[float, float]:
    """Range in which the measured coverage should fall with probability ``confidence``; see coverage_law.

    Examples
    --------
    >>> [round(edge, 3) for edge in coverage_band(0.683, 1000)]
    [0.653, 0.712]
    """
    law = coverage_law(level, n_test, n_cal)
    tail = 0.5 * (1 - confidence)
    return float(law.ppf(tail)) / n_test, float(law.ppf(1 - tail)) / n_test


def bootstrap_error(
    statistic: Callable[[Array], Any],
    values: ArrayLike,
    *,
    repeats: int = 200,
    seed: int = 0,
    limit: int = 50_000,
) -> Any:
    """Standard error of a statistic of rows, by resampling rows with replacement.

    Parameters
    ----------
    statistic : callable
        Of an array (B, M, ...) to (B, ...): it works along axis 1, such as ``lambda v: v.mean(1)``.
    values : (N, ...) array
        Rows along the first axis.
    repeats : int
        Resamples.
    seed : int
        The same seed and N resample the same rows.
    limit : int
        Above this many rows resamples have ``limit`` rows and the error is scaled by sqrt(limit / N) (the
        m-out-of-n bootstrap; Bickel, Goetze & van Zwet 1997).

    Returns
    -------
    float or array
        NaN for less than two rows.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=4000)
    >>> bool(abs(bootstrap_error(lambda v: v.mean(1), x) - 1 / np.sqrt(4000)) < 2e-3)
    True
    """
    rows = np.asarray(values, dtype=np.float64)
    n, m = len(rows), min(len(rows), limit)
    if n < 2:
        return np.full(np.shape(statistic(rows[None])[0]) if n else (), np.nan)
    rng = np.random.default_rng(seed)
    step = max(1, 2_000_000 // (m * max(1, rows[0].size)))
    parts = []
    for start in range(0, repeats, step):
        index = rng.integers(0, n, size=(min(step, repeats - start), m))
        parts.append(np.asarray(statistic(rows[index])))
    return np.concatenate(parts).std(0, ddof=1) * math.sqrt(m / n)
