"""What a finder says: log odds, probabilities at the training's and at a survey's share of lenses, and ranks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
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


def tempered(odds: Any, temperature: float, prior: float) -> Any:
    """Log odds whose evidence, what they are beyond those of the prior, is divided by the temperature.

    Examples
    --------
    >>> tempered(logit(0.01), 3.0, 0.01) == logit(0.01)  # no evidence stays none
    True
    """
    middle = float(logit(prior))
    return (odds - middle) / temperature + middle


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
    cool = partial(tempered, temperature=model.temperature, prior=model.prior)
    return Candidates(cool(raw), cool(joint), model.prior, prior, reasons)
