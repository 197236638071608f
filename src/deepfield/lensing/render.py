"""Images of lenses: light bent by a batch of lenses, seen through a telescope.

A pixel's light is its surface brightness times its area: at its middle, or where light is bright the mean of a
grid within it. The point-spread function is any image.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from deepfield.core.errors import DeepfieldError
from deepfield.lensing._values import keep_memory, tensor
from deepfield.lensing.lens import Lens

_CHUNK = 32  # images at a time: their planes then stay in the processor's cache
_MANY = 128  # at a time of what is compiled, one loop without planes, each call of which looks at all parameters
_BRIGHT = 0.02  # of an image's brightest pixel; what is above it is sampled finely


class Light(Protocol):
    """What shines: a :class:`~deepfield.lensing.light.Sersic`, or anything with a brightness at each position."""

    @property
    def batch(self) -> int | None: ...
    def brightness(self, x: Tensor, y: Tensor) -> Tensor: ...
    def __getitem__(self, index: Any) -> Light: ...
    def ready(self, like: Tensor) -> Light: ...


@dataclass(frozen=True)
class _Scene:
    lens: Any  # a Lens, or what it is made ready to
    source: tuple[Light, ...]
    lens_light: tuple[Light, ...]

    def __getitem__(self, index: Any) -> _Scene:
        return _Scene(
            self.lens[index], tuple(s[index] for s in self.source), tuple(s[index] for s in self.lens_light)
        )

    def ready(self, like: Tensor) -> _Scene:
        return _Scene(
            self.lens.ready(like),
            tuple(s.ready(like) for s in self.source),
            tuple(s.ready(like) for s in self.lens_light),
        )

    @property
    def batch(self) -> int:
        sizes = {self.lens.batch or 1, *(light.batch or 1 for light in (*self.source, *self.lens_light))}
        if len(sizes - {1}) > 1:
            raise DeepfieldError(f"lenses and lights are as many each, or one for all, got {sorted(sizes)}")
        return max(sizes)

    def brightness(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        if self.source:
            behind = self.lens.source(x, y)
            for light in self.source:
                total = total + light.brightness(*behind)
        for light in self.lens_light:
            total = total + light.brightness(x, y)
        return total


def pixel_grid(size: int, pixel: float, *, like: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Positions (1, S, S) of the middles of pixels, arcsec; rows run from the top down, so y falls along them.

    Examples
    --------
    >>> x, y = pixel_grid(2, 0.5)
    >>> x[0, 0].tolist(), y[0, :, 0].tolist()
    ([-0.25, 0.25], [0.25, -0.25])
    """
    like = torch.empty(0) if like is None else like
    line = (torch.arange(size, dtype=like.dtype, device=like.device) - 0.5 * (size - 1)) * pixel
    return line.expand(1, size, size), -line[:, None].expand(1, size, size)


