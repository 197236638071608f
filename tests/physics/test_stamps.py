import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from deepfield.physics import photometry as ph
from deepfield.physics.stamps import COLUMNS, Painter, Survey, resampled_noise, scaled

SURVEY = Survey(("g", "r"), 0.396, (1.44, 1.32), 3.5, ph.sdss_noise(extended=False))
PLAIN = {
    "bulge_n": 2.5, "bulge_radius": 1.2, "bulge_q": 0.8, "disc_radius": 3.0, "disc_q": 0.5, "angle": 30.0,
    "bulge_fraction": 0.3, "seeing": 1.0, "mag_g": 18.0, "mag_r": 17.0,
}  # fmt: skip


def galaxy(n=1, **values):
    columns = {name: torch.zeros(n) for name in COLUMNS}
    return columns | {name: torch.full((n,), float(v)) for name, v in {**PLAIN, **values}.items()}


# The same galaxy by galsim 2.8.5: 0.3 Sersic(2.5, 1.2 arcsec, q 0.8) + 0.7 Sersic(1, 3 arcsec, q 0.5), both at 30
# degrees, convolved with Moffat(beta=3.5, fwhm=1.32), scale 0.396, offset (0.4, -0.3), rows reversed.
PIXELS = [(31, 31), (32, 32), (32, 31), (31, 36), (36, 31), (40, 28), (28, 40), (25, 25), (45, 45), (20, 50)]
GALSIM = [
    0.010224, 0.0118224, 0.0110724, 0.00478656, 0.00377335,
    0.000941296, 0.00160019, 0.000346265, 1.35469e-05, 0.000101046,
]  # fmt: skip


def test_a_bulge_and_disc_agree_with_galsim_pixel_by_pixel():
    image = Painter(SURVEY, 64)(galaxy(x=0.4, y=-0.3))[0, 1] / ph.flux(17.0)
    found = np.array([float(image[p]) for p in PIXELS])
    assert np.abs(found - GALSIM).max() < 5e-4 * float(image.max())


# A point by galsim 2.8.5: 0.7 Moffat(beta=4.5) + 0.3 Moffat(beta=2.5), fwhm=1.32, sheared by g1=0.1, g2=-0.05,
# scale 0.396, offset (0.5, -0.5), rows reversed; pixels by row and column from (32, 32).
POINT = {
    (0, 0): 0.0603715, (1, 0): 0.0447716, (0, 1): 0.0490781, (2, 2): 0.0127242, (2, -2): 0.00978065,
    (-3, 1): 0.00580194, (5, 0): 0.000829548, (0, 6): 0.000897641, (8, -8): 1.45788e-05,
}  # fmt: skip


def test_a_psf_with_wings_and_ellipticity_agrees_with_galsim():
    painter, half = Painter(SURVEY, 64), torch.tensor([0.5])
    star = painter.place(half, -half) * painter.pixel_response
    image = painter.seen(star, 1, torch.ones(1), torch.tensor([[0.3, 0.1, -0.05]]))[0]
    found = [float(image[32 + row, 32 + column]) for row, column in POINT]
    assert np.abs(np.array(found) - list(POINT.values())).max() < 1e-3 * max(POINT.values())


def test_a_point_source_at_the_surveys_depth_has_five_sigma():
    survey = replace(SURVEY, beta=0.0)
    sky, source = survey.pixel_noise()
    depths = {f"mag_{b}": survey.noise.depth[b] for b in survey.bands}
    image = Painter(survey, 64)(galaxy(disc_radius=1e-3, bulge_fraction=0.0, **depths))[0]
    for b in range(2):
        noise = torch.from_numpy(np.array(sky[b])) + source[b] * image[b]
        snr = float((image[b] ** 2 / noise).sum().sqrt())  # of the best linear estimate of the flux
        assert snr == pytest.approx(5.0, abs=0.25)


