"""Do two sets of draws come from one distribution? The classifier two-sample test (Lopez-Paz & Oquab 2017).

And its local form for posteriors, at one observation (Linhart, Gramfort & Rodrigues 2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class LocalTest:
    """What the test at one observation found.

    Parameters
    ----------
    statistic : float
        Mean of (d - 1/2)^2 over draws at the observation, d the probability that a draw is a true parameter.
    p_value : float
        Share of the statistics under the null hypothesis that are as large.
    null : Array (P,)
        Those statistics.
    """

    statistic: float
    p_value: float
    null: Array = field(repr=False)


def local_c2st(
    draws: ArrayLike,
    truth: ArrayLike,
    data: ArrayLike,
    draws_at: ArrayLike,
    data_at: ArrayLike,
    *,
    permutations: int = 100,
    epochs: int = 20,
    seed: int = 0,
) -> LocalTest:
    """Is the posterior of one observation right? l-C2ST of Linhart, Gramfort & Rodrigues (2023, NeurIPS 36).

    A classifier learns from simulations to tell their true parameters from draws of their posteriors, given the
    data, and is asked about draws at the observation. If the posteriors are right, a true parameter and a draw may
    change places: classifiers fitted to pairs that did so at random give the null distribution, and the p-value
    is uniform whatever the classifier. Parameters are first whitened by mean and covariance of the other draws of
    their posterior, so that errors of narrow posteriors are as easy to see as those of wide ones. If
    they are wrong elsewhere, p is low as far around as the classifier does not tell the places apart.

    Parameters
    ----------
    draws : array (N, L, D)
        L independent draws from the posterior of each simulation.
    truth : array (N, D)
        The parameters that were simulated.
    data : array (N, K)
        What was simulated, or summaries of it.
    draws_at, data_at : array (M, D), (K,)
        Draws and data of the observation.
    permutations : int
        Of the null distribution; p-values are multiples of 1 / (permutations + 1).

    Raises
    ------
    DeepfieldError
        If the shapes do not fit, there are fewer than 100 simulations or fewer than 10 draws.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 1))  # prior N(0, 1), noise N(0, 1): the posterior is N(x / 2, 1 / 2)
    >>> data = x + rng.normal(size=x.shape)
    >>> draws = data[:, None] / 2 + rng.normal(size=(300, 20, 1)) / 2**0.5
    >>> at = 0.5 + rng.normal(size=(500, 1)) / 2**0.5
    >>> found = [local_c2st(q, x, data, at, [1.0], permutations=30) for q in (draws, draws + 1)]
    >>> found[0].p_value > 0.05 > found[1].p_value
    True
    """
    q, theta, q_at = (np.asarray(a, dtype=float) for a in (draws, truth, draws_at))
    x, x_at = np.asarray(data, dtype=float), np.asarray(data_at, dtype=float)
    n, many, dim = q.shape if q.ndim == 3 else (0, 0, 0)
    if n < 100 or min(many, len(q_at)) < 10 or permutations < 1:
        raise DeepfieldError(f"at least 100 simulations, 10 draws and 1 permutation, not {q.shape}, {q_at.shape}")
    if theta.shape != (n, dim) or x.shape[:1] != (n,) or x.shape[1:] != x_at.shape or q_at.shape[1:] != (dim,):
        raise DeepfieldError(
            f"draws {q.shape}, truths {theta.shape} and data {x.shape} of simulations do not fit each other, or "
            f"draws {q_at.shape} and data {x_at.shape} of the observation"
        )
    mean, std = x.mean(0), np.maximum(x.std(0), 1e-300)
    pair = _whitened(np.stack([q[:, 0], theta], 1), q[:, 1:])  # (N, 2, D): a draw, then the truth
    rows = np.concatenate([pair, np.repeat(((x - mean) / std)[:, None], 2, 1)], -1)
    asked = np.concatenate([_whitened(q_at[None], q_at[None])[0], np.tile((x_at - mean) / std, (len(q_at), 1))], 1)
    swapped = np.random.default_rng(seed).random((1 + permutations, n, 1)) < 0.5
    swapped[0] = False
    labels = torch.from_numpy(swapped ^ np.array([False, True])).float().flatten(1)
    inputs = torch.from_numpy(rows.reshape(2 * n, -1)).float().clamp(-_FARTHEST, _FARTHEST)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = min(10 * inputs.shape[1], _WIDEST)
        logits = _classifiers(inputs.expand(len(labels), -1, -1), labels, epochs, hidden=hidden)
    with torch.no_grad():
        points = torch.from_numpy(asked).float().clamp(-_FARTHEST, _FARTHEST)
        found = ((logits(points.expand(len(labels), -1, -1)).sigmoid() - 0.5) ** 2).mean(1).double().numpy()
    p = (1 + int((found[1:] >= found[0]).sum())) / (1 + permutations)
    return LocalTest(float(found[0]), p, found[1:])


_WIDEST = 64
_FARTHEST = 10.0  # deviations, of what classifiers see


def _whitened(theta: Array, draws: Array) -> Array:
    """Theta (N, P, D) with mean and covariance of draws (N, L, D) taken out."""
    many, dim = draws.shape[1:]
    centred = draws - draws.mean(1, keepdims=True)
    covariance = centred.transpose(0, 2, 1) @ centred / many
    own = np.maximum(np.diagonal(covariance, axis1=1, axis2=2), 1e-300)
    shrink = dim / (dim + many)  # few draws know few correlations
    covariance = (1 - shrink) * covariance + shrink * own[:, :, None] * np.eye(dim)
    root = np.linalg.cholesky(covariance)
    return np.linalg.solve(root, (theta - draws.mean(1, keepdims=True)).transpose(0, 2, 1)).transpose(0, 2, 1)


def _accuracy(x: Tensor, y: Tensor, epochs: int) -> float:
    """Of nets that each leave out one of the folds (K, N, D), and are asked about it."""
    folds, _, dim = x.shape
    rest = torch.stack([torch.cat([torch.arange(k), torch.arange(k + 1, folds)]) for k in range(folds)])
    logits = _classifiers(x[rest].reshape(folds, -1, dim), y[rest].reshape(folds, -1), epochs, hidden=10 * dim)
    with torch.no_grad():
        return float(((logits(x) > 0) == (y > 0.5)).float().mean())


def _classifiers(x: Tensor, y: Tensor, epochs: int, *, hidden: int) -> Callable[[Tensor], Tensor]:
    """The logits (K, M) of K nets, fitted at once each to its own rows (K, N, D) and labels (K, N)."""
    count, n, dim = x.shape
    sizes = [(dim, hidden), (hidden, hidden), (hidden, 1)]
    weights = [(torch.randn(count, i, o) * (2 / i) ** 0.5).requires_grad_() for i, o in sizes]
    biases = [torch.zeros(count, 1, o, requires_grad=True) for _, o in sizes]

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
            F.binary_cross_entropy_with_logits(logits(x[:, rows]), y[:, rows]).backward()
            optimizer.step()
            schedule.step()
    return logits
