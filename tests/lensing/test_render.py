import math
import shutil

import astropy.units as u
import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import Lens, Sersic, images, sheet, sie
from deepfield.lensing.render import Noise, pixel_grid, render

LIGHT = ("flux", "r_e", "n", "q", "phi", "x", "y")
F64 = torch.zeros(0, dtype=torch.float64)


def scene(n=5, seed=0):
    g = torch.Generator().manual_seed(seed)

    def u(low, high):
        return low + (high - low) * torch.rand(n, generator=g)

    lens = Lens(sie(u(0.6, 1.2), u(0.5, 1.0), u(0, 3), x=u(-0.1, 0.1)), sheet(gamma1=u(-0.1, 0.1)))
    source = Sersic(u(1, 2), u(0.1, 0.3), n=u(0.8, 2), q=u(0.5, 1), phi=u(0, 3), x=u(-0.2, 0.2))
    return lens, source, Sersic(u(1, 2), u(0.5, 1), n=u(2, 4), q=u(0.5, 1), phi=u(0, 3))


@pytest.mark.parametrize("peer, margin", [("caustics", None), ("lenstronomy", 0)])
def test_images_are_those_of_other_codes(here, peer, margin):
    """Images that benchmarks/lensing_speed.py made of one lens; lenstronomy does not paint a margin."""
    with np.load(here / "images.npz") as file:
        v = {k: torch.tensor(a) for k, a in file.items()}
    mass = sie(v["theta_e"], v["q"], v["phi"], x=v["x"], y=v["y"])
    lens = Lens(mass, sheet(gamma1=v["gamma1"], gamma2=v["gamma2"]))
    source, light = (Sersic(**{k: v[f"{name}_{k}"] for k in LIGHT}) for name in ("source", "lens"))
    found = render(lens, [source], [light], pixel=float(v["pixel"]), psf=v["psf"], margin=margin)
    assert found.shape == (1, 64, 64) and found.dtype == torch.float32
    assert float((found[0] - v[peer]).abs().max() / v[peer].max()) < 3e-5


def test_a_small_source_is_magnified_as_its_images_are():
    lens = Lens(sie(1.0, 0.7, 0.4), sheet(gamma1=0.05))
    places = [(0.0, 0.0), (0.4, -0.3), (1.1, 0.6)]  # far from caustics
    source = Sersic(2.0, 0.004, x=torch.tensor([p[0] for p in places]), y=torch.tensor([p[1] for p in places]))
    found = render(lens, [source], pixel=0.02, size=250, supersample=15, like=F64).sum((1, 2))
    mu = images(lens, *torch.tensor(places).T.double()).magnification.abs().nansum(-1)
    torch.testing.assert_close(found, 2.0 * mu, rtol=2e-3, atol=0)


def test_rows_run_down_and_columns_to_the_right():
    x, y = pixel_grid(4, 0.5)
    assert x[0, 0].tolist() == [-0.75, -0.25, 0.25, 0.75] and y[0, :, 0].tolist() == [0.75, 0.25, -0.25, -0.75]
    image = render(Lens(sie(1e-6, 1.0, 0.0)), [], [Sersic(1.0, 0.1, x=0.75, y=0.25)], pixel=0.5, size=4)[0]
    assert divmod(int(image.argmax()), 4) == (1, 3)
    kernel = torch.zeros(3, 5)
    kernel[0, 4] = 3.0  # one row up, two columns to the right, in any normalisation
    moved = render(
        Lens(sie(1e-6, 1.0, 0.0)), [], [Sersic(1.0, 0.1, x=-0.25, y=-0.25)], pixel=0.5, size=4, psf=kernel
    )
    assert divmod(int(moved[0].argmax()), 4) == (1, 3)


def test_light_comes_in_from_the_margin():
    lens, light = Lens(sie(1e-6, 1.0, 0.0)), Sersic(1.0, 0.1, x=1.05)
    kernel = torch.ones(5, 5)
    bare, wide = (render(lens, [], [light], pixel=0.1, size=20, psf=kernel, margin=m)[0] for m in (0, None))
    assert float(wide[:, -1].sum()) > 1.5 * float(bare[:, -1].sum())
    huge = render(lens, [], [light], pixel=0.1, size=40, psf=kernel)[0, 10:30, 10:30]
    torch.testing.assert_close(wide, huge, rtol=1e-4, atol=1e-7)


