"""Quantiles and modes of many Gaussian mixtures at once, by root searches over whole columns of numbers.

Every search makes a few steps for all objects, block by block so that its intermediate columns stay in a core's
own cache, and goes on with the few objects that are not solved. Whether one is solved is decided by a bound on
what its last step left over, not by the number of steps.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

BLOCK = 16_384  # searches made at once
_LOG2E = 1 / math.log(2)


class MixtureSearch:
    """Means, variances, quantiles and modes of N mixtures of K Gaussians.

    Parameters
    ----------
    weights, means, stds : Tensor (N, K)
        Weights sum to one; a row of NaN gives NaN.
    """

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        self._parameters = (weights, means, stds)

    @functools.cached_property
    def _blocks(self) -> list[_Columns]:
        return [_Columns(*parts) for parts in zip(*(t.split(BLOCK) for t in self._parameters))]

    def _of(self, objects: Tensor) -> _Columns:
        return _Columns(*(t[objects] for t in self._parameters))

    @property
    def mean(self) -> Tensor:
        """Expectations, (N,)."""
        return torch.cat([block.mean for block in self._blocks])

    @property
    def variance(self) -> Tensor:
        """Variances, (N,)."""
        return torch.cat([block.variance for block in self._blocks])

    def quantile(self, q: Tensor) -> Tensor:
        """Solve F(y) = q, M levels for each object (M N,)."""
        n = len(self._parameters[0])
        objects = torch.arange(n, device=q.device).repeat(len(q) // n)
        blocks = self._blocks if len(q) == n else [self._of(some) for some in objects.split(BLOCK)]
        first = [block.quantile(level) for block, level in zip(blocks, q.split(BLOCK))]
        solved, y = (torch.cat(parts) for parts in zip(*first))
        rest = torch.nonzero(~solved)[:, 0]
        if len(rest):
            solved[rest], y[rest] = self._of(objects[rest]).freely(q[rest], y[rest])
            rest = rest[~solved[rest]]
        if len(rest):
            state = self._of(objects[rest]).bracket(q[rest])
            more = lambda r, *s: self._of(objects[rest[r]]).safely(q[rest[r]], *s)  # noqa: E731
            y[rest] = _finish(more, solved[rest], *state)
        return y

    def mode(self) -> Tensor:
        """The highest peak (N,): ascent from the component mean at which the density is highest."""
        first = [block.mode() for block in self._blocks]
        return _finish(lambda r, y: self._of(r).ascend(y, steps=5), *(torch.cat(parts) for parts in zip(*first)))


def _finish(more: Callable[..., tuple[Tensor, ...]], solved: Tensor, *state: Tensor) -> Tensor:
    """The first of ``state``, after as many rounds of ``more`` on what is not ``solved`` as that needs."""
    for _ in range(25):
        rows = torch.nonzero(~solved)[:, 0]
        if not len(rows):
            break
        solved[rows], *found = more(rows, *(t[rows] for t in state))
        for whole, part in zip(state, found):
            whole[rows] = part
    return state[0]


def _halley(q: Tensor, cdf: Tensor, density: Tensor, curve: Tensor) -> tuple[Tensor, Tensor]:
    """Halley's step d = s / (1 - s c / 2) with s = (F - q) / f and c = f' / f, to be taken off; and F - q."""
    error = cdf - q
    step = error / density
    return step / (step * curve).mul_(-0.5).add_(1).clamp_min_(0.25), error


class _Columns:
    """n mixtures with their components first, (K, n), so that sums over them run along memory."""

    def __init__(self, weights: Tensor, means: Tensor, stds: Tensor) -> None:
        self.w, self.mu, self.sigma = (t.T.contiguous() for t in (weights, means, stds))
        # A cdf is a sum of rounded terms: asking more of float32 would only repeat steps.
        double = self.w.dtype == torch.float64
        self.tolerance = 4 * torch.finfo(self.w.dtype).eps * (1 if double else 4)

    @functools.cached_property
    def mean(self) -> Tensor:
        return (self.w * self.mu).sum(0)

    @functools.cached_property
    def variance(self) -> Tensor:
        return (self.w * (self.sigma**2 + (self.mu - self.mean) ** 2)).sum(0)

    @functools.cached_property
    def scale(self) -> Tensor:
        """With v = (y - mu) scale the bells are exp(-v^2) and their cdfs (1 + erf v) / 2."""
        return math.sqrt(0.5) / self.sigma

    @functools.cached_property
    def height(self) -> Tensor:
        return self.w * self.scale / math.sqrt(math.pi)

    @functools.cached_property
    def third(self) -> Tensor:
        """A bound on |f''| / 6: for each bell |u^2 - 1| exp(-u^2 / 2) is 1 at most, at u = 0."""
        return (self.height * self.scale * self.scale).sum(0) / 3

    def bell(self, y: Tensor, v: Tensor, out: Tensor) -> Tensor:
        """exp(-v^2) at y (n,), and v itself; exp2 is several times faster than exp, most of all where it is 0."""
        torch.sub(y, self.mu, out=v).mul_(self.scale)
        return torch.mul(v, v, out=out).mul_(-_LOG2E).exp2_()

    def cdf(self, y: Tensor, v: Tensor, e: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F, its derivative f and f' / f at y (n,); ``v`` and ``e`` are room to work in."""
        density = self.bell(y, v, e).mul_(self.height).sum(0).clamp_min_(torch.finfo(y.dtype).tiny)
        curve = e.mul_(v).mul_(self.scale).sum(0).mul_(-2).div_(density)
        return torch.erf(v, out=e).mul_(self.w).sum(0).mul_(0.5).add_(0.5), density, curve

    @functools.cached_property
    def middle(self) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`cdf` says of the mean, from where all quantiles start."""
        return self.cdf(self.mean, torch.empty_like(self.mu), torch.empty_like(self.mu))

    def left(self, error: Tensor, density: Tensor, curve: Tensor, step: Tensor) -> Tensor:
        """What a step d will leave of F - q: F - q - f d + f' d^2 / 2 and at most max |f''| |d|^3 / 6 (Taylor)."""
        moved = (curve * step).mul_(-0.5).add_(1).mul_(step).mul_(density)
        return (error - moved).abs_().addcmul_(self.third, step.abs().pow_(3))

    def quantile(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """The first steps to the level q (n,) of each object, and whether they have led there (or nothing can)."""
        solved, y = self.freely(q, self.mean - _halley(q, *self.middle)[0])
        nothing = torch.isnan(self.mean)
        endless = (q <= 0) | (q >= 1)  # these levels lie at infinity
        if bool(endless.any()):
            y = torch.where(endless & ~nothing, torch.copysign(torch.full_like(q, math.inf), q - 0.5), y)
        return solved.logical_or_(endless).logical_or_(nothing), y

    def freely(self, q: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Two of Halley's steps from y; whether they have led to the level, and where they have led."""
        v, e = torch.empty_like(self.mu), torch.empty_like(self.mu)
        for _ in range(2):
            found = self.cdf(y, v, e)
            step, error = _halley(q, *found)
            y = y - step
        return self.left(error, *found[1:], step) <= self.tolerance, y

    def bracket(self, q: Tensor) -> tuple[Tensor, ...]:
        """A place to start from, the bracket around the quantile and its length."""
        z = torch.special.ndtri(q)
        ends, slack = torch.addcmul(self.mu, self.sigma, z), 1e-3 * self.sigma.amax(0)
        low, high = ends.amin(0) - slack, ends.amax(0) + slack
        start = torch.minimum(torch.maximum(torch.addcmul(self.mean, self.variance.sqrt(), z), low), high)
        return start, low, high, high - low

    def safely(
        self, q: Tensor, y: Tensor, low: Tensor, high: Tensor, before: Tensor, *, steps: int = 3
    ) -> tuple[Tensor, ...]:
        """A few steps that cannot fail: half of the bracket where one would leave it or not halve the last one.

        Returns whether nothing is left to do, the place, the bracket and the length of the last step.
        """
        v, e = torch.empty_like(self.mu), torch.empty_like(self.mu)
        for _ in range(steps):
            found = self.cdf(y, v, e)
            step, error = _halley(q, *found)
            low, high = torch.where(error < 0, y, low), torch.where(error > 0, y, high)
            halley = y - step
            inside = (halley > low) & (halley < high) & (step.abs() < 0.5 * before)
            exact = error.abs() <= self.tolerance  # a step from here may leave the bracket by a rounding error
            following = torch.where(exact, y, torch.where(inside, halley, 0.5 * (low + high)))
            y, before = following, (following - y).abs()
        solved = inside & (self.left(error, *found[1:], step) <= self.tolerance)
        return exact | solved | (high - low <= self.tolerance * (1 + y.abs())), y, low, high, before

    def mode(self) -> tuple[Tensor, Tensor]:
        """The first steps of the ascent; as :meth:`ascend` returns."""
        y, best = self.mu[0], torch.full_like(self.mean, -math.inf)
        v, e = torch.empty_like(self.mu), torch.empty_like(self.mu)
        for mean in self.mu:
            density = self.bell(mean, v, e).mul_(self.height).sum(0)
            y = torch.where(density > best, mean, y)
            best = torch.maximum(density, best)
        solved, y = self.ascend(y, steps=3)
        return solved | torch.isnan(y), y

    def ascend(self, y: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        """A few steps uphill, and whether that is all.

        Mean-shift steps (Carreira-Perpinan 2000) never pass a peak but are slow on a ridge: where they are shorter
        than half the smallest width, Newton's or that half is taken in their place.
        """
        smallest, height = self.sigma.amin(0), self.height * self.scale
        v, e = torch.empty_like(self.mu), torch.empty_like(self.mu)
        for _ in range(steps):
            self.bell(y, v, e).mul_(height)
            weight = (e * self.scale).sum(0)
            slope = e.mul_(v).sum(0)
            curve = e.mul_(v).mul_(self.scale).sum(0).mul_(2).sub_(weight)
            newton, shift = slope / curve, -slope / weight
            uphill = torch.where(curve < 0, newton, torch.copysign(0.5 * smallest, shift))
            uphill = torch.minimum(torch.maximum(uphill, -smallest), smallest)
            y = y + torch.where(shift.abs() < uphill.abs(), uphill, shift)
        # Newton's next step would be of the order of this one's square, in units of the widths.
        return (curve < 0) & (newton.abs() <= math.sqrt(self.tolerance) * smallest), y
