"""Scalar densities as torch distributions: what a head returns and a prediction is asked.

Each offers ``log_prob``, ``cdf``, ``icdf``, ``mean``, ``variance``, ``mode`` and ``sample``; the batch shape is
the objects' shape. Quantiles of a mixture lie between the smallest and the largest quantile of its parts, which
gives every root search here its bracket.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from deepfield.core._search import BLOCK, MixtureSearch

_SQRT_2PI = math.sqrt(2 * math.pi)


def normal_pdf(u: Tensor) -> Tensor:
    """Density of the standard normal."""
    return torch.exp(-0.5 * u * u) / _SQRT_2PI


def invert_cdf(
    cdf: Callable[[Tensor], Tensor],
    pdf: Callable[[Tensor], Tensor],
    q: Tensor,
    low: Tensor,
    high: Tensor,
    *,
    steps: int = 60,
) -> Tensor:
    """Solve cdf(y) = q within [low, high] by Newton steps that fall back on bisection.

    All tensors have one shape. The bracket halves at least every second step, so that 60 steps resolve it
    to float precision whatever the density; well-behaved cases stop after five or six.
    """
    y, before = 0.5 * (low + high), high - low
    for _ in range(steps):
        error = cdf(y) - q
        low = torch.where(error < 0, y, low)
        high = torch.where(error > 0, y, high)
        newton = y - error / pdf(y).clamp_min(1e-300 if y.dtype == torch.float64 else 1e-37)
        middle = 0.5 * (low + high)
        good = (newton > low) & (newton < high) & ((newton - y).abs() < 0.5 * before)
        following = torch.where(error == 0, y, torch.where(good, newton, middle))
        before = (following - y).abs()
        y = following
        if not bool((before > 4 * torch.finfo(y.dtype).eps * (1 + y.abs())).any()):  # NaN rows never move
            break
    return y


class GaussianMixture(Distribution):
    """sum_k w_k N(y; mu_k, sigma_k) over a scalar, components along the last axis of the parameters.

    Parameters
    ----------
    log_weights : Tensor (..., K)
        Logarithms of the weights, up to a constant.
    means, stds : Tensor (..., K)
        In the unit of y.
    normalised : bool
        Whether the weights are known to sum to one.

    Examples
    --------
    >>> d = GaussianMixture(torch.zeros(1, 2), torch.tensor([[0.0, 4.0]]), torch.ones(1, 2))
    >>> float(d.mean), round(float(d.cdf(torch.tensor([2.0]))), 6)
    (2.0, 0.5)
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol)
    support = constraints.real
    has_rsample = False

    def __init__(self, log_weights: Tensor, means: Tensor, stds: Tensor, *, normalised: bool = False) -> None:
        self.log_weights = log_weights if normalised else torch.log_softmax(log_weights, -1)
        self.means, self.stds = means, stds
        super().__init__(means.shape[:-1], validate_args=False)

    @functools.cached_property
    def weights(self) -> Tensor:
        return self.log_weights.exp()

    @functools.cached_property
    def _search(self) -> MixtureSearch:
        k = self.means.shape[-1]
        return MixtureSearch(*(t.reshape(-1, k) for t in (self.weights, self.means, self.stds)))

    @property
    def mean(self) -> Tensor:
        return self._search.mean.reshape(self.batch_shape)

    @property
    def variance(self) -> Tensor:
        return self._search.variance.reshape(self.batch_shape)

    def _standard(self, y: Tensor) -> Tensor:
        return (y[..., None] - self.means) / self.stds

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density at ``value``, whose shape broadcasts with the batch shape."""
        u = self._standard(value)
        return torch.logsumexp(self.log_weights - 0.5 * u * u - self.stds.log(), -1) - math.log(_SQRT_2PI)

    def cdf(self, value: Tensor) -> Tensor:
        return (self.weights * torch.special.ndtr(self._standard(value))).sum(-1)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantiles at the levels ``value``, broadcast against the batch shape."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        levels = value.to(self.means).expand(shape)
        if not levels.numel():
            return levels.clone()
        objects = self.batch_shape.numel()
        # Few objects and many levels go together: each search has its price, whatever its length.
        block = max(1, BLOCK // objects) * objects
        return torch.cat([self._search.quantile(q) for q in levels.reshape(-1).split(block)]).reshape(shape)

    @property
    def mode(self) -> Tensor:
        """The highest peak: ascent from the component mean at which the density is highest."""
        return self._search.mode().reshape(self.batch_shape)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = (*sample_shape, *self.batch_shape)
            like: Any = {"dtype": self.means.dtype, "device": self.means.device}
            share = self.weights.cumsum(-1)
            k = (
                (share <= torch.rand(shape, **like)[..., None])
                .sum(-1, keepdim=True)
                .clamp_max(share.shape[-1] - 1)
            )
            pick = lambda t: t.expand(*shape, t.shape[-1]).gather(-1, k)[..., 0]  # noqa: E731
            y = pick(self.means) + pick(self.stds) * torch.randn(shape, **like)
            return torch.where(torch.isnan(share[..., -1]), torch.nan, y)

    def overlap(self, other: GaussianMixture) -> Tensor:
        """Integral of the product with ``other``: sum_jk w_j v_k N(mu_j; nu_k, sqrt(sigma_j^2 + tau_k^2))."""
        variance = self.stds[..., :, None] ** 2 + other.stds[..., None, :] ** 2
        offset = self.means[..., :, None] - other.means[..., None, :]
        product = torch.exp(-0.5 * offset**2 / variance) / (_SQRT_2PI * variance.sqrt())
        return (self.weights[..., :, None] * other.weights[..., None, :] * product).sum((-1, -2))

    def squared_norm(self) -> Tensor:
        """Integral of the squared density."""
        return self.overlap(self)

    def components(self, part: slice | Tensor) -> GaussianMixture:
        """The mixture of some components alone, renormalised."""
        return GaussianMixture(self.log_weights[..., part], self.means[..., part], self.stds[..., part])


class Average(Distribution):
    """The equal-weight mixture of densities of one batch shape; build it with :func:`average`."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, parts: Sequence[Distribution]) -> None:
        self.parts = list(parts)
        super().__init__(parts[0].batch_shape, parts[0].event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        return torch.stack([p.mean for p in self.parts]).mean(0)

    @property
    def variance(self) -> Tensor:
        means = torch.stack([p.mean for p in self.parts])
        return torch.stack([p.variance for p in self.parts]).mean(0) + means.var(0, correction=0)

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.logsumexp(torch.stack([p.log_prob(value) for p in self.parts]), 0) - math.log(len(self.parts))

    def cdf(self, value: Tensor) -> Tensor:
        return torch.stack([p.cdf(value) for p in self.parts]).mean(0)

    def icdf(self, value: Tensor) -> Tensor:
        quantiles = torch.stack([p.icdf(value) for p in self.parts])
        q = value.to(quantiles).expand(quantiles.shape[1:])
        slack = 1e-6 * (1 + quantiles.abs().amax(0))
        low, high = quantiles.amin(0) - slack, quantiles.amax(0) + slack
        inner = invert_cdf(self.cdf, lambda y: self.log_prob(y).exp(), q, low, high)
        # Levels 0 and 1 are the ends of the widest part, which may lie at infinity.
        return torch.where(q <= 0, quantiles.amin(0), torch.where(q >= 1, quantiles.amax(0), inner))

    @property
    def mode(self) -> Tensor:
        """The densest of the parts' own modes."""
        modes = torch.stack([p.mode for p in self.parts])
        density = torch.stack([self.log_prob(m) for m in modes])
        best = density.argmax(0, keepdim=True).reshape(1, *self.batch_shape, *[1] * len(self.event_shape))
        return modes.gather(0, best.expand(1, *modes.shape[1:]))[0]

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        draws = torch.stack([p.sample(torch.Size(sample_shape)) for p in self.parts])
        index = torch.randint(len(self.parts), (1, *sample_shape, *self.batch_shape), device=draws.device)
        index = index.reshape(*index.shape, *[1] * len(self.event_shape))
        return draws.gather(0, index.expand(1, *draws.shape[1:]))[0]


def average(parts: Sequence[Distribution]) -> Distribution:
    """The mean of densities, closed where the family is (Gaussian mixtures, classes, votes).

    Examples
    --------
    >>> one = GaussianMixture(torch.zeros(1, 1), torch.zeros(1, 1), torch.ones(1, 1))
    >>> average([one, one]).means.shape
    torch.Size([1, 2])
    """
    if len(parts) == 1:
        return parts[0]
    if all(hasattr(p, "average_with") for p in parts):
        return parts[0].average_with(parts[1:])  # type: ignore[attr-defined]
    if all(isinstance(p, GaussianMixture) for p in parts):
        stacked = [torch.cat([getattr(p, name) for p in parts], -1) for name in ("log_weights", "means", "stds")]
        return GaussianMixture(*stacked)
    for family in (torch.distributions.Categorical, torch.distributions.Bernoulli):
        if all(isinstance(p, family) for p in parts):  # a row of NaN is an object that could not be served
            return family(probs=torch.stack([_probs(p) for p in parts]).mean(0), validate_args=False)
    return Average(parts)


def _probs(part: Distribution) -> Tensor:
    assert isinstance(part, torch.distributions.Categorical | torch.distributions.Bernoulli)
    return part.probs


class Tabulated(Distribution):
    """A density given on a grid, linear between its points and normalised: any code's p(y) joins here.

    Parameters
    ----------
    grid : Tensor (G,)
        Increasing.
    pdf : Tensor (N, G)
        Not negative; rows that integrate to nothing become NaN.
    """

    arg_constraints = {}  # noqa: RUF012
    support = constraints.real
    has_rsample = False

    def __init__(self, grid: Tensor, pdf: Tensor) -> None:
        step = grid.diff()
        area = 0.5 * (pdf[..., 1:] + pdf[..., :-1]) * step
        total = area.sum(-1, keepdim=True)
        total = torch.where(total > 0, total, torch.nan)
        self.grid, self.density = grid, pdf / total
        zero = torch.zeros_like(total)
        self.cumulative = torch.cat([zero, (area / total).cumsum(-1)], -1)
        super().__init__(pdf.shape[:-1], validate_args=False)

    def _cell(self, value: Tensor) -> tuple[Tensor, Tensor]:
        y = value.to(self.grid).expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        cell = (torch.searchsorted(self.grid, y.contiguous()) - 1).clamp(0, len(self.grid) - 2)
        return y, cell

    def _at(self, table: Tensor, cell: Tensor) -> Tensor:
        wide = cell.shape[: cell.dim() - len(self.batch_shape)]
        return table.expand(*wide, *table.shape).gather(-1, cell[..., None])[..., 0]

    def log_prob(self, value: Tensor) -> Tensor:
        y, cell = self._cell(value)
        left, right = self._at(self.density, cell), self._at(self.density, cell + 1)
        t = (y - self.grid[cell]) / (self.grid[cell + 1] - self.grid[cell])
        inside = (t >= 0) & (t <= 1)
        known = ~(torch.isnan(y) | torch.isnan(left))
        return torch.where(inside | ~known, left + t * (right - left), 0.0).log()

    def cdf(self, value: Tensor) -> Tensor:
        y, cell = self._cell(value)
        left, right = self._at(self.density, cell), self._at(self.density, cell + 1)
        width = self.grid[cell + 1] - self.grid[cell]
        t = ((y - self.grid[cell]) / width).clamp(0, 1)
        return self._at(self.cumulative, cell) + width * (left * t + 0.5 * (right - left) * t**2)

    def icdf(self, value: Tensor) -> Tensor:
        q = value.to(self.grid).expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        wide = q.shape[: q.dim() - len(self.batch_shape)]
        table = self.cumulative.expand(*wide, *self.cumulative.shape).contiguous()
        cell = (torch.searchsorted(table, q[..., None].contiguous())[..., 0] - 1).clamp(0, len(self.grid) - 2)
        left, right = self._at(self.density, cell), self._at(self.density, cell + 1)
        width = self.grid[cell + 1] - self.grid[cell]
        rest = (q - self._at(self.cumulative, cell)).clamp_min(0) / width
        # rest = left t + (right - left) t^2 / 2, solved in the form that is stable when left == right
        t = 2 * rest / (left + (left**2 + 2 * (right - left) * rest).clamp_min(0).sqrt()).clamp_min(1e-30)
        return self.grid[cell] + width * t.clamp(0, 1)

    def _moment(self, power: int, offset: Tensor | float = 0.0) -> Tensor:
        # Exact for a piecewise linear density: Simpson's rule integrates a cubic without error.
        grid = self.grid - offset
        middle = 0.5 * (grid[..., 1:] + grid[..., :-1])
        ends = self.density * grid**power
        centre = 0.5 * (self.density[..., 1:] + self.density[..., :-1]) * middle**power
        return ((ends[..., 1:] + ends[..., :-1] + 4 * centre) / 6 * self.grid.diff()).sum(-1)

    @property
    def mean(self) -> Tensor:
        return self._moment(1)

    @property
    def variance(self) -> Tensor:
        return self._moment(2, self.mean[..., None])

    @property
    def mode(self) -> Tensor:
        peak = self.grid[self.density.argmax(-1)]
        return torch.where(self.density.sum(-1).isnan(), torch.nan, peak)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.icdf(
            torch.rand((*sample_shape, *self.batch_shape), dtype=self.grid.dtype, device=self.grid.device)
        )

    def squared_norm(self) -> Tensor:
        left, right = self.density[..., :-1], self.density[..., 1:]
        return ((left**2 + left * right + right**2) / 3 * self.grid.diff()).sum(-1)


class RowsDistribution(Distribution):
    """The density over vectors of ``head.dim`` numbers of a head that answers row by row.

    For features (..., n_features) the head gives ``log_density(features, y)`` (N,) and ``draw_rows(features)``
    (N, dim).
    """

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, head: Any, features: Tensor) -> None:
        self.head, self.features = head, features
        super().__init__(features.shape[:-1], torch.Size([head.dim]), validate_args=False)

    def _rows(self, shape: Sequence[int]) -> Tensor:
        wide = torch.broadcast_shapes(tuple(shape), self.batch_shape)
        return self.features.expand(*wide, self.features.shape[-1]).reshape(-1, self.features.shape[-1])

    def log_prob(self, value: Tensor) -> Tensor:
        rows = self._rows(value.shape[:-1])
        wide = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        y = value.to(rows).expand(*wide, self.head.dim).reshape(-1, self.head.dim)
        return self.head.log_density(rows, y).reshape(wide)

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        wide = (*sample_shape, *self.batch_shape)
        return self.head.draw_rows(self._rows(wide)).reshape(*wide, self.head.dim)

    @property
    def mean(self) -> Tensor:
        """From 512 draws."""
        return self.sample((512,)).mean(0)

    @property
    def variance(self) -> Tensor:
        """From 512 draws."""
        return self.sample((512,)).var(0)
