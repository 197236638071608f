"""Pieces of equivariant nets with gradients of their own: the numbers of plain torch, in less time on a CPU.

Together they take a sixth to a quarter off a training step (64 pixels, 60,000 to 300,000 parameters, one thread).
Layers use the two convolutions on a CPU in full precision only; they were measured nowhere else.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


class Depthwise(torch.autograd.Function):
    """A depthwise convolution with the gradient of its filters taken as another one, three times as fast on a CPU.

    That gradient is each channel of each image convolved with its own gradient, then summed over the images.
    """

    @staticmethod
    def pays(x: Tensor, kernel: int, stride: int) -> bool:
        """True for small maps, which are the filters here; for filters of 3 x 3 torch is fast itself."""
        return stride == 1 and kernel > 3 and max(x.shape[2:]) <= 20

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.padding = padding
        return F.conv2d(x, weight, None, 1, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (dy,), padding = ctx.saved_tensors, gradients, ctx.padding
        dx = F.conv2d(dy, weight.flip(2, 3), None, 1, weight.shape[-1] - 1 - padding, 1, len(weight))
        n, channels, height, width = x.shape
        # All images' channels side by side and innermost; any other order of strides costs a reordering.
        each = x.permute(2, 3, 0, 1).reshape(1, height, width, n * channels).permute(0, 3, 1, 2)
        filters = dy.reshape(n * channels, 1, *dy.shape[2:])
        dw = F.conv2d(each, filters, None, 1, padding, 1, len(filters))
        return dx, dw.reshape(n, *weight.shape).sum(0), None


class SharedNorm(torch.autograd.Function):
    """Batch norm with statistics shared over versions, out of torch's own kernels per channel.

    Versions taken as further pixels and torch's batch norm on that give the same numbers, but its kernel goes
    along the channels and starves on a handful of fields: on large maps it took four times as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, order: int, eps: float) -> tuple[Tensor, ...]:
        zeros = torch.zeros_like(weight).repeat(
            order
        )  # of the type that statistics shall have, which x may not be
        mean, var = (s.view(order, -1) for s in torch.batch_norm_update_stats(x, zeros, zeros, 0.0))
        shared = torch.stack([mean.mean(0), var.mean(0) + mean.var(0, correction=0)])
        mean, var, gain, offset = torch.cat([shared, torch.stack([weight, bias])]).repeat(1, order)
        ctx.save_for_backward(x, mean, var, gain)
        ctx.order, ctx.eps = order, eps
        ctx.mark_non_differentiable(shared)
        return torch.native_batch_norm(x, gain, offset, mean, var, False, 0.0, eps)[0], shared

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, var, gain = ctx.saved_tensors
        dy = gradients[0]
        # How the loss changes with gain and offset; they tell what flows through mean and width as well, and
        # the whole is linear in x and dy (Ioffe & Szegedy 2015, sec. 3).
        _, *sums = torch.ops.aten.native_batch_norm_backward(
            dy, x, gain, mean, var, None, None, False, ctx.eps, [False, True, True]
        )
        dw, db = shared = torch.stack(sums).view(2, ctx.order, -1).sum(1)
        dw_all, db_all = (shared * (len(dw) / x.numel())).repeat(1, ctx.order)
        scale = (var + ctx.eps).rsqrt()
        slope = gain * scale
        bend = -slope * scale * dw_all
        offset = -slope * db_all - bend * mean
        offset, bend, slope = torch.stack([offset, bend, slope]).to(x.dtype)[..., None, None]
        return torch.addcmul(offset, x, bend).addcmul_(dy, slope), dw, db, None, None


class Halves(torch.autograd.Function):
    """A 1 x 1 group convolution in two halves, half the multiplications.

    Half a turn r commutes with all elements, so sums and differences of the versions g and g r do not mix: the
    first step of a Fourier transform over the group. Channels are (sets, 2, half of a set), g and g r along the
    second; filters are those for sums and for differences (2, outputs / 2, inputs / 2).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, filters: Tensor, sets: int) -> Tensor:
        halves = _halves(x, sets)
        ctx.save_for_backward(halves, filters)
        ctx.sets, ctx.shape = sets, x.shape
        return _whole(halves @ filters.mT, x.shape, sets)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (halves, filters), dy = ctx.saved_tensors, _halves(gradients[0], ctx.sets)
        return _whole(dy @ filters, ctx.shape, ctx.sets), dy.mT @ halves, None


def _halves(x: Tensor, sets: int) -> Tensor:
    """(N, C, H, W) to sums and differences, (2, N H W, C / 2)."""
    n, channels, height, width = x.shape
    pixels = x.permute(0, 2, 3, 1).reshape(n * height * width, sets, 2, channels // (2 * sets))
    a, b = pixels.unbind(2)
    halves = x.new_empty(2, *a.shape)
    torch.add(a, b, out=halves[0])
    torch.sub(a, b, out=halves[1])
    return halves.flatten(2)


def _whole(halves: Tensor, shape: torch.Size, sets: int) -> Tensor:
    """The transpose, and but for a factor of two the inverse, of :func:`_halves`; N, H and W as in ``shape``."""
    a, b = halves.unflatten(2, (sets, -1))
    x = halves.new_empty(len(a), sets, 2, a.shape[2])
    torch.add(a, b, out=x[:, :, 0])
    torch.sub(a, b, out=x[:, :, 1])
    return x.view(shape[0], *shape[2:], 2 * halves.shape[2]).permute(0, 3, 1, 2)
