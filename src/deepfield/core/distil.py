"""Distillation: one net that says what an ensemble says, at the cost of one member.

The student maximises its expected log-likelihood under the teacher's density, E_x E_{y ~ teacher(x)} log q(y | x):
up to the teacher's entropy this is the Kullback-Leibler divergence, which is what "says the same" means
(Hinton et al. 2015; Malinin et al. 2020). Neither needs a label, so x may be any plausible input.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from deepfield.core.fit import FitConfig, History, fit
from deepfield.core.model import Model


def distil(
    teacher: Model,
    student: Model,
    train: Iterable[tuple[Tensor, ...]],
    validation: Iterable[tuple[Tensor, ...]],
    config: FitConfig | None = None,
    *,
    draws: int = 16,
    **options: Any,
) -> History:
    """Fit ``student`` in place to the density of ``teacher``; batches are (x, ...), whose targets are not used.

    The teacher is left as it was; it must share no weights with the student.

    Parameters
    ----------
    draws : int
        Targets drawn from the teacher for each x and step.
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
        return fit(student, train, validation, config, loss=_Imitate(teacher.eval(), draws), **options)
    finally:
        teacher.to("cpu").train(was_training)


class _Imitate:
    def __init__(self, teacher: Model, draws: int) -> None:
        self.teacher, self.draws = teacher, draws

    def __call__(self, student: Model, x: Tensor, *_: Tensor) -> Tensor:
        with torch.no_grad():
            target = self.teacher.to(x.device).head.draw(self.teacher.net(x), self.draws)
        return student.head.loss(student.net(x), target)
