"""Drawing from autoregressive spline flows (zuko's) without working anything out twice.

Dimension k of what is drawn needs those before it. To ask the whole net once for each dimension, as the textbook
has it, works out each hidden unit and each spline ``dim`` times; here each is worked out once, as soon as what it
depends on is known.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def drawn(flow: Any, context: Tensor, noise: Tensor) -> Tensor:
    """What a flow makes of draws from its base: what ``flow(context).transform.inv(noise)`` gives.

    Parameters
    ----------
    flow : zuko.flows.NSF
        Of two dimensions or more, its nets without residual blocks.
    context : Tensor (..., C)
    noise : Tensor (S, ..., dim)

    Examples
    --------
    >>> import zuko
    >>> flow, noise = zuko.flows.NSF(3, 2, transforms=2, hidden_features=(16, 16)), torch.randn(5, 4, 3)
    >>> context = torch.randn(4, 2)
    >>> bool(torch.allclose(drawn(flow, context, noise), flow(context).transform.inv(noise), atol=1e-5))
    True
    """
    for stage in reversed(list(flow.transform.transforms)):
        noise = _inverse(stage, context, noise)
    return noise


def _inverse(stage: Any, context: Tensor, y: Tensor) -> Tensor:
    """One transform backwards, a group of dimensions after the other."""
    layers, acts = list(stage.hyper)[::2], list(stage.hyper)[1::2]
    weights, biases, ends = _sorted(stage, layers)
    dim, x = y.shape[-1], torch.zeros_like(y)
    given = F.linear(context, weights[0][:, dim:], biases[0])
    hidden = [y.new_empty(*y.shape[:-1], len(bias)) for bias in biases[:-1]]
    known = [0] * len(hidden)
    for k in range(stage.passes):
        for n, (act, old, new) in enumerate(zip(acts, known, (end[k] for end in ends))):
            rows = slice(old, new)
            if n == 0:
                found = F.linear(x, weights[0][rows, :dim]) + given[..., rows]
            else:
                before = known[n - 1]
                found = F.linear(hidden[n - 1][..., :before], weights[n][rows, :before], biases[n][rows])
            hidden[n][..., rows], known[n] = act(found), new
        now = (stage.order == k).nonzero()[:, 0]
        asked = (now[:, None] * stage.total + torch.arange(stage.total, device=now.device)).flatten()
        phi = F.linear(hidden[-1][..., : known[-1]], weights[-1][asked, : known[-1]], biases[-1][asked])
        parts = phi.unflatten(-1, (len(now), stage.total)).split([int(shape[0]) for shape in stage.shapes], -1)
        x[..., now] = stage.univariate(*parts).inv(y[..., now])
    return x


def _sorted(stage: Any, layers: list[Any]) -> tuple[list[Tensor], list[Tensor], list[list[int]]]:
    """Weights and biases with each layer's hidden units sorted by the first group of dimensions that needs them.

    What is known of a layer is then a slice, which ends at the third of what is returned (layer, group).
    """
    weights = [layer.mask * layer.weight for layer in layers]
    biases = [layer.bias for layer in layers]
    ends: list[list[int]] = []
    group = stage.order.repeat_interleave(stage.total)
    for n in range(len(layers) - 1, 0, -1):
        first = torch.where(weights[n] != 0, group[:, None], stage.passes - 1).amin(0)
        group, order = first.sort()
        weights[n], weights[n - 1] = weights[n][:, order], weights[n - 1][order]
        biases[n - 1] = biases[n - 1][order]
        ends.insert(0, [int((group <= k).sum()) for k in range(stage.passes)])
    return weights, biases, ends
