"""Distances and volumes, for any cosmology of astropy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

FULL_SKY = 4 * np.pi * (180 / np.pi) ** 2
"""Square degrees on the sky."""


HUBBLE_DISTANCE = 2997.92458
"""c / H0 in Mpc/h."""


def cosmology(given: Any = None) -> Any:
    """Return an astropy cosmology: the one given, one named (``"Planck18"``), or flat LCDM (70, 0.3).

    The default is the cosmology that the published luminosity functions were measured in.

    Raises
    ------
    ValueError
        If the name is unknown or the object has no distances.

    Examples
    --------
    >>> cosmology().Om0
    0.3
    >>> cosmology("Planck18").name
    'Planck18'
    """
    import astropy.cosmology as library

    if given is None:
        return library.FlatLambdaCDM(H0=70.0, Om0=0.3)
    if isinstance(given, str):
        if given not in library.available:
            raise ValueError(f"no cosmology named '{given}': choose from {', '.join(library.available)}")
        return getattr(library, given)
    if not hasattr(given, "luminosity_distance"):
        raise ValueError(f"an astropy cosmology or the name of one is needed, not {type(given).__name__}")
    return given


def luminosity_distance(z: ArrayLike, cosmo: Any = None) -> Array:
    """Luminosity distance in Mpc at redshifts ``z`` of any shape.

    Examples
    --------
    >>> luminosity_distance([0.5]).round(1)
    array([2832.9])
    """
    return np.asarray(cosmology(cosmo).luminosity_distance(np.asarray(z, float)).to_value("Mpc"))


def distance_modulus(z: ArrayLike, cosmo: Any = None) -> Array:
    """Distance modulus m - M in magnitudes, 5 log10(D_L / 10 pc).

    Examples
    --------
    >>> distance_modulus(0.5).round(3).item()
    42.261
    """
    return 5 * np.log10(luminosity_distance(z, cosmo)) + 25


def volume_element(z: ArrayLike, cosmo: Any = None) -> Array:
    """Comoving volume per redshift and square degree, dV/dz/dOmega in Mpc^3 / deg^2.

    Hogg (1999, astro-ph/9905116), equation 28.

    Examples
    --------
    >>> volume_element(0.5).round(-2).item()
    3555900.0
    """
    per_steradian = cosmology(cosmo).differential_comoving_volume(np.asarray(z, float)).to_value("Mpc3 / sr")
    return np.asarray(per_steradian * (np.pi / 180) ** 2)


def expansion_rate(z: ArrayLike, omega_m: ArrayLike, w: ArrayLike = -1.0) -> Array:
    """E(z) = H(z) / H0 of flat universes of matter and dark energy of constant w, without radiation.

    Linder (2003), PRL 90, 091301, equation 4, with w' = 0.

    Parameters
    ----------
    z : array (Z,)
    omega_m, w : array (N,) or scalar

    Returns
    -------
    Array (N, Z)

    Examples
    --------
    >>> expansion_rate([0.0, 1.0], 0.3).round(4).tolist()
    [[1.0, 1.7607]]
    """
    return _rate(np.log1p(np.atleast_1d(np.asarray(z, float))), *_columns(omega_m, w))


def flat_distance(z: ArrayLike, omega_m: ArrayLike, w: ArrayLike = -1.0, wa: ArrayLike = 0.0) -> Array:
    """Comoving distance D_M H0 / c of the same universes: the integral of 1 / E, by 16-point Gauss-Legendre.

    In ln(1 + z), where the integrand is smooth: good to 1e-7 up to z = 3.

    Parameters
    ----------
    z : array (Z,)
    omega_m, w, wa : array (N,) or scalar
        Dark energy has the equation of state w + wa (1 - a).

    Returns
    -------
    Array (N, Z)

    Examples
    --------
    >>> flat_distance([1.0], 0.3).round(5).tolist()
    [[0.77143]]
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    matter, dark, change = _columns(omega_m, w, wa)
    top = np.log1p(np.atleast_1d(np.asarray(z, float)))
    total = np.zeros((len(matter), len(top)))
    for node, weight in zip(nodes, weights):
        x = 0.5 * top * (1 + node)
        total += 0.5 * weight * top * np.exp(x) / _rate(x, matter, dark, change)
    return total


def _columns(*parameters: ArrayLike) -> list[Array]:
    return [one.reshape(-1, 1) for one in np.broadcast_arrays(*(np.asarray(p, float) for p in parameters))]


def _rate(x: Array, matter: Array, dark: Array, change: Array | float = 0.0) -> Array:
    falling = 3 * (1 + dark + change) * x + 3 * change * np.expm1(-x)
    return np.sqrt(matter * np.exp(3 * x) + (1 - matter) * np.exp(falling))
