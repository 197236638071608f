"""Votes over groups of answers: a Dirichlet-multinomial for each group, all groups at once.

An object was shown to some voters; each group is a question with two answers or more, and the numbers of voters
who reached a question differ. Given concentrations a_1..a_K of a question's answers (A their sum), k_1..k_K votes
of n voters have the probability

    n! / prod k_i!  *  Gamma(A) / Gamma(A + n)  *  prod Gamma(a_i + k_i) / Gamma(a_i)

(e.g. Minka 2000, "Estimating a Dirichlet distribution"; for galaxies Walmsley et al. 2022, MNRAS 509, 3966). With
Gamma functions in place of factorials votes may be fractions (weighted or debiased), and a question that nobody
reached contributes exactly nothing. Nothing here knows what the questions ask.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Distribution

from deepfield.core.distributions import invert_cdf
from deepfield.core.errors import ModelError
from deepfield.core.heads import Head
from deepfield.core.prediction import Prediction

_STIRLING = 16.0
_LOWEST, _HIGHEST = -14.0, 30.0
_MOST_ANSWERS = 4096


class Groups:
    """Answers in a row, cut into groups: sums within each group, and back.

    Parameters
    ----------
    sizes : sequence of int
        Answers of each group, two or more.

    Raises
    ------
    ModelError
        If there is no group, or one with less than two answers, or absurdly many answers.

    Examples
    --------
    >>> groups = Groups([2, 3])
    >>> groups.sum(torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).tolist()
    [3.0, 12.0]
    >>> groups.spread(torch.tensor([7.0, 8.0])).tolist()
    [7.0, 7.0, 8.0, 8.0, 8.0]
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        plain = isinstance(sizes, list | tuple) and all(isinstance(s, int) and s >= 2 for s in sizes)
        if not plain or not 2 <= sum(sizes) <= _MOST_ANSWERS:
            raise ModelError(
                f"groups are the numbers of answers of each question, two or more each and at most "
                f"{_MOST_ANSWERS} together, not {sizes!r:.80}"
            )
        self.sizes = tuple(sizes)
        self.answers, self.count = sum(sizes), len(sizes)
        self._owner = torch.arange(self.count).repeat_interleave(torch.tensor(self.sizes))

    def owner(self, like: Tensor) -> Tensor:
        """The group of each answer (A,), on the device of ``like``."""
        if self._owner.device != like.device:
            self._owner = self._owner.to(like.device)
        return self._owner

    def sum(self, x: Tensor) -> Tensor:
        """(..., A) to (..., Q)."""
        return x.new_zeros(*x.shape[:-1], self.count).index_add(-1, self.owner(x), x)

    def largest(self, x: Tensor) -> Tensor:
        """The largest of each group: (..., A) to (..., Q)."""
        lowest = x.new_full((*x.shape[:-1], self.count), -torch.inf)
        return lowest.scatter_reduce(-1, self.owner(x).expand_as(x), x, "amax")

    def spread(self, y: Tensor) -> Tensor:
        """(..., Q) to (..., A)."""
        return y[..., self.owner(y)]


def log_rising(a: Tensor, k: Tensor) -> Tensor:
    """Log of Gamma(a + k) / Gamma(a) for a > 0 and k >= 0; exactly zero at k = 0.

    For large a the difference of two large logarithms would lose all digits of float32: there it is taken from
    Stirling's series term by term.

    Examples
    --------
    >>> round(float(log_rising(torch.tensor(3.0), torch.tensor(2.0)).exp()), 4)  # 3 * 4
    12.0
    >>> round(float(log_rising(torch.tensor(1e8), torch.tensor(1.0))), 4)  # log 1e8
    18.4207
    """
    large = a > _STIRLING
    small = torch.where(large, 1.0, a)
    direct = torch.lgamma(small + k) - torch.lgamma(small)
    big = torch.where(large, a, _STIRLING)
    series = (big - 0.5) * torch.log1p(k / big) + k * (torch.log(big + k) - 1) + _tail(big + k) - _tail(big)
    return torch.where(large, series, direct)


