import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepfield.core.nets import Group, GroupConv
from deepfield.core.nets.group import FieldNorm
from deepfield.core.nets.kernels import Depthwise, SharedNorm


def values_and_gradients(y: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    weights = torch.randn(y.shape, generator=generator, dtype=y.dtype)
    return [y, *torch.autograd.grad((y * weights).sum(), leaves)]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("group", ["p4", "p4m", "c8", "d8"])
def test_halves_give_the_numbers_of_the_ordinary_convolution(group, layout):
    torch.manual_seed(0)
    layer = GroupConv(Group(group), 12, 13, 1).double()
    x = torch.randn(2, 12 * layer.table.shape[0], 3, 5, dtype=torch.float64).contiguous(memory_format=layout)
    x.requires_grad_()
    y = layer(x)
    assert type(y.grad_fn).__name__ == "HalvesBackward"
    found = values_and_gradients(y, x, layer.weight)
    torch.testing.assert_close(found, values_and_gradients(F.conv2d(x, layer.expand()), x, layer.weight))


@pytest.mark.parametrize("kernel", [1, 3, 4, 5])
@pytest.mark.parametrize("shape", [(3, 4), (8, 8), (20, 7)])
def test_depthwise_gradients_are_those_of_torch(kernel, shape):
    torch.manual_seed(0)
    x = (
        torch.randn(3, 6, *shape, dtype=torch.float64)
        .contiguous(memory_format=torch.channels_last)
        .requires_grad_()
    )
    weight = torch.randn(6, 1, kernel, kernel, dtype=torch.float64, requires_grad=True)
    padding = (kernel - 1) // 2
    found = values_and_gradients(Depthwise.apply(x, weight, padding), x, weight)
    torch.testing.assert_close(found, values_and_gradients(F.conv2d(x, weight, None, 1, padding, 1, 6), x, weight))


@pytest.mark.parametrize(
    ("options", "size", "kind"),
    [
        ({"n_in": 2, "n_out": 2, "kernel": 5, "depthwise": True}, 20, "DepthwiseBackward"),
        ({"n_in": 2, "n_out": 2, "kernel": 5, "depthwise": True}, 21, "ConvolutionBackward0"),
        ({"n_in": 2, "n_out": 2, "kernel": 3, "depthwise": True}, 20, "ConvolutionBackward0"),
        ({"n_in": 2, "n_out": 2, "kernel": 6, "depthwise": True, "stride": 2}, 8, "ConvolutionBackward0"),
        ({"n_in": 12, "n_out": 12, "kernel": 1}, 4, "HalvesBackward"),
        ({"n_in": 12, "n_out": 11, "kernel": 1}, 4, "ConvolutionBackward0"),
        ({"n_in": 12, "n_out": 12, "kernel": 3}, 4, "ConvolutionBackward0"),
        ({"n_in": 12, "n_out": 12, "kernel": 1, "stride": 2}, 4, "ConvolutionBackward0"),
    ],
)
def test_layers_choose_what_is_fast(options, size, kind):
    layer = GroupConv(Group("p4"), **options)
    x = torch.randn(1, 4 * options["n_in"], size, size)
    assert type(layer(x).grad_fn).__name__ == kind
    with torch.autocast("cpu", torch.bfloat16):
        assert type(layer(x).grad_fn).__name__ == "ConvolutionBackward0"


def test_the_trivial_group_has_no_halves():
    assert GroupConv(Group("none"), 12, 12, 1).halves is None


def test_no_images_pass():
    assert GroupConv(Group("c8"), 12, 16, 1)(torch.zeros(0, 96, 4, 4)).shape == (0, 128, 4, 4)


def test_stored_weights_do_not_depend_on_how_a_layer_computes():
    assert list(GroupConv(Group("c8"), 12, 16, 1).state_dict()) == ["weight"]


def test_statistics_of_bf16_maps_are_kept_in_float32():
    torch.manual_seed(0)
    x = (3 + torch.randn(8, 8, 6, 6)).bfloat16().requires_grad_()
    y, shared = SharedNorm.apply(x, torch.ones(2), torch.zeros(2), 4, 1e-5)
    assert y.dtype == torch.bfloat16 and shared.dtype == torch.float32
    exact = x.detach().float().unflatten(1, (4, 2))
    torch.testing.assert_close(shared[0], exact.mean((0, 1, 3, 4)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(shared[1], exact.var((0, 1, 3, 4), correction=0), rtol=1e-4, atol=1e-4)
    (slope,) = torch.autograd.grad(y.float().square().sum(), x)
    assert slope.dtype == torch.bfloat16 and torch.isfinite(slope).all()


def test_gradients_of_norms_hold_for_gradients_in_any_layout():
    torch.manual_seed(0)
    ours, torchs = FieldNorm(Group("none"), 3).double(), nn.BatchNorm2d(3).double()
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 3, 2, 4, dtype=torch.float64).permute(2, 1, 0, 3)  # strides of neither format
    for scale in (weights, torch.ones(()).double().expand(2, 3, 4, 4)):
        found, wanted = (torch.autograd.grad((norm(x) * scale).square().sum(), x) for norm in (ours, torchs))
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
