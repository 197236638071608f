r"""The linear transfer function of flat LCDM with massless neutrinos: two dimensions, and polynomials in them.

In 1/Mpc, and with its growth taken out (:mod:`deepfield.emulators.growth`), the transfer function of matter depends
on Omega_m h^2 and Omega_b h^2 alone (omega_m and omega_b below). Acoustic oscillations are in phase when k is counted in sound horizons, x = k r. What
is left is smooth, and is written as

    T(k) = exp(sum_j a_j A_j(ln x)) sum_j b_j B_j(ln x)

The exponential is the form without oscillations of Eisenstein & Hu (1998), compressed to a few shapes A; the second
factor, the ratio of the truth to it, is linear and no logarithm since T passes through zero where most of the matter
is baryons. The shapes B are the principal components of that ratio over a design. All coefficients, and ln r, are
Chebyshev series in roots of omega_b / omega_m and omega_b: analytic functions, whose series converge exponentially.
Roots and not logarithms: measured on the fit of Eisenstein & Hu, they take a third of the error at equal degree.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.errors import ModelError
from deepfield.physics.power import smooth_transfer, transfer

Array = NDArray[np.float64]

SHARE, BARYONS = (0.0599, 0.7007), (0.00749, 0.05675)
"""Ranges of omega_b_h2 / omega_m_h2 and omega_b_h2 in which the series hold: all that the box of parameters reaches."""

LN_X = np.linspace(np.log(3e-3), np.log(9e3), 1000)
"""Grid of ln(k r) of the shapes, 20 to a period of the oscillations at x = 20."""


def unit(omega_m_h2: Any, omega_b_h2: Any, xp: Any = np) -> tuple[Any, Any]:
    """Root of omega_b / omega_m, and fourth root of omega_b, on (-1, 1); ``xp`` is numpy or torch."""
    found = []
    for value, (low, high), power in ((omega_b_h2 / omega_m_h2, SHARE, 0.5), (omega_b_h2, BARYONS, 0.25)):
        low, high = low**power, high**power
        found.append((value**power - 0.5 * (low + high)) * (2 / (high - low)))
    return found[0], found[1]


@functools.cache
def terms(degree: tuple[int, int]) -> NDArray[np.int64]:
    """Exponents (F, 2) of the series: those below an ellipse with the half axes ``degree``."""
    m, n = degree
    pairs = [(i, j) for i in range(m + 1) for j in range(n + 1) if (i / m) ** 2 + (j / n) ** 2 <= 1.0001]
    return np.array(pairs)


def chebyshev(u: Any, v: Any, degree: tuple[int, int], xp: Any = np) -> Any:
    """Products of Chebyshev polynomials (N, F), in the order of :func:`terms`."""
    chosen = terms(degree)
    first, second = (
        xp.cos(xp.arccos(x)[:, None] * xp.arange(top + 1)) for x, top in ((u, degree[0]), (v, degree[1]))
    )
    return first[:, chosen[:, 0]] * second[:, chosen[:, 1]]


@dataclass(frozen=True)
class Transfer:
    """The fitted series.

    Parameters
    ----------
    degree : tuple of int
        Largest degrees in the two variables.
    weights : Array (F, 1 + P + Q)
        Series of ln r (r in Mpc), of the a_j and of the b_j.
    form, ratio : Array (P, X) and (Q, X)
        The shapes A and B on :data:`LN_X`.

    Examples
    --------
    >>> design = [Run(m, 0.16 * m, k, transfer(k, m, 0.16 * m), 150.0) for m in (0.12, 0.14)
    ...           for k in [np.geomspace(1e-5, 50, 500)]]
    >>> Transfer.fit(design, degree=(1, 1), components=1).weights.shape
    (3, 8)
    """

    degree: tuple[int, int]
    weights: Array
    form: Array
    ratio: Array

    @classmethod
    def fit(cls, runs: list[Run], *, degree: tuple[int, int] = (7, 6), components: int = 24) -> Transfer:
        """Fit the series to runs of a Boltzmann code, by least squares."""
        omega_m_h2, omega_b_h2 = np.array([r.omega_m_h2 for r in runs]), np.array([r.omega_b_h2 for r in runs])
        features = chebyshev(*unit(omega_m_h2, omega_b_h2), degree)
        horizon = _solve(features, np.log([r.horizon for r in runs])[:, None])
        form, series = _form(horizon, degree)
        log_r = (features @ horizon)[:, 0]
        reference = np.exp(features @ series @ form)
        rows = np.array([run.on(LN_X - r) for run, r in zip(runs, log_r)]) / reference
        rows /= rows[:, [np.searchsorted(LN_X, 0.0)]]  # the amplitude is set by sigma_8
        _, _, axes = np.linalg.svd(rows / np.abs(rows).mean(0), full_matrices=False)
        ratio = axes[:components] * np.abs(rows).mean(0)
        coefficients = rows / np.abs(rows).mean(0) @ axes[:components].T
        weights = np.concatenate([horizon, series, _solve(features, coefficients)], 1)
        return cls(degree, weights, form, ratio)

    def coefficients(self, omega_m_h2: Any, omega_b_h2: Any, xp: Any = np, weights: Any = None) -> tuple[Any, Any, Any]:
        """ln r (N,), the a (N, P) and the b (N, Q)."""
        features = chebyshev(*unit(omega_m_h2, omega_b_h2, xp), self.degree, xp)
        found = features @ (self.weights if weights is None else weights)
        p = 1 + len(self.form)
        return found[:, 0], found[:, 1:p], found[:, p:]

    def __call__(self, k: ArrayLike, omega_m_h2: ArrayLike, omega_b_h2: ArrayLike) -> Array:
        """T (N, K) up to an amplitude for each cosmology, at k (K,) in 1/Mpc; plain and slow."""
        m, b = np.broadcast_arrays(np.atleast_1d(np.asarray(omega_m_h2, float)), np.asarray(omega_b_h2, float))
        log_r, a, b_ = self.coefficients(m, b)
        x = np.log(np.asarray(k, float)) + log_r[:, None]
        if x.min() < LN_X[0] - 1e-9 or x.max() > LN_X[-1] + 1e-9:
            raise ModelError("k is beyond the range of the linear emulator, 1e-4 to 50 h/Mpc")
        form = CubicSpline(LN_X, (a @ self.form).T)
        ratio = CubicSpline(LN_X, (b_ @ self.ratio).T)
        return np.array([np.exp(form(row)[:, i]) * ratio(row)[:, i] for i, row in enumerate(x)])


@dataclass(frozen=True)
class Run:
    """A transfer function of a Boltzmann code: at k (K,) in 1/Mpc, today; the sound horizon in Mpc."""

    omega_m_h2: float
    omega_b_h2: float
    k: Array
    transfer: Array
    horizon: float

    def on(self, log_k: Array) -> Array:
        """At other k.

        What is interpolated is the difference from the fit of Eisenstein & Hu, whose oscillations are almost those of
        the truth; beyond the largest k the ratio to it goes on as it was.
        """
        good = self.k > 2e-5
        own, known = np.log(self.k[good]), self.transfer[good]
        known = known / known[0]
        smooth = smooth_transfer(self.k[good], self.omega_m_h2, self.omega_b_h2)
        fit = transfer(self.k[good], self.omega_m_h2, self.omega_b_h2)
        inside = np.clip(log_k, own[0], own[-1])
        difference = CubicSpline(own, (known - fit) / smooth)(inside)
        k, edge = np.exp(log_k), np.exp(inside)
        at = smooth_transfer(edge, self.omega_m_h2, self.omega_b_h2)
        value = difference * at + transfer(edge, self.omega_m_h2, self.omega_b_h2)
        return value / at * smooth_transfer(k, self.omega_m_h2, self.omega_b_h2)


def _solve(features: Array, target: Array) -> Array:
    return np.linalg.lstsq(features, target, rcond=1e-12)[0]


def _form(horizon: Array, degree: tuple[int, int], shapes: int = 6) -> tuple[Array, Array]:
    """Eisenstein & Hu without oscillations as a series: shapes (P, X) and coefficients (F, P)."""
    u, v = (t.ravel() for t in np.meshgrid(np.cos(np.pi * (np.arange(24) + 0.5) / 24), np.linspace(-1, 1, 24)))
    (s0, s1), (b0, b1) = np.sqrt(SHARE), np.array(BARYONS) ** 0.25
    omega_b_h2 = (0.5 * (b0 + b1) + 0.5 * (b1 - b0) * v) ** 4
    omega_m_h2 = omega_b_h2 / (0.5 * (s0 + s1) + 0.5 * (s1 - s0) * u) ** 2
    features = chebyshev(u, v, degree)
    k = np.exp(LN_X - features @ horizon)
    rows = np.log(smooth_transfer(k, omega_m_h2[:, None], omega_b_h2[:, None]))
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    return axes[:shapes], _solve(features, rows @ axes[:shapes].T)
