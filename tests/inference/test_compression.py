"""Compression of a model that is linear in its parameters, whose posterior is known in closed form."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.inference.compression import Compressed
from deepfield.inference.priors import Prior

SLOPES = np.random.default_rng(0).normal(size=(2, 30))
DATA = np.random.default_rng(1).normal(size=30)


class Line(Compressed):
    def __init__(self):
        self.prior = Prior({"a": {"normal": [0, 1]}, "b": {"normal": [0, 1]}})
        self._compress(DATA)

    def _whitened(self, theta):
        return self.prior.rows(theta) @ SLOPES


def test_two_numbers_say_what_thirty_do():
    toy = Line()
    theta = toy.prior.sample(50, seed=0)
    full = -0.5 * ((DATA - theta @ SLOPES) ** 2).sum(1)
    assert len(toy.observed) == 2 and np.ptp(toy.log_likelihood(theta) - full) < 1e-8
    draws, chains = toy.exact(4000, seed=0)
    covariance = np.linalg.inv(np.eye(2) + SLOPES @ SLOPES.T)
    mean, std = covariance @ SLOPES @ DATA, np.sqrt(np.diag(covariance))
    assert chains.mixed and np.allclose(draws.mean(0), mean, atol=0.1 * std[0])
    assert np.allclose(draws.std(0), std, rtol=0.06)


def test_simulations_have_unit_noise():
    toy = Line()
    x = toy.simulate(np.zeros((4000, 2)), seed=0)
    assert np.allclose(np.cov(x.T), np.eye(2), atol=0.08) and toy.noise.tolist() == [1, 1]
    with pytest.raises(DeepfieldError, match=r"compressed data are 2 numbers, not \(30,\)"):
        toy.log_likelihood([[0.0, 0.0]], DATA)
