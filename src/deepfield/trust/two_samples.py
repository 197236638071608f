"""Do two sets of draws come from one distribution? The classifier two-sample test (Lopez-Paz & Oquab 2017)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]


def c2st(a: ArrayLike, b: ArrayLike, *, folds: int = 5, epochs: int = 60, seed: int = 0) -> float:
    """Cross-validated accuracy of a classifier that tells a from b: 0.5 if it cannot, 1 if they lie apart.

    Two hidden layers of 10 D units on draws standardised by ``a``, as in the benchmark of Lueckmann et al. (2021),
    all folds at once. Its error is about 0.5 / sqrt(number of draws).

    Parameters
    ----------
    a, b : array (N, D), (M, D)
        Draws; of the longer set as many are used as the shorter has.

    Raises
    ------
    DeepfieldError
        If the dimensions differ or there are fewer than 100 draws.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> round(c2st(rng.normal(size=(500, 1)), rng.normal(2, 1, size=(500, 1)), epochs=20), 1)
    0.8
    """
    one, two = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if one.ndim != 2 or two.ndim != 2 or one.shape[1] != two.shape[1] or min(len(one), len(two)) < 100:
        raise DeepfieldError(
            f"two sets of at least 100 draws (N, D) are compared, got {one.shape} and {two.shape}"
        )
    rng = np.random.default_rng(seed)
    n = min(len(one), len(two))
    one, two = rng.permutation(one)[:n], rng.permutation(two)[:n]
    mean, std = one.mean(0), np.maximum(one.std(0), 1e-300)
    x = torch.from_numpy(np.concatenate([one - mean, two - mean]) / std).float().clamp(-1e3, 1e3)
    y = torch.cat([torch.zeros(n), torch.ones(n)])
    order = torch.from_numpy(rng.permutation(2 * n))
    count = 2 * n // folds * folds
    parts = order[:count].reshape(folds, -1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _accuracy(x[parts], y[parts], epochs)


def _accuracy(x: Tensor, y: Tensor, epochs: int) -> float:
    """Of nets that each leave out one of the folds (K, N, D), and are asked about it."""
    folds, _, dim = x.shape
    rest = torch.stack([torch.cat([torch.arange(k), torch.arange(k + 1, folds)]) for k in range(folds)])
    train_x, train_y = x[rest].reshape(folds, -1, dim), y[rest].reshape(folds, -1)
    hidden, n = 10 * dim, train_x.shape[1]
    sizes = [(dim, hidden), (hidden, hidden), (hidden, 1)]
    weights = [(torch.randn(folds, i, o) * (2 / i) ** 0.5).requires_grad_() for i, o in sizes]
    biases = [torch.zeros(folds, 1, o, requires_grad=True) for _, o in sizes]

    def logits(x: Tensor) -> Tensor:
        h = F.relu(torch.baddbmm(biases[0], x, weights[0]))
        h = F.relu(torch.baddbmm(biases[1], h, weights[1]))
        return torch.baddbmm(biases[2], h, weights[2])[..., 0]

    optimizer = torch.optim.Adam([*weights, *biases], lr=1e-3, fused=True)
    batch = min(200, n)
    steps = epochs * (n // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for _ in range(epochs):
        order = torch.randperm(n)
        for i in range(n // batch):
            rows = order[i * batch : (i + 1) * batch]
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(logits(train_x[:, rows]), train_y[:, rows]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float(((logits(x) > 0) == (y > 0.5)).float().mean())
