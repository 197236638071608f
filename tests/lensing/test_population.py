from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import population as pop
from deepfield.lensing.surveys import surveys
from deepfield.physics import lensing as physics

LSST = surveys()["lsst"]

# Einstein radii of the first 99 lenses of LSST that Collett (2015) forecasts in the optimal coadd
# (github.com/tcollett/LensPop, lenses_LSSTc.txt), for a PSF of 0.934 arcsec.
COLLETT = [
    1.26, 3.60, 1.03, 1.55, 1.62, 2.21, 0.51, 1.25, 1.19, 1.11, 0.69, 1.05, 0.99, 0.92, 1.20, 0.89, 1.72, 1.67,
    1.04, 0.68, 1.22, 0.91, 0.86, 1.16, 0.37, 1.52, 1.65, 1.42, 0.94, 0.80, 1.18, 1.38, 1.12, 0.94, 1.15, 0.97,
    1.49, 1.31, 1.13, 1.29, 1.34, 1.20, 1.04, 0.71, 0.75, 1.35, 0.68, 1.08, 1.09, 0.89, 2.07, 1.11, 0.85, 1.41,
    1.62, 1.73, 0.78, 1.02, 2.10, 1.19, 1.77, 1.07, 1.83, 1.67, 0.56, 1.33, 1.32, 0.90, 0.84, 1.17, 0.86, 1.68,
    0.81, 1.83, 1.30, 1.33, 1.26, 0.94, 1.99, 0.81, 0.97, 1.16, 2.83, 0.74, 1.11, 1.20, 1.21, 1.42, 1.82, 0.45,
    0.42, 1.58, 1.40, 1.98, 1.21, 0.87, 0.91, 2.31, 1.02,
]  # fmt: skip


@pytest.fixture(scope="module")
def lenses():
    return pop.draw_lenses(1500, np.random.default_rng(0), LSST)


def test_the_velocity_function_has_the_published_number_and_mean():
    """Choi et al. (2007): 0.008 h^3 Mpc^-3, and <sigma> = sigma* Gamma((alpha + 1)/beta) / Gamma(alpha/beta)."""
    sigma = np.linspace(1e-3, 900, 40001)
    density = pop.velocity_function(sigma)
    assert np.trapezoid(density, sigma) == pytest.approx(0.008 * 0.343, rel=1e-4)
    from scipy.special import gamma

    mean = 161 * gamma(3.32 / 2.67) / gamma(2.32 / 2.67)
    assert np.trapezoid(density * sigma, sigma) / np.trapezoid(density, sigma) == pytest.approx(mean, rel=1e-4)


def test_early_types_lie_on_the_fundamental_plane():
    """log R = 1.49 log sigma - 0.75 log I in r (Bernardi et al. 2003, AJ 125, 1866), an orthogonal fit."""
    rng = np.random.default_rng(0)
    sigma = 10 ** rng.normal(2.2, 0.111, 20000)
    mag, radius = pop.early_type(sigma, rng)
    log_r, light = np.log10(radius), -0.4 * (mag - 4.65) - np.log10(2 * np.pi * radius**2)
    v = np.log10(sigma)
    # The plane's normal is the direction of least scatter.
    _, normal = np.linalg.eigh(np.cov([log_r, v, light]))
    a, b = -normal[1, 0] / normal[0, 0], normal[2, 0] / normal[0, 0]
    thick = np.std(log_r - a * v + b * light)
    assert a == pytest.approx(1.49, abs=0.07) and b == pytest.approx(0.75, abs=0.04) and thick < 0.11
    slope = [np.polyfit(mag, y, 1)[0] / -0.4 for y in (v, log_r)]
    assert slope == pytest.approx([0.25, 0.63], abs=0.015)  # sigma ~ L^0.25, R ~ L^0.63, there
    # 3.1 kpc at 200 km/s: log R = 2.46 - 2.79 V + 0.84 V^2, V = log sigma (Hyde & Bernardi 2009, as in LensPop).
    assert np.median(radius[np.abs(sigma - 200) < 5]) == pytest.approx(3.1, rel=0.25)


