"""Magnitudes, fluxes, their errors, Galactic extinction and the noise of the surveys.

Fluxes are spectral flux densities in nanojansky (nJy) and magnitudes are AB, so that a source of
magnitude 31.4 has 1 nJy (Oke & Gunn 1983: m_AB = -2.5 log10 f_nu - 48.6 with f_nu in erg/s/cm^2/Hz).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

ZERO_POINT = 31.4
"""The AB magnitude of 1 nJy, to the 2e-4 mag (1e-4 in flux) by which 3631 Jy is conventionally rounded."""

POGSON = 2.5 / math.log(10)
"""Magnitudes per unit of relative flux, 1.0857."""


def flux(mag: ArrayLike) -> Array:
    """Flux in nJy of AB magnitudes of any shape; a magnitude of ``+inf`` has no flux, NaN stays NaN.

    Examples
    --------
    >>> flux([31.4, 28.9, float("inf")])
    array([ 1., 10.,  0.])
    """
    return np.exp((ZERO_POINT - np.asarray(mag, float)) / POGSON)  # twice as fast as a power of ten


def magnitude(flux_njy: ArrayLike) -> Array:
    """AB magnitude of fluxes in nJy; zero and negative fluxes (not detected) give ``+inf``.

    Examples
    --------
    >>> magnitude([1.0, 10.0, 0.0])
    array([31.4, 28.9,  inf])
    """
    value = np.asarray(flux_njy, float)
    positive = np.where(value > 0, value, np.where(np.isnan(value), np.nan, 1.0))
    return np.where(value <= 0, np.inf, ZERO_POINT - 2.5 * np.log10(positive))


def flux_error(mag: ArrayLike, mag_err: ArrayLike) -> Array:
    """Flux error in nJy from a magnitude and its Pogson error: sigma_f = f sigma_m ln(10)/2.5.

    A magnitude of ``+inf`` has no flux for its error to be relative to: the answer is NaN there.

    Examples
    --------
    >>> flux_error([28.9], [0.10857]).round(4)
    array([1.])
    """
    with np.errstate(invalid="ignore"):
        return flux(mag) * np.where(np.isinf(mag), np.nan, np.asarray(mag_err, float)) / POGSON


def magnitude_error(flux_njy: ArrayLike, flux_err: ArrayLike) -> Array:
    """Pogson error sigma_m = 2.5/ln(10) sigma_f / f; NaN where the flux is not positive.

    Examples
    --------
    >>> magnitude_error([10.0, -1.0], [1.0, 1.0]).round(4)
    array([0.1086,    nan])
    """
    value = np.asarray(flux_njy, float)
    return POGSON * np.asarray(flux_err, float) / np.where(value > 0, value, np.nan)


def asinh_magnitude(flux_njy: ArrayLike, softening: ArrayLike) -> Array:
    """Inverse hyperbolic sine magnitudes, defined for zero and negative fluxes too.

    m = -2.5/ln(10) [asinh(f / 2B) + ln(B / f_0)], equation 3 of Lupton, Gunn & Szalay (1999, AJ 118, 1406).

    Parameters
    ----------
    flux_njy
        Fluxes in nJy, any shape.
    softening
        B in nJy, broadcast against the fluxes: the flux scale below which the magnitude becomes linear.
        `best_softening` gives the authors' choice.

    Examples
    --------
    >>> asinh_magnitude([0.0, 1000.0], 1.0).round(3)
    array([31.4, 23.9])
    """
    scale = np.asarray(softening, float)
    return ZERO_POINT - POGSON * (np.arcsinh(np.asarray(flux_njy, float) / (2 * scale)) + np.log(scale))


def asinh_flux(mag: ArrayLike, softening: ArrayLike) -> Array:
    """Flux in nJy of asinh magnitudes: the inverse of `asinh_magnitude`.

    Examples
    --------
    >>> asinh_flux(asinh_magnitude([-2.0, 5.0], 1.0), 1.0).round(6)
    array([-2.,  5.])
    """
    scale = np.asarray(softening, float)
    return 2 * scale * np.sinh((ZERO_POINT - np.asarray(mag, float)) / POGSON - np.log(scale))


def asinh_magnitude_error(flux_njy: ArrayLike, flux_err: ArrayLike, softening: ArrayLike) -> Array:
    """Error of an asinh magnitude, 2.5/ln(10) sigma_f / sqrt(f^2 + 4 B^2) (Lupton et al. 1999, eq. 6).

    Examples
    --------
    >>> asinh_magnitude_error([1e6], [1e4], 1.0).round(5)
    array([0.01086])
    """
    value, scale = np.asarray(flux_njy, float), np.asarray(softening, float)
    return POGSON * np.asarray(flux_err, float) / np.sqrt(value**2 + 4 * scale**2)


def best_softening(flux_err: ArrayLike) -> Array:
    """Softening B = 1.042 sigma in nJy for a sky noise sigma in nJy (Lupton et al. 1999, eq. 9).

    Examples
    --------
    >>> best_softening(10.0).item()
    10.42
    """
    return np.asarray(1.042 * np.asarray(flux_err, float))


# A_band / E(B-V) for R_V = 3.1 on the scale of the SFD map: Schlafly & Finkbeiner (2011, ApJ 737, 103), Table
# 6. Same law, from the configuration of LSST's pipelines: HSC (obs_subaru) and u of DES (obs_decam). CFHT and
# Euclid, which the table lacks, follow its recipe: Fitzpatrick (1999) law through the filter curve on a 7000 K
# source, scaled to A_V(Landolt) = 2.742; that recipe returns the table's own numbers to 1 % (Landolt: 2.6 %).
_SDSS = {"u": 4.239, "g": 3.303, "r": 2.285, "i": 1.698, "z": 1.263}
_NIR = {"j": 0.723, "h": 0.460, "k": 0.310, "ks": 0.310}
EXTINCTION: dict[str, dict[str, float]] = {
    "sdss": _SDSS,
    "lsst": {"u": 4.145, "g": 3.237, "r": 2.273, "i": 1.684, "z": 1.323, "y": 1.088},
    "des": {"u": 3.994, "g": 3.237, "r": 2.176, "i": 1.595, "z": 1.217, "y": 1.058},
    "panstarrs": {"g": 3.172, "r": 2.271, "i": 1.682, "z": 1.322, "y": 1.087},
    "hsc": {"g": 3.240, "r": 2.276, "i": 1.633, "z": 1.263, "y": 1.075},
    "cfht": {"u": 4.155, "g": 3.243, "r": 2.186, "i": 1.637, "z": 1.254},
    "landolt": {"u": 4.334, "b": 3.626, "v": 2.742, "r": 2.169, "i": 1.505},
    "twomass": _NIR,
    "euclid": {"vis": 1.874, "y": 0.925, "j": 0.632, "h": 0.421},
    "zcosmos": {**_SDSS, "u": 4.155, "b": 3.626, "v": 2.742, **_NIR},
}


def extinction(band: str, ebv: ArrayLike, *, survey: str = "sdss") -> Array:
    """Galactic extinction A_band = R_band E(B-V) in magnitudes; subtract it from the magnitude.

    Parameters
    ----------
    band
        Name of the band, lower or upper case.
    ebv
        Reddening E(B-V) of Schlegel, Finkbeiner & Davis (1998) in magnitudes, any shape.
    survey
        One of the keys of ``EXTINCTION``.

    Raises
    ------
    ValueError
        If no coefficient is known for the survey or the band.

    Examples
    --------
    >>> extinction("r", [0.0, 0.1], survey="sdss")
    array([0.    , 0.2285])
    """
    if survey not in EXTINCTION:
        raise ValueError(f"no extinction coefficients for survey '{survey}': choose from {', '.join(EXTINCTION)}")
    if band.lower() not in EXTINCTION[survey]:
        known = ", ".join(EXTINCTION[survey])
        raise ValueError(f"no extinction coefficient for band '{band}' of survey '{survey}', which has {known}")
    return np.asarray(EXTINCTION[survey][band.lower()] * np.asarray(ebv, float))


@dataclass(frozen=True)
class NoiseModel:
    """Photometric noise of a survey: 5-sigma point-source depths, band by band.

    The variance of a magnitude is sigma_sys^2 + (0.04 - gamma) x + gamma x^2 with x = 10^(0.4 (m - m5)):
    equations 4 and 5 of Ivezic et al. (2019, ApJ 873, 111), here written for flux, so that it stays
    finite at zero flux: with f5 the flux of magnitude m5,
    sigma_f^2 = [(0.04 - gamma) f5 f + gamma f5^2] / visits + (sigma_sys f / 1.0857)^2.

    Parameters
    ----------
    depth
        m5 in AB magnitudes for each band: a source of that magnitude has a signal to noise of five in
        one visit.
    gamma
        Band-dependent share of sky noise, 0.039 where not given.
    systematic
        sigma_sys in magnitudes.
    visits
        Number of exposures added up in each band, one where not given.

    Examples
    --------
    >>> noise = NoiseModel({"r": 25.0}, systematic=0.0)
    >>> float((flux(25.0) / noise.flux_error("r", flux(25.0))).round(6))
    5.0
    """

    depth: Mapping[str, float]
    gamma: Mapping[str, float] = field(default_factory=dict)
    systematic: float = 0.005
    visits: Mapping[str, float] = field(default_factory=dict)

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands in order of the depths given."""
        return tuple(self.depth)

    def _terms(self, band: str) -> tuple[float, float]:
        """Variance per nJy of source and variance of the sky in nJy^2."""
        if band not in self.depth:
            raise ValueError(f"no depth for band '{band}': the noise model knows {', '.join(self.depth)}")
        five, gamma = float(flux(self.depth[band])), self.gamma.get(band, 0.039)
        visits = self.visits.get(band, 1.0)
        return (0.04 - gamma) * five / visits, gamma * five**2 / visits

    def flux_error(self, band: str, flux_njy: ArrayLike) -> Array:
        """Noise in nJy of a source of the given flux in nJy (any shape; negative fluxes count as zero)."""
        source, sky = self._terms(band)
        value = np.maximum(np.asarray(flux_njy, float), 0.0)
        return np.sqrt(source * value + sky + (self.systematic / POGSON * value) ** 2)

    def magnitude_error(self, band: str, mag: ArrayLike) -> Array:
        """Error in magnitudes of a source of the given AB magnitude (Ivezic et al. 2019, eq. 4 and 5).

        Both terms are relative flux errors times 2.5/ln(10), so 0.217 at m5 where the paper, which
        drops that factor, has 0.2.
        """
        value = flux(mag)
        return magnitude_error(value, self.flux_error(band, value))

    def limit(self, band: str, snr: float = 1.0) -> float:
        """AB magnitude whose flux is ``snr`` times the noise of an empty aperture."""
        return float(magnitude(snr * np.sqrt(self._terms(band)[1])))


