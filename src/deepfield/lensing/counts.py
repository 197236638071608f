"""How many images an isothermal ellipsoid with shear makes: caustics in closed form."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
_POINTS = 192
_ROWS = 4096  # lenses at a time


def image_count(
    theta_e: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike,
    shear: ArrayLike,
    shear_phi: ArrayLike,
    source_x: ArrayLike,
    source_y: ArrayLike,
) -> NDArray[np.int64]:
    """Images of point sources: one, two within the cut, and two more within the caustic.

    The second derivatives of an isothermal potential are h / r along the direction across the radius, so that
    with the shear's matrix G the critical curve is r = h t G^-1 t in closed form, for each direction; the
    caustic is its image. The cut is what points very near the centre are mapped to (Kormann, Schneider &
    Bartelmann 1994). Both are polygons here; of a source nearer than about 1e-3 theta_E to one, the count may be
    that of its other side.

    Parameters
    ----------
    theta_e, source_x, source_y : array (N,)
        Arcsec; the source relative to the lens.
    q, shear : array (N,)
    phi, shear_phi : array (N,)
        Degrees.

    Examples
    --------
    >>> image_count(np.ones(3), 0.7, 0.0, 0.0, 0.0, [0.0, 0.3, 1.5], 0.0)
    array([4, 2, 1])
    """
    given = np.broadcast_arrays(theta_e, q, phi, shear, shear_phi, source_x, source_y)
    columns = [np.asarray(c, float).reshape(-1) for c in given]
    parts = [_count(*(c[k : k + _ROWS, None] for c in columns)) for k in range(0, columns[0].size, _ROWS)]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _count(
    theta_e: Array, q: Array, phi: Array, shear: Array, shear_phi: Array, sx: Array, sy: Array
) -> NDArray[np.int64]:
    phi = np.radians(phi)
    turn = 2 * (np.radians(shear_phi) - phi)  # in the frame of the lens
    g1, g2 = shear * np.cos(turn), shear * np.sin(turn)
    sx, sy = np.cos(phi) * sx + np.sin(phi) * sy, np.cos(phi) * sy - np.sin(phi) * sx
    # Points evenly along the ellipse, which is dense where a flat lens's caustic bends.
    angle = np.arange(_POINTS) * (2 * np.pi / _POINTS)
    x, y = np.cos(angle) + 0 * q, q * np.sin(angle)
    r = np.hypot(x, y)
    x, y = x / r, y / r
    h = theta_e * np.sqrt(q) / np.hypot(q * x, y)
    det = 1 - g1**2 - g2**2
    critical = h * ((1 + g1) * y * y - 2 * g2 * x * y + (1 - g1) * x * x) / det
    flat2 = np.sqrt(np.maximum(1 - q**2, 1e-12))
    scale = theta_e * np.sqrt(q) / flat2
    ax = scale * np.arctan(flat2 * x / np.hypot(q * x, y))
    ay = scale * np.arctanh(np.minimum(flat2 * y / np.hypot(q * x, y), 1 - 1e-15))
    cx = critical * ((1 - g1) * x - g2 * y) - ax
    cy = critical * ((1 + g1) * y - g2 * x) - ay
    return 1 + _winds(-ax, -ay, sx, sy) + 2 * _winds(cx, cy, sx, sy)


def _winds(px: Array, py: Array, x: Array, y: Array) -> NDArray[np.int64]:
    """Whether the points lie in closed polygons: their edges cross the ray to the right an odd number of times."""
    px, py = px - x, py - y
    nx, ny = np.roll(px, -1, 1), np.roll(py, -1, 1)
    crosses = (py > 0) != (ny > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = px - py * (nx - px) / (ny - py)
    return np.sum(crosses & (at > 0), axis=1) % 2