def render(
    lens: Lens,
    source: Light | Sequence[Light],
    lens_light: Light | Sequence[Light] = (),
    *,
    pixel: Any,
    size: int = 64,
    psf: Tensor | None = None,
    margin: int | None = None,
    supersample: int = 1,
    compiled: bool = False,
    noise: Noise | None = None,
    like: Tensor | None = None,
) -> Tensor:
    """Images of a batch of lenses.

    Parameters
    ----------
    lens : Lens
        A batch of n lenses, or one for all.
    source, lens_light : Sersic, or several of them
        Behind the lens, and in its plane; each a batch of n, or one for all.
    size : int
        Pixels on a side.
    pixel : float or Quantity
        Arcsec.
    psf : Tensor (K, L), optional
        Point-spread function at the pixel's scale, of odd sides, in any normalisation; rows from the top down.
    margin : int, optional
        Pixels around the image whose light the PSF may scatter into it; half of the PSF by default.
    supersample : int
        Points along a side of the pixels that are brighter than a fiftieth of the brightest, and of those beside
        them; 1 for the middle only.
    compiled : bool
        Let ``torch.compile`` make one loop of the arithmetic: twice as fast after some ten seconds for each new
        kind of scene, size and precision. Needs a C++ compiler.
    noise : Noise, optional
        Of the sky and of photons; none by default.
    like : Tensor, optional
        Its precision and device are those of the images; float32 on the processor by default.

    Returns
    -------
    Tensor (n, S, S)
        Flux in each pixel, in units of that of the light; differentiable in all parameters.

    Raises
    ------
    DeepfieldError
        If sizes are not positive or do not fit, or the PSF is no image of odd sides with a positive sum.

    Examples
    --------
    >>> from deepfield.lensing import Sersic, sie
    >>> lens = Lens(sie(torch.tensor([1.0, 1.5]), 0.8, 0.3))
    >>> images = render(lens, [Sersic(1.0, 0.2, x=0.1)], size=32, pixel=0.2)
    >>> [round(float(v)) for v in images.sum((1, 2))]  # magnified so much
    [13, 19]
    """
    pixel = float(tensor(pixel, "arcsec"))
    if size < 1 or supersample < 1 or not pixel > 0 or (margin or 0) < 0:
        raise DeepfieldError(
            f"size, supersample and pixel are positive and margin is not negative, got size {size}, supersample "
            f"{supersample}, pixel {pixel} and margin {margin}"
        )
    keep_memory()
    like = torch.empty(0) if like is None else like
    blur = None if psf is None else _Blur(psf.to(like), size, margin, flux=pixel**2)
    scene = _Scene(lens, _several(source), _several(lens_light)).ready(like)
    x, y = pixel_grid(size + 2 * (blur.margin if blur else 0), pixel, like=like)
    points = x.reshape(1, -1), y.reshape(1, -1)
    generator = noise.generator(like.device) if noise else None
    parts, whole = [], None if torch.is_grad_enabled() else like.new_empty(scene.batch, size, size)
    for start, image in _painted(scene, *points, compiled):
        image = image.view(-1, *x.shape[1:])
        if supersample > 1:
            image = _finer(scene[start : start + len(image)], x, y, image, pixel, supersample)
        image = blur(image) if blur else image * pixel**2
        place = None if whole is None else whole[start : start + len(image)]
        if noise and generator:
            image = noise.added(image, generator, place)
        elif place is not None:
            place.copy_(image)  # while it is in the processor's cache
        parts.append(image)
    return torch.cat(parts) if whole is None else whole


def _several(lights: Light | Sequence[Light]) -> tuple[Light, ...]:
    """One is as good as a list of one; it can be indexed too, so that a loop over it would not end."""
    return tuple(lights) if isinstance(lights, Sequence) else (lights,)


def _painted(scene: _Scene, x: Tensor, y: Tensor, compiled: bool) -> Iterator[tuple[int, Tensor]]:
    """Brightness of some objects at a time (n, P), and the number of the first of them."""
    step = _MANY if compiled and scene.batch >= _MANY else _CHUNK
    paint = _compiled() if compiled else _Scene.brightness
    for start in range(0, scene.batch, step):
        count = min(step, scene.batch - start)
        part = scene[start : start + count]
        if compiled and count < step < scene.batch:  # what is compiled is so for one number of images
            part = scene[scene.batch - step :]
        image = paint(part, x, y)[-count:].expand(count, -1)
        for k, some in enumerate(image.split(_CHUNK)):
            yield start + k * _CHUNK, some


@functools.cache
def _compiled() -> Callable[[_Scene, Tensor, Tensor], Tensor]:
    return torch.compile(_Scene.brightness, dynamic=False)


