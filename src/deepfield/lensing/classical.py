"""The methods to beat: a filter for arcs beside a smooth galaxy, and the best fit of a lens by Gauss and Newton.

The filter subtracts from each band the galaxy in the middle, as ellipses whose brightness depends on their radius
alone, and looks for what is left in a ring around it, as arc finders do (Alard 2006, arXiv:astro-ph/0606757;
Gavazzi et al. 2014, ApJ 785, 144, whose RingFinder looks for blue residuals).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from deepfield.core.augment import blurred
from deepfield.core.errors import DeepfieldError
from deepfield.lensing.lens import Lens, sheet, sie
from deepfield.lensing.light import Sersic
from deepfield.lensing.parameters import decode
from deepfield.lensing.render import pixel_grid, render

Array = NDArray[np.float64]
_RINGS = 24  # radii at which the galaxy's profile is measured


def sky_noise(images: Tensor) -> Tensor:
    """Standard deviation of the sky (N, B) of images (N, B, S, S), from the lower quartile of differences."""
    step = (images[..., 2:] - images[..., :-2]).flatten(2).abs()
    return step.quantile(0.25, dim=2) / (0.31864 * math.sqrt(2))


def ellipse(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Centre x, y (pixels from the middle, y up), axis ratio and angle (radians) (N,) of galaxies (N, S, S).

    Second moments of the light under a round Gaussian of a tenth of the side that is moved to where the light is:
    what arcs and neighbours hardly reach.
    """
    width = 0.1 * image.shape[-1]
    x, y = pixel_grid(image.shape[-1], 1.0, like=image)
    light = image.clamp_min(0)
    cx = cy = torch.zeros(len(image)).to(image)
    for _ in range(4):
        dx, dy = x - cx[:, None, None], y - cy[:, None, None]
        weight = torch.exp(-0.5 * (dx**2 + dy**2) / width**2) * light
        total = weight.sum((1, 2)).clamp_min(1e-12)
        gap = [(weight * d).sum((1, 2)) / total for d in (dx, dy)]
        xx, yy, xy = ((weight * d).sum((1, 2)) / total for d in (dx * dx, dy * dy, dx * dy))
        cx, cy = ((c + 2 * g).clamp(-0.25 * len(x[0]), 0.25 * len(x[0])) for c, g in zip((cx, cy), gap))
    xx, yy, xy = xx - gap[0] ** 2, yy - gap[1] ** 2, xy - gap[0] * gap[1]
    # The Gaussian rounds the moments: its own inverse is taken off the inverse of theirs.
    det = (xx * yy - xy**2).clamp_min(1e-12)
    a, b, c = yy / det, xx / det, -xy / det
    own = 1 / width**2
    a, b = (a - own).clamp_min(1e-4), (b - own).clamp_min(1e-4)
    spread = torch.hypot(0.5 * (a - b), c)
    ratio = ((0.5 * (a + b) - spread).clamp_min(1e-5) / (0.5 * (a + b) + spread)).sqrt()
    return cx, cy, ratio.clamp(0.3, 1.0), 0.5 * torch.atan2(-2 * c, b - a)


def subtract(images: Tensor) -> Tensor:
    """Images (N, B, S, S) without the galaxy in their middle, as far as it is smooth and elliptical.

    Its shape is that of the last, reddest band; its profile in each band the median along ellipses.

    Examples
    --------
    >>> light = Sersic(1.0, torch.tensor([0.8]), n=2.0, q=0.7, phi=0.5)
    >>> image = render(Lens(sie(1e-6, 1.0, 0.0)), [], [light], pixel=0.2, size=48, supersample=4)[:, None]
    >>> left = subtract(image)
    >>> bool(left.abs().sum() < 0.1 * image.sum())
    True
    """
    cx, cy, q, phi = ellipse(images[:, -1])
    x, y = pixel_grid(images.shape[-1], 1.0, like=images)
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    c, s = phi.cos()[:, None, None], phi.sin()[:, None, None]
    q = q[:, None, None]
    radius = torch.sqrt(q * (c * dx + s * dy) ** 2 + (c * dy - s * dx) ** 2 / q).flatten(1)
    edges = torch.linspace(0, 1, _RINGS + 1, dtype=images.dtype) ** 1.5 * (0.5 * images.shape[-1])
    ring = torch.bucketize(radius, edges[1:])
    flat = images.flatten(2)
    middle, profile = [], []
    for k in range(_RINGS):
        inside = ring == k
        value = torch.where(inside[:, None], flat, torch.nan).nanmedian(2).values
        middle.append(torch.where(inside, radius, torch.nan).nanmean(1))
        profile.append(value)
    at, level = torch.stack(middle, 1), torch.stack(profile, 2)
    at = torch.where(torch.isnan(at), 0.5 * (edges[1:] + edges[:-1]), at)
    level = level.nan_to_num(0.0)
    smooth = torch.stack([_between(radius, at, level[:, b]) for b in range(images.shape[1])], 1)
    return images - smooth.view_as(images)


