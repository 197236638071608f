"""Every answer of a prediction, against scipy."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from deepfield.core.calibrators import CalibrationError, Conformal, PITMap
from deepfield.core.errors import DeepfieldError
from deepfield.core.flow import Flow
from deepfield.core.heads import Bernoulli, Categorical, Ensemble, GaussianMixture, GaussianVector
from deepfield.core.prediction import Prediction

RNG = np.random.default_rng(0)
N = 12
WEIGHTS = RNG.dirichlet([1, 1, 1], N)
MEANS, STDS = RNG.normal(1, 0.5, (N, 3)), RNG.uniform(0.01, 0.3, (N, 3))
GRID = np.linspace(-4, 6, 20_001)
PIT = PITMap([0.0, 0.2, 0.5, 0.9, 1.0], [0.4, 1.0, 1.6, 0.8, 2.0])


def mixture(**options) -> Prediction:
    return Prediction.mixture(WEIGHTS, MEANS, STDS, **options)


def pdf(y):
    return (WEIGHTS * stats.norm.pdf(np.asarray(y)[..., None], MEANS, STDS)).sum(-1)


def cdf(y):
    return (WEIGHTS * stats.norm.cdf(np.asarray(y)[..., None], MEANS, STDS)).sum(-1)


def heads() -> dict[str, Prediction]:
    torch.manual_seed(0)
    flow = Flow(1, context=4, transforms=1, hidden=8)
    flows = Ensemble([Flow(1, context=3, transforms=1, hidden=8) for _ in range(2)])
    return {
        "mixture": mixture(),
        "float32": mixture(dtype=torch.float32),
        "recalibrated": mixture(pit_map=PIT),
        "table": Prediction.tabulated(np.linspace(0, 2, 41), RNG.uniform(0.1, 1, (N, 41))),
        "flow": Prediction(flow, torch.randn(N, 4)),
        "flows": Prediction(flows, torch.randn(N, 6)),
        "net's mixture": Prediction(GaussianMixture(2), torch.randn(N, 6)),
    }


HEADS = list(heads())


# -- against scipy ------------------------------------------------------------------------------------------


def test_density_and_probability_are_scipys():
    p, y = mixture(), RNG.normal(1, 0.5, N)
    np.testing.assert_allclose(p.log_prob(y), np.log(pdf(y)), rtol=1e-5)
    np.testing.assert_allclose(p.cdf(y), cdf(y), rtol=1e-5, atol=1e-7)
    few = np.linspace(0, 2, 7)
    np.testing.assert_allclose(p.pdf(few), np.stack([pdf(np.full(N, v)) for v in few], 1), rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(p.cdf(few[None]), np.stack([cdf(np.full(N, v)) for v in few], 1), atol=1e-6)
    np.testing.assert_allclose(p.cdf(1.0), cdf(np.ones(N)), atol=1e-6)
    many = RNG.normal(1, 0.5, (N, 5))
    np.testing.assert_allclose(p.cdf(many), np.stack([cdf(column) for column in many.T], 1), atol=1e-6)


def test_moments_are_scipys():
    p = mixture()
    mean = (WEIGHTS * MEANS).sum(1)
    np.testing.assert_allclose(p.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(
        p.std, np.sqrt((WEIGHTS * (STDS**2 + (MEANS - mean[:, None]) ** 2)).sum(1)), rtol=1e-5
    )
    densities = p.pdf(GRID)
    np.testing.assert_allclose(p.squared_norm(), np.trapezoid(densities**2, GRID, axis=1), rtol=1e-4)
    highest = p.log_prob(p.mode)
    assert np.all(highest >= np.log(densities.max(1)) - 1e-2)


def test_quantiles_and_intervals_are_scipys():
    p = mixture()
    levels = [0.05, 0.5, 0.8]
    q = p.quantile(levels)
    assert q.shape == (N, 3) and p.quantile(0.8).shape == (N,)
    for k, level in enumerate(levels):
        np.testing.assert_allclose(cdf(q[:, k]), level, atol=1e-5)
    np.testing.assert_allclose(p.median, q[:, 1])
    low, high = p.interval(0.9)
    np.testing.assert_allclose(cdf(high) - cdf(low), 0.9, atol=1e-5)
    np.testing.assert_allclose(cdf(low), 0.05, atol=1e-5)
    own = RNG.uniform(0.1, 0.9, (N, 1))
    np.testing.assert_allclose(cdf(p.quantile(own)), own[:, 0], atol=1e-5)
    weights, means, stds = p.parameters()
    np.testing.assert_allclose(weights, WEIGHTS, rtol=1e-5)
    np.testing.assert_allclose((means, stds), (MEANS, STDS), rtol=1e-5)


def test_samples_follow_the_density_and_the_seed():
    p = mixture()
    draws = p.sample(4000, seed=1)
    assert draws.shape == (N, 4000)
    u = np.stack([cdf(column) for column in draws.T], 1)
    assert min(stats.kstest(row, "uniform").pvalue for row in u) > 1e-4
    np.testing.assert_array_equal(draws, p.sample(4000, seed=1))
    assert not np.array_equal(draws, p.sample(4000, seed=2))


# -- every kind of density ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HEADS)
def test_answers_agree_with_each_other(name):
    p = heads()[name]
    low, high = p.quantile(1e-6).min() - 0.05, p.quantile(1 - 1e-6).max() + 0.05
    grid = np.linspace(low, high, 4_001)
    density = p.pdf(grid)
    assert density.shape == (N, 4_001)
    np.testing.assert_allclose(np.trapezoid(density, grid, axis=1), 1, atol=2e-3)
    np.testing.assert_allclose(np.trapezoid(density * grid, grid, axis=1), p.mean, atol=4e-3)
    spread = np.sqrt(np.trapezoid(density * (grid - p.mean[:, None]) ** 2, grid, axis=1))
    np.testing.assert_allclose(p.std, spread, rtol=2e-2)
    np.testing.assert_allclose(p.squared_norm(), np.trapezoid(density**2, grid, axis=1), rtol=1e-2)
    for level in (0.01, 0.3, 0.5, 0.99):
        np.testing.assert_allclose(p.cdf(p.quantile(level)), level, atol=2e-5)
    found = p.summary(0.8)
    wanted = {"mean": p.mean, "std": p.std, "median": p.median, "mode": p.mode}
    wanted |= dict(zip(("low", "high"), p.interval(0.8)))
    assert found.keys() == wanted.keys()
    for key, values in wanted.items():
        np.testing.assert_allclose(found[key], values, rtol=1e-5, atol=1e-6, err_msg=key)
    draws = p.sample(3000, seed=0)
    assert abs(p.cdf(draws).mean() - 0.5) < 0.01


@pytest.mark.parametrize("name", HEADS)
def test_chunks_change_nothing(name, monkeypatch):
    p = heads()[name]

    def answers():
        return [p.mean, p.std, p.mode, p.quantile([0.1, 0.9]), p.cdf(np.ones(N)), p.pdf(np.linspace(0, 2, 5))]

    whole = answers()
    monkeypatch.setattr(Prediction, "chunk", 16)
    for a, b in zip(answers(), whole):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", HEADS)
def test_a_row_of_nan_answers_nan_and_harms_no_other(name):
    whole = heads()[name]
    values = whole.features.clone()
    values[3] = torch.nan
    p = whole._with(values, None)
    asks = [
        lambda d: d.mean,
        lambda d: d.std,
        lambda d: d.mode,
        lambda d: d.quantile([0.16, 0.5]),
        lambda d: d.interval(0.9)[0],
        lambda d: d.cdf(np.ones(N)),
        lambda d: d.log_prob(np.ones(N)),
        lambda d: d.pdf(np.linspace(0.5, 1.5, 3)),
        lambda d: d.squared_norm(),
    ]
    for number, ask in enumerate(asks):
        got, wanted = ask(p), ask(whole)
        assert np.isnan(got[3]).all(), number
        np.testing.assert_allclose(np.delete(got, 3, 0), np.delete(wanted, 3, 0), rtol=1e-5, err_msg=str(number))
    draws = p.sample(5, seed=0)
    assert np.isnan(draws[3]).all() and np.isfinite(np.delete(draws, 3, 0)).all()


@pytest.mark.filterwarnings("ignore:var")
@pytest.mark.parametrize("name", HEADS)
def test_no_objects(name):
    p = heads()[name][:0]
    assert len(p) == 0 and p.mean.shape == p.std.shape == p.mode.shape == p.median.shape == (0,)
    assert p.quantile([0.1, 0.5]).shape == (0, 2) and p.pdf(np.linspace(0, 1, 4)).shape == (0, 4)
    assert p.interval(0.5)[0].shape == (0,) and p.cdf(np.zeros(0)).shape == (0,)
    assert p.sample(3, seed=0).shape == (0, 3)


def test_a_row_of_nan_among_vectors():
    torch.manual_seed(0)
    for rank in (0, 2):
        head = GaussianVector(3, rank=rank)
        values = torch.randn(4, head.n_features)
        whole = Prediction(head, values.clone())
        values[1] = torch.nan
        p = Prediction(head, values)
        for ask in (lambda d: d.mean, lambda d: d.std, lambda d: d.log_prob(np.ones((4, 3)))):
            assert np.isnan(ask(p)[1]).all()
            np.testing.assert_allclose(np.delete(ask(p), 1, 0), np.delete(ask(whole), 1, 0))
        assert np.isnan(p.sample(3, seed=0)[1]).all()


def test_vectors():
    torch.manual_seed(0)
    head = GaussianVector(2, rank=1)
    p = Prediction(head, torch.randn(4, head.n_features))
    assert p.mean.shape == p.std.shape == p.mode.shape == (4, 2) and p.sample(5, seed=0).shape == (4, 5, 2)
    d = p.distribution()
    y = RNG.normal(size=(4, 2))
    wanted = [stats.multivariate_normal(m, c).logpdf(v) for m, c, v in zip(d.mean, d.covariance_matrix, y)]
    np.testing.assert_allclose(p.log_prob(y), wanted, rtol=1e-5)
    for ask in (
        lambda: p.median,
        lambda: p.quantile(0.5),
        lambda: p.interval(),
        lambda: p.cdf(y),
        lambda: p.summary(),
    ):
        with pytest.raises(DeepfieldError, match="a density over vectors; quantiles and cdf need a scalar"):
            ask()
    with pytest.raises(DeepfieldError, match=r"vectors of shape \(4, 2\) expected, got \(4,\)"):
        p.log_prob(y[:, 0])


def test_classes():
    p = Prediction(Categorical(3), torch.randn(4, 3))
    assert p.mode.shape == (4,) and np.all(p.log_prob(np.zeros(4)) < 0)
    np.testing.assert_allclose(p.pdf([0, 1, 2]).sum(1), 1, rtol=1e-6)
    for ask in (lambda: p.median, lambda: p.mean, lambda: p.std, lambda: p.interval()):
        with pytest.raises(DeepfieldError, match=r"of classes, without quantiles: see distribution\(\)\.probs"):
            ask()
    assert Prediction(Bernoulli(), torch.zeros(2, 1)).mean.tolist() == [0.5, 0.5]


# -- recalibration and conformal intervals ------------------------------------------------------------------


def test_recalibration_maps_cdf_density_and_quantiles():
    raw, p = mixture(), mixture(pit_map=PIT)
    y = RNG.normal(1, 0.4, N)
    np.testing.assert_allclose(p.cdf(y), PIT.forward(raw.cdf(y)))
    np.testing.assert_allclose(p.log_prob(y), raw.log_prob(y) + np.log(PIT.density(raw.cdf(y))))
    np.testing.assert_allclose(p.quantile(0.3), raw.quantile(float(PIT.inverse(0.3))))
    step = 1e-5
    np.testing.assert_allclose((p.cdf(y + step) - p.cdf(y - step)) / (2 * step), np.exp(p.log_prob(y)), rtol=1e-3)
    assert p.parameters() is None, "a recalibrated density is no mixture"


def test_the_identity_changes_nothing():
    raw, p = mixture(), mixture(pit_map=PITMap.identity())
    np.testing.assert_allclose(p.mean, raw.mean, atol=2e-3)
    np.testing.assert_allclose(p.std, raw.std, rtol=2e-2)
    np.testing.assert_allclose(p.quantile(0.2), raw.quantile(0.2))
    np.testing.assert_allclose(p.squared_norm(), raw.squared_norm(), rtol=5e-3)


def test_norm_of_a_recalibrated_density_finds_its_narrow_peaks():
    narrow = Prediction.mixture([[0.5, 0.5]], [[1.0, 1.0]], [[1e-3, 1.0]], pit_map=PITMap.identity())
    assert float(narrow.squared_norm()[0]) == pytest.approx(
        0.25 * 282.09 + 0.5 * 0.3989 + 0.25 * 0.28209, rel=0.02
    )


def test_conformal_intervals_replace_the_densitys_own():
    scores = [np.linspace(0, 0.5, 999), np.linspace(0, 0.9, 999)]
    group = np.arange(N) % 2
    p, raw = mixture(conformal=Conformal(scores, np.array([20.0]), "mag"), group=group), mixture()
    low, high = p.interval(0.9)
    levels = np.where(group == 0, 0.45, 0.81)
    np.testing.assert_allclose(raw.cdf(high) - raw.cdf(low), levels, atol=2e-3)
    np.testing.assert_allclose(p.median, raw.median)
    part = p[3:5]
    np.testing.assert_allclose(part.interval(0.9)[0], low[3:5])


def test_conformal_groups_are_not_guessed():
    conformal = Conformal([np.linspace(0, 0.5, 999)] * 2, np.array([20.0]), "mag")
    with pytest.raises(CalibrationError, match="intervals differ between 2 groups of 'mag': pass the group"):
        mixture(conformal=conformal).interval(0.9)
    one = mixture(conformal=Conformal([np.linspace(0, 0.5, 999)]))
    assert one.interval(0.9)[0].shape == (N,)


def test_covers_after_recalibration_and_conformal_together():
    p = mixture(conformal=Conformal([np.linspace(0, 1 - 1e-9, 9999)]), pit_map=PIT)
    low, high = p.interval(0.8)
    np.testing.assert_allclose(p.cdf(high) - p.cdf(low), 0.8, atol=1e-3)


# -- slices -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "index",
    [
        slice(2, 5),
        slice(None, None, 3),
        4,
        -1,
        [1, 1, 0],
        [],
        np.arange(N) % 2 == 0,
        np.array([5], dtype=np.uint8),
    ],
    ids=str,
)
def test_slices_take_the_rows_they_name(index):
    p = mixture(group=np.arange(N) % 3)
    part = p[index]
    rows = (
        index
        if isinstance(index, slice)
        else np.atleast_1d(np.asarray(index, dtype=None if np.size(index) else int))
    )
    np.testing.assert_array_equal(part.mean, p.mean[rows])
    assert len(part.group) == len(part)


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, N), max_size=4))
def test_concatenation_undoes_slicing(cuts):
    p = mixture(group=np.arange(N) % 3, pit_map=PIT)
    edges = [0, *sorted(cuts), N]
    again = Prediction.concatenate([p[a:b] for a, b in pairwise(edges)])
    np.testing.assert_array_equal(again.features, p.features)
    np.testing.assert_array_equal(again.group, p.group)
    assert again.pit_map is PIT


def test_predictions_of_different_models_do_not_mix():
    with pytest.raises(DeepfieldError, match="no predictions"):
        Prediction.concatenate([])
    a = Prediction(GaussianMixture(2), torch.zeros(2, 6))
    other = Prediction(GaussianMixture(2).fit_target(torch.tensor([5.0, 9.0])), torch.zeros(2, 6))
    twin = Prediction(GaussianMixture(2), torch.zeros(2, 6))
    assert len(Prediction.concatenate([a, twin])) == 4
    for wrong in (
        other,
        Prediction(GaussianMixture(3), torch.zeros(2, 9)),
        Prediction(a.head, a.features, pit_map=PIT),
    ):
        with pytest.raises(DeepfieldError, match="different models or calibrations cannot be concatenated"):
            Prediction.concatenate([a, wrong])
    with pytest.raises(DeepfieldError, match="with and without groups"):
        Prediction.concatenate([a, Prediction(a.head, a.features, group=[0, 1])])


# -- wrong shapes and values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda p: p.quantile(1.2), "quantile levels lie between 0 and 1, got 1.2"),
        (lambda p: p.quantile([-0.1, 0.5]), "quantile levels lie between 0 and 1"),
        (
            lambda p: p.quantile(np.full((N, 2), 0.5)),
            r"levels of shape \(\), \(Q,\) or \(12, 1\) expected, got \(12, 2\)",
        ),
        (lambda p: p.quantile(np.full((3, 1), 0.5)), "levels of shape"),
        (lambda p: p.interval(0), "an interval's level lies between 0 and 1, got 0"),
        (lambda p: p.interval(68.27), "level lies between 0 and 1, got 68.27"),
        (lambda p: p.cdf(np.zeros(5)), r"values of shape \(12,\) or \(1, G\) expected, got \(5,\)"),
        (lambda p: p.log_prob(np.zeros((2, 3))), r"values of shape \(12,\) or \(1, G\) expected, got \(2, 3\)"),
        (lambda p: p.pdf(np.zeros((2, 3))), "values of shape"),
        (lambda p: Prediction(p.head, np.zeros((3, 5))), r"features of shape \(N, 9\) expected, got \(3, 5\)"),
        (lambda p: Prediction(p.head, np.zeros(9)), r"features of shape \(N, 9\) expected, got \(9,\)"),
        (
            lambda p: Prediction(p.head, p.features, group=[1, 2]),
            r"one group for each of 12 objects expected, got \(2,\)",
        ),
        (lambda p: Prediction.mixture(WEIGHTS, MEANS[:, :2], STDS), "of one shape"),
        (lambda p: Prediction.mixture(WEIGHTS[0], MEANS[0], STDS[0]), "of one shape"),
        (lambda p: Prediction.mixture(-WEIGHTS, MEANS, STDS), "cannot be negative"),
        (lambda p: Prediction.mixture(WEIGHTS, MEANS, -STDS), "cannot be negative"),
        (lambda p: Prediction.tabulated([0, 1, 2], -np.ones((2, 3))), "a density cannot be negative"),
        (
            lambda p: Prediction.tabulated([0, 1, 2], np.ones((2, 4))),
            r"features of shape \(N, 3\) expected, got \(2, 4\)",
        ),
        (lambda p: Prediction.tabulated([0, 2, 1], np.ones((2, 3))), "must increase"),
    ],
)
def test_wrong_shapes_and_values(ask, message):
    with pytest.raises(DeepfieldError, match=message):
        ask(mixture())


def test_repr_says_what_it_is():
    assert repr(mixture()) == "Prediction of 12 objects, 9 floats each (GivenMixture)"
