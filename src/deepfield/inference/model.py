"""One model with its arguments exchanged: q(theta | x), q(x | theta), or r(x, theta).

- NPE: an embedding of the data, and a density of u, the parameters on the line of their prior.
- NLE: a net of u, and a density of the data.
- NRE: an embedding of the data, one of the parameters, and a Bernoulli head: do they belong together?

Each is a net and a head, fitted by :func:`deepfield.core.fit.fit`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from deepfield.core.autoregressive import AutoregressiveMixture
from deepfield.core.errors import DeepfieldError
from deepfield.core.flow import Flow
from deepfield.core.heads import Bernoulli, Head
from deepfield.core.matching import FlowMatching
from deepfield.core.model import Model, ensemble
from deepfield.core.nets import ConvNet, ResidualMLP, SequenceNet
from deepfield.inference.encoding import Encoding
from deepfield.inference.ratio import RatioNet
from deepfield.inference.regression import Regressed, WithInput

METHODS = ("npe", "nle", "nre")


@dataclass(frozen=True)
class InferenceConfig:
    """What the estimator is, and how it is trained.

    Parameters
    ----------
    method : str
        "npe", "nle" or "nre".
    members : int
        Nets whose densities are averaged.
    density : str
        "mixture" (autoregressive, :class:`deepfield.core.autoregressive.AutoregressiveMixture`), "flow" (neural
        splines, :class:`deepfield.core.flow.Flow`), or for NPE "matching" (flow matching,
        :class:`deepfield.core.matching.FlowMatching`; its loss is an error of velocities, up to a constant).
    width, blocks, context : int
        Of the embedding: width and residual blocks of its net, and the features it gives.
    hidden, components : int
        Of the density: width of its nets (half of that of matching's one net), and Gaussians in each factor; of
        NRE, Gaussians over the parameters.
    dropout : float
        -1 chooses for the method: more where a net sees the data, of which few simulations are known by heart.
    contrasts : int
        Of NRE: shuffled parameters for each simulation (NRE-C); 1 is the plain classifier.
    rank : int
        Of NRE: features of the parameters that tilt each Gaussian.
    epochs : int
        0 takes as many as make 2,000 steps, from 20 to 300, and that once more where the held-out loss is still
        falling at their end.
    batch : int
    learning_rate : float
    validation : float
        Share of the simulations that are held out to choose the epoch.
    seed : int
    """

    method: str = "npe"
    members: int = 2
    density: str = "mixture"
    width: int = 64
    blocks: int = 1
    context: int = 32
    hidden: int = 32
    components: int = 8
    dropout: float = -1.0
    contrasts: int = 127
    rank: int = 32
    epochs: int = 0
    batch: int = 128
    learning_rate: float = 0.014
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DeepfieldError(f"method is one of {', '.join(METHODS)}, not '{self.method}'")
        if self.method == "nre" and self.density != "mixture":
            raise DeepfieldError(f"nre learns a ratio of densities, not one: density='{self.density}' is for npe")
        if self.density not in ("mixture", "flow", "matching"):
            raise DeepfieldError(f"density is 'mixture', 'flow' or 'matching', not '{self.density}'")
        if self.density == "matching" and self.method == "nle":
            raise DeepfieldError("density='matching' is for npe: a chain would solve its equation in each step")
        for name in (
            "members",
            "width",
            "blocks",
            "context",
            "hidden",
            "components",
            "contrasts",
            "rank",
            "batch",
        ):
            if not 1 <= getattr(self, name) <= 4096:
                raise DeepfieldError(f"{name} lies between 1 and 4096, got {getattr(self, name)}")
        if not 0 < self.validation < 1 or not self.dropout < 1 or self.epochs < 0:
            raise DeepfieldError("validation lies between 0 and 1, dropout below 1, and epochs at 0 or above")

    def drop(self) -> float:
        """The dropout that is meant."""
        return self.dropout if self.dropout >= 0 else {"npe": 0.3, "nle": 0.1, "nre": 0.3}[self.method]


class MapEmbedding(nn.Module):
    """Features (N, context) of maps (N, channels, height, width): a convolutional net without a direction."""

    def __init__(self, channels: int, context: int, width: float) -> None:
        super().__init__()
        self.net = ConvNet(channels, context, group="p4m", width=width)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def _out(encoding: Encoding) -> tuple[int, ...]:
    return (encoding.dim, *encoding.shape[1:])


def embedding(encoding: Encoding, config: InferenceConfig) -> nn.Module:
    """A net from encoded data to ``config.context`` features."""
    if encoding.kind == "maps":
        return MapEmbedding(encoding.dim, config.context, config.width / 2)
    if encoding.kind == "sequences":
        return SequenceNet(encoding.dim, config.context, width=config.width // 2 or 1, blocks=config.blocks)
    return _net(encoding.dim, config)


def _net(n_in: int, config: InferenceConfig) -> ResidualMLP:
    drop = config.drop()
    return ResidualMLP(n_in, config.context, width=config.width, blocks=config.blocks, dropout=drop, masked=0)


def _density(net: nn.Module, dim: int, config: InferenceConfig, *, given: int) -> Model:
    """A conditional density of ``dim`` numbers; its linear part is taken from ``given`` inputs."""
    sizes = {"context": config.context, "hidden": config.hidden}
    inner: Head
    if config.density == "flow":
        inner = Flow(dim, transforms=3, **sizes)
    elif config.density == "matching":
        # One net for all dimensions and angles.
        inner = FlowMatching(dim, context=config.context, hidden=2 * config.hidden)
    else:
        inner = AutoregressiveMixture(dim, components=config.components, dropout=config.drop(), **sizes)
    return Model(WithInput(net) if given else net, Regressed(inner, dim, given=given))


def _member(encoding: Encoding, dim: int, config: InferenceConfig) -> Model:
    if config.method == "npe":
        return _density(
            embedding(encoding, config), dim, config, given=encoding.dim if encoding.kind == "vectors" else 0
        )
    if config.method == "nre":
        inner = _net(dim, replace(config, context=config.rank))
        sizes = {name: getattr(config, name) for name in ("context", "components", "rank")}
        return Model(RatioNet(embedding(encoding, config), inner, _out(encoding), dim, **sizes), Bernoulli())
    if encoding.kind != "vectors":
        raise DeepfieldError(f"a likelihood of whole {encoding.kind} is out of reach: use npe, nre or summaries")
    return _density(_net(dim, config), encoding.dim, config, given=dim)


def build(encoding: Encoding, dim: int, config: InferenceConfig) -> Model:
    """The untrained estimator of ``dim`` parameters."""
    members = []
    for k in range(config.members):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 1009 + k)
            members.append(_member(encoding, dim, config))
    return ensemble(members)
