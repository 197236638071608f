import numpy as np
import pytest
from astropy.cosmology import Flatw0waCDM, Planck18, w0waCDM

from deepfield.physics import cosmology as co


def test_einstein_de_sitter_closed_form():
    import astropy.cosmology as library

    eds = library.FlatLambdaCDM(H0=70, Om0=1.0, Tcmb0=0)
    z = np.array([0.1, 1.0, 4.0])
    comoving = 2 * 299792.458 / 70 * (1 - 1 / np.sqrt(1 + z))
    np.testing.assert_allclose(co.luminosity_distance(z, eds), comoving * (1 + z), rtol=1e-8)
    volume = 299792.458 / 70 * (1 + z) ** -1.5 * comoving**2 * (np.pi / 180) ** 2
    np.testing.assert_allclose(co.volume_element(z, eds), volume, rtol=1e-6)


def test_hubble_law_nearby():
    assert co.luminosity_distance(1e-4) == pytest.approx(299792.458 / 70 * 1e-4, rel=1e-3)
    assert co.distance_modulus(0.01, Planck18) == pytest.approx(Planck18.distmod(0.01).value)


def test_any_astropy_cosmology():
    other = w0waCDM(H0=68, Om0=0.31, Ode0=0.69, w0=-0.9, wa=0.2)
    assert co.luminosity_distance(1.0, other) == pytest.approx(other.luminosity_distance(1.0).value)
    assert co.luminosity_distance(1.0, "Planck18") == pytest.approx(Planck18.luminosity_distance(1.0).value)


def test_wrong_cosmology_is_named():
    with pytest.raises(ValueError, match="Planck18"):
        co.cosmology("Planck99")
    with pytest.raises(ValueError, match="astropy cosmology"):
        co.cosmology(0.3)


def test_distances_with_changing_dark_energy_are_those_of_astropy():
    peer = Flatw0waCDM(H0=100, Om0=0.3, w0=-0.8, wa=-0.5, Tcmb0=0)
    z = np.array([0.3, 1.0, 3.0])
    found = co.flat_distance(z, [0.3, 0.3], [-0.8, -1.0], [-0.5, 0.0]) * co.HUBBLE_DISTANCE
    assert found[0] == pytest.approx(peer.comoving_distance(z).value, rel=1e-6)
    assert found[1] == pytest.approx(co.flat_distance(z, 0.3)[0] * co.HUBBLE_DISTANCE)
