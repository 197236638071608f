"""The spectrum without tables: its quadrature, and gradients."""

import numpy as np
import pytest
import torch

from deepfield.emulators.direct import NODES, Direct, sphere
from deepfield.physics.power import variance


@pytest.fixture(scope="module")
def direct(power):
    return Direct(power.transfer, power.late)


def test_the_quadrature_follows_the_oscillations(direct):
    fine = np.geomspace(2e-4, 40, 20000)
    for row in ([0.11, 0.068, 0.55, 1.15, 0.9], [0.5, 0.03, 0.9, 0.85, 0.7]):
        theta = np.array([row])
        spectrum = direct(theta, fine, np.array([0.0]))[0, 0]
        assert np.sqrt(variance(fine, spectrum, 8.0)) == pytest.approx(row[4], rel=3e-5)
    assert (sphere() > 0).all() and (np.diff(NODES) > 0).all()


def test_numpy_and_torch_agree_and_chunks_change_nothing(direct):
    rng = np.random.default_rng(0)
    theta = rng.uniform([0.1, 0.03, 0.5, 0.8, 0.6], [0.5, 0.07, 0.9, 1.2, 1.0], (70, 5))
    k, z = np.array([1e-3, 0.1, 3.0]), np.array([0.0, 1.3])
    found = direct(theta, k, z)
    assert found.shape == (70, 2, 3)
    assert found[66:67] == pytest.approx(direct(theta[66:67], k, z), rel=1e-9)
    assert direct(torch.from_numpy(theta), k, z, torch).numpy() == pytest.approx(found, rel=1e-9)
