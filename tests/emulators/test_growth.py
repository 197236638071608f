"""Growth with radiation: against the closed form without, and with CAMB in test_power.py."""

import numpy as np
import pytest

from deepfield.emulators.growth import growth, growth_series, late_time
from deepfield.physics.power import OMEGA_RADIATION
from deepfield.physics.power import growth as without


def test_radiation_slows_the_growth_by_what_meszaros_says():
    z = np.array([0.0, 0.5, 3.0])
    found = growth(z, 0.3, 0.7)
    assert found[0, 0] == pytest.approx(1.0)
    ratio = found / without(z, 0.3) - 1
    # Where matter rules D goes as 1 + 3/2 a/a_eq: at z = 3 that is 2/3 a_eq (1/a - 1) more than a, nearly.
    expected = 2 / 3 * OMEGA_RADIATION / (0.3 * 0.49) * 3
    assert 0.7 * expected < abs(ratio[0, 2]) < 1.3 * expected


def test_many_cosmologies_at_once():
    found = growth([1.0], np.array([0.2, 0.4]), np.array([0.6, 0.8]))
    assert found.shape == (2, 1)
    assert found[1] == pytest.approx(growth([1.0], 0.4, 0.8)[0])


def test_the_series_is_the_integral():
    share, h = np.array([0.1, 0.1, 0.3, 0.5]), np.array([0.5, 0.9, 0.7, 0.9])
    for z in (0.3, 3.0):
        assert growth_series(z, share, share * h**2) == pytest.approx(growth(z, share, h)[:, 0], rel=1e-5)


def test_late_times_act_at_both_ends(power):
    share, h, k = np.array([0.12]), np.array([0.6]), np.array([1e-4, 0.01, 0.5, 5.0, 50.0])
    m, b = share * h**2, 0.06 * h**2
    today, then = (late_time(k, z, share, m, b, h, power.late)[0] for z in (0.0, 3.0))
    # Radiation slows what is near the horizon, the more the earlier.
    assert then[0] < 2 * today[0] < 0 and then[0] > -0.02
    assert abs(then[2]) < 1e-5 and abs(today[1]) < 1e-3
    # Pressure has taken from today's small scales, as k^2.
    assert 1e-5 < then[4] < 2e-3 and then[4] / then[3] == pytest.approx(100, rel=0.2)
