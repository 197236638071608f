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
takes a low degree and few runs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
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

DEGREES = ((2, 1), (2, 2), (3, 2), (4, 2), (4, 3), (5, 3), (5, 4), (6, 4), (6, 5), (7, 5), (8, 6))
"""Of what is learnt, to choose from."""

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
    curve : dict
        For each degree of the learnt part the error (rms, relative) on runs left out; empty where it was given.
    """

    degree: tuple[int, int]
    weights: Array
    form: Array
    ratio: Array
    curve: dict[str, float] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        runs: list[Run],
        *,
        degree: tuple[int, int] = (12, 10),
        learnt: tuple[int, int] | None = None,
        components: int = 24,
    ) -> Transfer:
        """Fit the series to runs of a Boltzmann code, by least squares.

        Parameters
        ----------
        degree, learnt : tuple of int
            Degrees of the whole, and of what is learnt from the runs; by default that of the least error on runs
            left out, in closed form (Allen's PRESS).
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
        at = unit(m, b)
        # The learnt part of ln r is a few per cent and as smooth as can be.
        horizon = _solve(dense, np.log(sound_horizon(dense_m, dense_b))[:, None])
        ratio_r = np.log([r.horizon for r in runs]) - np.log(sound_horizon(m, b))
        horizon = horizon + _learn(at, ratio_r[:, None], _affordable((4, 3), len(runs)), degree)
        form, series = _form(dense, horizon, dense_m, dense_b)

        def unity(rows: Array) -> Array:
            return rows / rows[:, [np.searchsorted(LN_X, 0.0)]]  # the amplitude is set by sigma_8

        here = chebyshev(*at, degree)
        log_r, reference = (here @ horizon), np.exp(here @ series @ form)
        truth = unity(np.array([run.on(LN_X - s) for run, s in zip(runs, log_r)]) / reference)
        known = unity(oscillations(LN_X - log_r, m[:, None], b[:, None], np.exp(log_r)))
        log_r = dense @ horizon
        closed = unity(oscillations(LN_X - log_r, dense_m[:, None], dense_b[:, None], np.exp(log_r)))
        size = np.abs(truth).mean(0)
        _, _, axes = np.linalg.svd(np.concatenate([closed / size, 5 * truth / size]), full_matrices=False)
        axes = axes[:components]
        difference = (truth - known) / size @ axes.T
        curve: dict[str, float] = {}
        if learnt is None:
            curve = _curve(at, difference)
            best = min(curve, key=lambda name: curve[name])
            learnt = next(d for d in DEGREES if str(d) == best)
        learned = _solve(dense, closed / size @ axes.T) + _learn(at, difference, learnt, degree)
        weights = np.concatenate([horizon, series, learned], 1)
        return cls(degree, weights, form, axes * size, curve)

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


def _learn(at: tuple[Array, Array], target: Array, learnt: tuple[int, int], degree: tuple[int, int]) -> Array:
    """A series of low degree, as one of the whole degree (F, Q)."""
    places = {tuple(pair): i for i, pair in enumerate(terms(degree).tolist())}
    found = np.zeros((len(places), target.shape[1]))
    found[[places[tuple(pair)] for pair in terms(learnt).tolist()]] = _solve(chebyshev(*at, learnt), target)
    return found


def _affordable(learnt: tuple[int, int], runs: int) -> tuple[int, int]:
    return learnt if len(terms(learnt)) < 0.7 * runs else (1, 1)


def _curve(at: tuple[Array, Array], target: Array) -> dict[str, float]:
    """Error on runs left out, by degree."""
    found = {}
    for learnt in DEGREES:
        features = chebyshev(*at, learnt)
        if features.shape[1] > 0.8 * len(target):
            continue
        leverage = (features * np.linalg.pinv(features).T).sum(1)
        residual = (target - features @ _solve(features, target)) / (1 - leverage)[:, None]
        found[str(learnt)] = float(np.sqrt((residual**2).sum(1).mean() / len(LN_X)))
    return found


def _plane(n: int, m: int) -> tuple[Array, Array]:
    """Omega_m h^2 and Omega_b h^2 at Chebyshev nodes (n * m,) of the whole plane."""
    nodes = (np.cos(np.pi * (np.arange(count) + 0.5) / count) for count in (n, m))
    u, v = (t.ravel() for t in np.meshgrid(*nodes))
    (s0, s1), (b0, b1) = np.sqrt(SHARE), np.array(BARYONS) ** 0.25
    omega_b_h2 = (0.5 * (b0 + b1) + 0.5 * (b1 - b0) * v) ** 4
    return omega_b_h2 / (0.5 * (s0 + s1) + 0.5 * (s1 - s0) * u) ** 2, omega_b_h2


def _form(features: Array, horizon: Array, m: Array, b: Array, shapes: int = 6) -> tuple[Array, Array]:
    """Eisenstein & Hu without oscillations as a series: shapes (P, X) and coefficients (F, P)."""
    rows = np.log(smooth_transfer(np.exp(LN_X - features @ horizon), m[:, None], b[:, None]))
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    return axes[:shapes], _solve(features, rows @ axes[:shapes].T)