def _tail(x: Tensor) -> Tensor:
    """What Stirling's formula leaves of log Gamma(x); the first term left out is below 1e-13 at x = 16."""
    y = 1 / (x * x)
    return (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y / 1680))) / x


class DirichletMultinomial(Distribution):
    """Votes over groups of answers, one posterior or the average of several.

    ``log_prob`` is of vote counts (..., A) given how many voters each question had; ``mean``, ``variance``,
    ``cdf`` and ``icdf`` are of the *fractions*, answer by answer: what ever more voters would tend to.

    Parameters
    ----------
    concentrations : Tensor (..., A)
        Positive.
    groups : Groups or sequence of int

    Examples
    --------
    >>> d = DirichletMultinomial(torch.tensor([[2.0, 2.0, 1.0, 1.0, 1.0]]), [2, 3])
    >>> d.mean.tolist()[0][:2], round(float(d.log_prob(torch.tensor([[1.0, 0, 0, 0, 0]])).exp()), 6)
    ([0.5, 0.5], 0.5)
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol)
    has_rsample = False

    def __init__(self, concentrations: Tensor, groups: Groups | Sequence[int]) -> None:
        self.groups = groups if isinstance(groups, Groups) else Groups(list(groups))
        self._set(concentrations[None])

    def _set(self, stack: Tensor) -> None:
        self.stack = stack  # (M, ..., A): the members of the average
        super().__init__(stack.shape[1:-1], stack.shape[-1:], validate_args=False)

    def average_with(self, others: Sequence[DirichletMultinomial]) -> DirichletMultinomial:
        """The equal-weight mixture with others of the same groups."""
        mixed = DirichletMultinomial(self.stack[0], self.groups)
        mixed._set(torch.cat([self.stack, *(other.stack for other in others)]))
        return mixed

    @property
    def _totals(self) -> Tensor:
        """The sum of each answer's question's concentrations (M, ..., A)."""
        return self.groups.spread(self.groups.sum(self.stack))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log probability of votes (..., A), fractions allowed, summed over questions: (...)."""
        voters = self.groups.sum(value)
        ways = torch.lgamma(voters + 1).sum(-1) - torch.lgamma(value + 1).sum(-1)
        answers = log_rising(self.stack, value).sum(-1)
        given = log_rising(self.groups.sum(self.stack), voters).sum(-1)
        members = ways + answers - given
        return torch.logsumexp(members, 0) - math.log(len(members)) if len(members) > 1 else members[0]

    # -- the fractions ------------------------------------------------------------------------------------

    @property
    def mean(self) -> Tensor:
        """Expected fraction of each answer among its question's votes (..., A)."""
        return (self.stack / self._totals).mean(0)

    @property
    def variance(self) -> Tensor:
        total = self._totals
        p = self.stack / total
        return (p * (1 - p) / (total + 1)).mean(0) + p.var(0, correction=0)

    def _betas(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        a = self.stack.detach().cpu().double()
        return a.numpy(), (self._totals.detach().cpu().double() - a).numpy()

    def cdf(self, value: Tensor) -> Tensor:
        """Probability that each answer's fraction is below ``value`` (broadcast to (..., A)): a Beta law."""
        from scipy.special import betainc

        a, b = self._betas()
        return torch.as_tensor(betainc(a, b, value.detach().cpu().double().numpy()).mean(0)).to(self.stack)

    def _density(self, value: Tensor) -> Tensor:
        from scipy.special import betaln, xlog1py, xlogy

        a, b = self._betas()
        x = value.detach().cpu().double().numpy()
        density = np.exp(xlogy(a - 1, x) + xlog1py(b - 1, -x) - betaln(a, b)).mean(0)
        return torch.as_tensor(density).to(self.stack)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles of each answer's fraction at levels that broadcast to (..., A)."""
        from scipy.special import betaincinv

        level = value.detach().cpu().double()
        own = torch.as_tensor(betaincinv(*self._betas(), level.numpy())).to(self.stack)
        if len(own) == 1:
            return own[0]
        q = level.to(self.stack).expand(own.shape[1:])
        return invert_cdf(self.cdf, self._density, q, own.amin(0), own.amax(0))

    # -- what is known and what is not --------------------------------------------------------------------

    @property
    def entropy_of_mean(self) -> Tensor:
        """Entropy (nats) of the next voter's answer to each question (..., Q)."""
        return self._entropy(self.mean)

    def _entropy(self, p: Tensor) -> Tensor:
        return -self.groups.sum(torch.special.xlogy(p, p))

    @property
    def expected_entropy(self) -> Tensor:
        """Entropy (nats) that would remain if the fractions were known (..., Q).

        E[-sum f log f] of a Dirichlet is digamma(A + 1) - sum (a / A) digamma(a + 1).
        """
        total = self.groups.sum(self.stack)
        p = self.stack / self.groups.spread(total)
        return (torch.digamma(total + 1) - self.groups.sum(p * torch.digamma(self.stack + 1))).mean(0)

    @property
    def mutual_information(self) -> Tensor:
        """What one more vote would tell of the fractions, in nats (..., Q): not negative."""
        return (self.entropy_of_mean - self.expected_entropy).clamp_min(0)

    @property
    def disagreement(self) -> Tensor:
        """What one more vote would tell of which member is right, in nats (..., Q): zero for one member alone.

        The quantity that active learning by committee ranks by (Houlsby et al. 2011, arXiv:1112.5745); unlike
        :attr:`mutual_information` it does not count that voters differ on an image that is well understood.
        """
        return (self.entropy_of_mean - self._entropy(self.stack / self._totals).mean(0)).clamp_min(0)

    # -- draws --------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample_fractions(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Fractions drawn from the posterior, of shape ``(*sample_shape, ..., A)``."""
        shape = (*sample_shape, *self.stack.shape[1:])
        pick = torch.randint(len(self.stack), (1, *shape[:-1], 1), device=self.stack.device)
        wide = self.stack.reshape(len(self.stack), *[1] * len(sample_shape), *self.stack.shape[1:])
        a = wide.expand(-1, *shape).gather(0, pick.expand(1, *shape))[0]
        # In logs: gammas of small concentrations underflow, often all of a question's. A gamma of a is one of
        # a + 1 times U^(1/a) (Marsaglia & Tsang 2000, ACM TOMS 26, 363), and -log U is exponential.
        a = a.double()
        logs = torch._standard_gamma(a + 1).log() - torch.empty_like(a).exponential_() / a
        part = (logs - self.groups.spread(self.groups.largest(logs))).exp()
        return (part / self.groups.spread(self.groups.sum(part))).to(self.stack)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = (), voters: int | Tensor = 1) -> Tensor:
        """Votes, ``(*sample_shape, ..., A)``, of so many voters: a number, or one for each question (..., Q)."""
        f = self.sample_fractions(sample_shape).double()
        q = self.groups.count
        asked = torch.as_tensor(voters, device=f.device).expand(*f.shape[:-1], q)
        most = int(asked.max()) if asked.numel() else 0
        # Each question takes its own unit of one long cumulative sum: a voter is a place within it.
        edges = f.cumsum(-1)
        place = torch.rand(*f.shape[:-1], q, most, dtype=f.dtype, device=f.device)
        place = place + torch.arange(q, device=f.device)[:, None]
        answer = torch.searchsorted(edges, place.flatten(-2), right=True)
        ends = torch.tensor(self.groups.sizes, device=f.device).cumsum(0)
        first, last = (ends - torch.tensor(self.groups.sizes, device=f.device)), ends - 1
        bound = lambda t: t[:, None].expand(q, most).flatten()  # noqa: E731
        answer = torch.minimum(torch.maximum(answer, bound(first)), bound(last))  # against rounding
        counted = torch.arange(most, device=f.device) < asked[..., None]
        votes = torch.zeros_like(f).scatter_add(-1, answer, counted.flatten(-2).to(f))
        return votes.to(self.stack)


