"""n(z) against samples whose redshifts are known."""

import tracemalloc

import h5py
import numpy as np
import pytest
from scipy import stats

from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.photoz.nz import n_of_z

EDGES = np.linspace(0, 2, 101)
SIGMA = 0.08


def posterior(observed, prior):
    """p(z | observed) under a prior on a grid, for observed = z + Gaussian error."""
    grid = np.linspace(0, 2, 401)
    return Prediction.tabulated(grid, prior(grid) * stats.norm.pdf(observed[:, None], grid, SIGMA))


def sample(rng, n):
    z = np.where(rng.uniform(size=n) < 0.6, rng.normal(0.6, 0.05, n), rng.normal(1.2, 0.08, n))
    return z, z + SIGMA * rng.standard_normal(n)


def truth(z):
    return 0.6 * stats.norm.pdf(z, 0.6, 0.05) + 0.4 * stats.norm.pdf(z, 1.2, 0.08)


def test_the_stack_is_right_where_the_prior_is():
    z, observed = sample(np.random.default_rng(0), 4000)
    found = n_of_z(posterior(observed, truth), edges=EDGES)
    assert found.density.shape == (1, 100) and found.realisations.shape == (100, 1, 100)
    np.testing.assert_allclose((found.density * np.diff(EDGES)).sum(1), 1)
    assert 0.5 * (np.abs(found.density[0] - truth(found.grid)) * np.diff(EDGES)).sum() < 0.03
    assert found.mean[0] == pytest.approx(z.mean(), abs=4 * found.mean_error[0])
    assert found.mean_error[0] == pytest.approx(posterior(observed, truth).mean.std() / np.sqrt(4000), rel=0.25)
    low, high = found.band()
    peak = found.density[0].argmax()
    assert low[0, peak] < found.density[0, peak] < high[0, peak]


def test_another_prior_is_undone():
    rng = np.random.default_rng(1)
    _, observed = sample(rng, 4000)
    densities = posterior(observed, lambda z: np.ones_like(z))
    cells = np.linspace(0, 2, 51)
    stacked = n_of_z(densities, edges=cells, repeats=2)
    found = n_of_z(densities, edges=cells, repeats=20, training=rng.uniform(0, 2, 50_000))

    def distance(estimate):
        return 0.5 * (np.abs(estimate.density[0] - truth(estimate.grid)) * np.diff(cells)).sum()

    assert distance(stacked) > 0.15
    assert distance(found) < 0.5 * distance(stacked)
    assert found.mean_error[0] > 0


def test_tomographic_bins():
    z, observed = sample(np.random.default_rng(2), 3000)
    p = posterior(observed, truth)
    found = n_of_z(p, bins=3, edges=EDGES, repeats=30)
    assert found.counts.sum() == 3000 and found.counts.min() > 800
    assert (np.diff(found.mean) > 0).all()
    for count in (np.int64(3), np.uint8(3)):
        np.testing.assert_array_equal(n_of_z(p, bins=count, edges=EDGES, repeats=2).bins, found.bins)
    index = np.searchsorted(found.bins[1:-1], p.mode, side="right")
    for b in range(3):
        residual = (z - p.mean)[index == b]
        assert found.mean[b] == pytest.approx(z[index == b].mean(), abs=4 * residual.std() / len(residual) ** 0.5)
    fixed = n_of_z(p, bins=[0.3, 0.9, 1.0, 1.0, 1.5], edges=EDGES, repeats=3, point="mean")
    assert fixed.counts[2] == 0 and np.isnan(fixed.density[2]).all()
    assert np.isfinite(fixed.density[[0, 1, 3]]).all()


