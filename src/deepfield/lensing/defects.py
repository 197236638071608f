"""Cutouts that went wrong: pixels without data, bad columns, cosmic rays, bands that do not lie on each other."""

from __future__ import annotations

import torch
from torch import Tensor

KINDS = 5


def spoil(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Images with a defect.

    Parameters
    ----------
    image : Tensor (n, B, S, S)
        It stays as it is.
    u, v : Tensor (n,)
        In [0, 1): which defect, and where; NaN for none. One side of the cutout without data (zeros, in all
        bands), a band without data, a bleeding column, cosmic rays in one band, a band some pixels off the others.

    Examples
    --------
    >>> broken = spoil(torch.ones(1, 2, 8, 8), torch.tensor([0.25]), torch.tensor([0.6]))
    >>> broken.sum((2, 3))
    tensor([[64.,  0.]])
    """
    image = image.clone()
    bands, size = image.shape[1], image.shape[-1]
    for row in torch.nonzero(torch.isfinite(u))[:, 0].tolist():
        one, where = image[row], float(v[row])
        kind = min(int(float(u[row]) * KINDS), KINDS - 1)
        inner = float(u[row]) * KINDS - kind  # what is left of u
        band, place = min(int(where * bands), bands - 1), int((0.15 + 0.7 * inner) * size)
        if kind == 0:
            side = one[:, :, :place] if where < 0.5 else one[:, place:]
            side.zero_()
        elif kind == 1:
            one[band] = 0.0
        elif kind == 2:
            one[:, :, place : place + 1 + int(where * 4)] = one.amax() * (1 + where)
        elif kind == 3:
            _rays(one[band], where, inner, float(one.amax()))
        else:
            shift = 3 + int(inner * 6)
            one[band] = one[band].roll((shift, -shift) if where < 0.5 else (-shift, 0), (0, 1))
    return image


def _rays(plane: Tensor, where: float, inner: float, bright: float) -> None:
    """Three straight tracks, one pixel wide."""
    size = plane.shape[-1]
    for k in range(3):
        angle = torch.tensor(6.28 * where + 2.4 * k)
        steps = torch.arange(4 + int(10 * inner) + 3 * k)
        x = (0.2 + 0.6 * ((inner + 0.37 * k) % 1)) * size + steps * torch.cos(angle)
        y = (0.2 + 0.6 * ((where + 0.61 * k) % 1)) * size + steps * torch.sin(angle)
        inside = (x >= 0) & (x < size) & (y >= 0) & (y < size)
        plane[y[inside].long(), x[inside].long()] += bright
