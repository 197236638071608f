"""Heads: features in, a torch Distribution in physical units out.

A head is told the target once (``fit_target``) and keeps its shift and scale: the network works in units of the
target's spread, and the Jacobian of that scaling is inside every ``log_prob``. A head is rebuilt from ``config``,
so that a prediction on disk needs no model to be read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Bernoulli as BernoulliDistribution
from torch.distributions import Categorical as CategoricalDistribution
from torch.distributions import Distribution, LowRankMultivariateNormal

from deepfield.core.distributions import GaussianMixture as GaussianMixtureDistribution
from deepfield.core.distributions import Tabulated, average
from deepfield.core.errors import ModelError

INVERSE_SOFTPLUS_ONE = math.log(math.e - 1)
_LARGEST = 4096
_MOST_WEIGHTS = 1e8


class Head(nn.Module):
    """What every head offers: ``n_features``, ``forward``, ``loss``, ``fit_target`` and ``config``."""

    n_features: int

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"head": type(self).__name__, **config}

    def forward(self, features: Tensor) -> Distribution:
        """Features (..., n_features) to a distribution of batch shape (...)."""
        raise NotImplementedError

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean negative log-likelihood of the targets, in nats per object."""
        return -self(features).log_prob(target).mean()

    def draw(self, features: Tensor, n: int) -> Tensor:
        """Targets drawn from the density, in the form ``loss`` takes: (n, N, ...) for distillation."""
        return self(features).sample(torch.Size((n,)))

    def fit_target(self, target: Tensor) -> Head:
        """Learn the scaling of the target from the training targets; heads without one do nothing."""
        return self


def refuse_absurd(weights: float, who: str) -> None:
    """Before anything is allocated: a stored description may come from anywhere."""
    if weights > _MOST_WEIGHTS:
        raise ModelError(f"{who} of absurd size")


class _ScaledHead(Head):
    """A head over a real target of ``dim`` numbers, with its shift and scale."""

    shift: Tensor
    scale: Tensor

    def __init__(self, dim: int, /, **config: Any) -> None:
        super().__init__(**config)
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    @torch.no_grad()
    def fit_target(self, target: Tensor) -> Head:
        rows = target.reshape(-1, len(self.shift)).double()
        self.shift.copy_(rows.mean(0))
        self.scale.copy_(rows.std(0).clamp_min(1e-12))
        return self


class GaussianMixture(_ScaledHead):
    """K Gaussians over a scalar: softmax weights, softplus widths (Bishop 1994; D'Isanto & Polsterer 2018).

    Parameters
    ----------
    components : int
        K; the features are 3K numbers per object.
    shared_width : bool
        One learned width for all objects and components. With K = 1 this is least-squares regression.
    floor : float
        Smallest width, in units of the target's standard deviation.

    Examples
    --------
    >>> head = GaussianMixture(3)
    >>> head(torch.zeros(2, head.n_features)).log_prob(torch.zeros(2)).shape
    torch.Size([2])
    """

    def __init__(self, components: int = 5, *, shared_width: bool = False, floor: float = 3e-3) -> None:
        super().__init__(1, components=components, shared_width=shared_width, floor=floor)
        self.components, self.floor = components, floor
        self.n_features = (2 if shared_width else 3) * components
        self.width = nn.Parameter(torch.full((components,), INVERSE_SOFTPLUS_ONE)) if shared_width else None
        # Components start side by side over the target's range, not on top of one another.
        self.start: Tensor
        spread = torch.linspace(-1.5, 1.5, components) if components > 1 else torch.zeros(1)
        self.register_buffer("start", spread)

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and widths (..., K) in the unit of the target; plain tensor algebra, exportable."""
        k = self.components
        logits, means = features[..., :k], features[..., k : 2 * k] + self.start
        raw = features[..., 2 * k :] if self.width is None else self.width.expand_as(means)
        # Softplus; its own kernel is several times slower in onnxruntime, and the floor covers the rounding.
        stds = torch.log(1 + torch.exp(raw.clamp(max=30.0))) + self.floor
        return torch.log_softmax(logits, -1), self.shift + self.scale * means, self.scale * stds

    def forward(self, features: Tensor) -> GaussianMixtureDistribution:
        return GaussianMixtureDistribution(*self.parameters_of(features), normalised=True)


class Categorical(Head):
    """One of ``classes`` answers; targets are class numbers, or rows of class probabilities (soft labels).

    Examples
    --------
    >>> Categorical(4)(torch.zeros(1, 4)).probs.tolist()
    [[0.25, 0.25, 0.25, 0.25]]
    """

    def __init__(self, classes: int) -> None:
        super().__init__(classes=classes)
        self.n_features = classes

    def forward(self, features: Tensor) -> CategoricalDistribution:
        return CategoricalDistribution(logits=features, validate_args=False)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Cross-entropy; soft targets are rows that sum to one."""
        target = target if target.dim() == features.dim() else target.long()
        return F.cross_entropy(features, target)

    def draw(self, features: Tensor, n: int) -> Tensor:
        """The class probabilities themselves: soft labels carry all that any number of draws would."""
        return features.softmax(-1)


