import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets import Group, GroupConv
from deepfield.core.nets.group import GROUPS, FieldNorm, disc, harmonics

NAMES = ("p4", "p4m", "c8", "d8")


def on_grid(matrix: np.ndarray) -> bool:
    return np.allclose(matrix, np.rint(matrix))


def move(x: torch.Tensor, matrix: np.ndarray) -> torch.Tensor:
    """The image (g x)(u) = x(g^-1 u) for a symmetry of the square, by torch's own flips and quarter turns."""
    if np.linalg.det(matrix) < 0:
        x, matrix = x.flip(-2), matrix @ np.diag([1.0, -1.0])
    quarters = int(np.rint(math.atan2(matrix[1, 0], matrix[0, 0]) / (math.pi / 2)))
    return torch.rot90(x, quarters, (-2, -1))


@pytest.mark.parametrize("name", GROUPS)
def test_the_tables_are_those_of_a_group(name):
    group = Group(name)
    n, product = group.order, group.product
    both = group.matrices[:, None] @ group.matrices
    np.testing.assert_allclose(group.matrices[product.numpy()], both, atol=1e-12)
    assert all(len(set(row.tolist())) == n for row in product)
    assert bool((product[torch.arange(n), group.inverse] == 0).all())
    left, right = product[product], product[:, product]  # (g h) k, g (h k)
    assert torch.equal(left, right)


def test_unknown_groups_are_named():
    with pytest.raises(DeepfieldError, match="unknown group 'so3': choose one of none, p4, p4m, c8, d8"):
        Group("so3")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("kernel", "stride", "depthwise"), [(5, 1, False), (3, 1, False), (6, 2, False), (5, 1, True), (1, 1, False)]
)
def test_layers_commute_with_every_symmetry_of_the_grid(name, kernel, stride, depthwise):
    # The definition of a regular representation: turned image in, turned maps out, versions permuted by g^-1 h.
    group = Group(name)
    torch.manual_seed(0)
    lift = GroupConv(group, 2, 3, 6, stride=2, lift=True).double()
    conv = GroupConv(group, 3, 3, kernel, stride=stride, depthwise=depthwise).double()
    norm = FieldNorm(group, 3).double()
    x = torch.randn(2, 2, 16, 16, dtype=torch.float64)

    def maps(image: torch.Tensor) -> torch.Tensor:
        y = norm(conv(torch.relu(lift(image))))
        return y.reshape(2, group.order, 3, *y.shape[-2:])

    y = maps(x)
    assert (y[:, 0] - y[:, 1]).abs().max() > 0.1, "versions differ, or nothing is tested"
    for k, matrix in enumerate(group.matrices):
        if on_grid(matrix):
            expected = move(y, matrix)[:, group.product[group.inverse[k]]]
            torch.testing.assert_close(maps(move(x, matrix)), expected, rtol=0, atol=1e-10)


def test_an_odd_window_on_an_even_size_would_not_commute():
    # Why strides go with even windows: the lattice of this one is not in the middle.
    group = Group("p4")
    torch.manual_seed(0)
    x = torch.randn(1, 1, 16, 16)
    for kernel, exact in ((3, False), (6, True)):
        layer = GroupConv(group, 1, 2, kernel, stride=2, lift=True)
        y, turned = (layer(v).reshape(1, 4, 2, 8, 8).sum(1) for v in (x, x.rot90(1, (2, 3))))
        assert torch.allclose(turned, y.rot90(1, (2, 3)), atol=1e-5) is exact


@pytest.mark.parametrize("kernel", [3, 5, 6, 7])
def test_harmonics_turned_by_45_degrees_twice_are_turned_by_90(kernel):
    # Steerable (Freeman & Adelson 1991): the turned functions are an orthogonal mixture of the others, and that
    # mixture applied twice is torch's own quarter turn of the pixels.
    basis, turned = harmonics(kernel), harmonics(kernel, math.pi / 4)
    mixture = turned @ np.linalg.pinv(basis)
    np.testing.assert_allclose(mixture @ basis, turned, atol=1e-10)
    np.testing.assert_allclose(mixture @ mixture.T, np.eye(len(basis)), atol=1e-10)
    quarter = np.rot90(basis.reshape(-1, kernel, kernel), axes=(1, 2)).reshape(basis.shape)
    np.testing.assert_allclose(mixture @ mixture @ basis, quarter, atol=1e-10)
    assert np.abs(turned - basis).max() > 0.1


