"""Projection against integrals by adaptive quadrature."""

import numpy as np
import pytest
from scipy.integrate import quad

from deepfield.physics.cosmology import HUBBLE_DISTANCE, flat_distance
from deepfield.physics.limber import lensing_kernel, limber, shear_factor, trapezoidal


def test_kernel_of_spread_sources():
    """In a universe of matter alone chi = 2 c/H0 (1 - (1 + z)^-1/2)."""

    def chi(z):
        return 2 * HUBBLE_DISTANCE * (1 - (1 + z) ** -0.5)

    def n(z):
        return z**2 * np.exp(-z)

    z, behind = np.array([0.2, 0.7, 1.5]), np.linspace(1e-3, 3, 2000)
    found = lensing_kernel(z, chi(z), 1.0, (n(behind) * trapezoidal(behind))[None], chi(behind))
    total = quad(n, 0, 3)[0]
    for at, value in zip(z, found[0]):
        lever = quad(lambda s, d: n(s) * (1 - d / chi(s)), at, 3, args=(chi(at),))[0] / total
        assert value == pytest.approx(1.5 / HUBBLE_DISTANCE**2 * (1 + at) * chi(at) * lever, rel=1e-4)


def test_spectra_of_a_power_law_behind_one_sheet():
    """P = k^-1.5 and all sources at z = 1, two cosmologies at once."""
    z, ell = np.linspace(1e-3, 1, 2001), np.array([50.0, 500.0])
    matter = np.array([0.25, 0.4])
    chi, far = (HUBBLE_DISTANCE * flat_distance(v, matter) for v in (z, [1.0]))
    kernel = lensing_kernel(z, chi, matter, np.ones((1, 1)), far)
    power = ((ell[:, None] + 0.5) / chi[:, None]) ** -1.5
    found = limber(kernel, power, trapezoidal(chi) / chi**2)
    assert found.shape == (2, 1, 1, 2)

    def integrand(at, m, share, source):
        d = HUBBLE_DISTANCE * flat_distance([at], share)[0, 0]
        rate = np.sqrt(share * (1 + at) ** 3 + 1 - share)
        q = 1.5 * share / HUBBLE_DISTANCE**2 * (1 + at) * (1 - d / source)
        return q**2 * ((m + 0.5) / d) ** -1.5 * HUBBLE_DISTANCE / rate

    for i, j in np.ndindex(2, 2):
        exact = quad(integrand, 1e-3, 1, args=(ell[j], matter[i], far[i, 0]))[0]
        assert found[i, 0, 0, j] == pytest.approx(exact, rel=1e-4)


def test_a_round_sky():
    assert shear_factor([0, 1, 2]) == pytest.approx([0, 0, 24 / 2.5**4])
    assert trapezoidal([[0, 1, 3], [0, 2, 4]]).tolist() == [[0.5, 1.5, 1.0], [1.0, 2.0, 1.0]]
