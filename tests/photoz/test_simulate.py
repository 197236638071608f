"""Simulated catalogues: determinism, selection, noise, and agreement with published counts and redshifts."""

import time

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.data.photometry import photometry
from deepfield.photoz.simulate import degrade, simulate
from deepfield.physics import photometry as ph
from deepfield.physics.filters import survey_filters
from deepfield.physics.populations import BLUE, RED, Sampler, colour_table, double_power_law, schechter


@pytest.fixture(scope="module")
def lsst():
    return simulate(20_000, survey="lsst", seed=0)


@pytest.fixture(scope="module")
def sdss():
    return simulate(20_000, survey="sdss", seed=0)


def test_same_seed_same_table(sdss):
    again = simulate(20_000, survey="sdss", seed=0)
    assert again.digest() == sdss.digest()
    assert simulate(20_000, survey="sdss", seed=1).digest() != sdss.digest()


def test_columns_and_selection(lsst):
    assert len(lsst) == 20_000
    assert set(lsst.colnames) >= {f"mag_{b}" for b in "ugrizy"} | {f"mag_err_{b}" for b in "ugrizy"}
    assert set(lsst.colnames) >= {"id", "z_spec", "class", "sed_type"}
    assert lsst.column("mag_i").max() < 25.3
    assert set(lsst["class"]) == {"GALAXY"}
    assert lsst.column("z_spec").min() > 0 and lsst.column("z_spec").max() <= 4.0


def test_non_detections_follow_the_contract(lsst):
    u = lsst.column("mag_u")
    hidden = np.isposinf(u)
    assert 0.01 < hidden.mean() < 0.3
    assert np.isnan(lsst.column("mag_err_u")[hidden]).all()
    assert not np.isnan(u).any()
    flux, error = photometry(lsst, ("u",))
    assert (flux[hidden, 0] == 0).all()
    limit = ph.flux(ph.lsst_noise().limit("u"))
    np.testing.assert_allclose(error[hidden, 0], limit)


def test_noise_has_the_quoted_size():
    quiet = {b: 40.0 for b in "ugrizy"}
    truth = simulate(4000, survey="lsst", seed=3, mag_limit=24.0, noise=ph.NoiseModel(quiet, systematic=1e-6))
    noisy = degrade(truth, survey="lsst", years=1, seed=5)
    f0, _ = photometry(truth, ("g", "r", "i", "z"))
    f1, e1 = photometry(noisy, ("g", "r", "i", "z"))
    seen = f1 > 0
    pull = ((f1 - f0) / e1)[seen]
    assert abs(pull.mean()) < 0.03
    assert np.median(np.abs(pull)) * 1.4826 == pytest.approx(1.0, abs=0.03)


def test_degrade_dims_and_keeps_colours(sdss):
    bright = sdss[:3000]
    same = degrade(bright, survey="sdss", seed=0)
    for band in "gri":  # its own noise is already the target's
        assert np.median(np.abs(same.column(f"mag_{band}") - bright.column(f"mag_{band}"))) < 0.003
    dim = degrade(bright, survey="lsst", dim=5.0, seed=0)
    shift = dim.column("mag_r") - bright.column("mag_r")
    assert np.median(shift) == pytest.approx(5.0, abs=0.01)
    assert dim.colnames.count("mag_r") == 1 and len(dim) == 3000
    with pytest.raises(DeepfieldError, match="either survey"):
        degrade(bright, seed=0)
    with pytest.raises(DeepfieldError, match="choose from"):
        degrade(bright, survey="kids", seed=0)
    with pytest.raises(DeepfieldError, match="table has"):
        degrade(bright, depth={"vis": 25.0}, seed=0)
    with pytest.raises(DeepfieldError, match="dim"):
        degrade(bright, survey="sdss", dim=np.zeros(7), seed=0)


def test_degrade_forgets_the_old_limits():
    bright = simulate(200, survey="lsst", seed=4)
    bright["mag_lim_u"] = np.full(200, 27.0)
    shallow = degrade(bright, depth={"u": 22.0}, seed=0)
    hidden = np.isposinf(shallow.column("mag_u"))
    assert hidden.any()
    limit = ph.flux(ph.NoiseModel({"u": 22.0}).limit("u"))
    np.testing.assert_allclose(photometry(shallow, ("u",))[1][hidden, 0], limit)


def test_missing_bands_stay_missing(sdss):
    gappy = sdss[:100].copy()
    gappy["mag_u"][:10] = np.nan
    assert np.isnan(degrade(gappy, survey="sdss", seed=0).column("mag_u")[:10]).all()


