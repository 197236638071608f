"""Priors, and the coordinates in which every prior is a standard normal.

A prior here is a product of blocks: marginals with a cdf F, taken to the line by u = Phi^-1(F(theta)), and
correlated Gaussians, whitened by their Cholesky factor. Under the prior u is exactly N(0, I), whatever the
support. A density that is learnt of u cannot leak out of the support, and a posterior that piles up at an edge
has the Gaussian tail that a flow expects, where a logit would give it an exponential one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.inference._blocks import FARTHEST, Gaussian, Marginal, block, standard
from deepfield.inference._blocks import blocks as make_blocks

__all__ = ["FARTHEST", "Prior", "places"]

Array = NDArray[np.float64]


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
        self._take(tuple(parameters), [block(value) for value in parameters.values()])

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
        blocks = make_blocks(given)
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
        return self.log_prob(theta) - standard(self.rows(u))

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

    def marginal(self, names: Sequence[str]) -> Prior:
        """The prior of some parameters alone, in this prior's order.

        Raises
        ------
        DeepfieldError
            If a name is unknown, or none is given.

        Examples
        --------
        >>> Prior({"a": (0, 1), "b": (0, 2), "c": (0, 3)}).marginal(["c", "a"])
        Prior(a, c)
        """
        kept = places(self.names, names)
        starts = np.cumsum([0, *(block.dim for block in self.blocks)])
        parts = [(block, [i - a for i in kept if a <= i < a + block.dim]) for block, a in zip(self.blocks, starts)]
        prior = Prior.__new__(Prior)
        prior._take(tuple(self.names[i] for i in kept), [block.only(inner) for block, inner in parts if inner])
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
            prior._take(tuple(content["names"]), [block(value) for value in content["blocks"]])
        except (KeyError, TypeError) as error:
            raise DeepfieldError(f"the description of the prior is damaged: {error}") from None
        return prior

    def __repr__(self) -> str:
        return f"Prior({', '.join(self.names)})"


def places(names: Sequence[str], chosen: Sequence[str]) -> list[int]:
    """Where the chosen names stand among all, ascending.

    Raises
    ------
    DeepfieldError
        If one is unknown, or none is chosen.

    Examples
    --------
    >>> places(("a", "b", "c"), ["c", "a"])
    [0, 2]
    """
    wanted = {chosen} if isinstance(chosen, str) else set(chosen)
    if not wanted or not wanted <= set(names):
        told = ", ".join(sorted(wanted - set(names))) or "none"
        raise DeepfieldError(f"some of the parameters {', '.join(names)} are asked for, not {told}")
    return [i for i, name in enumerate(names) if name in wanted]


def _json(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeepfieldError(f"the prior '{path}' cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise DeepfieldError(f"the prior '{path}' should be an object such as {{\"omega_m\": [0.1, 0.5]}}")
    return content
