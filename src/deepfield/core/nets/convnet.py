"""Residual convolutional nets for images, ordinary or equivariant, from one builder.

What an image of a galaxy shows does not depend on how the camera was turned. An ordinary net learns that from
turned copies (Dieleman, Willett & Dambre 2015); here each layer commutes with the turns (Dieleman, De Fauw &
Kavukcuoglu 2016; Cohen & Welling 2016; Weiler & Cesa 2019) and the mean over versions and pixels at the end no
longer depends on them: exactly for quarter turns (and mirrors), nearly for those between.

Cost. With f = width / sqrt(|G|) fields a layer has |G| f^2 = width^2 parameters per tap in every group, and |G|
times as many multiplications as the ordinary layer of that width: equal parameters, |G| times the work. So images
are halved early, and most weights sit at low resolution.

Exact on the grid. Halving means even windows on even sizes, whose lattice lies in the middle of the image; windows
of 3 on even sizes would shift it by half a pixel as the image turns. An axis of odd length is first averaged over
neighbours (N to N - 1), and zeros on both sides fill up to a multiple of 16: any size is served exactly.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets.group import FieldNorm, Group, GroupConv, disc

REDUCTION = 16  # pixels of the image per pixel of the last map


class ConvNorm(nn.Module):
    """A group convolution and its batch norm; at inference one ordinary convolution (:meth:`ordinary`)."""

    def __init__(self, group: Group, n_in: int, n_out: int, kernel: int, **options: Any) -> None:
        super().__init__()
        self.conv = GroupConv(group, n_in, n_out, kernel, **options)
        self.norm = FieldNorm(group, n_out)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))

    @torch.no_grad()
    def ordinary(self) -> nn.Conv2d:
        """The same map, in evaluation, as an ordinary convolution with a bias."""
        gain, offset = self.norm.gain_and_offset()
        plain = self.conv.ordinary()
        plain.weight.mul_(gain[:, None, None, None])
        plain.bias = nn.Parameter(offset)
        return plain


class Block(nn.Module):
    """x + down(act(up(space(x)))): a depthwise convolution, then two 1 x 1 over fields and versions.

    The space part turns each field's filter, the 1 x 1 parts mix fields and versions (separable group
    convolutions, Knigge, Romero & Bekkers 2022).
    """

    def __init__(self, group: Group, fields: int, *, kernel: int, expand: float) -> None:
        super().__init__()
        self.space = GroupConv(group, fields, fields, kernel, depthwise=True)
        inner = max(1, round(fields * expand))
        self.up = ConvNorm(group, fields, inner, 1)
        self.down = ConvNorm(group, inner, fields, 1)
        nn.init.constant_(self.down.norm.weight, 0.2)  # near the identity at first, for every depth

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.up(self.space(x))))


def halve(x: Tensor) -> Tensor:
    """Blur by (1, 3, 3, 1) / 8 along both axes and keep every second pixel: less aliasing (Zhang 2019), and less
    change at 45 degrees, than the mean of 2 x 2.

    Examples
    --------
    >>> halve(torch.ones(1, 1, 8, 8))[0, 0, 1:-1, 1:-1].unique().tolist()
    [1.0]
    """
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], device=x.device, dtype=x.dtype) / 8
    channels = x.shape[1]
    return F.conv2d(x, torch.outer(taps, taps).expand(channels, 1, 4, 4), None, 2, 1, 1, channels)


def polynomials(order: int, like: Tensor) -> Tensor:
    """Products of Legendre polynomials of x and y up to a total order (K, H, W) on the pixels of a map.

    Of unit mean square over the square, the constant first.

    Examples
    --------
    >>> polynomials(2, torch.zeros(1, 1, 8, 8)).shape
    torch.Size([6, 8, 8])
    """

    def line(size: int) -> list[Tensor]:
        x = (torch.arange(size, device=like.device, dtype=like.dtype) + 0.5) * (2 / size) - 1
        found = [torch.ones_like(x), x]
        for n in range(1, order):
            found.append(((2 * n + 1) * x * found[n] - n * found[n - 1]) / (n + 1))
        return [(2 * n + 1) ** 0.5 * p for n, p in enumerate(found[: order + 1])]

    rows, columns = (line(size) for size in like.shape[-2:])
    pairs = [(n - k, k) for n in range(order + 1) for k in range(n + 1)]
    return torch.stack([torch.outer(rows[i], columns[j]) for i, j in pairs])


class ConvNet(nn.Module):
    """Images (N, n_in, H, W) of any size to features (N, n_out) that do not change as an image turns.

    Only the largest disc of an image is seen. Stretch and scale are the caller's: pixels should spread by about
    one (the first batch norm takes up what is left). An image with a NaN gives NaN in evaluation; in training it
    would spoil its batch.

    Parameters
    ----------
    n_in, n_out : int
        Bands, and output features.
    group : str
        "none"; "p4", "c8": blind to turns by 90 (45) degrees, not to mirrors, so that clockwise and anticlockwise
        spirals differ; "p4m", "d8": blind to mirrors too. Quarter turns and mirrors are exact, 45 degrees is not.
    width : float
        The width of the ordinary net with as many parameters; see :func:`width_for`.
    depth : tuple of int
        Blocks at 1/4, 1/8 and 1/16 of the image's resolution, of width / 2, width and 2 width.
    kernel : int
        Of the blocks' depthwise convolutions; odd.
    expand : float
        Inner fields of a block over its fields.
    dropout : float
        Before the last layer.
    exchange : tuple of int
        Two outputs that a mirror exchanges, such as the logits of clockwise and anticlockwise spirals; for the
        groups with mirrors, to which these outputs are not blind then. Others keep their values.
    moments : int
        0: the mean of the last maps over the image, which is all that an invariant answer may know. Above: the
        moments of the maps up to that order, so that the features know where in the image things are; for the
        group "none" alone.

    Raises
    ------
    DeepfieldError
        If an option is out of range, or images come with another number of bands or fewer than 16 pixels a side.

    Examples
    --------
    >>> net = ConvNet(3, 4, group="p4m", width=24).eval()
    >>> image = torch.randn(2, 3, 32, 32)
    >>> bool((net(image) - net(image.rot90(1, (2, 3)))).abs().max() < 1e-5)
    True
    >>> net.embed(image).shape, net.n_features
    (torch.Size([2, 34]), 34)
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        group: str = "p4m",
        width: float = 64.0,
        depth: Sequence[int] = (1, 2, 2),
        kernel: int = 5,
        expand: float = 2.0,
        dropout: float = 0.0,
        exchange: Sequence[int] = (),
        moments: int = 0,
    ) -> None:
        super().__init__()
        if moments and group != "none":
            raise DeepfieldError(f"moments depend on how an image is turned: take group none, not {group}")
        for name, value in {"n_in": n_in, "n_out": n_out, "width": width, "expand": expand}.items():
            if not value > 0:
                raise DeepfieldError(f"{name} must be positive, got {value}")
        if kernel < 1 or kernel % 2 == 0:
            raise DeepfieldError(f"kernel must be odd, so that maps keep their middle; got {kernel}")
        if len(depth) != 3 or min(depth) < 0:
            raise DeepfieldError(f"depth is the number of blocks at three resolutions, got {tuple(depth)}")
        self.n_in, self.n_out = n_in, n_out
        g = self.group = Group(group)
        stem, *stages = (max(1, round(share * width / g.order**0.5)) for share in (0.5, 0.5, 1, 2))
        self.stem = ConvNorm(g, n_in, stem, 6, stride=2, lift=True)
        self.stages = nn.ModuleList()
        fields = stem
        for n, blocks in zip(stages, depth):
            body = [Block(g, n, kernel=kernel, expand=expand) for _ in range(blocks)]
            self.stages.append(nn.Sequential(ConvNorm(g, fields, n, 1), *body))
            fields = n
        self.moments = moments
        channels = max(1, fields // 2) if moments else 2 * fields
        self.n_features = channels * ((moments + 1) * (moments + 2) // 2)
        self.last = ConvNorm(g, fields, channels, 1)
        self.dropout = nn.Dropout(dropout)
        if exchange:
            if not g.mirrors or len({*exchange}) != 2 or len(exchange) > 2 or not {*exchange} <= {*range(n_out)}:
                raise DeepfieldError(
                    f"exchange is of two of {n_out} outputs of a net with mirrors (p4m, d8), got "
                    f"{tuple(exchange)} and group '{group}'"
                )
            self.n_features *= 2
        self.project = Handed(self.n_features, n_out, exchange) if exchange else nn.Linear(self.n_features, n_out)
        nn.init.normal_(self.project.weight, std=0.1 / self.n_features**0.5)
        nn.init.zeros_(self.project.bias)

    def embed(self, x: Tensor) -> Tensor:
        """The features (N, n_features) before the last layer.

        They are invariant; with ``exchange`` a mirror exchanges their halves.
        """
        return self.pooled(self.maps(x)[-1])

    def maps(self, x: Tensor) -> list[Tensor]:
        """What each stage sees, at 1/4, 1/8 and 1/16 of the resolution: (N, versions times fields, H, W).

        Of the disc on a grid whose sides are multiples of 16, its middle in the middle; versions come first.
        """
        h, found = F.silu(self.stem(self.entrance(x))), []
        for stage in self.stages:
            h = stage(halve(h))
            found.append(h)
        return found

    def pooled(self, h: Tensor) -> Tensor:
        """The features (N, n_features) of the last of the maps."""
        h = F.silu(self.last(h))
        inside = disc(*h.shape[-2:], like=h)
        weight = (inside / inside.sum()).to(h.dtype)
        if self.moments:
            return torch.einsum("nchw,khw->nck", h, weight * polynomials(self.moments, h)).flatten(1)
        halves = 2 if isinstance(self.project, Handed) else 1  # the mirrored versions come last
        return (h * weight).sum((-1, -2)).unflatten(1, (halves, self.group.order // halves, -1)).mean(2).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.dropout(self.embed(x)))

    def entrance(self, x: Tensor) -> Tensor:
        """The disc of each image on a grid whose sides are multiples of 16, its middle in the middle."""
        if x.dim() != 4 or x.shape[1] != self.n_in or min(x.shape[2:]) < REDUCTION:
            raise DeepfieldError(
                f"this net takes images (N, {self.n_in}, height, width) of {REDUCTION} pixels a side or more, "
                f"got an array of shape {tuple(x.shape)}"
            )
        odd = [size % 2 for size in x.shape[2:]]
        if any(odd):
            x = F.avg_pool2d(x, (1 + odd[0], 1 + odd[1]), stride=1)
        x = x * disc(*x.shape[2:], like=x).to(x.dtype)
        rows, columns = (-size % REDUCTION // 2 for size in x.shape[2:])
        if rows or columns:
            x = F.pad(x, (columns, columns, rows, rows))
        return x.contiguous(memory_format=torch.channels_last)

    def ordinary(self) -> ConvNet:
        """The same net for inference: each filter expanded once, batch norms folded in, plain convolutions alone.

        Its outputs agree with those of this net in evaluation to the rounding of float32; it exports to ONNX.
        """
        plain = copy.deepcopy(self).eval()
        for module in list(plain.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, ConvNorm | GroupConv):
                    setattr(module, name, child.ordinary())
        return plain.requires_grad_(False)


class Handed(nn.Linear):
    """A linear layer of (u, v) in which two outputs are exchanged, and the others kept, when u and v are.

    Examples
    --------
    >>> layer, x = Handed(4, 3, (0, 2)), torch.randn(1, 4)
    >>> bool(torch.allclose(layer(x.roll(2, 1)), layer(x)[:, [2, 1, 0]], atol=1e-6))
    True
    """

    other: Tensor

    def __init__(self, n_in: int, n_out: int, exchange: Sequence[int]) -> None:
        super().__init__(n_in, n_out)
        one, two = exchange
        other = torch.arange(n_out)
        other[[one, two]] = other[[two, one]]
        self.register_buffer("other", other, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        mirrored = self.weight.roll(self.in_features // 2, 1)[self.other]
        return F.linear(x, (self.weight + mirrored) / 2, (self.bias + self.bias[self.other]) / 2)


def parameters_of(net: nn.Module) -> int:
    """The number of trainable parameters.

    Examples
    --------
    >>> parameters_of(nn.Linear(3, 2))
    8
    """
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def width_for(parameters: int, n_in: int, n_out: int, **options: Any) -> float:
    """The width with which ``ConvNet(n_in, n_out, width=..., **options)`` comes nearest to ``parameters``.

    Fields are whole, so steps are a few per cent; over the groups the width for the same count differs little
    (at 100,000 parameters with 3 bands by 5 per cent).

    Examples
    --------
    >>> width = width_for(60_000, 3, 4, group="c8")
    >>> 0.93 < parameters_of(ConvNet(3, 4, group="c8", width=width)) / 60_000 < 1.07
    True
    """
    if parameters < 1:
        raise DeepfieldError(f"parameters must be positive, got {parameters}")
    widths = [4.0 * 1.01**k for k in range(480)]  # 4 to 470

    def count(k: int) -> int:
        with torch.device("meta"):
            return parameters_of(ConvNet(n_in, n_out, width=widths[k], **options))

    low, high = 0, len(widths) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= parameters else (low, middle)
    return widths[min((low, high), key=lambda k: abs(count(k) - parameters))]