def _between(radius: Tensor, at: Tensor, level: Tensor) -> Tensor:
    """Profiles (N, R) at radii ``at``, linear between them, at each pixel's radius (N, P)."""
    high = torch.searchsorted(at.contiguous(), radius.contiguous()).clamp(1, at.shape[1] - 1)
    x0, x1 = at.gather(1, high - 1), at.gather(1, high)
    y0, y1 = level.gather(1, high - 1), level.gather(1, high)
    share = ((radius - x0) / (x1 - x0).clamp_min(1e-9)).clamp(0, 1)
    return y0 + share * (y1 - y0)


def arc_score(images: Tensor, *, inner: float = 2.0, outer: float = 0.35) -> Array:
    """How much blue light is left in a ring around the galaxy (N,), in units of its noise: higher for lenses.

    Parameters
    ----------
    images : Tensor (N, B, S, S)
        Fluxes, from blue to red.
    inner, outer : float
        Of the ring: in pixels, and as a share of the side.

    Notes
    -----
    The bluest band's residual less the reddest's, scaled to the colour of the galaxy that was subtracted, smoothed
    over a pixel; of one band the residual itself. What lies above two sigma counts.
    """
    left = subtract(images)
    noise = sky_noise(images)
    blue = left[:, 0]
    variance = noise[:, 0] ** 2
    if images.shape[1] > 1:
        bright = images[:, -1].amax((1, 2), keepdim=True) * 0.3
        core = images[:, -1] > bright
        colour = (images[:, 0] * core).sum((1, 2)) / (images[:, -1] * core).sum((1, 2)).clamp_min(1e-12)
        colour = colour.clamp(0, 3)
        blue = blue - colour[:, None, None] * left[:, -1]
        variance = variance + (colour * noise[:, -1]) ** 2
    signal = blurred(blue[:, None], torch.ones(len(blue)))[:, 0]
    # A Gaussian of one pixel keeps 1 / (4 pi) of the variance of white noise.
    significance = signal / (variance / (4 * math.pi)).sqrt().clamp_min(1e-12)[:, None, None]
    x, y = pixel_grid(images.shape[-1], 1.0, like=images)
    radius = torch.hypot(x, y)
    ring = (radius > inner) & (radius < outer * images.shape[-1])
    excess = F.relu(significance - 2) * ring
    return excess.sum((1, 2)).sqrt().double().numpy()


_N = 18


@dataclass(frozen=True)
class Fitted:
    """The likeliest lens of one image, and its Hessian.

    Attributes
    ----------
    values : dict
        As in :data:`deepfield.lensing.parameters.UNITS`.
    theta_e_error : float
        Of the Einstein radius (arcsec), from the inverse of the Gauss-Newton Hessian.
    covariance : Tensor (18, 18)
        Of the internal parameters, log theta_E the first.
    chi2 : float
        Per pixel.
    steps : int
    """

    values: dict[str, float]
    theta_e_error: float
    covariance: Tensor
    chi2: float
    steps: int


def _scene(p: Tensor, pixel: float, size: int, psf: Tensor | None) -> Tensor:
    """Images (n, P) of internal parameters (n, 18)."""
    v = p.T
    e = [torch.hypot(v[k], v[k + 1] + 1e-9).clamp_max(0.9) for k in (1, 11, 16)]
    q, phi = [(1 - f) / (1 + f) for f in e], [0.5 * torch.atan2(v[k + 1] + 1e-9, v[k]) for k in (1, 11, 16)]
    mass = sie(v[0].exp(), q[0], phi[0], x=v[7], y=v[8])
    lens = Lens(mass, sheet(gamma1=v[3], gamma2=v[4]))
    light = Sersic(v[9].exp(), v[10].exp(), n=v[13].clamp(-0.6, 1.9).exp(), q=q[1], phi=phi[1], x=v[7], y=v[8])
    source = Sersic(v[14].exp(), v[15].exp(), n=1.0, q=q[2], phi=phi[2], x=v[7] + v[5], y=v[8] + v[6])
    return render(lens, [source], [light], pixel=pixel, size=size, psf=psf, like=p).flatten(1)


