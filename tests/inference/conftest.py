"""A toy whose posterior is known, and an estimator of each kind that was fitted to it."""

from types import SimpleNamespace

import numpy as np
import pytest

from deepfield.inference.priors import Prior
from deepfield.inference.simulate import simulate
from deepfield.inference.train import train

NOISE = 0.5
SMALL = {"members": 1, "width": 32, "context": 8, "hidden": 16, "components": 3, "batch": 64}


def simulator(theta, seed):
    return theta + NOISE * np.random.default_rng(seed).normal(size=theta.shape)


@pytest.fixture(scope="session")
def toy():
    """theta ~ N(0, 1), x = theta + 0.5 N(0, 1): p(theta | x) = N(0.8 x, 0.2) in each of two dimensions."""
    prior = Prior({"a": {"normal": [0, 1]}, "b": {"normal": [0, 1]}})
    return SimpleNamespace(
        prior=prior, simulator=simulator, table=simulate(prior, simulator, 2000, seed=0), std=0.2**0.5, shrink=0.8,
        small=SMALL,
    )  # fmt: skip


@pytest.fixture(scope="session")
def fitted(toy):
    """A posterior of each method."""
    epochs = {"npe": 12, "nle": 12, "nre": 12}
    return {m: train(toy.table, toy.prior, method=m, epochs=e, **SMALL) for m, e in epochs.items()}
