"""What a finder says: log odds, probabilities at the training's and at a survey's share of lenses, and ranks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit, logsumexp
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.lensing.model import LensingModel

Array = NDArray[np.float64]
RARE = 1e-4
"""A lens in ten thousand galaxies."""


def log_odds(features: Array) -> Array:
    """Log odds (N,) of the members' mean probability, from the log odds of each (N, M).

    Examples
    --------
    >>> log_odds(np.array([[0.0, 0.0], [800.0, 800.0]])).tolist()
    [0.0, 800.0]
    """
    with np.errstate(invalid="ignore"):  # NaN of broken images
        yes, no = (logsumexp(-np.logaddexp(0, sign * features), axis=1) for sign in (-1, 1))
    return np.asarray(yes - no)


def at_prior(odds: ArrayLike, trained: float, prior: float) -> Array:
    """Log odds at another share of lenses than that of the training: by Bayes they shift by a constant.

    Saerens, Latinne & Decaestecker (2002, Neural Computation 14, 21), eq. 4. It holds where lenses and other
    galaxies look as they did in training, and only their shares differ.

    Examples
    --------
    >>> round(float(expit(at_prior(logit(0.99), 0.5, 1e-4))), 4)
    0.0098
    """
    for name, value in {"trained": trained, "prior": prior}.items():
        if not 0 < value < 1:
            raise DeepfieldError(f"{name} is a share of lenses between 0 and 1, got {value}")
    return np.asarray(odds, dtype=np.float64) + logit(prior) - logit(trained)


def calibrated(odds: Any, model: LensingModel) -> Any:
    """Log odds of a finder after its calibration: logit prior + (odds - logit prior) / temperature + offset.

    What a net says beyond the training's share of lenses is too sure or too modest by a factor, and all it says by
    a constant (Platt 1999, with the prior set apart). Arrays or tensors.
    """
    middle = float(logit(model.prior))
    return (odds - middle) / model.temperature + (middle + model.offset)


def fit_calibration(odds: Array, share: Array, prior: float) -> tuple[float, float]:
    """Temperature and offset with which held-out labels, or probabilities (N,) for labels, are likeliest.

    A weak prior (log temperature and offset of zero, with widths of one) is worth a single row.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> right = 2 * rng.normal(size=20_000)
    >>> t, b = fit_calibration(3 * right - 1, rng.random(20_000) < expit(right), 0.5)
    >>> round(t), round(3 * b)
    (3, 1)
    """
    evidence, middle = odds - logit(prior), logit(prior)

    def loss(v: Array) -> float:
        found = evidence * np.exp(-v[0]) + middle + v[1]
        return float((np.logaddexp(0, found) - share * found).sum() + 0.5 * (v**2).sum())

    found = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-3, 3), (-5, 5)])
    return float(np.exp(found.x[0])), float(found.x[1])


@dataclass(frozen=True)
class Candidates:
    """What a finder says of images, in their order.

    Attributes
    ----------
    odds : (N, M) array
        Calibrated log odds of each member, at the share of lenses of the training.
    joint : (N,) array
        Those of their mean probability.
    trained, prior : float
        Shares of lenses: in training, and in the survey.
    reasons : (N,) array of str
        Why an image has no answer; empty where it has.
    """

    odds: Array
    joint: Array
    trained: float
    prior: float
    reasons: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.joint)

    @property
    def probability(self) -> Array:
        """p(lens) (N,) where lenses are as common as in training; NaN for a broken image."""
        return np.asarray(expit(self.joint))

    @property
    def posterior(self) -> Array:
        """p(lens) (N,) where they are as rare as in the survey."""
        return np.asarray(expit(at_prior(self.joint, self.trained, self.prior)))

    @property
    def interval(self) -> tuple[Array, Array]:
        """68 per cent interval of ``probability`` by the spread of the members' log odds; NaN for a single one.

        What nets that were trained from other starts disagree on. It says nothing of what they all have wrong.
        """
        if self.odds.shape[1] < 2:
            return np.full(len(self), np.nan), np.full(len(self), np.nan)
        width = self.odds.std(1, ddof=1)
        return np.asarray(expit(self.joint - width)), np.asarray(expit(self.joint + width))

    @property
    def rank(self) -> NDArray[np.int64]:
        """1 for the likeliest lens; broken images come last."""
        return ranks(self.joint)

    def columns(self) -> dict[str, Array]:
        """Columns of a results file, all but the rank."""
        low, high = self.interval
        return {
            "probability": self.probability, "probability_lo68": low, "probability_hi68": high,
            "posterior": self.posterior, "log_odds": self.joint,
        }  # fmt: skip


def ranks(scores: ArrayLike) -> NDArray[np.int64]:
    """1 for the highest score, equal ones in their order, NaN last.

    Examples
    --------
    >>> ranks([0.1, np.nan, 0.9]).tolist()
    [2, 3, 1]
    """
    order = np.argsort(-np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=-np.inf), kind="stable")
    found = np.empty(len(order), dtype=np.int64)
    found[order] = np.arange(1, len(order) + 1)
    return found


def candidates(model: LensingModel, features: Tensor, reasons: NDArray[np.str_], *, prior: float) -> Candidates:
    """What stands behind features (N, M) of :meth:`LensingModel.features`."""
    at_prior(0.0, model.prior, prior)  # tells of a prior that is none
    raw = features.double().numpy()
    joint = log_odds(raw) if raw.shape[1] > 1 else raw[:, 0]
    return Candidates(calibrated(raw, model), calibrated(joint, model), model.prior, prior, reasons)
