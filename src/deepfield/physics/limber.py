"""Weak lensing in projection: kernels of source bins, and Limber's integral over a matter power spectrum.

Distances are comoving in Mpc/h, spectra in (Mpc/h)^3, universes flat. Leading axes, of cosmologies, broadcast.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.physics.cosmology import HUBBLE_DISTANCE

Array = NDArray[np.float64]


def lensing_kernel(z: ArrayLike, chi: ArrayLike, omega_m: ArrayLike, n: ArrayLike, chi_source: ArrayLike) -> Array:
    """Lensing efficiency q = 3/2 Omega_m (H0/c)^2 (1 + z) chi <1 - chi / chi_s> in h/Mpc, over the sources.

    The density contrast, weighted by q along the line of sight, is the convergence (Kilbinger 2015, Rep. Prog.
    Phys. 78, 086901).

    Parameters
    ----------
    z, chi : array (..., Z)
        Redshifts of the lenses and their distances.
    omega_m : array (...)
    n : array (..., B, S)
        Sources of each bin at each of the distances, in any unit.
    chi_source : array (..., S)
        Above zero.

    Returns
    -------
    Array (..., B, Z)

    Examples
    --------
    >>> q = lensing_kernel([0.3, 1.0], [850.0, 2300.0], 0.3, [[1.0]], [2300.0])
    >>> q.round(8).tolist()
    [[3.488e-05, 0.0]]
    """
    near, far, count = (np.asarray(v, float) for v in (chi, chi_source, n))
    lever = np.clip(1 - near[..., None, :] / far[..., :, None], 0, None)  # (..., S, Z)
    scale = 1.5 / HUBBLE_DISTANCE**2 * np.asarray(omega_m, float)[..., None] * (1 + np.asarray(z, float)) * near
    return scale[..., None, :] * ((count / count.sum(-1, keepdims=True)) @ lever)


def limber(kernels: ArrayLike, power: ArrayLike, weights: ArrayLike) -> Array:
    """Angular spectra of all pairs of kernels: the sum over Z of weights q_i q_j P.

    LoVerde & Afshordi (2008): P is that at k = (l + 1/2) / chi.

    Parameters
    ----------
    kernels : array (..., B, Z)
        In h/Mpc.
    power : array (..., L, Z)
    weights : array (Z,) or (..., Z)
        d chi / chi^2, with the steps of the quadrature.

    Returns
    -------
    Array (..., B, B, L)

    Examples
    --------
    >>> limber(np.ones((2, 3)), np.ones((4, 3)), [1.0, 2.0, 3.0]).shape
    (2, 2, 4)
    """
    q, spectrum = np.asarray(kernels, float), np.asarray(power, float)
    weighted = q * np.asarray(weights, float)[..., None, :]
    pairs = weighted[..., :, None, :] * q[..., None, :, :]
    return pairs @ spectrum[..., None, :, :].swapaxes(-1, -2)


def shear_factor(ell: ArrayLike) -> Array:
    """What makes Limber's convergence the E mode of shear, (l - 1) l (l + 1) (l + 2) / (l + 1/2)^4.

    Kilbinger et al. (2017, MNRAS 472, 2126): from l = 30 on it is within 0.3 % of one.

    Examples
    --------
    >>> shear_factor([1, 30, 1000]).round(4).tolist()
    [0.0, 0.9973, 1.0]
    """
    multipole = np.asarray(ell, float)
    inner = (multipole - 1) * multipole * (multipole + 1) * (multipole + 2)
    return np.clip(inner / (multipole + 0.5) ** 4, 0, None)


def trapezoidal(x: ArrayLike) -> Array:
    """Weights (Z,) of the trapezoidal rule on the nodes x, along the last axis.

    Examples
    --------
    >>> trapezoidal([0.0, 1.0, 3.0]).tolist()
    [0.5, 1.5, 1.0]
    """
    half = 0.5 * np.diff(np.asarray(x, float), axis=-1)
    none = np.zeros_like(half[..., :1])
    return np.concatenate([half, none], -1) + np.concatenate([none, half], -1)
