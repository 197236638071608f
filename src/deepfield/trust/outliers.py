"""Could the data have come from the simulations? A test with a known rate of false alarms.

The distance of an observation from the simulations is compared with that of simulations which the distance was
not fitted to. Whatever the distribution, their ranks are uniform, so an alarm at p < alpha is false with
probability alpha (conformal outlier detection; Bates et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OutlierTest:
    """Mahalanobis distance from the simulations, and the distances of held-out ones.

    Too far is suspicious, and so is too near: noise that is smaller than simulated.

    Parameters
    ----------
    mean : Array (K,)
    root : Array (K, R)
        Takes a deviation to R uncorrelated numbers of unit spread.
    distances : Array (N,)
        Of held-out simulations, ascending.
    """

    mean: Array
    root: Array
    distances: Array

    @classmethod
    def fit(cls, reference: ArrayLike, held_out: ArrayLike, *, most: int = 2000) -> OutlierTest:
        """Learn mean and covariance from simulations (N, K), and the law of distances from others (M, K).

        Raises
        ------
        DeepfieldError
            If there are fewer than 20 held-out simulations.

        Examples
        --------
        >>> x = np.random.default_rng(0).normal(size=(1000, 3))
        >>> test = OutlierTest.fit(x[:500], x[500:])
        >>> bool(test.p_value([[9.0, 0.0, 0.0]])[0] < 0.01), bool(test.p_value([[1.0, 1.0, 1.0]])[0] > 0.1)
        (True, True)
        """
        a, b = np.asarray(reference, dtype=float), np.asarray(held_out, dtype=float)
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or len(b) < 20:
            raise DeepfieldError(
                f"simulations (N, K) and at least 20 held out are needed, got {a.shape} and {b.shape}"
            )
        mean = a.mean(0)
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(a.T)))
        used = values > 1e-10 * values[-1]
        test = cls(mean, vectors[:, used] / np.sqrt(values[used]), np.zeros(0))
        return cls(mean, test.root, np.sort(test.distance(b[:most])))

    def distance(self, x: ArrayLike) -> Array:
        """Mahalanobis distance (N,) of observations (N, K), in standard deviations."""
        return np.sqrt((((np.asarray(x, dtype=float) - self.mean) @ self.root) ** 2).sum(-1))

    def p_value(self, x: ArrayLike) -> Array:
        """Two-sided conformal p-value (N,): at least alpha with probability 1 - alpha if all is well."""
        rank = np.searchsorted(self.distances, self.distance(x))
        n = len(self.distances)
        above, below = (1 + n - rank) / (n + 1), (1 + rank) / (n + 1)
        return np.minimum(1.0, 2 * np.minimum(above, below))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {name: getattr(self, name).tolist() for name in ("mean", "root", "distances")}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> OutlierTest:
        """The inverse of :meth:`to_dict`."""
        return cls(**{name: np.asarray(content[name], dtype=float) for name in ("mean", "root", "distances")})
