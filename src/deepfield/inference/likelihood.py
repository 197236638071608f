"""Classical statistics with a learnt likelihood: profiles and likelihood-ratio tests.

The statistic of a hypothesis that fixes k parameters is t = 2 (max log L - max log L with them fixed). By Wilks'
theorem it follows chi-square with k degrees of freedom in large samples; otherwise its law is found from data
simulated under the hypothesis, which no approximation enters but the learnt likelihood itself, and an imperfect
one costs power, not the size of the test (Dalmasso, Izbicki & Lee 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.stats
import torch
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.inference.posterior import Posterior
from deepfield.inference.priors import FARTHEST
from deepfield.inference.simulate import simulate_at

Array = NDArray[np.float64]
_BLOCK = 20_000  # pairs of parameters and data sets at a time


@dataclass(frozen=True)
class RatioTest:
    """What a likelihood-ratio test found.

    Parameters
    ----------
    statistic : float
        t = 2 (max log L - max log L under the hypothesis).
    p_wilks : float
        By chi-square.
    p_simulated : float or None
        Share of data simulated under the hypothesis that give as large a t; None without a simulator.
    best, constrained : dict
        The parameters at both maxima.
    simulated : Array
        The t of the simulated data.
    """

    statistic: float
    p_wilks: float
    p_simulated: float | None
    best: dict[str, float]
    constrained: dict[str, float]
    simulated: Array


def ratio_test(
    posterior: Posterior,
    observation: ArrayLike,
    fixed: Mapping[str, float],
    *,
    simulator: Callable[..., Any] | None = None,
    n: int = 500,
    seed: int = 0,
) -> RatioTest:
    """Test the hypothesis that some parameters have given values.

    Parameters
    ----------
    posterior : Posterior
        Of NLE or NRE.
    fixed : mapping
        Values by name of parameter.
    simulator : callable, optional
        With it ``n`` data sets are simulated at the constrained maximum, and the p-value needs no theorem.

    Raises
    ------
    DeepfieldError
        If a name is unknown, a value is impossible, or the model is one of NPE.
    """
    columns, values = _fixed(posterior, fixed)
    t, best, constrained = statistics(posterior, posterior.encoding.rows(observation), columns, values, seed=seed)
    simulated = np.zeros(0)
    p = None
    if simulator is not None:
        theta = np.repeat(constrained, n, 0)
        data = simulate_at(simulator, theta, seed=seed)
        simulated = statistics(posterior, data, columns, values, seed=seed)[0]
        p = float((1 + (simulated >= t[0]).sum()) / (n + 1))
    names = posterior.prior.names
    return RatioTest(
        float(t[0]),
        float(scipy.stats.chi2.sf(t[0], len(columns))),
        p,
        dict(zip(names, best[0].tolist())),
        dict(zip(names, constrained[0].tolist())),
        simulated,
    )


def profile(posterior: Posterior, observation: ArrayLike, name: str, values: ArrayLike, *, seed: int = 0) -> Array:
    """Profile log-likelihood (G,) at values (G,) of one parameter, the others at their best; 0 at the maximum.

    Examples
    --------
    >>> from deepfield.inference import nle
    >>> posterior = nle({"a": (0, 1), "b": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> profile(posterior, [0.5, 0.5], "a", [0.4, 0.5]).shape
    (2,)
    """
    grid = np.atleast_1d(np.asarray(values, dtype=float))
    rows = posterior.encoding.rows(observation)
    log_l = [_maximise(posterior, rows, *_fixed(posterior, {name: float(v)}), seed=seed)[0][0] for v in grid]
    top = _maximise(posterior, rows, [], np.zeros(0), seed=seed)[0][0]
    return np.array(log_l) - max(top, *log_l)


def statistics(
    posterior: Posterior, data: ArrayLike, columns: list[int], values: Array, *, seed: int = 0
) -> tuple[Array, Array, Array]:
    """The statistic t (M,) of M data sets, and the parameters (M, D) at the free and at the constrained maximum.

    Parameters
    ----------
    columns, values
        Which parameters are fixed, and to what.
    """
    rows = posterior.encoding.rows(data)
    low, constrained = _maximise(posterior, rows, columns, values, seed=seed)
    top, best = _maximise(posterior, rows, [], values, seed=seed, start=constrained)
    return np.maximum(2 * (top - low), 0.0), best, constrained


def _fixed(posterior: Posterior, fixed: Mapping[str, float]) -> tuple[list[int], Array]:
    names = posterior.prior.names
    if posterior.method == "npe":
        raise DeepfieldError("npe learns no likelihood: use nle or nre")
    if not fixed or not set(fixed) <= set(names):
        raise DeepfieldError(f"fix some of the parameters {', '.join(names)}, not {', '.join(fixed) or 'none'}")
    columns, values = [names.index(name) for name in fixed], np.array(list(fixed.values()), dtype=float)
    bounds = posterior.prior.support()[columns]
    if ((values < bounds[:, 0]) | (values > bounds[:, 1])).any():
        raise DeepfieldError(f"the prior excludes {dict(fixed)}: its bounds are {bounds.tolist()}")
    return columns, values


def _maximise(
    posterior: Posterior,
    rows: Array,
    columns: list[int],
    values: Array,
    *,
    seed: int,
    start: Array | None = None,
    starts: int = 4,
    steps: int = 120,
) -> tuple[Array, Array]:
    """Greatest log-likelihood (M,) of M data sets and where (M, D): from the best of draws uphill by Adam."""
    prior, dim, count = posterior.prior, posterior.prior.dim, len(rows)
    pool = np.random.default_rng(seed).standard_normal((1024, dim))
    free = torch.ones(dim)
    held = torch.zeros(dim)
    if columns:
        theta = np.array(prior.from_line(np.zeros((1, dim))))
        theta[:, columns] = values
        held = torch.from_numpy(prior.to_line(theta)[0]).float()
        free[columns] = 0.0
    candidates = torch.from_numpy(pool).float() * free + held * (1 - free)
    function = posterior.likelihood_on_line(rows)
    with torch.no_grad():
        blocks = candidates.split(max(1, _BLOCK // count))
        scores = torch.cat([function(b.repeat_interleave(count, 0)).reshape(-1, count) for b in blocks])
    u = candidates[scores.topk(starts, 0).indices]  # (S, M, D)
    if start is not None:
        u = torch.cat([u, torch.from_numpy(prior.to_line(start)).float()[None]])
    u = u.clone().requires_grad_()
    optimizer = torch.optim.Adam([u], lr=0.1, betas=(0.8, 0.95))
    best = torch.full((count,), -torch.inf)
    where = u.detach()[0].clone()
    for step in range(steps + 1):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / (steps + 1)) ** 2
        point = (u * free + held * (1 - free)).clamp(-FARTHEST, FARTHEST)
        value = function(point.reshape(-1, dim)).reshape(-1, count)
        top, index = value.detach().max(0)
        better = top > best
        chosen = point.detach().gather(0, index[None, :, None].expand(1, count, dim))[0]
        best, where = torch.where(better, top, best), torch.where(better[:, None], chosen, where)
        optimizer.zero_grad()
        (-value.sum()).backward()
        optimizer.step()
    return best.double().numpy(), prior.from_line(where.double().numpy())


def size_of_test(p_values: ArrayLike, level: float = 0.05) -> tuple[float, float, float]:
    """Share of p-values below the level, and the binomial band (95 %) that a right test keeps to.

    Examples
    --------
    >>> size_of_test([0.01, 0.5, 0.7, 0.9], 0.05)[0]
    0.25
    """
    p = np.asarray(p_values, dtype=float)
    low, high = scipy.stats.binom.interval(0.95, len(p), level)
    return float((p < level).mean()), float(low / len(p)), float(high / len(p))
