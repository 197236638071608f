import numpy as np
import pytest
from astropy import units as u
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data import photometry as ph


def test_flux_agrees_with_astropy():
    mags = np.array([14.0, 22.5, 27.3])
    flux, _ = ph.photometry(Table({"mag_r": mags}), ["r"])
    # 3631 Jy is a conventional rounding of the AB zero point: 2e-4 in flux
    np.testing.assert_allclose(flux[:, 0], (mags * u.ABmag).to_value(u.nJy), rtol=3e-4)


def test_error_of_a_small_magnitude_error_is_the_derivative():
    table = Table({"mag_r": [20.0], "mag_err_r": [1e-4]})
    flux, error = ph.photometry(table, ["r"])
    shifted, _ = ph.photometry(Table({"mag_r": [20.0 - 1e-4]}), ["r"])
    assert shifted[0, 0] - flux[0, 0] == pytest.approx(error[0, 0], rel=1e-3)


def test_noise_dominated_magnitudes_give_back_the_noise():
    """Magnitudes with errors of many mag, made from fluxes as pipelines do, return flux and noise."""
    true_flux, noise = np.array([3.0, 30.0, 3000.0]), 100.0
    mags, errors = 31.4 - 2.5 * np.log10(true_flux), 2.5 / np.log(10) * noise / true_flux
    assert errors[0] > 30
    flux, flux_err = ph.photometry(Table({"mag_u": mags, "mag_err_u": errors}), ["u"])
    np.testing.assert_allclose(flux[:, 0], true_flux)
    np.testing.assert_allclose(flux_err[:, 0], noise)


def test_non_detections_take_their_limit_from_column_then_meta_then_nowhere():
    table = Table({"mag_r": [np.inf, np.inf, np.nan], "mag_lim_r": [28.9, np.nan, 28.9]})
    _, error = ph.photometry(table, ["r"])
    np.testing.assert_allclose(error[:, 0], [10.0, np.nan, np.nan])
    table.meta["mag_lim"] = {"r": 31.4}
    flux, error = ph.photometry(table, ["r"])
    np.testing.assert_allclose(error[:, 0], [10.0, 1.0, np.nan])
    np.testing.assert_array_equal(flux[:, 0], [0, 0, np.nan])


def test_fluxes_pass_and_beat_magnitudes():
    table = Table({"flux_r": [5.0, -2.0, np.nan], "flux_err_r": [1.0, 1.0, 1.0], "mag_r": [20.0, 20.0, 20.0]})
    flux, error = ph.photometry(table, ["r"])
    np.testing.assert_array_equal(flux[:, 0], [5.0, -2.0, np.nan])
    np.testing.assert_array_equal(error[:, 0], [1.0, 1.0, np.nan])


def test_order_of_bands_is_the_order_asked_for():
    table = Table({"mag_g": [31.4], "mag_r": [28.9]})
    flux, error = ph.photometry(table, ["r", "g"])
    np.testing.assert_allclose(flux, [[10.0, 1.0]])
    assert np.isnan(error).all() and flux.flags.c_contiguous


def test_absent_band_is_named():
    with pytest.raises(TableError, match="no photometry in band 'z': the table has the bands g"):
        ph.photometry(Table({"mag_g": [20.0]}), ["g", "z"])


@pytest.mark.parametrize("value", [99.0, 99.9, 999.0, np.inf, 99.5])
def test_non_detections(value):
    assert ph.clean_magnitudes(np.array([value]), None)[0][0] == np.inf


@pytest.mark.parametrize("value", [-99.0, -99.9, -999.0, -9999.0, 1e20, 1e30, 9999.0, np.nan, -np.inf])
def test_not_observed(value):
    mags, _, _, absurd = ph.clean_magnitudes(np.array([value]), None)
    assert np.isnan(mags[0]) and absurd == 0


@pytest.mark.parametrize("value", [60.0, -60.0, 89.0])
def test_absurd_magnitudes_are_counted(value):
    mags, _, _, absurd = ph.clean_magnitudes(np.array([20.0, value]), None)
    assert absurd == 1 and mags[0] == 20.0 and np.isnan(mags[1])


def test_error_of_a_non_detection_may_be_its_limit():
    mags, errors = np.array([99.0, 99.0, 99.0, 25.0, 33.0]), np.array([26.6, 99.0, 0.3, 0.2, 26.6])
    _, cleaned, limits, _ = ph.clean_magnitudes(mags, errors)
    np.testing.assert_array_equal(limits, [26.6, np.nan, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(cleaned, [np.nan, np.nan, np.nan, 0.2, 26.6])


def test_large_errors_are_errors():
    np.testing.assert_array_equal(
        ph.clean_errors(np.array([9311.788, 99.0, 999.0, 98.7, np.inf, -1.0, 0.0])),
        [9311.788, np.nan, np.nan, 98.7, np.nan, np.nan, np.nan],
    )


def test_inverse_variance_zero_is_not_observed():
    flux, error, _ = ph.clean_fluxes(
        np.array([2.0, 3.0]), np.array([4.0, 0.0]), "nanomaggies", inverse_variance=True
    )
    np.testing.assert_allclose(flux, [2 * 3630.78, np.nan], rtol=1e-5)
    np.testing.assert_allclose(error, [0.5 * 3630.78, np.nan], rtol=1e-5)


def test_a_flux_of_minus_99_with_an_error_is_a_flux():
    flux, _, _ = ph.clean_fluxes(np.array([-99.0, -99.0]), np.array([20.0, -99.0]))
    np.testing.assert_array_equal(flux, [-99.0, np.nan])


def test_units_agree_with_their_definitions():
    assert ph.unit_factor("nanomaggies") == pytest.approx(3630.78, rel=1e-5)
    assert ph.unit_factor("zp:22.5") == pytest.approx(ph.unit_factor("nmgy"))
    assert ph.unit_factor("Jy") == 1e9
    with pytest.raises(TableError, match="unknown flux unit 'counts': use 'mag', 'zp:30' or one of nJy, uJy"):
        ph.unit_factor("counts")
    with pytest.raises(TableError, match="the zero point in the unit 'zp:x' is not a number"):
        ph.unit_factor("zp:x")


@settings(max_examples=100, deadline=None)
@given(
    arrays(np.float64, 8, elements=st.floats(width=64)),
    arrays(np.float64, 8, elements=st.floats(width=64)),
)
def test_whatever_stands_in_the_file_becomes_a_flux_or_nan(mags, errors):
    before = mags.copy()
    clean, errs, limits, _ = ph.clean_magnitudes(mags, errors)
    np.testing.assert_array_equal(mags, before)
    assert np.all(np.isnan(clean) | np.isposinf(clean) | (np.abs(clean) < 50))
    assert errs is not None and np.all(np.isnan(errs) | ((errs > 0) & np.isfinite(errs)))
    table = Table({"mag_r": clean, "mag_err_r": errs})
    if limits is not None:
        table["mag_lim_r"] = limits
    flux, flux_err = ph.photometry(table, ["r"])
    assert np.array_equal(np.isnan(flux[:, 0]), np.isnan(clean))
    assert not np.isinf(flux).any()
    assert np.all(np.isnan(flux_err) | (flux_err >= 0))
