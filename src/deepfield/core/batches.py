"""Batches a fit can go over again and again: arrays in memory, or any re-iterable of tuples of tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deepfield.core.errors import ModelError


class Batches:
    """Shuffled minibatches of tensors that share their first axis.

    The order depends on (seed, epoch) alone, so that a resumed fit sees what an unbroken one would have seen.
    Several processes each take their own share of every epoch.

    Parameters
    ----------
    tensors : tuple of Tensor (N, ...)
    size : int
        Rows in a batch; the last, smaller one is dropped while training so that steps weigh the same.
    seed : int or None
        None keeps the order and the last batch (validation).
    augment : callable, optional
        ``augment(*batch, generator=...)`` gives the batch to train on, e.g. with fresh noise.

    Raises
    ------
    ModelError
        If the tensors differ in length or ``size`` is less than one. No rows are no batches.

    Examples
    --------
    >>> b = Batches(torch.arange(10.0), size=4, seed=1)
    >>> [len(x) for (x,) in b], [len(x) for (x,) in Batches(torch.arange(10.0), size=4, seed=None)]
    ([4, 4], [4, 4, 2])
    """

    def __init__(
        self,
        *tensors: Tensor,
        size: int,
        seed: int | None,
        augment: Callable[..., tuple[Tensor, ...]] | None = None,
    ) -> None:
        if not tensors or len({len(t) for t in tensors}) > 1:
            raise ModelError(f"batches need tensors of one length, got {[len(t) for t in tensors]}")
        if size < 1:
            raise ModelError(f"a batch has at least one row, got size={size}")
        self.tensors, self.seed, self.augment = tensors, seed, augment
        self.size = min(size, max(1, len(tensors[0])))
        self.epoch, self.rank, self.world = 0, 0, 1

    def set_epoch(self, epoch: int, rank: int = 0, world: int = 1) -> None:
        """Tell which epoch comes next, and this process's share of it."""
        self.epoch, self.rank, self.world = epoch, rank, world

    def __len__(self) -> int:
        n = len(self.tensors[0])
        if self.seed is None:
            return -(-len(range(self.rank, n, self.world)) // self.size)
        rows = n // self.world  # as many steps in every process, or they would wait for one another
        return min(rows, max(1, rows // self.size))

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        n = len(self.tensors[0])
        generator = torch.Generator().manual_seed((self.seed or 0) * 1_000_003 + self.epoch)
        order = torch.arange(n) if self.seed is None else torch.randperm(n, generator=generator)
        order = order[self.rank :: self.world]
        if self.rank:  # noise of its own for each process
            generator.manual_seed(generator.initial_seed() + 7_919 * self.rank)
        for i in range(len(self)):
            rows = order[i * self.size : (i + 1) * self.size]
            batch = tuple(t[rows] for t in self.tensors)
            yield batch if self.augment is None else self.augment(*batch, generator=generator)
