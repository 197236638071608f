"""The linear part in closed form: exact on linear Gaussian pairs, honest on few rows, in density and draws."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch.distributions import Independent, Normal

from deepfield.core.heads import Head
from deepfield.core.matching import FlowMatching
from deepfield.inference import simulate, train
from deepfield.inference.regression import FARTHEST, Linear, Regressed

SLOPE = np.array([[0.8, -0.2], [0.1, 0.5], [0.0, 0.3]])
ROOT = np.array([[0.05, 0.0], [0.04, 0.02]])


class Standard(Head):
    """N(0, I), whatever the features: the regression is all there is."""

    n_features = 1

    def forward(self, features):
        return Independent(Normal(torch.zeros(*features.shape[:-1], 2), 1.0), 1)


def pairs(n, seed=0, columns=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns))
    y = 0.7 + x[:, :3] @ SLOPE + rng.normal(size=(n, 2)) @ ROOT.T
    return torch.from_numpy(x).float(), torch.from_numpy(y).float()


@pytest.fixture(scope="module", params=["a Gaussian", "flow matching at its start"])
def head(request):
    inner = Standard() if request.param == "a Gaussian" else FlowMatching(2, context=1, hidden=8)
    return Regressed(inner, 2, given=3).regress(*pairs(20_000))


def test_a_linear_gaussian_model_is_exact_without_training(head):
    x, y = pairs(200, seed=1)
    truth = [
        multivariate_normal(0.7 + a.double().numpy() @ SLOPE, ROOT @ ROOT.T).logpdf(b.double().numpy())
        for a, b in zip(x, y)
    ]
    found = head(torch.cat([x, torch.zeros(200, 1)], 1)).log_prob(y).detach()
    assert float((found.double() - torch.tensor(truth)).abs().max()) < 0.2
    assert float(found.mean()) == pytest.approx(np.mean(truth), abs=0.01)


def test_the_loss_is_the_inner_one_of_the_residuals():
    x, y = pairs(500)
    features = torch.cat([x, torch.zeros(500, 1)], 1)
    head = Regressed(Standard(), 2, given=3).regress(x, y)
    assert float(head.loss(features, y)) == pytest.approx(-float(head(features).log_prob(y).mean()), abs=1e-4)
    torch.manual_seed(0)
    matching = Regressed(FlowMatching(2, context=1, hidden=8).eval(), 2, given=3).regress(x, y)
    # Residuals are a standard Gaussian, of whose velocities nothing can be known: their variance is one.
    loss = float(matching.loss(features, y) + matching.linear.log_volume())
    assert loss == pytest.approx(1, abs=0.05)


def test_draws_follow_the_density(head):
    torch.manual_seed(0)
    x = torch.tensor([[1.0, -1.0, 0.5, 0.0]])
    y = head(x).sample((50_000,))[:, 0].double().numpy()
    assert y.mean(0) == pytest.approx(0.7 + np.array([1.0, -1.0, 0.5]) @ SLOPE, abs=0.002)
    assert np.cov(y.T) == pytest.approx(ROOT @ ROOT.T, rel=0.05)


def test_few_rows_do_not_look_better_than_they_are():
    head = Regressed(Standard(), 2, given=20).regress(*pairs(40, columns=20))
    x, y = pairs(2000, seed=2, columns=20)
    z = (y - head(torch.cat([x, torch.zeros(2000, 1)], 1)).centre) @ head.linear.whiten.T
    assert 0.6 < float(z.std()) < 1.5  # those of the fitted rows themselves make it 1.58


def test_without_inputs_it_is_a_mean_and_a_covariance():
    head = Regressed(Standard(), 2, given=0).regress(torch.zeros(500, 1, 8, 8), y := pairs(500)[1])
    z = (y - head(torch.zeros(1, 1)).centre) @ head.linear.whiten.T
    assert np.cov(z.T.numpy()) == pytest.approx(np.eye(2), abs=0.02)


def test_an_odd_input_does_not_run_away():
    part = Linear(2, given=3).fit(*pairs(500))
    far, edge = part.centre(torch.tensor([[1e9, 0.0, 0.0], [FARTHEST, 0.0, 0.0]]))
    assert torch.equal(far, edge)


def test_targets_that_the_inputs_give_exactly_keep_a_width():
    x = pairs(500)[0]
    head = Regressed(Standard(), 2, given=3).regress(x, x[:, :2])
    assert torch.isfinite(head.linear.whiten).all() and float(head.linear.whiten.diagonal().max()) < 1e3


@pytest.mark.parametrize("method", ["npe", "nle"])
def test_a_narrow_linear_posterior_needs_hardly_any_training(method):
    def simulator(theta, seed):
        return theta + 0.02 * np.random.default_rng(seed).normal(size=theta.shape)

    prior = {"a": {"normal": [0, 1]}}
    table = simulate(prior, simulator, 1000, seed=0)
    draws = train(table, prior, method=method, members=1, epochs=3).sample([0.3], 4000)
    assert draws.mean() == pytest.approx(0.3, abs=0.02 / math.sqrt(3))
    assert draws.std() == pytest.approx(0.02, rel=0.35)
