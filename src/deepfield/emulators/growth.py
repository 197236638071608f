"""Growth of matter as a Boltzmann code has it: flat LCDM with radiation, and the scale dependence that it leaves.

Photons and massless neutrinos slow the growth: by up to a per cent between z = 3 and today where omega_m is small.
Inside the horizon the effect is the same on all scales, and an ordinary differential equation has it exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

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
    ratio = path / path[-1]
    return np.asarray(np.exp(CubicSpline(x, np.log(ratio))(-np.log1p(np.atleast_1d(np.asarray(z, float))))).T)
