r"""The linear power spectrum on a fixed grid of k and z: what makes a spectrum cost a microsecond.

At wavenumbers in h/Mpc the transfer function depends on three numbers: the two of the series of
:mod:`deepfield.emulators.linear`, u and v, and ln(r h), by which oscillations shift along the grid. The space of
the three is cut into cells, 32 along the shift, and in each T at every k is a polynomial. So a batch of
cosmologies is sorted by cell, and a spectrum is one product of small matrices, and a square. k^n_s is a short
series in n_s, and the amplitude that gives sigma_8 is a polynomial of the same kind.

Laying it out takes some tenths of a second, by :class:`deepfield.emulators.direct.Direct`, from which it differs
by some 1e-5.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.emulators.direct import NODES, Direct, sphere
from deepfield.emulators.growth import growth_series, late_time, recurrence
from deepfield.emulators.linear import chebyshev, terms, unit, within
from deepfield.emulators.parameters import BOX, check_box

Array = NDArray[np.float64]

CELLS = (10, 4, 32)
"""Along u, v and the shift."""

SHIFT = (4.355, 5.005)
"""Of ln(r h) with r in Mpc: all that the box reaches, with room."""

DEGREE = (5, 4, 3)
_TILTS = (0.79, 1.21)  # of n_s
_LEVELS = 6  # terms of the amplitude in n_s
_HORIZON = (9, 7)  # degree of ln r
_PART, _ROWS, _BATCH = 4096, 1024, 131072


class Grid:
    """P(k, z) of many cosmologies.

    Parameters
    ----------
    direct : Direct
    k : Array (K,)
        h/Mpc.
    z : Array (Z,)
    dtype : type
        float64, or float32, which costs less; what it loses is far below the emulator's error.
    """

    def __init__(self, direct: Direct, k: Array, z: Array, dtype: Any = np.float64) -> None:
        self.direct, self.k, self.z, self.dtype = direct, k, z, np.dtype(dtype)
        self.tilt = _tilt_series(k, 8 if self.dtype == np.float32 else 13).astype(self.dtype)
        self.horizon = _horizon(direct).astype(self.dtype)
        self._dense = np.zeros((_HORIZON[0] + 1, _HORIZON[1] + 1))
        self._dense[tuple(terms(_HORIZON).T)] = self.horizon
        self.place = np.full(CELLS, -1, np.int16)
        self.table = self._lay_out()
        self._orders = np.arange(len(self.tilt), dtype=self.dtype)
        self._flat = _terms() + (max(DEGREE) + 1) * np.arange(3)[:, None]
        self._numbers = tuple(np.array(v, self.dtype)[:, None] for v in (CELLS, np.subtract(CELLS, 1)))

    # Laying out.

    def _lay_out(self) -> Array:
        """Polynomials (cells, terms, Z * K + levels) of the cells that the box reaches."""
        nodes = [np.cos(np.pi * (np.arange(d + 1) + 0.5) / (d + 1)) for d in DEGREE]
        grids = np.meshgrid(*nodes, indexing="ij")
        fitted: Any = np.linalg.pinv(_polynomials(np.stack([g.ravel() for g in grids])))
        u, v = (-1 + (2 * np.arange(n)[:, None] + 1 + x) / n for n, x in zip(CELLS[:2], nodes))
        m, b = within(u[:, None, :, None], v[None, :, None, :])  # (cells, cells, nodes, nodes)
        m, b = np.broadcast_arrays(m, b)
        reached, width = _reached(self.horizon), (SHIFT[1] - SHIFT[0]) / CELLS[2]
        found: list[Array] = []
        known = self.direct.transfer.coefficients(m.ravel(), b.ravel())
        log_r, *coefficients = (c.reshape(*m.shape, -1) for c in known)
        for i in range(CELLS[2]):
            used = reached[:, :, i]
            rows = []
            for x in nodes[2]:
                shift = SHIFT[0] + width * (i + 0.5 + 0.5 * x)
                points = m[used].ravel(), b[used].ravel(), np.exp(shift - log_r[used]).ravel()
                a, ratio = (c[used].reshape(len(points[0]), -1) for c in coefficients)
                rows.append(self._values(points, shift, a, ratio).reshape(used.sum(), *m.shape[2:], -1))
            self.place[:, :, i][used] = len(found) + np.arange(used.sum())
            pieces = np.stack(rows, 3).reshape(used.sum(), fitted.shape[1], -1)
            found += [(fitted @ piece).astype(self.dtype) for piece in pieces]
        return np.stack(found)

    def _values(self, points: tuple[Array, Array, Array], shift: float, a: Array, ratio: Array) -> Array:
        """T, and logarithms of amplitudes, (N, Z * K + levels), of points of the plane and h, of one shift all."""
        m, b, h = points
        share, both = m / h**2, np.concatenate([self.k, NODES])
        shapes = self.direct.shapes(self.direct.places(both, shift)).T
        shapes, a, ratio = (x.astype(self.dtype) for x in (shapes, a, ratio))
        base = np.exp(a @ shapes[: a.shape[1]]) * (ratio @ shapes[a.shape[1] :])
        cosmology = (share, m, b, h)
        today = base.copy()
        near = both < 0.05
        today[:, near] *= 1 + late_time(both[near], 0.0, *cosmology, self.direct.late)
        inner = today[:, len(self.k) :]
        tilts, series = _in_tilt(_LEVELS)
        variance = inner**2 @ (sphere()[:, None] * _from_pivot(NODES[:, None], tilts))
        found = []
        for z in self.z.tolist():
            then = today[:, : len(self.k)]
            if z:
                late = late_time(self.k, z, *cosmology, self.direct.late)
                then = base[:, : len(self.k)] * ((1 + late) * growth_series(z, share, m)[:, None])
            found.append(then)
        return np.concatenate([*found, -np.log(variance) @ series.T], 1)

    # Evaluating.

    def __call__(self, theta: Any, xp: Any = np, out: Array | None = None) -> Any:
        """P (N, Z, K) in (Mpc/h)^3 of parameters (N, 5) in the order of the box.

        ``out`` is an array of that shape and the grid's precision to write to, which saves making a new one.

        Raises
        ------
        DeepfieldError
            If a parameter is outside the box.
        """
        if xp is np and len(theta) == 1 and out is None:
            row = np.asarray(theta)[0].tolist()
            if all(low <= value <= high for value, (low, high) in zip(row, BOX.values())):
                return self._one(*row)
        check_box(theta)
        if xp is not np:
            return self.direct(theta, self.k, self.z, xp)
        theta = np.asarray(theta, dtype=self.dtype)
        shape = (len(theta), len(self.z), len(self.k))
        if out is None:
            out = np.empty(shape, self.dtype)
        elif out.shape != shape or out.dtype != self.dtype:
            raise DeepfieldError(f"out is {out.dtype} of shape {out.shape}; the spectra are {self.dtype}, {shape}")
        for i in range(0, len(theta), _BATCH):
            self._fill(theta[i : i + _BATCH], out[i : i + _BATCH])
        return out

    def _one(self, share: float, b: float, h: float, tilt: float, sigma_8: float) -> Array:
        """A single cosmology, its few numbers by plain arithmetic."""
        u, v = unit(share * h * h, b * h * h)
        log_r = np.array(recurrence(u, _HORIZON[0])) @ self._dense @ np.array(recurrence(v, _HORIZON[1]))
        shift = _unit_shift(math.log(h) + float(log_r))
        cell, inside = [], []
        for x, n in ((0.5 * u + 0.5, CELLS[0]), (0.5 * v + 0.5, CELLS[1]), (shift, CELLS[2])):
            cell.append(min(max(int(x * n), 0), n - 1))
            inside.append(recurrence(2 * (x * n - cell[-1]) - 1, max(DEGREE)))
        which = self.place[tuple(cell)]
        first, second, third = np.array(inside, self.dtype).take(self._flat)
        polynomials = first * second * third
        tilts = np.array(recurrence(_unit_tilt(tilt), len(self.tilt) - 1))
        row = polynomials @ self.table[which]
        level = sigma_8 * sigma_8 * math.exp(float(row[-_LEVELS:] @ tilts[:_LEVELS]))
        root = row[:-_LEVELS].reshape(1, len(self.z), -1)
        root *= root
        root *= (tilts * level).astype(self.dtype) @ self.tilt
        return root

    def _place(self, theta: Array) -> tuple[Array, Array]:
        """Cell (N,) and place (3, N) in it."""
        share, b, h = theta[:, :3].T
        square = h * h
        u, v = unit(share * square, b * square)
        log_r = chebyshev(u, v, _HORIZON) @ self.horizon
        shift = _unit_shift(np.log(h) + log_r)
        cells, last = self._numbers
        at = np.stack([0.5 * u + 0.5, 0.5 * v + 0.5, shift]) * cells
        cell = np.minimum(np.maximum(np.floor(at), 0), last)
        a, b, c = cell.astype(np.intp)
        return self.place[a, b, c], 2 * (at - cell) - 1

    def _fill(self, theta: Array, out: Array) -> None:
        parts = [self._place(theta[i : i + _PART]) for i in range(0, len(theta), _PART)]
        which, inside = (np.concatenate(part, -1) for part in zip(*parts))
        order = np.argsort(which, kind="stable")
        which, inside = which[order], inside[:, order]
        tilt, sigma_8 = theta[order, 3], theta[order, 4]
        tilts, amplitude = np.cos(np.arccos(_unit_tilt(tilt))[:, None] * self._orders), sigma_8 * sigma_8
        # Arrays are filled again and again, and small enough for a core's own cache. What is done for each cell
        # is one product; the rest is done for many rows at once, since calls cost more than arithmetic.
        rows = min(_ROWS, len(which))
        both, tilted = (np.empty((rows, n), self.dtype) for n in (self.table.shape[2], self.tilt.shape[1]))
        edges = np.append(np.flatnonzero(np.diff(which)) + 1, len(which))
        for start in range(0, len(which), _ROWS):
            stop = min(start + _ROWS, len(which))
            n, polynomials, i = stop - start, _polynomials(inside[:, start:stop]), 0
            for j in [*(edges[(edges > start) & (edges < stop)] - start).tolist(), n]:
                np.matmul(polynomials[i:j], self.table[which[start + i]], out=both[i:j])
                i = j
            now, found = tilts[start:stop], both[:n, :-_LEVELS]
            level = amplitude[start:stop] * np.exp((both[:n, -_LEVELS:] * now[:, :_LEVELS]).sum(1))
            np.matmul(now * level[:, None], self.tilt, out=tilted[:n])
            np.square(found, out=found)
            found = found.reshape(n, len(self.z), -1)
            found *= tilted[:n, None]
            out[order[start:stop]] = found


@functools.cache
def _terms() -> NDArray[np.intp]:
    i, j, k = (x.ravel() for x in np.meshgrid(*(np.arange(d + 1) for d in DEGREE), indexing="ij"))
    return np.stack([i, j, k])[:, i / DEGREE[0] + j / DEGREE[1] + k / DEGREE[2] < 1.0001]


def _polynomials(at: Array) -> Array:
    """Products of Chebyshev polynomials (N, terms) at points (3, N) of a cell."""
    every = np.empty((max(DEGREE) + 1, *at.shape), at.dtype)
    every[0], every[1] = 1, at
    twice = 2 * at
    for i in range(2, len(every)):
        np.multiply(twice, every[i - 1], out=every[i])
        every[i] -= every[i - 2]
    i, j, k = _terms()
    found = every[i, 0]
    found *= every[j, 1]
    found *= every[k, 2]
    return found.T


def _horizon(direct: Direct) -> Array:
    """Series of ln r, of lower degree than the whole, which it is within some 1e-6."""
    u, v = (x.ravel() for x in np.meshgrid(*2 * [np.cos(np.pi * (np.arange(24) + 0.5) / 24)]))
    log_r = direct.transfer.coefficients(*within(u, v))[0]
    return np.asarray(np.linalg.lstsq(chebyshev(u, v, _HORIZON), log_r, rcond=None)[0])


def _reached(series: Array) -> NDArray[np.bool_]:
    """Cells that cosmologies of the box fall in: those of a fine lattice, and their neighbours."""
    lattice = [np.linspace(*BOX[name], 30) for name in ("omega_m", "omega_b", "h")]
    share, b, h = (x.ravel() for x in np.meshgrid(*lattice))
    u, v = unit(share * h**2, b * h**2)
    shift = _unit_shift(np.log(h) + chebyshev(u, v, _HORIZON) @ series)
    at = [np.clip((x * n).astype(int), 0, n - 1) for x, n in zip((0.5 * u + 0.5, 0.5 * v + 0.5, shift), CELLS)]
    found = np.zeros(CELLS, bool)
    found[tuple(at)] = True
    padded = np.pad(found, 1)
    near = [slice(0, -2), slice(1, -1), slice(2, None)]
    return np.any([padded[x, y, w] for x in near for y in near for w in near], 0)


def _from_pivot(k: Array, tilt: Array) -> Array:
    return k * (k / 0.07) ** (tilt - 1)


def _tilt_series(k: Array, orders: int) -> Array:
    """Chebyshev series (orders, K) in n_s of k^n_s, up to a factor that depends on n_s alone."""
    tilts, series = _in_tilt(orders)
    return np.asarray(series @ _from_pivot(k, tilts[:, None]))


def _in_tilt(orders: int) -> tuple[Array, Array]:
    """Nodes (orders,) of n_s, and the matrix from values there to a Chebyshev series."""
    angle = np.pi * (np.arange(orders) + 0.5) / orders
    series = 2 / orders * np.cos(np.arange(orders)[:, None] * angle)
    series[0] /= 2
    return 0.5 * sum(_TILTS) + 0.5 * (_TILTS[1] - _TILTS[0]) * np.cos(angle), series


def _unit_tilt(tilt: Any) -> Any:
    """N_s on (-1, 1)."""
    return (tilt - 0.5 * sum(_TILTS)) * (2 / (_TILTS[1] - _TILTS[0]))


def _unit_shift(shift: Any) -> Any:
    """Ln(r h) on (0, 1)."""
    return (shift - SHIFT[0]) * (1 / (SHIFT[1] - SHIFT[0]))
