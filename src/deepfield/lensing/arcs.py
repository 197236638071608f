"""Where the arcs are: a map that finders learn beside the answer, as the simulator knows it.

One bit an image teaches a net slowly what it is to look for; which light is bent teaches it a hundred bits. The
map is asked of all stages of the net at once, coarse ones added to fine ones (as in Lin et al. 2017,
arXiv:1612.03144), and is left out once the finder is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import skip_init

from deepfield.core.augment import sampled
from deepfield.core.model import members
from deepfield.core.nets import ConvNet

CLEAR = 2.0
"""Signal-to-noise ratio of a cell at which it is as good as part of an arc as not."""


class ArcMap(nn.Module):
    """Maps of a net's stages to log odds (N, H / 4, W / 4) that light there is bent, as the image turns."""

    def __init__(self, net: ConvNet) -> None:
        super().__init__()
        self.versions = net.group.order
        stages: Any = net.stages
        widths = [stage[0].norm.weight.numel() for stage in stages]
        # Not at random: a training with the map begins where one without does.
        self.weigh = nn.ModuleList(skip_init(nn.Conv2d, width, 1, 1) for width in widths)
        for layer in self.weigh.parameters():
            nn.init.constant_(layer, 0.0)

    def forward(self, maps: list[Tensor]) -> Tensor:
        total: Tensor | None = None
        for layer, found in zip(reversed(self.weigh), reversed(maps)):
            own = layer(found.unflatten(1, (self.versions, -1)).mean(1))
            if total is not None:
                own = own + F.interpolate(total, size=own.shape[-2:], mode="bilinear")
            total = own
        assert total is not None
        return total[:, 0]


def share(snr: Tensor) -> Tensor:
    """How much of an arc each cell is, 0 to 1, by its signal-to-noise ratio.

    Examples
    --------
    >>> share(torch.tensor([0.0, 2.0, 5.0])).round(decimals=2).tolist()
    [0.0, 0.5, 1.0]
    """
    return torch.sigmoid(2 * (snr - CLEAR)) * (snr > 0)


def middle(maps: Tensor, part: float, size: int) -> Tensor:
    """The middle of maps (N, C, C), with this part of the side, on a grid of ``size`` cells: (N, size, size).

    Examples
    --------
    >>> maps = torch.arange(36.0).view(1, 6, 6)
    >>> bool(torch.allclose(middle(maps, 4 / 6, 4), maps[:, 1:5, 1:5]))
    True
    """
    where = torch.eye(2, 3).mul(part).to(maps).expand(len(maps), 2, 3)
    return sampled(maps[:, None], where, size, beyond="zeros")[:, 0]


def supervised(weight: float) -> Callable[..., Tensor]:
    """A loss for :func:`deepfield.core.fit.fit` of (x, y, arcs): the model's own, and ``weight`` times the map's.

    The model has ``arcs``, an :class:`ArcMap` for each member. Cells that are NaN are left out; without arcs, as
    in validation, it is the model's own loss.
    """

    def loss(model: Any, x: Tensor, y: Tensor, snr: Tensor | None = None) -> Tensor:
        if snr is None:
            own: Tensor = model.loss(x, y)
            return own
        parts, known = [], torch.isfinite(snr)
        wanted = share(snr.nan_to_num(0.0))
        for member, arcs in zip(members(model), model.arcs):
            net: Any = member.net
            maps = net.maps(x)
            answer = member.head.loss(net.project(net.dropout(net.pooled(maps[-1]))), y)
            found = arcs(maps)
            part = x.shape[-1] / (4 * found.shape[-1])  # less what the net has padded
            found = middle(found, part, snr.shape[-1])
            off = F.binary_cross_entropy_with_logits(found, wanted, reduction="none") * known
            parts.append(answer + weight * off.sum() / known.sum().clamp_min(1))
        return torch.stack(parts).mean()

    return loss