def test_einstein_radii_are_those_of_dispersions_and_redshifts(lenses):
    one = lenses["group"] == 1
    c = {k: lenses[k][one][:100] for k in ("theta_e", "sigma_v", "z_lens", "z_source")}
    exact = physics.isothermal_radius(c["sigma_v"], c["z_lens"], c["z_source"])
    assert np.abs(c["theta_e"] / exact - 1).max() < 1e-3
    wide = physics.velocity_dispersion(lenses["theta_e"], lenses["z_lens"], lenses["z_source"])
    assert np.abs(wide / lenses["sigma_v"] - 1).max() < 1e-3 and 0.05 < 1 - one.mean() < 0.2


def test_pairs_are_drawn_by_their_cross_section():
    """Without a survey's limits, P(sigma) is the velocity function times sigma^4."""
    found = pop.draw_lenses(4000, np.random.default_rng(2), LSST, snr=0)
    sigma = (found["sigma_v"] / np.sqrt(found["group"]))[found["n_images"] > 1]
    grid = np.linspace(*pop.SIGMA_RANGE, 4001)
    density = pop.velocity_function(grid) * grid**4
    cumulative = np.cumsum(density) / density.sum()
    assert stats.kstest(sigma, lambda s: np.interp(s, grid, cumulative)).statistic < 0.03
    inside = np.hypot(found["source_x"], found["source_y"]) / found["theta_e"]
    assert inside.max() <= 1 and np.mean(inside**2) == pytest.approx(0.5, abs=0.03)


def test_the_population_is_about_that_of_collett():
    """Medians of the forecast for LSST: z_lens 0.5, z_source 2; radii within a quarter, for his seeing."""
    like = replace(LSST, fwhm=(0.934,) * 3)
    found = pop.draw_lenses(1500, np.random.default_rng(0), like)
    one = found["group"] == 1
    radius = found["theta_e"][one]
    assert np.median(radius) == pytest.approx(np.median(COLLETT), rel=0.25)
    assert np.percentile(radius, 84) == pytest.approx(np.percentile(COLLETT, 84), rel=0.25)
    assert np.median(found["z_lens"][one]) == pytest.approx(0.5, abs=0.1)
    assert np.median(found["z_source"][one]) == pytest.approx(2.0, abs=0.3)
    assert np.median(found["source_mag_i"][one]) == pytest.approx(25.6, abs=0.4)


def test_what_a_survey_sees(lenses):
    assert lenses["n_images"].min() >= 2 and lenses["q"].min() >= 0.2 and lenses["q"].max() <= 1
    one = lenses["group"] == 1
    least = np.sqrt(lenses["source_r_e"] ** 2 + (LSST.sharpest / 2) ** 2)
    assert (lenses["theta_e"][one] > least[one]).all()
    shallow = pop.draw_lenses(300, np.random.default_rng(0), surveys()["des"])
    assert np.median(shallow["source_mag_i"]) < np.median(lenses["source_mag_i"]) - 0.8
    with pytest.raises(DeepfieldError, match="0 can be seen with a signal-to-noise ratio of 1000"):
        pop.draw_lenses(5, np.random.default_rng(0), LSST, snr=1e9)


def test_axis_ratios_follow_their_law():
    sigma = np.full(20000, 250.0)
    q = pop.axis_ratio(sigma, np.random.default_rng(0))
    scale = 0.38 - 5.7e-4 * 250
    assert q.min() >= 0.2 and np.mean(1 - q) == pytest.approx(scale * np.sqrt(np.pi / 2), rel=0.02)


def test_light_of_lenses_is_red_and_of_sources_blue(lenses):
    red = lenses["lens_mag_g"] - lenses["lens_mag_i"]
    blue = lenses["source_mag_g"] - lenses["source_mag_i"]
    assert np.median(red) > 1.8 and np.median(blue) < 0.8
    # A red galaxy at z = 0.4 has g - r of 1.6 and r - i of 0.6 (Eisenstein et al. 2001, AJ 122, 2267, table 1).
    near = np.abs(lenses["z_lens"] - 0.4) < 0.03
    assert np.median((lenses["lens_mag_g"] - lenses["lens_mag_r"])[near]) == pytest.approx(1.6, abs=0.15)
    assert np.median((lenses["lens_mag_r"] - lenses["lens_mag_i"])[near]) == pytest.approx(0.65, abs=0.12)
