"""Truncated rounds: the box holds the posterior, the result is the posterior of the whole prior."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.inference.priors import Prior
from deepfield.inference.rounds import cut_to, focus


def wide(theta, seed):
    """A prior thirty times as wide as the posterior."""
    return theta + np.random.default_rng(seed).normal(size=theta.shape)


def test_a_narrow_posterior_in_a_wide_prior():
    prior = Prior({"a": (-30, 30)})
    settings = {"members": 1, "width": 32, "context": 8, "hidden": 16, "components": 3, "batch": 32, "epochs": 15}
    posterior = focus(prior, wide, [4.0], n=1000, seed=0, **settings)
    low, high = posterior.prior.support()[0]
    assert low < 0 and high > 8 and high - low < 40, "the box is smaller, and holds it"
    draws = posterior.sample([4.0], 4000)
    assert abs(draws.mean() - 4) < 0.5 and 0.8 < draws.std() < 1.4
    assert posterior.card["rounds"]["count"] == 2


def test_the_box_holds_the_posterior(fitted):
    box = cut_to(fitted["npe"], [0.4, -0.3]).support()
    draws = fitted["npe"].sample([0.4, -0.3], 20_000, seed=9)
    assert ((draws > box[:, 0]) & (draws < box[:, 1])).mean() > 0.99


def test_the_posterior_of_one_parameter_alone():
    """x = a + b + noise, b ~ N(0, 1): a has the posterior N(x, 1 + 1) in a flat prior, cut or not."""

    def both(theta, seed):
        return theta.sum(1, keepdims=True) + np.random.default_rng(seed).normal(size=(len(theta), 1))

    prior = Prior({"a": (-30, 30), "b": {"normal": [0, 1]}})
    settings = {"members": 1, "width": 32, "context": 8, "hidden": 16, "components": 3, "epochs": 15}
    posterior = focus(prior, both, [4.0], method="nre", n=1000, parameters=["a"], **settings)
    draws = posterior.sample([4.0], 4000)
    assert posterior.prior.names == ("a",) and draws.shape == (4000, 1)
    assert abs(draws.mean() - 4) < 0.5 and draws.std() == pytest.approx(2**0.5, rel=0.2)
    with pytest.raises(DeepfieldError, match="some of the parameters a, b are asked for, not c"):
        focus(prior, both, [4.0], parameters=["c"])


def test_rounds_are_counted():
    with pytest.raises(DeepfieldError, match="at least one round"):
        focus({"a": (0, 1)}, wide, [0.5], rounds=0)