def test_a_bulge_of_another_colour_is_the_sum_of_two_galaxies():
    painter = Painter(SURVEY, 64)
    share = {"bulge_fraction_g": torch.tensor([0.1]), "bulge_fraction_r": torch.tensor([0.3])}
    both = painter({**galaxy(arms=2, arm_strength=0.5, pitch=20.0), **share})
    assert torch.allclose(both[:, 1], painter(galaxy(arms=2, arm_strength=0.5, pitch=20.0))[:, 1])
    by_hand = painter(galaxy(arms=2, arm_strength=0.5, pitch=20.0, bulge_fraction=0.1))[:, 0]
    assert torch.allclose(both[:, 0], by_hand, rtol=1e-5, atol=1e-3)
    assert not torch.allclose(both[:, 0] / both[:, 0].sum(), both[:, 1] / both[:, 1].sum(), rtol=1e-2)


def test_transforms_can_be_moved_scaled_and_added_to():
    painter = Painter(SURVEY, 32)
    g = galaxy()
    star = painter.place(torch.tensor([5.0]), torch.tensor([-3.0])) * painter.pixel_response
    image = painter.seen(scaled(star, torch.tensor([7.0])), 1, g["seeing"])[0]
    row, column = divmod(int(image.argmax()), 32)
    assert (column - 15.5, 15.5 - row) in {(5.5, -2.5), (4.5, -3.5), (5.5, -3.5), (4.5, -2.5)}
    assert float(image.sum()) == pytest.approx(7.0, rel=0.02)
    light = next(iter(painter.bands(g)))
    alone, more = painter.seen(light, 0, g["seeing"]), painter.seen(light + star, 0, g["seeing"])
    assert torch.allclose(more - alone, painter.seen(star, 0, g["seeing"]), atol=1e-5)


def test_noise_is_that_of_sky_and_source():
    painter = Painter(SURVEY, 64)
    image = torch.zeros(40, 2, 64, 64)
    image[20:] = 1e5
    noise = painter.observe(image, torch.Generator().manual_seed(0)) - image
    sky, source = SURVEY.pixel_noise()
    for b in range(2):
        assert float(noise[:20, b].std()) == pytest.approx(math.sqrt(sky[b]), rel=0.02)
        assert float(noise[20:, b].std()) == pytest.approx(math.sqrt(sky[b] + 1e5 * source[b]), rel=0.02)


@pytest.mark.parametrize("stated", [0.0, 0.5, 1.0])
def test_resampled_noise_has_the_scatter_that_was_stated(stated):
    sigma, n = torch.tensor([0.0, 0.4, 0.65]), 512
    like, generator = torch.zeros(3, 1, n, n), torch.Generator().manual_seed(2)
    noise = resampled_noise(like, sigma, torch.full((3,), stated), generator)[:, 0]
    block = noise.unfold(1, 16, 16).unfold(2, 16, 16).sum((-1, -2)) / 16  # one for white noise
    pixel, wide = noise.std((1, 2)), block.std((1, 2))
    assert pixel[0] == pytest.approx(1, abs=0.01) and wide[0] == pytest.approx(1, abs=0.05)
    if stated == 0:
        assert (pixel[1:] < 0.95).all() and wide[1:].tolist() == pytest.approx([1, 1], abs=0.12)
    if stated == 1:
        assert pixel.tolist() == pytest.approx([1, 1, 1], abs=0.01) and wide[2] > 1.6
    # Neighbours of a kernel (a, 1, a): 2 a / (1 + 2 a^2) of the variance.
    a = torch.exp(-0.5 / sigma[1:] ** 2)
    shared = (noise[1:, 1:] * noise[1:, :-1]).mean((1, 2)) / pixel[1:] ** 2
    torch.testing.assert_close(shared, 2 * a / (1 + 2 * a**2), atol=0.01, rtol=0)


def test_noise_is_white_unless_it_is_asked_for():
    painter = Painter(Survey(("r",), 0.2, (0.8,), 3.5, ph.NoiseModel({"r": 26.0})), 64)
    image = torch.zeros(1, 1, 64, 64)
    white = painter.observe(image, torch.Generator().manual_seed(0))
    smooth = painter.observe(image, torch.Generator().manual_seed(0), (torch.tensor([0.6]), torch.ones(1)))
    shared = [float((v[..., 1:] * v[..., :-1]).mean() / v.var()) for v in (white, smooth)]
    assert abs(shared[0]) < 0.05 and shared[1] > 0.3
