"""Flow matching: a Gaussian at its start, normalised, drawn as it is evaluated, and found on known densities."""

import math

import pytest
import torch
from torch.distributions import Independent, Normal

from deepfield.core.batches import Batches
from deepfield.core.errors import ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.heads import build_head
from deepfield.core.matching import FlowMatching
from deepfield.core.model import Model
from deepfield.core.nets import ResidualMLP


def ring(n, seed=0):
    """A point near a circle of radius 2 whose angle is the input's, or the opposite one; their entropy."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * math.pi * torch.rand(n, 1, generator=generator)
    sign = torch.where(torch.rand(n, 1, generator=generator) < 0.3, -1.0, 1.0)
    y = 2 * sign * torch.cat([x.cos(), x.sin()], 1) + 0.3 * torch.randn(n, 2, generator=generator)
    entropy = math.log(2 * math.pi * math.e) + 2 * math.log(0.3) - 0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    return x, y + torch.tensor([100.0, 0.0]), entropy


@pytest.fixture(scope="module")
def model():
    x, y, _ = ring(2500)
    torch.manual_seed(0)
    head = FlowMatching(2, context=8, hidden=32)
    head.fit_target(y)
    model = Model(ResidualMLP(1, 8, width=32, blocks=1, masked=0), head)
    model.net.standardise.fit(x)
    train, held = Batches(x[:2000], y[:2000], size=100, seed=0), Batches(x[2000:], y[2000:], size=500, seed=None)
    fit(model, train, held, FitConfig(epochs=30, learning_rate=1e-2), progress=False)
    return model


@pytest.mark.parametrize("dim", [1, 3])
def test_it_starts_as_a_gaussian_exactly(dim):
    head = FlowMatching(dim, context=2, hidden=8).fit_target(3 * torch.randn(100, dim) + 7)
    y = 7 + 3 * torch.randn(50, dim)
    wanted = Independent(Normal(head.shift, head.scale), 1).log_prob(y)
    assert torch.allclose(head(torch.randn(50, 2)).log_prob(y), wanted, atol=1e-5)


def test_a_known_density_is_found(model):
    x, y, entropy = ring(2000, seed=1)
    with torch.no_grad():
        assert -model(x).log_prob(y).mean() < entropy + 0.3  # a Gaussian: 2.5 more than the entropy


def test_the_density_integrates_to_one_and_draws_follow_it(model):
    axis = torch.linspace(-4, 4, 101)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = model(torch.tensor([[0.5]]))
    with torch.no_grad():
        mass = density.log_prob(grid[:, None] + model.head.shift).exp() * 0.08**2
    assert float(mass.sum()) == pytest.approx(1, abs=0.01)
    torch.manual_seed(1)
    y = density.sample((20_000,))[:, 0] - model.head.shift
    direction = torch.tensor([math.cos(0.5), math.sin(0.5)])
    for low, high in ((-math.inf, 0.0), (1.5, 2.0), (2.0, math.inf)):
        share, wanted = (((v @ direction).clamp(-9, 9) > low) & ((v @ direction) <= high) for v in (y, grid))
        assert float(share.float().mean()) == pytest.approx(float(mass[wanted].sum()), abs=0.015)


def test_the_divergence_is_that_of_the_whole_jacobian(model):
    u, angle = torch.randn(3, 2), torch.tensor([1.0])
    given = model.head.given(torch.randn(3, 8)).detach()
    value, divergence = model.head._with_divergence(u, angle, given)
    for row, context, one in zip(u, given, divergence.tolist()):
        jacobian = torch.autograd.functional.jacobian(lambda v, c=context: model.head.velocity(v, angle, c), row)
        assert one == pytest.approx(float(jacobian.trace()), abs=1e-4)
    assert torch.allclose(value, model.head.velocity(u, angle, given))


def test_the_loss_is_the_same_for_the_same_seed_and_falls_to_the_part_that_cannot_be_known():
    torch.manual_seed(0)
    head = FlowMatching(2, context=1, hidden=8).eval()
    y, features, found = torch.randn(5000, 2), torch.zeros(5000, 1), []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(float(head.loss(features, y)))
    # A Gaussian target: u and du/da are independent, and nothing is better than zero.
    assert found[0] == found[1] == pytest.approx(1, abs=0.02)


def test_it_is_rebuilt_from_its_config_and_absurd_sizes_are_refused(model):
    head = model.head
    again = build_head(head.config)
    again.load_state_dict(head.state_dict())
    y, features = torch.randn(4, 2) + head.shift, torch.randn(4, 8)
    assert torch.equal(again.eval()(features).log_prob(y), head(features).log_prob(y))
    assert head(torch.zeros(0, 8)).log_prob(torch.zeros(0, 2)).shape == (0,)
    assert head(torch.zeros(0, 8)).sample((3,)).shape == (3, 0, 2)
    with pytest.raises(ModelError, match="absurd size"):
        build_head({**head.config, "hidden": 4096, "blocks": 64})