def fit_lens(
    image: Tensor, start: Tensor, *, pixel: float, noise: float, gain: float = math.inf, psf: Tensor | None = None,
    steps: int = 60,
) -> Fitted:  # fmt: skip
    """The likeliest isothermal ellipsoid with shear, Sersic lens and exponential source of one band's image.

    Levenberg and Marquardt's method (Press et al. 2007, section 15.5), with derivatives by autodiff through the
    renderer. It finds the minimum that its start belongs to.

    Parameters
    ----------
    image : Tensor (S, S)
    start : Tensor (7,)
        Coordinates as :func:`deepfield.lensing.parameters.encode` gives them: a measurer's answer, or a guess.
    pixel, noise : float
        Arcsec; standard deviation of the sky in a pixel.
    gain : float
        Photons per unit of flux.
    psf : Tensor, optional
        At the pixel's scale.

    Raises
    ------
    DeepfieldError
        If the image is not square and finite, or the noise is not positive.
    """
    if image.dim() != 2 or image.shape[0] != image.shape[1] or not bool(torch.isfinite(image).all()):
        raise DeepfieldError(f"an image (S, S) of numbers is needed, not of shape {tuple(image.shape)}")
    if not noise > 0 or tuple(start.shape) != (7,):
        raise DeepfieldError(
            f"noise is positive and start has 7 coordinates, got {noise} and {tuple(start.shape)}"
        )
    size = image.shape[0]
    data = image.double()
    weight = (noise**2 + data.clamp_min(0) / gain).rsqrt().flatten()
    p = _guess(data, start.double(), pixel)

    def residual(v: Tensor) -> Tensor:
        return (_scene(v, pixel, size, psf) - data.flatten()) * weight

    p = _fluxes(p, lambda v: _scene(v, pixel, size, psf) * weight, data.flatten() * weight)
    # The light first, with the lens held where it begins; then all. A weak pull keeps what the image is silent of.
    for stiffness, most in ((1e6, steps // 3), (1e-4, steps)):
        pull = torch.full((_N,), 1e-4, dtype=torch.float64)
        pull[:7] = stiffness
        p, r, hessian, done = _descend(residual, p, pull, most)
    covariance = torch.linalg.inv(hessian)
    values = {name: float(v) for name, v in decode(p[:7]).items()}
    error = math.sqrt(max(float(covariance[0, 0]), 0.0)) * values["theta_e"]
    return Fitted(values, error, covariance, float(r @ r) / len(r), done)


def _descend(
    residual: Callable[[Tensor], Tensor], begun: Tensor, pull: Tensor, steps: int
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Where Levenberg's and Marquardt's steps lead: parameters, residuals, Hessian, steps."""
    eye, damping, p = torch.eye(_N, dtype=torch.float64), 1e-2, begun.clone()
    r = residual(p[None])[0]

    def cost(v: Tensor, rest: Tensor) -> float:
        return float(rest @ rest + (pull * (v - begun) ** 2).sum())

    hessian, done = torch.diag(pull), 0
    while done < steps:
        done += 1
        # A batch of the same lens, each moved along a parameter of its own: all derivatives at once.
        jacobian = torch.func.jvp(residual, (p.repeat(_N, 1),), (eye,))[1].T
        hessian = jacobian.T @ jacobian + torch.diag(pull)
        slope = jacobian.T @ r + pull * (p - begun)
        gained = 0.0
        for _ in range(8):
            scale = torch.diag(hessian.diagonal() + 1e-9)
            move = torch.linalg.solve(hessian + damping * scale, -slope).clamp(-0.3, 0.3)
            new = residual((p + move)[None])[0]
            if bool(torch.isfinite(new).all()) and cost(p + move, new) < cost(p, r):
                gained = cost(p, r) - cost(p + move, new)
                p, r, damping = p + move, new, max(damping / 5, 1e-9)
                break
            damping *= 4
        if gained < 1e-3:
            break
    return p, r, hessian, done


def _fluxes(p: Tensor, paint: Callable[[Tensor], Tensor], data: Tensor) -> Tensor:
    """The parameters with the fluxes of lens and source that suit the image best: it is linear in them."""
    alone = [p.clone(), p.clone()]
    alone[0][14], alone[1][9] = -50.0, -50.0
    both = paint(torch.stack(alone)).T
    share = torch.linalg.lstsq(both, data[:, None]).solution[:, 0].clamp_min(1e-2)
    found = p.clone()
    found[9], found[14] = p[9] + share[0].log(), p[14] + share[1].log()
    return found


def _guess(data: Tensor, start: Tensor, pixel: float) -> Tensor:
    """All internal parameters: those given, and light as a look at the image suggests."""
    cx, cy, q, phi = (v[0] * (pixel if k < 2 else 1) for k, v in enumerate(ellipse(data[None])))
    e = (1 - q) / (1 + q)
    flux = data.sum().clamp_min(1e-6)
    rest = [
        cx, cy, torch.log(0.8 * flux), torch.tensor(math.log(0.8)), e * torch.cos(2 * phi), e * torch.sin(2 * phi),
        torch.tensor(math.log(3.5)), torch.log(0.05 * flux), torch.tensor(math.log(0.2)), torch.tensor(0.01),
        torch.tensor(0.01),
    ]  # fmt: skip
    return torch.cat([start, torch.stack([v.double() for v in rest])])
