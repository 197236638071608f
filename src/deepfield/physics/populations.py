"""Populations of galaxies and quasars: how many there are of which luminosity, kind and redshift."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.physics import cosmology as cosmo
from deepfield.physics.filters import Filter, load_filter
from deepfield.physics.templates import Templates, galaxy_templates, quasar_templates

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Population:
    """Objects that share a luminosity function.

    Parameters
    ----------
    templates
        "galaxy" or "quasar".
    reference
        speclite filter of the luminosity function and the redshift at which it looks at the rest frame.
    shape
        Luminosity function against M - M*, without its normalisation; vectorised.
    m_star, density
        AB characteristic magnitude and comoving normalisation in Mpc^-3 against redshift; vectorised.
    kinds
        Relative numbers of the templates at places 0 ... T - 1 and redshifts, broadcast together.
    ebv
        Standard deviation of the scatter of the reddening about the templates' own.
    faintest
        No object is fainter than this absolute magnitude.
    tilt
        Magnitudes by which M* is fainter for each step along the templates, about place 4.
    """

    templates: str
    reference: tuple[str, float]
    shape: Callable[[Array], Array]
    m_star: Callable[[Array], Array]
    density: Callable[[Array], Array]
    kinds: Callable[[Array, Array], Array]
    ebv: float
    faintest: float
    tilt: float = 0.0


def schechter(alpha: float) -> Callable[[Array], Array]:
    """Schechter (1976) luminosity function per magnitude against M - M*, with phi* = 1.

    Examples
    --------
    >>> schechter(-1.0)(np.array([0.0])).round(4)       # 0.4 ln 10 / e
    array([0.3388])
    """

    def value(x: Array) -> Array:
        light = 10 ** (-0.4 * x)
        return 0.4 * np.log(10) * light ** (alpha + 1) * np.exp(-light)

    return value


def double_power_law(bright: float, faint: float) -> Callable[[Array], Array]:
    """Quasar luminosity function per magnitude against M - M* (Boyle et al. 2000), with phi* = 1.

    Examples
    --------
    >>> double_power_law(-3.3, -1.8)(np.array([0.0]))
    array([0.5])
    """

    def value(x: Array) -> Array:
        return 1 / (10 ** (0.4 * (bright + 1) * x) + 10 ** (0.4 * (faint + 1) * x))

    return value


def _gauss(place: Array, centre: Any, width: float, low: float, high: float) -> Array:
    return np.where((place >= low) & (place <= high), np.exp(-0.5 * ((place - centre) / width) ** 2), 0.0)


# Red galaxies: GAMA r band at z = 0.1 (Loveday et al. 2012, MNRAS 420, 1239: M* - 5 log h = -20.34,
# alpha = -0.57, phi* = 0.0111 h^3 Mpc^-3) with the evolution to z = 1 of Faber et al. (2007, ApJ 665, 265) as
# Krause, Eifler & Blazek (2016, MNRAS 456, 207; code CosmoLike) take it to r: Q = 1.20, P = -1.15; h = 0.7.
RED = Population(
    "galaxy",
    ("sdss2010-r", 0.1),
    schechter(-0.57),
    lambda z: -21.11 - 1.20 * (np.minimum(z, 2.0) - 0.1),
    lambda z: 3.8e-3 * 10 ** (0.4 * -1.15 * z),
    lambda t, z: _gauss(t, 0.1, 0.6, 0.0, 1.6) + 0.0 * z,
    0.03,
    -12.0,
)
# Blue galaxies: DEEP2 B band (Willmer et al. 2006, ApJ 647, 853: alpha = -1.3, M* = -20.96 - 1.25 (z - 0.7)
# Vega fits their points from z = 0.3 to 1.1, constant density), AB = Vega - 0.09. (All galaxies of DEEP2 have
# M* = -21.07 at z = 0.3 and -21.54 at 1.1 with the same alpha, Faber et al. 2007: at the low end this line may
# be too faint.) Beyond z = 1.3, where they have no data, the luminosity stays and the density falls by 10^(-0.2
# (z - 1.3)): the rate of the UV function from 2 to 3 (Reddy & Steidel 2009, ApJ 692, 778), and the LSST gold
# sample then has the median redshift of the LSST Science Book. Later types are 0.2 mag fainter each; types
# shift bluewards with redshift.
BLUE = Population(
    "galaxy",
    ("bessell-B", 0.0),
    schechter(-1.3),
    lambda z: -21.05 - 1.25 * (np.minimum(z, 1.3) - 0.7),
    lambda z: 3.2e-3 * 10 ** (-0.2 * np.maximum(z - 1.3, 0.0)),
    lambda t, z: _gauss(t, 3.0 + 1.0 * np.minimum(z, 2.0), 1.3, 1.2, 7.0),
    0.08,
    -11.0,
    0.2,
)
# Quasars: 2SLAQ g band (Richards et al. 2005, MNRAS 360, 839; the same numbers in Shen et al. 2020's compilation).
QUASAR = Population(
    "quasar",
    ("sdss2010-g", 0.0),
    double_power_law(-3.28, -1.78),
    lambda z: -22.68 - 2.5 * (1.37 * z - 0.32 * z**2),
    lambda z: np.full_like(z, 5.96e-7),
    lambda t, z: _gauss(t, 2.0, 1.2, 0.0, 4.0) + 0.0 * z,
    0.02,
    -20.5,
)

_EBV = np.array([-0.1, 0.0, 0.1, 0.2, 0.35])


@dataclass(frozen=True, eq=False)
class ColourTable:
    """AB magnitudes at 10 pc of objects of reference magnitude zero, tabulated for fast interpolation.

    Parameters
    ----------
    log_z
        ln(1 + z) on an even grid, shape (Z,).
    step
        Template places between neighbours on the second axis.
    values
        Shape (Z, T, E, B): redshift, template, reddening, band.
    """

    log_z: Array
    step: float
    values: Array

    def __call__(self, z: Array, kind: Array, ebv: Array) -> Array:
        """Magnitudes (N, B) at redshifts, template places and reddenings of shape (N,), trilinear."""
        gap = self.log_z[1] - self.log_z[0]
        reddening = np.interp(ebv, _EBV, np.arange(_EBV.size))
        places = ((np.log1p(z) - self.log_z[0]) / gap, kind / self.step, reddening)
        lower = [np.clip(p.astype(int), 0, size - 2) for p, size in zip(places, self.values.shape)]
        share = [np.clip(p - low, 0.0, 1.0) for p, low in zip(places, lower)]
        total = np.zeros((z.size, self.values.shape[3]))
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod([s if up else 1 - s for s, up in zip(share, corner)], axis=0)
            total += weight[:, None] * self.values[tuple(low + up for low, up in zip(lower, corner))]
        return total


@functools.lru_cache(maxsize=16)
def colour_table(
    filters: tuple[Filter, ...], kind: str, reference: tuple[str, float], z_max: float
) -> ColourTable:
    """The table of the galaxy or quasar templates through the filters, up to a redshift.

    ``reference`` names a speclite filter and the redshift at which it sees the rest frame. Takes about a second
    the first time.

    Examples
    --------
    >>> from deepfield.physics.filters import survey_filters
    >>> table = colour_table(survey_filters("sdss", ("g", "r")), "galaxy", ("sdss2010-r", 0.1), 0.3)
    >>> table.values.shape[1:]
    (29, 5, 2)
    """
    log_z, names, both, observed = _observed(filters, kind, z_max)
    # A band shifted to z sees the rest-frame spectrum 2.5 log10(1 + z) fainter than the band does an object at z:
    # the convention of Blanton & Roweis (2007), in which K(z) = -2.5 log10(1 + z) there.
    zero = both.photometry([load_filter(reference[0])], [reference[1]])[0, :, 0] / (1 + reference[1])
    mags = -2.5 * np.log10(np.maximum(observed / zero[:, None], 1e-30)).reshape(log_z.size, _EBV.size, names, -1)
    return ColourTable(log_z, 0.25 if kind == "galaxy" else 0.5, np.ascontiguousarray(mags.swapaxes(1, 2)))


@functools.lru_cache(maxsize=8)
def _observed(filters: tuple[Filter, ...], kind: str, z_max: float) -> tuple[Array, int, Templates, Array]:
    base: Templates = galaxy_templates() if kind == "galaxy" else quasar_templates()
    fine = base.refine(4 if kind == "galaxy" else 2)
    both = fine.redden(list(_EBV))
    log_z = np.linspace(np.log1p(0.002), np.log1p(z_max), 320)
    return log_z, len(fine), both, both.photometry(filters, np.expm1(log_z))


class Sampler:
    """Draws objects of one population that are brighter than a limit.

    Parameters
    ----------
    population
        Which objects.
    filters
        B filters of the survey.
    band
        Place of the selection band among them.
    limit
        AB magnitude in it.
    z_max
        Highest redshift.
    cosmology
        As `deepfield.physics.cosmology.cosmology` takes it.

    Attributes
    ----------
    count : float
        Expected number per square degree above the limit.
    """

    def __init__(
        self,
        population: Population,
        filters: Sequence[Filter],
        band: int,
        limit: float,
        z_max: float,
        cosmology: Any,
    ) -> None:
        self.population = population
        self.colours = colour_table(tuple(filters), population.templates, population.reference, z_max)
        z = np.expm1(self.colours.log_z)
        self._place = np.asarray(np.arange(self.colours.values.shape[1]) * self.colours.step, float)
        self._modulus = cosmo.distance_modulus(z, cosmology)
        self._star = population.m_star(z)[:, None] + population.tilt * (self._place - 4.0)
        self._x: Any = np.linspace(-6.0, 12.0, 3601)
        width = self._x[1] - self._x[0]
        middles = np.asarray(self._x[1:] - width / 2, float)
        self._below = np.concatenate([[0.0], np.cumsum(population.shape(middles) * width)])
        reach = limit - self._modulus[:, None] - self.colours.values[:, :, 1, band]  # E(B-V) = 0
        self._reach = np.minimum(reach, population.faintest) - self._star
        kinds = population.kinds(self._place, z[:, None])
        kinds = kinds / np.maximum(kinds.sum(1, keepdims=True), 1e-300)
        volume = population.density(z) * cosmo.volume_element(z, cosmology) * (1 + z)
        number = np.interp(self._reach, self._x, self._below) * kinds * volume[:, None]
        self._flat = np.cumsum(number.ravel())
        self.count = float(self._flat[-1] * (self.colours.log_z[1] - self.colours.log_z[0]))

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Array, Array, Array]:
        """Redshifts (n,), places among the templates (n,) and true AB magnitudes (n, B)."""
        cell = np.searchsorted(self._flat, rng.random(n) * self._flat[-1])
        i, j = np.unravel_index(np.minimum(cell, self._flat.size - 1), self._reach.shape)
        log_z = self.colours.log_z
        lz = np.clip(log_z[i] + (log_z[1] - log_z[0]) * (rng.random(n) - 0.5), log_z[0], log_z[-1])
        kind = np.clip(self._place[j] + self.colours.step * (rng.random(n) - 0.5), 0.0, self._place[-1])
        share = rng.random(n) * np.interp(self._reach[i, j], self._x, self._below)
        absolute = np.interp(share, self._below, self._x) + self._star[i, j]
        ebv = np.clip(self.population.ebv * rng.normal(size=n), _EBV[0], _EBV[-1])
        mags = self.colours(np.expm1(lz), kind, ebv)
        return np.expm1(lz), kind, mags + (absolute + np.interp(lz, log_z, self._modulus))[:, None]
