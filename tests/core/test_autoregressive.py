"""The autoregressive mixture: normalised, drawn as it is evaluated, scaled, and found again on known densities."""

import math

import pytest
import torch

from deepfield.core.autoregressive import AutoregressiveMixture
from deepfield.core.batches import Batches
from deepfield.core.errors import ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.heads import build_head
from deepfield.core.model import Model
from deepfield.core.nets import ResidualMLP


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = AutoregressiveMixture(2, context=3, hidden=16, components=3)
    for parameter in head.parameters():  # far from its start
        parameter.data += 0.1 * torch.randn_like(parameter)
    head.fit_target(torch.randn(100, 2) * torch.tensor([0.1, 30.0]) + torch.tensor([5.0, -40.0]))
    return head.eval()


def test_the_density_integrates_to_one(head):
    axes = [head.shift[i] + head.scale[i] * torch.linspace(-9, 9, 701) for i in range(2)]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    density = head(torch.randn(1, 3)).log_prob(grid[:, None]).exp().detach()
    cell = float((axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0]))
    assert abs(float(density.sum()) * cell - 1) < 5e-3


def test_draws_follow_the_density(head):
    torch.manual_seed(1)
    density = head(torch.randn(1, 3))
    y = density.sample((40_000,))[:, 0]
    # E[1/q] over a box is its area, E[1] of the share inside: two sides of the same density.
    low, high = torch.quantile(y, 0.25, 0), torch.quantile(y, 0.75, 0)
    inside = ((y > low) & (y < high)).all(1)
    inverse = (-density.log_prob(y[inside][:, None]).double()).exp().detach()
    assert float(inverse.sum() / len(y)) == pytest.approx(float((high - low).prod()), rel=0.05)
    assert density.mean.shape == density.variance.shape == (1, 2)


def test_no_dimension_sees_a_later_one(head):
    y = torch.randn(1, 2, requires_grad=True)
    weights, means, stds = head._mixtures(torch.zeros(1, 3), y)
    (gradient,) = torch.autograd.grad(means[0].sum() + stds[0].sum() + weights[0].sum(), y, allow_unused=True)
    assert torch.equal(gradient, torch.zeros(1, 2))
    one = [part[0] for part in head._mixtures(torch.zeros(1, 3), y, only=1)]
    assert all(torch.allclose(a, b[1]) for a, b in zip(one, (weights, means, stds)))


def test_a_known_curved_density_is_found():
    torch.manual_seed(0)
    x = torch.randn(2000, 1)
    first = x[:, 0] + 0.5 * torch.randn(2000)
    sign = torch.where(torch.rand(2000) < 0.3, -1.0, 1.0)
    second = 2 * sign + first**2 + 0.2 * torch.randn(2000)
    y = torch.stack([first, second], 1)
    entropy = math.log(2 * math.pi * math.e) + math.log(0.5 * 0.2)
    entropy += -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    head = AutoregressiveMixture(2, context=8, hidden=32)
    model = Model(ResidualMLP(1, 8, width=16, blocks=1, masked=0), head)
    head.fit_target(y[:1600])
    train = Batches(x[:1600], y[:1600], size=100, seed=0)
    history = fit(
        model,
        train,
        Batches(x[1600:], y[1600:], size=500, seed=None),
        FitConfig(epochs=20, learning_rate=5e-3),
        progress=False,
    )
    assert min(history.validation) < entropy + 0.15


def test_it_is_rebuilt_from_its_config_and_absurd_sizes_are_refused(head):
    again = build_head(head.config)
    again.load_state_dict(head.state_dict())
    y, features = torch.randn(4, 2), torch.randn(4, 3)
    assert torch.equal(again.eval()(features).log_prob(y), head(features).log_prob(y))
    assert head(torch.zeros(0, 3)).log_prob(torch.zeros(0, 2)).shape == (0,)
    with pytest.raises(ModelError, match="absurd size"):
        build_head({**head.config, "hidden": 4096, "dim": 64})
