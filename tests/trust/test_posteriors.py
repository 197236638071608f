"""Calibration tests on a conjugate Gaussian: its known posterior, and too narrow, shifted, uncorrelated ones."""

import numpy as np
import pytest
import scipy.stats

from deepfield.core.errors import DeepfieldError
from deepfield.trust.posteriors import calibration, highest_density_levels


def gaussian(m=400, draws=100, *, width=1.0, shift=0.0, correlated=True, seed=0):
    """theta ~ N(0, I), x = A theta + noise: draws from the exact posterior, or a spoilt one."""
    rng = np.random.default_rng(seed)
    design = np.array([[1.0, 0.9], [0.0, 0.3]])
    theta = rng.normal(size=(m, 2))
    x = theta @ design.T + 0.5 * rng.normal(size=(m, 2))
    covariance = np.linalg.inv(np.eye(2) + design.T @ design / 0.25)
    mean = x @ design @ covariance / 0.25
    if not correlated:
        covariance = np.diag(np.diag(covariance))
    noise = rng.normal(size=(m, draws, 2)) @ np.linalg.cholesky(covariance).T
    return mean[:, None] + shift * np.sqrt(np.diag(covariance)) + width * noise, theta


def test_the_exact_posterior_passes_and_covers():
    draws, theta = gaussian()
    found = calibration(draws, theta, seed=0)
    assert found.passes() and found.pit.shape == (400, 2)
    band = 4 * np.sqrt(0.68 * 0.32 / 400)
    assert (np.abs(found.coverage(0.68) - 0.68) < band).all()
    assert abs(found.tarp_coverage([0.68])[0] - 0.68) < band


def test_p_values_of_exact_posteriors_are_uniform():
    p = []
    for seed in range(60):
        found = calibration(*gaussian(100, 40, seed=seed), seed=seed)
        p += [found.p_value[0], found.tarp_p_value]
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("spoilt", [{"width": 0.7}, {"width": 1.4}, {"shift": 0.4}])
def test_spoilt_posteriors_fail(spoilt):
    assert not calibration(*gaussian(**spoilt), seed=0).passes()


def test_widths_are_seen_with_few_truths():
    """Twice too wide: ranks gather in the middle, which their distances from it show first."""
    draws, theta = gaussian(40, width=2.0)
    found = calibration(draws, theta, seed=0)
    assert not found.passes() and (found.p_value < 0.01).any()


def test_tarp_sees_a_lost_correlation_that_ranks_do_not():
    found = calibration(*gaussian(3000, 60, correlated=False), seed=0)
    assert found.p_value.min() > 0.01 and found.tarp_p_value < 1e-3


def test_levels_of_highest_density():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 400))
    levels = highest_density_levels(-(x**2), -(rng.normal(size=500) ** 2))
    assert scipy.stats.kstest(levels, "uniform").pvalue > 1e-3


def test_shapes():
    with pytest.raises(DeepfieldError, match="at least 20"):
        calibration(np.zeros((10, 5, 1)), np.zeros((10, 1)), seed=0)
    with pytest.raises(DeepfieldError, match="at least 20"):
        calibration(np.zeros((30, 5, 2)), np.zeros((30, 1)), seed=0)
