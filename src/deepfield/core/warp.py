"""Structure in the target: a head whose scaling is a monotone map instead of a shift and a scale.

Where the targets of one sample crowd at narrow values, every object's density has the same narrow peaks:
p(y | x) is proportional to L(x | y) n(y), and n(y) is finer than the likelihood. The map u = G(y) with
G'(y) = n(y) / (n smoothed) irons them out, the inner head learns a smooth density of u, and
p(y | x) = p_u(G(y) | x) G'(y) has them back, exactly normalised.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

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
_BLOCK = 20_000_000  # numbers in a temporary array


def find_structure(target: ArrayLike, *, least: float = 0.05, seed: int = 0) -> tuple[Array, Array] | None:
    """The map G as knots y and values u, (4097,) each; None where the targets have no structure worth a map.

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
    >>> y, u = find_structure(rng.integers(0, 20, 3000) + rng.normal(0, 0.01, 3000))
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
    width = _SMOOTH * y.std() / step
    choices = [(h, floor) for h in _WIDTHS for floor in _FLOORS]
    gain = np.empty((len(choices), len(y)))
    fold = rng.integers(0, 5, len(y))
    for k in range(5):
        gain[:, fold == k] = [np.log(r)[cell[fold == k]] for r in _ratios(cell[fold != k], width, choices)]
    best = int(gain.mean(1).argmax())
    if gain[best].mean() < max(least, 4 * gain[best].std() / len(y) ** 0.5):
        return None
    (ratio,) = _ratios(cell, width, [choices[best]])
    rise = np.concatenate([[0.0], np.cumsum(ratio)])
    return knots, knots[0] + rise * ((knots[-1] - knots[0]) / rise[-1])


def _unrounded(y: Array, rng: np.random.Generator) -> Array:
    """Each value moved at random within the interval that it stands for, if it has at most five decimals."""
    step = np.zeros(len(y))
    for decimals in range(5, -1, -1):
        step[np.abs(y - y.round(decimals)) < 1e-7 * (1 + np.abs(y))] = 10.0**-decimals
    return y + step * rng.uniform(-0.5, 0.5, len(y))


def _ratios(cell: NDArray[np.intp], width: float, choices: Sequence[tuple[int, float]]) -> list[Array]:
    """Fine over smooth density in every cell, for each choice of kernel and floor."""
    counts = np.bincount(cell, minlength=_CELLS) / len(cell)
    smooth = gaussian_filter1d(counts, width, mode="reflect") + 1e-9
    return [(1 - floor) * gaussian_filter1d(counts, h, mode="reflect") / smooth + floor for h, floor in choices]


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

    @functools.cached_property
    def _cells(self) -> Tensor:
        """Four numbers (4, ...) of each object from its mean densities p in the cells between knots.

        The densest cell's middle, and what the map adds to E[y], E[y^2] and the integral of the squared density.
        """
        width, rise = self.knots.diff(), self.values.diff()
        y, u = (0.5 * (ends[1:] + ends[:-1]) for ends in (self.knots, self.values))
        sums = torch.stack([width * (y - u), width * (y**2 - u**2)])

        def of(base: Distribution) -> Tensor:
            ends = self.values.reshape(-1, *[1] * len(base.batch_shape))
            p = base.cdf(ends).diff(dim=0).flatten(1) / width[:, None]
            return torch.cat([y[p.argmax(0)][None], sums @ p, ((width - width**2 / rise) @ p**2)[None]])

        if not isinstance(self.base, GaussianMixture):
            return of(self.base).reshape(4, *self.batch_shape)
        flat = [t.reshape(-1, t.shape[-1]) for t in (self.base.log_weights, self.base.means, self.base.stds)]
        size = max(1, _BLOCK // (len(y) * flat[0].shape[-1]))  # objects at a time
        found = [of(GaussianMixture(*part, normalised=True)) for part in zip(*(t.split(size) for t in flat))]
        return torch.cat(found, 1).reshape(4, *self.batch_shape)

    @property
    def mean(self) -> Tensor:
        return self.base.mean + self._cells[1]

    @property
    def variance(self) -> Tensor:
        return self.base.variance + self.base.mean**2 + self._cells[2] - self.mean**2

    @property
    def mode(self) -> Tensor:
        """The middle of the cell with the highest density, or the base's own mode where that is higher still."""
        both = torch.stack([self._cells[0], self._back(self.base.mode)])
        higher = both.gather(0, self.log_prob(both).argmax(0, keepdim=True))[0]
        return torch.where(torch.isnan(self.base.mean), torch.nan, higher)

    def squared_norm(self) -> Tensor:
        """Integral of the squared density."""
        if hasattr(self.base, "squared_norm"):
            return self.base.squared_norm() + self._cells[3]
        levels = (torch.arange(256).to(self.knots) + 0.5) / 256
        nodes = self.icdf(levels.reshape(-1, *[1] * len(self.batch_shape)))
        return self.log_prob(nodes).exp().mean(0)


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
