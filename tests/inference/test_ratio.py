"""The ratio's net: exact on linear Gaussian pairs before training; the contrastive loss against its formula."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from deepfield.inference import simulate, train
from deepfield.inference.encoding import Encoding
from deepfield.inference.model import InferenceConfig, build
from deepfield.inference.ratio import contrastive

VECTOR = Encoding.fit(np.random.default_rng(0).normal(size=(50, 4)))
CONFIG = InferenceConfig(method="nre", members=1, width=16, context=4, components=1, rank=4)
NOISE = np.array([0.05, 0.2])


class Known(torch.nn.Module):
    """log r = a x u, in the place of a net."""

    net = property(lambda self: self)

    def features(self, x):
        return x

    def table(self, x, u):
        return 0.3 * x @ u.T


def test_the_contrastive_loss_is_that_of_the_paper():
    x, u = torch.randn(4, 1), torch.randn(4, 1)
    r = (0.3 * x * u.T).exp()  # of row i of x with row j of u
    for k in (1, 2, 3):
        expected = 0.0
        for i in range(4):
            others = [r[i, (i - s) % 4] for s in range(1, k + 1)]
            mixed = [r[i, i], *others[:-1]]
            expected -= 0.5 * math.log(k / (k + sum(others))) + 0.5 * math.log(r[i, i] / (k + sum(mixed)))
        assert float(contrastive(Known(), x, u, contrasts=k)) == pytest.approx(expected / 4, rel=1e-5)


def test_one_contrast_is_the_plain_classifier():
    x, u = torch.randn(6, 1), torch.randn(6, 1)
    own, other = 0.3 * (x * u)[:, 0], 0.3 * (x * u.roll(1, 0))[:, 0]
    plain = torch.nn.functional.binary_cross_entropy_with_logits
    expected = 0.5 * (plain(own, torch.ones(6)) + plain(other, torch.zeros(6)))
    assert float(contrastive(Known(), x, u, contrasts=1)) == pytest.approx(float(expected), rel=1e-5)


@pytest.fixture
def net():
    return build(VECTOR, 3, CONFIG).eval().net


def test_a_pair_a_row_and_a_table_agree(net):
    x, u = torch.randn(5, 4), torch.randn(5, 3)
    features = net.features(x)
    assert torch.allclose(net(torch.cat([x, u], 1))[:, 0], net.ratio(features, u), atol=1e-5)
    table = net.table(features, u[:2])
    assert table.shape == (5, 2)
    for j in (0, 1):
        assert torch.allclose(table[:, j], net.ratio(features, u[j].expand(5, 3)), atol=1e-5)
    over = net.ratio(features, torch.cat([u, u.flip(0)]))
    assert torch.allclose(over, torch.cat([net.ratio(features, u), net.ratio(features, u.flip(0))]), atol=1e-5)


def test_a_linear_gaussian_model_is_exact_without_training():
    rng = np.random.default_rng(1)
    u = rng.normal(size=(20_000, 2))
    x = u + NOISE * rng.normal(size=u.shape)
    encoding = Encoding.fit(x)
    net = build(encoding, 2, CONFIG).eval().net
    net.linear.fit(encoding(x), torch.from_numpy(u).float())
    torch.nn.init.zeros_(net.project.weight)  # what training would add to the linear part
    net.start.zero_()
    x, u = x[:200], u[:200]
    found = net.table(net.features(encoding(x)), torch.from_numpy(u).float()).detach().double().numpy()
    evidence = multivariate_normal(np.zeros(2), np.diag(1 + NOISE**2)).logpdf(x)
    likelihood = multivariate_normal(np.zeros(2), np.diag(NOISE**2)).logpdf(x[:, None] - u)
    exact = likelihood - evidence[:, None]
    near = exact > exact.max(1, keepdims=True) - 10
    assert near.sum() > 1000
    assert np.abs(found - exact)[near].max() < 0.3
    assert np.abs(np.diag(found - exact)).mean() < 0.03


def test_a_narrow_peak_on_a_wide_one_is_found():
    """theta known to 1 or to 0.05 by turns: the posterior is a mixture of both in equal shares."""

    def simulator(theta, seed):
        rng = np.random.default_rng(seed)
        return theta + rng.choice([1.0, 0.05], size=(len(theta), 1)) * rng.normal(size=theta.shape)

    prior = {"a": (-10, 10)}
    table = simulate(prior, simulator, 4000, seed=0)
    draws = train(table, prior, method="nre", members=1, epochs=40).sample([0.3], 4000)[:, 0]
    assert draws.std() == pytest.approx(math.sqrt((1 + 0.05**2) / 2), rel=0.15)
    assert np.mean(abs(draws - 0.3) < 0.1) == pytest.approx(0.5 * 0.954 + 0.5 * 0.0797, abs=0.07)
