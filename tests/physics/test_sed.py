"""Spectra and synthetic photometry against closed forms, published values and speclite."""

import sys

import numpy as np
import pytest

from deepfield.core.errors import MissingExtraError
from deepfield.physics import sed
from deepfield.physics.filters import (
    LIGHT,
    SURVEY_FILTERS,
    Filter,
    ab_flux,
    guess_survey,
    load_filter,
    survey_filters,
)
from deepfield.physics.learning import Sample, learn_corrections
from deepfield.physics.templates import (
    Templates,
    analytic_templates,
    corrected,
    galaxy_templates,
    quasar_templates,
    wavelength_grid,
)


@pytest.mark.parametrize("survey", sorted(SURVEY_FILTERS))
def test_photometry_agrees_with_speclite(survey):
    units = pytest.importorskip("astropy.units")
    library = pytest.importorskip("speclite.filters")
    templates = galaxy_templates()
    # the Bessell curves have two dozen points, on which speclite integrates its AB reference
    tolerance = 2e-3 if survey == "landolt" else 1e-3
    unit = units.erg / units.s / units.cm**2 / units.AA
    for z in (0.0, 0.7):
        for curve in survey_filters(survey):
            for row in (0, 7):
                spectrum, wave = templates.flux[row], templates.wavelength * (1 + z)
                other = library.load_filter(curve.name)
                padded = other.pad_spectrum(spectrum * 1e-17 * unit, wave * units.AA)
                theirs = other.get_ab_magnitude(*padded)
                ours = -2.5 * np.log10(ab_flux(templates.wavelength, spectrum * 1e-17, [curve], 1 + z)[0])
                assert ours == pytest.approx(theirs, abs=tolerance), (curve.name, z)


def test_flat_spectrum_has_its_own_magnitude():
    wave = wavelength_grid()
    flat = 10 ** (-0.4 * (48.6 + 20.0)) * LIGHT / wave**2
    fluxes = ab_flux(wave, flat, survey_filters("lsst"))
    np.testing.assert_allclose(-2.5 * np.log10(fluxes), 20.0, atol=1e-3)


def test_narrow_box_returns_the_flux_at_its_centre():
    wave = np.linspace(3000, 9000, 6001)
    box = Filter("box", np.array([4999.5, 4999.6, 5000.4, 5000.5]), np.array([0.0, 1.0, 1.0, 0.0]))
    spectrum = (wave / 5000) ** -1.7
    expected = 5000.0**2 / LIGHT / 10 ** (-0.4 * 48.6)
    assert ab_flux(wave, spectrum, [box])[0] == pytest.approx(expected, rel=1e-5)


def test_filters_without_speclite_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "speclite.filters", None)
    load_filter.cache_clear()
    with pytest.raises(MissingExtraError, match=r"'speclite.filters', .* pip install 'deepfield\[photoz\]'"):
        load_filter("sdss2010-r")


def test_survey_names():
    assert guess_survey(("g", "r")) == "sdss"
    assert guess_survey(("g", "r", "y")) == "lsst"
    assert guess_survey(tuple("ubvgrizjk")) == "zcosmos"
    assert guess_survey(("vis", "y", "j", "h")) == "euclid"
    with pytest.raises(ValueError, match="survey="):
        guess_survey(("q",))
    with pytest.raises(ValueError, match="no band y"):
        survey_filters("sdss", ("g", "y"))
    with pytest.raises(ValueError, match="choose from"):
        survey_filters("kids")
    with pytest.raises(ValueError, match="no-such"):
        load_filter("no-such")


def test_calzetti_published_values():
    # Calzetti et al. (2000): R_V = 4.05 at V; both branches meet near 0.63 micron; k(1500) about 10.3
    assert sed.calzetti(5500.0) == pytest.approx(4.05, abs=0.02)
    assert sed.calzetti(6299.9) == pytest.approx(sed.calzetti(6300.1), abs=0.04)
    assert sed.calzetti(1500.0) == pytest.approx(10.3, abs=0.1)
    assert sed.calzetti(1199.9) == pytest.approx(sed.calzetti(1200.1), abs=0.01)
    blue, visual = sed.calzetti([4400.0, 5500.0])
    assert blue - visual == pytest.approx(1.0, abs=0.06)  # E(B-V) reddens B-V by itself


