"""Ratio tests and profiles on a Gaussian, where Wilks is exact."""

import numpy as np
import pytest
import scipy.stats

from deepfield.core.errors import DeepfieldError
from deepfield.inference.likelihood import profile, ratio_test, size_of_test, statistics

X = np.array([0.4, -0.3])


def test_the_statistic_is_that_of_the_exact_likelihood(fitted):
    found = ratio_test(fitted["nle"], X, {"a": 1.0})
    exact = (X[0] - 1.0) ** 2 / 0.25
    assert found.statistic == pytest.approx(exact, abs=0.6)
    assert found.p_wilks == pytest.approx(scipy.stats.chi2.sf(found.statistic, 1)) and found.p_simulated is None
    assert found.constrained["a"] == pytest.approx(1.0, abs=1e-4)
    assert found.best["a"] == pytest.approx(X[0], abs=0.2) and found.best["b"] == pytest.approx(X[1], abs=0.2)


def test_simulated_calibration_agrees_with_wilks(fitted, toy):
    found = ratio_test(fitted["nle"], X, {"a": 1.0}, simulator=toy.simulator, n=300, seed=1)
    assert len(found.simulated) == 300
    assert found.p_simulated == pytest.approx(found.p_wilks, abs=0.12)


def test_the_size_is_nominal(fitted, toy):
    theta = np.tile([[0.5, -0.2]], (300, 1))
    t, _, _ = statistics(fitted["nle"], toy.simulator(theta, 7), [0, 1], np.array([0.5, -0.2]))
    share, _, _ = size_of_test(scipy.stats.chi2.sf(t, 2), 0.1)
    assert 0.04 < share < 0.2, "Wilks with a likelihood of 2,000 simulations"


def test_a_profile_is_a_parabola(fitted):
    values = X[0] + np.array([-1.0, 0.0, 1.0])
    found = profile(fitted["nle"], X, "a", values)
    assert found.max() <= 0 and found[1] > -0.2
    assert np.allclose(found[[0, 2]], -2.0, atol=0.7)


def test_what_cannot_be_tested(fitted):
    with pytest.raises(DeepfieldError, match="fix some of the parameters a, b, not c"):
        ratio_test(fitted["nle"], X, {"c": 1.0})
    with pytest.raises(DeepfieldError, match="npe learns no likelihood"):
        ratio_test(fitted["npe"], X, {"a": 1.0})
