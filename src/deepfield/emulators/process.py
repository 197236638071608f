"""Gaussian processes by exact linear algebra: the regressor of small designs of smooth simulations.

One process for each output, side by side. The kernel is a smooth part with a length for each input, a linear part
and a nugget (Rasmussen & Williams 2006, sections 2.2 and 5.4.1); its parameters maximise the marginal likelihood
under wide priors. With ten thousand design points use a net: the cost grows as the cube.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from deepfield.core.errors import ModelError

LARGEST = 4000
_JITTER = 1e-8


class GaussianProcesses(nn.Module):
    """Q processes over D inputs.

    Parameters
    ----------
    design : Tensor (N, D)
        Where the outputs are known, on about (-1, 1).
    outputs : int

    Examples
    --------
    >>> x = torch.linspace(-1, 1, 20, dtype=torch.float64)[:, None]
    >>> process = GaussianProcesses(x, 1).fit(torch.sin(3 * x), steps=150)
    >>> mean, std = process(torch.tensor([[0.33]], dtype=torch.float64))
    >>> bool(abs(mean - math.sin(0.99)) < 0.05), mean.shape
    (True, torch.Size([1, 1]))
    """

    design: Tensor
    target: Tensor
    inverse: Tensor
    solved: Tensor

    def __init__(self, design: Tensor, outputs: int) -> None:
        super().__init__()
        n, d = design.shape
        if n > LARGEST:
            raise ModelError(
                f"{n:,} simulations are too many for a Gaussian process (at most {LARGEST:,}): use a net"
            )
        self.register_buffer("design", design.double())
        self.register_buffer("target", torch.zeros(n, outputs, dtype=torch.float64))
        # These follow from the others: they are made again, and not saved.
        self.register_buffer("inverse", torch.zeros(outputs, n, n, dtype=torch.float64), persistent=False)
        self.register_buffer("solved", torch.zeros(outputs, n, dtype=torch.float64), persistent=False)

        def start(*shape: int, value: float) -> nn.Parameter:
            return nn.Parameter(torch.full(shape, value, dtype=torch.float64))

        self.length = start(outputs, d, value=math.log(2.0))
        self.height = start(outputs, value=0.0)
        self.slope = start(outputs, d, value=math.log(0.5))
        self.nugget = start(outputs, value=math.log(0.03))

    def kernel(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariances (Q, A, B) of the noiseless outputs."""
        scaled_a, scaled_b = a / self.length.exp()[:, None], b / self.length.exp()[:, None]
        squares = (scaled_a**2).sum(-1)[:, :, None] + (scaled_b**2).sum(-1)[:, None]
        distance = (squares - 2 * scaled_a @ scaled_b.transpose(1, 2)).clamp_min(0)
        smooth = (2 * self.height).exp()[:, None, None] * torch.exp(-0.5 * distance)
        return smooth + (a * (2 * self.slope).exp()[:, None]) @ b.T + 1.0

    def _covariance(self) -> Tensor:
        eye = torch.eye(len(self.design), dtype=torch.float64)
        return self.kernel(self.design, self.design) + ((2 * self.nugget).exp()[:, None, None] + _JITTER) * eye

    def fit(self, target: Tensor, *, steps: int = 150, rate: float = 0.05) -> GaussianProcesses:
        """Learn the kernels for outputs (N, Q) of about unit spread, and condition on them."""
        y = target.double().T
        optimizer = torch.optim.Adam(self.parameters(), lr=rate)
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps)) + 1e-3
            optimizer.zero_grad()
            factor = torch.linalg.cholesky(self._covariance())
            whitened = torch.linalg.solve_triangular(factor, y[..., None], upper=False)
            loss = 0.5 * (whitened**2).sum() + factor.diagonal(dim1=1, dim2=2).log().sum()
            # Normal priors on the logarithms: lengths of 3 within a factor of 4, of one output within one of 1.4,
            # nuggets of 8 % within one of 7. Of few and noisy simulations free lengths learn the noise.
            apart = self.length - self.length.mean(1, keepdim=True)
            loss = loss + 0.25 * ((self.length - 1.1) ** 2).sum() + 4 * (apart**2).sum()
            loss = loss + 0.125 * ((self.nugget + 2.5) ** 2).sum()
            loss = loss + 0.125 * ((self.height) ** 2).sum() + 0.125 * ((self.slope + 1) ** 2).sum()
            loss.backward()
            optimizer.step()
        return self.condition(target)

    @torch.no_grad()
    def condition(self, target: Tensor) -> GaussianProcesses:
        """Take the outputs (N, Q) as known, with the kernels as they are."""
        self.target.copy_(target)
        factor = torch.linalg.cholesky(self._covariance())
        self.inverse.copy_(torch.cholesky_inverse(factor))
        self.solved.copy_((self.inverse @ target.double().T[..., None])[..., 0])
        return self

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (M, Q) of the outputs at x (M, D), the nugget left out."""
        cross = self.kernel(x.double(), self.design)
        mean = (cross @ self.solved[..., None])[..., 0]
        x2 = x.double() ** 2
        prior = (2 * self.height).exp()[:, None] + (2 * self.slope).exp() @ x2.T + 1.0
        spread = prior - ((cross @ self.inverse) * cross).sum(-1)
        return mean.T, spread.clamp_min(_JITTER).sqrt().T

    @torch.no_grad()
    def left_out(self) -> Tensor:
        """Residuals (N, Q) of each design point predicted from all others, the kernels kept.

        Rasmussen & Williams (2006), equations 5.10 to 5.12.
        """
        return (self.solved / self.inverse.diagonal(dim1=1, dim2=2)).T
