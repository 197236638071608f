import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets.stretch import Stretch, lupton
from deepfield.core.store import restore
from deepfield.morphology.simulate import simulate


def test_lupton_keeps_colours_and_is_linear_below_its_softening():
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 1e4
    y = lupton(x, 2.0)
    assert torch.allclose(y[:, 0] / y[:, 2], x[:, 0] / x[:, 2])
    assert torch.allclose(y.mean(1), 2.0 * torch.asinh(x.mean(1) / 2.0))
    faint = 1e-4 * x / 1e4
    assert torch.allclose(lupton(faint, 2.0), faint, rtol=1e-6)


def test_lupton_is_smooth_and_odd_where_there_is_no_light():
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64).reshape(-1, 1, 1, 1).requires_grad_()
    y = lupton(x, 1.0)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert torch.allclose(y, torch.asinh(x), atol=1e-9)
    assert torch.allclose(slope, 1 / torch.sqrt(1 + x * x), atol=1e-4)
    assert bool((lupton(torch.zeros(1, 3, 2, 2), 1.0) == 0).all())


def test_fluxes_are_scaled_by_their_own_sky():
    s = simulate(60, seed=1)
    stretch = Stretch(3, "asinh").fit(s.images, pixel_scale=s.survey.pixel, psf_fwhm=s.survey.fwhm)
    sky = np.sqrt(s.survey.pixel_noise()[0])
    assert np.allclose(1 / stretch.unit[:, 0, 0].numpy(), sky, rtol=0.3)  # spiral arms and photons count too
    y = stretch(s.images)
    assert (
        y.shape == s.images.shape and abs(float(y.mean())) < 1e-3 and float(y.std()) == pytest.approx(1, abs=0.01)
    )
    assert float(y.abs().max()) < 100 < float(s.images.max() / sky[1])
    # Another unit of flux is another sky noise, and nothing else.
    other = Stretch(3, "asinh").fit(s.images * 1e-9)
    assert torch.allclose(other(s.images * 1e-9), y, atol=1e-3)


def test_bytes_are_standardised_band_by_band():
    x = torch.randint(0, 256, (16, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    x[:, 1] //= 4
    y = Stretch(3).fit(x)(x)
    assert y.dtype == torch.float32
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)
    assert torch.allclose(y.std((0, 2, 3)), torch.ones(3), atol=1e-3)


def test_broken_images_do_not_spoil_the_fit_and_stay_broken():
    x = torch.randn(20, 2, 8, 8, generator=torch.Generator().manual_seed(2))
    broken = x.clone()
    broken[3, 0, 0, 0] = math.nan
    whole, rest = Stretch(2).fit(torch.cat([x[:3], x[4:]])), Stretch(2).fit(broken)
    assert torch.equal(whole.scale, rest.scale)
    assert bool(rest(broken)[3].isnan().any()) and not bool(rest(broken)[4].isnan().any())


def test_the_camera_is_saved_with_the_model():
    a = Stretch(2, "asinh").fit(torch.randn(9, 2, 16, 16), pixel_scale=0.396, psf_fwhm=(1.4, 1.3))
    b = Stretch(2, "asinh")
    restore(b, a.state_dict())
    assert float(b.pixel_scale) == pytest.approx(0.396) and b.psf_fwhm.tolist() == pytest.approx([1.4, 1.3])
    assert b.check(("g", "r"), 0.4) == "" and b.check(("g", "r"), 0.0) == ""
    assert "0.2 arcsec a pixel, those the model learnt from 0.396" in b.check(("g", "r"), 0.2)
    assert b.check(("g", "r"), 0.4, (1.7, 1.1)) == ""
    assert b.check(("g", "r"), 0.4, (1.4, 2.0)) == "the PSF in r is 2 arcsec wide, that the model learnt with 1.3"
    assert "have 3 bands" in b.check(("g", "r", "i"), 0.396)


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (torch.zeros(4, 3, 8, 8), {}, r"images of shape \(N, 2, H, W\) expected"),
        (torch.full((4, 2, 8, 8), math.nan), {}, "no image has finite pixels alone"),
        (torch.zeros(4, 2, 8, 8), {}, "the same everywhere"),
        (torch.randn(4, 2, 8, 8), {"psf_fwhm": (1.0,)}, "one PSF for each of 2 bands"),
    ],
)
def test_images_that_teach_nothing(images, options, said):
    with pytest.raises(DeepfieldError, match=said):
        Stretch(2).fit(images, **options)


def test_settings_that_make_no_sense():
    with pytest.raises(DeepfieldError, match="linear or asinh with a positive softening, not 'log'"):
        Stretch(3, "log")
    with pytest.raises(DeepfieldError, match="no noise in its sky"):
        Stretch(1, "asinh").fit(torch.zeros(4, 1, 8, 8))
