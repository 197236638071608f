"""Posteriors: densities that integrate to one, many observations, alarms, files, bad input."""

import json
import logging

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.inference.posterior import ALARM, Posterior
from deepfield.inference.train import train

X = np.array([0.4, -0.3])


@pytest.mark.parametrize("method", ["npe", "nle", "nre"])
def test_densities_are_normalised_and_fit_the_draws(method, fitted):
    axis = np.linspace(-3, 3, 61)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(fitted[method].log_prob(grid, X))
    # A ratio is normalised only as well as the classifier is right; the others exactly, up to the evidence.
    assert density.sum() * 0.01 == pytest.approx(1, abs={"npe": 0.01, "nle": 0.12, "nre": 0.3}[method])
    mean = (grid * density[:, None]).sum(0) / density.sum()
    draws = fitted[method].sample(X, 2000)
    assert np.allclose(draws.mean(0), mean, atol=0.08)


def test_many_observations_at_once(fitted):
    rows = np.random.default_rng(0).normal(size=(7, 2))
    draws = fitted["npe"].sample(rows, 400)
    assert draws.shape == (7, 400, 2)
    assert np.abs(draws.mean(1) - 0.8 * rows).max() < 0.3
    assert fitted["nle"].sample(rows[:2], 100).shape == (2, 100, 2)
    assert fitted["npe"].sample(X, 10).shape == (10, 2)


def test_chains_report_how_they_mixed(fitted):
    chains = fitted["nle"].chains(X, 3000, seed=1)
    assert chains.mixed and (chains.rhat < 1.02).all() and (chains.ess > 400).all()
    with pytest.raises(DeepfieldError, match="npe draws directly"):
        fitted["npe"].chains(X)
    with pytest.raises(DeepfieldError, match="npe learns no likelihood"):
        fitted["npe"].log_likelihood([[0.0, 0.0]], X)


def test_evidence_of_a_known_model(fitted):
    """p(x) = N(x; 0, 1.25), in units of the encoding."""
    posterior = fitted["nle"]
    scale = posterior.encoding.width * posterior.encoding.scale
    exact = -0.5 * (X**2).sum() / 1.25 - np.log(2 * np.pi * 1.25) + np.log(scale).sum()
    assert posterior.chains(X, 500).log_evidence == pytest.approx(exact, abs=0.25)


def test_data_unlike_the_simulations_raise_an_alarm(fitted, toy, caplog):
    posterior = fitted["npe"]
    with caplog.at_level(logging.WARNING, "deepfield"):
        posterior.sample([9.0, -9.0], 10)
    assert "UNLIKE THE SIMULATIONS" in caplog.text and posterior.p_value([9.0, -9.0])[0] < ALARM
    caplog.clear()
    theta = toy.prior.sample(4000, seed=5)
    p = posterior.p_value(toy.simulator(theta, 6))
    for level in (0.05, 0.2):  # 200 held-out simulations calibrate it
        assert abs((p < level).mean() - level) < 4 * np.sqrt(level * (1 - level) * (1 / 4000 + 2 / 200))
    posterior.sample(X, 10)
    assert not caplog.text


@pytest.mark.parametrize("method", ["npe", "nre"])
def test_files(method, fitted, tmp_path):
    posterior = fitted[method]
    posterior.save(tmp_path / "model")
    again = Posterior.load(tmp_path / "model")
    assert np.array_equal(again.sample(X, 50, seed=2), posterior.sample(X, 50, seed=2))
    assert np.allclose(again.p_value(X), posterior.p_value(X)) and again.prior.names == ("a", "b")
    assert again.card["sha256"] == posterior.card["sha256"] and again.method == method


def test_a_damaged_model_says_so(fitted, tmp_path):
    fitted["npe"].save(tmp_path / "model")
    path = tmp_path / "model" / "model.json"
    meta = json.loads(path.read_text())
    meta["config"]["inference"]["width"] = 64
    path.write_text(json.dumps(meta))
    with pytest.raises(ModelError, match="changed after it was written"):
        Posterior.load(tmp_path / "model")


def test_bad_observations(fitted):
    posterior = fitted["npe"]
    with pytest.raises(DeepfieldError, match=r"the shape \(2,\) of the simulations, not \(3,\)"):
        posterior.sample([0.0, 0.0, 0.0])
    with pytest.raises(DeepfieldError, match="NaN or infinite"):
        posterior.sample([np.nan, 0.0])
    with pytest.raises(DeepfieldError, match="at least one draw"):
        posterior.sample(X, 0)
    with pytest.raises(DeepfieldError, match="one observation is asked for, not 2"):
        posterior.log_prob([[0.0, 0.0]], [X, X])


def test_a_flow_in_place_of_the_mixture(toy):
    posterior = train(toy.table[:300], toy.prior, density="flow", epochs=2, **toy.small)
    assert posterior.sample(X, 20).shape == (20, 2) and np.isfinite(posterior.log_prob([[0.0, 0.0]], X)).all()


def test_draws_come_from_all_members(toy):
    """One of two members is moved by one: half of the draws move with it."""
    posterior = train(toy.table[:400], toy.prior, epochs=1, **{**toy.small, "members": 2})
    before = posterior.sample(X, 20_000, seed=0)
    posterior.model.head.members[1].linear.shift += 1.0
    after = posterior.sample(X, 20_000, seed=0)
    moved = np.abs(after - before - 1) < 1e-5
    assert (moved | (np.abs(after - before) < 1e-5)).all()
    assert moved.mean(0) == pytest.approx(np.full(2, 0.5), abs=0.02)


def test_absurd_data_are_told_of_however_few_the_simulations(toy, caplog):
    posterior = train(toy.table[:300], toy.prior, epochs=1, **toy.small)
    posterior.sample(X, 5)
    assert "UNLIKE" not in caplog.text
    posterior.sample(np.full(len(X), 1e6), 5)
    assert "UNLIKE THE SIMULATIONS" in caplog.text
