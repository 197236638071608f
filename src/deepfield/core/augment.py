"""Images turned, mirrored, scaled, moved, blurred and made noisier in every step: a batch at a time, in torch."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from deepfield.core.nets.camera import Camera


class Augment:
    """Batches of raw pixels, targets and maps to what the net sees, each image changed at random.

    Maps (N, h, w), such as a mask of any resolution, turn, scale and move with their images.

    Pixels are drawn on a turned grid from an image of twice the net's resolution, averaged over the size of the
    net's pixels first, so that nothing is sampled too coarsely; then stretched. Images that are no finer than the
    net's are drawn from as the camera has them. With all changes off the result is the camera's own.

    Parameters
    ----------
    camera : Camera
    rotate, flip : bool
        Whether images are turned by any angle, and mirrored half of the time.
    zoom, shift, blur, noise : float
        Largest change of scale (0.3: from 1/1.3 to 1.3), of place (share of the side), of the point-spread
        function (sigma of a further Gaussian in the net's pixels), and of the noise (in units of the spread of all
        pixels).
    exchange : Tensor (C,), optional
        For each class the one that its mirror image belongs to.
    quarters : bool
        Whether images are turned by quarter turns alone, which keep their pixels and their noise as they are.
    carry : callable, optional
        ``carry(y, angle, mirrored)`` gives the targets of images that are turned by ``angle`` (radians,
        anticlockwise as seen) and then, some of them, mirrored left to right.

    Examples
    --------
    >>> augment = Augment(Camera(3, 16), zoom=0.3)
    >>> x, y = torch.zeros(4, 3, 32, 32), torch.arange(4)
    >>> [tuple(t.shape) for t in augment(x, y, generator=torch.Generator().manual_seed(0))]
    [(4, 3, 16, 16), (4,)]
    """

    def __init__(
        self,
        camera: Camera,
        *,
        rotate: bool = True,
        flip: bool = True,
        zoom: float = 0.0,
        shift: float = 0.0,
        blur: float = 0.0,
        noise: float = 0.0,
        exchange: Tensor | None = None,
        quarters: bool = False,
        carry: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        self.camera, self.exchange, self.quarters, self.carry = camera, exchange, quarters, carry
        self.rotate, self.flip, self.zoom, self.shift, self.blur, self.noise = (
            rotate,
            flip,
            zoom,
            shift,
            blur,
            noise,
        )

    @torch.no_grad()
    def __call__(self, x: Tensor, y: Tensor, *maps: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        mirrored = torch.rand(len(x), generator=generator) < 0.5 * self.flip
        drawn, angle, place = self._draw(x, mirrored, generator)
        turned = [sampled(one[:, None], place, one.shape[-1])[:, 0] for one in maps]
        if self.blur:  # before the stretch, as the atmosphere does
            drawn = blurred(drawn, self.blur * torch.rand(len(x), generator=generator))
        seen = self.camera.show(drawn)
        if self.noise:
            width = self.noise * torch.rand(len(x), 1, 1, 1, generator=generator)
            seen = torch.addcmul(seen, width, torch.randn(seen.shape, generator=generator))
        y = self._mirror(y, mirrored) if self.carry is None else self.carry(y, angle, mirrored)
        return seen.contiguous(memory_format=torch.channels_last), y, *turned

    def _draw(self, x: Tensor, mirrored: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Each image on its own turned grid of the net's pixels, the angles, and the places' maps (N, 2, 3)."""
        n, size = len(x), self.camera.pixels
        # A whole number of pixels to one of the net's: the mean over these is then the camera's exactly.
        window = 2 if x.shape[-1] > size else 1
        fine = self.camera.reduce(x, window * size)
        blurred = F.avg_pool2d(fine, window, 1) if window > 1 else fine
        angle, scale = (torch.rand(n, generator=generator) for _ in range(2))
        place = 2 * self.shift * (2 * torch.rand(n, 2, generator=generator) - 1)
        factor = (1 + self.zoom) ** (2 * scale - 1)
        angle = 2 * math.pi * (torch.floor(4 * angle) / 4 if self.quarters else angle) * self.rotate
        cos, sin = factor * angle.cos(), factor * angle.sin()
        sign = torch.where(mirrored, -1.0, 1.0)
        rows = [torch.stack([sign * cos, -sin, place[:, 0]], -1), torch.stack([sign * sin, cos, place[:, 1]], -1)]
        where = torch.stack(rows, 1)
        wide = fine.shape[-1] / blurred.shape[-1]
        return sampled(blurred, where * torch.tensor([wide, wide, 1.0]), size), angle, where

    def _mirror(self, y: Tensor, mirrored: Tensor) -> Tensor:
        """Targets of the images of which some are mirrored."""
        if self.exchange is None:
            return y
        other = self.exchange[y] if y.dim() == 1 else y[:, self.exchange]
        return torch.where(mirrored if y.dim() == 1 else mirrored[:, None], other, y)


def sampled(x: Tensor, where: Tensor, size: int, beyond: str = "reflection") -> Tensor:
    """Images (N, B, size, size) from the places of ``x`` (N, B, H, W) that the maps (N, 2, 3) of the square name.

    Examples
    --------
    >>> same = torch.eye(2, 3)[None]
    >>> sampled(torch.arange(4.0).view(1, 1, 2, 2), same, 2).flatten().tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    grid = F.affine_grid(where, [len(x), x.shape[1], size, size], align_corners=False)
    return F.grid_sample(x, grid, padding_mode=beyond, align_corners=False)


def blurred(x: Tensor, sigma: Tensor) -> Tensor:
    """Images (N, B, S, S), each under a Gaussian of its own width ``sigma`` (N,) in pixels, at most 2.

    Widths add in squares, so that seeing of sigma_0 becomes sqrt(sigma_0^2 + sigma^2).

    Examples
    --------
    >>> spot = torch.zeros(1, 1, 15, 15)
    >>> spot[0, 0, 7, 7] = 1.0
    >>> round(float(blurred(spot, torch.tensor([1.5]))[0, 0, 7, 7] * 2 * math.pi * 1.5**2), 2)
    1.0
    """
    reach = 6
    at = torch.arange(-reach, reach + 1.0)
    taps = torch.exp(-0.5 * (at / sigma.clamp_min(1e-3)[:, None]).square())
    taps = (taps / taps.sum(1, keepdim=True)).repeat_interleave(x.shape[1], 0)[:, None]
    padded = F.pad(x, (reach,) * 4, mode="reflect").flatten(0, 1)[None]
    down = F.conv2d(padded, taps[..., None], groups=len(taps))
    return F.conv2d(down, taps[:, :, None], groups=len(taps))[0].view_as(x)


class Seen:
    """Batches as the net sees them, nothing changed: for validation."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera

    @torch.no_grad()
    def __call__(self, x: Tensor, *targets: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        return self.camera(x), *targets
