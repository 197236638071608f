"""Images changed at random: what must stay, stays; what a mirror exchanges, is exchanged."""

import pytest
import torch

from deepfield.core.augment import Augment, Seen, blurred
from deepfield.core.nets.camera import Camera

STILL = {"rotate": False, "flip": False}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("side", [16, 32, 64])
def test_nothing_changed_is_what_the_camera_sees(side):
    x, camera = torch.randn(4, 2, side, side), Camera(2, 16)
    y = torch.arange(4)
    changed, same = Augment(camera, **STILL)(x, y, generator=generator())
    assert torch.allclose(changed, camera(x), atol=1e-4) and same.tolist() == [0, 1, 2, 3]
    assert torch.equal(Seen(camera)(x, y, generator=generator())[0], camera(x))


@pytest.mark.parametrize("side", [33, 48, 64, 72, 80, 96, 100, 127, 128, 150, 200])
def test_nothing_changed_is_what_the_camera_sees_at_any_ratio(side):
    size, camera = 64, Camera(1, 64)
    noise = torch.randn(3, 1, side, side, generator=generator())
    x = torch.fft.irfft2(torch.fft.rfft2(noise) * smooth(side), s=(side, side))
    seen = Augment(camera, **STILL)(x, torch.zeros(3), generator=generator())[0]
    right = camera(x)
    assert right.shape[-1] == size and (seen - right).square().mean() < 1e-8 * right.square().mean()


def smooth(side):
    """A band limit of a quarter of a cycle a pixel, half of what the pixels can hold."""
    down, along = torch.fft.fftfreq(side)[:, None], torch.fft.rfftfreq(side)
    return torch.hypot(down, along) < 0.25


def test_turns_keep_rings():
    y, x = torch.meshgrid(*[torch.arange(32.0) - 15.5] * 2, indexing="ij")
    ring = torch.exp(-((torch.hypot(x, y) - 8) ** 2) / 8)[None, None].expand(20, 1, 32, 32)
    turned, _ = Augment(Camera(1, 32))(ring, torch.zeros(20), generator=generator())
    inside = torch.hypot(x, y) < 14  # beyond, the image is continued by its reflection
    assert ((turned - ring) * inside).abs().max() < 0.06 < 0.5 < ring.max()


def test_zoom_and_shift_stay_within_their_range():
    x = torch.zeros(200, 1, 65, 65)
    x[:, :, 32, 52] = 1.0  # 20 pixels right of the middle
    options = {**STILL, "zoom": 0.25}
    seen, _ = Augment(Camera(1, 65), **options)(x, torch.zeros(200), generator=generator())
    place = seen[:, 0, 32].argmax(-1) - 32
    assert place.min() == 16 and place.max() == 25
    options = {**STILL, "shift": 0.1}
    seen, _ = Augment(Camera(1, 65), **options)(x, torch.zeros(200), generator=generator())
    row = seen[:, 0].amax(-1).argmax(-1) - 32
    assert -7 <= row.min() <= -5 and 5 <= row.max() <= 7, "a tenth of 65 pixels"


def test_widths_of_a_blur_add_in_squares_and_light_is_kept():
    y, x = torch.meshgrid(*[torch.arange(41.0) - 20] * 2, indexing="ij")
    star = torch.exp(-0.5 * (x**2 + y**2) / 1.8**2)[None, None].expand(4, 2, 41, 41)
    sigma = torch.tensor([0.0, 0.7, 1.2, 1.9])
    seen = blurred(star, sigma)
    assert torch.allclose(seen.sum((2, 3)), star.sum((2, 3)), rtol=1e-4)
    assert torch.equal(seen[0], star[0])
    width = ((seen * x**2).sum((2, 3)) / seen.sum((2, 3))).sqrt()
    expected = (1.8**2 + sigma**2).sqrt()[:, None].expand(4, 2)
    assert torch.allclose(width, expected, rtol=2e-3), "a Gaussian convolved with a Gaussian"


def test_blur_differs_from_image_to_image():
    x = torch.zeros(50, 1, 17, 17)
    x[..., 8, 8] = 1.0
    options = {**STILL, "blur": 2.0}
    peaks = Augment(Camera(1, 17), **options)(x, torch.zeros(50), generator=generator())[0].amax((1, 2, 3))
    assert peaks.max() > 0.5 and peaks.min() < 0.06, "1 / (2 pi 2^2) = .04 at the widest"


def test_a_mirror_exchanges_the_two_senses_and_nothing_else():
    augment = Augment(Camera(1, 16), rotate=False, exchange=torch.tensor([1, 0, 2]))
    x = torch.zeros(300, 1, 16, 16)
    x[..., :8] = 1.0  # bright on the left
    y = torch.arange(300) % 3
    seen, label = augment(x, y, generator=generator())
    mirrored = seen[:, 0, 8, 12] > seen[:, 0, 8, 3]
    assert 0.35 < mirrored.float().mean() < 0.65
    assert torch.equal(label, torch.where(mirrored & (y < 2), 1 - y, y))
    soft, shares = torch.eye(3)[y], augment(x, torch.eye(3)[y], generator=generator())[1]
    assert torch.equal(shares.argmax(1), label) and soft.sum() == shares.sum()


def test_noise_is_drawn_afresh_and_repeats_with_the_seed():
    options = {**STILL, "noise": 0.5}
    augment = Augment(Camera(1, 16), **options)
    x, y = torch.zeros(64, 1, 16, 16), torch.zeros(64)
    one, two, other = (augment(x, y, generator=generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert one.flatten(1).std(1).max() < 0.6 and one.flatten(1).std(1).min() < 0.1


def test_targets_turn_with_their_image():
    """A spot's place, carried along, is where the spot is."""
    n, size = 60, 33
    rng = generator(4)
    place = 12 * torch.rand(n, generator=rng)
    turn = 6.3 * torch.rand(n, generator=rng)
    at = torch.stack([place * turn.cos(), place * turn.sin()], -1)  # x to the right, y up
    v, u = torch.meshgrid(16.0 - torch.arange(33.0), torch.arange(33.0) - 16, indexing="ij")
    x = torch.exp(-0.5 * ((u - at[:, :1, None]) ** 2 + (v - at[:, 1:, None]) ** 2) / 1.5**2)[:, None]

    def carry(y, angle, mirrored):
        c, s = angle.cos(), angle.sin()
        turned = torch.stack([c * y[:, 0] - s * y[:, 1], s * y[:, 0] + c * y[:, 1]], -1)
        return torch.stack([torch.where(mirrored, -turned[:, 0], turned[:, 0]), turned[:, 1]], -1)

    for quarters in (True, False):
        seen, y = Augment(Camera(1, size), quarters=quarters, carry=carry)(x, at, generator=generator(1))
        light = seen[:, 0] * (torch.hypot(u, v) < 17)
        found = torch.stack([(light * u).sum((1, 2)), (light * v).sum((1, 2))], -1) / light.sum((1, 2))[:, None]
        assert float((found - y).abs().max()) < 0.15
        changed = torch.hypot(*(y - at).T) > 1
        assert 0.5 < changed.float().mean() < 1
    kept = Augment(Camera(1, size), quarters=True)(x, at, generator=generator(1))[0]
    assert torch.allclose(kept.flatten(1).sort(1).values, x.flatten(1).sort(1).values, atol=1e-4), "same pixels"
