"""Scores against closed forms, scipy's quadrature and simulation."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import integrate, stats

from deepfield.core.calibrators import PITMap
from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.trust import metrics

W = np.array([[0.7, 0.3], [0.5, 0.5], [1.0, 0.0], [0.9, 0.1]])
M = np.array([[0.3, 0.9], [0.5, 0.52], [0.0, 5.0], [0.4, 1.5]])
S = np.array([[0.05, 0.2], [0.02, 0.1], [1.0, 1.0], [0.02, 0.3]])
Y = np.array([0.35, 0.8, -0.4, 1.2])


def exact_cdf(i, t):
    return (W[i] * stats.norm.cdf(t, M[i], S[i])).sum()


def exact_pdf(i, t):
    return (W[i] * stats.norm.pdf(t, M[i], S[i])).sum()


def by_scipy(function, i):
    marks = np.sort(np.concatenate([M[i], M[i] - 3 * S[i], M[i] + 3 * S[i], [Y[i], -8, 12]]))
    return sum(integrate.quad(function, a, b, limit=200)[0] for a, b in pairwise(marks))


def test_crps_of_mixtures_is_the_integral():
    got = metrics.crps_mixture(W, M, S, Y)
    for i in range(len(Y)):
        expected = by_scipy(lambda t, i=i: (exact_cdf(i, t) - (t >= Y[i])) ** 2, i)
        assert got[i] == pytest.approx(expected, rel=1e-6)


def test_crps_of_one_gaussian_is_gneitings_formula():
    y = np.linspace(-3, 4, 15)
    u = (y - 0.5) / 0.8
    expected = 0.8 * (u * (2 * stats.norm.cdf(u) - 1) + 2 * stats.norm.pdf(u) - 1 / np.sqrt(np.pi))
    one = np.ones((15, 1))
    np.testing.assert_allclose(metrics.crps_mixture(one, 0.5 * one, 0.8 * one, y), expected, rtol=1e-12)


def test_crps_is_the_energy_form_of_a_simulation():
    rng = np.random.default_rng(0)
    p = Prediction.mixture(W, M, S)
    draws = p.sample(4000, seed=1)
    pairs = np.abs(draws - rng.permuted(draws, axis=1)).mean(1)
    expected = np.abs(draws - Y[:, None]).mean(1) - 0.5 * pairs
    np.testing.assert_allclose(metrics.crps(p, Y), expected, rtol=0.12)


def test_squared_norm_is_the_integral():
    got = metrics.squared_norm(Prediction.mixture(W, M, S))
    for i in range(len(Y)):
        assert got[i] == pytest.approx(by_scipy(lambda t, i=i: exact_pdf(i, t) ** 2, i), rel=1e-6)


class Hidden:
    """A density of which nothing is known but its functions."""

    def __init__(self, p):
        self.p = p
        self.cdf, self.quantile, self.log_prob = p.cdf, p.quantile, p.log_prob

    def __len__(self):
        return len(self.p)

    def __getitem__(self, index):
        return Hidden(self.p[index])


def test_quadrature_agrees_with_the_closed_forms():
    p = Prediction.mixture(W, M, S)
    np.testing.assert_allclose(metrics.crps(Hidden(p), Y), metrics.crps(p, Y), rtol=1e-3)
    far = np.array([5.0, -3.0, 9.0, 0.4])
    np.testing.assert_allclose(metrics.crps(Hidden(p), far), metrics.crps(p, far), rtol=1e-3)
    np.testing.assert_allclose(metrics.squared_norm(Hidden(p)), metrics.squared_norm(p), rtol=1e-4)
    np.testing.assert_allclose(metrics.cde_loss(Hidden(p), Y), metrics.cde_loss(p, Y), rtol=1e-4, atol=1e-4)


def test_quadrature_withstands_wild_mixtures():
    rng = np.random.default_rng(6)
    w, m = rng.dirichlet(np.full(4, 0.5), 200), rng.uniform(0, 2, (200, 4))
    p, y = Prediction.mixture(w, m, 10 ** rng.uniform(-2, -0.3, (200, 4))), rng.uniform(0, 2, 200)
    ratio = metrics.crps(Hidden(p), y) / metrics.crps(p, y)
    assert abs(ratio.mean() - 1) < 1e-4 and np.abs(ratio - 1).max() < 1e-3
    ratio = metrics.squared_norm(Hidden(p)) / metrics.squared_norm(p)
    assert abs(ratio.mean() - 1) < 1e-5 and np.abs(ratio - 1).max() < 1e-3


def test_recalibrated_and_tabulated_densities_are_scored_as_they_are():
    g = PITMap([0, 0.2, 0.7, 1], [2, 0.5, 1, 1.5])
    calibrated = Prediction.mixture(W, M, S, pit_map=g)
    scores = metrics.crps(calibrated, Y), metrics.squared_norm(calibrated)
    for i in range(len(Y)):
        crps = by_scipy(lambda t, i=i: (g.forward(exact_cdf(i, t)) - (t >= Y[i])) ** 2, i)
        norm = by_scipy(lambda t, i=i: (exact_pdf(i, t) * g.density(exact_cdf(i, t))) ** 2, i)
        assert scores[0][i] == pytest.approx(crps, rel=5e-4)
        assert scores[1][i] == pytest.approx(norm, rel=5e-4)
    grid = np.linspace(-8, 12, 20_001)
    pdf = (W[:2] * stats.norm.pdf(grid[:, None, None], M[:2], S[:2])).sum(-1).T
    table = Prediction.tabulated(grid, pdf)
    np.testing.assert_allclose(metrics.crps(table, Y[:2]), metrics.crps_mixture(W, M, S, Y)[:2], rtol=1e-3)
    np.testing.assert_allclose(
        metrics.squared_norm(table), metrics.squared_norm(Prediction.mixture(W, M, S))[:2], rtol=5e-4
    )


def test_chunks_change_nothing(monkeypatch):
    p = Hidden(Prediction.mixture(np.tile(W, (5, 1)), np.tile(M, (5, 1)), np.tile(S, (5, 1))))
    whole = metrics.crps(p, np.tile(Y, 5))
    monkeypatch.setattr(metrics, "_CHUNK", 3)
    np.testing.assert_allclose(metrics.crps(p, np.tile(Y, 5)), whole, rtol=1e-12)


def test_missing_predictions_and_truths_stay_missing():
    w = W.copy()
    w[1] = np.nan
    y = Y.copy()
    y[2] = np.nan
    for p in (Prediction.mixture(w, M, S), Hidden(Prediction.mixture(w, M, S))):
        for function in (metrics.crps, metrics.cde_loss, metrics.pit):
            assert np.isnan(function(p, y)).tolist() == [False, True, True, False]
    assert np.isfinite(metrics.coverage(Prediction.mixture(w, M, S), y, [0.9])).all()
    with pytest.raises(DeepfieldError, match="4 predictions need as many truths"):
        metrics.crps(Prediction.mixture(W, M, S), Y[:3])


def test_pit_and_its_distance_from_uniform():
    np.testing.assert_allclose(
        metrics.pit(Prediction.mixture(W, M, S), Y), [exact_cdf(i, Y[i]) for i in range(4)], atol=1e-6
    )
    u = np.random.default_rng(1).beta(1.1, 1, size=(3, 500))
    for row, got in zip(u, metrics.pit_ks(u)):
        assert got == pytest.approx(stats.kstest(row, "uniform").statistic, abs=1e-12)
    np.testing.assert_allclose(metrics.pit_ks(u.T, axis=0), metrics.pit_ks(u))
    assert np.isnan(metrics.pit_ks([]))


def test_coverage_of_intervals_and_of_pit_agree():
    rng = np.random.default_rng(2)
    n, levels = 3000, [0.2, 0.683, 0.955]
    mean = rng.normal(size=(n, 1))
    p = Prediction.mixture(np.ones((n, 1)), mean, np.full((n, 1), 0.1))
    y = mean[:, 0] + 0.1 * rng.standard_normal(n)
    got = metrics.coverage(p, y, levels)
    np.testing.assert_allclose(got, metrics.pit_coverage(metrics.pit(p, y), levels), atol=1.5 / n)
    for level, value in zip(levels, got):
        low, high = metrics.coverage_band(level, n, confidence=0.999)
        assert low <= value <= high


def test_calibration_errors():
    rng = np.random.default_rng(3)
    assert metrics.expected_calibration_error(rng.uniform(size=20_000)) < 0.01
    wrong = stats.norm.cdf(2 * rng.standard_normal(20_000))
    nominal = np.arange(0.01, 0.995, 0.01)
    exact = np.abs(2 * stats.norm.cdf(stats.norm.ppf(0.5 + nominal / 2) / 2) - 1 - nominal).mean()
    assert metrics.expected_calibration_error(wrong) == pytest.approx(exact, abs=0.01)
    p = rng.uniform(size=50_000)
    label = rng.uniform(size=50_000) < p
    assert metrics.classification_calibration_error(p, label) < 0.01
    assert metrics.classification_calibration_error(p, rng.uniform(size=50_000) < 0.5) == pytest.approx(
        0.25, abs=0.01
    )
    three = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1]])
    assert metrics.classification_calibration_error(three, [0, 2]) == pytest.approx(0.3)


def test_coverage_bands_against_simulation():
    rng = np.random.default_rng(4)
    counts = []
    for _ in range(3000):
        calibration = np.sort(rng.uniform(size=99))
        counts.append((rng.uniform(size=200) <= calibration[89]).mean())
    law = metrics.coverage_law(0.9, 200, n_cal=99)
    assert np.std(counts) == pytest.approx(law.std() / 200, rel=0.05)
    assert np.mean(counts) == pytest.approx(0.9, abs=0.003)
    low, high = metrics.coverage_band(0.9, 200, 99)
    inside = [low <= c <= high for c in counts]
    assert 0.93 < np.mean(inside) < 0.98
    with pytest.raises(DeepfieldError, match="9 calibration rows are too few"):
        metrics.coverage_law(0.95, 100, 9)
    with pytest.raises(DeepfieldError, match="between 0 and 1"):
        metrics.coverage_band(1.0, 100)


def test_bootstrap_errors():
    x = np.random.default_rng(5).normal(size=2000)
    mean = metrics.bootstrap_error(lambda v: v.mean(1), x, repeats=2000)
    assert mean == pytest.approx(x.std() / np.sqrt(2000), rel=0.06)
    median = metrics.bootstrap_error(lambda v: np.median(v, 1), x, repeats=1000)
    assert median == pytest.approx(np.sqrt(np.pi / 2) / np.sqrt(2000), rel=0.15)
    both = metrics.bootstrap_error(lambda v: v.mean(1), np.stack([x, 2 * x], 1))
    assert both.shape == (2,) and both[1] == pytest.approx(2 * both[0])
    assert both[0] == pytest.approx(metrics.bootstrap_error(lambda v: v.mean(1), x))
    few = metrics.bootstrap_error(lambda v: v.mean(1), x, repeats=2000, limit=500)
    assert few == pytest.approx(mean, rel=0.1)
    assert np.isnan(metrics.bootstrap_error(lambda v: v.mean(1), [1.0]))
    assert np.isnan(metrics.bootstrap_error(lambda v: v.mean(1), []))
