"""Halofit: the nonlinear matter power spectrum from the linear one, as revised by Takahashi et al. (2012)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]


def halofit(k: ArrayLike, power: ArrayLike, omega_m: ArrayLike, w: ArrayLike = -1.0) -> Array:
    """Nonlinear power spectrum by Takahashi et al. (2012, ApJ 761, 152), appendix.

    Parameters
    ----------
    k : array (K,)
        h/Mpc, increasing, from 0.01 or less to 10 or more in some 20 steps to the e-fold.
    power : array (N, K)
        Linear spectrum in (Mpc/h)^3.
    omega_m : array (N,) or scalar
        Share of matter **at the redshift** of the spectrum.
    w : array (N,) or scalar
        Equation of state of dark energy there.

    Returns
    -------
    Array (N, K)
        In (Mpc/h)^3. Spectra so weak that nothing is nonlinear at the largest k are returned as they are.

    Raises
    ------
    DeepfieldError
        If k does not increase.

    Examples
    --------
    >>> k = np.geomspace(1e-3, 20, 300)
    >>> linear = (2e4 * (k / 0.02) / (1 + (k / 0.02) ** 1.5) ** 1.7)[None]
    >>> boost = halofit(k, linear, 0.3) / linear
    >>> bool(abs(boost[0, 0] - 1) < 0.01), bool(boost[0, -1] > 5)
    (True, True)
    """
    wave, linear = np.asarray(k, float), np.atleast_2d(np.asarray(power, float))
    if wave.ndim != 1 or not (np.diff(wave) > 0).all():
        raise DeepfieldError("k of halofit increases: sort it, with the spectrum")
    matter, state = (np.broadcast_to(np.asarray(v, float), len(linear)) for v in (omega_m, w))
    found = linear.copy()
    for row, (spectrum, share, index) in enumerate(zip(linear, matter, state)):
        scale = _scale(wave, wave**3 * spectrum / (2 * np.pi**2))
        if scale is not None:
            found[row] = _nonlinear(wave, spectrum, float(share), float(index), *scale)
    return found


def _scale(k: Array, delta: Array) -> tuple[float, float, float] | None:
    """Nonlinear wavenumber, effective index and curvature: Smith et al. (2003), equations C5 to C8."""
    radii = np.geomspace(0.5 / k[-1], 60.0, 60)
    y = (k * radii[:, None]) ** 2
    log_variance = np.log(np.trapezoid(delta * np.exp(-y), np.log(k), axis=-1))
    if log_variance[0] < 0:
        return None
    x = np.log(radii)
    line = CubicSpline(x, log_variance)
    root = float(next(r for r in line.roots(extrapolate=False) if x[0] <= r <= x[-1]))
    return float(np.exp(-root)), float(-3 - line(root, 1)), float(-line(root, 2))


def _nonlinear(k: Array, spectrum: Array, share: float, w: float, k_sigma: float, n: float, c: float) -> Array:
    """Equations A1 to A14 of Takahashi et al."""
    dark = (1 - share) * (1 + w)
    a = 10 ** (1.5222 + 2.8553 * n + 2.3706 * n**2 + 0.9903 * n**3 + 0.2250 * n**4 - 0.6038 * c + 0.1749 * dark)
    b = 10 ** (-0.5642 + 0.5864 * n + 0.5716 * n**2 - 1.5474 * c + 0.2279 * dark)
    width = 10 ** (0.3698 + 2.0404 * n + 0.8161 * n**2 + 0.5869 * c)
    gamma = 0.1971 - 0.0843 * n + 0.8460 * c
    alpha = abs(6.0835 + 1.3373 * n - 0.1959 * n**2 - 5.5274 * c)
    beta = 2.0379 - 0.7354 * n + 0.3157 * n**2 + 1.2490 * n**3 + 0.3980 * n**4 - 0.1682 * c
    nu = 10 ** (5.2105 + 3.6902 * n)
    f1, f2, f3 = share**-0.0307, share**-0.0585, share**0.0743
    y = k / k_sigma
    delta = k**3 * spectrum / (2 * np.pi**2)
    two_halo = delta * (1 + delta) ** beta / (1 + alpha * delta) * np.exp(-y / 4 - y**2 / 8)
    one_halo = a * y ** (3 * f1) / (1 + b * y**f2 + (width * f3 * y) ** (3 - gamma)) / (1 + nu / y**2)
    return (two_halo + one_halo) * 2 * np.pi**2 / k**3
