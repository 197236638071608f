"""Gravitational lensing between redshifts: distances, critical surface density, Einstein radii and time delays.

Functions of arrays that broadcast, for any cosmology of astropy (see
:func:`deepfield.physics.cosmology.cosmology`). Plain numbers are in the units stated; astropy quantities of any
fitting unit are converted. Angles are arcsec, masses solar masses, distances Mpc. Constants are those of
``astropy.constants``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.physics.cosmology import cosmology

Array = NDArray[np.float64]

ARCSEC = np.pi / 648000
"""Radians."""


def in_unit(given: Any, unit: str) -> Array:
    """Numbers in ``unit``: an astropy quantity is converted, anything else is taken to be in it already.

    Raises
    ------
    DeepfieldError
        If the unit does not fit or these are no numbers.

    Examples
    --------
    >>> import astropy.units as u
    >>> in_unit(1 * u.arcmin, "arcsec").item(), in_unit(2.0, "arcsec").item()
    (60.0, 2.0)
    """
    try:
        return np.asarray(given.to_value(unit) if hasattr(given, "to_value") else given, float)
    except (TypeError, ValueError) as error:  # astropy's UnitConversionError is a TypeError
        raise DeepfieldError(f"a number in {unit or 'no unit'} is needed, not {given!r}") from error


def distances(z_lens: Any, z_source: Any, cosmo: Any = None) -> tuple[Array, Array, Array]:
    """Angular diameter distances to the lens, to the source and between them, in Mpc.

    Raises
    ------
    DeepfieldError
        If a source is not behind its lens, or a redshift is not positive.

    Examples
    --------
    >>> [d.round(1).item() for d in distances(0.5, 2.0)]
    [1259.1, 1726.6, 1097.1]
    """
    near, far = in_unit(z_lens, ""), in_unit(z_source, "")
    if not (near > 0).all() or not np.isfinite(far).all():
        raise DeepfieldError(f"redshifts are positive, got a lens at {z_lens} and a source at {z_source}")
    if not (far > near).all():
        raise DeepfieldError(
            f"the source must lie behind the lens: z_source > z_lens is needed, got z_lens {z_lens} and z_source "
            f"{z_source}"
        )
    space = cosmology(cosmo)
    near, far = np.broadcast_arrays(near, far)
    try:
        between = space.angular_diameter_distance(near, far)
    except TypeError:  # astropy 7
        between = space.angular_diameter_distance_z1z2(near, far)
    found = (space.angular_diameter_distance(near), space.angular_diameter_distance(far), between)
    d_lens, d_source, d_between = (np.asarray(d.to_value("Mpc")) for d in found)
    return d_lens, d_source, d_between


def critical_density(z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """Critical surface density c^2 D_s / (4 pi G D_l D_ls), in solar masses per Mpc^2.

    Schneider, Ehlers & Falco (1992), eq. 5.5.

    Examples
    --------
    >>> f"{critical_density(0.5, 2.0):.3e}"
    '2.079e+15'
    """
    from astropy import constants as c

    d_lens, d_source, between = distances(z_lens, z_source, cosmo)
    factor = (c.c**2 / (4 * np.pi * c.G)).to_value("solMass / Mpc")
    return factor * d_source / (d_lens * between)


def einstein_radius(mass: Any, z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """Einstein radius of a point mass (solar masses), sqrt(4 G M D_ls / (c^2 D_l D_s)), in arcsec.

    For any lens, ``mass`` is what its Einstein radius encloses.

    Examples
    --------
    >>> einstein_radius(1e12, 0.5, 2.0).round(3).item()
    2.027
    """
    d_lens, _, _ = distances(z_lens, z_source, cosmo)
    enclosed = _positive(mass, "solMass", "mass") / (np.pi * critical_density(z_lens, z_source, cosmo))
    return np.sqrt(enclosed) / d_lens / ARCSEC


def einstein_mass(theta_e: Any, z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """Mass within the Einstein radius (arcsec), pi (D_l theta_E)^2 Sigma_cr, in solar masses.

    Examples
    --------
    >>> round(float(einstein_mass(einstein_radius(1e12, 0.5, 2.0), 0.5, 2.0)) / 1e12, 12)
    1.0
    """
    d_lens, _, _ = distances(z_lens, z_source, cosmo)
    radius = d_lens * _positive(theta_e, "arcsec", "theta_e") * ARCSEC
    return np.pi * radius**2 * critical_density(z_lens, z_source, cosmo)


def isothermal_radius(sigma_v: Any, z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """Einstein radius 4 pi (sigma_v / c)^2 D_ls / D_s of an isothermal sphere (km/s), in arcsec.

    Schneider, Ehlers & Falco (1992), eq. 8.34.

    Examples
    --------
    >>> isothermal_radius(250.0, 0.5, 2.0).round(3).item()
    1.145
    """
    from astropy import constants as c

    _, d_source, between = distances(z_lens, z_source, cosmo)
    speed = _positive(sigma_v, "km / s", "sigma_v") / c.c.to_value("km / s")
    return 4 * np.pi * speed**2 * between / d_source / ARCSEC


def velocity_dispersion(theta_e: Any, z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """Velocity dispersion (km/s) of the isothermal sphere with this Einstein radius (arcsec).

    Examples
    --------
    >>> velocity_dispersion(isothermal_radius(250.0, 0.5, 2.0), 0.5, 2.0).round(9).item()
    250.0
    """
    unit = isothermal_radius(1.0, z_lens, z_source, cosmo)
    return np.sqrt(_positive(theta_e, "arcsec", "theta_e") / unit)


def nfw_halo(mass: Any, concentration: Any, z_lens: Any, z_source: Any, cosmo: Any = None) -> tuple[Array, Array]:
    """kappa_s = rho_s r_s / Sigma_cr and the scale radius (arcsec) of a halo of Navarro, Frenk & White.

    Parameters
    ----------
    mass : array or Quantity
        M_200 in solar masses, within the sphere of 200 times the critical density at the lens's redshift.
    concentration : array
        r_200 / r_s.

    Notes
    -----
    Navarro, Frenk & White (1997, ApJ 490, 493): rho_s = 200/3 rho_c c^3 / (ln(1 + c) - c / (1 + c)).

    Examples
    --------
    >>> [round(v.item(), 4) for v in nfw_halo(1e13, 5.0, 0.5, 2.0)]
    [0.0724, 12.1706]
    """
    c, m = _positive(concentration, "", "concentration"), _positive(mass, "solMass", "mass")
    d_lens, _, _ = distances(z_lens, z_source, cosmo)
    density = cosmology(cosmo).critical_density(in_unit(z_lens, "")).to_value("solMass / Mpc3")
    r_s = np.cbrt(3 * m / (800 * np.pi * density)) / c
    rho_s = 200 / 3 * density * c**3 / (np.log1p(c) - c / (1 + c))
    return rho_s * r_s / critical_density(z_lens, z_source, cosmo), r_s / d_lens / ARCSEC


def time_delay_distance(z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """D_dt = (1 + z_l) D_l D_s / D_ls in Mpc (Suyu et al. 2010, ApJ 711, 201, eq. 2).

    Examples
    --------
    >>> time_delay_distance(0.5, 2.0).round(0).item()
    2972.0
    """
    d_lens, d_source, between = distances(z_lens, z_source, cosmo)
    return (1 + in_unit(z_lens, "")) * d_lens * d_source / between


def delay_unit(z_lens: Any, z_source: Any, cosmo: Any = None) -> Array:
    """Days of delay for each arcsec^2 of Fermat potential: D_dt / c.

    Examples
    --------
    >>> delay_unit(0.5, 2.0).round(2).item()
    83.23
    """
    from astropy import constants as c

    return time_delay_distance(z_lens, z_source, cosmo) * ARCSEC**2 / c.c.to_value("Mpc / d")


def _positive(given: Any, unit: str, name: str) -> Array:
    value = in_unit(given, unit)
    if not (np.isfinite(value) & (value >= 0)).all():
        raise DeepfieldError(f"{name} is finite and not negative, got {given}")
    return value
