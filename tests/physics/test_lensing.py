import astropy.units as u
import numpy as np
import pytest
from astropy import constants as c
from astropy.cosmology import FlatLambdaCDM, LambdaCDM, Planck18
from scipy.integrate import quad

from deepfield.core.errors import DeepfieldError
from deepfield.physics import lensing as le


def test_distances_in_einstein_de_sitter_have_their_closed_form():
    eds = FlatLambdaCDM(H0=70, Om0=1.0, Tcmb0=0)
    near, far = np.array([0.2, 0.5, 1.0]), np.array([0.7, 2.0, 5.0])
    hubble = 2 * 299792.458 / 70
    d_lens, d_source, between = le.distances(near, far, eds)
    np.testing.assert_allclose(d_lens, hubble * (1 - 1 / np.sqrt(1 + near)) / (1 + near), rtol=1e-8)
    np.testing.assert_allclose(d_source, hubble * (1 - 1 / np.sqrt(1 + far)) / (1 + far), rtol=1e-8)
    np.testing.assert_allclose(
        between, hubble * (1 / np.sqrt(1 + near) - 1 / np.sqrt(1 + far)) / (1 + far), rtol=1e-8
    )


def test_critical_density_in_si_units_with_curvature():
    curved = LambdaCDM(H0=65, Om0=0.4, Ode0=0.5)
    d_lens, d_source = (curved.angular_diameter_distance(z) for z in (0.4, 1.5))
    # Hogg (1999), eq. 19, for an open universe.
    m1, m2 = (curved.comoving_transverse_distance(z) for z in (0.4, 1.5))
    radius = curved.hubble_distance
    bend = [np.sqrt(1 + curved.Ok0 * (m / radius) ** 2) for m in (m1, m2)]
    between = (m2 * bend[0] - m1 * bend[1]) / 2.5
    sigma = c.c**2 * d_source / (4 * np.pi * c.G * d_lens * between)
    assert le.critical_density(0.4, 1.5, curved) == pytest.approx(sigma.to_value("solMass / Mpc2"), rel=1e-9)


def test_point_mass_bends_light_by_four_gm_over_c_squared():
    # At its Einstein ring a ray is bent by 4GM / (c^2 theta_E D_l), and the lens equation with a source behind the
    # mass says theta_E D_s = D_ls times that.
    mass = 3e11 * u.solMass
    theta = le.einstein_radius(mass, 0.3, 1.2, Planck18) * u.arcsec
    d_lens, d_source, between = (d * u.Mpc for d in le.distances(0.3, 1.2, Planck18))
    bent = 4 * c.G * mass / (c.c**2 * theta.to_value("rad") * d_lens)
    assert theta.to_value("rad") == pytest.approx(float(bent * between / d_source), rel=1e-12)


def test_masses_and_dispersions_come_back():
    for theta in (0.4, 1.7):
        mass = le.einstein_mass(theta, 0.5, 2.0)
        assert le.einstein_radius(mass, 0.5, 2.0) == pytest.approx(theta, rel=1e-14)
        sigma = le.velocity_dispersion(theta, 0.5, 2.0)
        assert le.isothermal_radius(sigma, 0.5, 2.0) == pytest.approx(theta, rel=1e-14)
        # An isothermal sphere has the mass pi sigma^2 R / G in a cylinder of radius R.
        radius = le.distances(0.5, 2.0)[0] * theta * le.ARCSEC * u.Mpc
        cylinder = (np.pi * (sigma * u.km / u.s) ** 2 * radius / c.G).to_value("solMass")
        assert mass == pytest.approx(cylinder, rel=1e-9)


def test_halo_holds_its_mass_within_r200():
    mass, concentration = 2e13, 7.0
    kappa_s, r_s = le.nfw_halo(mass, concentration, 0.4, 2.0)
    d_lens, _, _ = le.distances(0.4, 2.0)
    scale = float(r_s) * le.ARCSEC * d_lens
    rho_s = float(kappa_s * le.critical_density(0.4, 2.0) / scale)
    shells = quad(lambda t: 4 * np.pi * (t * scale) ** 2 * rho_s / (t * (1 + t) ** 2) * scale, 0, concentration)[0]
    assert shells == pytest.approx(mass, rel=1e-9)
    from deepfield.physics.cosmology import cosmology

    mean = mass / (4 / 3 * np.pi * (concentration * scale) ** 3)
    assert mean == pytest.approx(200 * cosmology().critical_density(0.4).to_value("solMass / Mpc3"), rel=1e-9)


def test_delay_of_a_known_lens():
    # Two images of an isothermal sphere, |theta| = theta_E +- beta: delta t = D_dt / c 2 theta_E beta; and D_dt of
    # a lens at 0.5 with a source at 2 in flat LCDM (70, 0.3) is (1 + z) D_l D_s / D_ls.
    d_lens, d_source, between = le.distances(0.5, 2.0)
    days = (1.5 * d_lens * d_source / between * u.Mpc / c.c).to_value("d") * le.ARCSEC**2
    assert le.delay_unit(0.5, 2.0) == pytest.approx(days, rel=1e-12)
    assert le.time_delay_distance(0.5, 2.0) == pytest.approx(1.5 * d_lens * d_source / between)


def test_quantities_of_any_fitting_unit():
    plain = le.einstein_radius(1e12, 0.5, 2.0)
    assert le.einstein_radius(1e12 * u.solMass.to("kg") * u.kg, 0.5, 2.0) == pytest.approx(plain)
    assert le.einstein_mass((plain * u.arcsec).to("rad"), 0.5, 2.0) == pytest.approx(1e12)
    assert le.isothermal_radius(250000 * u.m / u.s, 0.5, 2.0) == le.isothermal_radius(250.0, 0.5, 2.0)
    with pytest.raises(DeepfieldError, match="a number in arcsec is needed, not"):
        le.einstein_mass(3 * u.kg, 0.5, 2.0)
    with pytest.raises(DeepfieldError, match="a number in solMass is needed, not 'heavy'"):
        le.einstein_radius("heavy", 0.5, 2.0)


@pytest.mark.parametrize("z_lens, z_source", [(1.0, 0.5), (0.5, 0.5), ([0.2, 0.9], 0.6)])
def test_source_in_front_of_the_lens(z_lens, z_source):
    with pytest.raises(DeepfieldError, match="the source must lie behind the lens: z_source > z_lens is needed"):
        le.critical_density(z_lens, z_source)


def test_nonsense_is_refused():
    for z in ((0.0, 1.0), (-0.1, 1.0), (np.nan, 1.0), (0.5, np.inf)):
        with pytest.raises(DeepfieldError, match="redshifts are positive"):
            le.distances(*z)
    with pytest.raises(DeepfieldError, match="theta_e is finite and not negative, got -1"):
        le.einstein_mass(-1.0, 0.5, 2.0)
    with pytest.raises(DeepfieldError, match="mass is finite and not negative"):
        le.nfw_halo(np.nan, 5.0, 0.5, 2.0)
