"""Gaussian processes: exact where they can be checked by hand."""

import pytest
import torch

from deepfield.core.errors import ModelError
from deepfield.emulators.process import GaussianProcesses


@pytest.fixture(scope="module")
def fitted():
    g = torch.Generator().manual_seed(0)
    x = torch.rand(60, 2, generator=g, dtype=torch.float64) * 2 - 1
    y = torch.stack([torch.sin(2 * x[:, 0]) + x[:, 1], x[:, 0] * x[:, 1]], 1)
    return x, y, GaussianProcesses(x, 2).fit(y, steps=100)


def test_smooth_functions_are_learnt_with_their_error(fitted):
    process = fitted[2]
    at = torch.tensor([[0.2, -0.3], [-0.7, 0.5]], dtype=torch.float64)
    mean, std = process(at)
    truth = torch.stack([torch.sin(2 * at[:, 0]) + at[:, 1], at[:, 0] * at[:, 1]], 1)
    assert (mean - truth).abs().max() < 0.02
    assert ((mean - truth).abs() < 5 * std + 0.01).all()
    far = process(torch.tensor([[4.0, 4.0]], dtype=torch.float64))[1]
    assert (far > 5 * std.max()).all()


def test_left_out_is_what_leaving_out_gives(fitted):
    x, y, process = fitted
    keep = torch.arange(len(x)) != 7
    other = GaussianProcesses(x[keep], 2)
    other.load_state_dict(
        {k: v for k, v in process.state_dict().items() if k not in ("design", "target")}, strict=False
    )
    other.condition(y[keep])
    mean, _ = other(x[7:8])
    assert process.left_out()[7].tolist() == pytest.approx((y[7] - mean[0]).tolist(), abs=1e-6)


def test_too_many_points_want_a_net():
    with pytest.raises(ModelError, match="too many for a Gaussian process"):
        GaussianProcesses(torch.zeros(5000, 2), 1)
