"""Training: all three find a known posterior; bad input; checkpoints."""

import importlib

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.inference.posterior import Posterior
from deepfield.inference.priors import Prior
from deepfield.inference.simulate import simulate
from deepfield.inference.simulations import Simulations
from deepfield.inference.train import nle, npe, nre, train


@pytest.mark.parametrize("method", ["npe", "nle", "nre"])
def test_a_known_posterior_is_found(method, fitted, toy):
    for seed, x in enumerate(([0.0, 0.0], [1.0, -0.7])):
        draws = fitted[method].sample(x, 2000, seed=seed)
        assert np.abs(draws.mean(0) - toy.shrink * np.array(x)).max() < 0.35 * toy.std
        assert np.allclose(draws.std(0), toy.std, rtol=0.2)
        assert abs(np.corrcoef(draws.T)[0, 1]) < 0.25


def test_flow_matching_finds_it_too_and_is_saved(toy, tmp_path):
    settings = {**toy.small, "members": 2, "epochs": 8}
    posterior = train(toy.table, toy.prior, density="matching", **settings)
    posterior.save(tmp_path / "model")
    again, x = Posterior.load(tmp_path / "model"), [1.0, -0.7]
    draws = again.sample(x, 4000)
    assert np.array_equal(draws, posterior.sample(x, 4000))
    assert np.abs(draws.mean(0) - toy.shrink * np.array(x)).max() < 0.35 * toy.std
    assert np.allclose(draws.std(0), toy.std, rtol=0.2)
    known = -0.5 * ((draws - toy.shrink * np.array(x)) ** 2).sum(1) / toy.std**2 - np.log(2 * np.pi * toy.std**2)
    assert abs((again.log_prob(draws, x) - known).mean()) < 0.05


@pytest.mark.parametrize("method", ["npe", "nle"])
def test_noise_that_is_added_is_that_of_the_simulator(method, toy):
    """200 simulations without noise, and their noise, give the posterior of simulations with it."""
    theta = toy.prior.sample(200, seed=0)
    clean = Simulations.of(theta, theta, toy.prior)
    found = train(clean, toy.prior, method=method, noise=[0.5, 0.5], epochs=30, **toy.small)
    draws = found.sample([1.0, -0.7], 2000)
    assert np.abs(draws.mean(0) - toy.shrink * np.array([1.0, -0.7])).max() < 0.5 * toy.std
    assert np.allclose(draws.std(0), toy.std, rtol=0.25)


def test_the_card_says_what_was_done(fitted, toy):
    card = fitted["npe"].card
    assert card["simulations"] == 2000 and card["lost"] == {} and card["sha256"] == toy.table.digest()
    assert len(card["history"]["train"]) == 12 and card["validation_loss"] == min(card["history"]["validation"])
    assert card["cpu_seconds"] > 0


@pytest.mark.parametrize(("falling", "second", "length"), [(1.1, "good", 20), (0.0, "good", 40), (0.0, "bad", 40)])
def test_a_second_cycle_follows_while_the_loss_falls_and_is_kept_if_it_is_better(
    falling, second, length, toy, monkeypatch
):
    module = importlib.import_module("deepfield.inference.train")
    original, after = module.fit, []

    def fit(model, *arguments, **settings):
        history = original(model, *arguments, **settings)
        if after and second == "bad":  # worse than it was, in weights and in loss
            model.load_state_dict({k: 2 * v for k, v in model.state_dict().items()})
            history.validation = [v + 1 for v in history.validation]
        after.append(({k: v.clone() for k, v in model.state_dict().items()}, history))
        return history

    for name, value in (("fit", fit), ("_STEPS", 1), ("_FALLING", falling), ("_PATIENCE", 1.0)):
        monkeypatch.setattr(module, name, value)
    found = train(toy.table[:400], toy.prior, **{**toy.small, "batch": 128})
    losses = [min(history.validation) for _, history in after]
    kept = after[int(np.argmin(losses))][0]
    assert all(torch.equal(v, kept[k]) for k, v in found.model.state_dict().items())
    assert len(found.card["history"]["train"]) == length and found.card["validation_loss"] == min(losses)
    assert found.card["history"]["validation"][found.card["best_epoch"]] == min(losses)


def test_from_prior_and_simulator_and_the_same_twice(toy):
    def once(seed):
        return npe(toy.prior, toy.simulator, n=200, epochs=2, seed=seed, **toy.small).sample([0.1, 0.2], 5, seed=0)

    assert np.array_equal(once(1), once(1)) and not np.array_equal(once(1), once(2))


@pytest.mark.parametrize("method", ["npe", "nle", "nre"])
def test_a_parameter_alone_has_its_marginal(method, toy):
    """x1 = b, x2 = b - a and unit noise: b alone is known from x1 and, as a ~ N(0, 1), half as well from x2."""
    theta = toy.prior.sample(2000, seed=0)
    x = np.stack([theta[:, 1], theta[:, 1] - theta[:, 0]], 1) + np.random.default_rng(1).normal(size=(2000, 2))
    table = Simulations.of(theta, x, toy.prior).marginal(["b"])
    posterior = train(table, toy.prior.marginal(["b"]), method=method, epochs=12, **toy.small)
    draws = posterior.sample([2.0, 1.0], 3000)
    assert draws.shape == (3000, 1) and draws.mean() == pytest.approx(1.0, abs=0.2)
    assert draws.std() == pytest.approx(2.5**-0.5, rel=0.15)