class Votes(Head):
    """Votes over questions: the features are the log concentrations of the answers, group after group.

    Concentrations are the exponential of the features: they have no bounds that data could meet (1e-6 to 1e13),
    and the gradient of the likelihood by a feature is at most the number of its question's votes, however
    large it grows.

    Parameters
    ----------
    groups : sequence of int
        Answers of each question.
    voters : int
        Votes for each question in the draws that a student learns from (``draw``).

    Examples
    --------
    >>> head = Votes([3, 2])
    >>> head(torch.zeros(1, 5)).mean.tolist()[0][3:]
    [0.5, 0.5]
    >>> float(head(torch.zeros(1, 5)).log_prob(torch.zeros(1, 5)))  # nobody voted
    0.0
    """

    shift: Tensor

    def __init__(self, groups: Sequence[int], *, voters: int = 40) -> None:
        self.groups = Groups(list(groups))
        if not isinstance(voters, int) or voters < 1:
            raise ModelError(f"at least one voter answers a question, got voters={voters!r:.80}")
        super().__init__(groups=list(self.groups.sizes), voters=voters)
        self.voters, self.n_features = voters, self.groups.answers
        self.register_buffer("shift", torch.zeros(self.n_features))

    @torch.no_grad()
    def fit_target(self, target: Tensor) -> Head:
        """Start from the answers' shares of all votes (N, A), with a total of one for each answer."""
        votes = target.reshape(-1, self.n_features).double().sum(0) + 0.5
        share = votes / self.groups.spread(self.groups.sum(votes))
        sizes = self.groups.sum(torch.ones_like(share))
        self.shift.copy_((share * self.groups.spread(sizes)).log())
        return self

    def concentrations(self, features: Tensor) -> Tensor:
        """Concentrations (..., A); plain tensor algebra, exportable."""
        return (features + self.shift).clamp(_LOWEST, _HIGHEST).exp()

    def forward(self, features: Tensor) -> DirichletMultinomial:
        return DirichletMultinomial(self.concentrations(features), self.groups)

    def draw(self, features: Tensor, n: int) -> Tensor:
        """Votes of ``voters`` voters for each question (n, N, A)."""
        return self(features).sample((n,), self.voters)


