"""Fitting calibration on rows that took no part in training.

Two steps, each good by itself: a map of PIT values that repairs the density (sharper, better likelihood), and
split-conformal scores that give intervals their finite-sample guarantee. :func:`calibrate` does both on
disjoint rows, which the guarantee needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from deepfield.core.calibrators import CalibrationError, Conformal, PITMap

Array = NDArray[np.float64]
_CELLS = 4096
_SIZES = (2, 4, 8, 16, 32)
_PRIORS = (2.0, 20.0, 200.0)


def _pit_values(pit: ArrayLike) -> Array:
    values = np.asarray(pit, dtype=np.float64).ravel()
    values = values[~np.isnan(values)]
    if values.size and (values.min() < 0 or values.max() > 1):
        raise CalibrationError("PIT values should lie in [0, 1]: pass prediction.cdf(truth)")
    return values


def _knots(cells: int) -> Array:
    """Edges on [0, 1] at equal steps of the normal quantile: they crowd at the ends, where tails go wrong."""
    reach = min(5.0, 0.5 + 0.11 * cells)
    return np.concatenate([[0.0], ndtr(np.linspace(-reach, reach, cells - 1)), [1.0]])


def _hats(points: Array, knots: Array) -> Array:
    """Linear B-splines normalised to unit area, (P, K)."""
    cell = np.clip(np.searchsorted(knots, points, side="right") - 1, 0, len(knots) - 2)
    t = (points - knots[cell]) / np.diff(knots)[cell]
    basis = np.zeros((len(points), len(knots)))
    rows = np.arange(len(points))
    basis[rows, cell], basis[rows, cell + 1] = 1 - t, t
    return basis / _areas(knots)


def _areas(knots: Array) -> Array:
    widths = np.diff(knots)
    return 0.5 * (np.append(widths, 0) + np.insert(widths, 0, 0))


def _fit_slopes(counts: Array, basis: Array, knots: Array, prior: float, *, steps: int = 2000) -> Array:
    """Maximum a posteriori slopes by EM: hat functions with a Dirichlet prior centred on the identity.

    The log posterior is concave in the weights, so there is one maximum.
    """
    areas = _areas(knots)
    total, weights = counts.sum(), areas
    used = counts > 0
    counts, basis = counts[used], basis[used]
    for _ in range(steps):
        pull = weights * ((counts / (basis @ weights)) @ basis)
        fresh = (pull + prior * areas) / (total + prior)
        change = np.abs(fresh - weights).max()
        weights = fresh
        if change < 1e-7:
            break
    return weights / areas


def _candidates(total: int) -> Iterator[tuple[Array, float]]:
    for cells in (k for k in _SIZES if k <= max(2, total // 25)):
        for prior in _PRIORS:
            yield _knots(cells), prior


def fit_pit_map(
    pit: ArrayLike, *, significance: float = 2.0, folds: int = 5, seed: int = 0, minimum: int = 100
) -> PITMap:
    """Fit the map g that makes the PIT values uniform, or the identity if that gains nothing.

    g' is a mixture of hat functions on knots that crowd towards 0 and 1, fitted by maximum a posteriori with
    a Dirichlet prior centred on the identity. The number of knots and the strength of the prior maximise the
    cross-validated log-likelihood; the identity is kept unless the gain per row exceeds ``significance``
    times its standard error.

    Parameters
    ----------
    pit : (N,) array
        F(y_i | x_i) of calibration rows; NaN rows are left out; CalibrationError if outside [0, 1].
    significance : float
        Standard errors by which the log-likelihood must rise.
    folds, seed : int
        Of the cross-validation.
    minimum : int
        Fewer rows than this give the identity.

    Examples
    --------
    >>> u = np.random.default_rng(0).uniform(size=2000)
    >>> fit_pit_map(u).is_identity, fit_pit_map(u**2).is_identity
    (True, False)
    """
    values = _pit_values(pit)
    if len(values) < minimum:
        return PITMap.identity()
    edges = _knots(_CELLS)
    centres = 0.5 * (edges[1:] + edges[:-1])
    cell = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, _CELLS - 1)
    fold = np.random.default_rng(seed).permutation(len(values)) % folds
    counts = np.stack([np.bincount(cell[fold == k], minlength=_CELLS) for k in range(folds)]).astype(float)
    best, best_gain, choice = 0.0, np.zeros(len(values)), None
    for knots, prior in _candidates(len(values)):
        basis, gain = _hats(centres, knots), np.empty(len(values))
        for k in range(folds):
            slopes = _fit_slopes(counts.sum(0) - counts[k], basis, knots, prior, steps=300)
            gain[fold == k] = PITMap(knots, slopes).log_density(values[fold == k])
        if gain.mean() > best:
            best, best_gain, choice = float(gain.mean()), gain, (knots, prior)
    if choice is None or best <= significance * best_gain.std() / np.sqrt(len(values)):
        return PITMap.identity()
    knots, prior = choice
    return PITMap(knots, _fit_slopes(counts.sum(0), _hats(centres, knots), knots, prior))


def fit_conformal(
    pit: ArrayLike,
    feature: ArrayLike | None = None,
    *,
    groups: int | Sequence[float] = 3,
    name: str = "",
    minimum: int = 50,
    limit: int = 20_000,
    seed: int = 0,
) -> Conformal:
    """Collect conformal scores, in groups of equal number along a feature if one is given.

    Parameters
    ----------
    pit : (N,) array
        F(y_i | x_i) of calibration rows exchangeable with the rows to be served, under the density as it
        will be served (after its PIT map); NaN rows are left out.
    feature : (N,) array, optional
        What makes the groups, such as a magnitude; NaN and +inf fall into the last group.
    groups : int or increasing edges
        Number wanted; edges fixed beforehand make the guarantee exact also for the choice of groups.
    name : str
        Of the feature.
    minimum : int
        Fewer groups are made where one would have less rows than this.
    limit, seed : int
        Rows kept at most in each group, drawn at random (the guarantee does not suffer).

    Raises
    ------
    CalibrationError
        If no row is usable, a group given by edges is empty, or the lengths differ.

    Examples
    --------
    >>> u = np.random.default_rng(0).uniform(size=999)
    >>> bool(abs(fit_conformal(u).levels(0.9) - 0.9) < 0.03)
    True
    """
    values, along = _aligned(pit, feature)
    good = ~np.isnan(values)
    if not good.any():
        raise CalibrationError("no calibration row has a prediction and a truth")
    scores = 2 * np.abs(_pit_values(values) - 0.5)
    edges, index = np.empty(0), np.zeros(len(scores), dtype=np.intp)
    if along is not None:
        edges = _group_edges(along[good], groups, minimum) if isinstance(groups, int) else np.asarray(groups)
        index = Conformal([np.zeros(1)] * (len(edges) + 1), edges).group(along[good])
    rng = np.random.default_rng(seed)
    kept = []
    for g in range(len(edges) + 1):
        rows = np.flatnonzero(index == g)
        kept.append(scores[rng.choice(rows, limit, replace=False) if len(rows) > limit else rows])
    return Conformal(tuple(kept), edges, name if len(edges) else "")


def _aligned(pit: ArrayLike, feature: ArrayLike | None) -> tuple[Array, Array | None]:
    values = np.asarray(pit, dtype=np.float64).ravel()
    if feature is None:
        return values, None
    along = np.asarray(feature, dtype=np.float64).ravel()
    if along.shape != values.shape:
        raise CalibrationError(f"{along.size} values of the feature for {values.size} PIT values")
    return values, along


def _group_edges(along: Array, groups: int, minimum: int) -> Array:
    """Edges of equal-number groups, as many as leave ``minimum`` rows in each."""
    ordered = np.where(np.isnan(along), np.inf, along)
    for count in range(min(groups, len(along) // max(minimum, 1)), 1, -1):
        edges = np.quantile(ordered, np.arange(1, count) / count, method="higher")
        edges = np.unique(edges[np.isfinite(edges)])
        sizes = np.bincount(np.searchsorted(edges, ordered, side="right"), minlength=len(edges) + 1)
        if len(edges) == count - 1 and sizes.min() >= minimum:
            return edges
    return np.empty(0)


@dataclass(frozen=True)
class Calibration:
    """A PIT map and the conformal scores on top of it, with the rows each was fitted on.

    Attributes
    ----------
    pit_map : PITMap
    conformal : Conformal
    n_map, n_conformal : int
    """

    pit_map: PITMap
    conformal: Conformal
    n_map: int
    n_conformal: int

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {
            "pit_map": self.pit_map.to_dict(),
            "conformal": self.conformal.to_dict(),
            "n_map": self.n_map,
            "n_conformal": self.n_conformal,
        }


def calibrate(
    pit: ArrayLike,
    feature: ArrayLike | None = None,
    *,
    share: float = 0.4,
    groups: int | Sequence[float] = 3,
    name: str = "",
    seed: int = 0,
) -> Calibration:
    """Fit a PIT map on a random ``share`` of the rows and conformal scores on the others.

    The rows must be apart because scores of rows that shaped the map are not exchangeable with new ones.

    Parameters
    ----------
    pit : (N,) array
        F(y_i | x_i) of the uncalibrated density on calibration rows; NaN rows are left out.
    feature, groups, name
        As for :func:`fit_conformal`, and so are the errors.
    share : float
        Of the rows for the map; 0 gives the identity.
    seed : int
        Of the division.

    Examples
    --------
    >>> u = np.random.default_rng(0).beta(0.5, 0.5, size=4000)
    >>> fitted = calibrate(u)
    >>> (fitted.n_map, fitted.n_conformal), fitted.pit_map.is_identity
    ((1600, 2400), False)
    """
    if not 0 <= share < 1:
        raise CalibrationError(f"the share of rows for the PIT map should be in [0, 1), not {share}")
    values, along = _aligned(pit, feature)
    good = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(values)))
    first, rest = np.split(good, [round(share * len(good))])
    pit_map = fit_pit_map(values[first], seed=seed)
    conformal = fit_conformal(
        pit_map.forward(values[rest]),
        None if along is None else along[rest],
        groups=groups,
        name=name,
        seed=seed,
    )
    return Calibration(pit_map, conformal, len(first), len(rest))
