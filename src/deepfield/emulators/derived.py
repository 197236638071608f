"""What follows from a matter power spectrum: variance in spheres, correlation function, lensing spectra."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import fht, fhtoffset
from scipy.interpolate import CubicSpline, RectBivariateSpline

from deepfield.core.errors import DeepfieldError
from deepfield.physics.cosmology import HUBBLE_DISTANCE, flat_distance
from deepfield.physics.limber import lensing_kernel, limber, trapezoidal
from deepfield.physics.power import variance

Array = NDArray[np.float64]
Power = Callable[[Any, Any, Any], Any]

_K = np.geomspace(1e-4, 50.0, 1024)


def sigma(power: Power, cosmology: Any, radius: ArrayLike = 8.0, z: ArrayLike = 0.0) -> Array:
    """Standard deviation of the matter in spheres of ``radius`` in Mpc/h.

    Parameters
    ----------
    power : callable
        ``power(cosmology, k, z)``, such as :class:`deepfield.emulators.MatterPower`.
    radius : array (R,) or number
        0.2 to 100 Mpc/h.
    z : array (Z,) or number

    Returns
    -------
    Array ([N,] [Z,] [R])

    Examples
    --------
    >>> from deepfield.emulators import MatterPower
    >>> planck = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.68, "n_s": 0.965, "sigma_8": 0.81}
    >>> sigma(MatterPower(), planck, 8.0).round(3).item()
    0.81
    """
    r = np.asarray(radius, dtype=float)
    if not ((r >= 0.2) & (r <= 100)).all():
        raise DeepfieldError("sigma(R) is known for radii of 0.2 to 100 Mpc/h: k does not reach further")
    return np.sqrt(variance(_K, power(cosmology, _K, z), radius))


def correlation(power: Power, cosmology: Any, r: ArrayLike, z: float = 0.0) -> Array:
    """Correlation function xi(r), r in Mpc/h from 0.5 to 300, of one or many cosmologies ([N,] R).

    The Hankel transform of P by FFTLog (Hamilton 2000, MNRAS 312, 257), with power-law ends beyond the range of k.

    Examples
    --------
    >>> from deepfield.emulators import MatterPower
    >>> planck = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.68, "n_s": 0.965, "sigma_8": 0.81}
    >>> xi = correlation(MatterPower(), planck, [10.0, 100.0])
    >>> bool(xi[0] > 0.1) and bool(xi[1] < 0.01)
    True
    """
    wanted = np.atleast_1d(np.asarray(r, dtype=float))
    if not ((wanted >= 0.5) & (wanted <= 300)).all():
        raise DeepfieldError("xi(r) is known for 0.5 to 300 Mpc/h")
    inside = np.asarray(power(cosmology, _K, z), dtype=float)
    spectrum = np.atleast_2d(inside)
    step = np.log(_K[1] / _K[0])
    pad = int(np.ceil(np.log(1e4) / step))
    low = spectrum[:, :1] * (_K[1] / _K[0]) ** (np.arange(-pad, 0) * _slope(spectrum[:, :2], step)[:, None])
    high = spectrum[:, -1:] * (_K[1] / _K[0]) ** (np.arange(1, pad + 1) * _slope(spectrum[:, -2:], step)[:, None])
    k = _K[0] * np.exp(step * np.arange(-pad, len(_K) + pad))
    # xi(r) r^1.5 = (2 pi)^-1.5 int P k^1.5 J_1/2(kr) k dr: a Hankel transform of order one half.
    offset = fhtoffset(step, mu=0.5, initial=0.0)
    whole = np.concatenate([low, spectrum, high], 1) * k**1.5
    centre = np.sqrt(k[0] * k[-1])
    radii = np.exp(offset) / centre * np.exp(step * (np.arange(len(k)) - (len(k) - 1) / 2))
    found = fht(whole, step, mu=0.5, offset=offset) / radii**1.5 / (2 * np.pi) ** 1.5
    chosen = (radii > 0.2) & (radii < 1e3)
    xi = CubicSpline(np.log(radii[chosen]), found[:, chosen], axis=1)(np.log(wanted))
    return xi if inside.ndim == 2 else xi[0]


def _slope(pair: Array, step: float) -> Array:
    return np.log(pair[:, 1] / pair[:, 0]) / step


def lensing_spectra(
    power: Power, cosmology: Mapping[str, float], ell: ArrayLike, z: ArrayLike, n_of_z: ArrayLike
) -> Array:
    """Convergence spectra of source bins by the Limber approximation (Kilbinger 2015, equations 30 and 34).

    P(k, z) is taken at k = (l + 1/2) / chi; what would lie beyond its range of k is left out: at l of 10 to 5000
    that is below one part in a thousand.

    Parameters
    ----------
    power : callable
        As :class:`deepfield.emulators.MatterPower`; if it has a ``k_range``, not beyond it.
    cosmology : mapping
        One, flat; with ``w_0`` and ``w_a`` where dark energy is no constant.
    ell : array (L,)
    z : array (S,)
        Increasing, from 0 to 3 at most, fine enough for the trapezoidal rule.
    n_of_z : array (B, S)
        Of each bin, in any unit.

    Returns
    -------
    Array (B, B, L)
    """
    redshift, weights = np.asarray(z, float), np.atleast_2d(np.asarray(n_of_z, float))
    multipole = np.atleast_1d(np.asarray(ell, float))
    if redshift.ndim != 1 or not (np.diff(redshift) > 0).all() or weights.shape[1:] != redshift.shape:
        raise DeepfieldError("n(z) is (bins, S) at redshifts (S,) that increase")
    share = float(cosmology["omega_m"])
    fine = np.linspace(max(float(redshift[0]), 0.005), float(redshift[-1]), 200)
    dark = [float(cosmology.get(name, usual)) for name, usual in (("w_0", -1.0), ("w_a", 0.0))]
    chi = HUBBLE_DISTANCE * flat_distance(fine, share, *dark)[0]
    n = np.array([np.interp(fine, redshift, row) for row in weights]) * trapezoidal(fine)
    kernel = lensing_kernel(fine, chi, share, n, chi)
    nodes = np.linspace(0.0, 3.0, 31)
    low, high = getattr(power, "k_range", (1e-4, 50.0))
    k = np.geomspace(low, high, 400)
    line = RectBivariateSpline(nodes, np.log(k), np.log(np.asarray(power(dict(cosmology), k, nodes), float)))
    wave = (multipole[:, None] + 0.5) / chi
    inside = (wave >= k[0]) & (wave <= k[-1])
    at = np.exp(line.ev(np.broadcast_to(fine, wave.shape), np.log(np.clip(wave, k[0], k[-1])))) * inside
    return limber(kernel, at, trapezoidal(chi) / chi**2)