def _finer(scene: _Scene, x: Tensor, y: Tensor, image: Tensor, pixel: float, supersample: int) -> Tensor:
    """The bright pixels of each image, and those beside them, as means over a grid within them."""
    spread = F.max_pool2d(image.detach(), 3, stride=1, padding=1)  # a peak may lie between the middles of pixels
    bright = spread > _BRIGHT * spread.amax((1, 2), keepdim=True)
    row, down, along = torch.nonzero(bright).T
    inner = ((torch.arange(supersample, device=x.device) + 0.5) / supersample - 0.5).to(x) * pixel
    px, py = x[0, down, along][:, None, None] + inner, y[0, down, along][:, None, None] + inner[:, None]
    return image.index_put((row, down, along), scene[row].brightness(px, py).mean((1, 2)))


class _Blur:
    """Convolution with a PSF of images that have a margin; ``flux`` is what becomes of a one."""

    def __init__(self, psf: Tensor, size: int, margin: int | None, *, flux: float) -> None:
        if psf.dim() != 2 or not all(side % 2 for side in psf.shape) or not float(psf.sum()) > 0:
            raise DeepfieldError(
                f"a PSF is an image with a pixel in its middle and a positive sum, not of shape "
                f"{tuple(psf.shape)} and sum {float(psf.sum()):g}"
            )
        reach = max(psf.shape) // 2
        self.size, self.margin = size, reach if margin is None else margin
        # What wraps around the edges must not come into the image.
        wide = size + 2 * self.margin
        least = max(wide + max(reach - self.margin, 0), *psf.shape)
        # Sides of whole vectors of four: 80 takes two thirds of the time of 75, 84 less than 88.
        side = self.side = 4 * next_fast_len(-(-least // 4))
        kernel = psf.new_zeros(side, side)
        kernel[: psf.shape[0], : psf.shape[1]] = psf * (flux / psf.sum())
        kernel = kernel.roll((-(psf.shape[0] // 2), -(psf.shape[1] // 2)), (0, 1))
        self.transfer = torch.fft.rfft2(kernel)

    def __call__(self, image: Tensor) -> Tensor:
        """(n, S + 2 margin, S + 2 margin) to (n, S, S)."""
        side = (self.side, self.side)
        inside = slice(self.margin, self.margin + self.size)
        columns = torch.fft.ifft(torch.fft.rfft2(image, s=side).mul_(self.transfer), dim=1)
        return torch.fft.irfft(columns[:, inside], n=self.side, dim=2)[..., inside]  # of the rows that are kept


@dataclass(frozen=True)
class Noise:
    """Noise of the sky and of the light's own photons, in the Gaussian limit.

    Parameters
    ----------
    sky : float
        Standard deviation of the background in a pixel, in units of flux; read noise counts with it.
    gain : float
        Photons per unit of flux; infinite for none of their noise.
    seed : int
        The same seed, shape, device and version give the same noise.

    Examples
    --------
    >>> noisy = Noise(sky=0.1, seed=0)(torch.zeros(2, 50, 50))
    >>> abs(float(noisy.std()) - 0.1) < 0.005
    True
    """

    sky: float
    gain: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.sky) and self.sky >= 0 and self.gain > 0):
            raise DeepfieldError(
                f"sky is finite and not negative and gain positive, got sky {self.sky} and gain {self.gain}"
            )

    def __call__(self, image: Tensor) -> Tensor:
        """Images (n, S, S) with noise."""
        generator = self.generator(image.device)
        return torch.cat([self.added(part, generator) for part in image.split(_CHUNK)])

    def generator(self, device: torch.device) -> torch.Generator:
        """What draws this noise from its beginning."""
        return torch.Generator(device).manual_seed(self.seed)

    def added(self, image: Tensor, generator: torch.Generator, out: Tensor | None = None) -> Tensor:
        """Some images with noise, the next of a sequence; ``out`` is where to put them."""
        light = image.detach().clamp_min(0)
        sigma = torch.add(light.new_tensor(self.sky**2), light, alpha=1 / self.gain).sqrt_()
        noise = torch.empty_like(light) if out is None else out
        noise.normal_(generator=generator).mul_(sigma)
        return image + noise if out is None else out.add_(image)
