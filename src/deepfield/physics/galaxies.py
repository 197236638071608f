"""Light of galaxies on the sky: Sersic profiles, point-spread functions, and their Fourier transforms.

Functions of torch tensors that broadcast, so that one call serves a batch; a plain number is a tensor too.
Radii, half-light radii, widths and frequencies may be in any unit of length (arcsec, pixels) and its inverse.
Transforms are those of profiles of unit flux, with the convention F(k) = integral f(x) exp(-2 pi i k x) dx. Hence
F(0) = 1, a convolution is a product, and a profile with axis ratio q along its own axes has
F(sqrt(k_major^2 + q^2 k_minor^2)) of the circular one.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

EXPONENTIAL = 1.6783469900166605
"""Half-light radius of an exponential disc over its scale length: b_1."""

_N_GRID = (0.5, 6.5, 241)
_POINTS, _STEP, _KEPT = 1024, 0.027, 200


def sersic_b(n: Tensor | float) -> Tensor:
    """b_n, with which half of a Sersic profile's flux lies within r_e: gamma(2n, b_n) = Gamma(2n) / 2.

    The expansion of Ciotti & Bertin (1999, A&A 352, 447, eq. 18). Its relative error is 4e-4 at n = 0.5, 3e-5 at 1
    and below 2e-6 from 2 on.

    Examples
    --------
    >>> round(float(sersic_b(4.0)), 3)
    7.669
    """
    x = torch.as_tensor(n)
    series = 4 / 405 + (46 / 25515 + (131 / 1148175 - 2194697 / 30690717750 / x) / x) / x
    return 2 * x - 1 / 3 + series / x


def sersic(r: Tensor | float, n: Tensor | float, r_e: Tensor | float) -> Tensor:
    """Surface brightness at radius r of a circular Sersic profile of unit flux, per unit of length squared.

    I(r) = b^(2n) / (2 pi n Gamma(2n) r_e^2) exp(-b (r / r_e)^(1/n)) (Sersic 1963; Graham & Driver 2005, PASA 22,
    118, eq. 1 and 4). For an ellipse of axis ratio q divide by q and let r be the elliptical radius along the
    major axis.

    Examples
    --------
    >>> round(float(sersic(1.0, 1.0, 1.0) / sersic(0.0, 1.0, 1.0)), 4)  # exp(-b_1)
    0.1867
    """
    n, r_e = torch.as_tensor(n), torch.as_tensor(r_e)
    b = sersic_b(n)
    log_norm = 2 * n * torch.log(b) - torch.lgamma(2 * n) - torch.log(2 * math.pi * n * r_e * r_e)
    return torch.exp(log_norm - b * (torch.as_tensor(r) / r_e) ** (1 / n))


@functools.cache
def _sersic_table() -> Tensor:
    """Transforms (n, log k) of Sersic profiles with r_e = 1 by the fast Hankel transform."""
    from scipy.fft import fht
    from scipy.special import gamma, gammaincinv

    log_r = (np.arange(_POINTS) - (_POINTS - 1) / 2) * _STEP
    r = np.exp(log_r)
    rows = []
    for n in np.linspace(*_N_GRID):
        b = gammaincinv(2 * n, 0.5)
        profile = b ** (2 * n) / (2 * np.pi * n * gamma(2 * n)) * np.exp(-b * r ** (1 / n))
        # fht gives the integral of a(r) J0(kr) k dr at k = 1 / r, reversed; here k = 2 pi times the frequency.
        rows.append(2 * np.pi * fht(r * profile, _STEP, 0.0) / r)
    # The transform is periodic in log r: its outer ends, 5 e-folds each, are wrong and not kept.
    table = np.clip(np.array(rows)[:, _KEPT:-_KEPT], 0.0, 1.0)
    table[:, 0] = 1.0
    return torch.from_numpy(table).float()


def sersic_transfer(k: Tensor, n: Tensor | float, r_e: Tensor | float) -> Tensor:
    """Fourier transform of a Sersic profile of unit flux at frequency k >= 0, for n from 0.5 to 6.5.

    Interpolated in a table; the absolute error is below 1e-3.

    Parameters
    ----------
    k : Tensor (B, ...)
        One index and one radius serve all frequencies of a row.
    n, r_e : Tensor (B,) or float

    Examples
    --------
    >>> k = torch.tensor([[0.0, 0.1]])
    >>> sersic_transfer(k, 1.0, EXPONENTIAL).round(decimals=3)  # (1 + (2 pi k)^2)^(-3/2)
    tensor([[1.0000, 0.6070]])
    """
    table = _sersic_table().to(k.device)
    low, high, count = _N_GRID
    index = torch.as_tensor(n, device=k.device).expand(len(k)).clamp(low, high)
    place = (index - low) * ((count - 1) / (high - low))
    row = place.long().clamp(max=count - 2)
    part = (place - row)[:, None].to(table)
    rows = torch.lerp(table[row], table[row + 1], part)
    scale = (2 * math.pi * torch.as_tensor(r_e, device=k.device)).expand(len(k)).reshape(-1, *[1] * (k.dim() - 1))
    at = torch.log((k * scale).clamp_min(1e-9)) * (1 / _STEP) + ((_POINTS - 1) / 2 - _KEPT)
    at = at.clamp(0, table.shape[1] - 1.001)
    cell = at.long()
    flat = cell.flatten(1)
    left, right = rows.gather(1, flat).view_as(k), rows.gather(1, flat + 1).view_as(k)
    return torch.lerp(left, right, at - cell)


def exponential_transfer(k: Tensor, h: Tensor | float) -> Tensor:
    """Transform of an exponential disc of scale length h: (1 + (2 pi k h)^2)^(-3/2).

    Freeman (1970, ApJ 160, 811); the Hankel transform of exp(-r / h).

    Examples
    --------
    >>> float(exponential_transfer(torch.tensor(0.0), 2.0))
    1.0
    """
    x = 1 + (2 * math.pi * k * h) ** 2
    return 1 / (x * x.sqrt())


def spiral_arms(
    light: Tensor,
    major: Tensor,
    minor: Tensor,
    r2: Tensor,
    *,
    arms: Tensor | float,
    phase: Tensor | float,
    turn: Tensor | float,
) -> Tensor:
    """What spiral arms of full strength add to a disc: nothing on average along any ring in its plane.

    Arms lie where arms (theta - phase) = arms turn ln r; across them the light follows a von Mises law, and
    towards the centre, where they would wind up for ever, they fade.

    Parameters
    ----------
    light : Tensor
        Of the disc.
    major, minor : Tensor
        Coordinates in its plane.
    r2 : Tensor
        Squared radius in units of its half-light radius.
    arms, phase, turn : Tensor or float
        Number; radians; winding (+1: outward along an arm the angle grows anticlockwise, -1) / tan(pitch).

    Examples
    --------
    >>> theta, ones = torch.arange(360) * math.pi / 180, torch.ones(360)
    >>> wave = spiral_arms(ones, theta.cos(), theta.sin(), ones, arms=2, phase=0.3, turn=1.5)
    >>> abs(float(wave.mean())) < 1e-6, float(wave.max()) > 1
    (True, True)
    """
    angle = torch.atan2(minor, major) - phase - turn * 0.5 * torch.log(r2)
    sharp = torch.tensor(1.5, device=r2.device)
    wave = torch.exp(sharp * (torch.cos(arms * angle) - 1)) / torch.special.i0e(sharp) - 1
    fade = r2 * r2 / (r2 * r2 + 0.03)
    return light * fade * wave


def gaussian_psf(r: Tensor | float, fwhm: Tensor | float) -> Tensor:
    """Gaussian point-spread function of unit flux.

    Examples
    --------
    >>> round(float(gaussian_psf(1.0, 2.0) / gaussian_psf(0.0, 2.0)), 6)
    0.5
    """
    sigma = torch.as_tensor(fwhm) / math.sqrt(8 * math.log(2))
    return torch.exp(-0.5 * (torch.as_tensor(r) / sigma) ** 2) / (2 * math.pi * sigma**2)


def gaussian_transfer(k: Tensor, fwhm: Tensor | float) -> Tensor:
    """Transform of :func:`gaussian_psf`: exp(-2 pi^2 sigma^2 k^2)."""
    sigma = torch.as_tensor(fwhm) / math.sqrt(8 * math.log(2))
    return torch.exp(-2 * (math.pi * sigma * k) ** 2)


def moffat_psf(r: Tensor | float, fwhm: Tensor | float, beta: float) -> Tensor:
    """Moffat point-spread function of unit flux: (beta - 1) / (pi a^2) (1 + r^2 / a^2)^(-beta).

    Moffat (1969, A&A 3, 455); a = fwhm / (2 sqrt(2^(1 / beta) - 1)).

    Examples
    --------
    >>> round(float(moffat_psf(1.0, 2.0, 2.5) / moffat_psf(0.0, 2.0, 2.5)), 6)
    0.5
    """
    alpha = torch.as_tensor(fwhm) / (2 * math.sqrt(2 ** (1 / beta) - 1))
    return (beta - 1) / (math.pi * alpha**2) * (1 + (torch.as_tensor(r) / alpha) ** 2) ** (-beta)


def moffat_transfer(k: Tensor, fwhm: Tensor | float, beta: float) -> Tensor:
    """Transform of :func:`moffat_psf`, u = 2 pi a k: 2 (u/2)^(beta-1) K_(beta-1)(u) / Gamma(beta - 1).

    Trujillo et al. (2001, MNRAS 328, 977). For beta of 2.5, 3.5, ... the Bessel function is elementary and the
    transform exp(-u) times a polynomial, (1 + u) exp(-u) for 2.5; other betas go through scipy, on the processor.

    Raises
    ------
    ValueError
        If beta is not above one, where the flux would be infinite.

    Examples
    --------
    >>> round(float(moffat_transfer(torch.tensor(0.0), 1.3, 3.5)), 6)
    1.0
    """
    if not beta > 1:
        raise ValueError(f"a Moffat profile of finite flux has beta above 1, not {beta}")
    alpha = torch.as_tensor(fwhm) / (2 * math.sqrt(2 ** (1 / beta) - 1))
    u = 2 * math.pi * alpha * k
    order = beta - 1.5
    if order == int(order) and 0 <= order <= 8:
        return _reverse_bessel(u, int(order)) * torch.exp(-u)
    from scipy.special import gamma, kv

    x = u.detach().cpu().double().clamp_min(1e-9).numpy()
    return torch.as_tensor(2 * (x / 2) ** (beta - 1) * kv(beta - 1, x) / gamma(beta - 1)).to(u)


def _reverse_bessel(u: Tensor, m: int) -> Tensor:
    """The reverse Bessel polynomial of order m over its value at zero, by Horner's rule."""
    f = math.factorial
    lead = [f(2 * m - j) / (f(j) * f(m - j) * 2 ** (m - j)) for j in range(m + 1)]
    result = torch.full_like(u, lead[m] / lead[0])
    for j in range(m - 1, -1, -1):
        result = result * u + lead[j] / lead[0]
    return result


def pixel_transfer(kx: Tensor, ky: Tensor) -> Tensor:
    """Transform of the square pixel of unit side, frequencies in cycles per pixel: sinc(kx) sinc(ky)."""
    return torch.sinc(kx) * torch.sinc(ky)


def convolve(image: Tensor, transfer: Tensor) -> Tensor:
    """Convolve images (..., H, W) with a kernel given by its transform (..., H, W // 2 + 1).

    Frequencies are those of ``torch.fft.fftfreq`` and ``rfftfreq`` in cycles per pixel. The image is periodic:
    what leaves on one side enters on the other, so give it a margin as wide as the kernel.

    Examples
    --------
    >>> convolve(torch.ones(1, 8, 8), torch.ones(8, 5)).sum()
    tensor(64.)
    """
    return torch.fft.irfft2(torch.fft.rfft2(image) * transfer, s=image.shape[-2:])
