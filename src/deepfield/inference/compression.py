"""Data with a Gaussian likelihood of known covariance, compressed without loss.

Whitened by its Cholesky factor, a data set is its expectation plus unit noise, and the expectations of all models
of the prior lie, to a hundredth of that noise, in a space of few dimensions, found by a singular value
decomposition. What is perpendicular to it is the same noise whatever the parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.inference.priors import Prior
from deepfield.inference.sampling import Chains, sample

Array = NDArray[np.float64]


class Compressed(ABC):
    """Simulator, exact likelihood and exact posterior of compressed data.

    A subclass says what whitened data are expected of parameters, and calls ``_compress`` when it can.
    """

    prior: Prior
    observed: Array
    """Compressed data (K,)."""

    @abstractmethod
    def _whitened(self, theta: ArrayLike) -> Array:
        """Expected data (N, R) in which the noise is uncorrelated and of unit size."""

    def _compress(self, observed: Array) -> None:
        """Find the axes along which the models of the prior differ; ``observed`` (R,) is whitened."""
        cloud = self._whitened(self.prior.sample(4000, seed=0))
        self._centre = cloud.mean(0)
        _, strength, axes = np.linalg.svd(cloud - self._centre, full_matrices=False)
        # An axis along which no model moves by a hundredth of the noise (rms) says nothing.
        self._axes = axes[strength > 1e-2 * np.sqrt(len(cloud))]
        self.observed = self._project(observed)

    def _project(self, whitened: Array) -> Array:
        return (whitened - self._centre) @ self._axes.T

    def expected(self, theta: ArrayLike) -> Array:
        """Compressed data (N, K) without noise."""
        return self._project(self._whitened(theta))

    @property
    def noise(self) -> Array:
        """Standard deviations (K,) of the compressed data: one."""
        return np.ones(len(self.observed))

    def simulate(self, theta: ArrayLike, seed: int) -> Array:
        """Compressed data (N, K) with unit noise."""
        mean = self.expected(theta)
        return mean + np.random.default_rng(seed).standard_normal(mean.shape)

    def log_likelihood(self, theta: ArrayLike, data: ArrayLike | None = None) -> Array:
        """Exact log-likelihood (N,) of compressed data (K,), up to a constant; of the observed by default."""
        observed = self.observed if data is None else np.asarray(data, dtype=float)
        if observed.shape != self.observed.shape:
            raise DeepfieldError(f"compressed data are {len(self.observed)} numbers, not {observed.shape}")
        return -0.5 * ((observed - self.expected(theta)) ** 2).sum(1)

    def exact(self, n: int = 10_000, *, data: ArrayLike | None = None, seed: int = 0) -> tuple[Array, Chains]:
        """Draws (n, D) from the exact posterior, and the chains they are from."""

        def on_line(u: Tensor) -> Tensor:
            theta = self.prior.from_line(u.double().numpy())
            return torch.from_numpy(self.log_likelihood(theta, data))

        chains = sample(on_line, self.prior.dim, n, seed=seed)
        return self.prior.from_line(chains.u.reshape(-1, self.prior.dim))[:n], chains
