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
        return torch.cat([x, self.net(x)], -1)


class Linear(nn.Module):
    """b, A and the inverse of L, found once.

    Parameters
    ----------
    dim : int
        Of y.
    given : int
        Of x, the first so many numbers of what it is asked with; 0 leaves a mean and a covariance.

    Examples
    --------
    >>> x = torch.randn(1000, 1)
    >>> part = Linear(1, given=1).fit(x, 2 * x + 0.1 * torch.randn(1000, 1))
    >>> bool(abs(part.centre(torch.ones(1, 1)) - 2) < 0.05), bool(abs(part.whiten - 10) < 1)
    (True, True)
    """

    shift: Tensor
    slope: Tensor
    whiten: Tensor

    def __init__(self, dim: int, *, given: int) -> None:
        super().__init__()
        self.given = given
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("slope", torch.zeros(given, dim))
        self.register_buffer("whiten", torch.eye(dim))

    def centre(self, x: Tensor) -> Tensor:
        """B + A x of inputs (..., K), K >= given: (..., dim)."""
        return self.shift + _near(x[..., : self.given]) @ self.slope

    def log_volume(self) -> Tensor:
        """-log det L."""
        return self.whiten.diagonal().log().sum()

    @torch.no_grad()
    def fit(self, x: Tensor, y: Tensor) -> Linear:
        """Find them for inputs (N, K) and targets (N, dim).

        The residuals are those of each row left out, so that few rows do not look better than they are.
        """
        x, y = _near(x.flatten(1)[:, : self.given]).double(), y.double()
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


def _near(x: Tensor) -> Tensor:
    return x.clamp(-FARTHEST, FARTHEST)


class RegressedDistribution(Distribution):
    """The density of y = b + A x + L z for features (..., K + inner), the first K of them x."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, head: Regressed, features: Tensor) -> None:
        self.linear = head.linear
        self.centre = head.linear.centre(features)
        self.inner = head.inner(features[..., head.linear.given :])
        super().__init__(features.shape[:-1], head.linear.shift.shape, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        z = (value - self.centre) @ self.linear.whiten.T
        return self.inner.log_prob(z) + self.linear.log_volume()

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        z = self.inner.sample(torch.Size(sample_shape))
        rows = torch.linalg.solve_triangular(self.linear.whiten, z.reshape(-1, z.shape[-1]).T, upper=False).T
        return self.centre + rows.reshape(z.shape)


class Regressed(Head):
    """A head over the whitened residuals of a linear regression on the first ``given`` features.

    Parameters
    ----------
    inner : Head
        Over ``dim`` numbers.
    dim, given : int
        As of :class:`Linear`.

    Examples
    --------
    >>> from deepfield.core.autoregressive import AutoregressiveMixture
    >>> head = Regressed(AutoregressiveMixture(2, context=4, hidden=8), 2, given=3)
    >>> head(torch.zeros(5, head.n_features)).log_prob(torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(self, inner: Head, dim: int, *, given: int) -> None:
        super().__init__(inner=inner.config, dim=dim, given=given)
        self.linear = Linear(dim, given=given)
        self.inner, self.n_features = inner, given + inner.n_features

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """The inner head's own loss of the residuals; of one fitted by likelihood, that of the targets."""
        z = (target - self.linear.centre(features)) @ self.linear.whiten.T
        return self.inner.loss(features[..., self.linear.given :], z) - self.linear.log_volume()

    def forward(self, features: Tensor) -> RegressedDistribution:
        return RegressedDistribution(self, features)

    def regress(self, x: Tensor, y: Tensor) -> Regressed:
        """:meth:`Linear.fit`."""
        self.linear.fit(x, y)
        return self
