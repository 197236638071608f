"""Growth of matter as a Boltzmann code has it: flat LCDM with radiation, and the scale dependence that it leaves.

Photons and massless neutrinos slow the growth: by up to a per cent between z = 3 and today where omega_m is small.
Inside the horizon the effect is the same on all scales, and an ordinary differential equation has it exactly.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.physics.cosmology import HUBBLE_DISTANCE
from deepfield.physics.power import OMEGA_RADIATION, runge_kutta

Array = NDArray[np.float64]

_START, _STEPS = np.log(1e-4), 360


def growth(z: ArrayLike, omega_m: ArrayLike, h: ArrayLike) -> Array:
    """D(z) / D(0) inside the horizon, (N, Z), of shares of matter ``omega_m`` (N,) and Hubble rates ``h`` (N,).

    Peebles (1980), equation 10.2, in ln a, from Meszaros' solution at a = 1e-4 by Runge-Kutta of fourth order.

    Examples
    --------
    >>> growth([0.0, 1.0], 0.3, 0.7).round(4).tolist()  # without radiation: 0.6118
    [[1.0, 0.6119]]
    """
    m, rate = (np.ravel(v) for v in np.broadcast_arrays(np.asarray(omega_m, float), np.asarray(h, float)))
    return np.asarray(np.exp(_history(m, rate)(-np.log1p(np.atleast_1d(np.asarray(z, float))))).T)


def _history(m: Array, rate: Array) -> CubicSpline:
    """Ln D(a) / D(1) of ln a."""
    r = OMEGA_RADIATION / rate**2
    dark = 1 - m - r

    def slope(x: float, state: Array) -> Array:
        a = np.exp(x)
        matter, light = m / a**3, r / a**4
        square = matter + light + dark
        d, v = state
        return np.stack([v, 1.5 * matter / square * d - (2 - (1.5 * matter + 2 * light) / square) * v])

    x = np.linspace(_START, 0.0, _STEPS + 1)
    y = np.exp(_START) * m / r
    path = runge_kutta(slope, x, np.stack([1 + 1.5 * y, 1.5 * y]))[:, 0]
    return CubicSpline(x, np.log(path / path[-1]))


LATE = 12
"""Numbers of :func:`late_time`."""


def late_time(k: Any, z: float, share: Any, omega_m_h2: Any, omega_b_h2: Any, h: Any, late: Any) -> Any:
    r"""What the growth lacks of that inside the horizon, relative to it: (N, K), below 1 % of T.

    Radiation acts near the horizon: to first order in e, its density over that of matter, it takes
    e F(x) Omega_m(z)^c with x = (k / aH)^2 Omega_m(z)^d / b and F = a (1 + p x) / (1 + q x + p r x^2), flat
    outside the horizon and falling as (aH / k)^2 inside. Baryons keep some pressure after they have come free of
    the light, and growth lags as k^2, by 0.1 % from z = 3 to 0 at k = 50 h/Mpc at most. Both are fitted to a
    Boltzmann code.

    Parameters
    ----------
    k : array (K,)
        h/Mpc.
    z : float
    share, omega_m_h2, omega_b_h2, h : array (N,)
    late : array (12,)
        a, b, c, d, p, q and r; and of the pressure the size, and the powers of k, 1 + z, Omega_m h^2 and
        Omega_b / Omega_m.
    """
    a, b, c, d, p, q, r = late[:7]
    matter = share * (1 + z) ** 3
    square = matter + 1 - share
    inside = matter / square
    x = (inside**d * (1 + z) ** 2 / square)[:, None] * (k**2 * (HUBBLE_DISTANCE**2 / b))
    size = -a * OMEGA_RADIATION * (1 + z) / omega_m_h2 * inside**c
    found = size[:, None] * (1 + p * x) / (1 + x * (q + p * r * x))
    if z == 0:
        return found
    amount, of_k, of_z, of_m, of_share = late[7:]
    pressure = amount * ((1 + z) ** of_z - 1) * omega_m_h2**of_m * (omega_b_h2 / omega_m_h2) ** of_share * h**of_k
    return found + pressure[:, None] * k**of_k


# A series of it: a smooth function of the share of matter and, weakly, of the radiation.
_DEGREES = (9, 2)
_SHARES = (0.1, 0.5)
_LIGHT = (1e-4, 1.75e-3)  # density of radiation over that of matter today


def _features(share: Any, light: Any, xp: Any) -> Any:
    low, high = np.log(_SHARES)
    u = (xp.log(share) - 0.5 * (low + high)) * (2 / (high - low))
    v = (light - 0.5 * sum(_LIGHT)) * (2 / (_LIGHT[1] - _LIGHT[0]))
    rows_u, rows_v = (recurrence(x, top, xp.ones_like(x)) for x, top in zip((u, v), _DEGREES))
    return xp.stack([p * q for p in rows_u for q in rows_v], 1)


def recurrence(x: Any, top: int, one: Any = 1.0) -> list[Any]:
    """Chebyshev polynomials of degree 0 to ``top`` at numbers, arrays or tensors.

    Examples
    --------
    >>> recurrence(0.5, 3)
    [1.0, 0.5, -0.5, -1.0]
    """
    found = [one, x]
    for _ in range(top - 1):
        found.append(2 * x * found[-1] - found[-2])
    return found


@functools.cache
def _nodes() -> tuple[Array, CubicSpline]:
    """The inverse of the features of nodes, and the growth there."""
    nodes = np.cos(np.pi * (np.arange(12) + 0.5) / 12)
    low, high = np.log(_SHARES)
    shares = np.exp(0.5 * (low + high) + 0.5 * (high - low) * nodes)
    shares, light = (v.ravel() for v in np.meshgrid(shares, np.linspace(*_LIGHT, 4)))
    history = _history(shares, np.sqrt(OMEGA_RADIATION / (light * shares)))
    return np.linalg.pinv(_features(shares, light, np)), history


def growth_series(z: float, share: Any, omega_m_h2: Any, xp: Any = np) -> Any:
    """D(z) / D(0) (N,) as :func:`growth` has it, in the box, at the cost of a polynomial; numpy or torch."""
    features = _features(share, OMEGA_RADIATION / omega_m_h2, xp)
    inverse, history = _nodes()
    series = inverse @ history(-np.log1p(z))  # Chebyshev series of ln D(z) / D(0)
    if xp is not np:
        series = xp.as_tensor(series, dtype=features.dtype, device=features.device)
    return xp.exp(features @ series)