def summarise(prediction: Prediction, level: float = 0.6827) -> dict[str, NDArray[np.float64]]:
    """What a prediction says of votes, chunk by chunk.

    Parameters
    ----------
    prediction : Prediction
        Of a :class:`Votes` head, or an ensemble of them.
    level : float
        Of the central credible intervals of the fractions.

    Returns
    -------
    dict
        ``mean``, ``low``, ``high``, each (N, A); ``entropy``, ``mutual_information`` and ``disagreement``, in
        nats, each (N, Q). A row of NaN features has NaN.

    Raises
    ------
    ModelError
        If the prediction is not of votes, or the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        raise ModelError(f"an interval's level lies between 0 and 1, got {level}")
    parts: dict[str, list[Any]] = {}
    for start in range(0, max(len(prediction), 1), prediction.chunk):
        d = prediction.distribution(slice(start, start + prediction.chunk))
        if not isinstance(d, DirichletMultinomial):
            raise ModelError("this prediction is not of votes: its model was trained with another head")
        tails = torch.tensor([0.5 - 0.5 * level, 0.5 + 0.5 * level], dtype=torch.float64)
        found = {
            "mean": d.mean, "low": d.icdf(tails[0]), "high": d.icdf(tails[1]),
            "entropy": d.entropy_of_mean, "mutual_information": d.mutual_information,
            "disagreement": d.disagreement,
        }  # fmt: skip
        for name, values in found.items():
            parts.setdefault(name, []).append(values.numpy())
    return {name: np.concatenate(values) for name, values in parts.items()}
