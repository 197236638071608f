import pytest
import torch

from deepfield.core.nets.camera import Camera


@pytest.mark.parametrize(("side", "pixels"), [(48, 16), (50, 32), (16, 24)])
def test_the_camera_keeps_the_mean_and_commutes_with_the_square(side, pixels):
    x = torch.randn(2, 3, side, side, dtype=torch.float64).float()
    camera = Camera(3, pixels)
    y = camera.reduce(x)
    assert y.shape == (2, 3, pixels, pixels)
    assert torch.allclose(y.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
    for turned in (lambda t: t.rot90(1, (2, 3)), lambda t: t.flip(3)):
        assert torch.allclose(camera.reduce(turned(x)), turned(y), atol=1e-5)


def test_the_camera_averages_whole_blocks():
    x = torch.rand(1, 1, 32, 32)
    assert torch.allclose(Camera(1, 16).reduce(x), torch.nn.functional.avg_pool2d(x, 2), atol=1e-6)
