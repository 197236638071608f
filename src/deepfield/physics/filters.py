"""Filter curves of the surveys and synthetic AB photometry through them.

The curves come from the library ``speclite`` (extra ``photoz``); a `Filter` of one's own works everywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.optional import require

Array = NDArray[np.float64]

LIGHT = 2.99792458e18
"""Speed of light in Angstrom per second."""

_AB = 10 ** (-0.4 * 48.60)  # erg / s / cm^2 / Hz of a source of AB magnitude zero (Oke & Gunn 1983)


def _group(name: str, bands: str) -> dict[str, str]:
    return {band: f"{name}-{band}" for band in bands}


SURVEY_FILTERS: dict[str, dict[str, str]] = {
    "sdss": _group("sdss2010", "ugriz"),
    "lsst": _group("lsst2023", "ugrizy"),
    "des": {**_group("decam2014", "ugriz"), "y": "decam2014-Y"},
    "hsc": _group("hsc2017", "grizy"),
    "panstarrs": _group("panstarrs", "grizy"),
    "cfht": _group("cfht_megacam", "ugriz"),
    "euclid": {"vis": "Euclid-VIS", "y": "Euclid-Y", "j": "Euclid-J", "h": "Euclid-H"},
    "lsst+euclid": {
        **_group("lsst2023", "ugrizy"), "vis": "Euclid-VIS", "ye": "Euclid-Y",
        "j": "Euclid-J", "h": "Euclid-H",
    },
    # COSMOS: u* of CFHT, then Subaru B V g+ r+ i+ z+, UKIRT J, CFHT Ks. speclite lacks the wide filters of
    # Suprime-Cam: Bessell B V and HSC griz stand in, 2MASS for J K; offsets are calibrated on spectra.
    "zcosmos": {
        "u": "cfht_megacam-ustar", "b": "bessell-B", "v": "bessell-V", **_group("hsc2017", "griz"),
        "j": "twomass-J", "k": "twomass-Ks",
    },
    "landolt": {band.lower(): f"bessell-{band}" for band in "UBVRI"},
    "twomass": {"j": "twomass-J", "h": "twomass-H", "k": "twomass-Ks", "ks": "twomass-Ks"},
}  # fmt: skip
"""For each survey, the speclite name of each band."""


@dataclass(frozen=True, eq=False)
class Filter:
    """A filter curve: dimensionless response per photon at wavelengths in Angstrom, both of shape (W,).

    Examples
    --------
    >>> box = Filter("box", np.array([4999.0, 5000.0, 6000.0, 6001.0]), np.array([0.0, 1.0, 1.0, 0.0]))
    >>> round(box.pivot)
    5492
    """

    name: str
    wavelength: Array
    response: Array

    @property
    def pivot(self) -> float:
        """Pivot wavelength in Angstrom."""
        wave = np.linspace(self.wavelength[0], self.wavelength[-1], 8192)
        response = np.interp(wave, self.wavelength, self.response)
        return float(np.sqrt((response * wave).sum() / (response / wave).sum()))


@functools.cache
def load_filter(name: str) -> Filter:
    """The filter of that speclite name, such as ``"sdss2010-r"``, without its empty ends.

    Raises
    ------
    MissingExtraError
        If speclite is not installed.
    ValueError
        If speclite has no such filter.
    """
    library = require("speclite.filters", extra="photoz")
    try:
        curve = library.load_filter(name)
    except (ValueError, OSError) as error:
        raise ValueError(f"speclite has no filter '{name}': {error}") from error
    wavelength, response = np.asarray(curve.wavelength, float), np.asarray(curve.response, float)
    kept = np.flatnonzero(response > 1e-5 * response.max())
    ends = slice(max(kept[0] - 1, 0), kept[-1] + 2)
    return Filter(name, wavelength[ends], np.clip(response[ends], 0, None))


def survey_filters(survey: str, bands: Sequence[str] | None = None) -> tuple[Filter, ...]:
    """The filters of a survey, all or the named bands, in the order of the names.

    Raises
    ------
    ValueError
        If the survey or a band is unknown.

    Examples
    --------
    >>> [f.name for f in survey_filters("sdss", ("g", "r"))]
    ['sdss2010-g', 'sdss2010-r']
    """
    if survey not in SURVEY_FILTERS:
        raise ValueError(f"no filters known for survey '{survey}': choose from {', '.join(SURVEY_FILTERS)}")
    known = SURVEY_FILTERS[survey]
    unknown = [band for band in bands or () if band not in known]
    if unknown:
        raise ValueError(f"survey '{survey}' has no band {', '.join(unknown)}: it has {', '.join(known)}")
    return tuple(load_filter(known[band]) for band in (bands or known))


def guess_survey(bands: Sequence[str]) -> str:
    """The survey that a set of band names most likely comes from.

    ``u g r i z`` is taken for SDSS, ``u g r i z y`` for LSST, a ``b`` or ``v`` beside ``g`` for COSMOS.

    Raises
    ------
    ValueError
        If no survey has all these bands.

    Examples
    --------
    >>> guess_survey(("u", "g", "r", "i", "z", "y"))
    'lsst'
    """
    for survey in ("sdss", "lsst", "zcosmos", "euclid", "lsst+euclid", "landolt", "twomass"):
        if set(bands) <= set(SURVEY_FILTERS[survey]):
            return survey
    raise ValueError(
        f"no known survey has the bands {', '.join(bands)}: "
        f"pass survey= (one of {', '.join(SURVEY_FILTERS)}) or filters="
    )


def ab_flux(wavelength: ArrayLike, spectrum: ArrayLike, filters: Sequence[Filter], factor: float = 1.0) -> Array:
    """Flux in units of an AB magnitude of zero (maggies) of spectra through filters.

    The photon-weighted mean of f_nu: int lambda R f_lambda dlambda / int (c / lambda) R f_AB dlambda
    (Fukugita et al. 1996, AJ 111, 1748, equation 7).

    Parameters
    ----------
    wavelength
        Angstrom, ascending, shape (W,).
    spectrum
        f_lambda in erg / s / cm^2 / Angstrom, shape (..., W), taken as zero outside the wavelengths.
    filters
        B filters.
    factor
        Wavelengths are multiplied by this first: 1 + z puts a rest-frame spectrum at redshift z.

    Returns
    -------
    array of shape (..., B)

    Examples
    --------
    >>> wave = np.arange(3000.0, 12000.0)
    >>> flat = ab_flux(wave, 10**(-0.4 * 48.6) * 2.99792458e18 / wave**2, survey_filters("sdss"))
    >>> flat.round(4)
    array([1., 1., 1., 1., 1.])
    """
    return np.asarray(spectrum, float) @ ab_weights(wavelength, filters, factor)


def ab_weights(wavelength: ArrayLike, filters: Sequence[Filter], factor: float = 1.0) -> Array:
    """Weights (W, B) that turn f_lambda (..., W) into `ab_flux` by a matrix product; arguments as there.

    Examples
    --------
    >>> ab_weights(np.arange(3000.0, 12000.0), survey_filters("sdss")).shape
    (9000, 5)
    """
    observed = np.asarray(wavelength, float) * factor
    return np.stack([_weights(observed, curve) for curve in filters], axis=-1)


def _weights(observed: Array, curve: Filter) -> Array:
    """Weights (W,) whose dot product with f_lambda is the flux in maggies, for f_lambda linear in between.

    The filter is sampled on its own grid joined with the spectrum's, so sharp edges of either cost nothing.
    """
    inside = observed[(observed > curve.wavelength[0]) & (observed < curve.wavelength[-1])]
    fine = np.union1d(curve.wavelength, inside)
    response = np.interp(fine, curve.wavelength, curve.response)
    step = np.empty_like(fine)
    step[1:-1] = (fine[2:] - fine[:-2]) / 2
    step[0], step[-1] = (fine[1] - fine[0]) / 2, (fine[-1] - fine[-2]) / 2
    norm = np.sum(step * response * LIGHT / fine) * _AB
    share = step * response * fine / norm
    right = np.clip(np.searchsorted(observed, fine), 1, observed.size - 1)
    upper = (fine - observed[right - 1]) / (observed[right] - observed[right - 1])
    covered = (fine >= observed[0]) & (fine <= observed[-1])
    share = np.where(covered, share, 0.0)
    total = np.bincount(right, share * upper, observed.size)
    return np.asarray(total + np.bincount(right - 1, share * (1 - upper), observed.size), float)
