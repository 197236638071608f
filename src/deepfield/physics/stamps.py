"""Galaxies painted on stamps: bulge, disc, bar, spiral arms and a companion, seen through a telescope.

Everything smooth is written down in Fourier space, where the point-spread function and the pixel are factors, so
that nothing is sampled too coarsely; only arms are painted in real space. Rows run from the top down, as in a
picture; y points up and angles are degrees anticlockwise from the row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.physics import galaxies as ga
from deepfield.physics import photometry as ph

Array = NDArray[np.float64]
ARM_COLOUR = {"u": 1.25, "g": 1.15, "r": 1.0, "i": 0.9, "z": 0.8, "y": 0.8}
"""Of arms and clumps: their light in each band over the disc's."""

COLUMNS = (
    "bulge_fraction", "bulge_n", "bulge_radius", "bulge_q", "disc_radius", "disc_q", "angle", "arms",
    "arm_strength", "pitch", "winding", "arm_phase", "bar_strength", "bar_angle", "companion", "companion_x",
    "companion_y", "x", "y", "seeing",
)  # fmt: skip
"""What a galaxy's light is told by, beside its magnitudes."""


@dataclass(frozen=True, eq=False)
class Survey:
    """What a telescope makes of the sky.

    Parameters
    ----------
    bands : tuple of str
    pixel : float
        Arcsec.
    fwhm : tuple of float
        Of the point-spread function in each band, arcsec.
    beta : float
        Of its Moffat profile; 0 for a Gaussian.
    noise : NoiseModel
        Point-source depths, from which the noise of a pixel follows.
    scatter : float
        Standard deviation of ln FWHM from image to image, the same in all bands.

    Examples
    --------
    >>> survey = Survey(("r",), 0.2, (0.8,), 3.5, ph.NoiseModel({"r": 26.0}))
    >>> sky, source = survey.pixel_noise()
    >>> round(float(sky[0]) ** 0.5, 1)  # nJy
    4.7
    """

    bands: tuple[str, ...]
    pixel: float
    fwhm: tuple[float, ...]
    beta: float
    noise: ph.NoiseModel
    scatter: float = field(default=0.1, kw_only=True)

    def pixel_noise(self) -> tuple[Array, Array]:
        """Variance of a pixel's sky (nJy^2) and variance per nJy of source in it (nJy), each (B,).

        A point source is measured in n_eff = 4 pi sigma^2 pixels of sky (e.g. Ivezic et al. 2019, eq. 7).
        """
        model = replace(self.noise, systematic=0.0)
        bright = 1e9
        sky = np.array([float(model.flux_error(b, 0.0)) ** 2 for b in self.bands])
        both = np.array([float(model.flux_error(b, bright)) ** 2 for b in self.bands])
        sigma = np.array(self.fwhm) / self.pixel / math.sqrt(8 * math.log(2))
        return sky / (4 * np.pi * sigma**2), (both - sky) / bright


