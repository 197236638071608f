"""Draws from a learnt likelihood: tempering from the prior, then many chains at once.

The parameters live where their prior is a standard normal. A population starts there and is taken to the
posterior in steps of a growing power of the likelihood (sequential Monte Carlo; Del Moral, Doucet & Jasra 2006),
each as large as leaves half of the population effective. So modes are populated by their shares and none is
forgotten, whatever their distance. Within a step, and at the end, the population moves by differences of others
(ter Braak 2006), in two halves, one moving along differences of the other, which leaves the target exactly
invariant (as Foreman-Mackey et al. 2013). Every move evaluates the net for half of the population at once.

All of this is done four times, and nested R-hat (Margossian et al. 2024) compares the four: chains that start in
their modes by the right shares need not visit all of them one by one, but independent populations must agree.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]
LogLikelihood = Callable[[Tensor], Tensor]
log = logging.getLogger("deepfield")

GROUPS = 4
WORST_RHAT, FEWEST = 1.02, 400.0


@dataclass(frozen=True)
class Chains:
    """Draws on the line, and how well they were mixed.

    Parameters
    ----------
    u : Array (T, C, D)
        T draws of each of C chains, D parameters.
    rhat, ess : Array (D,)
        Nested R-hat of the four populations, and effective number of draws.
    log_evidence : float
        log of the prior mean of the likelihood, from the tempering.
    evidence_error : float
        From the scatter of the four.
    acceptance : float
    evaluations : int
        Of the likelihood.
    """

    u: Array
    rhat: Array
    ess: Array
    log_evidence: float
    evidence_error: float
    acceptance: float
    evaluations: int

    @property
    def mixed(self) -> bool:
        """Whether R-hat is below 1.02 and the draws are worth 400 or more."""
        return bool(self.rhat.max() < WORST_RHAT and self.ess.min() > min(FEWEST, 0.5 * self.u[..., 0].size))


class _Population:
    """Points (G, P, D) of G separate populations, their log-likelihoods (G, P), and the moves."""

    def __init__(self, function: LogLikelihood, u: Tensor, generator: torch.Generator) -> None:
        self.function, self.generator = function, generator
        self.u, self.evaluations = u, 0
        self.value = self.evaluate(u)

    @torch.no_grad()
    def evaluate(self, u: Tensor) -> Tensor:
        self.evaluations += u.shape[0] * u.shape[1]
        value = self.function(u).double()
        return torch.where(torch.isfinite(value), value, -torch.inf)

    def pick(self, rows: Tensor) -> None:
        """Keep these rows (G, Q) of each population."""
        self.u, self.value = _rows(self.u, rows), self.value.gather(1, rows)

    def move(self, beta: float) -> float:
        """One move of every point; returns the share accepted."""
        count, accepted = self.u.shape[1], 0.0
        order = torch.rand(self.value.shape, generator=self.generator).argsort(1)
        halves = order[:, : count // 2], order[:, count // 2 :]
        for own, other in (halves, halves[::-1]):
            here, now = _rows(self.u, own), self.value.gather(1, own)
            proposal = self._proposal(here, _rows(self.u, other))
            value = self.evaluate(proposal)
            ratio = beta * (value - now) + 0.5 * (here**2 - proposal**2).sum(-1).double()
            yes = torch.rand(now.shape, generator=self.generator).double().log() < ratio
            self.u.scatter_(1, _wide(own, here), torch.where(yes[..., None], proposal, here))
            self.value.scatter_(1, own, torch.where(yes, value, now))
            accepted += float(yes.double().sum())
        return accepted / self.value.numel()

    def _proposal(self, own: Tensor, other: Tensor) -> Tensor:
        shape, dim, count = own.shape[:2], own.shape[2], other.shape[1]
        first = torch.randint(count, shape, generator=self.generator)
        second = (first + 1 + torch.randint(count - 1, shape, generator=self.generator)) % count
        difference = _rows(other, first) - _rows(other, second)
        # A step of 2.38 / sqrt(2 D) suits a Gaussian; one of 1 leads from mode to mode.
        scale = 2.38 / math.sqrt(2 * dim) * (0.5 + torch.rand(*shape, 1, generator=self.generator))
        scale = torch.where(torch.rand(*shape, 1, generator=self.generator) < 0.15, 1.0, scale)
        return own + scale * difference + 1e-5 * torch.randn(own.shape, generator=self.generator)


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    return rows[..., None].expand(*rows.shape, like.shape[-1])


def _rows(points: Tensor, rows: Tensor) -> Tensor:
    """Rows (G, Q) of points (G, P, D)."""
    return points.gather(1, _wide(rows, points))


def sample(
    log_likelihood: LogLikelihood,
    dim: int,
    n: int,
    *,
    seed: int,
    population: int = 400,
    chains: int = 60,
    thin: int = 10,
) -> Chains:
    """At least ``n`` draws from exp(log_likelihood(u)) N(u; 0, I).

    Parameters
    ----------
    log_likelihood : callable
        Float32 u (N, dim) to (N,); what is not finite counts as impossible.
    population : int
        Points that are tempered, in each of four populations.
    chains : int
        Of them that go on as chains.
    thin : int
        Moves between two kept draws.

    Raises
    ------
    DeepfieldError
        If the likelihood is impossible everywhere.

    Examples
    --------
    >>> found = sample(lambda u: -0.5 * ((u[:, 0] - 2) / 0.1) ** 2, 1, 2000, seed=0)
    >>> bool(abs(found.u.mean() - 2 / 1.01) < 0.02), found.mixed
    (True, True)
    """
    generator = torch.Generator().manual_seed(seed)
    # Differences span the space only if there are more of them than dimensions.
    population, chains = max(population, 20 * dim), max(chains, 6 * dim)
    length = max(10, -(-n // (GROUPS * chains)))
    start = torch.randn(GROUPS, population, dim, generator=generator)
    points = _Population(lambda u: log_likelihood(u.reshape(-1, dim)).reshape(u.shape[:2]), start, generator)
    evidence = _temper(points, generator)
    for _ in range(2 * thin):
        points.move(1.0)
    points.pick(torch.arange(chains).expand(GROUPS, chains))
    kept, accepted = [], 0.0
    for _ in range(length):
        accepted += sum(points.move(1.0) for _ in range(thin)) / (thin * length)
        kept.append(points.u.reshape(-1, dim).clone())
    u = torch.stack(kept).double().numpy()
    total = float(np.logaddexp.reduce(evidence) - math.log(GROUPS))
    error = float(evidence.std(ddof=1) / math.sqrt(GROUPS))
    return Chains(u, rhat(u, GROUPS), effective(u), total, error, accepted, points.evaluations)


def sample_many(
    log_likelihood: LogLikelihood, dim: int, count: int, n: int, *, seed: int, moves: int = 30
) -> Array:
    """Draws (count, n, dim) from ``count`` posteriors at once, for tests over many data sets: one population each.

    Parameters
    ----------
    log_likelihood : callable
        Float32 u (count, P, dim) to (count, P), each row with its own data set.
    n : int
        Draws of each, the points of its population.
    moves : int
        Of every point once the tempering is over.

    Examples
    --------
    >>> centre = torch.tensor([[-1.0], [1.0]])
    >>> u = sample_many(lambda u: -50 * (u[..., 0] - centre) ** 2, 1, 2, 200, seed=0)
    >>> u.shape, (u.mean((1, 2)) > 0).tolist()
    ((2, 200, 1), [False, True])
    """
    generator = torch.Generator().manual_seed(seed)
    population = max(n, 20 * dim, 64)
    points = _Population(log_likelihood, torch.randn(count, population, dim, generator=generator), generator)
    _temper(points, generator)
    for _ in range(moves):
        points.move(1.0)
    return points.u[:, :n].double().numpy()


def _temper(points: _Population, generator: torch.Generator) -> Array:
    """From the prior to the posterior; returns the log evidence that each population finds."""
    groups, count = points.value.shape
    if not bool((points.value > -torch.inf).any(1).all()):
        raise DeepfieldError("the learnt likelihood is zero or NaN all over the prior for an observation")
    beta, evidence = 0.0, np.zeros(groups)
    while beta < 1:
        step = min(_step(value, 1 - beta, 0.5 * count) for value in points.value)
        beta = 1.0 if beta + step > 1 - 1e-9 else beta + step
        weights = step * points.value
        evidence += torch.logsumexp(weights, 1).numpy() - math.log(count)
        share = torch.softmax(weights, 1).cumsum(1)
        # Systematic resampling: one random offset for all.
        offset = torch.rand(groups, 1, generator=generator).double()
        places = (torch.arange(count, dtype=torch.float64) + offset) / count
        points.pick(torch.searchsorted(share, places).clamp_max(count - 1))
        moved = 0.0
        for _ in range(30):
            moved += points.move(beta)
            if moved >= 2:  # every point has moved about twice
                break
    return evidence


def _step(value: Tensor, most: float, aim: float) -> float:
    """The power by which the likelihood may grow so that ``aim`` points stay effective; bisection."""

    def enough(step: float) -> bool:
        w = torch.softmax(step * value, 0)
        return float(1 / (w**2).sum()) >= aim

    if enough(most):
        return most
    low, high = 0.0, most
    for _ in range(60):
        middle = 0.5 * (low + high) if low > 0 or high < 1e-12 else 0.5 * high
        low, high = (middle, high) if enough(middle) else (low, middle)
        if low > 0 and high - low < 1e-3 * high:
            break
    return max(low, 1e-12)


def rhat(chains: Array, groups: int) -> Array:
    """Nested R-hat (Margossian et al. 2024) of draws (T, C, D), with the chains of each group in a row.

    Examples
    --------
    >>> bool(rhat(np.random.default_rng(0).normal(size=(50, 40, 1)), 4)[0] < 1.01)
    True
    """
    length, count, dim = chains.shape
    parts = chains.reshape(length, groups, count // groups, dim).swapaxes(1, 2).reshape(-1, groups, dim)
    within = parts.var(0, ddof=1).mean(0)
    return np.sqrt(1 + parts.mean(0).var(0, ddof=1) / np.maximum(within, 1e-300))


def effective(chains: Array) -> Array:
    """Effective number of draws of chains (T, C, D), for each of D numbers (Geyer 1992; Vehtari et al. 2021).

    Examples
    --------
    >>> bool(effective(np.random.default_rng(0).normal(size=(200, 10, 1)))[0] > 1500)
    True
    """
    length, count, _ = chains.shape
    centred = chains - chains.mean(0)
    size = 2 ** math.ceil(math.log2(2 * length))
    spectrum = np.abs(np.fft.rfft(centred, size, axis=0)) ** 2
    covariance = np.fft.irfft(spectrum, size, axis=0)[:length].mean(1) / length
    within = covariance[0] * length / (length - 1)
    total = within * (length - 1) / length
    total = total + (chains.mean(0).var(0, ddof=1) if count > 1 else 0.0)
    rho = 1 - (within - covariance * length / (length - 1)) / np.maximum(total, 1e-300)
    rho[0] = 1.0
    even = length - length % 2
    pairs = rho[:even:2] + rho[1:even:2]
    # Sums of neighbours fall and stay positive for a reversible chain; what follows the first negative is noise.
    pairs = np.minimum.accumulate(np.where(np.cumsum(pairs < 0, 0) > 0, 0.0, pairs), 0)
    tau = np.maximum(2 * pairs.sum(0) - 1, 1 / math.log10(max(length * count, 10)))
    return length * count / tau
