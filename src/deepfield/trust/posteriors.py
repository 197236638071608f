"""Are posteriors calibrated? Tests on simulations whose true parameters are known.

If theta is drawn from the prior, x from the simulator and theta_1..theta_L from q(theta | x), then q being right
implies uniform ranks of theta in every one-dimensional view (simulation-based calibration, Cook, Gelman & Rubin
2006; Talts et al. 2018), and uniform ranks of its distance from a random point (TARP, Lemos et al. 2023), which
sees errors of the joint posterior too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """PIT values of M known truths and what follows from them.

    Parameters
    ----------
    pit : Array (M, D)
        Of each parameter: the share of draws below the truth, uniform if the posteriors are calibrated.
    tarp : Array (M,)
        Share of the draws that lie closer to a random point than the truth does.
    p_value, tarp_p_value : Array (D,), float
        Of Kolmogorov-Smirnov tests against the uniform law; for each parameter of its PIT values and of their
        distances from the middle, which see posteriors that are too wide or too narrow.
    """

    pit: Array
    tarp: Array
    p_value: Array
    tarp_p_value: float

    def passes(self, level: float = 0.01) -> bool:
        """Whether no test rejects at this level, shared among them (Bonferroni)."""
        worst = min(float(self.p_value.min()), self.tarp_p_value)
        return worst > level / (len(self.p_value) + 1)

    def coverage(self, levels: ArrayLike) -> Array:
        """Share of the truths inside the central intervals of each level (G,), for each parameter: (G, D)."""
        inside = 2 * np.abs(self.pit - 0.5)
        return np.array([(inside <= level).mean(0) for level in np.atleast_1d(levels)])

    def tarp_coverage(self, levels: ArrayLike) -> Array:
        """Share of the truths inside the TARP regions of each level (G,)."""
        return np.array([(self.tarp <= level).mean() for level in np.atleast_1d(levels)])


def calibration(draws: ArrayLike, truth: ArrayLike, *, seed: int) -> Calibration:
    """Test posteriors against known truths.

    Parameters
    ----------
    draws : array (M, L, D)
        L independent draws from each of M posteriors.
    truth : array (M, D)
    seed : int
        Of the random points and of the order of equal values.

    Raises
    ------
    DeepfieldError
        If the shapes do not fit, or there are fewer than 20 truths.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 1))  # prior N(0, 1), noise N(0, 1): the posterior is N(x / 2, 1 / 2)
    >>> data = x + rng.normal(size=x.shape)
    >>> draws = data[:, None] / 2 + rng.normal(size=(300, 99, 1)) / 2**0.5
    >>> calibration(draws, x, seed=0).passes(), calibration(1.5 * draws, x, seed=0).passes()
    (True, False)
    """
    q, theta = np.asarray(draws, dtype=float), np.asarray(truth, dtype=float)
    if q.ndim != 3 or theta.shape != (q.shape[0], q.shape[2]) or len(q) < 20:
        raise DeepfieldError(
            f"draws (M, L, D) and truths (M, D), at least 20, are needed; got {q.shape} and {theta.shape}"
        )
    rng = np.random.default_rng(seed)
    pit = _ranks((q < theta[:, None]).sum(1), q.shape[1], rng)
    # Distances in units of the truths' spread, from points that are other truths: where the prior puts them.
    spread = np.maximum(theta.std(0), 1e-300)
    points = theta[np.roll(np.arange(len(theta)), 1 + int(rng.integers(len(theta) - 1)))]
    far = (((q - points[:, None]) / spread) ** 2).sum(-1)
    own = (((theta - points) / spread) ** 2).sum(-1)
    tarp = _ranks((far < own[:, None]).sum(1), q.shape[1], rng)
    p = np.array([min(1.0, 2 * min(_uniform(u), _uniform(np.abs(2 * u - 1)))) for u in pit.T])
    return Calibration(pit, tarp, p, _uniform(tarp))


def _uniform(values: Array) -> float:
    return float(scipy.stats.kstest(values, "uniform").pvalue)


def _ranks(counts: NDArray[np.intp], total: int, rng: np.random.Generator) -> Array:
    """Ranks 0..L as continuous values: uniform within their cell."""
    return (counts + rng.uniform(size=counts.shape)) / (total + 1)


def highest_density_levels(log_density: ArrayLike, log_density_truth: ArrayLike) -> Array:
    """The level of the smallest credible region that holds each truth (M,): uniform if calibrated.

    Parameters
    ----------
    log_density : array (M, L)
        Of L draws from each posterior.
    log_density_truth : array (M,)

    Examples
    --------
    >>> highest_density_levels([[-1.0, -2.0, -3.0, -4.0]], [-2.5])
    array([0.5])
    """
    return (np.asarray(log_density) > np.asarray(log_density_truth)[:, None]).mean(1)