@pytest.mark.parametrize("kernel", [3, 5, 6, 7])
def test_harmonics_are_independent(kernel):
    basis = harmonics(kernel)
    values = np.linalg.svd(basis, compute_uv=False)
    assert values[-1] > 0.25 and np.linalg.norm(basis, axis=1) == pytest.approx(1, abs=0.4)
    assert len(basis) <= kernel**2


def test_turning_by_45_degrees_twice_is_a_quarter_turn():
    basis = Group("c8").basis(5)
    torch.testing.assert_close(basis[2], basis[0].reshape(-1, 5, 5).rot90(1, (1, 2)).flatten(1), rtol=0, atol=0)
    torch.testing.assert_close(basis[3], basis[1].reshape(-1, 5, 5).rot90(1, (1, 2)).flatten(1), rtol=0, atol=0)
    assert (basis[1] - basis[0]).abs().max() > 0.1


@pytest.mark.parametrize("name", GROUPS)
def test_norms_are_shared_by_versions(name):
    group = Group(name)
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(4, group.order * 5, 6, 6)
    norm = FieldNorm(group, 5).requires_grad_(False)
    y = norm(x).reshape(4, group.order, 5, 6, 6)
    assert y.mean((0, 1, 3, 4)) == pytest.approx(0, abs=1e-5)
    assert y.var((0, 1, 3, 4)) == pytest.approx(1, abs=0.01)
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, 0.1 * x.reshape(4, group.order, 5, 6, 6).mean((0, 1, 3, 4)))
    gain, offset = norm.eval().gain_and_offset()
    torch.testing.assert_close(norm(x), x * gain[:, None, None] + offset[:, None, None], rtol=1e-5, atol=1e-5)


def test_norms_are_those_of_torch_with_versions_as_pixels():
    # Values, gradients and running statistics of nn.BatchNorm2d, in float64.
    torch.manual_seed(0)
    group, x = Group("p4"), torch.randn(3, 8, 4, 5, dtype=torch.float64, requires_grad=True)
    ours, torchs = FieldNorm(group, 2).double(), torch.nn.BatchNorm2d(2).double()
    for norm in (ours, torchs):
        with torch.no_grad():
            norm.weight.copy_(torch.tensor([0.5, 2.0]))
            norm.bias.copy_(torch.tensor([-1.0, 3.0]))
    weights = torch.randn(3, 4, 2, 4, 5, dtype=torch.float64)

    def by_torch(x: torch.Tensor) -> torch.Tensor:
        return torchs(x.reshape(3, 4, 2, 4, 5).transpose(1, 2).flatten(2, 3)).unflatten(2, (4, 4)).transpose(1, 2)

    for _ in range(2):  # in training, then in evaluation
        y, expected = ours(x).reshape(weights.shape), by_torch(x)
        torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad((y * weights).sum(), [x, *ours.parameters()])
        wanted = torch.autograd.grad((expected * weights).sum(), [x, *torchs.parameters()])
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(list(ours.buffers())[:2], list(torchs.buffers())[:2], rtol=1e-10, atol=1e-10)
        ours.eval(), torchs.eval()


def test_depthwise_layers_keep_their_fields():
    with pytest.raises(DeepfieldError, match="keeps its fields, got 2 in and 3 out"):
        GroupConv(Group("p4"), 2, 3, 5, depthwise=True)


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (12, 20)])
def test_the_disc_has_the_symmetries_of_its_image(shape):
    mask = disc(*shape)
    assert torch.equal(mask, mask.flip(0)) and torch.equal(mask, mask.flip(1))
    assert shape[0] != shape[1] or torch.equal(mask, mask.T)
    assert mask[0, 0] == 0 and mask[shape[0] // 2, shape[1] // 2] == 1