class Bernoulli(Head):
    """Yes or no; targets are 0, 1 or a probability between.

    Examples
    --------
    >>> float(Bernoulli()(torch.zeros(1, 1)).probs)
    0.5
    """

    def __init__(self) -> None:
        super().__init__()
        self.n_features = 1

    def forward(self, features: Tensor) -> BernoulliDistribution:
        return BernoulliDistribution(logits=features[..., 0], validate_args=False)


class GaussianVector(_ScaledHead):
    """A Gaussian over a vector: covariance diag(s^2) + L L^T with L of ``rank`` columns (0: diagonal).

    Examples
    --------
    >>> head = GaussianVector(3, rank=1)
    >>> head.n_features, head(torch.zeros(2, 9)).log_prob(torch.zeros(2, 3)).shape
    (9, torch.Size([2]))
    """

    def __init__(self, dim: int, *, rank: int = 0, floor: float = 1e-4) -> None:
        super().__init__(dim, dim=dim, rank=rank, floor=floor)
        self.dim, self.rank, self.floor = dim, rank, floor
        self.n_features = dim * (2 + rank)

    def forward(self, features: Tensor) -> Distribution:
        mean, raw, factor = features.split([self.dim, self.dim, self.dim * self.rank], -1)
        mean = self.shift + self.scale * mean
        std = self.scale * (F.softplus(raw) + self.floor)
        # A row of NaN would break the samples and the Cholesky factors of all: its mean alone stays NaN.
        broken = torch.isnan(features).any(-1, keepdim=True)
        mean, std = mean.masked_fill(broken, torch.nan), std.masked_fill(broken, 1.0)
        if self.rank == 0:
            return torch.distributions.Independent(torch.distributions.Normal(mean, std, validate_args=False), 1)
        loadings = self.scale[:, None] * factor.reshape(*factor.shape[:-1], self.dim, self.rank)
        loadings = loadings.masked_fill(broken[..., None], 0.0)
        return LowRankMultivariateNormal(mean, loadings, std**2, validate_args=False)


