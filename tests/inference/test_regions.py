"""Conformal regions hold their share of simulations, also those of a posterior that is too narrow."""

import numpy as np
import pytest
from scipy.stats import chi2, norm

from deepfield.core.calibrators import CalibrationError
from deepfield.core.errors import DeepfieldError
from deepfield.inference.regions import conformal_regions
from deepfield.inference.simulate import simulate
from deepfield.trust.metrics import coverage_band

NOISE = 1.0


def noisier(theta, seed):
    """Twice the noise that the posterior was fitted to."""
    return theta + NOISE * np.random.default_rng(seed).normal(size=theta.shape)


@pytest.fixture(scope="module")
def corrected(fitted, toy):
    return conformal_regions(fitted["npe"], simulate(toy.prior, noisier, 600, seed=5))


def test_the_level_is_that_of_the_known_error(corrected):
    """Fitted: N(0.8 x, 0.2). True: theta - 0.8 x = 0.2 theta - 0.8 noise, of variance 0.04 + 0.64."""
    excess = (0.04 + 0.64 * NOISE**2) / 0.2
    for level in (0.5, 0.68):
        joint = chi2(2).cdf(excess * chi2(2).ppf(level))
        each = 2 * norm.cdf(excess**0.5 * norm.ppf(0.5 + level / 2)) - 1
        assert corrected.level(level) == pytest.approx(joint, abs=0.04)
        assert [float(c.levels(level)) for c in corrected.each] == pytest.approx([each, each], abs=0.05)


def test_fresh_simulations_lie_inside_as_often_as_they_should(corrected, fitted, toy):
    posterior, fresh = fitted["npe"], simulate(toy.prior, noisier, 300, seed=6)
    draws = posterior.sample_many(fresh.x, 400, seed=1)
    held, plain, inside = [], [], []
    for theta, x, own in zip(fresh.theta, fresh.x, draws):
        at_truth, *log_density = posterior.log_prob(np.vstack([theta, own]), x)
        held.append(at_truth >= corrected.threshold(log_density, 0.68))
        plain.append(at_truth >= np.quantile(log_density, 0.32))
        ends = corrected.intervals(own, 0.68)
        inside.append((theta >= ends[:, 0]) & (theta <= ends[:, 1]))
    low, high = coverage_band(0.68, 300, 600, confidence=0.999)
    assert low < np.mean(held) < high and np.mean(plain) < low
    assert (low < np.mean(inside, 0)).all() and (np.mean(inside, 0) < high).all()


@pytest.mark.parametrize("method", ["nle", "nre"])
def test_chains_have_regions_too(method, fitted, toy):
    found = conformal_regions(fitted[method], simulate(toy.prior, toy.simulator, 100, seed=7), draws=100)
    assert found.level(0.68) == pytest.approx(0.68, abs=0.16), "right posteriors need little correction"


def test_too_few_simulations_and_other_draws(corrected, fitted, toy):
    with pytest.raises(DeepfieldError, match="at least 20"):
        conformal_regions(fitted["npe"], toy.table[:10])
    with pytest.raises(CalibrationError, match=r"level 0\.999 needs 999 .* the calibration has 600"):
        corrected.level(0.999)
    with pytest.raises(DeepfieldError, match=r"draws \(n, 2\) of a, b, not \(5, 3\)"):
        corrected.intervals(np.zeros((5, 3)), 0.68)
