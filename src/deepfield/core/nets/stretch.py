"""The first layer of every model of images: raw pixels to numbers of order one, with what is known of the camera.

It is part of the net, so that it is saved and exported with it: whoever predicts gives raw pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepfield.core.errors import DeepfieldError

KINDS = ("linear", "asinh")


def lupton(flux: Tensor, softening: Tensor | float) -> Tensor:
    """Compress the brightness of images (..., B, H, W) by an arcsinh and keep their colours.

    Each band is multiplied by asinh(I / s) s / I of the mean intensity I of the bands (Lupton et al. 2004, PASP
    116, 133, eq. 1 and 2 with their Q and alpha in the softening s): linear below s, logarithmic above, and the
    ratio of two bands stays what it was.

    Examples
    --------
    >>> x = torch.tensor([3e3, 1e3]).reshape(2, 1, 1)
    >>> y = lupton(x, 1.0)
    >>> round(float(y[0] / y[1]), 4), round(float(y.mean()), 3)
    (3.0, 8.294)
    """
    t = flux.mean(-3, keepdim=True) / softening
    near = t.abs() < 1e-2
    safe = torch.where(near, 1.0, t)
    return flux * torch.where(near, 1 - t * t / 6, torch.asinh(safe) / safe)


class Stretch(nn.Module):
    """Raw pixels (N, B, H, W), bytes or fluxes, to standardised ones in float32.

    "linear" suits pictures, which have been stretched already; "asinh" is for fluxes: each band in units of its
    sky noise, then :func:`lupton`. The scales are learnt from training images by :meth:`fit`.

    Parameters
    ----------
    bands : int
    kind : str
        "linear" or "asinh".
    softening : float
        Of the arcsinh, in units of the sky noise.

    Attributes
    ----------
    pixel_scale, psf_fwhm : Tensor (), (B,)
        Arcsec, of the training images; 0 where not known.

    Raises
    ------
    DeepfieldError
        If the kind is unknown.

    Examples
    --------
    >>> images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    >>> y = Stretch(3).fit(images)(images)
    >>> bool(y.mean().abs() < 1e-3), bool((y.std() - 1).abs() < 1e-2)
    (True, True)
    """

    unit: Tensor
    shift: Tensor
    scale: Tensor
    pixel_scale: Tensor
    psf_fwhm: Tensor

    def __init__(self, bands: int, kind: str = "linear", *, softening: float = 3.0) -> None:
        super().__init__()
        if kind not in KINDS or not softening > 0:
            raise DeepfieldError(f"a stretch is {' or '.join(KINDS)} with a positive softening, not '{kind}'")
        self.bands, self.kind, self.softening = bands, kind, softening
        for name, start in {"unit": 1.0, "shift": 0.0, "scale": 1.0}.items():
            self.register_buffer(name, torch.full((bands, 1, 1), start))
        self.register_buffer("pixel_scale", torch.tensor(0.0))
        self.register_buffer("psf_fwhm", torch.zeros(bands))

    @torch.no_grad()
    def fit(self, images: Tensor, *, pixel_scale: float = 0.0, psf_fwhm: Sequence[float] = ()) -> Stretch:
        """Learn the scales from training images (N, B, H, W); some hundred are enough.

        Raises
        ------
        DeepfieldError
            If no pixel is finite, the bands are not those of the stretch, or a band has no signal.
        """
        if images.dim() != 4 or images.shape[1] != self.bands:
            raise DeepfieldError(f"images of shape (N, {self.bands}, H, W) expected, got {tuple(images.shape)}")
        self.tell(pixel_scale=pixel_scale, psf_fwhm=psf_fwhm)
        x = images.float()
        x = x[torch.isfinite(x).flatten(1).all(1)]
        if not len(x):
            raise DeepfieldError("no image has finite pixels alone: there is nothing to learn the stretch from")
        self.unit.fill_(1.0)
        if self.kind == "asinh":
            self.unit.copy_(1 / sky_noise(x)[:, None, None])
        y = self._stretched(x)
        deviation = y.std((0, 2, 3), keepdim=True)[0]
        if bool((deviation <= 0).any()):
            raise DeepfieldError("a band is the same everywhere: it has no signal")
        self.shift.copy_(y.mean((0, 2, 3), keepdim=True)[0])
        self.scale.copy_(deviation)
        return self

    @torch.no_grad()
    def tell(self, *, pixel_scale: float = 0.0, psf_fwhm: Sequence[float] = ()) -> None:
        """Set what is known of the camera of the training images, arcsec; 0 and empty where nothing is.

        Raises
        ------
        DeepfieldError
            If PSFs are given, but not one for each band.

        Examples
        --------
        >>> s = Stretch(2)
        >>> s.tell(pixel_scale=0.4, psf_fwhm=(1.5, 1.25))
        >>> s.psf_fwhm.tolist()
        [1.5, 1.25]
        """
        if len(psf_fwhm) not in (0, self.bands):
            raise DeepfieldError(f"one PSF for each of {self.bands} bands expected, got {len(psf_fwhm)}")
        self.pixel_scale.fill_(pixel_scale)
        self.psf_fwhm.copy_(torch.tensor(psf_fwhm or [0.0] * self.bands))

    def _stretched(self, x: Tensor) -> Tensor:
        x = x * self.unit
        return lupton(x, self.softening) if self.kind == "asinh" else x

    def forward(self, x: Tensor) -> Tensor:
        return (self._stretched(x.to(self.scale.dtype)) - self.shift) / self.scale

    def check(
        self, bands: Sequence[str], pixel_scale: float, psf_fwhm: Sequence[float] = (), *, tolerance: float = 0.1
    ) -> str:
        """Say what speaks against using images of other bands, scale or seeing, or "" if nothing does.

        Seeing may differ by three times the tolerance: it varies from night to night.

        Examples
        --------
        >>> s = Stretch(1)
        >>> _ = s.pixel_scale.fill_(0.4)
        >>> s.check(["r"], 0.2)
        'the images have 0.2 arcsec a pixel, those the model learnt from 0.4'
        """
        if len(bands) != self.bands:
            return f"the images have {len(bands)} bands, those the model learnt from {self.bands}"
        known = float(self.pixel_scale)
        if known and pixel_scale and abs(pixel_scale / known - 1) > tolerance:
            return f"the images have {pixel_scale:g} arcsec a pixel, those the model learnt from {known:g}"
        for band, fwhm, own in zip(bands, psf_fwhm, self.psf_fwhm.tolist()):
            if own and abs(fwhm / own - 1) > 3 * tolerance:
                return f"the PSF in {band} is {fwhm:g} arcsec wide, that the model learnt with {own:g}"
        return ""


def sky_noise(x: Tensor) -> Tensor:
    """Standard deviation of the sky in each band (B,) of images (N, B, H, W), by differences of pixels two apart.

    Galaxies are smooth over two pixels, and the lower quartile looks past them even where they fill half of the
    image; next neighbours may share their noise.

    Raises
    ------
    DeepfieldError
        If a band has none.

    Examples
    --------
    >>> noise = sky_noise(3 * torch.randn(4, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    >>> round(float(noise), 1)
    3.0
    """
    step = (x[..., 2:] - x[..., :-2]).movedim(1, 0).flatten(1).abs()
    step = step[:, :: max(1, step.shape[1] // 1_000_000)]
    noise = torch.quantile(step, 0.25, dim=1) / (0.31864 * math.sqrt(2))  # a Gaussian's quartile of |x|
    if bool((noise <= 0).any()):
        raise DeepfieldError("a band has no noise in its sky: these are no fluxes, take the linear stretch")
    return noise
