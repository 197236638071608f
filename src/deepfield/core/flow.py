"""A conditional normalising flow as a head, on zuko (rational-quadratic splines, Durkan et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import zuko
from torch import Tensor
from torch.distributions import Distribution

from deepfield.core.heads import _ScaledHead, refuse_absurd
from deepfield.core.inverse import drawn


class FlowDistribution(Distribution):
    """zuko's flow in the target's own units. A flow over one number is monotone, hence has a cdf and quantiles."""

    arg_constraints = {}  # noqa: RUF012
    has_rsample = False

    def __init__(self, lazy: Any, features: Tensor, shift: Tensor, scale: Tensor) -> None:
        self.lazy, self.features, self.flow = lazy, features, lazy(features)
        self.shift, self.scale, self.scalar = shift, scale, len(shift) == 1
        event = torch.Size() if self.scalar else shift.shape
        super().__init__(features.shape[:-1], event, validate_args=False)

    def _inward(self, y: Tensor) -> Tensor:
        return ((y[..., None] if self.scalar else y) - self.shift) / self.scale

    def _outward(self, u: Tensor) -> Tensor:
        y = self.shift + self.scale * u
        return y[..., 0] if self.scalar else y

    def _nobody(self, shape: Sequence[int]) -> Tensor | None:
        """The answer for no objects, which zuko's reshapes refuse."""
        full = torch.broadcast_shapes(shape, self.batch_shape)
        return None if full.numel() else self.shift.new_zeros(full)

    def log_prob(self, value: Tensor) -> Tensor:
        if (nobody := self._nobody(value.shape[: value.dim() - len(self.event_shape)])) is not None:
            return nobody
        return self.flow.log_prob(self._inward(value)) - self.scale.log().sum()

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        with torch.no_grad():
            shape = tuple(sample_shape)
            if self.scalar:
                return self._outward(self.flow.sample(shape))
            return self._outward(drawn(self.lazy, self.features, self.flow.base.sample(shape)))

    def cdf(self, value: Tensor) -> Tensor:
        if (nobody := self._nobody(value.shape)) is not None:
            return nobody
        return torch.special.ndtr(self.flow.transform(self._inward(value))[..., 0])

    def icdf(self, value: Tensor) -> Tensor:
        if (nobody := self._nobody(value.shape)) is not None:
            return nobody
        q = value.to(self.shift).expand(torch.broadcast_shapes(value.shape, self.batch_shape))
        return self._outward(self.flow.transform.inv(torch.special.ndtri(q)[..., None]))

    def _nodes(self) -> Tensor:
        levels = (torch.arange(200, dtype=self.shift.dtype, device=self.shift.device) + 0.5) / 200
        return self.icdf(levels.reshape(-1, *[1] * len(self.batch_shape)))

    @property
    def mean(self) -> Tensor:
        """From 200 equal-probability quantiles (a scalar) or 512 samples (a vector)."""
        return self._nodes().mean(0) if self.scalar else self.sample((512,)).mean(0)

    @property
    def variance(self) -> Tensor:
        return self._nodes().var(0) if self.scalar else self.sample((512,)).var(0)

    @property
    def mode(self) -> Tensor:
        """Of a scalar: the densest of 200 equal-probability quantiles."""
        nodes = self._nodes()
        return nodes.gather(0, self.log_prob(nodes).argmax(0, keepdim=True))[0]


class Flow(_ScaledHead):
    """Neural spline flow over a target of ``dim`` numbers, conditioned on ``context`` features.

    Parameters
    ----------
    dim, context : int
        Numbers of target dimensions and of features.
    transforms, bins, hidden : int
        Autoregressive transforms, spline bins, and width of the two hidden layers of each.

    Examples
    --------
    >>> head = Flow(2, context=4, transforms=1, hidden=8)
    >>> head(torch.zeros(3, 4)).log_prob(torch.zeros(3, 2)).shape
    torch.Size([3])
    """

    def __init__(
        self, dim: int = 1, *, context: int = 16, transforms: int = 2, bins: int = 8, hidden: int = 64
    ) -> None:
        super().__init__(dim, dim=dim, context=context, transforms=transforms, bins=bins, hidden=hidden)
        refuse_absurd(transforms * hidden * (hidden + context + dim * 3 * bins), "the flow asks for nets")
        self.n_features = context
        self.flow = zuko.flows.NSF(
            dim, context, transforms=transforms, bins=bins, hidden_features=(hidden, hidden)
        )

    def forward(self, features: Tensor) -> FlowDistribution:
        return FlowDistribution(self.flow, features, self.shift, self.scale)
