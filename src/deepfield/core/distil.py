"""Distillation: one net that says what an ensemble says, at the cost of one member.

The student maximises its expected log-likelihood under the teacher's density, E_x E_{y ~ teacher(x)} log q(y | x):
up to the teacher's entropy this is the Kullback-Leibler divergence, which is what "says the same" means
(Hinton et al. 2015; Malinin et al. 2020). Where both are Gaussian mixtures the squared distance of the densities,
known in closed form, is added: it is the part of the CDE loss that a student can lose. Neither needs a label, so x
may be any plausible input, and :class:`Neighbourhood` makes as many as wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from deepfield.core.distributions import GaussianMixture
from deepfield.core.fit import FitConfig, History, fit
from deepfield.core.model import Model


def distil(
    teacher: Model,
    student: Model,
    train: Iterable[tuple[Tensor, ...]],
    validation: Iterable[tuple[Tensor, ...]],
    config: FitConfig | None = None,
    *,
    draws: int = 8,
    distance: float = 4.0,
    **options: Any,
) -> History:
    """Fit ``student`` in place to the density of ``teacher``; batches are (x, ...), whose targets are not used.

    The teacher is left as it was; it must share no weights with the student.

    Parameters
    ----------
    draws : int
        Targets drawn from the teacher for each x and step.
    distance : float
        Weight of the squared distance between the densities, in units of the target's standard deviation.
    options
        As for :func:`deepfield.core.fit.fit`.

    Examples
    --------
    >>> from deepfield.core.batches import Batches
    >>> from deepfield.core.heads import GaussianMixture
    >>> pair = [Model(torch.nn.Linear(1, 6), GaussianMixture(2)) for _ in range(2)]
    >>> x = Batches(torch.randn(64, 1), size=32, seed=0)
    >>> len(distil(*pair, x, x, FitConfig(epochs=2), progress=False).train)
    2
    """
    was_training = teacher.training
    try:
        loss = _Imitate(teacher.eval(), draws, distance)
        return fit(student, train, validation, config, loss=loss, **options)
    finally:
        teacher.to("cpu").train(was_training)


class _Imitate:
    def __init__(self, teacher: Model, draws: int, distance: float) -> None:
        self.teacher, self.draws, self.distance = teacher, draws, distance

    def __call__(self, student: Model, x: Tensor, *_: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.teacher.to(x.device).net(x)
            target = self.teacher.head.draw(features, self.draws)
            wanted = self.teacher.head(features)
        own = student.net(x)
        loss = student.head.loss(own, target)
        density = student.head(own)
        if self.distance and isinstance(density, GaussianMixture) and isinstance(wanted, GaussianMixture):
            spread = (wanted.variance.mean() + wanted.mean.var()).sqrt()  # of the targets themselves
            loss = loss + self.distance * spread * (density.squared_norm() - 2 * density.overlap(wanted)).mean()
        return loss


class Neighbourhood:
    """Plausible new inputs: training rows moved at random within the spread of their nearest neighbours.

    x' = x + h sum_k g_k (x_k - x - m), g_k ~ N(0, 1/K), m the mean offset of the K neighbours: a local Gaussian
    with their covariance, so that moves stay along the data. It is an ``augment`` of
    :class:`deepfield.core.batches.Batches` whose batches carry row numbers in place of x.

    Parameters
    ----------
    x : Tensor (N, F)
        Training inputs; NaN stays NaN.
    scale : Tensor (F,)
        What makes features comparable when neighbours are looked for.
    neighbours : int
        K.
    reach : float
        h, in units of the neighbours' spread.
    still : float
        Share of rows that stay where they are.
    most, seed : int
        Where there are more rows, neighbours are looked for among so many drawn at random, and nearly nearest ones
        will do: a quarter of the time or less, 0.01 to 0.1 ms of a core for each row, for distances at most half a
        per cent longer.

    Examples
    --------
    >>> x = torch.randn(50, 2)
    >>> near = Neighbourhood(x, torch.ones(2))
    >>> near(torch.arange(50), generator=torch.Generator().manual_seed(0))[0].shape
    torch.Size([50, 2])
    """

    def __init__(
        self,
        x: Tensor,
        scale: Tensor,
        *,
        neighbours: int = 10,
        reach: float = 1.2,
        still: float = 0.1,
        most: int = 200_000,
        seed: int = 0,
    ) -> None:
        self.x, self.reach, self.still = x, reach, still
        compared = (x / scale).nan_to_num(0.0).numpy()
        some, slack = np.arange(len(x)), 0.0
        if len(x) > most:
            some, slack = np.sort(np.random.default_rng(seed).choice(len(x), most, replace=False)), 1.0
        k = min(neighbours, len(some) - 1)
        _, found = cKDTree(compared[some]).query(compared, np.arange(1, k + 2), eps=slack, workers=-1)
        # A row of the tree is its own nearest neighbour; another is not in it.
        inside = np.isin(np.arange(len(x)), some)[:, None]
        self.rows = torch.from_numpy(some[np.where(inside, found[:, 1:], found[:, :-1])])

    def __call__(self, rows: Tensor, *rest: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        x, near = self.x[rows], self.rows[rows]
        # Where a neighbour lacks a feature it does not pull on it.
        offset = (self.x[near] - x[:, None]).nan_to_num(0.0)
        offset = offset - offset.mean(1, keepdim=True)
        weights = torch.randn(near.shape, generator=generator) * (self.reach / near.shape[1] ** 0.5)
        weights[torch.rand(len(rows), generator=generator) < self.still] = 0.0
        return x + (weights[..., None] * offset).sum(1), *rest
