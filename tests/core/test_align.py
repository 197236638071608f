"""Alignment of features: zero for the same law, moments by hand, gradients that bring together."""

import pytest
import torch

from deepfield.core.align import coral
from deepfield.core.errors import ModelError


def test_it_is_the_difference_of_means_and_covariances():
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) * 1.5**0.5  # of unit variance
    moved = x + torch.tensor([3.0, 0.0])
    assert float(coral(x, moved)) == pytest.approx(9 / 2)
    wide = x * torch.tensor([2.0, 1.0])
    assert float(coral(x, wide)) == pytest.approx((4 - 1) ** 2 / 4)
    assert float(coral(10 * x, 10 * moved)) == pytest.approx(9 / 2), "units do not matter"


def test_following_it_brings_two_laws_together():
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn(500, 3, generator=g), 2 * torch.randn(400, 3, generator=g) + 1
    scale, shift = torch.ones(3, requires_grad=True), torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.Adam([scale, shift], lr=0.05)
    before = float(coral(x, y))
    for _ in range(200):
        optimizer.zero_grad()
        coral(x, y * scale + shift).backward()
        optimizer.step()
    assert float(coral(x, y * scale + shift).detach()) < 0.01 * before
    assert float((scale - 0.5).detach().abs().max()) < 0.1


def test_sets_that_do_not_fit():
    for other in (torch.zeros(5, 2), torch.zeros(1, 3), torch.zeros(3)):
        with pytest.raises(ModelError, match="two rows or more each"):
            coral(torch.zeros(5, 3), other)
