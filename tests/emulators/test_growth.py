"""Growth with radiation: against the closed form without, and with CAMB in test_power.py."""

import numpy as np
import pytest

from deepfield.emulators.growth import growth
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
