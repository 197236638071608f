"""Sets of spectral templates and their AB photometry at any redshift."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.physics import sed
from deepfield.physics.filters import Filter, ab_weights

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Templates:
    """An ordered set of T spectra that neighbours blend into.

    Parameters
    ----------
    names
        T names.
    wavelength
        Rest-frame Angstrom, ascending, shape (W,).
    flux
        f_lambda in arbitrary units, shape (T, W).

    Examples
    --------
    >>> flat = Templates(("a", "b"), np.array([1000.0, 2000.0]), np.array([[1.0, 1.0], [3.0, 3.0]]))
    >>> flat.refine(2).flux[:, 0]
    array([1., 2., 3.])
    """

    names: tuple[str, ...]
    wavelength: Array
    flux: Array

    def __post_init__(self) -> None:
        expected = (len(self.names), np.size(self.wavelength))
        if np.shape(self.flux) != expected:
            raise ValueError(
                f"templates need flux of shape (names, wavelengths) = {expected}, not {np.shape(self.flux)}"
            )
        if not (np.diff(self.wavelength) > 0).all():
            raise ValueError("the wavelengths of templates must ascend")

    def __len__(self) -> int:
        return len(self.names)

    def refine(self, steps: int) -> Templates:
        """Blend neighbours linearly in flux, ``steps`` to each interval: (T - 1) steps + 1 templates."""
        place = np.arange((len(self) - 1) * steps + 1) / steps
        lower = np.minimum(place.astype(int), len(self) - 2)
        share = (place - lower)[:, None]
        names = tuple(f"{self.names[i]}+{p - i:.2f}" if p > i else self.names[i] for i, p in zip(lower, place))
        return Templates(names, self.wavelength, (1 - share) * self.flux[lower] + share * self.flux[lower + 1])

    def redden(self, ebv: Sequence[float]) -> Templates:
        """Every template behind each reddening E(B-V) of Calzetti dust, reddenings outermost."""
        names = tuple(f"{name} E(B-V)={value:g}" for value in ebv for name in self.names)
        flux = sed.attenuate(self.wavelength, self.flux, np.asarray(ebv, float))
        return Templates(names, self.wavelength, flux.reshape(-1, self.wavelength.size))

    def join(self, other: Templates) -> Templates:
        """Both sets on this set's wavelengths."""
        added = np.stack([np.interp(self.wavelength, other.wavelength, row) for row in other.flux])
        return Templates(self.names + other.names, self.wavelength, np.concatenate([self.flux, added]))

    def photometry(self, filters: Sequence[Filter], z: ArrayLike, *, igm: bool = True) -> Array:
        """Relative flux per unit frequency through the filters, shape (Z, T, B) for Z redshifts.

        The spectrum is seen at lambda (1 + z) and dimmed by (1 + z) only: with M the absolute magnitude
        that the spectrum itself has at 10 pc, m = M_zero + DM(z) - 2.5 log10(photometry).

        Parameters
        ----------
        filters
            B filters.
        z
            Redshifts of shape (Z,).
        igm
            Apply `deepfield.physics.sed.igm_transmission`.
        """
        out = np.empty((np.size(z), len(self), len(filters)))
        for i, redshift in enumerate(np.atleast_1d(np.asarray(z, float))):
            weights = ab_weights(self.wavelength, filters, 1 + redshift)
            if igm and redshift > 0.3:
                seen = sed.igm_transmission(self.wavelength * (1 + redshift), float(redshift))
                weights = weights * seen[:, None]
            out[i] = self.flux @ weights / (1 + redshift)
        return out


def wavelength_grid(step: float = 0.0008) -> Array:
    """Logarithmic grid from 600 to 31,000 Angstrom.

    Examples
    --------
    >>> wavelength_grid().size
    4932
    """
    return np.exp(np.arange(np.log(600.0), np.log(31000.0), step))


