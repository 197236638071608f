"""Priors, and the coordinates in which every prior is a standard normal.

A prior here is a product of blocks: marginals with a cdf F, taken to the line by u = Phi^-1(F(theta)), and
correlated Gaussians, whitened by their Cholesky factor. Under the prior u is exactly N(0, I), whatever the
support. A density that is learnt of u cannot leak out of the support, and a posterior that piles up at an edge
has the Gaussian tail that a flow expects, where a logit would give it an exponential one.
"""

from __future__ import annotations

import functools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from deepfield.core.errors import DeepfieldError

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
        return _standard(u) - np.log(np.diag(self._factor)).sum()

    def support(self) -> Array:
        return np.tile([-np.inf, np.inf], (self.dim, 1))

    def to_json(self) -> Any:
        return {"gaussian": [list(self.mean), [list(row) for row in self.covariance]]}


class Prior:
    """p(theta) over named parameters: sampled, evaluated, and taken to the line and back.

    Parameters
    ----------
    parameters : mapping
        For each name a pair (low, high) for a uniform prior, ``{family: arguments}`` (uniform, loguniform, normal,
        lognormal, truncnormal, beta, gamma, exponential, halfnormal, student), or a scipy or torch distribution
        of these families. See :meth:`of` for whole priors of torch, scipy and sbi.

    Raises
    ------
    DeepfieldError
        If a family or its arguments are not known or make no sense.

    Examples
    --------
    >>> prior = Prior({"omega_m": (0.01, 0.8), "w": {"normal": [-1.0, 0.2]}})
    >>> theta = prior.sample(3, seed=0)
    >>> theta.shape, bool(np.allclose(prior.from_line(prior.to_line(theta)), theta))
    ((3, 2), True)
    >>> prior.log_prob([[0.9, -1.0]])
    array([-inf])
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        if not parameters:
            raise DeepfieldError("a prior needs at least one parameter")
        self._take(tuple(parameters), [_block(value) for value in parameters.values()])

    def _take(self, names: tuple[str, ...], blocks: Sequence[Marginal | Gaussian]) -> None:
        dim = sum(block.dim for block in blocks)
        if len(names) != dim or len(set(names)) != dim:
            raise DeepfieldError(
                f"{dim} parameters need as many names, all different, not {', '.join(map(str, names))}"
            )
        self.names = tuple(str(name) for name in names)
        self.blocks = tuple(blocks)

    @classmethod
    def of(cls, given: Any, names: Sequence[str] | None = None) -> Prior:
        """A prior from whatever has one: a mapping, a JSON file, torch, sbi or scipy distributions.

        Parameters
        ----------
        given
            A :class:`Prior`; a mapping as for the constructor; the path of a JSON file of one; a torch
            distribution over a number or a vector (``Independent``, ``MultivariateNormal``, sbi's ``BoxUniform``
            and ``MultipleIndependent``); a frozen scipy distribution; or a sequence of distributions.
        names
            Of the parameters; theta_1, theta_2, ... if neither they nor ``given`` say.
        """
        if isinstance(given, Prior):
            return given
        if isinstance(given, str | os.PathLike):
            given = _json(Path(given))
        if isinstance(given, Mapping) and "names" in given and "blocks" in given:
            return cls.from_dict(given)
        if isinstance(given, Mapping):
            return cls(given)
        blocks = _blocks(given)
        prior = cls.__new__(cls)
        dim = sum(block.dim for block in blocks)
        prior._take(tuple(names or (f"theta_{i + 1}" for i in range(dim))), blocks)
        return prior

    @property
    def dim(self) -> int:
        """Number of parameters."""
        return len(self.names)

    def sample(self, n: int, *, seed: int) -> Array:
        """Draws (n, D)."""
        return self.from_line(np.random.default_rng(seed).standard_normal((n, self.dim)))

    def log_prob(self, theta: ArrayLike) -> Array:
        """Log density (N,) of theta (N, D); -inf outside the support."""
        rows = self.rows(theta)
        parts = [block.log_prob(part) for block, part in self._parts(rows)]
        return np.sum(parts, axis=0)

    def to_line(self, theta: ArrayLike) -> Array:
        """The u (N, D), standard normal under the prior, of theta (N, D)."""
        return np.concatenate([block.to_line(part) for block, part in self._parts(self.rows(theta))], 1)

    def from_line(self, u: ArrayLike) -> Array:
        """Theta (N, D) of u (N, D)."""
        return np.concatenate([block.from_line(part) for block, part in self._parts(self.rows(u))], 1)

    def log_jacobian(self, theta: ArrayLike, u: ArrayLike) -> Array:
        """The log |du / dtheta| (N,): the prior's density over that of a standard normal."""
        return self.log_prob(theta) - _standard(self.rows(u))

    def inside(self, theta: ArrayLike) -> NDArray[np.bool_]:
        """Whether each row lies in the support, its edges included."""
        rows, bounds = self.rows(theta), self.support()
        slack = 1e-6 * np.where(np.isfinite(bounds).all(1), bounds[:, 1] - bounds[:, 0], 0.0)  # float32 tables
        return np.all((rows >= bounds[:, 0] - slack) & (rows <= bounds[:, 1] + slack), axis=1)

    def support(self) -> Array:
        """Lower and upper end of each parameter (D, 2)."""
        return np.concatenate([block.support() for block in self.blocks])

    def cut(self, bounds: ArrayLike) -> Prior:
        """The prior between bounds (D, 2), normalised there; blocks of correlated Gaussians stay as they are.

        Examples
        --------
        >>> Prior({"a": (0, 1), "b": {"normal": [0, 1]}}).cut([[0.2, 0.4], [0, 9]]).support().tolist()
        [[0.2, 0.4], [0.0, 9.0]]
        """
        edges = np.asarray(bounds, dtype=float)
        if edges.shape != (self.dim, 2):
            raise DeepfieldError(f"bounds of shape ({self.dim}, 2) are needed, not {edges.shape}")
        starts = np.cumsum([0, *(block.dim for block in self.blocks)])
        blocks = [
            block.cut(float(edges[i, 0]), float(edges[i, 1])) if isinstance(block, Marginal) else block
            for block, i in zip(self.blocks, starts)
        ]
        prior = Prior.__new__(Prior)
        prior._take(self.names, blocks)
        return prior

    def rows(self, theta: ArrayLike) -> Array:
        """As float64 of shape (N, D).

        Raises
        ------
        DeepfieldError
            If the number of parameters is another.
        """
        rows = np.asarray(theta, dtype=np.float64)
        rows = rows[None] if rows.ndim == 1 and len(rows) == self.dim else rows
        if rows.ndim != 2 or rows.shape[1] != self.dim:
            raise DeepfieldError(
                f"parameters of shape (N, {self.dim}) expected ({', '.join(self.names)}), got {rows.shape}"
            )
        return rows

    def _parts(self, rows: Array) -> list[tuple[Marginal | Gaussian, Array]]:
        edges = np.cumsum([0, *(block.dim for block in self.blocks)])
        return [(block, rows[:, a:b]) for block, a, b in zip(self.blocks, edges, edges[1:])]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"names": list(self.names), "blocks": [block.to_json() for block in self.blocks]}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Prior:
        """The inverse of :meth:`to_dict`."""
        prior = cls.__new__(cls)
        try:
            prior._take(tuple(content["names"]), [_block(value) for value in content["blocks"]])
        except (KeyError, TypeError) as error:
            raise DeepfieldError(f"the description of the prior is damaged: {error}") from None
        return prior

    def __repr__(self) -> str:
        return f"Prior({', '.join(self.names)})"


def _standard(u: Array) -> Array:
    return -0.5 * (u**2).sum(1) - 0.5 * u.shape[1] * math.log(2 * math.pi)


def _json(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeepfieldError(f"the prior '{path}' cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise DeepfieldError(f"the prior '{path}' should be an object such as {{\"omega_m\": [0.1, 0.5]}}")
    return content


def _block(given: Any) -> Marginal | Gaussian:
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
    blocks = _blocks(given)
    if len(blocks) != 1:
        raise DeepfieldError(f"one parameter needs a distribution of one number, not {given!r:.80}")
    return blocks[0]


def _blocks(given: Any) -> list[Marginal | Gaussian]:
    """The blocks of a distribution of torch or scipy, or of a sequence of them."""
    from deepfield.inference._foreign import from_scipy, from_torch

    if isinstance(given, list | tuple):
        return [block for part in given for block in _blocks(part)]
    found = from_torch(given) or from_scipy(given)
    if not found:
        raise DeepfieldError(
            f"no prior can be made of {type(given).__name__}: give bounds or families by name "
            "({'omega_m': (0.1, 0.5)}), or a product of torch or scipy distributions"
        )
    return [_block(part) for part in found]
