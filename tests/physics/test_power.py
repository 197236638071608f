"""Closed forms against CAMB and against integrals that can be done by hand."""

from pathlib import Path

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.physics.power import growth, neutrino_growth, smooth_transfer, sound_horizon, transfer, variance

CAMB = Path(__file__).parents[1] / "emulators" / "camb.npz"


@pytest.fixture(scope="module")
def camb():
    with np.load(CAMB) as file:
        return {name: file[name] for name in file.files}


def test_transfer_functions_are_a_few_per_cent_from_camb(camb):
    k = camb["k"]
    for row, truth in zip(camb["theta"], camb["linear"][:, 0]):
        share, baryons, h, tilt, sigma_8 = row
        m, b = share * h**2, baryons * h**2
        fine = np.geomspace(1e-4, 20, 2000)
        for formula, most in ((transfer, 0.15), (smooth_transfer, 0.6)):
            level = sigma_8**2 / variance(fine, fine**tilt * formula(fine * h, m, b) ** 2)
            error = level * k**tilt * formula(k * h, m, b) ** 2 / truth - 1
            assert np.median(np.abs(error)) < 0.3 * most and np.quantile(np.abs(error), 0.9) < most


def test_sound_horizon_agrees_with_camb(camb):
    share, baryons, h = camb["theta"].T[:3]
    assert sound_horizon(share * h**2, baryons * h**2) == pytest.approx(camb["horizon"], rel=0.06)


def test_sigma_8_of_camb(camb):
    for row, truth in zip(camb["theta"], camb["linear"][:, 0]):
        fine = np.geomspace(1e-4, 10, 3000)
        spectrum = np.exp(np.interp(np.log(fine), np.log(camb["k"]), np.log(truth)))
        assert np.sqrt(variance(fine, spectrum)) == pytest.approx(row[4], rel=4e-3)


def test_growth_of_known_universes():
    z = np.array([0.0, 1.0, 3.0])
    assert growth(z, 1.0)[0] == pytest.approx(1 / (1 + z), rel=1e-5)
    # Flat LCDM has a closed form, H times an integral (Heath 1977).
    m = 0.3
    a = 1 / (1 + z)

    def closed(one):
        x = np.linspace(1e-5, one, 200_001)
        rate = np.sqrt(m / x**3 + 1 - m)
        return np.sqrt(m / one**3 + 1 - m) * np.trapezoid(1 / (x * rate) ** 3, x)

    exact = np.array([closed(one) for one in a])
    assert growth(z, m)[0] == pytest.approx(exact / exact[0], rel=1e-4)
    assert growth([1.0], 0.3, -0.8)[0] > growth([1.0], 0.3)[0]
    with pytest.raises(DeepfieldError, match="redshifts of 0 to 900"):
        growth([-1.0], 0.3)


def test_variance_of_a_power_law():
    """P = 2 pi^2 / k^2 gives an integral of W^2 over k: 3 pi / (5 R)."""
    k = np.geomspace(1e-5, 1e4, 40_000)
    assert variance(k, 2 * np.pi**2 / k**2, 8.0) == pytest.approx(3 * np.pi / (5 * 8), rel=2e-3)
    assert variance(k, np.ones((3, len(k))), [1.0, 2.0]).shape == (3, 2)


def test_neutrinos_slow_small_scales_and_leave_large_ones():
    growth = np.array([0.78, 0.2])
    cold, whole = neutrino_growth([1e-5, 10.0], np.full(2, 0.14), np.full(2, 0.02), growth)
    assert whole[:, 0] == pytest.approx(1, abs=1e-3) and cold[:, 0] == pytest.approx(1, abs=1e-3)
    # On small scales P falls by some 8 f_nu (Lesgourgues & Pastor 2006), the more the later.
    assert whole[0, 1] ** 2 == pytest.approx(1 - 8 * 0.02, abs=0.08)
    assert whole[0, 1] < whole[1, 1]
    assert whole[:, 1] == pytest.approx(0.98 * cold[:, 1], rel=1e-3)
    none = neutrino_growth([0.1], np.array([0.14]), np.zeros(1), growth[:1])
    assert (none[0] == 1).all() and (none[1] == 1).all()