def test_the_shift_moves_the_mean_and_widens_the_band():
    rng = np.random.default_rng(3)
    _, observed = sample(rng, 3000)
    z, few = sample(rng, 60)
    p, held_out = posterior(observed, truth), posterior(few, truth)
    plain = n_of_z(p, edges=EDGES)
    wide = n_of_z(p, edges=EDGES, calibration=(held_out, z))
    residual = z - held_out.mean
    assert wide.shift[0] == pytest.approx(residual.mean(), abs=1e-3)
    assert wide.shift_error[0] == pytest.approx(residual.std(ddof=1) / np.sqrt(60), rel=0.01)
    assert wide.mean[0] == pytest.approx(plain.mean[0] + wide.shift[0], abs=1e-4)
    expected = np.hypot(plain.mean_error[0], wide.shift_error[0])
    assert wide.mean_error[0] == pytest.approx(expected, rel=0.25)
    told = n_of_z(p, edges=EDGES, calibration=(held_out, z), shift=False)
    assert wide.shifted and not told.shifted and not plain.shifted
    np.testing.assert_array_equal(told.shift, wide.shift)
    np.testing.assert_array_equal(told.density, plain.density)
    np.testing.assert_array_equal(told.realisations, plain.realisations)


def test_biased_densities_are_mended_within_the_quoted_error():
    """Zero points off by 0.05: n(z) of 40 samples against the true mean, in units of its error."""
    mean, pulls, blind = 0.6 * 0.6 + 0.4 * 1.2, [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        (_, observed), (z, held_out) = sample(rng, 500), sample(rng, 200)
        p, known = posterior(observed + 0.05, truth), posterior(held_out + 0.05, truth)
        found = n_of_z(p, edges=EDGES, calibration=(known, z), repeats=50, seed=seed)
        told = n_of_z(p, edges=EDGES, repeats=50, seed=seed)
        pulls.append((found.mean[0] - mean) / found.mean_error[0])
        blind.append((told.mean[0] - mean) / told.mean_error[0])
    assert 0.75 < np.sqrt(np.mean(np.square(pulls))) < 1.3
    assert abs(np.mean(pulls)) < 0.5 and np.mean(blind) > 1.2, "without the shift the bias is there"


def test_the_shift_is_that_of_the_estimate_and_not_of_the_stack():
    """Densities under a wrong prior: the stack is biased, its repair is not, and each has its own shift."""
    rng = np.random.default_rng(6)
    (_, observed), (z, held_out) = sample(rng, 2000), sample(rng, 800)
    p, known = (posterior(o, lambda z: np.exp(-4 * z)) for o in (observed, held_out))
    training = rng.exponential(0.25, 400_000)
    cells = np.linspace(0, 2, 51)
    stack = n_of_z(p, edges=cells, calibration=(known, z), repeats=20)
    repaired = n_of_z(p, edges=cells, calibration=(known, z), repeats=20, training=training)
    assert stack.shift[0] > 3 * stack.shift_error[0], "a prior that falls with z pulls the densities down"
    assert abs(repaired.shift[0]) < 3 * repaired.shift_error[0] and repaired.shift[0] < 0.6 * stack.shift[0]
    for found in (stack, repaired):
        assert found.mean[0] == pytest.approx(0.84, abs=3 * found.mean_error[0])


def test_the_shift_moves_the_mean_of_a_bin_at_zero_too():
    rng = np.random.default_rng(8)

    def near(n):
        z = np.abs(rng.normal(0, 0.03, n))
        return z, posterior(z + 0.03 + 0.02 * rng.standard_normal(n), lambda grid: np.exp(-grid / 0.03))

    (_, p), (z, known) = near(800), near(200)
    cells = np.concatenate([np.linspace(0, 0.2, 41), np.linspace(0.21, 1, 40)])
    plain = n_of_z(p, edges=cells)
    for told in (z, z - 0.015, z + 0.1):
        found = n_of_z(p, edges=cells, calibration=(known, told))
        assert found.mean[0] == pytest.approx(plain.mean[0] + found.shift[0], abs=1e-8)
        expected = np.hypot(plain.mean_error[0], found.shift_error[0])
        assert found.mean_error[0] == pytest.approx(expected, rel=0.25)
        np.testing.assert_allclose((found.density * np.diff(cells)).sum(1), 1)
        assert (found.density >= 0).all() and (found.realisations >= 0).all()


def test_a_shift_that_the_cells_cannot_hold_is_warned_of(caplog):
    known = posterior(np.full(20, 0.6), truth)
    n_of_z(known, edges=EDGES, calibration=(known, np.full(20, 0.5)))
    assert "cannot be shifted" not in caplog.text
    found = n_of_z(known, edges=EDGES, calibration=(known, np.full(20, -0.5)))
    assert "bin 1 cannot be shifted by -1.1" in caplog.text and found.mean[0] == pytest.approx(0.01)


def test_a_bin_without_calibration_objects_says_so(caplog):
    _, observed = sample(np.random.default_rng(7), 500)
    known = posterior(np.full(20, 0.6), truth)
    found = n_of_z(
        posterior(observed, truth), bins=[0, 0.9, 2], edges=EDGES, calibration=(known, np.full(20, 0.6))
    )
    assert np.isnan(found.shift).tolist() == [False, True] and np.isfinite(found.density).all()
    assert "bin 2 has 0 calibration objects" in caplog.text
    with pytest.raises(DeepfieldError, match="20 calibration densities need as many redshifts"):
        n_of_z(known, calibration=(known, [0.6]))


def test_the_repair_holds_the_masses_once(monkeypatch):
    """The docstring promises 8 bytes for each object and cell."""
    monkeypatch.setattr("deepfield.photoz.nz._CHUNK", 500)
    n, cells = 20_000, np.linspace(0, 2, 101)
    z = np.random.default_rng(9).uniform(0.2, 1.8, n)
    p = Prediction.mixture(np.ones((n, 1)), z[:, None], np.full((n, 1), SIGMA))
    assert p.mode.shape == (n,)
    tracemalloc.start()
    n_of_z(p, edges=cells, training=z, repeats=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert 8 * n * 100 < peak < 1.4 * 8 * n * 100


def test_missing_objects_do_not_count_and_seeds_hold():
    _, observed = sample(np.random.default_rng(4), 300)
    good = Prediction.mixture(np.ones((300, 1)), observed[:, None], np.full((300, 1), SIGMA))
    features = good.features.clone()
    features[:50] = np.nan
    found = n_of_z(Prediction(good.head, features), repeats=5)
    assert found.counts.tolist() == [250]
    np.testing.assert_allclose(found.density, n_of_z(good[50:], edges=found.edges, repeats=5).density)
    again = n_of_z(Prediction(good.head, features), repeats=5)
    np.testing.assert_array_equal(found.realisations, again.realisations)
    assert not np.array_equal(
        found.realisations, n_of_z(good[50:], edges=found.edges, repeats=5, seed=1).realisations
    )


def test_files(tmp_path):
    qp = pytest.importorskip("qp")
    _, observed = sample(np.random.default_rng(5), 500)
    found = n_of_z(posterior(observed, truth), bins=2, edges=EDGES, repeats=10)
    found.write(tmp_path / "nz.hdf5")
    ensemble = qp.read(str(tmp_path / "nz.hdf5"))
    assert ensemble.npdf == 2
    np.testing.assert_allclose(ensemble.pdf(found.grid), found.density, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(ensemble.ancil["z_mean"], found.mean)
    with h5py.File(tmp_path / "nz.hdf5") as file:
        assert file["realisations/yvals"].shape == (10, 2, 100)
    from astropy.table import Table

    for name in ("nz.ecsv", "nz.csv"):
        found.write(tmp_path / name)
        table = Table.read(tmp_path / name)
        np.testing.assert_allclose(table["n_2"], found.density[1])
        assert table.colnames[:4] == ["z", "n_1", "n_1_lo68", "n_1_hi68"]
    with pytest.raises(DeepfieldError, match=r"\.hdf5, \.ecsv or \.csv"):
        found.write(tmp_path / "nz.fits")


def test_bad_calls():
    p = Prediction.mixture([[1.0]], [[0.5]], [[0.1]])
    with pytest.raises(DeepfieldError, match=r"cells should increase, unlike 0\.0, 2\.0, 1\.0"):
        n_of_z(p, edges=[0, 2, 1])
    with pytest.raises(DeepfieldError, match=r"bins should increase, unlike 1\.0, 0\.0"):
        n_of_z(p, bins=[1, 0])
    with pytest.raises(DeepfieldError, match="no object has a density"):
        n_of_z(Prediction.mixture([[np.nan]], [[0.5]], [[0.1]]))
    with pytest.raises(DeepfieldError, match="no training redshift"):
        n_of_z(p, training=[50.0], edges=[0, 1, 2])