# name: shares of old, middle and young light at 5500 Angstrom, E(B-V) of the young and middle light,
# rest equivalent width of H alpha in Angstrom (Kennicutt 1992, along the Hubble sequence), metal-poor gas.
_MIXTURES: dict[str, tuple[float, float, float, float, float, float]] = {
    "E": (1.00, 0.00, 0.000, 0.0, 0.0, 0.0),
    "S0": (0.90, 0.09, 0.010, 0.0, 1.0, 0.0),
    "Sa": (0.72, 0.20, 0.080, 0.15, 8.0, 0.0),
    "Sb": (0.52, 0.28, 0.200, 0.20, 20.0, 0.1),
    "Sc": (0.34, 0.31, 0.350, 0.20, 35.0, 0.25),
    "Sd": (0.20, 0.28, 0.520, 0.15, 55.0, 0.5),
    "Im": (0.10, 0.20, 0.700, 0.10, 90.0, 0.75),
    "SB": (0.02, 0.10, 0.880, 0.02, 220.0, 1.0),
}

GALAXY_TYPES = tuple(_MIXTURES)


def analytic_templates(wavelength: Array | None = None) -> Templates:
    """Eight galaxies from elliptical to starburst, made of the parts in `deepfield.physics.sed`.

    Examples
    --------
    >>> analytic_templates().names
    ('E', 'S0', 'Sa', 'Sb', 'Sc', 'Sd', 'Im', 'SB')
    """
    wave = wavelength_grid() if wavelength is None else wavelength
    old, middle, young = sed.old_population(wave), sed.middle_population(wave), sed.young_population(wave)
    spectra = []
    for a, b, c, ebv, halpha, poor in _MIXTURES.values():
        dust = sed.attenuate(wave, np.ones_like(wave), ebv)
        dust = dust / np.interp(5500.0, wave, dust)
        spectra.append(sed.nebular_lines(wave, a * old + (b * middle + c * young) * dust, halpha, poor))
    return Templates(GALAXY_TYPES, wave, np.stack(spectra))


def corrected(templates: Templates, knots: ArrayLike, corrections: ArrayLike) -> Templates:
    """Templates times exp(correction), linear in log wavelength between the knots.

    Parameters
    ----------
    templates
        T templates.
    knots
        Ascending rest-frame Angstrom, shape (K,).
    corrections
        Natural logarithms, shape (T, K).

    Examples
    --------
    >>> flat = Templates(("a",), np.array([1000.0, 2000.0]), np.ones((1, 2)))
    >>> corrected(flat, [1000.0, 2000.0], [[0.0, np.log(2)]]).flux
    array([[1., 2.]])
    """
    place = np.log(templates.wavelength)
    curve = np.stack(
        [np.interp(place, np.log(np.asarray(knots, float)), row) for row in np.asarray(corrections, float)]
    )
    return Templates(templates.names, templates.wavelength, templates.flux * np.exp(curve))


@functools.cache
def galaxy_templates() -> Templates:
    """The eight galaxies with their continua adjusted to observed colours.

    The adjustment (``templates.json``: one smooth curve for each template) was learnt by
    `deepfield.physics.learning.learn_corrections` from spectroscopic galaxies of SDSS and zCOSMOS; see there.

    Examples
    --------
    >>> galaxy_templates().names == GALAXY_TYPES
    True
    """
    path = Path(__file__).with_name("templates.json")
    stored = json.loads(path.read_text())
    return corrected(analytic_templates(), stored["knots"], stored["corrections"])


def quasar_templates(slopes: Sequence[float] = (-1.0, -0.7, -0.44, -0.2, 0.1)) -> Templates:
    """Quasars from red to blue: `deepfield.physics.sed.quasar` for several power-law slopes.

    The spread of about 0.3 in the slope is that of SDSS quasars (Richards et al. 2001, AJ 121, 2308).

    Examples
    --------
    >>> len(quasar_templates())
    5
    """
    wave = wavelength_grid()
    return Templates(tuple(f"QSO {s:g}" for s in slopes), wave, np.stack([sed.quasar(wave, s) for s in slopes]))