def test_gold_sample_redshifts(lsst):
    # LSST Science Book (2009), eq. 3.8: p(z) ~ z^2 exp(-z/z0), z0 = 0.0417 i - 0.744: median 2.674 z0 = 0.83
    assert np.median(lsst.column("z_spec")) == pytest.approx(0.83, abs=0.12)


def test_main_galaxy_sample_redshifts_and_counts(sdss):
    # Strauss et al. (2002): median redshift 0.104 at r < 17.77, 92 galaxies per square degree
    assert np.median(sdss.column("z_spec")) == pytest.approx(0.104, abs=0.02)
    filters = survey_filters("sdss")
    count = sum(Sampler(p, filters, 2, 17.77, 0.6, None).count for p in (RED, BLUE))
    assert count == pytest.approx(92, rel=0.35)


def test_gold_sample_counts():
    # LSST Science Book, eq. 3.7: 46 * 10^(0.31 (i - 25)) galaxies per square arcminute to i
    filters = survey_filters("lsst")
    count = sum(Sampler(p, filters, 3, 25.3, 4.0, None).count for p in (RED, BLUE)) / 3600
    assert count == pytest.approx(46 * 10 ** (0.31 * 0.3), rel=0.4)


def test_colours_of_the_main_galaxy_sample(sdss):
    # medians of the SDSS main sample (r < 17.77) between z = 0.06 and 0.13: 1.77, 0.88, 0.40, 0.30
    chosen = (sdss.column("z_spec") > 0.06) & (sdss.column("z_spec") < 0.13)
    for blue, red, value, tolerance in (
        ("u", "g", 1.77, 0.2),
        ("g", "r", 0.88, 0.06),
        ("r", "i", 0.40, 0.04),
        ("i", "z", 0.30, 0.04),
    ):
        colour = np.median((sdss.column(f"mag_{blue}") - sdss.column(f"mag_{red}"))[chosen])
        assert colour == pytest.approx(value, abs=tolerance), (blue, red)


def test_quasars():
    table = simulate(3000, survey="sdss", mag_limit=20.0, quasars=0.4, seed=2)
    is_quasar = np.asarray(table["class"] == "QSO")
    assert is_quasar.sum() == 1200
    assert np.isnan(table.column("sed_type")[is_quasar]).all()
    z = table.column("z_spec")
    assert 1.0 < np.median(z[is_quasar]) < 1.8 and np.median(z[~is_quasar]) < 0.3
    u_g = (table.column("mag_u") - table.column("mag_g"))[is_quasar & (z < 2.2)]
    assert (u_g < 0.6).mean() > 0.9  # the UV excess of Richards et al. (2001)


def test_shifted_bands_follow_their_convention():
    # Blanton & Roweis (2007): seen at z = 0.1, K = -2.5 log10(1.1) for every spectrum in a band shifted to 0.1
    table = colour_table(survey_filters("sdss", ("r",)), "galaxy", ("sdss2010-r", 0.1), 0.3)
    kind = np.arange(0.0, 7.0)
    mags = table(np.full(7, 0.1), kind, np.zeros(7))[:, 0]
    np.testing.assert_allclose(mags, -2.5 * np.log10(1.1), atol=3e-3)


def test_luminosity_functions_closed_form():
    from scipy.special import gamma, gammaincc

    x = np.linspace(-8, 3, 200_001)
    total = np.trapezoid(schechter(-0.5)(x), x)
    assert total == pytest.approx(gamma(0.5) * gammaincc(0.5, 10 ** (-0.4 * 3)), rel=1e-5)
    assert double_power_law(-3.0, -1.5)(np.array([0.0]))[0] == 0.5


def test_speed_after_the_first_table(lsst):
    start = time.perf_counter()
    simulate(50_000, survey="lsst", seed=9)
    assert 50_000 / (time.perf_counter() - start) > 20_000  # 130,000 on a quiet core


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"survey": "kids"}, "choose from lsst, sdss"),
        ({"n": 0}, "at least 1"),
        ({"quasars": 1.5}, "between 0 and 1"),
        ({"mag_limit": 30.0}, "below the noise"),
        ({"noise": ph.NoiseModel({"r": 25.0})}, "needs the bands"),
        ({"mag_limit": -30.0}, "as bright as"),
    ],
)
def test_bad_arguments_say_how_to_fix_them(options, message):
    with pytest.raises(DeepfieldError, match=message):
        simulate(**{"n": 10, **options})
