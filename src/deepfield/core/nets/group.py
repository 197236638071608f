"""Group-equivariant convolutions in plain torch (Cohen & Welling 2016; Weiler & Cesa 2019).

A feature map of a group G (rotations, and reflections if asked) holds |G| versions of each of its fields: as
channels, ``channel = g * fields + field``. Turning the image turns each map and permutes the versions, and the
layers here commute with that:

    lift:      out[o, g](x) = sum_i,u      psi[o, i](g^-1 u)           image[i](x + u)
    convolve:  out[o, g](x) = sum_i,h,u    psi[o, i, g^-1 h](g^-1 u)   in[i, h](x + u)

psi is a sum of basis functions on a k x k grid. For the symmetries of the square (p4, p4m) the basis is the pixels
themselves and g permutes them. For 45 degrees (c8, d8) it is a set of circular harmonics exp(i m phi) times
Gaussian rings, without the frequencies that the grid cannot hold, sampled at g^-1 u; the quarter turns and mirrors
among them are again permutations, hence exact. In each case a layer's weights are one product of its parameters
with a fixed table (:meth:`Group.basis`).

A number that all versions of a field share is, along the channels, the row of fields repeated |G| times.
"""

from __future__ import annotations

import math
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets.kernels import Depthwise, Halves, SharedNorm

GROUPS = {"none": (1, False), "p4": (4, False), "p4m": (4, True), "c8": (8, False), "d8": (8, True)}


