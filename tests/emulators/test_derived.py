"""Derived quantities against integrals that can be done by hand, and against the spectrum itself."""

import numpy as np
import pytest
from scipy.special import gamma

from deepfield.core.errors import DeepfieldError
from deepfield.emulators import correlation, lensing_spectra, sigma


def test_sigma_8_comes_back(power, planck):
    assert sigma(power, planck) == pytest.approx(0.81, rel=1e-4)
    found = sigma(power, dict(planck, h=[0.6, 0.7]), [4.0, 8.0], z=[0.0, 1.0])
    assert found.shape == (2, 2, 2) and found[:, 0, 1] == pytest.approx(0.81, rel=1e-4)
    with pytest.raises(DeepfieldError, match="radii of"):
        sigma(power, planck, 1000.0)


def test_correlation_of_a_power_law():
    """P = k^n gives xi = Gamma(3 + n) sin((2 + n) pi / 2) / (2 pi^2 (2 + n)) r^-(3 + n) for -3 < n < -1."""
    n, r = -1.5, np.array([2.0, 20.0, 150.0])
    found = correlation(lambda cosmology, k, z: k**n, {}, r)
    exact = gamma(3 + n) * np.sin((2 + n) * np.pi / 2) / (2 * np.pi**2 * (2 + n)) * r ** -(3 + n)
    assert found == pytest.approx(exact, rel=5e-3)


def test_the_acoustic_peak_is_at_the_sound_horizon(power, planck):
    r = np.linspace(80, 130, 60)
    xi = correlation(power, planck, r) * r**2
    peak = r[np.argmax(xi)]
    horizon = np.exp(power.transfer.coefficients(np.array([0.31 * 0.68**2]), np.array([0.049 * 0.68**2]))[0][0])
    assert peak == pytest.approx(horizon * 0.68, rel=0.05)
    with pytest.raises(DeepfieldError, match="is known for"):
        correlation(power, planck, [1000.0])


def test_lensing_of_thin_sources():
    """With P = const and E = 1 (no matter in the expansion is not in the box): against the sum done plainly."""
    from deepfield.physics.cosmology import flat_distance

    cosmology, z = {"omega_m": 0.3}, np.linspace(0, 1.2, 400)
    bins = np.exp(-0.5 * ((z - np.array([[0.5], [1.0]])) / 0.02) ** 2)
    found = lensing_spectra(lambda c, k, zz: np.full((len(zz), len(k)), 7.0), cosmology, [100.0, 1000.0], z, bins)
    assert found.shape == (2, 2, 2) and found[0, 1] == pytest.approx(found[1, 0])
    chi_s = 2997.92458 * flat_distance([1.0], 0.3)[0, 0]
    fine = np.linspace(1e-3, 1.0, 4000)
    chi = 2997.92458 * flat_distance(fine, 0.3)[0]
    kernel = 1.5 * 0.3 / 2997.92458**2 * (1 + fine) * (1 - chi / chi_s)  # over chi
    assert found[1, 1, 0] == pytest.approx(np.trapezoid(kernel**2 * 7.0, chi), rel=0.02)


def test_lensing_input_is_checked(power, planck):
    with pytest.raises(DeepfieldError, match=r"n\(z\) is \(bins, S\)"):
        lensing_spectra(power, planck, [100.0], [1.0, 0.5], [1.0, 1.0])


def test_lensing_sees_dark_energy():
    """The same spectrum at other distances: nearer sources, less lensing."""
    z = np.linspace(0, 1.2, 200)
    bins = np.exp(-0.5 * ((z - 1.0) / 0.05) ** 2)
    found = []
    for dark in ({}, {"w_0": -0.7, "w_a": 0.2}):
        given = {"omega_m": 0.3, **dark}
        found.append(lensing_spectra(lambda c, k, zz: np.full((len(zz), len(k)), 7.0), given, [100.0], z, bins))
    assert 0.75 < found[1][0, 0, 0] / found[0][0, 0, 0] < 0.97
