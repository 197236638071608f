"""Candidates: log odds of an ensemble, the survey's prior by Bayes, ranks."""

import numpy as np
import pytest
from scipy.special import expit, logit

from deepfield.core.errors import DeepfieldError
from deepfield.lensing.candidates import at_prior, log_odds, ranks


def test_the_odds_of_the_mean_probability():
    odds = np.random.default_rng(0).normal(0, 3, (50, 4))
    np.testing.assert_allclose(expit(log_odds(odds)), expit(odds).mean(1), rtol=1e-12)
    assert log_odds(np.array([[-900.0, -900.0]]))[0] == -900


def test_the_prior_is_bayes_theorem():
    """One dimension, two Gaussians: the exact posterior at either share is known."""
    x = np.linspace(-3, 4, 50)
    likelihood = np.exp(-0.5 * (x - 1) ** 2) / np.exp(-0.5 * x**2)
    for trained, prior in ((0.5, 1e-4), (0.3, 0.01)):
        exact = likelihood * prior / (likelihood * prior + 1 - prior)
        p = likelihood * trained / (likelihood * trained + 1 - trained)
        np.testing.assert_allclose(expit(at_prior(logit(p), trained, prior)), exact, rtol=1e-10)
    for wrong in (0.0, 1.0, -2.0):
        with pytest.raises(DeepfieldError, match="prior is a share of lenses between 0 and 1"):
            at_prior(0.0, 0.5, wrong)


def test_ranks():
    assert ranks([0.5, np.nan, 2.0, 0.5]).tolist() == [2, 4, 1, 3] and ranks([]).tolist() == []
