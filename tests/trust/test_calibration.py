"""Calibration on data whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from deepfield.core.calibrators import CalibrationError
from deepfield.trust.calibration import calibrate, fit_conformal, fit_pit_map
from deepfield.trust.metrics import pit_ks

LEVELS = (0.1, 0.3, 0.5, 0.683, 0.8, 0.9, 0.955, 0.99)


def pit_of_wrong_density(rng, n, shape):
    """PIT values of Gaussian densities for truths that follow another law."""
    base = stats.norm()
    truth = {
        "narrow": lambda: 2 * rng.standard_normal(n),
        "wide": lambda: 0.4 * rng.standard_normal(n),
        "shifted": lambda: 1 + rng.standard_normal(n),
        "heavy": lambda: rng.standard_t(3, n),
        "good": lambda: rng.standard_normal(n),
    }[shape]()
    return base.cdf(truth)


@pytest.mark.parametrize("shape", ["narrow", "wide", "shifted", "heavy"])
def test_the_map_makes_pit_uniform_and_the_likelihood_better(shape):
    rng = np.random.default_rng(1)
    g = fit_pit_map(pit_of_wrong_density(rng, 3000, shape))
    held_out = pit_of_wrong_density(rng, 20_000, shape)
    assert pit_ks(g.forward(held_out)) < 0.25 * pit_ks(held_out) + 0.015
    gain = g.log_density(held_out)
    assert gain.mean() > 5 * gain.std() / np.sqrt(len(gain)) * (shape != "heavy")
    assert gain.mean() > 0


def test_the_map_comes_close_to_the_best_possible_gain():
    rng = np.random.default_rng(2)
    fit, held_out = rng.beta(0.6, 0.8, 5000), rng.beta(0.6, 0.8, 50_000)
    best = stats.beta(0.6, 0.8).logpdf(held_out).mean()
    assert fit_pit_map(fit).log_density(held_out).mean() > 0.85 * best


def test_uniform_pit_keeps_the_identity():
    kept = [fit_pit_map(np.random.default_rng(s).uniform(size=1000), seed=s).is_identity for s in range(20)]
    assert np.mean(kept) >= 0.9
    assert fit_pit_map(np.random.default_rng(0).beta(0.2, 0.2, 50)).is_identity  # too few rows to tell


def test_atoms_at_the_ends_and_missing_rows_are_no_trouble():
    rng = np.random.default_rng(3)
    pit = np.concatenate([rng.uniform(size=900), np.zeros(50), np.ones(50), np.full(10, np.nan)])
    g = fit_pit_map(pit)
    assert not g.is_identity
    assert np.isfinite(g.log_density([0.0, 1.0, 0.5])).all()
    with pytest.raises(CalibrationError, match=r"in \[0, 1\]"):
        fit_pit_map([0.5, 1.2])


@pytest.mark.parametrize("shape", ["narrow", "shifted", "good"])
def test_conformal_coverage_over_many_draws_is_what_theory_says(shape):
    """Means over 400 calibrations follow the Beta law of split-conformal coverage at every level."""
    rng = np.random.default_rng(4)
    n, repeats, test = 199, 400, 400
    covered = np.empty((repeats, len(LEVELS)))
    for r in range(repeats):
        conformal = fit_conformal(pit_of_wrong_density(rng, n, shape))
        score = 2 * np.abs(pit_of_wrong_density(rng, test, shape) - 0.5)
        covered[r] = [(score <= conformal.levels(level)).mean() for level in LEVELS]
    for level, got in zip(LEVELS, covered.T):
        rank = np.ceil((n + 1) * level - 1e-9)
        law = stats.betabinom(test, rank, n + 1 - rank)
        error = law.std() / test / np.sqrt(repeats)
        assert got.mean() == pytest.approx(law.mean() / test, abs=4 * error)
        assert got.mean() > level - 4 * error
        assert got.std() == pytest.approx(law.std() / test, rel=0.25)


def test_each_group_is_covered_where_the_whole_is_not():
    """The width is wrong in opposite ways for bright and faint: only groups put that right."""
    rng = np.random.default_rng(5)

    def draw(n):
        magnitude = rng.uniform(17, 22, n)
        magnitude[:: n // 10] = np.nan
        scale = np.where(magnitude < 18.6, 0.3, np.where(magnitude < 20.3, 1.0, 3.0))
        return magnitude, stats.norm.cdf(scale * rng.standard_normal(n))

    magnitude, pit = draw(3000)
    grouped = fit_conformal(pit, magnitude, name="mag_i")
    plain = fit_conformal(pit)
    magnitude, pit = draw(30_000)
    group, score = grouped.group(magnitude), 2 * np.abs(pit - 0.5)
    assert len(grouped.counts) == 3 and min(grouped.counts) > 950
    for g, n in enumerate(grouped.counts):
        for level in (0.683, 0.955):
            rows = group == g
            law = stats.betabinom(rows.sum(), np.ceil((n + 1) * level), n + 1 - np.ceil((n + 1) * level))
            low, high = law.ppf([1e-3, 1 - 1e-3]) / rows.sum()
            assert low <= (score[rows] <= grouped.levels(level, group)[rows]).mean() <= high
    bright = group == 0
    assert (score[bright] <= plain.levels(0.683)).mean() > 0.9


def test_small_samples_make_fewer_groups():
    rng = np.random.default_rng(6)
    pit, feature = rng.uniform(size=120), rng.normal(size=120)
    assert len(fit_conformal(pit, feature).counts) == 2
    assert len(fit_conformal(pit[:60], feature[:60]).counts) == 1
    assert len(fit_conformal(pit, np.ones(120)).counts) == 1
    assert len(fit_conformal(pit, np.full(120, np.nan)).counts) == 1
    assert fit_conformal(pit, feature, groups=[0.0]).edges.tolist() == [0.0]
    assert fit_conformal(pit, limit=30).counts == (30,)
    with pytest.raises(CalibrationError, match="60 values of the feature for 120"):
        fit_conformal(pit, feature[:60])
    with pytest.raises(CalibrationError, match="no calibration row"):
        fit_conformal([np.nan])


def test_both_together_on_a_badly_wrong_density():
    rng = np.random.default_rng(7)
    fitted = calibrate(pit_of_wrong_density(rng, 10_000, "narrow"), seed=3)
    pit = fitted.pit_map.forward(pit_of_wrong_density(rng, 40_000, "narrow"))
    assert pit_ks(pit) < 0.03
    for level in (0.683, 0.955):
        assert (2 * np.abs(pit - 0.5) <= fitted.conformal.levels(level)).mean() == pytest.approx(level, abs=0.03)
        assert fitted.conformal.levels(level) == pytest.approx(level, abs=0.03)  # the map did its share
    assert calibrate(rng.uniform(size=500), share=0).pit_map.is_identity
    with pytest.raises(CalibrationError, match="share"):
        calibrate(pit, share=1)


def test_the_order_of_rows_and_the_seed():
    pit = pit_of_wrong_density(np.random.default_rng(8), 2000, "heavy")
    assert calibrate(pit, seed=1).to_dict() == calibrate(pit, seed=1).to_dict()
    assert calibrate(pit, seed=1).to_dict() != calibrate(pit, seed=2).to_dict()
