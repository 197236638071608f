"""The linear part of a conditional density in closed form, so that a net learns only what it leaves.

y = b + A x + L z: A by ridge regression, L the Cholesky root of the residuals' covariance, z with a density that a
head learns. Mean and covariance of a linear Gaussian model are there before any training, and narrow posteriors
come at order one. The map from y to z does not bend, so its Jacobian is one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from deepfield.core.heads import Head

FARTHEST = 6.0
"""Inputs are linear up to this many deviations: no prediction runs away with an odd observation."""
_LEAST = 3e-3  # spread of the residuals, in that of the target


class WithInput(nn.Module):
    """What a net gets, then what it makes of it: (N, K) to (N, K + features)."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net: Any = net

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.clamp(-FARTHEST, FARTHEST), self.net(x)], -1)


class RegressedDistribution(Distribution):
    """The density of y = b + A x + L z for features (..., K + inner), the first K of them x."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, head: Regressed, features: Tensor) -> None:
        self.head = head
        self.centre = head.shift + features[..., : head.given] @ head.slope
        self.inner = head.inner(features[..., head.given :])
        super().__init__(features.shape[:-1], head.shift.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.centre) @ self.head.whiten.T
        return self.inner.log_prob(z) + self.head.whiten.diagonal().log().sum()

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        z = self.inner.sample(torch.Size(sample_shape))
        rows = torch.linalg.solve_triangular(self.head.whiten, z.reshape(-1, z.shape[-1]).T, upper=False).T
        return self.centre + rows.reshape(z.shape)


class Regressed(Head):
    """A head over the whitened residuals of a linear regression on the first ``given`` features.

    Parameters
    ----------
    inner : Head
        Over ``dim`` numbers.
    given : int
        0 leaves a mean and a covariance.

    Examples
    --------
    >>> from deepfield.core.autoregressive import AutoregressiveMixture
    >>> head = Regressed(AutoregressiveMixture(2, context=4, hidden=8), 2, given=3)
    >>> head(torch.zeros(5, head.n_features)).log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    shift: Tensor
    slope: Tensor
    whiten: Tensor

    def __init__(self, inner: Head, dim: int, *, given: int) -> None:
        super().__init__(inner=inner.config, dim=dim, given=given)
        self.inner, self.given, self.n_features = inner, given, given + inner.n_features
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("slope", torch.zeros(given, dim))
        self.register_buffer("whiten", torch.eye(dim))

    def forward(self, features: Tensor) -> RegressedDistribution:
        return RegressedDistribution(self, features)

    @torch.no_grad()
    def regress(self, x: Tensor, y: Tensor) -> Regressed:
        """Fit the linear part to inputs (N, K) and targets (N, dim), K >= given.

        The residuals are those of each row left out, so that few rows do not look better than they are.
        """
        x, y = x.flatten(1)[:, : self.given].double().clamp(-FARTHEST, FARTHEST), y.double()
        rows, middle, spread = len(y), y.mean(0), y.std(0).clamp_min(1e-12)
        centred = x - x.mean(0)
        # A ridge that weighs as one row for each column: nothing to many rows, much to few.
        normal = centred.T @ centred + self.given * torch.eye(self.given, dtype=x.dtype)
        projector = torch.linalg.solve(normal, centred.T)  # (K, N)
        slope = projector @ (y - middle)
        leverage = (1 / rows + (centred * projector.T).sum(1)).clamp_max(0.99)
        residual = (y - middle - centred @ slope) / (1 - leverage)[:, None]
        covariance = residual.T @ residual / rows
        own = covariance.diagonal()
        shrink = len(own) / (len(own) + rows)
        covariance = covariance * (1 - shrink) + torch.diag(shrink * own + (_LEAST * spread) ** 2)
        root = torch.linalg.cholesky(covariance)
        self.slope.copy_(slope)
        self.shift.copy_(middle - x.mean(0) @ slope)
        self.whiten.copy_(torch.linalg.solve_triangular(root, torch.eye(len(own), dtype=x.dtype), upper=False))
        return self
