"""The classifier test against accuracies that are known."""

import numpy as np
import pytest
import scipy.stats

from deepfield.core.errors import DeepfieldError
from deepfield.trust.two_samples import c2st


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_shifted_gaussians_are_told_apart_as_well_as_can_be(shift):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2000, 2)), rng.normal(size=(2000, 2)) + np.array([shift, 0])
    best = scipy.stats.norm.cdf(shift / 2)  # of the optimal classifier
    assert abs(c2st(a, b, epochs=10) - best) < 0.03


def test_a_difference_of_shape_is_seen():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2000, 2)), 2 * rng.normal(size=(2000, 2))
    # The densities cross at r^2 = 8/3 ln 4: P(r < R) of both, Rayleigh laws.
    cross = 8 / 3 * np.log(4)
    best = 0.5 * (1 - np.exp(-cross / 2)) + 0.5 * np.exp(-cross / 8)
    assert abs(c2st(a, b, epochs=20) - best) < 0.03


def test_it_is_reproducible_and_refuses_nonsense():
    a, b = np.random.default_rng(2).normal(size=(2, 200, 1))
    assert c2st(a, b, epochs=2, seed=3) == c2st(a, b, epochs=2, seed=3)
    for bad in (a[:, 0], a[:50], np.ones((200, 2))):
        with pytest.raises(DeepfieldError, match="at least 100 draws"):
            c2st(a, bad)