def test_igm_published_values():
    # Madau (1995): tau_alpha = 0.0036 (1+z)^3.46; mean depression D_A of about 0.22 at 3 and 0.6 at z = 4.5
    def depression(z):
        rest = np.linspace(1050, 1170, 200)
        return 1 - sed.igm_transmission(rest * (1 + z), z).mean()

    assert 0.2 < depression(3.0) < 0.35
    assert 0.5 < depression(4.5) < 0.75
    line = 1200.0 * 4 / 1215.67
    assert sed.igm_transmission(1200.0 * 4, 3.0) == pytest.approx(np.exp(-0.0036 * line**3.46))
    wave = np.linspace(2000, 9000, 500)
    assert (sed.igm_transmission(wave, 0.0) == 1).all()
    assert sed.igm_transmission(850.0 * 5.0, 4.0) < 0.05


def test_old_stars_are_redder_than_young():
    wave = wavelength_grid()
    sdss = survey_filters("sdss")
    colours = {}
    for name, spectrum in (("old", sed.old_population(wave)), ("young", sed.young_population(wave))):
        mags = -2.5 * np.log10(ab_flux(wave, spectrum, sdss))
        colours[name] = mags[1] - mags[2]
    assert 0.65 < colours["old"] < 0.9  # g-r of ellipticals at z = 0: Fukugita et al. (1995) give 0.77
    assert -0.4 < colours["young"] < 0.1


def test_quasar_equivalent_width_and_slope():
    wave = np.arange(1000.0, 8000.0, 0.5)
    spectrum = sed.quasar(wave)
    line = (wave > 1450) & (wave < 1660)
    edge = np.interp(wave[line], [1450, 1660], np.interp([1450, 1660], wave, spectrum))
    width = np.trapezoid(spectrum[line] / edge - 1, wave[line])
    assert width == pytest.approx(23.8, abs=3)  # CIV of Vanden Berk et al. (2001)
    points = np.interp([1350.0, 4200.0], wave, spectrum)
    assert np.log(points[1] / points[0]) / np.log(4200 / 1350) == pytest.approx(
        -1.54, abs=0.1
    )  # their alpha_lambda


# Laboratory wavelengths in vacuum (NIST, as in the line list of SDSS): O VI, Ly a, O I, Si IV + O IV], C IV,
# C III], Mg II, [O II], H d, H g, H b, [O III], [O III], H a.
VACUUM = (
    1033.82, 1215.67, 1305.53, 1399.8, 1549.48, 1908.734, 2799.117,
    3728.48, 4102.89, 4341.68, 4862.68, 4960.295, 5008.24, 6564.61,
)  # fmt: skip


def test_quasar_lines_lie_at_laboratory_wavelengths():
    # Composites shift broad lines by up to a thousand km/s (Vanden Berk et al. 2001, Table 4).
    centres = np.array([line[0] for line in sed._QUASAR_LINES])
    assert (np.abs(centres / VACUUM - 1) * 299792 < 1000).all()


def test_nebular_lines_obey_atomic_physics():
    found = {round(centre): np.array(fluxes) for centre, *fluxes in sed._NEBULAR}
    # Transition probabilities alone: [O III] 2.98 (Storey & Zeippen 2000), [N II] 3.05, [S III] 2.44.
    for strong, weak, ratio in ((5007, 4959, 2.98), (6584, 6548, 3.05), (9531, 9069, 2.44)):
        np.testing.assert_allclose(found[strong] / found[weak], ratio, rtol=0.15)
    # Case B at 10,000 K: H a : H b : H g : H d = 2.863 : 1 : 0.468 : 0.259 (Osterbrock & Ferland 2006, Table 4.4).
    balmer = np.array([found[k][1] for k in (6563, 4861, 4340, 4102)])
    np.testing.assert_allclose(balmer / balmer[0], np.array([2.863, 1, 0.468, 0.259]) / 2.863, atol=0.006)


