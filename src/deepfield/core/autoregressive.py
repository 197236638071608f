"""One dimension after another: p(y | x) = prod_i p(y_i | y_<i, x), each factor a mixture of Gaussians.

The chain rule is exact, and a mixture can have any shape, so one pass through small nets says what a flow says
with several transforms (Uria, Murray & Larochelle 2013, RNADE). Many modes and sharp edges are easy for it.
Drawing costs no more than evaluating: each dimension has a net of its own, which is asked once.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfield.core.distributions import RowsDistribution
from deepfield.core.heads import _ScaledHead, refuse_absurd
from deepfield.core.nets.mlp import Dropout


class AutoregressiveMixture(_ScaledHead):
    """A density over a vector of ``dim`` numbers: for each a residual net and a mixture of Gaussians.

    Parameters
    ----------
    dim, context : int
        Numbers of target dimensions and of features.
    components : int
        Gaussians in each factor.
    hidden, blocks : int
        Width and residual blocks of each dimension's net.
    dropout : float
        Inside the blocks.
    floor : float
        Smallest width of a Gaussian, in units of the target's standard deviation.

    Examples
    --------
    >>> head = AutoregressiveMixture(2, context=4, hidden=8)
    >>> density = head(torch.zeros(3, 4))
    >>> density.log_prob(torch.zeros(5, 3, 2)).shape, density.sample((7,)).shape
    (torch.Size([5, 3]), torch.Size([7, 3, 2]))
    """

    def __init__(
        self,
        dim: int,
        *,
        context: int = 32,
        components: int = 8,
        hidden: int = 64,
        blocks: int = 2,
        dropout: float = 0.0,
        floor: float = 1e-3,
    ) -> None:
        super().__init__(
            dim, dim=dim, context=context, components=components, hidden=hidden, blocks=blocks, dropout=dropout,
            floor=floor,
        )  # fmt: skip
        weights = dim * hidden * (context + dim + 2 * blocks * hidden + 3 * components)
        refuse_absurd(weights, "the mixture asks for nets")
        self.dim, self.components, self.floor, self.n_features = dim, components, floor, context
        self.first = _Layers(dim, context + dim, hidden)
        self.inner = nn.ModuleList(_Layers(dim, hidden, hidden) for _ in range(2 * blocks))
        self.last = _Layers(dim, hidden, 3 * components, gain=0.1)
        self.dropout = Dropout(dropout)
        self.before: Tensor
        self.start: Tensor
        self.register_buffer("before", torch.tril(torch.ones(dim, dim), -1))
        # Components start side by side over the target's range, not on top of one another.
        self.register_buffer("start", torch.linspace(-1.5, 1.5, components) if components > 1 else torch.zeros(1))

    def forward(self, features: Tensor) -> RowsDistribution:
        return RowsDistribution(self, features)

    def _mixtures(self, features: Tensor, z: Tensor, only: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights, means and widths (P, N, K) of the factors: of all P = dim, or of one."""
        pick = slice(None) if only is None else slice(only, only + 1)
        known = z * self.before[pick, None, :]
        h = self.first(torch.cat([features.expand(len(known), *features.shape), known], -1), pick)
        for one, two in zip(self.inner[::2], self.inner[1::2]):
            h = h + two(self.dropout(F.silu(one(F.silu(h), pick))), pick)
        logits, means, raw = self.last(F.silu(h), pick).chunk(3, -1)
        return torch.log_softmax(logits, -1), means + self.start, F.softplus(raw) + self.floor

    def log_density(self, features: Tensor, y: Tensor) -> Tensor:
        """Log density (N,) of targets (N, dim) given features (N, context)."""
        z = (y - self.shift) / self.scale
        log_weights, means, stds = self._mixtures(features, z)
        terms = log_weights - 0.5 * ((z.T[..., None] - means) / stds) ** 2 - stds.log()
        constant = 0.5 * self.dim * math.log(2 * math.pi) + self.scale.log().sum()
        return torch.logsumexp(terms, -1).sum(0) - constant

    def draw_rows(self, features: Tensor) -> Tensor:
        """One target (N, dim) for each row of features."""
        z = features.new_zeros(len(features), self.dim)
        for i in range(self.dim):
            log_weights, means, stds = (t[0] for t in self._mixtures(features, z, only=i))
            # The largest of logits plus Gumbel noise is a draw from the classes.
            gumbel = -torch.empty_like(log_weights).exponential_().log()
            k = (log_weights + gumbel).argmax(-1, keepdim=True)
            chosen = means.gather(-1, k)[:, 0] + stds.gather(-1, k)[:, 0] * torch.randn_like(z[:, 0])
            z[:, i] = chosen
        return self.shift + self.scale * z


class _Layers(nn.Module):
    """One linear layer for each of ``dim`` nets, (dim, N, n_in) to (dim, N, n_out)."""

    def __init__(self, dim: int, n_in: int, n_out: int, *, gain: float = 1.3) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim, n_in, n_out) * gain / n_in**0.5)
        self.bias = nn.Parameter(torch.zeros(dim * n_out))  # flat: biases do not decay

    def forward(self, x: Tensor, pick: slice) -> Tensor:
        bias = self.bias.reshape(self.weight.shape[0], 1, -1)
        return torch.baddbmm(bias[pick], x, self.weight[pick])
