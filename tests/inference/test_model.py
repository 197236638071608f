"""The three estimators: shapes, the contrastive loss against its formula, configurations."""

import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.inference.encoding import Encoding
from deepfield.inference.model import InferenceConfig, RatioNet, build, contrastive

VECTOR = Encoding.fit(np.random.default_rng(0).normal(size=(50, 4)))
MAPS = Encoding.fit(np.random.default_rng(0).normal(size=(10, 2, 32, 32)))
TINY = {"width": 16, "context": 4, "hidden": 8, "components": 2}


@pytest.mark.parametrize("encoding", [VECTOR, MAPS], ids=["vector", "map"])
@pytest.mark.parametrize("method", ["npe", "nre"])
def test_data_of_both_shapes(method, encoding):
    model = build(encoding, 3, InferenceConfig(method=method, **TINY)).eval()
    x = encoding(np.random.default_rng(1).normal(size=(5, *encoding.shape)))
    if method == "npe":
        assert model(x).log_prob(torch.zeros(5, 3)).shape == (5,)
        return
    pair = torch.cat([x.flatten(1), torch.zeros(5, 3)], 1)
    assert model(pair).logits.shape == (5,)


@pytest.mark.parametrize("density", ["mixture", "flow"])
def test_the_likelihood_is_a_density_of_the_data(density):
    model = build(VECTOR, 3, InferenceConfig(method="nle", density=density, **TINY)).eval()
    assert model(torch.zeros(5, 3)).log_prob(torch.zeros(5, 4)).shape == (5,)
    with pytest.raises(DeepfieldError, match="whole maps is out of reach"):
        build(MAPS, 3, InferenceConfig(method="nle", **TINY))


def test_members_differ_and_seeds_repeat():
    one, two = (build(VECTOR, 2, InferenceConfig(members=2, **TINY)) for _ in range(2))
    weights = [p for p in one.parameters() if p.dim() > 1]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert not torch.equal(one.net.nets[0].net.embed.weight, one.net.nets[1].net.embed.weight) and weights


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


def test_the_ratio_net_reads_one_row():
    net = RatioNet(VECTOR, 2, InferenceConfig(method="nre", **TINY)).eval()
    x, u = torch.randn(3, 4), torch.randn(3, 2)
    assert torch.allclose(net(torch.cat([x, u], 1))[:, 0], net.ratio(net.features(x), u))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "abc"}, "one of npe, nle, nre, not 'abc'"),
        ({"density": "kde"}, "'mixture' or 'flow'"),
        ({"members": 0}, "members lies between 1 and 4096, got 0"),
        ({"validation": 1.5}, "validation lies between"),
    ],
)
def test_bad_configurations(change, message):
    with pytest.raises(DeepfieldError, match=message):
        InferenceConfig(**change)
