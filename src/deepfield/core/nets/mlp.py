"""Residual multilayer perceptron over tabular features, with a mask for what is missing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Shift and scale each feature; a NaN becomes zero and lights that feature's mask.

    Input (N, F), output (N, F + M): standardised values, then the masks (1 where missing) of the first M
    features; ``masked`` is M, all of them unless features go missing together. With M = 0 nothing may be
    missing, and a NaN goes through to the output, which is how an object that cannot be served looks.

    Examples
    --------
    >>> s = Standardise(2)
    >>> s(torch.tensor([[1.0, float("nan")]])).tolist()
    [[1.0, 0.0, 0.0, 1.0]]
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, n_features: int, masked: int | None = None) -> None:
        super().__init__()
        self.masked = n_features if masked is None else masked
        self.n_out = n_features + self.masked
        self.register_buffer("shift", torch.zeros(n_features))
        self.register_buffer("scale", torch.ones(n_features))

    @torch.no_grad()
    def fit(self, features: Tensor) -> Standardise:
        """Set shift and scale to the median and the 16-84 half-width of the training features (N, F)."""
        levels = torch.tensor([0.16, 0.5, 0.84], dtype=torch.float64, device=features.device)
        # torch.quantile refuses more than 2^24 numbers, and a million rows say enough.
        rows = features[:: max(1, len(features) // 1_000_000)].double()
        low, middle, high = torch.stack([torch.nanquantile(c, levels) for c in rows.T], -1)
        width = 0.5 * (high - low)
        self.shift.copy_(torch.where(middle.isfinite(), middle, 0.0))
        # A spread of some float32 roundings is that of a constant, and would make noise of them.
        known = width.isfinite() & (width > (1e-5 * middle.abs()).clamp_min(1e-9))
        self.scale.copy_(torch.where(known, width, 1.0))
        return self

    def forward(self, x: Tensor) -> Tensor:
        value = ((x - self.shift) * (1 / self.scale)).clamp(-6, 6)
        if not self.masked:
            return value
        missing = torch.isnan(x)
        return torch.cat([value.masked_fill(missing, 0.0), missing[..., : self.masked].to(x.dtype)], -1)


class Dropout(nn.Module):
    """Dropout whose masks come from random bytes, as random numbers cost more than the layers of a small net.

    Parameters
    ----------
    p : float
        Share of the values set to zero, rounded to a 256th.

    Examples
    --------
    >>> kept = Dropout(0.25)(torch.ones(100, 100)).unique().tolist()
    >>> [round(v, 4) for v in kept]
    [0.0, 1.3333]
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropped = round(256 * p)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.dropped:
            return x
        count = x.numel()
        words = torch.empty(-(-count // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = words.view(torch.uint8)[:count].view(x.shape) >= self.dropped
        return x * (kept.to(x.dtype) * (256 / (256 - self.dropped)))


class ResidualMLP(nn.Module):
    """Standardise, embed, ``blocks`` times x + W2 act(W1 x), project.

    Parameters
    ----------
    n_in, n_out : int
        Numbers of input features (NaN allowed) and of output features.
    width, blocks : int
        Width of the hidden layers, number of residual blocks of two layers each.
    dropout : float
        Between the layers of a block.
    masked : int, optional
        The first so many features carry a mask; all of them by default.

    Examples
    --------
    >>> net = ResidualMLP(5, 3, width=16, blocks=1)
    >>> net(torch.zeros(4, 5)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        width: int = 96,
        blocks: int = 2,
        dropout: float = 0.0,
        masked: int | None = None,
    ) -> None:
        super().__init__()
        self.standardise = Standardise(n_in, masked)
        self.embed = nn.Linear(self.standardise.n_out, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU(), Dropout(dropout), nn.Linear(width, width))
            for _ in range(blocks)
        )
        self.project = nn.Sequential(nn.SiLU(), nn.Linear(width, n_out))
        layers = [m for m in self.modules() if isinstance(m, nn.Linear)]
        for layer in layers:
            # 1.3 keeps the variance through SiLU; a small last layer starts near the target's own distribution.
            gain = 0.1 if layer is layers[-1] else 1.3
            nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(self.standardise(x))
        for block in self.blocks:
            h = h + block(h)
        return self.project(h)
