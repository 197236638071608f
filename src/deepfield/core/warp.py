"""Structure in the target: a head whose scaling is a monotone map instead of a shift and a scale.

Where the targets of one sample crowd at narrow values, every object's density has the same narrow peaks:
p(y | x) is proportional to L(x | y) n(y), and n(y) is finer than the likelihood. The map u = G(y) with
G'(y) = n(y) / (n smoothed) irons them out, the inner head learns a smooth density of u, and
p(y | x) = p_u(G(y) | x) G'(y) has them back, exactly normalised.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.distributions import Distribution, constraints

from deepfield.core.distributions import GaussianMixture
from deepfield.core.errors import ModelError
from deepfield.core.heads import Head

Array = NDArray[np.float64]
_CELLS = 4096
_WIDTHS = (1, 2, 4, 8, 16, 32)  # of the fine kernel, in cells
_FLOORS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7)  # share of the smooth density in the fine one
_SMOOTH = 0.15  # width of the smooth kernel, in standard deviations of the target
_SHARES = 64  # of each component's probability, for moments and mode
_BLOCK = 20_000_000  # numbers in a temporary array


class Structure(NamedTuple):
    """A map u = G(y) as its points, (K,) each, and what it gains in log-likelihood, in nats per object."""

    knots: Array
    values: Array
    gain: float


def find_structure(target: ArrayLike, *, least: float = 0.05, seed: int = 0) -> Structure | None:
    """The map G that irons the targets out, with 4097 knots; None where they have no structure worth a map.

    The density n(y) is a kernel estimate mixed with a smooth one; kernel and mixture are those under which
    held-out targets (five folds) are likeliest, and "worth" means that they gain ``least`` nats per object and
    four times their error. Values that were rounded to some decimals are spread over their rounding interval
    first: their crowding is the catalogue's, not nature's.

    Parameters
    ----------
    target : (N,) array
        Training targets.
    least : float
        Smallest gain in log-likelihood over the smooth density, in nats per object.
    seed : int
        Of the folds.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> find_structure(rng.normal(size=3000)) is None
    True
    >>> y, u, gain = find_structure(rng.integers(0, 20, 3000) + rng.normal(0, 0.01, 3000))
    >>> bool((np.diff(u) > 0).all()), bool(u[0] == y[0] and u[-1] == y[-1])
    (True, True)
    """
    rng = np.random.default_rng((seed, 4096))  # no stream that a simulation with this seed may have used
    y = _unrounded(np.asarray(target, dtype=np.float64), rng)
    low, high = y.min(), y.max()
    knots = np.linspace(low - 0.02 * (high - low), high + 0.02 * (high - low), _CELLS + 1)
    step = knots[1] - knots[0]
    if not step > 0:
        return None
    cell = np.clip(((y - knots[0]) / step).astype(int), 0, _CELLS - 1)
    # A few far values must not make the smooth kernel so wide that the sample itself is structure to it.
    quarter = 0.5 * np.diff(np.quantile(y, [0.16, 0.84]))[0]
    width = _SMOOTH * min(y.std(), quarter) / step
    choices = [(h, floor) for h in _WIDTHS if h < 0.5 * width for floor in _FLOORS]
    if not choices:
        return None
    fold, sums = rng.integers(0, 5, len(y)), np.zeros((len(choices), 2))
    for k in range(5):
        held = np.bincount(cell[fold == k], minlength=_CELLS)
        logs = [np.log(ratio) for ratio in _ratios(cell[fold != k], width, choices)]
        sums += [(held @ log, held @ log**2) for log in logs]
    mean, square = sums.T / len(y)
    best = int(mean.argmax())
    if mean[best] < max(least, 4 * np.sqrt((square[best] - mean[best] ** 2) / len(y))):
        return None
    (ratio,) = _ratios(cell, width, [choices[best]])
    rise = np.concatenate([[0.0], np.cumsum(ratio)])
    return Structure(knots, knots[0] + rise * ((knots[-1] - knots[0]) / rise[-1]), float(mean[best]))


def _unrounded(y: Array, rng: np.random.Generator) -> Array:
    """Each value moved at random within the interval that it stands for, if it has five decimals or less.

    One in ten of the values with d decimals has d - 1 by chance: only what exceeds that was rounded to d - 1.
    """
    step, finer = np.zeros(len(y)), 1.0
    for decimals in range(5, -1, -1):
        fits = np.abs(y - y.round(decimals)) < 1e-7 * (1 + np.abs(y))
        if fits.mean() > 0.3 * finer and fits.mean() > 0.05:
            step[fits] = 10.0**-decimals
        finer = fits.mean()
    return y + step * rng.uniform(-0.5, 0.5, len(y))


def _ratios(cell: NDArray[np.intp], width: float, choices: Sequence[tuple[int, float]]) -> list[Array]:
    """Fine over smooth density in every cell, for each choice of kernel and floor."""
    counts = np.bincount(cell, minlength=_CELLS) / len(cell)
    smooth = gaussian_filter1d(counts, width, mode="reflect") + 1e-9
    fine = {h: gaussian_filter1d(counts, h, mode="reflect") / smooth for h in {h for h, _ in choices}}
    return [(1 - floor) * fine[h] + floor for h, floor in choices]


class WarpedDistribution(Distribution):
    """The density of y where G(y) has the density ``base``; G is linear between knots, and the identity beyond.

    Parameters
    ----------
    base : Distribution
        Scalar, of u = G(y).
    knots, values : Tensor (K,)
        Increasing y and u; evenly spaced y, the ends equal.
    """

    arg_constraints = {}  # noqa: RUF012  (torch's own protocol)
    support = constraints.real
    has_rsample = False

    def __init__(self, base: Distribution, knots: Tensor, values: Tensor) -> None:
        self.base: Any = base
        self.knots, self.values = knots, values
        super().__init__(base.batch_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        u, slope = interpolate(value.to(self.knots), self.knots, self.values)
        return self.base.log_prob(u) + slope.log()

    def cdf(self, value: Tensor) -> Tensor:
        return self.base.cdf(interpolate(value.to(self.knots), self.knots, self.values)[0])

    def _back(self, u: Tensor) -> Tensor:
        return interpolate(u, self.values, self.knots)[0]

    def icdf(self, value: Tensor) -> Tensor:
        return self._back(self.base.icdf(value))

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self._back(self.base.sample(torch.Size(sample_shape)))

    def _blocks(self, width: int) -> list[WarpedDistribution]:
        """The objects in parts whose temporaries of ``width`` numbers for each component stay small."""
        if not isinstance(self.base, GaussianMixture):
            return [self]
        flat = [t.reshape(-1, t.shape[-1]) for t in (self.base.log_weights, self.base.means, self.base.stds)]
        size = max(1, _BLOCK // (width * flat[0].shape[-1]))
        parts = zip(*(t.split(size) for t in flat))
        return [
            WarpedDistribution(GaussianMixture(*part, normalised=True), self.knots, self.values) for part in parts
        ]

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Places u (M, n) and weights that stand for the base: equal shares of each component's probability."""
        if not isinstance(self.base, GaussianMixture):
            levels = (torch.arange(256).to(self.knots) + 0.5) / 256
            u = self.base.icdf(levels.reshape(-1, *[1] * len(self.batch_shape))).flatten(1)
            return u, torch.full_like(u, 1 / 256)
        share = torch.special.ndtri((torch.arange(_SHARES).to(self.knots) + 0.5) / _SHARES)
        u = self.base.means + self.base.stds * share[:, None, None]
        return u.movedim(2, 1).flatten(0, 1), (self.base.weights.T / _SHARES).repeat(_SHARES, 1)

    def _summary(self) -> Tensor:
        """Mean, variance and mode (3, n)."""
        u, weight = self._nodes()
        cell = (torch.searchsorted(self.values, u, right=True) - 1).clamp(0, len(self.knots) - 2)
        slope = (self.knots.diff() / self.values.diff())[cell]
        inside = (u >= self.values[0]) & (u <= self.values[-1])
        y = torch.where(inside, self.knots[cell] + slope * (u - self.values[cell]), u)
        mean = (weight * y).sum(0)
        variance = (weight * (y - mean) ** 2).sum(0)
        return torch.stack([mean, variance, self._highest(cell)])

    def _highest(self, cell: Tensor) -> Tensor:
        """Where the density is highest (n): in cells (M, n), in those about the best, or at the base's mode."""
        peak = self.base.mode.reshape(-1)
        place = self._back(peak)
        place, height = self._higher(cell, place, self.log_prob(place.reshape(self.batch_shape)).reshape(-1))
        about = (
            torch.searchsorted(self.knots, place, right=True) + torch.arange(-9, 8, device=cell.device)[:, None]
        )
        place, _ = self._higher(about.clamp(0, len(self.knots) - 2), place, height)
        return torch.where(torch.isnan(peak), torch.nan, place)

    def _higher(self, cell: Tensor, place: Tensor, height: Tensor) -> tuple[Tensor, Tensor]:
        """The best of ``place`` (n) and the ends of cells (M, n), in which the slope is constant; its height."""
        width, rise = self.knots.diff(), self.values.diff()
        for inside in (0.001, 0.999):  # an end itself belongs to two cells
            u = self.values[cell] + inside * rise[cell]
            log = self.base.log_prob(u.reshape(-1, *self.batch_shape)).flatten(1) + (rise / width).log()[cell]
            top, at = log.max(0)
            there = (self.knots[cell] + inside * width[cell]).gather(0, at[None])[0]
            place, height = torch.where(top > height, there, place), torch.maximum(top, height)
        return place, height

    @functools.cached_property
    def _found(self) -> Tensor:
        found = torch.cat([part._summary() for part in self._blocks(4 * _SHARES)], 1)
        return found.reshape(3, *self.batch_shape)

    @property
    def mean(self) -> Tensor:
        return self._found[0]

    @property
    def variance(self) -> Tensor:
        return self._found[1]

    @property
    def mode(self) -> Tensor:
        """The highest density at the ends of the cells that hold probability, and at the base's own mode."""
        return self._found[2]

    def squared_norm(self) -> Tensor:
        """Integral of the squared density: that of u, and what the map adds to it, cell by cell."""
        if not hasattr(self.base, "squared_norm"):
            return self.log_prob(self._back(self._nodes()[0].reshape(-1, *self.batch_shape))).exp().mean(0)
        width, rise = self.knots.diff(), self.values.diff()
        added = [
            (width - width**2 / rise) @ (part.base.cdf(self.values[:, None]).diff(dim=0) / width[:, None]) ** 2
            for part in self._blocks(len(self.knots))
        ]
        return self.base.squared_norm() + torch.cat(added).reshape(self.batch_shape)


def interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> tuple[Tensor, Tensor]:
    """The piecewise linear map through (xs, ys), (K,) each and increasing, and its slope; the identity beyond.

    Examples
    --------
    >>> y, slope = interpolate(torch.tensor([0.5, 7.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    >>> y.tolist(), slope.tolist()
    ([0.5, 7.0], [1.0, 1.0])
    """
    cell = (torch.searchsorted(xs, x.contiguous(), right=True) - 1).clamp(0, len(xs) - 2)
    slope = ys.diff() / xs.diff()
    beyond = (x < xs[0]) | (x > xs[-1])
    y = ys[cell] + (x - xs[cell]) * slope[cell]
    return torch.where(beyond, x, y), torch.where(beyond, 1.0, slope[cell])


class Warped(Head):
    """A head over u = G(y), asked and answered in y.

    Parameters
    ----------
    inner : Head
        Over a scalar.
    knots : int
        Points of the map, 2 (the identity, until :meth:`set_map`) or those that :func:`find_structure` gives.

    Examples
    --------
    >>> from deepfield.core.heads import GaussianMixture as Mixture
    >>> head = Warped(Mixture(3), 3).set_map([0.0, 1.0, 2.0], [0.0, 1.8, 2.0])
    >>> d = head(torch.zeros(1, 9))
    >>> bool(d.log_prob(torch.tensor([0.5])) > d.log_prob(torch.tensor([1.5])))
    True
    """

    knots: Tensor
    values: Tensor

    def __init__(self, inner: Head, knots: int = 2) -> None:
        if not isinstance(knots, int) or not 2 <= knots <= 2 * _CELLS:
            raise ModelError(f"a map has 2 to {2 * _CELLS} knots, not {knots!r:.40}")
        super().__init__(inner=inner.config, knots=knots)
        self.inner: Any = inner
        self.n_features = inner.n_features
        for name in ("knots", "values"):
            self.register_buffer(name, torch.linspace(0, 1, knots, dtype=torch.float64))

    @torch.no_grad()
    def set_map(self, knots: ArrayLike, values: ArrayLike) -> Warped:
        """Take the map u = G(y) from its points.

        Raises
        ------
        ModelError
            If they do not increase, or are not as many as the head was made for.
        """
        pair = [torch.as_tensor(np.asarray(v, dtype=np.float64)) for v in (knots, values)]
        if any(v.shape != self.knots.shape or not bool((v.diff() > 0).all()) for v in pair):
            raise ModelError(f"a map takes {len(self.knots)} increasing knots and as many increasing values")
        self.knots.copy_(pair[0]), self.values.copy_(pair[1])
        return self

    @property
    def members(self) -> list[Head]:
        """The heads of an ensemble inside, each with this map."""
        return [Warped(m, len(self.knots)).set_map(self.knots, self.values) for m in self.inner.members]

    def warp(self, target: Tensor) -> Tensor:
        """U = G(y), in the precision of y."""
        return interpolate(target.double(), self.knots.double(), self.values.double())[0].to(target)

    def fit_target(self, target: Tensor) -> Head:
        self.inner.fit_target(self.warp(target))
        return self

    def forward(self, features: Tensor) -> Distribution:
        base = self.inner(features)
        return WarpedDistribution(base, self.knots.to(features), self.values.to(features))

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        u, slope = interpolate(target, self.knots.to(target), self.values.to(target))
        return self.inner.loss(features, u) - slope.log().mean()

    def draw(self, features: Tensor, n: int) -> Tensor:
        u = self.inner.draw(features, n)
        return interpolate(u, self.values.to(u), self.knots.to(u))[0]
