"""The linear power spectrum from its series, with nothing laid out beforehand: for few cosmologies, and gradients.

The same lines run on numpy and on torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from deepfield.emulators.growth import growth_series, late_time
from deepfield.emulators.linear import LN_X, Transfer

Array = NDArray[np.float64]

_CHUNK = 64


def _quadrature() -> tuple[Array, Array]:
    """Wavenumbers in h/Mpc, and weights dk, in three parts: the middle one has to follow the oscillations."""
    parts = []
    for low, high, n, power in ((5e-4, 0.03, 20, 0.0), (0.03, 0.8, 104, 0.5), (0.8, 10.0, 24, 0.0)):
        x, w = np.polynomial.legendre.leggauss(n)
        a, b = (low**power, high**power) if power else np.log([low, high])
        t, w = 0.5 * (a + b) + 0.5 * (b - a) * x, 0.5 * (b - a) * w
        k = t ** (1 / power) if power else np.exp(t)
        parts.append((k, w * (k / (t * power) if power else k)))
    k, weights = (np.concatenate(part) for part in zip(*parts))
    return k, weights


NODES, _WEIGHTS = _quadrature()
"""Of the integral for sigma_8."""


def sphere() -> Array:
    """Weights on :data:`NODES` of the integral over P that is the variance in spheres of 8 Mpc/h."""
    x = 8 * NODES
    window = np.where(x < 0.1, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    return _WEIGHTS * NODES**2 / (2 * np.pi**2) * window**2


class Direct:
    """P(k, z) of a few cosmologies.

    Parameters
    ----------
    transfer : Transfer
    late : Array
        Of :func:`deepfield.emulators.growth.late_time`.
    """

    def __init__(self, transfer: Transfer, late: Array) -> None:
        self.transfer, self.late = transfer, late
        self.shapes = CubicSpline(LN_X, np.concatenate([transfer.form, transfer.ratio]).T)

    def __call__(self, theta: Any, k: Array, z: Array, xp: Any = np) -> Any:
        """P (N, Z, K) in (Mpc/h)^3 of parameters (N, 5) at k in h/Mpc."""
        parts = [self._chunk(theta[i : i + _CHUNK], k, z, xp) for i in range(0, len(theta), _CHUNK)]
        return parts[0] if len(parts) == 1 else xp.concatenate(parts)

    def _chunk(self, theta: Any, k: Array, z: Array, xp: Any) -> Any:
        def own(array: Array) -> Any:
            return array if xp is np else xp.as_tensor(array, dtype=theta.dtype, device=theta.device)

        share, b, h, tilt, sigma_8 = theta.T
        square = h * h
        m, b = share * square, b * square
        both = np.concatenate([k, NODES])
        wave, cosmology = own(both), (share, m, b, h)
        base = self.smallest(m, b, h, both, xp)
        today = base * (1 + late_time(wave, 0.0, *cosmology, self.late))
        power = wave ** tilt[:, None] * today**2
        level = sigma_8**2 / (power[:, len(k) :] @ own(sphere()))
        found = []
        for one in z.tolist():
            then = power[:, : len(k)]
            if one:
                grown = growth_series(one, share, m, xp)
                late = late_time(wave[: len(k)], one, *cosmology, self.late)
                then = wave[: len(k)] ** tilt[:, None] * (base[:, : len(k)] * (1 + late) * grown[:, None]) ** 2
            found.append(then * level[:, None])
        return xp.stack(found, 1)

    def smallest(self, m: Any, b: Any, h: Any, k: Array, xp: Any = np) -> Any:
        """T (N, K) as it is inside the horizon, up to an amplitude, at k in h/Mpc."""
        weights = self.transfer.weights
        if xp is not np:
            weights = xp.as_tensor(weights, dtype=m.dtype, device=m.device)
        log_r, a, ratio = self.transfer.coefficients(m, b, xp, weights)
        shift = log_r + xp.log(h)
        plain = shift if xp is np else shift.detach().double().cpu().numpy()
        at = self.places(k, np.asarray(plain)[:, None])
        shapes = self.shapes(at)
        if xp is not np:
            # The value is that at the shift as it is; the slope carries its gradient.
            slope = xp.as_tensor(self.shapes(at, 1), dtype=m.dtype, device=m.device)
            shapes = xp.as_tensor(shapes, dtype=m.dtype, device=m.device)
            shapes = shapes + slope * (shift - shift.detach())[:, None, None]
        cut = a.shape[1]
        exponent, factor = shapes[..., :cut] @ a[:, :, None], shapes[..., cut:] @ ratio[:, :, None]
        return xp.exp(exponent[..., 0]) * factor[..., 0]

    def places(self, k: Array, shift: Any) -> Array:
        """ln(k r) at k in h/Mpc, with the shift ln(r h), r in Mpc."""
        return np.clip(np.log(k) + shift, LN_X[0], LN_X[-1])
