"""Who lenses whom: deflectors from the velocity-dispersion function, sources from galaxy counts.

A deflector is an early-type galaxy, a source a star-forming one. They are drawn as often as they align: a pair
with the cross-section of its Einstein radius, pi theta_E^2. What a survey can tell to be a lens is chosen as
Collett (2015, ApJ 811, 20, arXiv:1507.02657, section 2.3) does it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.lensing.counts import image_count
from deepfield.lensing.surveys import Survey
from deepfield.physics import cosmology as cosmo
from deepfield.physics import galaxies as ga
from deepfield.physics.lensing import ARCSEC, isothermal_radius
from deepfield.physics.populations import BLUE, Sampler, colour_table

Array = NDArray[np.float64]
Columns = dict[str, Array]

SIGMA_RANGE = (100.0, 400.0)
"""Velocity dispersions of deflectors, km/s."""

_Z_LENS, _Z_SOURCE = 2.0, 4.5
_FAINTER = 0.8  # magnitudes below the depth down to which sources are drawn; lenses magnify them
_REFERENCE = ("sdss2010-r", 0.0)
_GROUPS = 0.12
_REUSED = 8  # deflectors that are tried before each source
_ARC_MINIMUM = 3.0  # magnification below which an image is no arc (Collett 2015)


def velocity_function(sigma: Array) -> Array:
    """Early-type galaxies per comoving Mpc^3 and km/s of velocity dispersion, H0 = 70 km/s/Mpc.

    phi* (sigma/sigma*)^alpha exp(-(sigma/sigma*)^beta) beta / Gamma(alpha/beta) / sigma with phi* = 0.008 h^3
    Mpc^-3, sigma* = 161 km/s, alpha = 2.32, beta = 2.67 (Choi, Park & Vogeley 2007, ApJ 658, 884). It is taken
    to be the same at all redshifts.

    Examples
    --------
    >>> f"{velocity_function(np.array([200.0]))[0]:.2e}"
    '9.29e-06'
    """
    x = np.asarray(sigma, float) / 161.0
    norm = 0.008 * 0.7**3 * 2.67 / math.gamma(2.32 / 2.67)
    return np.asarray(norm * x**2.32 * np.exp(-(x**2.67)) / sigma)


def early_type(sigma: Array, rng: np.random.Generator) -> tuple[Array, Array]:
    """Absolute r magnitude (rest frame at z = 0, AB) and half-light radius (kpc) of early-type galaxies.

    Magnitude, log R and log sigma are jointly Gaussian (Bernardi et al. 2003, AJ 125, 1849, table 1, r*: means
    -21.15, 0.45 and 2.20, standard deviations 0.841, 0.241 and 0.111, correlations MR -0.882, MV -0.780, RV
    0.543): hence sigma ~ L^0.25, R ~ L^0.63 and the fundamental plane. Here both are drawn for a given sigma.

    Examples
    --------
    >>> m, r = early_type(np.full(2000, 220.0), np.random.default_rng(0))
    >>> round(float(np.median(m)), 1), round(float(np.median(r)), 1)
    (-22.0, 4.2)
    """
    v = (np.log10(sigma) - 2.20) / 0.111
    mr, mv, rv = -0.882, -0.780, 0.543
    free_m, free_r = math.sqrt(1 - mv**2), math.sqrt(1 - rv**2)
    together = (mr - mv * rv) / (free_m * free_r)
    first, second = rng.normal(size=(2, v.size))
    mag = mv * v + free_m * first
    log_r = rv * v + free_r * (together * first + math.sqrt(1 - together**2) * second)
    return -21.15 + 0.841 * mag, 10 ** (0.45 + 0.241 * log_r)


def source_radius(mag: Array, z: Array, rng: np.random.Generator) -> Array:
    """Half-light radius (kpc) of star-forming galaxies of absolute magnitude ``mag`` (V) at redshift z.

    (M / -19.5)^-0.22 is no size; as in Collett (2015, eq. 5, after Mosleh et al. 2012 and Huang et al. 2013) the
    radius is 10^(-(M + 18) / 4) ((1 + z) / 1.6)^-1.2 with 0.35 dex of scatter, here between 0.1 and 10 kpc.
    """
    radius = 10 ** (-(mag + 18) / 4) * ((1 + z) / 1.6) ** -1.2 * 10 ** (0.35 * rng.normal(size=z.size))
    return np.clip(radius, 0.1, 10.0)


def axis_ratio(sigma: Array, rng: np.random.Generator) -> Array:
    """Axis ratios of deflectors: 1 - q has a Rayleigh law of scale 0.38 - 5.7e-4 sigma (Collett 2015, eq. 4)."""
    scale = 0.38 - 5.7e-4 * sigma
    return 1 - scale * np.sqrt(-2 * np.log1p(-rng.random(sigma.size) * (1 - np.exp(-0.5 * (0.8 / scale) ** 2))))


@functools.cache
def _distance() -> tuple[Array, Array, Array]:
    """Redshift, comoving distance (Mpc) and distance modulus, to interpolate; the default cosmology is flat."""
    z = np.concatenate([[0.0], np.geomspace(1e-3, 6.0, 1500)])
    comoving = np.zeros_like(z)
    comoving[1:] = cosmo.luminosity_distance(z[1:]) / (1 + z[1:])
    modulus = np.full_like(z, -np.inf)
    modulus[1:] = cosmo.distance_modulus(z[1:])
    return z, comoving, modulus


def kpc(radius: Array, z: Array) -> Array:
    """Kiloparsecs at redshift z in arcsec."""
    grid, comoving, _ = _distance()
    return radius * 1e-3 * (1 + z) / np.interp(z, grid, comoving) / ARCSEC


def _inverse(grid: Array, density: Array) -> Callable[[Array], Array]:
    total = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(grid))])
    return lambda u: np.interp(u * total[-1], total, grid)


@functools.cache
def _deflector_law() -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    """Inverse cumulative distributions of sigma, weighted by sigma^4 as cross-sections are, and of redshift."""
    sigma, z = np.linspace(*SIGMA_RANGE, 1201), np.linspace(0.03, _Z_LENS, 800)
    return _inverse(sigma, velocity_function(sigma) * sigma**4), _inverse(z, cosmo.volume_element(z))


class Sources:
    """Star-forming galaxies behind and beside lenses, down to somewhat below a survey's depth.

    Attributes
    ----------
    density : float
        Per square arcsec.
    """

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self.limit = survey.depth + _FAINTER
        band = survey.bands.index(survey.best)
        self._sampler = Sampler(BLUE, survey.filters, band, self.limit, _Z_SOURCE, None)
        self.density = self._sampler.count / 3600**2

    def draw(self, n: int, rng: np.random.Generator) -> Columns:
        """``z_source``, ``source_mag_<band>``, ``source_r_e`` (arcsec)."""
        z, _, mags = self._sampler.draw(rng, n)
        grid, _, modulus = _distance()
        # V of a blue galaxy at rest is close to what the band sees, corrected for the stretch of the spectrum.
        best = mags[:, self.survey.bands.index(self.survey.best)]
        absolute = best - np.interp(z, grid, modulus) + 2.5 * np.log10(1 + z)
        radius = kpc(source_radius(absolute, z, rng), z)
        return {
            "z_source": z, "source_r_e": radius,
            **{f"source_mag_{b}": mags[:, k] for k, b in enumerate(self.survey.bands)},
        }  # fmt: skip


@functools.lru_cache(maxsize=8)
def sources(survey: Survey) -> Sources:
    """The sources of a survey; the first call takes seconds."""
    return Sources(survey)


def lens_light(sigma: Array, z: Array, survey: Survey, rng: np.random.Generator) -> Columns:
    """``lens_mag_<band>`` and ``lens_r_e`` (arcsec, sqrt(major minor)) of early-type galaxies.

    Brighter by 0.85 mag for each unit of redshift (Bernardi et al. 2003), here to z = 1.
    """
    mag, radius = early_type(sigma, rng)
    mag = mag - 0.85 * np.minimum(z, 1.0)
    grid, _, modulus = _distance()
    colours = colour_table(survey.filters, "galaxy", _REFERENCE, _Z_SOURCE)
    place, ebv = np.clip(rng.normal(0.1, 0.4, z.size), 0.0, 1.2), 0.03 * rng.normal(size=z.size)
    mags = colours(z, place, ebv) + (mag + np.interp(z, grid, modulus))[:, None]
    light = {f"lens_mag_{b}": mags[:, k] for k, b in enumerate(survey.bands)}
    return {**light, "lens_r_e": kpc(radius, z)}


def magnification(theta_e: Array, beta: Array, r_e: Array) -> Array:
    """About how much a round isothermal lens magnifies a disc: 2 theta_E / sqrt(beta^2 + (r_e / 1.68)^2).

    2 theta_E / beta of a point within theta_E; 2 theta_E over the scale length for an exponential disc in the
    middle.
    """
    return 2 * theta_e / np.hypot(beta, r_e / 1.678)


def expected_snr(columns: Columns, survey: Survey, mu: Array) -> Array:
    """Signal-to-noise ratio of the arcs in the best band for them, before anything is painted.

    All images together count as one Gaussian, stretched by the magnification along one axis; noise is that of the
    sky, of their own photons and, if ``columns`` has the lens's light, of that at the Einstein radius.
    """
    sky, source = survey.pixel_noise()
    best = np.zeros(mu.size)
    own = columns["source_r_e"] / 1.18 / survey.pixel  # half of a Gaussian's light is within 1.18 sigma
    for k, band in enumerate(survey.bands):
        flux = 3631e9 * 10 ** (-0.4 * columns[f"source_mag_{band}"]) * mu
        psf = survey.fwhm[k] / survey.pixel / 2.355
        area = 4 * np.pi * np.hypot(psf, own) * np.hypot(psf, own * mu)
        under = 0.0
        if "lens_r_e" in columns:
            profile = ga.sersic(*(torch.as_tensor(v) for v in (columns["theta_e"], 4.0, columns["lens_r_e"])))
            under = 3631e9 * 10 ** (-0.4 * columns[f"lens_mag_{band}"]) * profile.numpy() * survey.pixel**2
        best = np.maximum(best, flux / np.sqrt((sky[k] + source[k] * under) * area + source[k] * flux))
    return best


def draw_lenses(n: int, rng: np.random.Generator, survey: Survey, *, snr: float = 20.0) -> Columns:
    """Lenses that a survey can tell to be lenses.

    Two images at least; theta_E^2 > r_e^2 + (FWHM/2)^2, so that they are apart; a magnification of 3 or more that
    stretches the source beyond the PSF; and an expected signal-to-noise ratio of its light above ``snr`` (Collett
    2015: 20). With ``snr=0`` all lenses with several images, seen or not.

    Returns
    -------
    dict
        The columns of :func:`deepfield.lensing.simulate.draw` that say what the lens and its source are.
    """
    parts: list[Columns] = []
    found, tried = 0, 0
    while found < n:
        batch = int(min(max(400 * (n - found), 2**14), 2**17))
        part = _proposed(batch, rng, survey)
        part = _kept(part, _visible(part, survey, snr))
        part |= lens_light(part["sigma_v"], part["z_lens"], survey, rng)
        part = _kept(part, _visible(part, survey, snr))
        part = _shaped(_grouped(part, survey, rng), rng)
        part = _kept(part, part["n_images"] >= 2)
        found, tried = found + part["z_lens"].size, tried + batch
        parts.append(part)
        if tried >= 1_000_000 and found < 1e-5 * tried:
            raise DeepfieldError(f"of {tried:,} lenses {found} can be seen with a signal-to-noise ratio of {snr}")
    return {name: np.concatenate([p[name] for p in parts])[:n] for name in parts[0]}


def _kept(columns: Columns, rows: NDArray[Any]) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _proposed(n: int, rng: np.random.Generator, survey: Survey) -> Columns:
    """Pairs as often as they align, and where within theta_E the source lies."""
    sigma_law, z_law = _deflector_law()
    behind = sources(survey).draw(n // _REUSED, rng)
    z_lens = z_law(rng.random((n // _REUSED, _REUSED)))
    grid, comoving, _ = _distance()
    ratio = 1 - np.interp(z_lens, grid, comoving) / np.interp(behind["z_source"], grid, comoving)[:, None]
    source, times = np.nonzero(rng.random(z_lens.shape) < np.clip(ratio, 0, 1) ** 2)
    part = _kept(behind, source)
    part["sigma_v"], part["z_lens"] = sigma_law(rng.random(source.size)), z_lens[source, times]
    part["theta_e"] = part["sigma_v"] ** 2 * ratio[source, times] * _unit()
    radius = part["theta_e"] * np.sqrt(rng.random(source.size))
    where = rng.uniform(0, 2 * np.pi, source.size)
    return {**part, "source_x": radius * np.cos(where), "source_y": radius * np.sin(where)}


@functools.cache
def _unit() -> float:
    """Arcsec of Einstein radius for 1 km/s and a source infinitely far behind its lens."""
    z, comoving, _ = _distance()
    near, far = np.interp([0.5, 2.0], z, comoving)
    return float(isothermal_radius(1.0, 0.5, 2.0) / (1 - near / far))


def _visible(part: Columns, survey: Survey, snr: float) -> Array:
    if snr <= 0:
        return np.ones(part["theta_e"].size, bool)
    mu = magnification(part["theta_e"], np.hypot(part["source_x"], part["source_y"]), part["source_r_e"])
    apart = part["theta_e"] ** 2 > part["source_r_e"] ** 2 + (0.5 * survey.sharpest) ** 2
    stretched = (mu * part["source_r_e"] > survey.sharpest) & (mu > _ARC_MINIMUM)
    inside = part["theta_e"] < _widest(survey)
    return np.asarray(apart & stretched & inside & (expected_snr(part, survey, mu) > snr))


def _grouped(part: Columns, survey: Survey, rng: np.random.Generator) -> Columns:
    """Give some deflectors the mass of a group of galaxies, of which they are the brightest.

    ``group`` is the factor on theta_E: wide separations come from groups (Oguri 2006, MNRAS 367, 1241). How many
    and how wide is approximate, chosen to have such lenses in a training set: 12 %, 1.3 to 3 times.
    """
    n = part["theta_e"].size
    factor = np.where(rng.random(n) < _GROUPS, rng.uniform(1.3, 3.0, n), 1.0)
    factor = np.where(part["theta_e"] * factor < _widest(survey), factor, 1.0)
    part["group"] = factor
    for name in ("theta_e", "source_x", "source_y"):
        part[name] = part[name] * factor
    part["sigma_v"] = part["sigma_v"] * np.sqrt(factor)
    return part


def _widest(survey: Survey) -> float:
    return 0.36 * survey.size * survey.pixel


def _shaped(part: Columns, rng: np.random.Generator) -> Columns:
    """Shapes and shear.

    The light's axis ratio is that of the mass to 0.12, its angle to 10 degrees (SLACS, Bolton et al. 2008, ApJ
    682, 964); the shear has 0.035 in each component, about 0.04 in all, and twice that in groups.
    """
    n = part["theta_e"].size
    q, phi = axis_ratio(part["sigma_v"] / np.sqrt(part["group"]), rng), rng.uniform(0, 180, n)
    gamma = 0.035 * np.where(part["group"] > 1, 2, 1) * rng.normal(size=(2, n))
    part |= {
        "q": q,
        "phi": phi,
        "shear": np.hypot(*gamma),
        "shear_phi": np.degrees(np.arctan2(gamma[1], gamma[0]) / 2) % 180,
    }
    part["lens_q"] = np.clip(q + 0.12 * rng.normal(size=n), 0.2, 1.0)
    part["lens_phi"] = (phi + 10 * rng.normal(size=n)) % 180
    count = image_count(
        part["theta_e"], q, phi, part["shear"], part["shear_phi"], part["source_x"], part["source_y"]
    )
    part["n_images"] = count.astype(float)
    return part
