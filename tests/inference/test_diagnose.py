"""Diagnostics: right posteriors pass, spoilt ones fail; predictive checks find what is wrong with the data."""

import json

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.inference.diagnose import diagnose, local_test, predictive_check
from deepfield.inference.simulate import simulate


@pytest.mark.parametrize("method", ["npe", "nle", "nre"])
def test_a_good_posterior_passes(method, fitted, toy):
    found = diagnose(fitted[method], simulate(toy.prior, toy.simulator, 200, seed=11), draws=60)
    assert found.passed and found.calibration.pit.shape == (200, 2)
    assert np.allclose(found.shrinkage, 0.8, atol=0.08), "1 - 0.2 / 1"
    content = found.to_dict()
    assert json.loads(json.dumps(content)) == content and "TARP" in str(found)


def test_a_posterior_for_other_noise_fails(fitted, toy, caplog):
    def noisier(theta, seed):
        return theta + 1.5 * np.random.default_rng(seed).normal(size=theta.shape)

    found = diagnose(fitted["npe"], simulate(toy.prior, noisier, 200, seed=11))
    assert not found.passed and "fails its calibration" in caplog.text and "FAILED" in str(found)


def test_the_predictive_check_sees_one_bad_number(toy):
    """Ten repeated measurements of one number, with a prior as wide as a hundred of their errors."""
    from deepfield.inference.priors import Prior
    from deepfield.inference.train import train

    prior = Prior({"level": (-50, 50)})

    def repeated(theta, seed):
        return theta + np.random.default_rng(seed).normal(size=(len(theta), 10))

    table = simulate(prior, repeated, 1000, seed=0)
    posterior = train(table, prior, epochs=10, members=1, width=32, hidden=16, batch=32)
    good = repeated(np.array([[3.0]]), 5)[0]
    bad = good.copy()
    bad[3] += 20
    assert predictive_check(posterior, repeated, good, n=400) > 0.05
    assert predictive_check(posterior, repeated, bad, n=400) < 0.05


def test_the_local_test_knows_where_a_posterior_is_wrong(fitted, toy):
    """Simulations whose data are shifted by one where they are positive."""

    def bent(theta, seed):
        x = toy.simulator(theta, seed)
        return x + (x[:, :1] > 0)

    table = simulate(toy.prior, bent, 800, seed=3)
    low, high = (local_test(fitted["npe"], table, x, draws=30, permutations=60) for x in ([-1.0, 0.3], [1.8, 1.3]))
    assert high.p_value < 0.02 and high.statistic > 3 * low.statistic
    assert len(high.null) == 60


@pytest.mark.parametrize("method", ["npe", "nre"])
def test_a_good_posterior_passes_the_local_test(method, fitted, toy):
    table = simulate(toy.prior, toy.simulator, 300, seed=11)
    assert local_test(fitted[method], table, [0.8, -0.2], draws=30, permutations=60).p_value > 0.02
    with pytest.raises(DeepfieldError, match="one observation is asked for, not 2"):
        local_test(fitted[method], table, [[0.8, -0.2]] * 2)


def test_too_few_simulations(fitted, toy):
    with pytest.raises(DeepfieldError, match="at least 20"):
        diagnose(fitted["npe"], toy.table[:10])
