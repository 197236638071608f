"""Scalar densities against scipy and numerical quadrature."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from deepfield.core.distributions import (
    Average,
    GaussianMixture,
    Tabulated,
    average,
    invert_cdf,
    normal_pdf,
)

HARD = {
    "one": ([1.0], [0.5], [0.1]),
    "narrow in wide": ([0.1, 0.9], [0.3, 0.3], [1e-5, 2.0]),
    "far apart": ([0.5, 0.5], [0.0, 1e4], [1.0, 1.0]),
    "narrow and far": ([0.3, 0.3, 0.4], [-50.0, 0.0, 120.0], [1e-4, 10.0, 1e-3]),
    "zero weight": ([0.0, 1.0, 0.0], [-1e3, 2.0, 1e3], [1e-3, 0.5, 1e-3]),
    "redshifts": ([0.7, 0.25, 0.05], [0.42, 0.47, 2.9], [0.012, 0.05, 0.6]),
    "many": (np.full(30, 1 / 30), np.linspace(0, 2, 30), np.geomspace(1e-3, 0.5, 30)),
}
LEVELS = np.array([1e-6, 1e-3, 0.05, 0.16, 0.2999, 0.5, 0.7, 0.84, 0.95, 0.999, 1 - 1e-6])


def mixture(name: str, dtype: torch.dtype = torch.float64) -> GaussianMixture:
    w, m, s = (torch.tensor(np.array(a), dtype=dtype)[None] for a in HARD[name])
    return GaussianMixture(w.log(), m, s)


def frozen(name: str):
    w, m, s = (np.asarray(a, dtype=float) for a in HARD[name])

    def pdf(y):
        return (w * stats.norm.pdf(np.asarray(y)[..., None], m, s)).sum(-1)

    def cdf(y):
        return (w * stats.norm.cdf(np.asarray(y)[..., None], m, s)).sum(-1)

    return pdf, cdf, (w, m, s)


def column(values) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values, dtype=float))[:, None]


@pytest.mark.parametrize("name", HARD)
def test_mixture_log_prob_and_cdf_are_scipys(name):
    pdf, cdf, (_, m, s) = frozen(name)
    y = np.sort(np.concatenate([m, m + 0.7 * s, m - 2 * s, m + 6 * s]))
    d = mixture(name)
    np.testing.assert_allclose(d.log_prob(column(y))[:, 0].exp(), pdf(y), rtol=1e-10)
    np.testing.assert_allclose(d.cdf(column(y))[:, 0], cdf(y), rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", HARD)
def test_mixture_integrates_to_one_and_its_moments_are_the_integrals(name):
    pdf, _, (_, m, s) = frozen(name)
    d = mixture(name)
    points = np.unique(np.concatenate([m + k * s for k in range(-10, 11)]))
    pieces = [np.linspace(a, b, 201) for a, b in pairwise(points)]

    def integral(f):
        return sum(integrate.simpson(f(p) * d.log_prob(column(p))[:, 0].exp().numpy(), x=p) for p in pieces)

    assert integral(np.ones_like) == pytest.approx(1, abs=1e-8)
    mean = integral(lambda y: y)
    assert float(d.mean) == pytest.approx(mean, abs=1e-7 * (1 + abs(mean)))
    assert float(d.variance) == pytest.approx(integral(lambda y: (y - mean) ** 2), rel=1e-6)
    norm = sum(integrate.simpson(pdf(p) ** 2, x=p) for p in pieces)
    assert float(d.squared_norm()) == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_mixture_quantiles_invert_the_cdf(name, dtype):
    _, cdf, (w, m, s) = frozen(name)
    levels = torch.tensor(LEVELS, dtype=dtype)
    y = mixture(name, dtype).icdf(levels[:, None])[:, 0].double().numpy()
    assert np.all(np.diff(y) >= 0)
    used = w > 0
    low, high = (m - 12 * s)[used].min(), (m + 12 * s)[used].max()
    exact = np.array(
        [optimize.brentq(lambda v, q=q: cdf(v) - q, low, high, xtol=1e-14) for q in levels.double().numpy()]
    )
    # Either the place or the probability is right to the precision of the numbers (flat and steep parts).
    tolerance = 1e-12 if dtype == torch.float64 else 5e-6
    off_place = np.abs(y - exact) / (1 + np.abs(exact))
    off_level = np.abs(cdf(y) - levels.double().numpy())
    assert np.minimum(off_place, off_level).max() < tolerance


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 8), spread=st.floats(-2, 3), ratio=st.floats(0, 5))
def test_mixture_quantiles_of_any_mixture(seed, k, spread, ratio):
    rng = np.random.default_rng(seed)
    n = 64
    w, m = 3 * rng.normal(size=(n, k)), 10**spread * rng.normal(size=(n, k))
    s = 10 ** (spread - ratio * rng.uniform(size=(n, k)))
    d = GaussianMixture(*(torch.as_tensor(a) for a in (w, m, s)))
    q = torch.as_tensor(rng.uniform(1e-4, 1 - 1e-4, n))
    y = d.icdf(q)
    z = torch.special.ndtri(q)[:, None]
    low, high = (d.means + z * d.stds).amin(1) - 1e-9, (d.means + z * d.stds).amax(1) + 1e-9
    for _ in range(200):
        middle = 0.5 * (low + high)
        below = d.cdf(middle) < q
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    place, level = (y - low).abs() / (1 + low.abs()), (d.cdf(y) - q).abs()
    assert float(torch.minimum(place, level).max()) < 1e-11


def test_quantile_search_survives_mixtures_that_defeat_plain_newton():
    # 30 components over five decades of width: about one in a thousand of these once ended in the wrong place.
    torch.manual_seed(0)
    n, k = 20_000, 30
    logits = 3 * torch.randn(n, k, dtype=torch.float64)
    means = torch.randn(n, k, dtype=torch.float64) * 10 ** (4 * torch.rand(n, 1, dtype=torch.float64) - 2)
    d = GaussianMixture(logits, means, 10 ** (5 * torch.rand(n, k, dtype=torch.float64) - 3.5))
    q = torch.rand(n, dtype=torch.float64)
    assert float((d.cdf(d.icdf(q)) - q).abs().max()) < 1e-9


def test_levels_zero_and_one_lie_at_infinity():
    d = mixture("redshifts")
    assert d.icdf(torch.tensor([[0.0], [1.0]]))[:, 0].tolist() == [-math.inf, math.inf]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nan_rows_stay_nan_and_harm_no_other(dtype):
    means = torch.tensor([[0.0, 1.0], [math.nan, math.nan], [2.0, 3.0]], dtype=dtype)
    d = GaussianMixture(torch.zeros_like(means) + 0 * means, means, torch.ones_like(means) + 0 * means)
    alone = GaussianMixture(torch.zeros(2, 2, dtype=dtype), means[::2], torch.ones(2, 2, dtype=dtype))
    q = torch.tensor([0.0, 0.1, 0.5, 1.0], dtype=dtype)[:, None]
    torch.manual_seed(0)
    answers = {
        "icdf": (d.icdf(q), alone.icdf(q)),
        "mode": (d.mode[None], alone.mode[None]),
        "mean": (d.mean[None], alone.mean[None]),
        "cdf": (d.cdf(q), alone.cdf(q)),
        "log_prob": (d.log_prob(q), alone.log_prob(q)),
        "norm": (d.squared_norm()[None], alone.squared_norm()[None]),
    }
    for got, wanted in answers.values():
        assert bool(torch.isnan(got[:, 1]).all())
        torch.testing.assert_close(got[:, ::2], wanted)
    drawn = d.sample((7,))
    assert bool(torch.isnan(drawn[:, 1]).all()) and bool(torch.isfinite(drawn[:, ::2]).all())


def test_no_objects_are_no_answers():
    d = GaussianMixture(torch.zeros(0, 3), torch.zeros(0, 3), torch.ones(0, 3))
    assert d.icdf(torch.tensor([[0.1], [0.5]])).shape == (2, 0)
    assert d.mode.shape == d.mean.shape == (0,) and d.sample((4,)).shape == (4, 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 6))
def test_mode_is_the_highest_peak(seed, k):
    rng = np.random.default_rng(seed)
    w, m, s = rng.normal(size=(20, k)), rng.normal(size=(20, k)), 10 ** rng.uniform(-2, 0, size=(20, k))
    d = GaussianMixture(*(torch.as_tensor(a) for a in (w, m, s)))
    grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)[:, None]
    peak = d.log_prob(grid).amax(0)
    # Ascent from the best component mean: a peak between components may be missed by a little, never by much.
    assert bool((d.log_prob(d.mode) > peak - 0.15).all())
    step = 1e-6
    slope = (d.log_prob(d.mode + step) - d.log_prob(d.mode - step)) / (2 * step)
    assert float((slope * d.stds.amin(1)).abs().median()) < 1e-3


def test_samples_follow_the_mixture():
    torch.manual_seed(1)
    d = mixture("redshifts")
    draws = d.sample((20_000,))[:, 0].numpy()
    assert stats.kstest(draws, frozen("redshifts")[1]).pvalue > 1e-3
    assert not np.any(np.abs(mixture("zero weight").sample((5000,)).numpy()) > 100)


def test_log_prob_far_in_the_tail_does_not_underflow():
    value = GaussianMixture(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2)).log_prob(torch.tensor([1e4]))
    assert float(value) == pytest.approx(stats.norm.logpdf(1e4), rel=1e-6)


def test_moments_can_be_differentiated():
    w, m, s = (t.clone().requires_grad_() for t in (torch.zeros(3, 2), torch.randn(3, 2), torch.ones(3, 2)))
    d = GaussianMixture(w, m, s)
    (d.mean + d.variance).sum().backward()
    torch.testing.assert_close(s.grad, torch.ones(3, 2))  # 2 w sigma
    assert all(bool(t.grad.isfinite().all()) for t in (w, m))


def test_log_weights_need_no_normalisation():
    a, b = mixture("redshifts"), mixture("redshifts")
    shifted = GaussianMixture(b.log_weights + 7.0, b.means, b.stds)
    torch.testing.assert_close(a.log_prob(torch.tensor([0.4])), shifted.log_prob(torch.tensor([0.4])))


def test_components_are_renormalised():
    part = mixture("redshifts").components(slice(0, 2))
    assert part.weights.sum().item() == pytest.approx(1)
    assert part.means.shape == (1, 2)


def test_invert_cdf_is_scipys_ppf():
    q = torch.tensor([1e-9, 0.3, 0.5, 1 - 1e-9], dtype=torch.float64)
    low, high = torch.full_like(q, -40.0), torch.full_like(q, 40.0)
    y = invert_cdf(torch.special.ndtr, normal_pdf, q, low, high)
    np.testing.assert_allclose(y, stats.norm.ppf(q), atol=1e-8)


# -- averages -----------------------------------------------------------------------------------------------


def test_average_of_mixtures_is_the_mixture_of_all():
    a, b = mixture("one"), mixture("redshifts")
    both, grid = average([a, b]), column(np.linspace(-1, 4, 50))
    assert isinstance(both, GaussianMixture)
    wanted = 0.5 * (a.log_prob(grid).exp() + b.log_prob(grid).exp())
    torch.testing.assert_close(both.log_prob(grid).exp(), wanted)


def test_average_of_any_densities_agrees_with_the_closed_form():
    parts = [mixture("one"), mixture("redshifts")]
    closed, general = average(parts), Average(parts)
    grid = column(np.linspace(-1, 4, 50))
    for ask in (lambda d: d.log_prob(grid), lambda d: d.cdf(grid), lambda d: d.mean, lambda d: d.variance):
        torch.testing.assert_close(ask(general), ask(closed))
    levels = column([0.0, 0.01, 0.3, 0.5, 0.99, 1.0])
    torch.testing.assert_close(general.icdf(levels), closed.icdf(levels), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(general.mode, closed.mode, atol=1e-2, rtol=0)
    torch.manual_seed(0)
    draws = general.sample((20_000,))[:, 0].numpy()
    assert stats.kstest(draws, lambda y: closed.cdf(column(y))[:, 0].numpy()).pvalue > 1e-3


def test_average_of_classes_is_of_probabilities():
    logits = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, -1.0]])
    mean = torch.stack([torch.softmax(v, -1) for v in logits]).mean(0)
    torch.testing.assert_close(average([torch.distributions.Categorical(logits=v) for v in logits]).probs, mean)
    broken = [torch.distributions.Categorical(logits=v * torch.nan, validate_args=False) for v in logits]
    assert bool(average(broken).probs.isnan().all())  # not served, and no reason to refuse the others
    yes = average([torch.distributions.Bernoulli(probs=torch.tensor([p])) for p in (0.2, 0.6)])
    assert float(yes.probs) == pytest.approx(0.4)


# -- tabulated ----------------------------------------------------------------------------------------------

GRID = np.linspace(0, 2, 401)


def tabulated() -> Tabulated:
    pdf = np.stack([stats.beta.pdf(GRID / 2, 2, 5), stats.triang.pdf(GRID, 0.25, 0, 2), np.full(401, 3.0)])
    return Tabulated(torch.as_tensor(GRID), torch.as_tensor(pdf))


def test_tabulated_is_normalised_and_inverts():
    d = tabulated()
    assert d.cdf(torch.full((3,), 2.0)).tolist() == pytest.approx([1, 1, 1])
    levels = column([0.0, 1e-5, 0.1, 0.5, 0.9, 1.0])
    torch.testing.assert_close(d.cdf(d.icdf(levels)), levels.expand(6, 3), atol=1e-12, rtol=1e-9)
    triangle = stats.triang(0.25, 0, 2)
    y = np.linspace(0.01, 1.99, 40)
    np.testing.assert_allclose(d.log_prob(column(y))[:, 1].exp(), triangle.pdf(y), rtol=1e-6)
    np.testing.assert_allclose(d.cdf(column(y))[:, 1], triangle.cdf(y), rtol=1e-6)
    assert float(d.mean[1]) == pytest.approx(triangle.mean(), rel=1e-6)
    assert float(d.variance[1]) == pytest.approx(triangle.var(), rel=1e-5)
    assert float(d.mode[1]) == pytest.approx(0.5)
    assert float(d.squared_norm()[2]) == pytest.approx(0.5)
    assert float(d.mean[0]) == pytest.approx(2 * stats.beta.mean(2, 5), rel=1e-4)


def test_tabulated_variance_of_a_narrow_density_holds_in_float32():
    grid = torch.linspace(0, 2, 4001)
    pdf = torch.exp(-0.5 * ((grid - 1) / 0.003) ** 2)[None]
    assert float(Tabulated(grid, pdf).variance.sqrt()) == pytest.approx(0.003, rel=5e-3)


def test_tabulated_outside_is_impossible_and_nothing_is_nan():
    d = tabulated()
    assert d.log_prob(column([-1.0, 3.0])).isneginf().all()
    assert d.cdf(column([-1.0, 3.0]))[:, 0].tolist() == pytest.approx([0, 1])
    assert d.log_prob(column([math.nan])).isnan().all()
    empty = Tabulated(torch.as_tensor(GRID), torch.zeros(1, 401, dtype=torch.float64))
    for value in (empty.mean, empty.mode, empty.icdf(column([0.5])), empty.log_prob(column([5.0]))):
        assert bool(torch.isnan(value).all())


def test_tabulated_samples_follow_it():
    torch.manual_seed(2)
    draws = tabulated().sample((20_000,))[:, 1].numpy()
    assert stats.kstest(draws, stats.triang(0.25, 0, 2).cdf).pvalue > 1e-3
