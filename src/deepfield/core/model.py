"""Model = net + head: raw quantities in, a distribution out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from deepfield.core.heads import Ensemble, Head
from deepfield.core.prediction import Prediction


class Model(nn.Module):
    """q(y | x): a net that gives features, a head that turns them into a distribution.

    Parameters
    ----------
    net : nn.Module
        x (N, ...) to features (N, head.n_features); what raw quantities need (masks, scaling) is part of it.
    head : Head
        Features to a torch distribution in the target's own unit.

    Examples
    --------
    >>> from deepfield.core.heads import GaussianMixture
    >>> from deepfield.core.nets import ResidualMLP
    >>> head = GaussianMixture(3)
    >>> model = Model(ResidualMLP(5, head.n_features, width=8), head)
    >>> model(torch.zeros(2, 5)).mean.shape
    torch.Size([2])
    """

    def __init__(self, net: nn.Module, head: Head) -> None:
        super().__init__()
        self.net, self.head = net, head

    def forward(self, x: Tensor) -> Distribution:
        return self.head(self.net(x))

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Mean negative log-likelihood of targets ``y`` given ``x``."""
        features = self.net(x)
        # Under autocast the net may speak bf16, whose three digits would blunt a density: heads keep float32.
        with torch.autocast(features.device.type, enabled=False):
            return self.head.loss(features.float() if features.dtype == torch.bfloat16 else features, y)

    @torch.no_grad()
    def predict(self, x: Tensor, *, chunk: int = 0) -> Prediction:
        """Features of all rows of ``x``, chunk by chunk on the model's device, as a :class:`Prediction`.

        A ``chunk`` of 0 chooses: on a CPU so few rows that what lies between layers stays in a core's own cache.
        """
        device = next(self.parameters()).device
        chunk = chunk or (4096 if device.type == "cpu" else 65_536)
        was_training = self.training
        self.eval()
        features = [self.net(x[i : i + chunk].to(device)).float().cpu() for i in range(0, max(len(x), 1), chunk)]
        self.train(was_training)
        return Prediction(self.head, torch.cat(features))


class Parallel(nn.Module):
    """Nets side by side on the same input; their features in a row."""

    def __init__(self, nets: list[nn.Module]) -> None:
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([net(x) for net in self.nets], -1)


def ensemble(members: list[Model]) -> Model:
    """One model out of several: fitted together, each on its own loss, and averaged as densities when asked.

    Examples
    --------
    >>> from deepfield.core.heads import GaussianMixture
    >>> members = [Model(nn.Linear(2, 6), GaussianMixture(2)) for _ in range(3)]
    >>> ensemble(members)(torch.zeros(5, 2)).means.shape
    torch.Size([5, 6])
    """
    if len(members) == 1:
        return members[0]
    return Model(Parallel([m.net for m in members]), Ensemble([m.head for m in members]))


def members(model: Model) -> list[Model]:
    """The models of an ensemble, sharing its weights; a single model is its own only member."""
    if not isinstance(model.net, Parallel):
        return [model]
    heads: Any = model.head
    return [Model(net, head) for net, head in zip(model.net.nets, heads.members)]
