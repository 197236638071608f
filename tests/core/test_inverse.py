"""Draws of flows are those of zuko, whatever the order of the dimensions and the number of passes."""

import pytest
import torch
import zuko

from deepfield.core.flow import Flow
from deepfield.core.inverse import drawn


@pytest.mark.parametrize(("dim", "passes", "hidden"), [(2, None, (16,)), (7, None, (24, 20)), (5, 2, (16, 16, 8))])
def test_draws_are_the_inverse_of_the_whole_flow(dim, passes, hidden):
    torch.manual_seed(0)
    flow = zuko.flows.NSF(dim, 3, transforms=3, hidden_features=hidden, passes=passes, randperm=True)
    for weight in flow.parameters():
        weight.data.mul_(2)
    context, noise = torch.randn(6, 3), 2 * torch.randn(10, 6, dim)
    with torch.no_grad():
        right = flow(context).transform.inv(noise)
        assert (flow(context).transform(right) - noise).abs().max() < 1e-3
    torch.testing.assert_close(drawn(flow, context, noise), right, atol=1e-4, rtol=1e-4)


def test_what_a_head_draws_is_what_it_says_the_density_is():
    torch.manual_seed(1)
    head = Flow(3, context=2, transforms=2, hidden=16)
    head.fit_target(torch.randn(50, 3) * torch.tensor([1.0, 20.0, 0.1]) + 4)
    found = head(torch.randn(5, 2))
    torch.manual_seed(2)
    samples = found.sample((400,))
    torch.manual_seed(2)
    right = head.shift + head.scale * found.flow.sample((400,))
    torch.testing.assert_close(samples, right, rtol=1e-3, atol=1e-3)
    assert found.sample().shape == (5, 3)