def test_supersampling_finds_all_the_light_of_a_cusp():
    lens, light = Lens(sie(1e-6, 1.0, 0.0)), Sersic(1.0, 0.3, n=4.0, x=0.01, y=0.02)
    totals = [float(render(lens, [], [light], pixel=0.1, size=240, supersample=s).sum()) for s in (1, 4, 16)]
    errors = [abs(t - 1) for t in totals]
    assert errors[2] < 0.02 and errors[0] > 3 * errors[2]
    lens, source = scene()[0], Sersic(1.0, 0.2, n=1.0, x=0.1)
    coarse, fine, finer = (render(lens, [source], pixel=0.08, supersample=s) for s in (1, 4, 12))
    peak = finer.amax((1, 2), keepdim=True)
    assert float(((fine - finer) / peak).abs().max()) < 0.01 < float(((coarse - finer) / peak).abs().max())


def test_batches_are_images_one_by_one():
    lens, source, light = scene(37)  # more than are painted at a time
    psf = torch.rand(7, 7, generator=torch.Generator().manual_seed(1))
    together = render(lens, [source], [light], pixel=0.1, size=32, psf=psf, supersample=2)
    assert together.shape == (37, 32, 32)
    for k in (0, 31, 32, 36):
        one = render(lens[k], [source[k]], [light[k]], pixel=0.1, size=32, psf=psf, supersample=2)
        torch.testing.assert_close(one[0], together[k], rtol=1e-4, atol=1e-6)


def test_one_light_is_as_good_as_a_list_of_one():
    lens, light = Lens(sie(1.0, 0.8, 0.3)), Sersic(1.0, 0.2)
    one = render(lens, light, light, pixel=100 * u.mas, size=16)
    assert torch.equal(one, render(lens, [light], [light], pixel=0.1, size=16))
    with pytest.raises(DeepfieldError, match="a lens is made of deflectors"):
        Lens(1.0)


def test_images_can_be_differentiated():
    def total(theta_e, r_e):
        source = Sersic(1.0, r_e, n=1.5, x=0.1)
        image = render(Lens(sie(theta_e, 1.0, 0.3)), [source], pixel=0.2, size=16, psf=torch.ones(3, 3), like=F64)
        return (image**2).sum()

    start = (torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64))
    assert torch.autograd.gradcheck(total, tuple(v.requires_grad_() for v in start))


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_images_are_the_same():
    lens, source, light = scene(33)
    with torch.no_grad():
        plain, fast = (render(lens, [source], [light], pixel=0.1, size=16, compiled=c) for c in (False, True))
    torch.testing.assert_close(plain, fast, rtol=1e-4, atol=1e-6)


def test_noise():
    image = torch.zeros(40, 50, 50)
    image[20:] = 100.0
    noisy = Noise(2.0, 5.0, seed=3)(image)
    dark, bright = (noisy - image)[:20], (noisy - image)[20:]
    assert float(dark.std()) == pytest.approx(2.0, rel=0.02) and abs(float(dark.mean())) < 0.05
    assert float(bright.std()) == pytest.approx(math.sqrt(4 + 100 / 5), rel=0.02)
    assert torch.equal(noisy, Noise(2.0, 5.0, seed=3)(image))
    assert not torch.equal(noisy, Noise(2.0, 5.0, seed=4)(image))
    assert float(image.max()) == 100.0 and float(image.min()) == 0.0  # what is given stays
    lens, source, light = scene(35)
    clean = render(lens, [source], [light], pixel=0.1, size=16)
    noise = Noise(0.1, seed=1)
    assert torch.equal(render(lens, [source], [light], pixel=0.1, size=16, noise=noise), noise(clean))
    for bad in ({"sky": -1.0}, {"sky": math.nan}, {"sky": 1.0, "gain": 0.0}):
        with pytest.raises(DeepfieldError, match="sky is finite and not negative and gain positive"):
            Noise(**bad)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"size": 0}, "size, supersample and pixel are positive .* got size 0"),
        ({"pixel": 0.0}, "pixel 0.0"),
        ({"margin": -1}, "margin -1"),
        ({"psf": torch.ones(4, 5)}, r"a pixel in its middle and a positive sum, not of shape \(4, 5\)"),
        ({"psf": torch.zeros(5, 5)}, "and sum 0"),
        ({"lens_light": [Sersic(torch.ones(3), 0.5)]}, r"as many each, or one for all, got \[3, 5\]"),
    ],
)
def test_what_cannot_be_painted(change, message):
    lens, source, _ = scene()
    with pytest.raises(DeepfieldError, match=message):
        render(**{"lens": lens, "source": [source], "pixel": 0.1, "size": 16, **change})
