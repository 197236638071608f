"""Training sets: images from files, or from the simulator, which gives fresh ones in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.batches import Batches
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table, no_column
from deepfield.data.images.collection import Images
from deepfield.data.images.read import read
from deepfield.data.images.serve import digest
from deepfield.lensing._scene import CELL
from deepfield.lensing.arcs import middle
from deepfield.lensing.parameters import UNITS, encode

Augmentation = Callable[..., tuple[Tensor, ...]]
Simulator = Callable[..., Any]  # simulate(n, survey=, seed=, lens_fraction=) -> Simulated
_FEWEST = 40
_DRAWN = 256  # images that are simulated at a time
_KEPT = 1024  # simulated images from which scales are learnt


@dataclass
class Sets:
    """What a training goes over: images with their targets, for each part.

    Attributes
    ----------
    parts : dict
        ``train``, ``validation`` and ``calibration``: images and targets. Where images are simulated in each
        epoch, "train" has some of the first.
    rows : int
        Images in an epoch.
    data : dict
        What they are, for the model's card.
    fresh : callable, optional
        ``fresh(size, seed, augment, arcs)`` gives the batches of simulated training images.
    where : dict of int arrays
        Rows of the given images in each part.
    """

    parts: dict[str, tuple[Images, Tensor]]
    rows: int
    data: dict[str, Any]
    fresh: Callable[[int, int, Augmentation, bool], Any] | None
    where: dict[str, NDArray[np.int64]]

    def batches(self, size: int, seed: int, augment: Augmentation, arcs: bool) -> Any:
        """Shuffled batches to train on, if asked with the map of the arcs."""
        if self.fresh is not None:
            return self.fresh(size, seed, augment, arcs)
        images, y = self.parts["train"]
        return images.batches(y, *(maps_of(images) if arcs else ()), size=size, seed=seed, augment=augment)

    def in_order(self, part: str, augment: Augmentation) -> Any:
        """All of a part, in order."""
        images, y = self.parts[part]
        return images.batches(y, size=256, seed=None, augment=augment)


def targets(table: Table, task: str) -> tuple[Tensor, NDArray[np.bool_]]:
    """Targets of the rows of a catalogue, and which of them have one.

    To find: ``is_lens`` (N,), 0, 1 or a probability between. To measure: coordinates (N, 7) of the lenses, see
    :func:`deepfield.lensing.parameters.encode`; other rows have none.

    Raises
    ------
    TableError
        If a column is missing, or holds what no lens has.

    Examples
    --------
    >>> y, known = targets(Table({"is_lens": [1.0, 0.0, np.nan]}), "find")
    >>> y[:2].tolist(), known.tolist()
    ([1.0, 0.0], [True, True, False])
    """
    if task == "find" or "is_lens" in table.colnames:
        if "is_lens" not in table.colnames:
            raise TableError(no_column("is_lens", table.colnames))
        flag = np.asarray(table.column("is_lens"), dtype=np.float64)
        known = np.isfinite(flag)
        if ((flag[known] < 0) | (flag[known] > 1)).any():
            raise TableError("is_lens is 1 of a lens, 0 of none, or a probability between")
        if task == "find":
            return torch.from_numpy(np.where(known, flag, 0.0)).float(), known
        chosen = known & (flag > 0.5)
    else:
        chosen = np.ones(len(table), dtype=bool)
    y = torch.full((len(table), len(UNITS)), torch.nan)
    y[torch.from_numpy(chosen)] = encode(table[chosen])
    known = torch.isfinite(y).all(1).numpy()
    return y.nan_to_num(0.0), known


def given(images: Images, task: str, *, validation: float, calibration: float, seed: int) -> Sets:
    """Images with their catalogue, divided at random into what is trained on, stopped by and calibrated on."""
    y, known = targets(images.table, task)
    usable = np.flatnonzero(known)
    if len(usable) < _FEWEST:
        what = "say whether they are lenses" if task == "find" else "are of lenses with all their parameters"
        raise TableError(f"{len(usable)} images {what}; training needs {_FEWEST}")
    order = np.random.default_rng(seed).permutation(usable)
    n_val, n_cal = (round(share * len(order)) for share in (validation, calibration))
    if not n_val:
        raise TableError(f"a validation share of {validation} leaves none of {len(order)} images")
    part = np.split(order, [n_val, n_val + n_cal])
    where = {n: np.sort(p) for n, p in zip(("validation", "calibration", "train"), part)}
    if task == "find" and len(np.unique(y[where["train"]].numpy() > 0.5)) < 2:
        raise TableError("the images are all lenses, or none is: a finder learns from both")
    data = {"images": len(images), "used": len(usable), "sha256": digest(images)}
    return Sets({n: (images[w], y[w]) for n, w in where.items()}, len(where["train"]), data, None, where)


def simulated(
    simulate: Simulator, task: str, *, survey: str, images: int, validation: float, calibration: float, seed: int
) -> Sets:
    """Images that are drawn in every epoch anew, and some more, drawn once, to stop by and to calibrate on."""
    fraction = 1.0 if task == "measure" else 0.5

    def draw(n: int, number: int) -> tuple[Images, Tensor]:
        found = simulate(n, survey=survey, seed=number, lens_fraction=fraction)
        own = found.survey
        stamps = read(
            found.images.numpy(), catalog=found.table, bands=own.bands, pixel_scale=own.pixel, psf_fwhm=own.fwhm
        )
        y, known = targets(stamps.table, task)
        rows = np.flatnonzero(known)
        return stamps[rows], y[rows]

    counts = {
        "train": min(_KEPT, images),
        "validation": max(_DRAWN, round(validation * images)),
        "calibration": round(calibration * images),
    }
    # Epochs count from 0; what is drawn once has numbers that no epoch reaches.
    parts = {n: draw(max(c, 1), seed_of(seed, 2**31 + k, 0)) for k, (n, c) in enumerate(counts.items())}
    parts = {n: (x[: counts[n]], y[: counts[n]]) for n, (x, y) in parts.items()}  # none to calibrate on, if asked
    first = parts["train"][0]
    data = {"survey": survey, "images": images, "sha256": digest(first)}

    def fresh(size: int, own: int, augment: Augmentation, arcs: bool) -> Fresh:
        return Fresh(draw, images, size, own, augment, arcs)

    return Sets(parts, images, data, fresh, {n: np.arange(len(p[0])) for n, p in parts.items()})


def seed_of(*numbers: int) -> int:
    """One seed of several, different where they are.

    Examples
    --------
    >>> seed_of(0, 1, 2) == seed_of(0, 1, 2) != seed_of(0, 2, 1)
    True
    """
    return int(np.random.SeedSequence(list(numbers)).generate_state(1)[0])


@dataclass
class Fresh:
    """Batches of images that are simulated as they are needed: an image is never seen twice.

    What is drawn depends on seed and epoch alone, so that a resumed fit sees what an unbroken one would have seen.
    """

    draw: Callable[[int, int], tuple[Images, Tensor]]
    images: int
    size: int
    seed: int
    augment: Augmentation
    arcs: bool = False
    epoch: int = 0
    share: tuple[int, int] = (0, 1)

    def set_epoch(self, epoch: int, rank: int = 0, world: int = 1) -> None:
        """Tell which epoch comes next, and this process's share of it."""
        self.epoch, self.share = epoch, (rank, world)

    def _block(self) -> int:
        """Images drawn at a time: whole batches."""
        return self.size * max(1, min(_DRAWN, self.images // self.share[1]) // self.size)

    def __len__(self) -> int:
        return max(1, self.images // self.share[1] // self._block()) * (self._block() // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        rank, _ = self.share
        block = self._block()
        for k in range(len(self) * self.size // block):
            number = seed_of(self.seed, self.epoch, rank, k)
            images, y = self.draw(block, number)
            x, reasons = images.load()
            if (reasons != "").any():
                raise DeepfieldError(f"a simulated image is broken: {next(r for r in reasons if r)}")
            maps = maps_of(images) if self.arcs else ()
            yield from Batches(x, y, *maps, size=self.size, seed=number % 2**31, augment=self.augment)


def maps_of(images: Images) -> tuple[Tensor, ...]:
    """The map (N, C, C) of the arcs of each image, within what is kept of it; none if they come without.

    The middle of map and image are the same; NaN where a map is masked.
    """
    column: Any = images.table["arcs"] if "arcs" in images.table.colnames else np.empty(0)
    if column.ndim != 3 or column.shape[1] != column.shape[2] or column.dtype.kind != "f":
        return ()  # what somebody else calls so
    masked: Any = np.ma.asarray(column)
    snr = torch.from_numpy(masked.astype(np.float32).filled(np.nan))
    part = images.meta["native"] / (CELL * snr.shape[-1])
    return (middle(snr, part, max(1, round(part * snr.shape[-1]))),)


def paired(batches: Any, other: Images, augment: Augmentation, *, size: int, seed: int) -> Any:
    """The same batches, each with as many images of another set, which have no targets."""
    return _Paired(batches, other, augment, size, seed)


@dataclass
class _Paired:
    batches: Any
    other: Images
    augment: Augmentation
    size: int
    seed: int
    epoch: int = 0

    def set_epoch(self, epoch: int, rank: int = 0, world: int = 1) -> None:
        self.epoch = epoch
        self.batches.set_epoch(epoch, rank, world)

    def __len__(self) -> int:
        return len(self.batches)

    def _endless(self) -> Iterator[Tensor]:
        nothing = torch.zeros(len(self.other))
        turn = self.other.batches(nothing, size=self.size, seed=self.seed, augment=self.augment)
        for k in range(2**31):
            turn.set_epoch(self.epoch * 10_007 + k)
            for x, _ in turn:
                yield x

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        others = self._endless()
        for batch in self.batches:
            yield (*batch, next(others))
