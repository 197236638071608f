"""The outlier test: its rate of false alarms, and what it finds."""

import numpy as np
import pytest
import scipy.stats

from deepfield.core.errors import DeepfieldError
from deepfield.trust.outliers import OutlierTest


def skewed(n, seed):
    """Far from Gaussian: the rate has to hold all the same."""
    rng = np.random.default_rng(seed)
    x = rng.exponential(size=(n, 3)) ** 2
    x[:, 2] += 5 * x[:, 0]
    return x


def test_false_alarms_come_at_their_rate():
    test = OutlierTest.fit(skewed(2000, 0), skewed(2000, 1))
    p = test.p_value(skewed(20_000, 2))
    for level in (0.01, 0.05, 0.2):
        # Binomial error of the sample and of the 2,000 that calibrate it.
        error = np.sqrt(level * (1 - level) * (1 / 20_000 + 2 / 2000))
        assert abs((p < level).mean() - level) < 4 * error


def test_what_is_far_or_suspiciously_near_is_found():
    rng = np.random.default_rng(0)
    test = OutlierTest.fit(rng.normal(size=(3000, 20)), rng.normal(size=(1000, 20)))
    assert np.median(test.p_value(2 * rng.normal(size=(50, 20)))) < 0.01, "noise twice as large as simulated"
    assert np.median(test.p_value(0.3 * rng.normal(size=(50, 20)))) < 0.01, "and three times smaller"
    assert np.allclose(test.distance(np.zeros((1, 20)) + 1), np.sqrt(20), rtol=0.1)


def test_a_break_of_correlation_is_found():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4000, 1)) + 0.1 * rng.normal(size=(4000, 2))
    test = OutlierTest.fit(x[:2000], x[2000:])
    assert test.p_value([[1.0, -1.0]])[0] < 0.002 < 0.05 < test.p_value([[1.0, 1.0]])[0]


def test_constant_columns_files_and_bad_input():
    x = np.random.default_rng(0).normal(size=(200, 3))
    x[:, 1] = 7.0
    test = OutlierTest.fit(x[:100], x[100:])
    again = OutlierTest.from_dict(test.to_dict())
    assert np.array_equal(again.p_value(x), test.p_value(x)) and test.root.shape == (3, 2)
    assert scipy.stats.chi.cdf(np.median(test.distances), 2) == pytest.approx(0.5, abs=0.15)
    with pytest.raises(DeepfieldError, match="at least 20 held out"):
        OutlierTest.fit(x, x[:5])