class ClassMixture(Head):
    """A class and a scalar: p(c | x) p(y | c, x), each class with its own mixture of Gaussians.

    The target is (N, 2): scalar, class number. As a density of the scalar it is the mixture over the classes.

    Examples
    --------
    >>> head = ClassMixture(2, 3)
    >>> head(torch.zeros(4, head.n_features)).means.shape
    torch.Size([4, 6])
    """

    def __init__(self, classes: int = 2, components: int = 5, *, floor: float = 3e-3) -> None:
        super().__init__(classes=classes, components=components, floor=floor)
        self.classes, self.components = classes, components
        self.mixtures: Any = nn.ModuleList(GaussianMixture(components, floor=floor) for _ in range(classes))
        self.n_features = classes * (1 + 3 * components)

    def fit_target(self, target: Tensor) -> Head:
        for c, mixture in enumerate(self.mixtures):
            rows = target[target[:, 1] == c, 0]
            if len(rows) < 2:
                raise ModelError(f"class number {c} has {len(rows)} training rows; at least 2 are needed")
            mixture.fit_target(rows)
        return self

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and widths (..., classes * K) of the mixture over all classes."""
        logits, *rest = features.split([self.classes] + [3 * self.components] * self.classes, -1)
        parts = [mixture.parameters_of(part) for mixture, part in zip(self.mixtures, rest)]
        log_class = torch.log_softmax(logits, -1)
        weights = [log_class[..., c : c + 1] + part[0] for c, part in enumerate(parts)]
        return (
            torch.cat(weights, -1),
            torch.cat([p[1] for p in parts], -1),
            torch.cat([p[2] for p in parts], -1),
        )

    def forward(self, features: Tensor) -> GaussianMixtureDistribution:
        return GaussianMixtureDistribution(*self.parameters_of(features), normalised=True)

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Joint negative log-likelihood of class and scalar; a class of -1 is unknown and is summed over."""
        logw, means, stds = self.parameters_of(features)
        y, label = target[..., :1], target[..., 1:].long()
        owner = torch.arange(logw.shape[-1], device=logw.device) // self.components
        allowed = (owner == label) | (label < 0)
        term = logw - 0.5 * ((y - means) / stds) ** 2 - stds.log() - 0.5 * math.log(2 * math.pi)
        return -torch.logsumexp(term.masked_fill(~allowed, -torch.inf), -1).mean()

    def draw(self, features: Tensor, n: int) -> Tensor:
        """Scalars and their classes (n, N, 2)."""
        logw, means, stds = self.parameters_of(features)
        k = CategoricalDistribution(logits=logw, validate_args=False).sample((n,))
        pick = [t.expand(n, *t.shape).gather(-1, k[..., None])[..., 0] for t in (means, stds)]
        y = pick[0] + pick[1] * torch.randn_like(pick[0])
        return torch.stack([y, (k // self.components).to(y)], -1)


class Ensemble(Head):
    """Members side by side: features are the members' features in a row, the density is their average.

    Examples
    --------
    >>> head = Ensemble([GaussianMixture(2), GaussianMixture(2)])
    >>> head(torch.zeros(3, head.n_features)).means.shape
    torch.Size([3, 4])
    """

    def __init__(self, members: list[Head]) -> None:
        super().__init__(members=[m.config for m in members])
        self.members: Any = nn.ModuleList(members)
        self.n_features = sum(m.n_features for m in members)

    def split(self, features: Tensor) -> list[Tensor]:
        """Each member's features."""
        return list(features.split([m.n_features for m in self.members], -1))

    def forward(self, features: Tensor) -> Distribution:
        return average([m(f) for m, f in zip(self.members, self.split(features))])

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean of the members' losses: each is fitted alone, the average is taken when asked."""
        losses = [m.loss(f, target) for m, f in zip(self.members, self.split(features))]
        return torch.stack(losses).mean()

    def draw(self, features: Tensor, n: int) -> Tensor:
        """Each member gives every len(members)-th target, so that all are heard in every step."""
        draws = [m.draw(f, -(-n // len(self.members))) for m, f in zip(self.members, self.split(features))]
        if isinstance(self.members[0], Categorical):
            return torch.stack(draws).mean(0)
        return torch.cat(draws)

    def fit_target(self, target: Tensor) -> Head:
        for member in self.members:
            member.fit_target(target)
        return self


class GivenMixture(Head):
    """No network: the features are the weights, means and widths of K Gaussians, as another code gave them.

    Examples
    --------
    >>> float(GivenMixture(1)(torch.tensor([[1.0, 0.5, 0.1]])).mean)
    0.5
    """

    def __init__(self, components: int) -> None:
        super().__init__(components=components)
        self.n_features = 3 * components

    def parameters_of(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and widths (..., K); a zero weight keeps its component silent."""
        weights, means, stds = features.chunk(3, -1)
        weights = (weights / weights.sum(-1, keepdim=True)).clamp_min(1e-37)  # all of them zero: NaN
        return weights.log(), means, stds.clamp_min(1e-9)

    def forward(self, features: Tensor) -> GaussianMixtureDistribution:
        return GaussianMixtureDistribution(*self.parameters_of(features), normalised=True)


class GivenTable(Head):
    """No network: the features are p(y) on a grid, as another code gave it.

    Examples
    --------
    >>> head = GivenTable([0.0, 1.0, 2.0])
    >>> float(head(torch.tensor([[1.0, 1.0, 1.0]])).mean)
    1.0
    """

    def __init__(self, grid: Sequence[float]) -> None:
        values = [float(g) for g in grid]
        if len(values) < 2 or not all(a < b < math.inf for a, b in pairwise(values)):
            raise ModelError(
                f"the grid of a density must increase and have two points or more; it has {len(values)}"
            )
        super().__init__(grid=values)
        self.grid: Tensor
        self.register_buffer("grid", torch.tensor(values, dtype=torch.float64))
        self.n_features = len(values)

    def forward(self, features: Tensor) -> Tabulated:
        return Tabulated(self.grid.to(features), features)


def _members(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    members = arguments.get("members")
    plain = isinstance(members, list) and all(isinstance(m, dict) and m.get("head") != "Ensemble" for m in members)
    if not plain or not 1 <= len(members or []) <= _LARGEST:
        raise ModelError("an ensemble is described by the list of its members' heads")
    return members or []


def build_head(config: dict[str, Any]) -> Head:
    """A head from its ``config``; only the names below are known, so that no file can name other code.

    Raises
    ------
    ModelError
        If the name or an argument is not known, or the head would be absurdly large.

    Examples
    --------
    >>> build_head(GaussianMixture(4).config).n_features
    12
    """
    from deepfield.core.autoregressive import AutoregressiveMixture
    from deepfield.core.flow import Flow
    from deepfield.core.matching import FlowMatching
    from deepfield.core.votes import Votes
    from deepfield.core.warp import Warped

    known: dict[str, Any] = {
        c.__name__: c
        for c in (
            GaussianMixture, Categorical, Bernoulli, GaussianVector, ClassMixture, Flow, Votes, GivenMixture,
            GivenTable, AutoregressiveMixture, FlowMatching,
        )
    }  # fmt: skip
    if not isinstance(config, dict):
        raise ModelError(f"a head is described by an object with its name and arguments, not by {config!r:.80}")
    arguments = dict(config)
    name = arguments.pop("head", None)
    if name == "Ensemble":
        return Ensemble([build_head(member) for member in _members(arguments)])
    if name == "Warped" and isinstance(inner := arguments.get("inner"), dict) and inner.get("head") != "Warped":
        return Warped(build_head(inner), arguments.get("knots", 2))
    if not isinstance(name, str) or name not in known:
        names = ", ".join([*known, "Ensemble", "Warped"])
        raise ModelError(f"unknown head {name!r:.80}; this version knows {names}")
    for key, value in arguments.items():
        if isinstance(value, int | float) and not 0 <= value <= _LARGEST:
            raise ModelError(f"head '{name}' with {key}={value} is absurd; the most is {_LARGEST}")
    try:
        return known[name](**arguments)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise ModelError(f"head '{name}' cannot be built from {arguments}: {error}") from None
