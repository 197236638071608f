"""When one observation is all that matters: simulate where its posterior lies.

A first round finds where that is; the prior is cut to a box around it, and the second round learns from
simulations of the cut prior (truncated sequential estimation; Miller et al. 2021; Deistler et al. 2022). Within
the box the posterior is the same, so that nothing has to be corrected. The result knows this observation,
and others like it, better; it is not amortised over the whole prior any more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepfield.core.errors import DeepfieldError
from deepfield.inference.posterior import Posterior
from deepfield.inference.priors import Prior, places
from deepfield.inference.simulate import simulate
from deepfield.inference.train import train

log = logging.getLogger("deepfield")

TAIL, MARGIN = 5e-3, 0.3
"""Share of the draws, those of lowest density, that need not lie in the box; its margin in units of its width."""


def cut_to(posterior: Posterior, observation: ArrayLike, *, seed: int = 0) -> Prior:
    """The prior, cut to a box that holds the draws of highest density, with a margin.

    Examples
    --------
    >>> from deepfield.inference import npe
    >>> posterior = npe({"mean": (0, 10)}, lambda theta: theta + 0.1, n=200, epochs=5, members=1)
    >>> low, high = cut_to(posterior, [5.1]).support()[0]
    >>> bool(0 <= low < 5 < high <= 10)
    True
    """
    draws = posterior.sample(observation, 20_000 if posterior.method == "npe" else 4000, seed=seed)
    if draws.ndim != 2:
        raise DeepfieldError("rounds are for one observation")
    density = posterior.log_prob(draws, observation, evidence=0.0)
    draws = draws[density >= np.quantile(density, TAIL)]
    low, high = draws.min(0), draws.max(0)
    margin = MARGIN * (high - low)
    return posterior.prior.cut(np.stack([low - margin, high + margin], 1))


def focus(
    prior: Any,
    simulator: Callable[..., Any],
    observation: ArrayLike,
    *,
    method: str = "npe",
    n: int = 10_000,
    rounds: int = 2,
    seed: int = 0,
    workers: int = 1,
    parameters: Sequence[str] = (),
    **settings: Any,
) -> Posterior:
    """A posterior for one observation, from simulations that close in on it.

    Parameters
    ----------
    prior, simulator
        As for :func:`deepfield.inference.npe`.
    observation : array
    method : str
        Of the last round; those before are NPE, whose draws cost nothing.
    n : int
        Simulations in each round.
    rounds : int
    parameters : sequence of str
        Of the last round, whose posterior is that of these alone: with ``method="nre"`` truncated marginal ratios
        (TMNRE, Miller et al. 2021). All by default.
    **settings
        ``noise`` of :func:`train`, and fields of :class:`InferenceConfig`, for all rounds.

    Examples
    --------
    >>> settings = {"n": 200, "epochs": 2, "members": 1}
    >>> focus({"mean": (0, 1)}, lambda theta: theta + 0.1, [0.5], **settings).sample([0.5], 10).shape
    (10, 1)
    """
    if rounds < 1:
        raise DeepfieldError(f"at least one round, not {rounds}")
    own = Prior.of(prior)
    places(own.names, parameters or own.names)
    whole = own.support()
    for k in range(rounds):
        table = simulate(own, simulator, n, seed=seed + 101 * k, workers=workers)
        if k < rounds - 1:
            posterior = train(table, own, method="npe", seed=seed, **settings)
            own = cut_to(posterior, observation, seed=seed)
            log.info("round %d: the prior is cut to %s", k + 1, _words(own))
    chosen = parameters or own.names
    posterior = train(table.marginal(chosen), own.marginal(chosen), method=method, seed=seed, **settings)
    posterior.card["rounds"] = {"count": rounds, "prior": whole.tolist(), "cut": own.support().tolist()}
    return posterior


def _words(prior: Prior) -> str:
    return ", ".join(f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in zip(prior.names, prior.support()))
