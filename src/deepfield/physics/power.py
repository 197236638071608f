"""Matter power spectra in closed form: transfer functions, growth, variance in spheres, halofit.

Fits and integrals that take no Boltzmann code. They are a few per cent from the truth, which makes them good
references: what an emulator learns is the ratio of the truth to one of them. Arrays broadcast: cosmologies go
along the first axis, (N, 1), wavenumbers along the last, (K,).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]

T_CMB = 2.7255
"""Temperature of the cosmic microwave background in K (Fixsen 2009)."""

OMEGA_RADIATION = 2.47282e-5 * (1 + 3.046 * 7 / 8 * (4 / 11) ** (4 / 3))
"""Omega h^2 of photons at T_CMB and of N_eff = 3.046 massless neutrinos."""

_THETA = T_CMB / 2.7


def _epochs(m: Array, b: Array) -> tuple[Array, Array, Array, Array]:
    """Wavenumber of equality (1/Mpc), redshift ratio of equality and drag, R at drag, sound horizon (Mpc)."""
    z_eq, k_eq = 2.5e4 * m / _THETA**4, 7.46e-2 * m / _THETA**2
    b1 = 0.313 * m**-0.419 * (1 + 0.607 * m**0.674)
    z_d = 1291 * m**0.251 / (1 + 0.659 * m**0.828) * (1 + b1 * b ** (0.238 * m**0.223))
    r_d, r_eq = (31.5e3 * b / _THETA**4 / z for z in (z_d, z_eq))
    log = np.log((np.sqrt(1 + r_d) + np.sqrt(r_d + r_eq)) / (1 + np.sqrt(r_eq)))
    return k_eq, (1 + z_eq) / (1 + z_d), r_d, 2 / (3 * k_eq) * np.sqrt(6 / r_eq) * log


def sound_horizon(omega_m_h2: ArrayLike, omega_b_h2: ArrayLike) -> Array:
    """Comoving sound horizon at the drag epoch in Mpc: Eisenstein & Hu (1998), equations 2 to 6.

    Parameters
    ----------
    omega_m_h2, omega_b_h2 : array
        Omega_m h^2 and Omega_b h^2.

    Examples
    --------
    >>> sound_horizon(0.14, 0.0224).round(1).item()
    151.7
    """
    return _epochs(np.asarray(omega_m_h2, float), np.asarray(omega_b_h2, float))[3]


def smooth_transfer(k: ArrayLike, omega_m_h2: ArrayLike, omega_b_h2: ArrayLike) -> Array:
    """Transfer function without acoustic oscillations: Eisenstein & Hu (1998), equations 26 and 28 to 31.

    Parameters
    ----------
    k : array
        1/Mpc.
    omega_m_h2, omega_b_h2 : array
        Omega_m h^2 and Omega_b h^2.

    Examples
    --------
    >>> smooth_transfer([1e-4, 0.1], 0.14, 0.0224).round(3)
    array([1.  , 0.08])
    """
    k, m, b = (np.asarray(v, float) for v in (k, omega_m_h2, omega_b_h2))
    share = b / m
    s = 44.5 * np.log(9.83 / m) / np.sqrt(1 + 10 * b**0.75)
    alpha = 1 - 0.328 * np.log(431 * m) * share + 0.38 * np.log(22.3 * m) * share**2
    q = k * _THETA**2 / (m * (alpha + (1 - alpha) / (1 + (0.43 * k * s) ** 4)))
    log = np.log(2 * np.e + 1.8 * q)
    return log / (log + (14.2 + 731 / (1 + 62.5 * q)) * q**2)


def transfer(k: ArrayLike, omega_m_h2: ArrayLike, omega_b_h2: ArrayLike) -> Array:
    """Transfer function with acoustic oscillations: Eisenstein & Hu (1998), equations 8 to 24.

    Parameters
    ----------
    k : array
        1/Mpc.
    omega_m_h2, omega_b_h2 : array
        Omega_m h^2 and Omega_b h^2; the latter is above zero.

    Examples
    --------
    >>> transfer([1e-4, 0.1], 0.14, 0.0224).round(3)
    array([1.   , 0.081])
    """
    k, m, b = (np.asarray(v, float) for v in (k, omega_m_h2, omega_b_h2))
    k_eq, ratio, r_d, s = _epochs(m, b)
    f_b, f_c = b / m, 1 - b / m
    q, ks = k / (13.41 * k_eq), k * s
    a1 = (46.9 * m) ** 0.670 * (1 + (32.1 * m) ** -0.532)
    a2 = (12.0 * m) ** 0.424 * (1 + (45.0 * m) ** -0.582)
    alpha_c = a1**-f_b * a2 ** -(f_b**3)
    b1 = 0.944 / (1 + (458 * m) ** -0.708)
    beta_c = 1 / (1 + b1 * (f_c ** ((0.395 * m) ** -0.0266) - 1))

    def pressureless(alpha: Any, beta: Any) -> Any:
        log = np.log(np.e + 1.8 * beta * q)
        return log / (log + (14.2 / alpha + 386 / (1 + 69.9 * q**1.08)) * q**2)

    f = 1 / (1 + (ks / 5.4) ** 4)
    cold = f * pressureless(1.0, beta_c) + (1 - f) * pressureless(alpha_c, beta_c)
    root = np.sqrt(1 + ratio)
    g = ratio * (-6 * root + (2 + 3 * ratio) * np.log((root + 1) / (root - 1)))
    alpha_b = 2.07 * k_eq * s * (1 + r_d) ** -0.75 * g
    beta_b = 0.5 + f_b + (3 - 2 * f_b) * np.sqrt((17.2 * m) ** 2 + 1)
    node = 8.41 * m**0.435
    silk = 1.6 * b**0.52 * m**0.73 * (1 + (10.4 * m) ** -0.95)
    shifted = s / np.cbrt(1 + (node / ks) ** 3)
    baryons = pressureless(1.0, 1.0) / (1 + (ks / 5.2) ** 2)
    baryons = baryons + alpha_b / (1 + (beta_b / ks) ** 3) * np.exp(-((k / silk) ** 1.4))
    return f_c * cold + f_b * baryons * np.sinc(k * shifted / np.pi)


def growth(z: ArrayLike, omega_m: ArrayLike, w0: ArrayLike = -1.0, wa: ArrayLike = 0.0) -> Array:
    """Linear growth of matter, D(z) / D(0), in flat universes of matter and dark energy, without radiation.

    Linder & Jenkins (2003, MNRAS 346, 573), equation 11, in ln a: Runge-Kutta of fourth order from a = 1/1000,
    good to 1e-5.

    Parameters
    ----------
    z : array (Z,)
        At most 900.
    omega_m, w0, wa : array (N,) or scalar

    Returns
    -------
    Array (N, Z)

    Examples
    --------
    >>> growth([1.0], 1.0).round(4).tolist()
    [[0.5]]
    """
    redshift = np.atleast_1d(np.asarray(z, float))
    if not (redshift >= 0).all() or redshift.max(initial=0) > 900:
        raise DeepfieldError("growth is known for redshifts of 0 to 900")
    m, w, wa = (np.ravel(v) for v in np.broadcast_arrays(*(np.asarray(v, float) for v in (omega_m, w0, wa))))

    x = np.linspace(np.log(1e-3), 0.0, 241)
    path = growth_path(x, m, w, wa)
    return np.asarray(CubicSpline(x, path / path[-1])(-np.log1p(redshift)).T) / (1 + redshift)


def growth_path(x: Array, m: Array, w0: Array, wa: Array) -> Array:
    """D / a (X, N) at even steps of ln a (X,), the first of which is early: one there; see :func:`growth`.

    Examples
    --------
    >>> one = np.ones(1)
    >>> growth_path(np.linspace(-7.0, 0.0, 50), 0.3 * one, -one, 0 * one)[[0, -1], 0].round(3).tolist()
    [1.0, 0.779]
    """
    # What the slope takes at steps and half steps, all at once.
    half = np.linspace(x[0], x[-1], 2 * len(x) - 1)[:, None]
    dark, state_w = dark_share(half, m, w0, wa), w0 + wa * -np.expm1(half)
    drag, pull = 2.5 - 1.5 * state_w * dark, 1.5 * (1 - state_w) * dark

    def slope(at: float, state: Array) -> Array:
        """Of D / a, and of its derivative in ln a."""
        i = round(2 * (at - x[0]) / (x[1] - x[0]))
        g, dg = state
        return np.stack([dg, -drag[i] * dg - pull[i] * g])

    return runge_kutta(slope, x, np.stack([np.ones_like(m), np.zeros_like(m)]))[:, 0]


def dark_share(x: ArrayLike, m: ArrayLike, w0: ArrayLike, wa: ArrayLike) -> Array:
    """Share of dark energy in the density at ln a = x, where that of matter today is m; flat, without radiation.

    Examples
    --------
    >>> dark_share([0.0, -3.0], 0.3, -1.0, 0.0).round(4).tolist()
    [0.7, 0.0003]
    """
    at, matter, now, change = (np.asarray(v, float) for v in (x, m, w0, wa))
    falling = np.exp(3 * now * at + 3 * change * (at - np.expm1(at)))
    return np.asarray((1 - matter) / (1 - matter + matter * falling))


def neutrino_growth(k: ArrayLike, omega_m_h2: Array, f_nu: Array, growth: Array) -> tuple[Array, Array]:
    """What massive neutrinos leave of the growth: of cold matter and of all matter, (N, K) each, one without them.

    Eisenstein & Hu (1999, ApJ 511, 5), equations 11 to 14, for three neutrinos alike.

    Parameters
    ----------
    k : array (N, K) or (K,)
        1/Mpc.
    omega_m_h2, f_nu : array (N,)
        Omega_m h^2 with the neutrinos, and their share of it.
    growth : array (N,)
        Of matter without them, a at early times.

    Examples
    --------
    >>> cold, whole = neutrino_growth([1e-4, 1.0], np.array([0.14]), np.array([0.02]), np.array([0.78]))
    >>> bool(whole[0, 0] > 0.99), bool(0.85 < whole[0, 1] < cold[0, 1] < 0.95)
    (True, True)
    """
    wave = np.asarray(k, float)
    m, light, grown = (np.asarray(v, float)[:, None] for v in (omega_m_h2, f_nu, growth))
    if not light.any():
        one = np.ones(np.broadcast_shapes(wave.shape, m.shape))
        return one, one
    light = np.maximum(light, 1e-9)
    slower = (5 - np.sqrt(1 + 24 * (1 - light))) / 4
    grown = (1 + 2.5e4 * m / _THETA**4) * grown
    streaming = 17.2 * light * (1 + 0.488 * light ** (-7 / 6)) * (3 * wave * _THETA**2 / m / light) ** 2
    part = (grown / (1 + streaming)) ** 0.7
    cold, whole = ((bare + part) ** (slower / 0.7) * grown**-slower for bare in (1, (1 - light) ** (0.7 / slower)))
    return cold, whole


def runge_kutta(slope: Callable[[float, Array], Array], x: Array, state: Array) -> Array:
    """States (X, ...) at even steps x (X,), from the first on, by Runge and Kutta's rule of fourth order.

    Examples
    --------
    >>> x = np.linspace(0, 1, 11)
    >>> runge_kutta(lambda _, y: y, x, np.array([1.0]))[-1].round(4).tolist()
    [2.7183]
    """
    step, path = x[1] - x[0], [state]
    for left in x[:-1]:
        k1 = slope(left, state)
        k2 = slope(left + step / 2, state + step / 2 * k1)
        k3 = slope(left + step / 2, state + step / 2 * k2)
        k4 = slope(left + step, state + step * k3)
        state = state + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        path.append(state)
    return np.array(path)


def variance(k: ArrayLike, power: ArrayLike, radius: ArrayLike = 8.0) -> Array:
    """Variance of the matter in spheres: the integral of k^3 P / (2 pi^2) W(kR)^2 over ln k, W of a top hat.

    By the trapezoidal rule: give k from well below 1/R to well above, in even steps of ln k, 20 to the e-fold.

    Parameters
    ----------
    k : array (K,)
        In the inverse of the unit of ``radius``, increasing.
    power : array (..., K)
        In the cube of that unit.
    radius : array (R,) or scalar
        In Mpc/h if k is in h/Mpc.

    Returns
    -------
    Array (..., R) or (...)

    Examples
    --------
    >>> k = np.geomspace(1e-4, 100, 2000)
    >>> variance(k, 2 * np.pi**2 / k, 8.0).round(4).item()  # k^3 P / (2 pi^2) = k^2: 9 / (4 R^2)
    0.0352
    """
    wave = np.asarray(k, float)
    x = wave * np.atleast_1d(np.asarray(radius, float))[:, None]
    # sin x - x cos x loses its digits below x = 0.1; the series is good to 1e-9 there.
    series = 1 - x**2 / 10 + x**4 / 280
    window = np.where(x < 0.1, series, 3 * (np.sin(x) - x * np.cos(x)) / np.maximum(x, 1e-9) ** 3)
    integrand = np.asarray(power, float)[..., None, :] * wave**3 / (2 * np.pi**2) * window**2
    found = np.trapezoid(integrand, np.log(wave), axis=-1)
    return found if np.ndim(radius) else found[..., 0]
