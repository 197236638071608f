"""What stands out of an image: beside a smooth galaxy in its middle, and from the colour of that galaxy.

A net of a few layers sees an arc of a hundredth of the light under it late or never. Both differences here are
those that the arc finders of the field begin with (Alard 2006, arXiv:astro-ph/0606757; Gavazzi et al. 2014, ApJ
785, 144); they commute with quarter turns and mirrors.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from deepfield.core.errors import DeepfieldError

_WIDTHS = (1.0, 2.0)  # sigma of the kernels' Gaussians, pixels
_PHOTONS = 50.0  # flux in units of the sky noise at which the noise of photons is taken to be as large


class Contrast(nn.Module):
    """Images (N, B, S, S) in units of the sky noise to (N, 2 B - 1, S, S): residuals, then differences of bands.

    In units of a noise that grows with the light under it, compressed to sign(x) log(1 + |x|).

    Parameters
    ----------
    bands, pixels : int
        B and S.

    Raises
    ------
    DeepfieldError
        If the images are smaller than 16 pixels.

    Examples
    --------
    >>> contrast = Contrast(3, 32)
    >>> contrast(torch.randn(2, 3, 32, 32)).shape, contrast.channels
    (torch.Size([2, 5, 32, 32]), 5)
    """

    def __init__(self, bands: int, pixels: int) -> None:
        super().__init__()
        if pixels < 16:
            raise DeepfieldError(f"a contrast is of 16 pixels a side at least, not {pixels}")
        self.channels = 2 * bands - 1
        self.register_buffer("rings", rings(pixels), persistent=False)
        self.register_buffer("middle", _middle(pixels), persistent=False)

    rings: Tensor
    middle: Tensor

    def forward(self, x: Tensor) -> Tensor:
        noise = (1 + smooth(x, _WIDTHS[0]).clamp_min(0) / _PHOTONS).sqrt()
        found = [unround(x, self.rings) / noise]
        if x.shape[1] > 1:
            found.append(differences(x, self.middle) / noise[:, :-1])
        left = torch.cat(found, 1)
        return left.sign() * left.abs().log1p()  # ten times faster than an arcsinh


def unround(x: Tensor, basis: Tensor) -> Tensor:
    """Images (N, B, S, S) less their projection on the span of ``basis`` (K, S S), such as :func:`rings`.

    Examples
    --------
    >>> at = torch.arange(32) - 15.5
    >>> galaxy = torch.exp(-(at[:, None] ** 2 + at**2) / 50)[None, None]
    >>> bool(unround(galaxy, rings(32)).abs().max() < 0.01)
    True
    """
    flat = x.flatten(2)
    return (flat - (flat @ basis.T) @ basis).view_as(x)


@functools.lru_cache
def rings(size: int) -> Tensor:
    """An orthonormal basis (K, S S) of f(r), f(r) cos 2 phi and f(r) sin 2 phi, f linear between whole pixels."""
    at = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    radius, angle = torch.hypot(at[:, None], at), torch.atan2(at[:, None], at[None])
    hats = [(1 - (radius - k).abs()).clamp_min(0) for k in range(int(radius.max()) + 2)]
    functions = [
        hat * turn for hat in hats for turn in (torch.ones_like(angle), (2 * angle).cos(), (2 * angle).sin())
    ]
    _, strength, basis = torch.linalg.svd(torch.stack(functions).flatten(1), full_matrices=False)
    return basis[strength > 1e-6 * strength[0]].float()


def _middle(size: int) -> Tensor:
    """Weights (S S) of the fit of one band to another: a Gaussian of a fifth of the side."""
    at = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
    return torch.exp(-(at[:, None] ** 2 + at**2) / (2 * (0.2 * size) ** 2)).flatten()


def differences(x: Tensor, weight: Tensor) -> Tensor:
    """Each band but the last less the last under the round kernel that fits it best (N, B - 1, S, S).

    The kernel is a sum of a point and two Gaussians, fitted in each image with weights (S S) (Alard & Lupton 1998,
    ApJ 503, 325): it takes the colour of the galaxy and the difference of the point-spread functions.

    Examples
    --------
    >>> at = torch.arange(32) - 15.5
    >>> galaxy = torch.exp(-(at[:, None] ** 2 + at**2) / 20)[None, None]
    >>> left = differences(torch.cat([0.3 * smooth(galaxy, 1.5), galaxy], 1), torch.ones(32 * 32))
    >>> bool(left.abs().max() < 2e-3)
    True
    """
    last = x[:, -1:]
    terms = [last, *(last - smooth(last, width) for width in _WIDTHS)]
    left = x[:, :-1].flatten(2)
    known: list[Tensor] = []
    for term in terms:  # Gram and Schmidt, as the terms are nearly parallel
        v = term.flatten(2)
        for e in known:
            v = v - (weight * v * e).sum(-1, keepdim=True) * e
        # A term that is nothing but noise would be divided by what is next to zero.
        v = v / ((weight * v * v).sum(-1, keepdim=True) + 1e-3).sqrt()
        left = left - (weight * left * v).sum(-1, keepdim=True) * v
        known.append(v)
    return left.view_as(x[:, :-1])


def smooth(x: Tensor, sigma: float) -> Tensor:
    """Images (N, B, S, S) under a Gaussian of ``sigma`` pixels, edges repeated.

    Examples
    --------
    >>> bool((smooth(torch.ones(1, 1, 16, 16), 2.0) - 1).abs().max() < 1e-6)
    True
    """
    taps = _taps(x.shape[-1], sigma).to(x)
    return taps @ x @ taps.T


@functools.lru_cache
def _taps(size: int, sigma: float) -> Tensor:
    """How much each of the pixels in a row counts in each of the smoothed ones (S, S)."""
    reach = round(3 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    at = torch.arange(size)[:, None] + torch.arange(-reach, reach + 1)
    taps = torch.zeros(size, size)
    return taps.scatter_add_(1, at.clamp(0, size - 1), (line / line.sum()).expand(size, -1))
