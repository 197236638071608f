import numpy as np
import pytest
import torch
from scipy import ndimage

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets.camera import Camera
from deepfield.core.nets.contrast import Contrast, differences, rings, smooth, unround


def grid(size):
    at = torch.arange(size) - (size - 1) / 2
    return at[:, None], at[None]


def galaxy(size=40, width=5.0, q=0.7):
    y, x = grid(size)
    return 500 * torch.exp(-(x**2 * q + y**2 / q) / (2 * width**2))


def arc(size=40, radius=9.0):
    y, x = grid(size)
    return 8 * torch.exp(-((torch.hypot(x, y) - radius) ** 2) / 4) * (x > radius / 2)


def test_smoothing_is_that_of_scipy():
    x = torch.randn(2, 3, 24, 24)
    theirs = ndimage.gaussian_filter1d(x.numpy(), 1.5, axis=2, mode="nearest", radius=4)
    theirs = ndimage.gaussian_filter1d(theirs, 1.5, axis=3, mode="nearest", radius=4)
    assert np.allclose(smooth(x, 1.5).numpy(), theirs, atol=1e-6)


@pytest.mark.parametrize("size", [32, 41])
def test_rings_are_orthonormal_and_closed_under_the_square(size):
    basis = rings(size)
    assert torch.allclose(basis @ basis.T, torch.eye(len(basis)), atol=1e-4)
    x = torch.randn(1, 2, size, size)
    left = unround(x, basis)
    assert torch.allclose(unround(left, basis), left, atol=1e-3), "a projection"
    for turn in (lambda t: t.rot90(1, (2, 3)), lambda t: t.flip(3)):
        assert torch.allclose(unround(turn(x), basis), turn(left), atol=1e-3)


def test_an_arc_is_left_of_a_galaxy():
    smooth_one = galaxy(q=1.0)
    left = unround((smooth_one + arc())[None, None], rings(40))[0, 0]
    there = arc() > 4
    assert unround(smooth_one[None, None], rings(40)).abs().max() < 0.01 * smooth_one.max()
    assert left[there].mean() > 0.5 * arc()[there].mean()


def test_the_colour_of_the_galaxy_goes_whatever_its_shape_and_seeing_and_blue_light_stays():
    red = galaxy(q=0.5) + galaxy(width=2.0)
    blue = 0.4 * smooth(red[None, None], 1.0)[0, 0]
    pairs = (torch.stack([band, red])[None] for band in (blue, blue + arc()))
    without, with_arc = (differences(pair, torch.ones(1600))[0, 0] for pair in pairs)
    assert without.abs().max() < 0.01 * blue.max()
    there = arc() > 4
    assert abs(float((with_arc - without)[there].mean() / arc()[there].mean()) - 1) < 0.25


def test_contrast_commutes_with_the_square_and_of_one_band_is_the_residual_alone():
    x = galaxy() + arc() + torch.randn(2, 3, 40, 40)
    contrast = Contrast(3, 40)
    for turn in (lambda t: t.rot90(1, (2, 3)), lambda t: t.flip(3)):
        assert torch.allclose(contrast(turn(x)), turn(contrast(x)), atol=2e-3)
    assert Contrast(1, 40)(x[:, :1]).shape == (2, 1, 40, 40)
    with pytest.raises(DeepfieldError, match="16 pixels"):
        Contrast(1, 8)


def test_the_noise_is_of_order_one_and_nothing_is_saved():
    camera = Camera(2, 32, "asinh", contrast=True)
    x = 7 * torch.randn(64, 2, 48, 48) + galaxy(48)
    camera.stretch.fit(camera.reduce(x))
    seen = camera(x)
    assert seen.shape[1] == camera.channels == 5
    assert 0.2 < float(seen[:, 2:].std()) < 2
    assert not [name for name in camera.state_dict() if "contrast" in name]