# Ivezic et al. (2019), Table 2: m5 of one 30 s visit at airmass 1.2 from equation 6 with the table's C_m,
# m_sky, theta_eff and k_m, gamma, and the mean number of visits in ten years.
_LSST_CM = {"u": 23.09, "g": 24.42, "r": 24.44, "i": 24.32, "z": 24.16, "y": 23.73}
_LSST_SKY = {"u": 22.99, "g": 22.26, "r": 21.20, "i": 20.48, "z": 19.60, "y": 18.61}
_LSST_SEEING = {"u": 0.92, "g": 0.87, "r": 0.83, "i": 0.80, "z": 0.78, "y": 0.76}
_LSST_KM = {"u": 0.491, "g": 0.213, "r": 0.126, "i": 0.096, "z": 0.069, "y": 0.170}
_LSST_VISITS = {"u": 56, "g": 80, "r": 184, "i": 184, "z": 160, "y": 160}


def lsst_depth(band: str, *, years: float | None = 10.0, airmass: float = 1.2) -> float:
    """5-sigma point-source depth of LSST in AB magnitudes, coadded over ``years`` (None: one visit).

    m5 = C_m + 0.50 (m_sky - 21) + 2.5 log10(0.7 / theta_eff) - k_m (X - 1), equation 6 of Ivezic et al.
    (2019) for 30 s; the noise falls as the square root of the visits.

    Examples
    --------
    >>> round(lsst_depth("r", years=None), 2), round(lsst_depth("r"), 2)
    (24.33, 27.16)
    """
    if band not in _LSST_CM:
        raise ValueError(f"LSST has no band '{band}': choose from {', '.join(_LSST_CM)}")
    if years is not None and not years > 0:
        raise ValueError(f"years must be positive, not {years}")
    sky = 0.5 * (_LSST_SKY[band] - 21) + 2.5 * np.log10(0.7 / _LSST_SEEING[band])
    visits = 1.0 if years is None else _LSST_VISITS[band] * years / 10.0
    return float(_LSST_CM[band] + sky - _LSST_KM[band] * (airmass - 1) + 1.25 * np.log10(visits))


