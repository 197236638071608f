"""One number that makes probabilities honest: the temperature, fitted by likelihood on rows kept from training.

A net that was trained to the end is surer of its classes than it is right (Guo et al. 2017, arXiv:1706.04599).
Dividing its log probabilities by one temperature T leaves the order of the classes as it is and mends that. Of
votes the same number scales the concentrations: their sum says how sure a posterior of fractions is. It mends the
average; it is no guarantee for a kind of object.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from deepfield.core.errors import DeepfieldError

_REACH = math.log(20.0)


def fit_scale(loss: Callable[[float], float], rows: int) -> float:
    """The factor s > 0 with the least ``loss(s)``, a mean over ``rows`` rows, of those between 1/20 and 20.

    A weak prior (log s of zero with a width of one) is worth a single row: with hardly any rows it stays near one.

    Examples
    --------
    >>> round(fit_scale(lambda s: (s - 3) ** 2, rows=1_000_000), 2)
    3.0
    """
    if rows < 1:
        raise DeepfieldError("a scale is fitted on one row at least")

    def objective(log_s: float) -> float:
        value = float(loss(math.exp(log_s)))
        return (value if math.isfinite(value) else 1e12) + 0.5 * log_s**2 / rows

    found = minimize_scalar(objective, bounds=(-_REACH, _REACH), method="bounded", options={"xatol": 1e-6})
    return math.exp(float(found.x))


def fit_temperature(log_probability: ArrayLike, target: ArrayLike) -> float:
    """The temperature by which log probabilities are divided so that held-out labels are likeliest.

    Parameters
    ----------
    log_probability : (N, C) array
        Or logits; they are normalised here.
    target : (N,) integers or (N, C) array
        Class numbers, or rows of class shares that sum to one.

    Raises
    ------
    DeepfieldError
        If there are no rows, or the shapes do not fit.

    Examples
    --------
    >>> logits = np.log([[0.9, 0.1]] * 10)
    >>> t = fit_temperature(np.tile(logits, (100, 1)), [0, 0, 0, 0, 0, 0, 0, 1, 1, 1] * 100)  # right in 7 of 10
    >>> round(1 / (1 + 9 ** (-1 / t)), 2)
    0.7
    """
    logits, y = np.asarray(log_probability, dtype=np.float64), np.asarray(target)
    if logits.ndim != 2 or not len(logits) or y.shape not in ((len(logits),), logits.shape):
        raise DeepfieldError(f"log probabilities (N, C) and N labels expected, got {logits.shape} and {y.shape}")
    share = np.eye(logits.shape[1])[y.astype(np.int64)] if y.ndim == 1 else y.astype(np.float64)
    safe = np.maximum(logits, -700.0)  # a probability of zero, whose logarithm times zero is no number
    return fit_scale(lambda t: -float((share * log_softmax(safe / t, axis=1)).sum(1).mean()), len(logits))