def test_a_prior_of_other_parameters_is_refused(toy):
    with pytest.raises(DeepfieldError, match="the prior is one of b, the simulations are of a"):
        train(toy.table.marginal(["a"]), toy.prior.marginal(["b"]))


@pytest.mark.parametrize("function", [npe, nle, nre])
def test_a_simulator_or_simulations(function, toy):
    with pytest.raises(DeepfieldError, match="one of the two"):
        function(toy.prior)
    with pytest.raises(DeepfieldError, match="99 simulations are too few"):
        function(toy.prior, simulations=toy.table[:99])


def test_draws_stay_inside_the_prior():
    prior = Prior({"x": (0, 1)})
    table = simulate(prior, lambda theta: theta + 0.3 * np.sin(9 * theta), 400, seed=0)
    posterior = train(table, prior, epochs=3, members=1)
    draws = posterior.sample([1.2], 2000)
    assert draws.min() >= 0 and draws.max() <= 1
    assert np.isneginf(posterior.log_prob([[1.1], [-0.1]], [1.2])).all()


def test_a_killed_training_goes_on(toy, tmp_path, monkeypatch):
    path, settings = tmp_path / "fit.ckpt", {**toy.small, "epochs": 4}
    whole = train(toy.table[:300], toy.prior, **settings)
    import deepfield.core.fit as module

    save, count = module._State.save, []

    def dying(self, place):
        save(self, place)
        count.append(1)
        if len(count) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(module._State, "save", dying)
    with pytest.raises(KeyboardInterrupt):
        train(toy.table[:300], toy.prior, checkpoint=path, **settings)
    monkeypatch.setattr(module._State, "save", save)
    again = train(toy.table[:300], toy.prior, checkpoint=path, **settings)
    assert np.array_equal(again.sample([0.1, 0.1], 5), whole.sample([0.1, 0.1], 5))


def test_a_wave_of_unknown_phase_is_measured(tmp_path):
    """Every linear function of the data has mean zero whatever amplitude and frequency: a regression is blind."""
    prior = Prior({"amplitude": (0.5, 3), "frequency": (0.05, 0.25)})

    def wave(theta, seed):
        rng = np.random.default_rng(seed)
        phase = rng.uniform(0, 2 * np.pi, (len(theta), 1))
        x = theta[:, :1] * np.sin(2 * np.pi * theta[:, 1:] * np.arange(64) + phase)
        return (x + 0.5 * rng.normal(size=x.shape))[:, None]

    posterior = npe(prior, wave, n=2000, epochs=8, members=1, width=32, context=8, hidden=16, batch=64)
    table, fresh = simulate(prior, wave, 2000, seed=1), simulate(prior, wave, 200, seed=2)
    draws = posterior.sample_many(fresh.x, 100)
    left = ((draws.mean(1) - fresh.theta) ** 2).mean(0) / fresh.theta.var(0)
    design = np.column_stack([np.ones(2000), table.x[:, 0]])
    blind = np.linalg.lstsq(design, table.theta)[0]
    linear = ((fresh.x[:, 0] @ blind[1:] + blind[0] - fresh.theta) ** 2).mean(0) / fresh.theta.var(0)
    assert (left < 0.15).all() and (linear > 0.9).all()
    posterior.save(tmp_path / "model")
    again = Posterior.load(tmp_path / "model")
    assert np.array_equal(again.sample(fresh.x[0], 20), posterior.sample(fresh.x[0], 20))


def test_maps_are_embedded():
    prior = Prior({"level": (0, 1)})

    def maps(theta, seed):
        return theta[:, :, None, None] + 0.1 * np.random.default_rng(seed).normal(size=(len(theta), 1, 16, 16))

    posterior = npe(prior, maps, n=150, epochs=3, members=1, width=16, context=4, hidden=8, batch=32)
    assert posterior.sample(maps(np.array([[0.5]]), 1)[0], 10).shape == (10, 1)


def test_a_last_pair_alone_is_no_batch_of_ratios(toy):
    """A tenth of 330 is 33: a batch of 32 and one pair more."""
    found = train(toy.table[:330], toy.prior, method="nre", epochs=1, **{**toy.small, "batch": 32})
    assert np.isfinite(found.card["validation_loss"])


def test_simulations_of_another_prior_are_told(toy, caplog):
    wide = {name: {"normal": [0, 5]} for name in toy.table.names}
    train(toy.table[:200], wide, epochs=1, **toy.small)
    assert "does not follow the prior" in caplog.text
    caplog.clear()
    train(toy.table[:200], toy.prior, epochs=1, **toy.small)
    assert "does not follow" not in caplog.text