def test_templates_blend_and_redden():
    base = analytic_templates()
    fine = base.refine(4)
    assert len(fine) == 29 and fine.names[4] == base.names[1]
    np.testing.assert_allclose(fine.flux[4], base.flux[1])
    np.testing.assert_allclose(fine.flux[2], 0.5 * (base.flux[0] + base.flux[1]))
    red = base.redden((0.0, 0.3))
    assert len(red) == 16
    np.testing.assert_allclose(red.flux[:8], base.flux)
    assert len(base.join(quasar_templates())) == 13
    with pytest.raises(ValueError, match="shape"):
        Templates(("a",), np.arange(3.0), np.ones((2, 3)))
    with pytest.raises(ValueError, match="ascend"):
        Templates(("a",), np.array([1.0, 1.0]), np.ones((1, 2)))


def test_galaxy_sequence_is_ordered_in_colour():
    photometry = galaxy_templates().photometry(survey_filters("sdss"), [0.0])[0]
    colour = -2.5 * np.log10(photometry[:, 0] / photometry[:, 2])
    assert (np.diff(colour) < 0).all()
    assert 2.3 < colour[0] < 3.0  # u-r of ellipticals (Fukugita et al. 1995: 2.6 to 2.8)


def test_elliptical_track_has_the_break_where_sdss_sees_it():
    # Eisenstein et al. (2001): luminous red galaxies have g-r of 1.6 to 1.9 near z = 0.4, when the break leaves g
    z = np.array([0.1, 0.25, 0.4, 0.55])
    photometry = galaxy_templates().photometry(survey_filters("sdss"), z)[:, 0]
    g_r = -2.5 * np.log10(photometry[:, 1] / photometry[:, 2])
    r_i = -2.5 * np.log10(photometry[:, 2] / photometry[:, 3])
    assert g_r[0] == pytest.approx(0.95, abs=0.1)
    assert 1.5 < g_r[2] < 1.95
    assert r_i[3] - r_i[2] > 0.2


def test_u_band_drops_out_at_high_redshift():
    photometry = galaxy_templates().photometry(survey_filters("lsst"), [2.0, 3.5])[:, 7]
    u_g = -2.5 * np.log10(photometry[:, 0] / photometry[:, 1])
    assert u_g[0] < 0.6 and u_g[1] > 1.5


def test_learning_recovers_a_known_correction():
    wave = np.exp(np.arange(np.log(1500.0), np.log(15000.0), 0.003))
    base = analytic_templates(wave)
    few = Templates(("E", "Sc"), wave, base.flux[[0, 4]])
    knots = np.array([2500.0, 3500.0, 4500.0, 6000.0, 8000.0])
    truth = np.array([[0.3, 0.2, 0.0, -0.1, -0.2], [-0.2, -0.1, 0.0, 0.1, 0.1]])
    filters = survey_filters("sdss")
    rng = np.random.default_rng(0)
    z = np.round(rng.uniform(0.02, 0.5, 1500), 2)
    kind = rng.integers(0, 2, z.size)
    grid = np.unique(z)
    model = corrected(few, knots, truth).photometry(filters, grid)[np.searchsorted(grid, z), kind]
    noisy = model * (1 + 0.02 * rng.normal(size=model.shape))
    learnt, offsets = learn_corrections(
        few, [Sample(filters, z, noisy, 0.02 * model)], knots, smoothness=0.5, offsets=False, iterations=8
    )
    difference = (learnt - truth) - (learnt - truth).mean(1, keepdims=True)
    assert np.abs(difference).max() < 0.05
    assert (offsets[0] == 0).all()
