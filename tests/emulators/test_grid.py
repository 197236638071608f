"""The fast grid against the plain evaluation of the same series."""

import numpy as np
import pytest

from deepfield.emulators import BOX
from deepfield.emulators.grid import SHIFT
from deepfield.physics.power import variance


def test_the_grid_is_the_plain_formula(power):
    low, high = np.array(list(BOX.values())).T
    theta = np.random.default_rng(3).uniform(low, high, (12, 5))
    k, fine = np.geomspace(2e-4, 40, 120), np.geomspace(2e-4, 20, 2500)
    fast = power.on(k)(theta)[:, 0]
    for row, found in zip(theta, fast):
        share, baryons, h, tilt, sigma_8 = row
        m, b = share * h**2, baryons * h**2
        shape = fine**tilt * power.transfer(fine * h, m, b)[0] ** 2
        level = sigma_8**2 / variance(fine, shape, 8.0)
        plain = level * k**tilt * power.transfer(k * h, m, b)[0] ** 2
        assert found == pytest.approx(plain, rel=3e-4)


def test_shifts_cover_the_box(power):
    share, baryons, h = (v.ravel() for v in np.meshgrid([0.1, 0.5], [0.03, 0.07], [0.5, 0.9]))
    log_r, _, _ = power.transfer.coefficients(share * h**2, baryons * h**2)
    shift = log_r + np.log(h)
    assert SHIFT[0] < shift.min() and shift.max() < SHIFT[1]


def test_growth_on_the_grid_is_the_integral(power):
    from deepfield.emulators.growth import growth

    theta = np.array([[0.1, 0.05, 0.5, 0.95, 0.8], [0.5, 0.03, 0.9, 0.95, 0.8], [0.3, 0.05, 0.7, 0.95, 0.8]])
    z = np.array([0.0, 0.3, 3.0])
    spectra = power.on([1.0], z)(theta)[..., 0]
    exact = growth(z, theta[:, 0], theta[:, 2]) ** 2
    assert spectra / spectra[:, :1] == pytest.approx(exact, rel=1e-5)
