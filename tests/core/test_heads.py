"""Every head: a density, in physical units, that a fit recovers and a config rebuilds."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from deepfield.core.batches import Batches
from deepfield.core.errors import ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.flow import Flow
from deepfield.core.heads import (
    Bernoulli,
    Categorical,
    ClassMixture,
    Ensemble,
    GaussianMixture,
    GaussianVector,
    GivenMixture,
    GivenTable,
    Head,
    build_head,
)
from deepfield.core.model import Model

QUICK = FitConfig(epochs=15, learning_rate=2e-2, weight_decay=0.0, patience=15)


def scalar_heads() -> dict[str, Head]:
    torch.manual_seed(0)
    table = GivenTable(np.linspace(0, 3, 61).tolist())
    return {
        "mixture": GaussianMixture(4),
        "shared width": GaussianMixture(2, shared_width=True),
        "regression": GaussianMixture(1, shared_width=True),
        "classes": ClassMixture(2, 3),
        "flow": Flow(1, context=6, transforms=2, hidden=16),
        "ensemble": Ensemble([GaussianMixture(2), GaussianMixture(3)]),
        "flows": Ensemble(
            [Flow(1, context=4, transforms=1, hidden=8), Flow(1, context=4, transforms=1, hidden=8)]
        ),
        "given": GivenMixture(3),
        "table": table,
    }


def vector_heads() -> dict[str, Head]:
    torch.manual_seed(0)
    return {
        "diagonal": GaussianVector(2),
        "low rank": GaussianVector(2, rank=1),
        "flow": Flow(2, context=6, transforms=2, hidden=16),
        "flows": Ensemble(
            [Flow(2, context=3, transforms=1, hidden=8), Flow(2, context=3, transforms=1, hidden=8)]
        ),
    }


SCALAR, VECTOR = list(scalar_heads()), list(vector_heads())
SHIFT, SCALE = 1.3, 0.21


def fitted(head: Head, rows: torch.Tensor) -> Head:
    """The head in float64, told of targets around 1.3 +- 0.21."""
    if isinstance(head, ClassMixture):
        rows = torch.stack([rows, torch.arange(len(rows)) % 2], 1)
    return head.fit_target(rows).double()


def features(head: Head, n: int) -> torch.Tensor:
    torch.manual_seed(3)
    values = torch.randn(n, head.n_features, dtype=torch.float64)
    return values.abs() + 0.05 if isinstance(head, GivenMixture | GivenTable) else values


@pytest.mark.parametrize("name", SCALAR)
def test_scalar_head_integrates_to_one_and_its_quantiles_invert_its_cdf(name):
    head = fitted(scalar_heads()[name], SHIFT + SCALE * torch.randn(500))
    with torch.no_grad():
        d = head(features(head, 5))
        ends = d.icdf(torch.tensor([[1e-7], [1 - 1e-7]], dtype=torch.float64))
        low, high = ends[0].min() - 0.1, ends[1].max() + 0.1
        grid = torch.linspace(float(low), float(high), 100_001, dtype=torch.float64)[:, None]
        density = d.log_prob(grid).exp()
        np.testing.assert_allclose(torch.trapezoid(density, grid, dim=0), 1, atol=2e-5)
        # The cdf is the integral of the density, ...
        area = torch.cumulative_trapezoid(density, grid, dim=0)[49_999]
        np.testing.assert_allclose(area, d.cdf(grid[50_000]) - d.cdf(grid[0]), atol=2e-5)
        # ... and the quantiles are its inverse.
        levels = torch.tensor([0.001, 0.16, 0.5, 0.84, 0.999], dtype=torch.float64)[:, None]
        np.testing.assert_allclose(d.cdf(d.icdf(levels)), levels.expand(5, 5), atol=1e-6)
        mean = torch.trapezoid(density * grid, grid, dim=0)
        spread = torch.trapezoid(density * (grid - mean) ** 2, grid, dim=0).sqrt()
        np.testing.assert_allclose(d.mean, mean, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(d.variance.sqrt(), spread, rtol=2e-2)


@pytest.mark.parametrize("name", VECTOR)
def test_vector_head_integrates_to_one(name):
    head = vector_heads()[name].fit_target(torch.randn(500, 2) * torch.tensor([0.2, 30.0]) + 5).double()
    with torch.no_grad():
        d = head(features(head, 1))
        draws = d.sample((4000,))[:, 0]
        middle, width = draws.mean(0), 9 * draws.std(0)
        u = torch.linspace(-1, 1, 301, dtype=torch.float64)
        y = torch.stack(torch.meshgrid(middle[0] + width[0] * u, middle[1] + width[1] * u, indexing="ij"), -1)
        total = d.log_prob(y.reshape(-1, 1, 2)).exp().sum() * (width / 150).prod()
    assert float(total) == pytest.approx(1, abs=3e-3)


def test_probabilities_of_classes_sum_to_one():
    d = Categorical(4)(torch.randn(3, 4))
    assert d.log_prob(torch.arange(4)[:, None]).exp().sum(0).tolist() == pytest.approx([1, 1, 1])
    b = Bernoulli()(torch.randn(3, 1))
    assert (b.log_prob(torch.tensor(0.0)).exp() + b.log_prob(torch.tensor(1.0)).exp()).tolist() == pytest.approx(
        [1, 1, 1]
    )


# -- the scaling of the target ------------------------------------------------------------------------------


def test_mixture_log_prob_is_in_physical_units():
    rows = torch.randn(4000, dtype=torch.float64) * 250 + 9000
    head = GaussianMixture(1, floor=0.0).fit_target(rows)
    # Zero features and an inverse softplus of one: the standard normal of the scaled target.
    raw = torch.tensor([[0.0, 0.0, math.log(math.e - 1)]], dtype=torch.float64)
    y = np.array([8300.0, 9000.0, 9555.0])
    got = head.double()(raw).log_prob(torch.as_tensor(y)[:, None])[:, 0]
    np.testing.assert_allclose(got, stats.norm.logpdf(y, rows.mean(), rows.std()), rtol=1e-5)


@pytest.mark.parametrize("rank", [0, 2])
def test_vector_log_prob_is_in_physical_units(rank):
    rows = torch.randn(2000, 3, dtype=torch.float64) * torch.tensor([0.1, 1.0, 90.0]) + torch.tensor(
        [0.0, 5.0, 1e3]
    )
    head = GaussianVector(3, rank=rank, floor=0.0).fit_target(rows).double()
    mean, raw, factor = torch.randn(3), torch.randn(3), torch.randn(3, rank)
    inputs = torch.cat([mean, raw, factor.reshape(-1)]).double()[None]
    scale, shift = head.scale.numpy(), head.shift.numpy()
    sigma = np.log1p(np.exp(raw.double().numpy()))
    covariance = np.diag(sigma**2) + factor.double().numpy() @ factor.double().numpy().T
    truth = stats.multivariate_normal(shift + scale * mean.double().numpy(), covariance * np.outer(scale, scale))
    y = rows[:5].numpy()
    np.testing.assert_allclose(head(inputs).log_prob(torch.as_tensor(y)), truth.logpdf(y), rtol=1e-8)


@pytest.mark.parametrize("dim", [1, 2])
def test_scaling_of_a_flow_shifts_log_prob_by_the_log_determinant(dim):
    torch.manual_seed(0)
    head = Flow(dim, context=3, transforms=1, hidden=8).double()
    x, u = torch.randn(4, 3).double(), torch.randn(4, dim).double()
    before = head(x).log_prob(u[:, 0] if dim == 1 else u)
    scale = torch.tensor([250.0, 1e-3]).double()[:dim]
    head.scale.copy_(scale)
    head.shift.fill_(7.0)
    y = 7.0 + scale * u
    after = head(x).log_prob(y[:, 0] if dim == 1 else y)
    torch.testing.assert_close(after, before - scale.log().sum())


def test_class_mixture_scales_each_class_by_itself():
    y = torch.cat([torch.randn(3000) * 0.1 + 0.5, torch.randn(1000) * 0.8 + 2.5])
    target = torch.stack([y, torch.cat([torch.zeros(3000), torch.ones(1000)])], 1)
    head = ClassMixture(2, 1, floor=0.0).fit_target(target)
    raw = math.log(math.e - 1)
    x = torch.tensor([[math.log(0.3), math.log(0.7), 0.0, 0.0, raw, 0.0, 0.0, raw]])
    d = head(x)
    galaxies, quasars = (stats.norm(float(v.mean()), float(v.std())) for v in (y[:3000], y[3000:]))
    for z in (0.4, 1.0, 2.5):
        both = 0.3 * galaxies.pdf(z) + 0.7 * quasars.pdf(z)
        assert float(d.log_prob(torch.tensor([z]))) == pytest.approx(math.log(both), rel=1e-4)
        joint = head.loss(x, torch.tensor([[z, 1.0]]))
        assert float(joint) == pytest.approx(-math.log(0.7 * quasars.pdf(z)), rel=1e-4)
        unknown = head.loss(x, torch.tensor([[z, -1.0]]))
        assert float(unknown) == pytest.approx(-math.log(both), rel=1e-4)


def test_class_mixture_needs_rows_of_every_class():
    with pytest.raises(ModelError, match="class number 1 has 0 training rows; at least 2 are needed"):
        ClassMixture(2, 1).fit_target(torch.tensor([[0.1, 0.0], [0.2, 0.0]]))


# -- a well-specified toy is recovered ----------------------------------------------------------------------


def learn(head: Head, x: torch.Tensor, y: torch.Tensor, config: FitConfig = QUICK) -> Model:
    torch.manual_seed(0)
    model = Model(nn.Linear(x.shape[1], head.n_features), head.fit_target(y))
    n = len(x) // 5
    train = Batches(x[n:], y[n:], size=256, seed=0)
    fit(model, train, Batches(x[:n], y[:n], size=4096, seed=None), config, progress=False)
    return model


def test_regression_recovers_line_and_width():
    rng = torch.Generator().manual_seed(1)
    x = torch.rand(8000, 1, generator=rng)
    y = 3 * x[:, 0] - 1 + 0.2 * torch.randn(8000, generator=rng)
    d = learn(GaussianMixture(1, shared_width=True), x, y)(torch.tensor([[0.0], [1.0]]))
    assert d.mean.tolist() == pytest.approx([-1, 2], abs=0.03)
    assert d.variance.sqrt().tolist() == pytest.approx([0.2, 0.2], abs=0.01)


def test_mixture_reaches_the_entropy_of_a_bimodal_truth():
    rng = torch.Generator().manual_seed(2)
    x = torch.rand(12_000, 1, generator=rng)
    side = (torch.rand(12_000, generator=rng) < 0.3).float()
    y = 1 + x[:, 0] + 4 * side + 0.3 * torch.randn(12_000, generator=rng)
    model = learn(GaussianMixture(2), x, y)
    d = model(torch.tensor([[0.5]]))
    order = d.means[0].argsort()
    assert d.means[0][order].tolist() == pytest.approx([1.5, 5.5], abs=0.06)
    assert d.weights[0][order].tolist() == pytest.approx([0.7, 0.3], abs=0.03)
    assert d.stds[0][order].tolist() == pytest.approx([0.3, 0.3], abs=0.03)
    truth = 0.7 * stats.norm.pdf(y - x[:, 0], 1, 0.3) + 0.3 * stats.norm.pdf(y - x[:, 0], 5, 0.3)
    assert model.loss(x, y).item() == pytest.approx(-np.log(truth).mean(), abs=0.01)


def test_vector_recovers_a_correlated_gaussian():
    rng = torch.Generator().manual_seed(3)
    x = torch.randn(8000, 1, generator=rng)
    mix = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    y = torch.cat([x, -2 * x], 1) + torch.randn(8000, 2, generator=rng) @ mix.T * torch.tensor([1.0, 10.0])
    config = FitConfig(epochs=40, learning_rate=2e-2, weight_decay=0.0)
    d = learn(GaussianVector(2, rank=1), x, y, config)(torch.tensor([[1.0]]))
    assert d.mean[0].tolist() == pytest.approx([1, -2], abs=0.6)
    covariance = d.covariance_matrix[0]
    assert covariance[0, 0].item() == pytest.approx(1, abs=0.1)
    assert covariance[0, 1].item() == pytest.approx(8, abs=0.8)
    assert covariance[1, 1].item() == pytest.approx(100, rel=0.1)


def test_flow_reaches_the_entropy_of_a_skewed_truth():
    rng = np.random.default_rng(4)
    x = rng.uniform(0.5, 1.5, 6000)
    y = rng.gamma(3, x)
    columns = torch.as_tensor(x[:, None], dtype=torch.float32), torch.as_tensor(y, dtype=torch.float32)
    config = FitConfig(epochs=12, learning_rate=1e-2, weight_decay=0.0, patience=12)
    model = learn(Flow(1, context=8, transforms=1, hidden=32), *columns, config)
    with torch.no_grad():
        assert float(model.loss(*columns)) == pytest.approx(-stats.gamma.logpdf(y, 3, scale=x).mean(), abs=0.03)


def test_classes_recover_their_logits():
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(8000, 2, generator=rng)
    logits = x @ torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]])
    y = torch.distributions.Categorical(logits=logits).sample()
    model = learn(Categorical(3), x, y)
    points = torch.tensor([[0.0, 0.0], [1.0, 0.5]])
    wanted = torch.softmax(points @ torch.tensor([[1.0, 0.0, -1.0], [0.0, 2.0, 0.0]]), -1)
    torch.testing.assert_close(model(points).probs, wanted, atol=0.04, rtol=0)


def test_yes_and_no_recovers_its_probability():
    rng = torch.Generator().manual_seed(6)
    x = torch.randn(8000, 1, generator=rng)
    y = (torch.rand(8000, generator=rng) < torch.sigmoid(2 * x[:, 0] - 1)).float()
    d = learn(Bernoulli(), x, y)(torch.tensor([[0.0], [1.0]]))
    assert d.probs.tolist() == pytest.approx(torch.sigmoid(torch.tensor([-1.0, 1.0])).tolist(), abs=0.04)


def test_class_mixture_tells_the_classes_apart():
    rng = torch.Generator().manual_seed(7)
    x = torch.rand(8000, 1, generator=rng)
    quasar = (torch.rand(8000, generator=rng) < x[:, 0]).float()
    y = torch.where(
        quasar > 0, 2.5 + 0.5 * torch.randn(8000, generator=rng), 0.5 + 0.1 * torch.randn(8000, generator=rng)
    )
    model = learn(ClassMixture(2, 1), x, torch.stack([y, quasar], 1))
    d = model(torch.tensor([[0.3], [0.8]]))
    assert d.weights[:, 1].tolist() == pytest.approx([0.3, 0.8], abs=0.05)
    assert d.means[0].tolist() == pytest.approx([0.5, 2.5], abs=0.04)


# -- draws for distillation ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCALAR)
def test_draws_have_the_moments_of_the_density_and_the_form_that_loss_takes(name):
    head = fitted(scalar_heads()[name], SHIFT + SCALE * torch.randn(500))
    x = features(head, 3)
    with torch.no_grad():
        d = head(x)
        draws = head.draw(x, 8000)
        assert math.isfinite(head.loss(x, draws[:50]))
    y = draws[..., 0] if isinstance(head, ClassMixture) else draws
    error = d.variance.sqrt() / 8000**0.5
    assert bool(((y.mean(0) - d.mean).abs() < 6 * error + 2e-3).all())
    np.testing.assert_allclose(y.std(0), d.variance.sqrt(), rtol=0.1)
    if isinstance(head, ClassMixture):
        share = d.weights.reshape(3, 2, 3).sum(-1)[:, 1]
        np.testing.assert_allclose(draws[..., 1].mean(0), share, atol=0.03)


def test_draws_of_vectors_and_classes():
    head = GaussianVector(2, rank=1)
    x = torch.randn(3, head.n_features)
    draws = head.draw(x, 6000)
    assert draws.shape == (6000, 3, 2)
    torch.testing.assert_close(torch.cov(draws[:, 1].T), head(x).covariance_matrix[1], rtol=0.15, atol=0.1)
    soft = Categorical(3).draw(torch.zeros(2, 3), 100)
    torch.testing.assert_close(soft, torch.full((2, 3), 1 / 3))
    both = Ensemble([Categorical(3), Categorical(3)]).draw(torch.randn(2, 6), 10)
    assert both.shape == (2, 3) and both.sum(-1).tolist() == pytest.approx([1, 1])
    yes = Bernoulli().draw(torch.full((1, 1), 2.0), 8000)
    assert float(yes.mean()) == pytest.approx(float(torch.sigmoid(torch.tensor(2.0))), abs=0.02)


# -- configs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["scalar", "vector", "classes"])
def test_config_rebuilds_the_head(kind):
    heads = {"scalar": scalar_heads, "vector": vector_heads}.get(
        kind, lambda: {"c": Categorical(3), "b": Bernoulli()}
    )
    for head in heads().values():
        again = build_head(head.config)
        assert type(again) is type(head) and again.config == head.config
        assert again.n_features == head.n_features
        again.load_state_dict(head.state_dict())
        x = features(head, 2).float()
        with torch.no_grad():
            torch.manual_seed(0)
            first = head(x).sample((3,))
            torch.manual_seed(0)
            torch.testing.assert_close(again(x).sample((3,)), first)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "unknown head None"),
        ({"head": "os.system"}, "unknown head 'os.system'; this version knows GaussianMixture"),
        ({"head": ["GaussianMixture"]}, r"unknown head \['GaussianMixture'\]"),
        ({"head": "GaussianMixture", "colour": 3}, "cannot be built from"),
        ({"head": "GaussianMixture", "components": "many"}, "cannot be built from"),
        ({"head": "GaussianMixture", "components": -1}, "components=-1 is absurd"),
        ({"head": "GaussianMixture", "components": 10**12}, "is absurd; the most is 4096"),
        ({"head": "GaussianMixture", "floor": math.nan}, "floor=nan is absurd"),
        ({"head": "Flow", "hidden": 4096, "transforms": 4096}, "absurd size"),
        ({"head": "Ensemble"}, "described by the list of its members' heads"),
        ({"head": "Ensemble", "members": []}, "described by the list of its members' heads"),
        ({"head": "Ensemble", "members": [{"head": "Ensemble", "members": []}]}, "list of its members' heads"),
        ({"head": "GivenTable", "grid": [0.0]}, "must increase and have two points or more; it has 1"),
        ({"head": "GivenTable", "grid": [0.0, 0.0]}, "must increase"),
        ({"head": "GivenTable", "grid": [0.0, math.nan, 1.0]}, "must increase"),
        ([1, 2], "described by an object"),
    ],
)
def test_a_config_that_makes_no_head(config, message):
    with pytest.raises(ModelError, match=message):
        build_head(config)


def test_a_zero_weight_is_silent_and_no_weight_at_all_is_nan():
    head = GivenMixture(2)
    d = head(torch.tensor([[0.0, 1.0, 5.0, 1.0, 0.1, 0.1], [0.0, 0.0, 5.0, 1.0, 0.1, 0.1]]))
    assert float(d.mean[0]) == pytest.approx(1) and math.isnan(d.mean[1])


def test_a_base_head_asks_for_its_density():
    with pytest.raises(NotImplementedError):
        Head()(torch.zeros(1))