class Group:
    """A finite group of turns, with mirrors or without, and how it acts on filters.

    Parameters
    ----------
    name : str
        "none"; "p4" and "c8", 4 and 8 turns, which tell an image from its mirror image; "p4m" and "d8", the
        same with mirrors, which do not.

    Raises
    ------
    DeepfieldError
        If there is no group of this name.

    Examples
    --------
    >>> g = Group("p4m")
    >>> g.order, g.turns, g.mirrors
    (8, 4, True)
    >>> bool((g.product[g.inverse, torch.arange(8)] == 0).all())
    True
    """

    def __init__(self, name: str) -> None:
        if name not in GROUPS:
            raise DeepfieldError(f"unknown group '{name}': choose one of {', '.join(GROUPS)}")
        self.name = name
        self.turns, self.mirrors = GROUPS[name]
        self.order = self.turns * (1 + self.mirrors)

    @cached_property
    def matrices(self) -> np.ndarray:
        """(order, 2, 2): what each element does to (x, y); the identity first, the mirrored ones last."""
        angle = 2 * math.pi * np.arange(self.turns) / self.turns
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
        return np.concatenate([turn, turn @ np.diag([1.0, -1.0])]) if self.mirrors else turn

    def _find(self, matrices: np.ndarray) -> Tensor:
        distance = np.abs(matrices[..., None, :, :] - self.matrices).sum((-1, -2))
        return torch.as_tensor(distance.argmin(-1), device="cpu")

    @cached_property
    def product(self) -> Tensor:
        """(order, order): the index of g h."""
        return self._find(self.matrices[:, None] @ self.matrices)

    @cached_property
    def inverse(self) -> Tensor:
        """(order,): the index of g^-1."""
        return self._find(self.matrices.transpose(0, 2, 1))

    @cached_property
    def halves(self) -> Tensor:
        """(2, order / 2, order / 2, order): filters for sums and for differences of versions, out of those of psi.

        With r half a turn, sums over g and g r are convolved with (psi[v] + psi[v r]) / 2, differences with
        (psi[v] - psi[v r]) / 2, v = g^-1 h; g and h go through the elements before their half turns.
        """
        half = np.arange(self.order).reshape(-1, 2, self.turns // 2)[:, 0].ravel()
        product = self.product.numpy()
        same = product[self.inverse.numpy()[half]][:, half]  # g^-1 h
        one = np.eye(self.order)
        same, turned = one[same], one[product[same, self.turns // 2]]
        return torch.as_tensor(np.stack([same + turned, same - turned]) / 2, dtype=torch.float32, device="cpu")

    def basis(self, kernel: int) -> Tensor:
        """(order, B, kernel^2): each function of the basis as every element moves it; see :func:`harmonics`."""
        return _basis(self.name, kernel)


@cache
def _basis(name: str, kernel: int) -> Tensor:
    group = Group(name)
    at = _grid(kernel)
    steps = [2 * math.pi * k / group.turns for k in range(max(1, group.turns // 4))]
    tables = []
    for matrix in group.matrices:
        for angle in steps:
            # g = q s: s turns by less than 90 degrees; q is a symmetry of the square and permutes the pixels.
            cos, sin = math.cos(angle), math.sin(angle)
            square = matrix @ np.array([[cos, sin], [-sin, cos]])
            if np.allclose(square, np.rint(square)):
                break
        source = at @ np.rint(square)  # q^-1 u as rows: u^T q
        pixel = np.abs(source[:, None] - at).sum(-1).argmin(-1)
        function = np.eye(kernel**2) if group.turns < 8 else harmonics(kernel, angle)
        tables.append(function[:, pixel])
    return torch.as_tensor(np.stack(tables), dtype=torch.float32, device="cpu")


def _grid(kernel: int) -> np.ndarray:
    """(kernel^2, 2): x and y of the pixels, from the middle; rows run down."""
    axis = np.arange(kernel) - (kernel - 1) / 2
    y, x = np.meshgrid(-axis, axis, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], -1)


def harmonics(kernel: int, angle: float = 0.0) -> np.ndarray:
    """Steerable functions on a grid of ``kernel`` x ``kernel`` pixels, turned by ``angle`` (radians).

    Gaussian rings of radii 0, 1, 2, ... pixels times cos(m phi) and sin(m phi), with m up to 2 on the first ring
    and 2 radius - 1 on the others (about half the waves that its pixels could hold), in a round window that ends
    smoothly where the grid ends. Each pair has unit mean norm. Weiler & Cesa 2019, sec. 2.6 and appendix F.

    Examples
    --------
    >>> harmonics(5).shape, harmonics(1).tolist()
    ((13, 25), [[1.0]])
    """
    if kernel == 1:
        return np.ones((1, 1))
    x, y = _grid(kernel).T
    radius, phi = np.hypot(x, y), np.arctan2(y, x) - angle
    edge = kernel / 2
    window = np.where(radius < edge - 0.5, 1.0, 0.5 + 0.5 * np.cos(np.pi * np.clip(radius - edge + 0.5, 0, 1)))
    found = []
    for ring in range(int(edge - 0.25) + 1):
        profile = window * np.exp(-0.5 * ((radius - ring) / 0.6) ** 2)
        for m in range(max(1, 2 * ring - (ring > 1)) + (ring > 0)):
            # On an even grid no pixel lies in the middle and all is defined; on an odd one phi(0) is not.
            wave = profile * np.where(radius > 0, 1.0, m == 0)
            norm = math.sqrt((wave**2).sum() / (1 if m == 0 else 2))
            found += [wave * np.cos(m * phi) / norm] + ([wave * np.sin(m * phi) / norm] if m else [])
    return np.stack(found)


class GroupConv(nn.Module):
    """Convolution of an image to a map of G, or of a map to a map, without bias.

    Input (N, n_in, H, W) for ``lift``, else (N, |G| n_in, H, W); output (N, |G| n_out, H', W').

    Parameters
    ----------
    group : Group
    n_in, n_out : int
        Fields.
    kernel, stride : int
        A stride of 2 commutes with quarter turns only if its lattice lies in the middle of the image: take an even
        kernel on even sizes. The padding is (kernel - 1) // 2, zeros.
    lift : bool
        The input is an image.
    depthwise : bool
        Each version of each field is convolved with itself alone, by its field's filter turned as it is
        (psi supported on h = g). With 1 x 1 convolutions between: Knigge, Romero & Bekkers 2022.

    Examples
    --------
    >>> g = Group("c8")
    >>> layer = GroupConv(g, 3, 4, 5, lift=True)
    >>> layer(torch.zeros(2, 3, 16, 16)).shape, layer.weight.shape
    (torch.Size([2, 32, 16, 16]), torch.Size([1, 4, 3, 13]))
    """

    table: Tensor
    gather: Tensor
    halves: Tensor | None

    def __init__(
        self,
        group: Group,
        n_in: int,
        n_out: int,
        kernel: int,
        *,
        stride: int = 1,
        lift: bool = False,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        if depthwise and (lift or n_in != n_out):
            raise DeepfieldError(f"a depthwise convolution keeps its fields, got {n_in} in and {n_out} out")
        self.kernel, self.stride, self.groups = kernel, stride, n_in * group.order if depthwise else 1
        self.register_buffer("table", group.basis(kernel), persistent=False)
        order, size = group.order, self.table.shape[1]
        versions = 1 if lift or depthwise else order
        turned = group.product[group.inverse][:, None] * n_out + torch.arange(n_out, device="cpu")[:, None]
        self.register_buffer("gather", turned.flatten(), persistent=False)  # g, o, h: the row of g^-1 h, o
        # Halves pay from a dozen fields on; with fewer the sums and differences cost what the products save.
        self.sets = 1 + group.mirrors
        halved = versions > 1 and kernel == stride == 1 and group.turns > 1 and min(n_in, n_out) >= 12
        self.register_buffer("halves", group.halves if halved else None, persistent=False)
        inputs = 1 if depthwise else n_in
        std = math.sqrt(kernel**2 / size / (inputs * versions * kernel**2))
        self.weight = nn.Parameter(torch.randn(versions, n_out, inputs, size) * std)

    def expand(self) -> Tensor:
        """The weights of the same layer as an ordinary convolution, (|G| n_out, inputs, kernel, kernel)."""
        with torch.autocast(self.weight.device.type, enabled=False):
            order, size, _ = self.table.shape
            versions, n_out, inputs, _ = self.weight.shape
            filters = self.weight.view(1, versions * n_out, -1)
            if versions > 1:
                # index_select, whose gradient adds whole rows; plain indexing adds number by number.
                filters = filters[0].index_select(0, self.gather).view(order, n_out * versions, -1)
            if self.kernel > 1 or versions == 1:
                filters = filters.view(len(filters), -1, size) @ self.table
            return filters.view(order * n_out, versions * inputs, self.kernel, self.kernel)

    def half_filters(self) -> Tensor:
        """The weights for sums and for differences of versions, (2, |G| n_out / 2, |G| n_in / 2)."""
        assert self.halves is not None
        _, half, _, order = self.halves.shape
        _, n_out, n_in, _ = self.weight.shape
        filters = (self.halves.view(-1, order) @ self.weight.flatten(1)).view(2, half, half, n_out, n_in)
        return filters.transpose(2, 3).reshape(2, half * n_out, half * n_in)

    def forward(self, x: Tensor) -> Tensor:
        padding = (self.kernel - 1) // 2
        if x.device.type == "cpu" and not torch.is_autocast_enabled("cpu"):
            if self.halves is not None:
                return Halves.apply(x, self.half_filters(), self.sets)
            if self.groups > 1 and Depthwise.pays(x, self.kernel, self.stride):
                return Depthwise.apply(x, self.expand(), padding)
        return F.conv2d(x, self.expand(), None, self.stride, padding, 1, self.groups)

    @torch.no_grad()
    def ordinary(self) -> nn.Conv2d:
        """The same layer as an ordinary convolution: its filters expanded once and for all."""
        weight = self.expand()
        n_out, inputs, kernel, _ = weight.shape
        plain = nn.Conv2d(
            inputs * self.groups,
            n_out,
            kernel,
            self.stride,
            (kernel - 1) // 2,
            groups=self.groups,
            bias=False,
            device=weight.device,
        )
        plain.weight.copy_(weight)
        return plain


class FieldNorm(nn.BatchNorm2d):
    """Batch norm whose mean, width and affine map are one per field, shared by its versions.

    Examples
    --------
    >>> FieldNorm(Group("p4"), 2)(torch.randn(3, 8, 4, 4)).shape
    torch.Size([3, 8, 4, 4])
    """

    def __init__(self, group: Group, fields: int) -> None:
        super().__init__(fields)
        self.order = group.order

    def forward(self, x: Tensor) -> Tensor:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        if not self.training:
            known = (self.running_mean, self.running_var, self.weight, self.bias)
            mean, var, gain, offset = (t.repeat(self.order) for t in known)
            return F.batch_norm(x, mean, var, gain, offset, eps=self.eps)
        y, (mean, var) = SharedNorm.apply(x, self.weight, self.bias, self.order, self.eps)
        self.running_mean.lerp_(mean, self.momentum)
        count = x.numel() // len(mean)
        self.running_var.lerp_(var * (count / max(count - 1, 1)), self.momentum)
        return y

    @torch.no_grad()
    def gain_and_offset(self) -> tuple[Tensor, Tensor]:
        """Gain and offset (|G| fields,) of each channel in evaluation."""
        assert self.running_mean is not None and self.running_var is not None
        gain = self.weight / (self.running_var + self.eps).sqrt()
        return gain.repeat(self.order), (self.bias - gain * self.running_mean).repeat(self.order)


def disc(height: int, width: int, *, like: Tensor | None = None) -> Tensor:
    """(height, width): one inside the largest disc of an image, falling to zero over its last tenth.

    Examples
    --------
    >>> disc(4, 4)[0, 0].item(), disc(4, 4)[1, 1].item()
    (0.0, 1.0)
    """
    options: dict[str, Any] = {"dtype": torch.float32, "device": None if like is None else like.device}
    y = torch.arange(height, **options) - (height - 1) / 2
    x = torch.arange(width, **options) - (width - 1) / 2
    radius = (y[:, None].square() + x.square()).sqrt() / (min(height, width) / 2)
    return 0.5 + 0.5 * torch.cos(math.pi * ((radius - 0.9) / 0.1).clamp(0, 1))
