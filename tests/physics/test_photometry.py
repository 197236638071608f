"""Photometry against astropy, published numbers and an independent code."""

import astropy.units as u
import numpy as np
import pytest

from deepfield.physics import photometry as ph

MAGS = np.array([14.0, 20.0, 25.5, 31.4])


def test_flux_agrees_with_astropy():
    np.testing.assert_allclose(ph.flux(MAGS), (MAGS * u.ABmag).to_value(u.nJy), rtol=1e-12)
    np.testing.assert_allclose(ph.magnitude(ph.flux(MAGS)), MAGS, rtol=1e-14)


def test_non_detections_and_gaps():
    assert ph.flux([np.inf])[0] == 0
    assert np.isnan(ph.flux([np.nan])[0])
    mags = ph.magnitude([0.0, -3.0, np.nan])
    assert np.isposinf(mags[:2]).all() and np.isnan(mags[2])
    assert np.isnan(ph.flux_error([np.inf], [0.1])[0])


def test_errors_invert():
    errors = ph.flux_error(MAGS, 0.05)
    np.testing.assert_allclose(ph.magnitude_error(ph.flux(MAGS), errors), 0.05)


# Lupton, Gunn & Szalay as used by SDSS: softening b and the magnitude of zero flux, per band.
# (SDSS photometric flux calibration table.)
SDSS_ASINH = {
    "u": (1.4e-10, 24.63),
    "g": (0.9e-10, 25.11),
    "r": (1.2e-10, 24.80),
    "i": (1.8e-10, 24.36),
    "z": (7.4e-10, 22.83),
}


@pytest.mark.parametrize("band", SDSS_ASINH)
def test_asinh_zero_flux_magnitudes_of_sdss(band):
    b, zero = SDSS_ASINH[band]
    assert ph.asinh_magnitude(0.0, b * ph.flux(0.0)) == pytest.approx(zero, abs=0.006)


def test_asinh_limits_and_inverse():
    softening = 5.0
    bright = np.array([1e5, 1e7])
    np.testing.assert_allclose(ph.asinh_magnitude(bright, softening), ph.magnitude(bright), atol=1e-7)
    any_flux = np.array([-30.0, 0.0, 1.0, 200.0])
    np.testing.assert_allclose(
        ph.asinh_flux(ph.asinh_magnitude(any_flux, softening), softening), any_flux, atol=1e-9
    )
    step = 1e-4
    slope = (ph.asinh_magnitude(any_flux + step, softening) - ph.asinh_magnitude(any_flux - step, softening)) / (
        2 * step
    )
    np.testing.assert_allclose(ph.asinh_magnitude_error(any_flux, 1.0, softening), -slope, rtol=1e-6)
    assert ph.asinh_magnitude_error(0.0, 1.0, ph.best_softening(1.0)) == pytest.approx(
        0.52, abs=0.005
    )  # Lupton+ 1999


def test_extinction_known_and_unknown():
    assert ph.extinction("U", 1.0, survey="sdss") == 4.239
    with pytest.raises(ValueError, match="choose from sdss, lsst"):
        ph.extinction("r", 0.1, survey="hubble")
    with pytest.raises(ValueError, match="which has u, g, r, i, z"):
        ph.extinction("y", 0.1, survey="sdss")


def test_extinction_falls_with_wavelength():
    from deepfield.physics.filters import survey_filters

    for survey in ("sdss", "lsst", "des", "hsc", "panstarrs", "cfht", "euclid", "landolt"):
        bands = list(ph.EXTINCTION[survey])
        pivots = np.array([f.pivot for f in survey_filters(survey, bands)])
        values = np.array([ph.EXTINCTION[survey][b] for b in bands])
        order = np.argsort(pivots)
        assert (np.diff(values[order]) < 0).all(), survey


# Noise over signal from photerr 1.6.0, an independent code (LsstErrorModelV1, whose defaults are those of
# Ivezic et al. 2019): `LsstErrorModelV1(nYrObs=years)._get_nsr_from_mags(...)`, bands u g r i z y.
PHOTERR = {
    (1, 22.0): [0.019957, 0.0077855, 0.0075273, 0.0097617, 0.0158284, 0.0347253],
    (1, 26.0): [0.6936406, 0.2174376, 0.2150186, 0.3203617, 0.5787323, 1.3458438],
    (10, 18.0): [0.0046383, 0.0046186, 0.0046177, 0.0046188, 0.0046222, 0.0046352],
    (10, 24.0): [0.0356342, 0.0120491, 0.0118642, 0.0168548, 0.0295351, 0.0677771],
    (10, 28.0): [1.3803388, 0.4322726, 0.427955, 0.6381661, 1.1536331, 2.6842372],
}


@pytest.mark.parametrize(("years", "mag"), PHOTERR)
def test_lsst_noise_agrees_with_photerr(years, mag):
    noise = ph.lsst_noise(years)
    ours = [float(noise.magnitude_error(band, mag)) / ph.POGSON for band in noise.bands]
    np.testing.assert_allclose(
        ours, PHOTERR[years, mag], rtol=2.5e-3
    )  # photerr turns the systematic error 0.005 mag into 10^0.002 - 1


def test_lsst_depths_of_the_paper():
    # Ivezic et al. (2019) Table 2: m5 at zenith for one visit, and "idealised depth for stacked images".
    single = {"u": 23.78, "g": 24.81, "r": 24.35, "i": 23.92, "z": 23.34, "y": 22.45}
    coadd = {"u": 25.9, "g": 27.3, "r": 27.2, "i": 26.8, "z": 26.1, "y": 25.2}
    for band in single:
        assert ph.lsst_depth(band, years=None, airmass=1.0) == pytest.approx(single[band], abs=0.02)
        assert ph.lsst_depth(band, airmass=1.0) == pytest.approx(coadd[band], abs=0.2)


def test_noise_model_is_what_the_equations_say():
    noise = ph.NoiseModel({"r": 24.0}, systematic=0.0)
    x = 10 ** (0.4 * (22.5 - 24.0))
    expected = np.sqrt((0.04 - 0.039) * x + 0.039 * x**2)
    assert noise.magnitude_error("r", 22.5) / ph.POGSON == pytest.approx(expected)
    empty = noise.flux_error("r", [0.0, -5.0])
    assert empty[0] == empty[1] == pytest.approx(np.sqrt(0.039) * ph.flux(24.0))
    assert ph.flux(noise.limit("r", 1.0)) == pytest.approx(empty[0])
    with pytest.raises(ValueError, match="knows r"):
        noise.flux_error("g", 1.0)
    with pytest.raises(ValueError, match="positive"):
        ph.lsst_noise(0)
