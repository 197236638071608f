"""Six tasks of sbibm (Lueckmann et al. 2021): its priors and simulators in numpy, its observations and references.

Observations and reference posteriors are files of the package sbibm (``sbibm/tasks/<task>/files``), needed
for them alone: the differential equations are solved here, without Julia.

    pip install --no-deps --target benchmarks/work/sbibm sbibm==1.1.0
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.inference import Prior

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Task:
    """A prior, a simulator of theta (N, D) and a seed, and the prior as sbi takes it."""

    name: str
    prior: Prior
    simulate: Callable[[Array, int], Array]

    def torch_prior(self) -> Any:
        """A torch distribution."""
        import torch
        from torch.distributions import Independent, LogNormal, MultivariateNormal, Uniform

        if self.name == "gaussian_linear":
            return MultivariateNormal(torch.zeros(10), 0.1 * torch.eye(10))
        arguments = torch.tensor([list(block.arguments) for block in self.prior.blocks], dtype=torch.float32).T
        family = LogNormal if self.prior.blocks[0].family == "lognormal" else Uniform
        return Independent(family(*arguments), 1)

    def observation(self, folder: Path, k: int) -> Array:
        """Observed data (K,) of number k, from 1."""
        return np.loadtxt(self._files(folder, k) / "observation.csv", delimiter=",", skiprows=1)

    def reference(self, folder: Path, k: int) -> Array:
        """10,000 draws (N, D) of the reference posterior."""
        import bz2

        with bz2.open(self._files(folder, k) / "reference_posterior_samples.csv.bz2", "rt") as file:
            return np.loadtxt(file, delimiter=",", skiprows=1)

    def _files(self, folder: Path, k: int) -> Path:
        return folder / "sbibm" / "tasks" / self.name / "files" / f"num_observation_{k}"


def two_moons(theta: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    angle, radius = rng.uniform(-math.pi / 2, math.pi / 2, len(theta)), rng.normal(0.1, 0.01, len(theta))
    moon = np.stack([np.cos(angle) * radius + 0.25, np.sin(angle) * radius], 1)
    return moon + np.stack([-abs(theta.sum(1)), theta[:, 1] - theta[:, 0]], 1) / math.sqrt(2)


def slcp(theta: Array, seed: int) -> Array:
    s1, s2, rho = theta[:, 2] ** 2, theta[:, 3] ** 2, np.tanh(theta[:, 4])
    covariance = np.array([[s1**2 + 1e-6, rho * s1 * s2], [rho * s1 * s2, s2**2 + 1e-6]]).transpose(2, 0, 1)
    noise = np.random.default_rng(seed).normal(size=(len(theta), 4, 2))
    return (theta[:, None, :2] + noise @ np.linalg.cholesky(covariance).transpose(0, 2, 1)).reshape(-1, 8)


def gaussian_linear(theta: Array, seed: int) -> Array:
    return theta + math.sqrt(0.1) * np.random.default_rng(seed).normal(size=theta.shape)


def gaussian_mixture(theta: Array, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    width = rng.choice([1.0, 0.1], size=(len(theta), 1))
    return theta + width * rng.normal(size=theta.shape)


def rk4(slope: Callable[[Array], Array], start: Array, step: float, every: int, count: int) -> Array:
    """The state (count, ...) at the start and after each ``every`` steps of the classical Runge-Kutta method."""
    y, kept = start, [start]
    for _ in range(count - 1):
        for _ in range(every):
            a = slope(y)
            b = slope(y + 0.5 * step * a)
            c = slope(y + 0.5 * step * b)
            y = y + step / 6 * (a + 2 * b + 2 * c + slope(y + step * c))
        kept.append(y)
    return np.array(kept)


def lotka_volterra(theta: Array, seed: int, step: float = 0.01) -> Array:
    """Prey and predators from (30, 1) at t = 0, 2.1, ..., 18.9 with 10 % noise; the logs are integrated."""
    alpha, beta, gamma, delta = theta.T

    def slope(y: Array) -> Array:
        prey, predators = np.exp(np.minimum(y, 50.0))
        return np.stack([alpha - beta * predators, -gamma + delta * prey])

    start = np.log([[30.0], [1.0]]) + np.zeros((2, len(theta)))
    logs = rk4(slope, start, step, round(2.1 / step), 10)  # (10, 2, N)
    logs = np.clip(logs, math.log(1e-10), math.log(1e4)).transpose(2, 1, 0).reshape(len(theta), 20)
    return np.exp(logs + 0.1 * np.random.default_rng(seed).normal(size=logs.shape))


def sir(theta: Array, seed: int, step: float = 0.1) -> Array:
    """Infected among 1,000 tested at days 0, 17, ..., 153, from one in a million."""
    beta, gamma = theta.T

    def slope(y: Array) -> Array:
        new = beta * y[0] * y[1]
        return np.stack([-new, new - gamma * y[1]])

    start = np.array([[1 - 1e-6], [1e-6]]) + np.zeros((2, len(theta)))
    infected = rk4(slope, start, step, round(17 / step), 10)[:, 1].T
    return np.random.default_rng(seed).binomial(1000, np.clip(infected, 0, 1)).astype(float)


def _prior(count: int, description: Any) -> Prior:
    return Prior({f"t{i}": description for i in range(count)})


_LV = [{"lognormal": [mean, 0.5]} for mean in (-0.125, -3.0, -0.125, -3.0)]
_SIR = [{"lognormal": [math.log(0.4), 0.5]}, {"lognormal": [math.log(0.125), 0.2]}]
TASKS = {
    task.name: task
    for task in (
        Task("two_moons", _prior(2, (-1, 1)), two_moons),
        Task("slcp", _prior(5, (-3, 3)), slcp),
        Task("gaussian_linear", _prior(10, {"normal": [0, math.sqrt(0.1)]}), gaussian_linear),
        Task("gaussian_mixture", _prior(2, (-10, 10)), gaussian_mixture),
        Task("lotka_volterra", Prior({f"t{i}": d for i, d in enumerate(_LV)}), lotka_volterra),
        Task("sir", Prior({f"t{i}": d for i, d in enumerate(_SIR)}), sir),
    )
}
