import math

import numpy as np
import pytest
import torch
from astropy.modeling.functional_models import Sersic2D
from scipy.special import gammaincinv

from deepfield.physics import galaxies as ga

# Pixels (row, column) of stamps of 64 by 64 drawn with galsim 2.8.5 (drawImage, one arcsec a pixel, GSParams with
# folding_threshold and maxk_threshold of 1e-4): Sersic(n, half_light_radius=r_e sqrt(q)).shear(q=q, beta=angle)
# convolved with Gaussian(fwhm) or Moffat(beta, fwhm) and the pixel.
PIXELS = [(31, 31), (32, 32), (31, 36), (36, 31), (40, 28), (28, 40), (25, 25), (45, 45), (10, 50)]
GALSIM = {
    (1.0, 6.0, 0.5, 30.0, "gaussian", 3.5): [
        0.0118416, 0.0118416, 0.00449641, 0.00301678, 0.00021074,
        0.000420426, 0.00153739, 7.85534e-05, 6.92446e-09,
    ],
    (4.0, 4.0, 0.8, -20.0, "moffat", 3.0, 2.5): [
        0.0173513, 0.0173513, 0.00335677, 0.00286646, 0.000545112,
        0.000687973, 0.000490594, 5.74014e-05, 2.34559e-05,
    ],
    (2.0, 5.0, 0.3, 75.0, "moffat", 2.5, 3.5): [
        0.0229375, 0.0229375, 0.00135376, 0.00534356, 0.000332143,
        6.53541e-05, 0.000524404, 2.1837e-05, 1.66923e-07,
    ],
    (0.5, 7.0, 0.6, 0.0, "gaussian", 2.5): [
        0.00696465, 0.00696465, 0.00529784, 0.0033982, 0.000446327,
        0.00169132, 0.00086885, 8.38689e-07, -2.92798e-09,
    ],
}  # fmt: skip


def stamp(n, r_e, q, angle, kind, fwhm, beta=None, side=256, size=64):
    ky, kx = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    profile = ga.sersic_transfer(torch.hypot(c * kx + s * ky, q * (c * ky - s * kx))[None], n, r_e)[0]
    k = torch.hypot(kx, ky)
    psf = ga.gaussian_transfer(k, fwhm) if kind == "gaussian" else ga.moffat_transfer(k, fwhm, beta)
    shift = torch.exp(-2j * math.pi * (kx + ky) * (side / 2 - 0.5))
    image = torch.fft.irfft2(profile * psf * ga.pixel_transfer(kx, ky) * shift, s=(side, side))
    edge = (side - size) // 2
    return image[edge : edge + size, edge : edge + size]


@pytest.mark.parametrize("case", list(GALSIM))
def test_profiles_through_a_psf_agree_with_galsim(case):
    image = stamp(*case)
    found = np.array([float(image[p]) for p in PIXELS])
    assert np.abs(found - GALSIM[case]).max() < 4e-4 * float(image.max())


@pytest.mark.parametrize("n", [0.5, 1.0, 2.5, 4.0, 6.0])
def test_half_of_the_light_is_within_the_half_light_radius(n):
    exact = gammaincinv(2 * n, 0.5)
    assert float(ga.sersic_b(n)) == pytest.approx(exact, rel=4e-4 if n < 1 else 4e-5 if n < 2 else 2e-6)
    u = torch.linspace(-20, 12, 400_001, dtype=torch.float64)  # u = n log(r / r_e) resolves cusp and wings
    r = 3.0 * torch.exp(u)
    light = 2 * math.pi * r * r * ga.sersic(r, torch.tensor(n, dtype=torch.float64), 3.0)
    total = torch.trapezoid(light, u)
    within = torch.trapezoid(light[r <= 3.0], u[r <= 3.0])
    assert float(total) == pytest.approx(1.0, abs=2e-4)
    assert float(within / total) == pytest.approx(0.5, abs=2e-4)


def test_sersic_profile_agrees_with_astropy():
    r = np.linspace(0.1, 20, 50)
    for n in (1.0, 2.2, 4.0):
        own = ga.sersic(torch.tensor(r), torch.tensor(n, dtype=torch.float64), 4.0).numpy()
        at_radius = float(ga.sersic(4.0, torch.tensor(n, dtype=torch.float64), 4.0))
        theirs = Sersic2D(amplitude=at_radius, r_eff=4.0, n=n)(r, 0 * r)
        assert np.allclose(own, theirs, rtol=2e-4 if n < 2 else 2e-5)


def test_transforms_have_their_closed_forms():
    k = torch.linspace(0, 2, 300)[None]
    exponential = ga.exponential_transfer(k, 1.0)
    assert torch.allclose(exponential, (1 + (2 * math.pi * k) ** 2) ** -1.5, atol=1e-6)
    assert torch.allclose(ga.sersic_transfer(k, 1.0, ga.EXPONENTIAL), exponential, atol=2e-4)
    # A Sersic profile of index one half is a Gaussian whose half-light radius is half its full width.
    assert torch.allclose(ga.sersic_transfer(k, 0.5, 1.0), ga.gaussian_transfer(k, 2.0), atol=2e-4)
    assert bool((ga.sersic_transfer(torch.zeros(1, 3), 4.0, 2.0) == 1).all())


@pytest.mark.parametrize("n", [0.77, 1.83, 3.96, 5.51])
def test_sersic_transform_against_direct_integration(n):
    from scipy.integrate import quad
    from scipy.special import gamma, j0

    b = gammaincinv(2 * n, 0.5)
    for k in (0.02, 0.1, 0.4):
        light = lambda t: t ** (2 * n - 1) * np.exp(-t) * j0(2 * np.pi * k * (t / b) ** n)  # noqa: B023, E731
        truth = quad(light, 0, 60, limit=4000)[0] / gamma(2 * n)
        assert float(ga.sersic_transfer(torch.tensor([[k]]), n, 1.0)) == pytest.approx(truth, abs=1e-3)


@pytest.mark.parametrize("beta", [2.0, 2.5, 3.5, 4.5, 4.765])
def test_moffat_transform_is_that_of_the_profile(beta):
    side = 512
    x = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    fwhm = torch.tensor(9.0, dtype=torch.float64)
    image = ga.moffat_psf(torch.hypot(x[:, None], x[None]), fwhm, beta)
    k = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]).double()
    lost = 1 - float(image.sum())  # the wings outside the stamp
    assert 0 <= lost < 0.01
    far = k > 4 / side
    difference = (torch.fft.rfft2(image).real - ga.moffat_transfer(k, fwhm, beta)).abs()
    assert float(difference[far].max()) < 1e-3 + 0.1 * lost
    assert float(ga.moffat_psf(4.5, 9.0, beta) / ga.moffat_psf(0.0, 9.0, beta)) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="has beta above 1, not"):
        ga.moffat_transfer(k, 1.0, 1.0)


def test_convolution_with_a_gaussian_adds_variances():
    side = 96
    x = torch.fft.fftfreq(side, 1 / side, dtype=torch.float64)
    r = torch.hypot(x[:, None], x[None])
    k = torch.hypot(torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)[None]).double()
    found = ga.convolve(ga.gaussian_psf(r, 6.0), ga.gaussian_transfer(k, 8.0))
    assert torch.allclose(found, ga.gaussian_psf(r, 10.0).double(), atol=1e-7)
