"""The series of the transfer function: they reproduce what they were fitted to, and what lies between."""

import numpy as np
import pytest

from deepfield.core.errors import ModelError
from deepfield.emulators.linear import Run, Transfer, chebyshev, terms, unit, within
from deepfield.physics.power import sound_horizon, transfer


def runs(n, seed=0, change=0.03):
    """Runs that differ from Eisenstein & Hu by a few per cent, smoothly."""
    rng = np.random.default_rng(seed)
    share, b = rng.uniform(0.08, 0.5, n), rng.uniform(0.01, 0.05, n)
    k = np.geomspace(1e-5, 46, 500)
    found = []
    for f, one in zip(share, b):
        m = one / f
        factor = 1 + change * f * np.log1p(k) * (1 + one)
        found.append(Run(m, one, k, transfer(k, m, one) * factor, float(sound_horizon(m, one)) * (1 + 0.1 * f)))
    return found


@pytest.fixture(scope="module")
def fitted():
    return Transfer.fit(runs(40), components=20)


def test_runs_left_out_are_predicted(fitted):
    k = np.geomspace(2e-4, 20, 300)
    for run in runs(5, seed=1):
        found = fitted(k, run.omega_m_h2, run.omega_b_h2)[0]
        truth = run.on(np.log(k))
        error = found / truth * truth[0] / found[0] - 1
        calm = np.abs(truth) > 0.05 * np.abs(transfer(k, run.omega_m_h2, 1e-4 + 0 * run.omega_b_h2))
        assert np.median(np.abs(error)) < 2e-3
        assert np.quantile(np.abs(error[calm]), 0.9) < 1e-2


def test_more_runs_leave_less_out(fitted):
    fewer = Transfer.fit(runs(12), components=20)
    assert fewer.left_out.shape == (12,) and (fitted.left_out > 0).all()
    assert fitted.left_out.mean() < 0.5 * fewer.left_out.mean()


def test_chebyshev_are_cosines():
    u, v = np.array([0.3, -0.8]), np.array([0.1, 0.9])
    found = chebyshev(u, v, (3, 2))
    assert found.shape == (2, len(terms((3, 2))))
    for column, (i, j) in zip(found.T, terms((3, 2))):
        assert column == pytest.approx(np.cos(i * np.arccos(u)) * np.cos(j * np.arccos(v)))


def test_the_plane_is_read_both_ways():
    m, b = within(*unit(np.array([0.05, 0.3]), np.array([0.01, 0.05])))
    assert m == pytest.approx([0.05, 0.3]) and b == pytest.approx([0.01, 0.05])


def test_the_box_is_inside_the_plane():
    share, baryons, h = (v.ravel() for v in np.meshgrid([0.1, 0.5], [0.03, 0.07], [0.5, 0.9]))
    for coordinate in unit(share * h**2, baryons * h**2):
        assert np.abs(coordinate).max() < 1


def test_bad_input_is_refused(fitted):
    with pytest.raises(ModelError, match="2 runs are too few"):
        Transfer.fit(runs(2))
    with pytest.raises(ModelError, match="beyond the range"):
        fitted([1e-7, 0.1], 0.14, 0.022)
