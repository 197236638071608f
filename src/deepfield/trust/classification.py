"""How good are class probabilities? Confusion, F1, log-loss, calibration and what of it is chance.

Probabilities are (N, C) rows that sum to one; labels are class numbers (N,), or rows of class probabilities
(N, C) where the truth itself is shared (votes).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.trust.metrics import classification_calibration_error

Array = NDArray[np.float64]


def checked(probability: ArrayLike, label: ArrayLike) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Probabilities (N, C), true shares (N, C) and the rows that have both.

    A NaN row has no prediction; a label of -1, or a row of shares that sum to nothing, no truth:
    its shares are NaN.

    Raises
    ------
    DeepfieldError
        If shapes do not fit, rows do not sum to one, or a label is no class.

    Examples
    --------
    >>> p, shares, known = checked([[0.9, 0.1], [0.5, 0.5]], [0, -1])
    >>> shares[0].tolist(), known.tolist()
    ([1.0, 0.0], [True, False])
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(label)
    if p.ndim != 2 or p.shape[1] < 2:
        raise DeepfieldError(f"probabilities are (N, C) with two classes or more, not {p.shape}")
    if y.shape not in ((len(p),), p.shape):
        raise DeepfieldError(f"{len(p)} predictions of {p.shape[1]} classes do not fit labels of shape {y.shape}")
    served = ~np.isnan(p).any(1)
    if served.any() and np.abs(p[served].sum(1) - 1).max() > 1e-3:
        raise DeepfieldError("the probabilities of an object's classes sum to one; here they do not")
    if y.ndim == 2:
        total = y.sum(1, keepdims=True, dtype=np.float64)
        given = np.isfinite(total) & (total > 0)
        shares = np.divide(y, total, out=np.full(p.shape, np.nan), where=given)
        return p, shares, served & given[:, 0]
    codes = y.astype(np.int64)
    if (codes != y).any() or (codes < -1).any() or (codes >= p.shape[1]).any():
        raise DeepfieldError(f"labels are numbers from 0 to {p.shape[1] - 1}, or -1 where there is none")
    shares = np.where(codes[:, None] >= 0, np.eye(p.shape[1])[codes], np.nan)
    return p, shares, served & (codes >= 0)


def log_loss(probability: ArrayLike, share: ArrayLike) -> Array:
    """Cross-entropy of each object (N,) in nats: -sum_c share_c log p_c.

    Examples
    --------
    >>> log_loss([[0.5, 0.5]], [[1.0, 0.0]]).round(4).tolist()
    [0.6931]
    """
    p = np.maximum(np.asarray(probability, dtype=np.float64), 1e-300)
    return -(np.asarray(share, dtype=np.float64) * np.log(p)).sum(-1)


def confusion_matrix(truth: ArrayLike, chosen: ArrayLike, classes: int) -> Array:
    """Counts (..., C, C), true classes in rows and chosen ones in columns, of labels (..., N).

    Examples
    --------
    >>> confusion_matrix([0, 0, 1], [0, 1, 1], 2).tolist()
    [[1.0, 1.0], [0.0, 1.0]]
    """
    pair = np.asarray(truth, dtype=np.int64) * classes + np.asarray(chosen, dtype=np.int64)
    flat = pair.reshape(-1, pair.shape[-1])
    place = flat + classes**2 * np.arange(len(flat))[:, None]
    counts = np.bincount(place.ravel(), minlength=len(flat) * classes**2)
    return counts.reshape(*pair.shape[:-1], classes, classes).astype(np.float64)


def f1(confusion: ArrayLike) -> Array:
    """F1 of each class (..., C): 2 TP / (2 TP + FP + FN); NaN for a class that neither occurs nor is chosen.

    Examples
    --------
    >>> f1([[1, 1], [0, 1]]).round(3).tolist()
    [0.667, 0.667]
    """
    counts = np.asarray(confusion, dtype=np.float64)
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    either = counts.sum(-1) + counts.sum(-2)
    return np.divide(2 * right, either, out=np.full_like(either, np.nan), where=either > 0)


def macro_f1(confusion: ArrayLike) -> Any:
    """Mean F1 over the classes that occur or are chosen (...)."""
    return np.nanmean(f1(confusion), axis=-1)


def calibration_floor(
    probability: ArrayLike, *, bins: int = 15, repeats: int = 100, seed: int = 0
) -> tuple[float, float]:
    """Mean and standard deviation that a perfectly calibrated model would have as calibration error.

    The binned error is an absolute value, hence positive by chance alone, the more the fewer the objects: labels
    are drawn from the probabilities themselves and scored (the consistency resampling of Broecker & Smith 2007,
    Wea. Forecasting 22, 651). An error within this band says nothing against the model. Probabilities (N,) of a
    positive class, or (N, C), as for :func:`deepfield.trust.metrics.classification_calibration_error`.

    Examples
    --------
    >>> low, _ = calibration_floor(np.full((10_000, 2), 0.5))
    >>> high, _ = calibration_floor(np.full((100, 2), 0.5))
    >>> bool(low < 0.01 < 0.02 < high)
    True
    """
    p = np.asarray(probability, dtype=np.float64)
    rng = np.random.default_rng(seed)
    edges = 1 - p[:, None] if p.ndim == 1 else np.cumsum(p, axis=1)[:, :-1]
    found = []
    for _ in range(repeats):
        drawn = (rng.uniform(size=(len(p), 1)) > edges).sum(1)
        found.append(classification_calibration_error(p, drawn, bins=bins))
    return float(np.mean(found)), float(np.std(found))


def reliability(
    predicted: ArrayLike,
    observed: ArrayLike,
    weight: ArrayLike | None = None,
    variance: ArrayLike | None = None,
    *,
    bins: int = 10,
) -> dict[str, list[float]]:
    """Predicted against observed frequency, in bins of equal width that hold anything.

    Parameters
    ----------
    predicted, observed : (N,) arrays
        Probability of an answer, and whether (0 or 1) or how often it was given.
    weight : (N,) array, optional
        Votes behind each observed frequency.
    variance : (N,) array, optional
        Of each observed frequency, were the prediction right. By default that of so many independent votes,
        p (1 - p) / weight; votes on one object share its fractions, and have a larger one (beta-binomial).

    Returns
    -------
    dict
        ``predicted`` and ``observed`` (weighted means), ``error`` (standard error of the observed mean, were
        the predictions right) and ``n`` (weight) of each bin.

    Examples
    --------
    >>> r = reliability([0.1, 0.1, 0.9], [0, 0, 1])
    >>> r["observed"], r["n"]
    ([0.0, 1.0], [2.0, 1.0])
    """
    p, y = np.asarray(predicted, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    w = np.ones(len(p)) if weight is None else np.asarray(weight, dtype=np.float64)
    known = ~(np.isnan(p) | np.isnan(y)) & (w > 0)
    p, y, w = p[known], y[known], w[known]
    var = p * (1 - p) / w if variance is None else np.asarray(variance, dtype=np.float64)[known]
    which = np.minimum((p * bins).astype(int), bins - 1)
    n = np.bincount(which, w, bins)
    full = n > 0
    mean = np.bincount(which, w * p, bins)[full] / n[full]
    error = np.sqrt(np.bincount(which, w**2 * var, bins)[full]) / n[full]
    return {
        "predicted": mean.tolist(),
        "observed": (np.bincount(which, w * y, bins)[full] / n[full]).tolist(),
        "error": error.tolist(),
        "n": n[full].tolist(),
    }
