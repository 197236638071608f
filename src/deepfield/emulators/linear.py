r"""The linear transfer function of flat LCDM with massless neutrinos: two dimensions, and polynomials in them.

In 1/Mpc, and with its growth taken out (:mod:`deepfield.emulators.growth`), the transfer function of matter
depends on Omega_m h^2 and Omega_b h^2 alone. Acoustic oscillations are in phase when k is counted in sound
horizons, x = k r.
What is left is smooth, and is written as

    T(k) = exp(sum_j a_j A_j(ln x)) sum_j b_j B_j(ln x)

The exponential is the form without oscillations of Eisenstein & Hu (1998), compressed to a few shapes A; the
second factor, the ratio of the truth to it, is linear and no logarithm since T passes through zero where most of
the matter is baryons. All coefficients, and ln r, are Chebyshev series in the root of Omega_b / Omega_m and the
fourth root of Omega_b h^2: analytic functions, whose series converge exponentially.

The series have two parts. One is that of the fit of Eisenstein & Hu with its oscillations, which costs nothing to
evaluate and is expanded to high degree; the other is what a Boltzmann code differs from it by, a few per cent, and
is learnt from few runs. Coefficients of analytic functions fall geometrically: that is the prior under which they
are learnt, a Gaussian process in the plane, and how fast they fall is chosen on runs left out.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.errors import ModelError
from deepfield.physics.power import smooth_transfer, sound_horizon, transfer

Array = NDArray[np.float64]

SHARE, BARYONS = (0.0599, 0.7007), (0.00749, 0.05675)
"""Ranges of omega_b_h2 / omega_m_h2 and omega_b_h2 in which the series hold: all that the box of parameters
reaches."""

RATES, NOISES = (0.4, 0.6, 0.8, 1.0, 1.3, 1.6), (1e-3, 1e-4, 1e-5)
"""How fast coefficients may fall with the two degrees, per degree, and the noise of runs, to choose from."""

LN_X = np.log(
    np.unique(
        np.concatenate([np.geomspace(3e-3, 12, 500), np.linspace(12, 150, 691), np.geomspace(150, 9e3, 120)])
    )
)
"""Grid of ln(k r) of the shapes, 30 to a period of the oscillations."""


def unit(omega_m_h2: Any, omega_b_h2: Any, xp: Any = np) -> tuple[Any, Any]:
    """Root of omega_b / omega_m, and fourth root of omega_b, on (-1, 1); ``xp`` is numpy or torch."""
    found = []
    for value, (low, high), power in ((omega_b_h2 / omega_m_h2, SHARE, 0.5), (omega_b_h2, BARYONS, 0.25)):
        low, high = low**power, high**power
        found.append((value**power - 0.5 * (low + high)) * (2 / (high - low)))
    return found[0], found[1]


def within(u: Any, v: Any) -> tuple[Any, Any]:
    """Omega_m h^2 and Omega_b h^2 of places in the plane: the inverse of :func:`unit`."""
    (s0, s1), (b0, b1) = np.sqrt(SHARE), np.array(BARYONS) ** 0.25
    omega_b_h2 = (0.5 * (b0 + b1) + 0.5 * (b1 - b0) * v) ** 4
    return omega_b_h2 / (0.5 * (s0 + s1) + 0.5 * (s1 - s0) * u) ** 2, omega_b_h2


@functools.cache
def terms(degree: tuple[int, int]) -> NDArray[np.int64]:
    """Exponents (F, 2) of the series: those below an ellipse with the half axes ``degree``."""
    m, n = degree
    pairs = [(i, j) for i in range(m + 1) for j in range(n + 1) if (i / m) ** 2 + (j / n) ** 2 <= 1.0001]
    return np.array(pairs)


def chebyshev(u: Any, v: Any, degree: tuple[int, int], xp: Any = np) -> Any:
    """Products of Chebyshev polynomials (N, F), in the order of :func:`terms`."""
    first, second = terms(degree).T
    parts = []
    for x, chosen, top in ((u, first, degree[0]), (v, second, degree[1])):
        angle = xp.arccos(x)
        parts.append(xp.cos(orders_of(top, angle, xp) * angle)[chosen])
    return (parts[0] * parts[1]).T  # laid out by term, which costs least


def orders_of(top: int, like: Any, xp: Any = np) -> Any:
    """0 to ``top`` as a column (top + 1, 1) of the kind of ``like``."""
    if xp is np:
        return _orders(top, like.dtype)
    return xp.arange(top + 1, dtype=like.dtype, device=like.device)[:, None]


@functools.cache
def _orders(top: int, dtype: Any) -> Any:
    return np.arange(top + 1, dtype=dtype)[:, None]


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
    left_out : Array (N,)
        Error of T (rms over k, relative) of each run when it is left out of the fit; empty where there was none.
    """

    degree: tuple[int, int]
    weights: Array
    form: Array
    ratio: Array
    left_out: Array = field(default_factory=lambda: np.empty(0))

    @classmethod
    def fit(cls, runs: list[Run], *, degree: tuple[int, int] = (12, 10), components: int = 32) -> Transfer:
        """Fit the series to runs of a Boltzmann code.

        Parameters
        ----------
        degree : tuple of int
        components : int
            Shapes B.

        Raises
        ------
        ModelError
            If there are fewer runs than six.
        """
        if len(runs) < 6:
            raise ModelError(f"{len(runs)} runs are too few for the series of a transfer function: six at least")
        m, b = np.array([r.omega_m_h2 for r in runs]), np.array([r.omega_b_h2 for r in runs])
        dense_m, dense_b = _plane(32, 26)
        dense = chebyshev(*unit(dense_m, dense_b), degree)
        at = np.clip(unit(m, b), -1, 1)  # a design may lie on the edge
        ratio_r = np.log([r.horizon for r in runs]) - np.log(sound_horizon(m, b))
        horizon = _solve(dense, np.log(sound_horizon(dense_m, dense_b))[:, None])
        horizon = horizon + _learn(at, ratio_r[:, None], degree)[0]
        form, series = _form(dense, horizon, dense_m, dense_b)

        def unity(rows: Array) -> Array:
            return rows / rows[:, [np.searchsorted(LN_X, 0.0)]]  # the amplitude is set by sigma_8

        here = chebyshev(at[0], at[1], degree)
        log_r, reference = (here @ horizon), np.exp(here @ series @ form)
        truth = unity(np.array([run.on(LN_X - s) for run, s in zip(runs, log_r)]) / reference)
        known = unity(oscillations(LN_X - log_r, m[:, None], b[:, None], np.exp(log_r)))
        log_r = dense @ horizon
        closed = unity(oscillations(LN_X - log_r, dense_m[:, None], dense_b[:, None], np.exp(log_r)))
        size = np.abs(truth).mean(0)
        _, _, axes = np.linalg.svd(np.concatenate([closed / size, 5 * truth / size]), full_matrices=False)
        axes = axes[:components]
        wanted = (truth - known) / size
        learnt, missed = _learn(at, wanted @ axes.T, degree)
        left_out = np.sqrt((missed**2).sum(1) + ((wanted - wanted @ axes.T @ axes) ** 2).sum(1))
        weights = np.concatenate([horizon, series, _solve(dense, closed / size @ axes.T) + learnt], 1)
        return cls(degree, weights, form, axes * size, left_out / np.sqrt(len(LN_X)))

    def coefficients(
        self, omega_m_h2: Any, omega_b_h2: Any, xp: Any = np, weights: Any = None
    ) -> tuple[Any, Any, Any]:
        """The ln r (N,), the a (N, P) and the b (N, Q)."""
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

        What is interpolated is the difference from the fit of Eisenstein & Hu, whose oscillations are almost
        those of the truth; beyond the largest k the ratio to it goes on as it was.
        """
        good = self.k > 2e-5
        own, known = np.log(self.k[good]), self.transfer[good]
        smooth = smooth_transfer(self.k[good], self.omega_m_h2, self.omega_b_h2)
        ratio = known / known[0] / smooth
        difference = CubicSpline(own, ratio - self._oscillations(own))
        inside = np.clip(log_k, own[0], own[-1])
        value = difference(inside) + self._oscillations(inside)
        return value * smooth_transfer(np.exp(log_k), self.omega_m_h2, self.omega_b_h2)

    def _oscillations(self, log_k: Array) -> Array:
        return oscillations(log_k, self.omega_m_h2, self.omega_b_h2, self.horizon)


def oscillations(log_k: Array, omega_m_h2: Any, omega_b_h2: Any, horizon: Any) -> Array:
    """Ratio of the two forms of Eisenstein & Hu, with and without oscillations, on a sound horizon given in Mpc.

    Their own sound horizon is some per cent off, which would spoil the phase.
    """
    k = np.exp(log_k) * (horizon / sound_horizon(omega_m_h2, omega_b_h2))
    return transfer(k, omega_m_h2, omega_b_h2) / smooth_transfer(k, omega_m_h2, omega_b_h2)


def _solve(features: Array, target: Array) -> Array:
    found: Any = np.linalg.lstsq(features, target, rcond=1e-12)[0]
    return np.asarray(found, dtype=np.float64)


def _learn(at: Array, target: Array, degree: tuple[int, int]) -> tuple[Array, Array]:
    """Series (F, Q) under the prior of falling coefficients, and their errors (N, Q) on each run left out.

    How fast coefficients fall is chosen for each column. The errors are those of Rasmussen & Williams (2006),
    equation 5.12: each run from all others.
    """
    features, exponents = chebyshev(at[0], at[1], degree), terms(degree)
    series, errors = np.zeros((features.shape[1], target.shape[1])), np.full(target.shape, np.inf)
    for first, second, noise in product(RATES, RATES, NOISES):
        prior = np.exp(-2 * (exponents @ [first, second]))
        covariance = (features * prior) @ features.T
        scale = covariance.diagonal().mean()
        inverse = np.linalg.inv(covariance / scale + noise**2 * np.eye(len(target)))
        solved = inverse @ target
        missed = solved / inverse.diagonal()[:, None]
        better = (missed**2).sum(0) < (errors**2).sum(0)
        errors[:, better] = missed[:, better]
        series[:, better] = prior[:, None] * (features.T @ solved[:, better]) / scale
    return series, errors


def _plane(n: int, m: int) -> tuple[Array, Array]:
    """Omega_m h^2 and Omega_b h^2 at Chebyshev nodes (n * m,) of the whole plane."""
    nodes = (np.cos(np.pi * (np.arange(count) + 0.5) / count) for count in (n, m))
    u, v = (t.ravel() for t in np.meshgrid(*nodes))
    return within(u, v)


def _form(features: Array, horizon: Array, m: Array, b: Array, shapes: int = 6) -> tuple[Array, Array]:
    """Eisenstein & Hu without oscillations as a series: shapes (P, X) and coefficients (F, P)."""
    rows = np.log(smooth_transfer(np.exp(LN_X - features @ horizon), m[:, None], b[:, None]))
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    return axes[:shapes], _solve(features, rows @ axes[:shapes].T)
