"""The net of sequences: any length, shifts, gradients."""

import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets import SequenceNet


@pytest.mark.parametrize("length", [1, 7, 50])
def test_any_length(length):
    net = SequenceNet(2, 4, width=8, blocks=2)
    out = net(torch.randn(3, 2, length))
    assert out.shape == (3, 4) and bool(torch.isfinite(out).all())


def test_a_shift_by_its_stride_changes_nothing_but_what_is_shifted_does():
    """Three halvings: a pulse in the middle of zeros may move by eight."""
    net, x = SequenceNet(1, 4, width=8).requires_grad_(False), torch.zeros(1, 1, 512)
    x[..., 200:220] = torch.randn(20)
    before, moved, other = net(x), net(x.roll(8, -1)), net(x.flip(-1))
    torch.testing.assert_close(moved, before)
    assert float((other - before).abs().max()) > 1e-4


def test_gradients_reach_every_weight():
    net = SequenceNet(2, 3, width=8)
    net(torch.randn(4, 2, 40)).square().sum().backward()
    assert all(bool((p.grad != 0).any()) for p in net.parameters())


def test_even_kernels_are_refused():
    with pytest.raises(DeepfieldError, match="kernel must be odd"):
        SequenceNet(1, 1, kernel=4)
