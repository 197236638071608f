"""What the brightness of a galaxy says about its type and redshift before its colours are looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import gammaln, logsumexp

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class MagnitudePrior:
    """The prior p(z, T | m) = p(T | m) p(z | T, m) of Benitez (2000, ApJ 536, 571), equations 22 to 24.

    p(z | T, m) ~ z^alpha exp(-(z / z_m)^alpha) with z_m = z0 + slope (m - m_ref), kept positive, and
    p(T | m) ~ share exp(-decay (m - m_ref)), normalised over the C types.

    Parameters
    ----------
    alpha, z0, slope
        One value for each type, shape (C,).
    share, decay
        Likewise; or for all types but the last, (C - 1,), which then has what the others leave.
    m_ref
        Reference AB magnitude.
    range
        Magnitudes beyond these are treated as the nearest.

    Examples
    --------
    >>> prior = benitez_prior()
    >>> grid = np.linspace(0.001, 6, 2000)
    >>> density = np.exp(prior([22.0], grid))
    >>> float(np.trapezoid(density.sum(1), grid)[0].round(2))
    1.0
    """

    alpha: Array
    z0: Array
    slope: Array
    share: Array
    decay: Array
    m_ref: float = 20.0
    range: tuple[float, float] = (-np.inf, np.inf)

    def __call__(self, mag: ArrayLike, grid: Array) -> Array:
        """Log density (N, C, G) for magnitudes (N,), NaN or infinite ones read as the faint end of the range."""
        m = np.asarray(mag, float)
        m = np.where(
            np.isfinite(m), np.clip(m, *self.range), self.range[1] if np.isfinite(self.range[1]) else self.m_ref
        )
        offset = (m - self.m_ref)[:, None]
        types = np.log(self.share) - self.decay * offset
        if types.shape[1] < self.alpha.size:
            rest = np.maximum(1 - np.exp(types).sum(1, keepdims=True), 1e-10)
            types = np.concatenate([types, np.log(rest)], 1)
        types = types - logsumexp(types, axis=1, keepdims=True)
        z = np.maximum(grid, 1e-3)
        peak = _positive(self.z0 + self.slope * offset)
        return types[:, :, None] + _log_density(z, self.alpha[:, None], peak[:, :, None])


def _positive(value: Array) -> Array:
    """Equal to the value where it is well above zero and positive everywhere."""
    return 0.03 * np.logaddexp(value / 0.03, 0.0) + 1e-4


def _log_density(z: Array, alpha: Array, peak: Array) -> Array:
    ratio = np.log(z / peak)
    norm = np.log(peak) + gammaln(1 + 1 / alpha) - np.log(alpha)
    return alpha * ratio - np.exp(np.minimum(alpha * ratio, 50.0)) - norm


def benitez_prior() -> MagnitudePrior:
    """The published prior for ellipticals, spirals and irregulars: Table 1 of Benitez (2000), Hubble Deep Field.

    For I magnitudes from 20 to 32. Irregulars have what the others leave: 0.15 at 20, and more below. Ellipticals
    fall off fastest (decay 0.450), as in the author's own code BPZ (``prior_hdfn_gen``) and in RAIL.

    Examples
    --------
    >>> benitez_prior().z0
    array([0.431, 0.39 , 0.063])
    """
    return MagnitudePrior(
        alpha=np.array([2.46, 1.81, 0.91]),
        z0=np.array([0.431, 0.390, 0.063]),
        slope=np.array([0.091, 0.0636, 0.123]),
        share=np.array([0.35, 0.50]),
        decay=np.array([0.450, 0.147]),
        range=(20.0, 32.0),
    )


def fit_prior(mag: ArrayLike, z: ArrayLike, membership: ArrayLike) -> MagnitudePrior:
    """The prior of the same form that a spectroscopic sample follows, by maximum likelihood.

    Parameters
    ----------
    mag
        AB magnitudes, shape (N,); rows where it is not finite are left out.
    z
        Redshifts, shape (N,).
    membership
        Probability of each type, shape (N, C).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> mag = rng.uniform(18, 20, 2000)
    >>> z = 0.2 * rng.gamma(2.0, 0.5, 2000) + 0.05
    >>> prior = fit_prior(mag, z, np.ones((2000, 1)))
    >>> bool(0.05 < prior.z0[0] < 0.4)
    True
    """
    m, redshift, weight = (
        np.asarray(mag, float),
        np.maximum(np.asarray(z, float), 1e-3),
        np.asarray(membership, float),
    )
    good = np.isfinite(m) & np.isfinite(redshift)
    m, redshift, weight = m[good], redshift[good], weight[good]
    m_ref = float(np.median(m))
    offset = m - m_ref
    curves = [_fit_type(redshift, offset, column) for column in weight.T]
    alpha, z0, slope = (np.array(values) for values in zip(*curves))
    share, decay = _fit_shares(offset, weight)
    low, high = np.quantile(m, [0.001, 0.999])
    return MagnitudePrior(alpha, z0, slope, share, decay, m_ref, (float(low), float(high)))


def _fit_type(z: Array, offset: Array, weight: Array) -> tuple[float, float, float]:
    """Alpha, z0 and slope of one type; shrunk to the middle of the data where the type has few members."""
    start = np.array([np.log(2.0), np.log(np.median(z)), 0.05])

    def loss(parameters: Array) -> float:
        alpha = np.exp(np.clip(parameters[0], -1.5, 3.0))
        peak = _positive(np.exp(parameters[1]) + parameters[2] * offset)
        fit = -(weight * _log_density(z, alpha, peak)).sum()
        return float(fit + (((parameters - start) / np.array([1.0, 1.0, 0.3])) ** 2).sum())

    best = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 600, "xatol": 1e-3, "fatol": 1e-2}).x
    return float(np.exp(np.clip(best[0], -1.5, 3.0))), float(np.exp(best[1])), float(best[2])


def _fit_shares(offset: Array, weight: Array) -> tuple[Array, Array]:
    """Multinomial logistic regression of the type on the magnitude: shares at the reference and decays."""
    count = weight.shape[1]

    def loss(parameters: Array) -> tuple[float, Array]:
        logits = parameters[:count] - offset[:, None] * parameters[count:]
        log_p = logits - logsumexp(logits, axis=1, keepdims=True)
        pull = np.exp(log_p) * weight.sum(1, keepdims=True) - weight
        gradient = np.concatenate([pull.sum(0), -(pull * offset[:, None]).sum(0)]) + 2 * parameters
        return float(-(weight * log_p).sum() + (parameters**2).sum()), gradient

    best = minimize(loss, np.zeros(2 * count), jac=True, method="L-BFGS-B").x
    share = np.exp(best[:count] - best[:count].max())
    return share / share.sum(), best[count:]
