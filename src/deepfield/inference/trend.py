"""What least squares knows, no net has to learn: a polynomial of the input that the density is centred on.

Where the data pin the parameters down to a hundredth of their prior, a net would spend its training on the second
digit of a smooth function. A quadratic polynomial gives that digit at once, and the net is left with a residual of
order one. It is a shift of the target, so no density changes; its order (0, 1 or 2) is chosen on held-out rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from deepfield.core.heads import Head

_MOST_TERMS = 300
_WORTH = 0.9
"""An order is taken if it leaves less than this share of the residual variance that a lower one leaves."""


class Trend(nn.Module):
    """A polynomial (N, n_out) of inputs (N, n_in), zero until it is fitted.

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 200)[:, None]
    >>> trend = Trend(1, 1).fit(x, 1 + 3 * x**2)
    >>> trend(torch.tensor([[0.5]])).round(decimals=3).tolist()
    [[1.75]]
    """

    shift: Tensor
    scale: Tensor
    weights: Tensor

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.squares = (n_in + 1) * (n_in + 2) // 2 <= _MOST_TERMS
        count = (n_in + 1) * (n_in + 2) // 2 if self.squares else n_in + 1
        self.register_buffer("shift", torch.zeros(n_in))
        self.register_buffer("scale", torch.ones(n_in))
        self.register_buffer("weights", torch.zeros(count, n_out))

    def _terms(self, x: Tensor) -> Tensor:
        # Far from what was fitted a polynomial runs away: it stays as it is at the border.
        z = ((x - self.shift) / self.scale).clamp(-4, 4)
        terms = [torch.ones_like(z[:, :1]), z]
        if self.squares:
            row, column = torch.triu_indices(z.shape[1], z.shape[1])
            terms.append(z[:, row] * z[:, column])
        return torch.cat(terms, -1)

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> Trend:
        """Least squares, of the order that held-out rows ask for."""
        self.shift.copy_(x.mean(0))
        self.scale.copy_(x.std(0).clamp_min(1e-9))
        terms, target = self._terms(x).double().numpy(), y.double().numpy()
        count = {0: 1, 1: 1 + x.shape[1], 2: terms.shape[1]}
        held = np.arange(len(x)) % 5 == 0
        chosen, left = 0, np.inf
        for order in (0, 1, 2):
            if count[order] * 10 > len(x):
                break
            found = self._solve(terms[~held, : count[order]], target[~held])
            rest = (target - terms[:, : count[order]] @ found)[held]
            # Mean log of the variances: the gain in likelihood of Gaussian residuals.
            now = float(np.exp(np.log(rest.var(0) + 1e-300).mean()))
            if now < _WORTH * left:
                chosen, left = order, now
        self.weights.zero_()
        if chosen:
            solved = self._solve(terms[:, : count[chosen]], target)
            self.weights[: count[chosen]] = torch.from_numpy(solved).to(self.weights)
        return self

    @staticmethod
    def _solve(terms: np.ndarray, target: np.ndarray) -> np.ndarray:
        gram = terms.T @ terms + 1e-6 * len(terms) * np.eye(terms.shape[1])
        return np.linalg.solve(gram, terms.T @ target)

    def forward(self, x: Tensor) -> Tensor:
        return self._terms(x) @ self.weights


class WithTrend(nn.Module):
    """The trend of x, then the features of a net that sees both."""

    def __init__(self, trend: Trend, net: nn.Module) -> None:
        super().__init__()
        self.trend, self.net = trend, net

    def both(self, x: Tensor) -> Tensor:
        """What the net sees."""
        return torch.cat([x, self.trend(x)], -1)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.both(x)
        return torch.cat([seen[:, x.shape[1] :], self.net(seen)], -1)


class Centred(Head):
    """Another head's density, moved by the first ``dim`` features.

    Examples
    --------
    >>> from deepfield.core.autoregressive import AutoregressiveMixture
    >>> head = Centred(AutoregressiveMixture(2, context=4, hidden=8), 2)
    >>> head.n_features, head(torch.zeros(3, 6)).log_prob(torch.zeros(5, 3, 2)).shape
    (6, torch.Size([5, 3]))
    """

    def __init__(self, inner: Head, dim: int) -> None:
        super().__init__(inner=inner.config, dim=dim)
        self.inner, self.dim, self.n_features = inner, dim, inner.n_features + dim

    def forward(self, features: Tensor) -> Distribution:
        return CentredDistribution(self.inner(features[..., self.dim :]), features[..., : self.dim])

    def fit_target(self, target: Tensor) -> Head:
        """To be given what is left of the target without its trend."""
        self.inner.fit_target(target)
        return self


class CentredDistribution(Distribution):
    """A density moved by ``centre`` (..., dim)."""

    arg_constraints = {}  # noqa: RUF012

    def __init__(self, inner: Any, centre: Tensor) -> None:
        self.inner, self.centre = inner, centre if inner.event_shape else centre[..., 0]
        super().__init__(inner.batch_shape, inner.event_shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.inner.log_prob(value - self.centre)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        return self.centre + self.inner.sample(torch.Size(sample_shape))

    @property
    def mean(self) -> Tensor:
        return self.centre + self.inner.mean

    @property
    def variance(self) -> Tensor:
        return self.inner.variance
