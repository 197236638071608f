"""The classifier test against accuracies that are known."""

import numpy as np
import pytest
import scipy.stats

from deepfield.core.errors import DeepfieldError
from deepfield.trust.two_samples import c2st, local_c2st


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


AT = np.array([1.0, 0.0])


def gaussian(n, seed, *, shift=0.0, width=1.0, where=lambda x: np.ones(len(x))):
    """theta ~ N(0, I), x = theta + 0.2 noise: draws from the exact posteriors, or from spoilt ones."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, 2))
    x = np.concatenate([theta + 0.2 * rng.normal(size=(n, 2)), [AT, -AT]])
    std = 0.2 / 1.04**0.5
    centre = x / 1.04 + shift * std * where(x)[:, None]
    draws = centre[:, None] + width * std * rng.normal(size=(n + 2, 300, 2))
    return (draws[:n, :30], theta, x[:n]), [(draws[n], AT), (draws[n + 1], -AT)]


def test_local_p_values_of_exact_posteriors_are_uniform():
    p = []
    for seed in range(40):
        table, (at, _) = gaussian(150, seed)
        p.append(local_c2st(*table, *at, permutations=39, epochs=5, seed=seed).p_value)
    assert scipy.stats.kstest(p, "uniform").pvalue > 1e-3 and min(p) < 0.3 < 0.7 < max(p)


@pytest.mark.parametrize("spoilt", [{"shift": 0.8}, {"width": 0.6}, {"width": 1.6}])
def test_spoilt_posteriors_fail_the_local_test(spoilt):
    table, (at, _) = gaussian(500, 0, **spoilt)
    assert local_c2st(*table, *at, permutations=60).p_value < 0.05


def test_the_error_is_found_where_it_is():
    table, (there, elsewhere) = gaussian(800, 1, shift=1.0, where=lambda x: x[:, 0] > 0)
    found = [local_c2st(*table, *at, permutations=60) for at in (there, elsewhere)]
    assert found[0].p_value < 0.02 < found[1].p_value and found[0].statistic > 5 * found[1].statistic


def test_the_local_test_refuses_nonsense():
    table, (at, _) = gaussian(150, 0)
    found = [local_c2st(*table, *at, permutations=5, epochs=1, seed=3) for _ in range(2)]
    assert found[0].statistic == found[1].statistic and found[0].p_value == found[1].p_value
    with pytest.raises(DeepfieldError, match="at least 100 simulations"):
        local_c2st(*(part[:50] for part in table), *at)
    with pytest.raises(DeepfieldError, match="do not fit each other"):
        local_c2st(*table, at[0], [1.0])
