"""The polynomials of the cells against the spectrum from which they are laid out."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.emulators import BOX
from deepfield.emulators.direct import Direct
from deepfield.emulators.grid import SHIFT, Grid
from deepfield.emulators.growth import growth

K, Z = np.geomspace(1e-4, 50, 60), np.array([0.0, 1.5])


@pytest.fixture(scope="module")
def grid(power):
    return Grid(Direct(power.transfer, power.late), K, Z, np.float32)


@pytest.fixture(scope="module")
def theta():
    low, high = np.array(list(BOX.values())).T
    return np.random.default_rng(3).uniform(low, high, (300, 5))


def test_the_cells_hold_the_spectrum(grid, theta):
    error = grid(theta) / grid.direct(theta, K, Z) - 1
    assert error.shape == (300, 2, 60)
    assert np.sqrt((error**2).mean()) < 3e-5
    assert np.quantile(np.abs(error), 0.999) < 2e-4


def test_one_cosmology_is_as_many(grid, theta):
    many = grid(theta[:20])
    for row, found in zip(theta, many):
        assert grid(row[None])[0] == pytest.approx(found, rel=2e-5)


def test_corners_of_the_box_are_in_cells(grid):
    sides = np.array(list(BOX.values()))
    corners = np.stack([v.ravel() for v in np.meshgrid(*sides, indexing="ij")], -1)
    which, inside = grid._place(corners.astype(np.float32))
    assert (which >= 0).all() and np.abs(inside).max() < 1 + 1e-4
    assert np.isfinite(grid(corners)).all()
    share, b, h = corners[:, :3].T
    log_r = grid.direct.transfer.coefficients(share * h**2, b * h**2)[0]
    assert SHIFT[0] < (log_r + np.log(h)).min() and (log_r + np.log(h)).max() < SHIFT[1]


def test_nothing_outside_the_box_is_answered(grid, theta):
    for rows in (1, 3):
        wrong = theta[:rows].copy()
        wrong[-1, 2] = 0.95
        with pytest.raises(DeepfieldError, match=r"h = 0\.95 is outside"):
            grid(wrong)


def test_spectra_go_where_they_are_told(grid, theta):
    out = np.empty((20, 2, 60), np.float32)
    assert grid(theta[:20], out=out) is out
    assert (out == grid(theta[:20])).all()
    with pytest.raises(DeepfieldError, match="out is float64 of shape"):
        grid(theta[:20], out=np.empty((20, 2, 60)))


def test_double_precision_is_no_other_spectrum(power, theta):
    k = np.array([0.01, 0.3])
    double = power.on(k)(theta[:50])
    assert double.dtype == np.float64
    assert Grid(Direct(power.transfer, power.late), k, np.zeros(1), np.float32)(theta[:50]) == pytest.approx(
        double, rel=2e-5
    )


def test_growth_in_the_cells_is_the_integral(grid, theta):
    at = np.argmin(np.abs(K - 1.0))
    found = grid(theta[:30])[..., at]
    exact = growth(Z, theta[:30, 0], theta[:30, 2]) ** 2
    assert found[:, 1] / found[:, 0] == pytest.approx(exact[:, 1], rel=2e-4)