class Painter:
    """The grid of a stamp with a margin, and what all images share on it.

    Parameters
    ----------
    survey : Survey
    size : int
        Pixels on a side of the images.
    device : torch.device

    Notes
    -----
    A galaxy is a mapping of columns, each (n,): ``mag_<band>`` (AB, all of it); ``bulge_fraction``, ``bulge_n``,
    ``bulge_radius`` and ``disc_radius`` (half-light along the major axis, arcsec); ``bulge_q``, ``disc_q``,
    ``angle``; ``arms`` (number, 0 for none), ``arm_strength`` (0 to 1), ``pitch`` (degrees), ``winding`` (+1:
    outward along an arm the angle grows anticlockwise), ``arm_phase``; ``bar_strength`` (share of the disc's
    light), ``bar_angle`` (degrees in the disc's plane); ``companion`` (its share of the light, 0 for none),
    ``companion_x``, ``companion_y`` (arcsec); ``x``, ``y`` (offset of the centre, pixels); ``seeing`` (factor on
    the PSF's width). Where the bulge has another colour than the disc, ``bulge_fraction_<band>`` says how much of
    each band's light it has.

    Examples
    --------
    >>> survey = Survey(("r",), 0.2, (0.8,), 3.5, ph.NoiseModel({"r": 26.0}))
    >>> one = dict.fromkeys(COLUMNS, torch.zeros(1))
    >>> one |= {"mag_r": torch.tensor([22.0]), "seeing": torch.ones(1), "disc_radius": torch.ones(1)}
    >>> one |= {"bulge_n": torch.ones(1), "bulge_radius": torch.ones(1)}
    >>> image = Painter(survey, 64)({**one, "disc_q": torch.ones(1), "bulge_q": torch.ones(1)})
    >>> image.shape, round(float(image.sum() / ph.flux(22.0)), 2)
    (torch.Size([1, 1, 64, 64]), 1.0)
    """

    def __init__(self, survey: Survey, size: int, device: torch.device | str = "cpu") -> None:
        self.survey, self.size, self.margin = survey, size, size // 8
        p = self.side = size + 2 * self.margin
        self.ky = torch.fft.fftfreq(p, device=device)[:, None]
        self.kx = torch.fft.rfftfreq(p, device=device)[None]
        self.k = torch.sqrt(self.kx**2 + self.ky**2)
        self.pixel_response = ga.pixel_transfer(self.kx, self.ky)
        # Coordinates about pixel (0, 0) of the periodic stamp; y points up, rows down.
        self.px = torch.fft.fftfreq(p, 1 / p, device=device)[None]
        self.py = -torch.fft.fftfreq(p, 1 / p, device=device)[:, None]
        self.arm_colour = [ARM_COLOUR.get(b, 1.0) for b in survey.bands]
        sky, source = survey.pixel_noise()
        self.sky = torch.tensor(sky, device=device, dtype=torch.float32)[:, None, None]
        self.source = torch.tensor(source, device=device, dtype=torch.float32)[:, None, None]

    def __call__(self, g: Mapping[str, Tensor]) -> Tensor:
        """Noiseless images (n, B, S, S) of the galaxies with these parameters (n,), nJy per pixel."""
        images = [self.seen(band, b, g["seeing"]) for b, band in enumerate(self.bands(g))]
        return torch.stack(images, 1) * self.flux(g)[..., None, None]

    def flux(self, g: Mapping[str, Tensor]) -> Tensor:
        """All the light of each galaxy in each band (n, B), nJy."""
        return torch.stack([3631e9 * 10 ** (-0.4 * g[f"mag_{b}"]) for b in self.survey.bands], 1)

    def seen(self, light: Tensor, band: int, seeing: Tensor, shape: Tensor | None = None) -> Tensor:
        """Images (n, S, S) in one band of what has these transforms (n, P, P // 2 + 1), pixel included."""
        whole = torch.fft.irfft2(light * self.psf(band, seeing, shape), s=(self.side, self.side))
        inside = slice(self.margin, self.margin + self.size)
        return whole[..., inside, inside]

    def bands(self, g: Mapping[str, Tensor]) -> Iterator[Tensor]:
        """For each band the transforms (n, P, P // 2 + 1) of the galaxies at unit flux, pixel included."""
        bulge, disc = self._main_galaxy(g)
        share = 1 - g["companion"]
        rows = torch.nonzero(g["companion"] > 0)[:, 0]
        beside = self._companion({name: c[rows] for name, c in g.items()}) if len(rows) else None
        phase = self.place(g["x"], g["y"]) * self.pixel_response
        armed = torch.nonzero(g["arms"] > 0)[:, 0]
        if len(armed):
            arms = self._arms({name: c[armed] for name, c in g.items()}) * phase[armed]
        before = None
        for b, name in enumerate(self.survey.bands):
            fraction = g.get(f"bulge_fraction_{name}", g["bulge_fraction"])
            if fraction is not before:  # the same in all bands if bulge and disc have one colour
                before, outer = fraction, share * (1 - fraction)
                smooth = scaled(bulge, share * fraction) + scaled(disc, outer)
                painted = torch.complex(smooth, torch.zeros_like(smooth))
                if beside is not None:
                    painted[rows] += beside
                painted = painted * phase
                pattern = scaled(arms, outer[armed]) if len(armed) else None
            band = painted
            if pattern is not None:
                band = painted.clone()
                band[armed] += self.arm_colour[b] * pattern
            yield band

    def place(self, x: Tensor, y: Tensor) -> Tensor:
        """Transforms (n, P, P // 2 + 1) that move light from pixel (0, 0) to x, y (n,) from the middle, pixels."""
        centre = self.side / 2 - 0.5
        return self._phase(centre + x, centre - y)

    def observe(
        self, image: Tensor, generator: torch.Generator, resampled: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """Add the noise of the sky and of the source's own photons, white or as :func:`resampled_noise` has it."""
        variance = self.sky + self.source * image.clamp_min(0)
        if resampled is None:
            draw = torch.randn(image.shape, generator=generator, device=image.device)
        else:
            draw = resampled_noise(image, *resampled, generator)
        return torch.addcmul(image, draw, variance.sqrt_())

    def _phase(self, x: Tensor, y: Tensor) -> Tensor:
        """Transform of a shift by x columns and y rows, (n, P, P // 2 + 1)."""
        along = torch.polar(torch.ones_like(self.kx), -2 * math.pi * self.kx * x[:, None])
        down = torch.polar(torch.ones_like(self.ky.T), -2 * math.pi * self.ky.T * y[:, None])
        return down[:, :, None] * along[:, None, :]

    def psf(self, band: int, seeing: Tensor, shape: Tensor | None = None) -> Tensor:
        """Transforms (n, P, P // 2 + 1) of the PSF in a band, for factors (n,) on its width.

        ``shape`` (n, 3) are the share of a Moffat profile with a beta one less than the survey's in place of one
        more, and the ellipticity (a - b) / (a + b) along the row and along the diagonal.
        """
        fwhm = (self.survey.fwhm[band] / self.survey.pixel * seeing)[:, None, None]
        k, beta = self.k, self.survey.beta
        if shape is not None:
            wings, e1, e2 = shape.T[..., None, None]
            # Stretched by a symmetric matrix, the transform is drawn in by it; ky runs down.
            along, up = (1 + e1) * self.kx - e2 * self.ky, e2 * self.kx - (1 - e1) * self.ky
            k = torch.sqrt((along**2 + up**2) / (1 - e1**2 - e2**2))
        if not beta:
            return ga.gaussian_transfer(k, fwhm)
        if shape is None:
            return ga.moffat_transfer(k, fwhm, beta)
        return torch.lerp(ga.moffat_transfer(k, fwhm, beta + 1), ga.moffat_transfer(k, fwhm, beta - 1), wings)

    def axes(self, x: Tensor, y: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
        """Coordinates along the major and minor axis, for an angle in degrees (n,)."""
        turn = torch.deg2rad(angle)[:, None, None]
        c, s = torch.cos(turn), torch.sin(turn)
        return c * x + s * y, c * y - s * x

    def _main_galaxy(self, g: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Transforms of the bulge and of the disc with its bar (n, P, P // 2 + 1)."""
        major, minor = self.axes(self.kx, -self.ky, g["angle"])  # ky runs down
        radius = g["disc_radius"] / self.survey.pixel
        disc_minor = minor * g["disc_q"][:, None, None]
        k_disc = torch.hypot(major, disc_minor)
        disc = ga.exponential_transfer(k_disc, (radius / ga.EXPONENTIAL)[:, None, None])
        k_bulge = torch.hypot(major, minor * g["bulge_q"][:, None, None])
        bulge = ga.sersic_transfer(k_bulge, g["bulge_n"], g["bulge_radius"] / self.survey.pixel)
        rows = torch.nonzero(g["bar_strength"] > 0)[:, 0]
        if len(rows):
            along, across = self.axes(major[rows], disc_minor[rows], g["bar_angle"][rows])
            length = 0.55 * radius[rows][:, None, None]
            bar = torch.exp(-2 * (math.pi * length) ** 2 * (along**2 + (0.25 * across) ** 2))
            disc[rows] = torch.lerp(disc[rows], bar, g["bar_strength"][rows][:, None, None])
        return bulge, disc

    def _arms(self, g: Mapping[str, Tensor]) -> Tensor:
        """Transform of what spiral arms add to the disc."""
        radius = (g["disc_radius"] / self.survey.pixel)[:, None, None]
        major, minor = self.axes(self.px, self.py, g["angle"])
        minor = minor / g["disc_q"][:, None, None]
        r2 = (major**2 + minor**2).clamp_min_(1e-4) / radius**2
        m = g["arms"][:, None, None]
        turn = (g["winding"] / torch.tan(torch.deg2rad(g["pitch"])))[:, None, None]
        h = radius / ga.EXPONENTIAL
        disc = torch.exp(-ga.EXPONENTIAL * r2.sqrt()) / (2 * math.pi * h**2 * g["disc_q"][:, None, None])
        phase = torch.deg2rad(g["arm_phase"])[:, None, None]
        added = ga.spiral_arms(disc, major, minor, r2, arms=m, phase=phase, turn=turn)
        return torch.fft.rfft2(scaled(added, g["arm_strength"] * (1 - g["bar_strength"])))

    def _companion(self, g: Mapping[str, Tensor]) -> Tensor:
        """Transform of the second galaxy: rounder, smaller, at its place."""
        major, minor = self.axes(self.kx, -self.ky, g["angle"] + 60)
        k = torch.hypot(major, 0.7 * minor)
        radius = 0.45 * g["disc_radius"] / self.survey.pixel
        light = ga.sersic_transfer(k, 0.5 * (1 + g["bulge_n"]), radius)
        place = self._phase(g["companion_x"] / self.survey.pixel, -g["companion_y"] / self.survey.pixel)
        return scaled(light, g["companion"]) * place


def resampled_noise(like: Tensor, sigma: Tensor, stated: Tensor, generator: torch.Generator) -> Tensor:
    """Noise (n, B, S, S) that neighbouring pixels share, as in images that were resampled to a common grid.

    White noise under a kernel of three by three pixels, which is what drizzling and interpolation make of that of
    single exposures (Fruchter & Hook 2002, PASP 114, 144, section 7).

    Parameters
    ----------
    sigma : Tensor (n,)
        Of the kernel, a Gaussian, in pixels; 0 for white noise.
    stated : Tensor (n,)
        What is one: 0 the noise of the sum of many pixels, so that the scatter of a pixel is less; 1 the scatter
        of a pixel, as where a depth was stated from it, so that sums are noisier; powers between.

    Examples
    --------
    >>> one, seed = torch.ones(1), torch.Generator().manual_seed(0)
    >>> noise = resampled_noise(torch.zeros(1, 1, 400, 400), 0.6 * one, one, seed)[0, 0]
    >>> [round(float(v), 1) for v in (noise.std(), (noise[1:] * noise[:-1]).mean())]
    [1.0, 0.4]
    """
    n, bands, height, width = like.shape
    white = torch.randn(n, bands, height + 2, width + 2, generator=generator, device=like.device)
    beside = torch.exp(-0.5 / sigma.clamp_min(1e-3) ** 2)
    norm = (1 + 2 * beside**2) ** stated * (1 + 2 * beside) ** (2 * (1 - stated))
    beside = beside[:, None, None, None]
    rows = torch.addcmul(white[..., 1:-1, :], beside, white[..., :-2, :] + white[..., 2:, :])
    both = torch.addcmul(rows[..., 1:-1], beside, rows[..., :-2] + rows[..., 2:])
    return both / norm[:, None, None, None]


def scaled(planes: Tensor, factor: Tensor) -> Tensor:
    """Planes (n, ., .) times factors (n,)."""
    return planes * factor[:, None, None]
