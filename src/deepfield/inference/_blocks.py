"""The blocks that a prior is a product of, and what other libraries call them."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from deepfield.core.errors import DeepfieldError
from deepfield.inference._foreign import from_scipy, from_torch

Array = NDArray[np.float64]

FARTHEST = 8.2
"""Where Phi saturates in float64: a parameter on the very edge of its support lies here."""

# What a file may name: the number of arguments, and scipy's frozen distribution.
_FAMILIES: dict[str, tuple[int, Any]] = {
    "uniform": (2, lambda low, high: scipy.stats.uniform(low, high - low)),
    "loguniform": (2, lambda low, high: scipy.stats.loguniform(low, high)),
    "normal": (2, lambda mean, std: scipy.stats.norm(mean, std)),
    "lognormal": (2, lambda mean, std: scipy.stats.lognorm(std, scale=math.exp(mean))),
    "truncnormal": (
        4,
        lambda mean, std, low, high: scipy.stats.truncnorm((low - mean) / std, (high - mean) / std, mean, std),
    ),
    "beta": (2, lambda a, b: scipy.stats.beta(a, b)),
    "gamma": (2, lambda shape, rate: scipy.stats.gamma(shape, scale=1 / rate)),
    "exponential": (1, lambda rate: scipy.stats.expon(scale=1 / rate)),
    "halfnormal": (1, lambda scale: scipy.stats.halfnorm(scale=scale)),
    "student": (3, lambda df, mean, scale: scipy.stats.t(df, mean, scale)),
}


@functools.lru_cache(maxsize=1024)
def _frozen(family: str, arguments: tuple[float, ...]) -> Any:
    return _FAMILIES[family][1](*arguments)


@dataclass(frozen=True)
class Marginal:
    """One parameter of its own: a family by name, its arguments, and bounds it may be cut at."""

    family: str
    arguments: tuple[float, ...]
    bounds: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.family not in _FAMILIES:
            raise DeepfieldError(f"no prior '{self.family}'; there are: {', '.join(_FAMILIES)}")
        count = _FAMILIES[self.family][0]
        if len(self.arguments) != count or not all(math.isfinite(a) for a in self.arguments):
            raise DeepfieldError(f"prior '{self.family}' takes {count} finite numbers, not {self.arguments}")
        try:
            low, high = self.frozen.support()
        except (ValueError, ArithmeticError):
            low = high = math.nan
        if not low < high or not np.isfinite(self.frozen.median()):
            raise DeepfieldError(f"prior '{self.family}' makes no sense with {self.arguments}")
        if self.bounds is not None and not self._mass > 1e-12:
            raise DeepfieldError(f"prior '{self.family}' with {self.arguments} has no mass between {self.bounds}")

    dim = 1

    @property
    def frozen(self) -> Any:
        """The scipy distribution."""
        return _frozen(self.family, self.arguments)

    def to_line(self, theta: Array) -> Array:
        low, high = self._ends
        below = (self.frozen.cdf(theta) - self.frozen.cdf(low)) / self._mass
        above = (self.frozen.sf(theta) - self.frozen.sf(high)) / self._mass
        # In the upper half the survival function keeps the digits that the cdf has lost.
        u = np.where(below < 0.5, ndtri(np.clip(below, 0, 1)), -ndtri(np.clip(above, 0, 1)))
        return np.clip(u, -FARTHEST, FARTHEST)

    def from_line(self, u: Array) -> Array:
        low, high = self._ends
        below = self.frozen.ppf(self.frozen.cdf(low) + self._mass * ndtr(u))
        above = self.frozen.isf(self.frozen.sf(high) + self._mass * ndtr(-u))
        return np.clip(np.where(u < 0, below, above), low, high)

    def log_prob(self, theta: Array) -> Array:
        low, high = self._ends
        inside = (theta >= low) & (theta <= high)
        return np.where(inside, self.frozen.logpdf(theta) - math.log(self._mass), -np.inf)[:, 0]

    @property
    def _ends(self) -> tuple[float, float]:
        low, high = self.frozen.support()
        return (low, high) if self.bounds is None else (max(low, self.bounds[0]), min(high, self.bounds[1]))

    @property
    def _mass(self) -> float:
        low, high = self._ends
        return float(self.frozen.cdf(high) - self.frozen.cdf(low))

    def support(self) -> Array:
        return np.array([self._ends])

    def only(self, kept: Sequence[int]) -> Marginal:
        return self

    def cut(self, low: float, high: float) -> Marginal:
        """The same between two bounds."""
        start, end = self._ends
        return Marginal(self.family, self.arguments, (max(low, start), min(high, end)))

    def to_json(self) -> Any:
        plain: dict[str, Any] = {self.family: list(self.arguments)}
        return plain if self.bounds is None else {**plain, "bounds": list(self.bounds)}


@dataclass(frozen=True)
class Gaussian:
    """Several parameters with one correlated Gaussian prior."""

    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        n = len(self.mean)
        matrix = np.asarray(self.covariance, dtype=float)
        if (
            matrix.shape != (n, n)
            or not np.allclose(matrix, matrix.T, rtol=1e-4)
            or np.linalg.eigvalsh(matrix)[0] <= 0
        ):
            raise DeepfieldError(
                f"a Gaussian prior of {n} parameters needs a positive definite {n} x {n} covariance"
            )

    @property
    def dim(self) -> int:
        return len(self.mean)

    @property
    def _factor(self) -> Array:
        return np.linalg.cholesky(np.asarray(self.covariance, dtype=float))

    def to_line(self, theta: Array) -> Array:
        return np.linalg.solve(self._factor, (theta - np.asarray(self.mean)).T).T

    def from_line(self, u: Array) -> Array:
        return np.asarray(self.mean) + u @ self._factor.T

    def log_prob(self, theta: Array) -> Array:
        u = self.to_line(theta)
        return standard(u) - np.log(np.diag(self._factor)).sum()

    def support(self) -> Array:
        return np.tile([-np.inf, np.inf], (self.dim, 1))

    def only(self, kept: Sequence[int]) -> Marginal | Gaussian:
        """Some of the parameters: the same rows of mean and covariance; one alone can be cut."""
        mean = tuple(self.mean[i] for i in kept)
        covariance = tuple(tuple(self.covariance[i][j] for j in kept) for i in kept)
        if len(kept) > 1:
            return Gaussian(mean, covariance)
        return Marginal("normal", (mean[0], math.sqrt(covariance[0][0])))

    def to_json(self) -> Any:
        return {"gaussian": [list(self.mean), [list(row) for row in self.covariance]]}


def block(given: Any) -> Marginal | Gaussian:
    """A block from a pair of bounds, a mapping or a distribution of torch or scipy."""
    if isinstance(given, Marginal | Gaussian):
        return given
    if isinstance(given, Mapping):
        plain = {key: value for key, value in given.items() if key != "bounds"}
        if len(plain) != 1:
            raise DeepfieldError(f"a prior is one family with its arguments, not {dict(given)!r:.80}")
        family, arguments = next(iter(plain.items()))
        try:
            if family == "gaussian":
                mean, covariance = arguments
                rows = tuple(tuple(float(v) for v in row) for row in covariance)
                return Gaussian(tuple(float(v) for v in mean), rows)
            listed = arguments if isinstance(arguments, list | tuple) else [arguments]
            bounds = tuple(float(v) for v in given["bounds"]) if "bounds" in given else None
            return Marginal(str(family), tuple(float(v) for v in listed), bounds)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            if isinstance(error, DeepfieldError):
                raise
            raise DeepfieldError(f"prior '{family}' takes numbers, not {arguments!r:.80}") from None
    if isinstance(given, list | tuple) and len(given) == 2 and all(isinstance(v, int | float) for v in given):
        return Marginal("uniform", (float(given[0]), float(given[1])))
    found = blocks(given)
    if len(found) != 1:
        raise DeepfieldError(f"one parameter needs a distribution of one number, not {given!r:.80}")
    return found[0]


def blocks(given: Any) -> list[Marginal | Gaussian]:
    """The blocks of a distribution of torch or scipy, or of a sequence of them."""
    if isinstance(given, list | tuple):
        return [block for part in given for block in blocks(part)]
    found = from_torch(given) or from_scipy(given)
    if not found:
        raise DeepfieldError(
            f"no prior can be made of {type(given).__name__}: give bounds or families by name "
            "({'omega_m': (0.1, 0.5)}), or a product of torch or scipy distributions"
        )
    return [block(part) for part in found]


def standard(u: Array) -> Array:
    """Log density (N,) of independent standard normals u (N, D)."""
    return -0.5 * (u**2).sum(1) - 0.5 * u.shape[1] * math.log(2 * math.pi)
