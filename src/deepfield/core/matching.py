"""Flow matching as a head: noise is carried into the target by a velocity that is learnt without solving anything.

Lipman et al. 2022 (arXiv:2210.02747); for posteriors Wildberger et al. 2023 (arXiv:2305.17161). The straight path
z_t = (1 - t) e + t z from noise e to target z, divided by the spread that it would have if z were Gaussian too,
is an arc: u = e cos(a) + z sin(a), with tan(a) = t / (1 - t). Its velocity du/da is of order one everywhere, and
a net that says zero says a standard Gaussian exactly.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfield.core.distributions import RowsDistribution
from deepfield.core.errors import ModelError
from deepfield.core.heads import _ScaledHead, refuse_absurd


class FlowMatching(_ScaledHead):
    """A density over a vector of ``dim`` numbers, trained by regression of a velocity (not by its likelihood).

    Parameters
    ----------
    dim, context : int
        Numbers of target dimensions and of features.
    hidden, blocks : int
        Width and residual blocks of the net of the velocity.
    steps : int
        Of the midpoint rule, two evaluations each, for draws and densities.
    power : int
        Angles are pi / 2 (1 - r^power), r uniform in training and even in the steps: more where detail forms.
    repeats : int
        Noises for each target in a batch.

    Examples
    --------
    >>> head = FlowMatching(2, context=4, hidden=8)
    >>> density = head(torch.zeros(3, 4))
    >>> density.log_prob(torch.zeros(5, 3, 2)).shape, density.sample((7,)).shape
    (torch.Size([5, 3]), torch.Size([7, 3, 2]))
    """

    def __init__(
        self,
        dim: int,
        *,
        context: int = 32,
        hidden: int = 64,
        blocks: int = 2,
        steps: int = 16,
        power: int = 2,
        repeats: int = 8,
    ) -> None:
        super().__init__(
            dim, dim=dim, context=context, hidden=hidden, blocks=blocks, steps=steps, power=power, repeats=repeats
        )
        if min(steps, power, repeats) < 1:
            raise ModelError(f"steps, power and repeats are at least 1, not {steps}, {power} and {repeats}")
        refuse_absurd(hidden * (context + dim + 2 * blocks * hidden), "flow matching asks for a net")
        self.dim, self.n_features, self.steps, self.power, self.repeats = dim, context, steps, power, repeats
        self.given = nn.Linear(context, hidden)
        self.first = nn.Linear(dim + 3, hidden)
        self.inner = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2 * blocks))
        self.last = nn.Linear(hidden, dim)
        for layer in (self.given, self.first, *self.inner):
            nn.init.normal_(layer.weight, std=1.3 / layer.in_features**0.5)
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, features: Tensor) -> RowsDistribution:
        return RowsDistribution(self, features)

    def _angles(self, r: Tensor) -> Tensor:
        return 0.5 * math.pi * (1 - (1 - r) ** self.power)

    def velocity(self, u: Tensor, angle: Tensor, given: Tensor) -> Tensor:
        """du/da (N, dim) at u (N, dim), angles (N, 1) or (1,), for ``self.given`` of the features."""
        cos = angle.cos()
        when = torch.cat([cos, angle.sin(), 0.5 * (cos.abs() + 1e-2).log()], -1)
        h = self.first(torch.cat([u, when.expand(*u.shape[:-1], 3)], -1)) + given
        for one, two in zip(self.inner[::2], self.inner[1::2]):
            h = h + two(F.silu(one(F.silu(h))))
        return self.last(F.silu(h))

    def loss(self, features: Tensor, target: Tensor) -> Tensor:
        """Mean squared error of the velocity, by the number; angles lie evenly over the rows of the batch."""
        repeats = self.repeats if self.training else 4 * self.repeats
        z = ((target - self.shift) / self.scale).repeat(repeats, 1)
        rows = len(z)
        r = (torch.randperm(rows, device=z.device)[:, None] + torch.rand(rows, 1, device=z.device)) / rows
        angle, noise = self._angles(r), torch.randn_like(z)
        u = noise * angle.cos() + z * angle.sin()
        found = self.velocity(u, angle, self.given(features).repeat(repeats, 1))
        return ((found - z * angle.cos() + noise * angle.sin()) ** 2).mean()

    def draw_rows(self, features: Tensor) -> Tensor:
        """One target (N, dim) for each row of features."""
        given, u = self.given(features), torch.randn(len(features), self.dim).to(features)
        grid = self._angles(torch.linspace(0, 1, self.steps + 1).to(features))
        for a, b in zip(grid[:-1, None], grid[1:, None]):
            half = u + 0.5 * (b - a) * self.velocity(u, a, given)
            u = u + (b - a) * self.velocity(half, 0.5 * (a + b), given)
        return self.shift + self.scale * u

    def log_density(self, features: Tensor, y: Tensor) -> Tensor:
        """Log density (N,) of targets (N, dim): back to the noise, with the divergence on the way."""
        given, u = self.given(features), (y - self.shift) / self.scale
        grid = self._angles(torch.linspace(0, 1, self.steps + 1).to(features)).flip(0)
        total = -self.scale.log().sum() + torch.zeros_like(u[:, 0])
        for a, b in zip(grid[:-1, None], grid[1:, None]):
            half = u + 0.5 * (b - a) * self.velocity(u, a, given)
            slope, divergence = self._with_divergence(half, 0.5 * (a + b), given)
            u, total = u + (b - a) * slope, total + (b - a) * divergence
        return total - 0.5 * (u**2).sum(-1) - 0.5 * self.dim * math.log(2 * math.pi)

    def _with_divergence(self, u: Tensor, angle: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
        """The velocity, and the trace of its Jacobian by one derivative along each axis."""

        def along(axis: Tensor) -> tuple[Tensor, Tensor]:
            pair: Any = torch.func.jvp(lambda u: self.velocity(u, angle, given), (u,), (axis.expand_as(u),))
            return pair[0], pair[1] @ axis

        parts = [along(axis) for axis in torch.eye(self.dim).to(u)]
        return parts[0][0], torch.stack([change for _, change in parts]).sum(0)
