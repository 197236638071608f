"""Priors of other libraries in this one's words: torch.distributions (hence sbi's), frozen scipy distributions."""

from __future__ import annotations

from typing import Any

import numpy as np

_TORCH: dict[str, tuple[str, tuple[str, ...]]] = {
    "Uniform": ("uniform", ("low", "high")),
    "Normal": ("normal", ("loc", "scale")),
    "LogNormal": ("lognormal", ("loc", "scale")),
    "Beta": ("beta", ("concentration1", "concentration0")),
    "Gamma": ("gamma", ("concentration", "rate")),
    "Exponential": ("exponential", ("rate",)),
    "HalfNormal": ("halfnormal", ("scale",)),
    "StudentT": ("student", ("df", "loc", "scale")),
}


def from_torch(given: Any) -> list[Any]:
    """Descriptions of the blocks of a torch distribution; empty if it is none that is known.

    sbi's ``BoxUniform`` is an ``Independent`` of ``Uniform``; its ``MultipleIndependent`` keeps its parts in
    ``dists``.
    """
    if hasattr(given, "dists"):
        return [block for part in given.dists for block in from_torch(part)]
    kinds = {kind.__name__ for kind in type(given).__mro__}
    if "Independent" in kinds:
        return from_torch(given.base_dist)
    if "MultivariateNormal" in kinds and hasattr(given, "covariance_matrix"):
        mean = np.asarray(given.loc, dtype=float)
        covariance = np.asarray(given.covariance_matrix, dtype=float)
        return [{"gaussian": [mean.tolist(), (0.5 * (covariance + covariance.T)).tolist()]}]
    if not hasattr(given, "batch_shape"):
        return []
    for name, (family, attributes) in _TORCH.items():
        if type(given).__name__ == name:
            values = [np.asarray(getattr(given, a), dtype=float) for a in attributes]
            columns = [np.broadcast_to(v, given.batch_shape).ravel() for v in values]
            return [{family: [float(v) for v in row]} for row in zip(*columns)]
    return []


def from_scipy(given: Any) -> list[Any]:
    """The same of a frozen scipy distribution."""
    if hasattr(given, "mean") and hasattr(given, "cov") and "multivariate_normal" in type(given).__name__:
        covariance = np.atleast_2d(given.cov)
        return [{"gaussian": [np.atleast_1d(given.mean).tolist(), covariance.tolist()]}]
    if not hasattr(given, "dist") or not hasattr(given, "support"):
        return []
    shapes, loc, scale = given.dist._parse_args(*given.args, **given.kwds)
    loc, scale = float(loc), float(scale)
    name = given.dist.name
    if name == "uniform":
        return [{"uniform": [loc, loc + scale]}]
    if name == "norm":
        return [{"normal": [loc, scale]}]
    if name == "t":
        return [{"student": [float(shapes[0]), loc, scale]}]
    if name == "truncnorm":
        return [{"truncnormal": [loc, scale, loc + scale * float(shapes[0]), loc + scale * float(shapes[1])]}]
    if loc == 0 and name in ("loguniform", "reciprocal"):
        return [{"loguniform": [scale * float(shapes[0]), scale * float(shapes[1])]}]
    if loc == 0 and name == "lognorm":
        return [{"lognormal": [float(np.log(scale)), float(shapes[0])]}]
    if loc == 0 and name == "halfnorm":
        return [{"halfnormal": [scale]}]
    if loc == 0 and name == "expon":
        return [{"exponential": [1 / scale]}]
    if loc == 0 and name == "gamma":
        return [{"gamma": [float(shapes[0]), 1 / scale]}]
    if loc == 0 and scale == 1 and name == "beta":
        return [{"beta": [float(s) for s in shapes]}]
    return []
