"""The net of a likelihood-to-evidence ratio, and the loss it is fitted by."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepfield.core.heads import INVERSE_SOFTPLUS_ONE
from deepfield.inference.regression import Linear


class RatioNet(nn.Module):
    r"""log r(x, u) (N, 1) of encoded data and parameters in one row, [x, u].

    r(x, u) = sum_k w_k(x) N(W u; m_k(x), P_k(x)^-1) exp(f_k(x) . g(u)) det W / N(u; 0, I): a mixture of Gaussians
    over the prior, each tilted by features that are learnt. W and the start of m_k come from a linear regression
    of u on x, so that training starts, in a linear Gaussian model, within half a width of the posterior. In
    float32 the noise of log r is some thousandths where a posterior has a thousandth of its prior's width, and
    grows as the square of their ratio.

    Each term's logarithm is a product of numbers that x gives and numbers that u gives, so that a batch of B pairs
    is compared with all B (B - 1) wrong pairs in one product of matrices.

    Parameters
    ----------
    embed : Module
        Encoded data to features (N, context).
    inner : Module
        Parameters u (N, dim) to g (N, rank).
    shape : tuple of int
        Of encoded data.
    dim, context, components, rank : int
        Numbers of parameters, of the embedding's features, of Gaussians and of g.
    """

    start: Tensor

    def __init__(
        self,
        embed: nn.Module,
        inner: nn.Module,
        shape: tuple[int, ...],
        dim: int,
        *,
        context: int,
        components: int,
        rank: int,
    ) -> None:
        super().__init__()
        self.embed, self.inner, self.shape = embed, inner, shape
        self.dim, self.components = dim, components
        self.split = [1, dim, dim, dim * (dim - 1) // 2, rank]
        self.project = nn.Linear(context, components * sum(self.split))
        nn.init.normal_(self.project.weight, std=0.1 / context**0.5)
        nn.init.zeros_(self.project.bias)
        self.linear = Linear(dim, given=shape[0] if len(shape) == 1 else 0)
        # Components that start on top of one another would stay there.
        self.register_buffer("start", 0.5 * torch.randn(components, dim))

    def features(self, x: Tensor) -> Tensor:
        """What x gives to the products, (N, components (1 + dim + dim^2 + rank))."""
        raw = self.project(F.silu(self.embed(x))).unflatten(-1, (self.components, -1))
        weight, shift, width, below, tilt = raw.split(self.split, -1)
        centre = self.linear.centre(x.flatten(1)) @ self.linear.whiten.T
        mean = centre[:, None] + self.start + shift
        width = F.softplus(width + INVERSE_SOFTPLUS_ONE) + _NARROWEST
        root = torch.diag_embed(width)
        if self.dim > 1:
            row, column = torch.tril_indices(self.dim, self.dim, -1)
            root[..., row, column] = below
        precision = root @ root.mT
        pull = (precision @ mean[..., None])[..., 0]
        level = torch.log_softmax(weight, 1)[..., 0] + width.log().sum(-1) - 0.5 * (pull * mean).sum(-1)
        return torch.cat([level[..., None], pull, -0.5 * precision.flatten(-2), tilt], -1).flatten(1)

    def _given(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """What u gives to the products, and the log of det W / N(u; 0, I) without the constants that cancel."""
        v = u @ self.linear.whiten.T
        square = (v[:, :, None] * v[:, None, :]).flatten(1)
        row = torch.cat([torch.ones_like(v[:, :1]), v, square, self.inner(u)], 1)
        return row, 0.5 * (u**2).sum(-1) + self.linear.log_volume()

    def ratio(self, features: Tensor, u: Tensor) -> Tensor:
        """The log of r (R N,) of features (N, ...) with parameters (R N, dim), the data over and over."""
        row, rest = self._given(u)
        rows = row.unflatten(0, (-1, len(features))).permute(1, 2, 0)
        terms = features.unflatten(1, (self.components, -1)) @ rows  # (N, components, R)
        return torch.logsumexp(terms, 1).T.flatten() + rest

    def table(self, features: Tensor, u: Tensor) -> Tensor:
        """The log of r (N, M) of N data with each of M parameters."""
        row, rest = self._given(u)
        terms = features.reshape(len(features) * self.components, -1) @ row.T
        return torch.logsumexp(terms.unflatten(0, (-1, self.components)), 1) + rest

    def forward(self, pair: Tensor) -> Tensor:
        x, u = pair[:, : -self.dim], pair[:, -self.dim :]
        return self.ratio(self.features(x.reshape(-1, *self.shape)), u)[:, None]


_NARROWEST = 1e-3
"""Root of the least precision, in that of the linear regression."""


def contrastive(model: Any, x: Tensor, u: Tensor, *, contrasts: int) -> Tensor:
    r"""The loss of NRE-C (Miller, Weniger & Forre 2022, equations 9 to 12, gamma = 1); NRE-A for one contrast.

    K sets of parameters stand beside the data: either all K are shuffled, or one of them made the data. The
    probability of the first is K / (K + sum_k r_k), so that the net is log r itself, without the unknown
    function of x that other multi-class losses leave open.

    Parameters
    ----------
    model : Model
        Of a :class:`RatioNet`.
    x : Tensor (B, ...)
        Encoded data.
    u : Tensor (B, D)
        The parameters that made them; shuffled ones are those of other rows.
    contrasts : int
        K, less than B.
    """
    size, net = len(u), model.net
    count = min(contrasts, size - 1)
    rows = torch.arange(size, device=u.device)
    # Row i: its own parameters, then those of the K rows before it.
    chosen = (rows[:, None] - torch.arange(count + 1, device=u.device)) % size
    log_r = net.table(net.features(x), u).gather(1, chosen)
    log_k = math.log(count)
    neither = torch.logaddexp(log_r.new_tensor(log_k), torch.logsumexp(log_r[:, 1:], 1)) - log_k
    joint = torch.logaddexp(log_r.new_tensor(log_k), torch.logsumexp(log_r[:, :-1], 1)) - log_r[:, 0]
    return 0.5 * (neither + joint).mean()