def lsst_noise(years: float = 10.0) -> NoiseModel:
    """The noise model of LSST after ``years`` of the survey (Ivezic et al. 2019).

    Examples
    --------
    >>> lsst_noise(1).bands
    ('u', 'g', 'r', 'i', 'z', 'y')
    """
    if not years > 0:
        raise ValueError(f"years must be positive, not {years}")
    visits = {band: count * years / 10.0 for band, count in _LSST_VISITS.items()}
    return NoiseModel({band: lsst_depth(band, years=None) for band in _LSST_CM}, {"u": 0.038}, visits=visits)


SDSS_POINT_DEPTH = {"u": 22.15, "g": 23.13, "r": 22.70, "i": 22.20, "z": 20.71}
"""Median 5-sigma depth of SDSS imaging for point sources (PSF magnitudes), as published on its scope page."""

SDSS_GALAXY_DEPTH = {"u": 21.0, "g": 21.9, "r": 20.9, "i": 20.6, "z": 19.6}
"""The depths for which the model reproduces the median errors of model magnitudes in the SDSS main
galaxy sample (r about 17): an extended source collects more sky than a point."""


def sdss_noise(*, extended: bool = True) -> NoiseModel:
    """The noise of SDSS single-epoch imaging in the same form, for galaxies or for point sources.

    Examples
    --------
    >>> sdss_noise(extended=False).depth["r"]
    22.7
    """
    return NoiseModel(SDSS_GALAXY_DEPTH if extended else SDSS_POINT_DEPTH, systematic=0.002)
