"""Residual convolutional net for sequences: light curves, strain, spectra on a regular grid."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfield.core.errors import DeepfieldError


class SequenceBlock(nn.Module):
    """x + W2 act(W1 act(x)), with two convolutions that keep the length."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.first = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        nn.init.normal_(self.second.weight, std=0.3 / (width * kernel) ** 0.5)  # near the identity at first

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.silu(self.first(F.silu(x))))


class SequenceNet(nn.Module):
    """Sequences (N, n_in, L) of any length to features (N, n_out) that hardly change as a sequence is shifted.

    Each stage halves the length and doubles what a number sees of the sequence; mean and maximum over the length
    at the end know how much of a feature there is, and whether there is any.

    Parameters
    ----------
    n_in, n_out : int
        Channels, and output features. Channels should spread by about one.
    width : int
        Channels of the hidden layers.
    stages, blocks : int
        Halvings of the length, and residual blocks after each.
    kernel : int
        Of the convolutions; odd.

    Raises
    ------
    DeepfieldError
        If the kernel is even.

    Examples
    --------
    >>> net = SequenceNet(2, 4, width=8)
    >>> net(torch.zeros(3, 2, 50)).shape
    torch.Size([3, 4])
    """

    def __init__(
        self, n_in: int, n_out: int, *, width: int = 32, stages: int = 3, blocks: int = 1, kernel: int = 5
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise DeepfieldError(f"kernel must be odd, so that sequences keep their middle; got {kernel}")
        layers: list[nn.Module] = []
        for k in range(stages):
            layers += [nn.Conv1d(width if k else n_in, width, kernel, stride=2, padding=kernel // 2)]
            layers += [SequenceBlock(width, kernel) for _ in range(blocks)]
        self.body = nn.Sequential(*layers)
        self.project = nn.Linear(2 * width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        h = F.silu(self.body(x))
        return self.project(torch.cat([h.mean(-1), h.amax(-1)], -1))
