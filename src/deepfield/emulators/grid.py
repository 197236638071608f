r"""The linear power spectrum on a fixed grid of k and z: what makes a spectrum cost a microsecond.

On a grid, ln k r = ln k + s with one shift s = ln(r h) for each cosmology. The shapes of
:mod:`deepfield.emulators.linear`, and their first two derivatives, are laid out beforehand at 128 values of s; a
cosmology takes the nearest and its Taylor series. So a batch is sorted by shift, and a spectrum is two products of
small matrices and one exponential. sigma_8 is an integral over k of the same columns: nothing is fitted of it,
or of n_s and h.

The same lines run on numpy, and on torch where gradients with respect to the cosmology are wanted.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from deepfield.emulators.growth import growth
from deepfield.emulators.linear import LN_X, Transfer
from deepfield.emulators.parameters import BOX
from deepfield.physics.power import OMEGA_RADIATION

Array = NDArray[np.float64]

BINS = 128
SHIFT = (np.log(60.0), np.log(180.0))
"""ln(r h) with r in Mpc over the whole box, with room."""

_NODES = np.geomspace(6e-4, 9.0, 112)
_CHUNK = 65536


class Grid:
    """P(k, z) of many cosmologies.

    Parameters
    ----------
    transfer : Transfer
    k : Array (K,)
        h/Mpc.
    z : Array (Z,)
    late : Array (2,)
        Of :func:`late_time`.
    dtype : type
        float64, or float32, which costs less; what it loses is far below the emulator's error.
    """

    def __init__(self, transfer: Transfer, k: Array, z: Array, late: Array, dtype: Any = np.float64) -> None:
        self.transfer, self.k, self.z, self.late, self.dtype = transfer, k, z, late, np.dtype(dtype)
        self.weights = transfer.weights
        log_k = np.log(np.concatenate([k, _NODES]))
        self.width = (SHIFT[1] - SHIFT[0]) / BINS
        self.centres = SHIFT[0] + self.width * (np.arange(BINS) + 0.5)
        # n_s is one coefficient more of the exponent, with ln k as its shape.
        tilt = np.broadcast_to(log_k, (BINS, 1, len(log_k)))
        form = np.concatenate([2 * self._layout(transfer.form, log_k), tilt], 1)
        self.form = np.ascontiguousarray(form, dtype=self.dtype)
        self.ratio = np.ascontiguousarray(self._layout(transfer.ratio, log_k), dtype=self.dtype)
        step, x = np.log(_NODES[1] / _NODES[0]), 8 * _NODES
        window = np.where(x < 0.1, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
        self.sphere = (step * _NODES**3 / (2 * np.pi**2) * window**2).astype(self.dtype)
        self.growth_series = _growth_series(z) if z.any() else None
        self._torch: dict[str, Any] = {}

    def _layout(self, shapes: Array, log_k: Array) -> Array:
        """Value, slope and half the curvature of the shapes at every shift: (BINS, 3 * shapes, columns)."""
        line = CubicSpline(LN_X, shapes.T)
        at = np.clip(self.centres[:, None] + log_k, LN_X[0], LN_X[-1])
        parts = [line(at, order) / (2 if order == 2 else 1) for order in range(3)]
        return np.concatenate(parts, -1).transpose(0, 2, 1)

    def __call__(self, theta: Any, xp: Any = np) -> Any:
        """P (N, Z, K) in (Mpc/h)^3 of parameters (N, 5) in the order of the box."""
        if xp is not np:
            return self._tensors(theta, xp)
        out = np.empty((len(theta), max(len(self.z), 1), len(self.k)), self.dtype)
        for i in range(0, len(theta), _CHUNK):
            self._fill(theta[i : i + _CHUNK], out[i : i + _CHUNK])
        return out

    def _prepare(self, theta: Any, xp: Any, weights: Any) -> tuple[Any, ...]:
        """Coefficients of exponent and root, the bin of each row."""
        share, baryons, h, tilt, _ = theta.T
        square = h * h
        m = share * square
        log_r, a, b = self.transfer.coefficients(m, baryons * square, xp, weights)
        place = (log_r + xp.log(h) - SHIFT[0]) / self.width
        plain = place if xp is np else place.detach().cpu().numpy()
        bins = np.minimum(np.maximum(plain.astype(np.int64), 0), BINS - 1)
        offset = ((place - (bins if xp is np else xp.as_tensor(bins).to(place)) - 0.5) * self.width)[:, None]
        first, slope = a * offset, b * offset
        exponent = xp.concatenate([a, first, first * offset, tilt[:, None]], 1)
        root = xp.concatenate([b, slope, slope * offset], 1)
        return m, exponent, root, bins

    def _fill(self, theta: Array, out: Array) -> None:
        m, exponent, root, bins = self._prepare(theta, np, self.weights)
        exponent, root = exponent.astype(self.dtype, copy=False), root.astype(self.dtype, copy=False)
        share, h, amplitude = theta[:, 0], theta[:, 2], theta[:, 4] ** 2
        scale = amplitude[:, None] * np.ones(out.shape[1])
        if self.growth_series is not None:
            scale = scale * _growth_from(self.growth_series, share, m, np) ** 2
        order = np.argsort(bins, kind="stable")
        edges = [0, *(np.flatnonzero(np.diff(bins[order])) + 1).tolist(), len(bins)]
        n = len(self.k)
        for i, j in pairwise(edges):  # a bin's rows stay in a core's own cache
            rows = order[i:j]
            shape = exponent[rows] @ self.form[bins[rows[0]]]
            np.exp(shape, out=shape)
            factor = root[rows] @ self.ratio[bins[rows[0]]]
            factor *= factor
            shape *= factor
            level = (scale[rows] / (shape[:, n:] @ self.sphere)[:, None]).astype(self.dtype)
            out[rows] = level[:, :, None] * shape[:, None, :n]
        if self.growth_series is not None:
            out *= (1 + self._late(share, m, h, np, self.k)) ** 2

    def _tensors(self, theta: Any, xp: Any) -> Any:
        """The same with gradients."""

        def own(array: Array) -> Any:
            return xp.as_tensor(array, dtype=theta.dtype, device=theta.device)

        m, exponent, root, bins = self._prepare(theta, xp, own(self.weights))
        pieces, n = [], len(self.k)
        order = np.argsort(bins, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(bins[order])) + 1):
            at, i = xp.as_tensor(rows, device=theta.device), bins[rows[0]]
            shape = xp.exp(exponent[at] @ own(self.form[i])) * (root[at] @ own(self.ratio[i])) ** 2
            pieces.append(shape[:, :n] / (shape[:, n:] @ own(self.sphere))[:, None])
        back = xp.as_tensor(np.argsort(order, kind="stable"), device=theta.device)
        power = (theta[:, 4:] ** 2 * xp.concatenate(pieces)[back])[:, None]
        if self.growth_series is None:
            return power
        d = _growth_from(own(self.growth_series), theta[:, 0], m, xp)
        return power * d[:, :, None] ** 2 * (1 + self._late(theta[:, 0], m, theta[:, 2], xp, own(self.k))) ** 2

    def _late(self, share: Any, m: Any, h: Any, xp: Any, k: Any) -> Any:
        today, *then = (late_time(k, z, share, m, h, self.late) for z in (0.0, *self.z.tolist()))
        return xp.stack([now - today for now in then], 1)


def late_time(k: Any, z: float, share: Any, m: Any, h: Any, late: Any) -> Any:
    r"""What radiation takes from the growth near the horizon, relative to smaller scales: (N, K).

    To first order in the density of radiation over that of matter, e(z), it is e(z) F(k / aH), with
    F(x) = -late_0 / (1 + x^2 / late_1): flat outside the horizon, as 1/x^2 inside. The two numbers are fitted to a
    Boltzmann code; the whole is below 1 % of T.
    """
    ratio = (OMEGA_RADIATION * (1 + z) / m)[:, None]
    rate = ((share * (1 + z) ** 3 + 1 - share) ** 0.5 / (1 + z) / 2997.92458)[:, None]  # aH in h/Mpc
    return -late[0] * ratio / (1 + (k / rate) ** 2 / late[1])


# Growth: a smooth function of the share of matter and, weakly, of the radiation.
_DEGREES = (9, 2)
_SHARES = BOX["omega_m"]
_LIGHT = (1e-4, 1.75e-3)  # density of radiation over that of matter today


def _features(share: Any, light: Any, xp: Any) -> Any:
    low, high = np.log(_SHARES)
    u = (xp.log(share) - 0.5 * (low + high)) * (2 / (high - low))
    v = (light - 0.5 * sum(_LIGHT)) * (2 / (_LIGHT[1] - _LIGHT[0]))
    rows_u = [xp.ones_like(u), u]
    for _ in range(_DEGREES[0] - 1):
        rows_u.append(2 * u * rows_u[-1] - rows_u[-2])
    rows_v = [xp.ones_like(v), v, 2 * v * v - 1]
    return xp.stack([p * q for p in rows_u for q in rows_v], 1)


def _growth_series(z: Array) -> Array:
    """Chebyshev series (F, Z) of ln D(z) / D(0)."""
    nodes = np.cos(np.pi * (np.arange(12) + 0.5) / 12)
    low, high = np.log(_SHARES)
    shares = np.exp(0.5 * (low + high) + 0.5 * (high - low) * nodes)
    shares, light = (v.ravel() for v in np.meshgrid(shares, np.linspace(*_LIGHT, 4)))
    exact = np.log(growth(z, shares, np.sqrt(OMEGA_RADIATION / (light * shares))))
    return np.linalg.lstsq(_features(shares, light, np), exact, rcond=None)[0]


def _growth_from(series: Any, share: Any, m: Any, xp: Any) -> Any:
    """D(z) / D(0), (N, Z)."""
    return xp.exp(_features(share, OMEGA_RADIATION / m, xp) @ series)
