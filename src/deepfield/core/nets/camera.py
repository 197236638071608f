"""From the pixels of a camera to those of a net: means over a coarser grid, then a stretch."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfield.core.nets.contrast import Contrast
from deepfield.core.nets.stretch import Stretch


class Camera(nn.Module):
    """Raw pixels (N, B, S, S), bytes or fluxes, to what the net sees (N, C, pixels, pixels): mean, then stretch.

    Parameters
    ----------
    bands, pixels : int
    kind : str
        Of the stretch.
    contrast : bool
        Whether what stands out of the image comes beside it (:class:`deepfield.core.nets.contrast.Contrast`).

    Examples
    --------
    >>> Camera(3, 16)(torch.zeros(2, 3, 48, 48, dtype=torch.uint8)).shape
    torch.Size([2, 3, 16, 16])
    >>> Camera(3, 16, "asinh", contrast=True)(torch.zeros(2, 3, 48, 48)).shape
    torch.Size([2, 8, 16, 16])
    """

    def __init__(self, bands: int, pixels: int, kind: str = "linear", *, contrast: bool = False) -> None:
        super().__init__()
        self.pixels, self.stretch = pixels, Stretch(bands, kind)
        self.contrast = Contrast(bands, pixels) if contrast else None
        self.channels = bands + (self.contrast.channels if self.contrast else 0)

    def reduce(self, x: Tensor, size: int = 0) -> Tensor:
        """Means over the pixels of a coarser grid (N, B, size, size), in float32; commutes with quarter turns."""
        size, x = size or self.pixels, x.float()
        if x.shape[-1] == size:
            return x
        share = torch.from_numpy(_shares(x.shape[-1], size)).to(x.device)
        return share @ x @ share.T

    def show(self, reduced: Tensor) -> Tensor:
        """What the net is shown (N, C, S, S) of raw pixels on its own grid."""
        seen = self.stretch(reduced)
        return seen if self.contrast is None else torch.cat([seen, self.contrast(reduced * self.stretch.unit)], 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.show(self.reduce(x))


@functools.lru_cache
def _shares(side: int, size: int) -> Any:
    """How much each of ``side`` pixels in a row counts in the mean of each of ``size`` (size, side)."""
    covered = overlap(side, size)
    return (covered / covered.sum(1, keepdims=True)).astype(np.float32)


@functools.lru_cache
def overlap(side: int, size: int) -> NDArray[np.float64]:
    """How much of each of ``side`` pixels in a row falls into each of ``size`` (size, side)."""
    width, old, new = side / size, np.arange(side), np.arange(size)[:, None]
    covered = np.minimum(old + 1, (new + 1) * width) - np.maximum(old, new * width)
    return np.clip(covered, 0, 1)
