"""A set of images that need not fit into memory: decoded when asked for, kept where there is room."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.batches import Batches
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.nets.camera import overlap
from deepfield.core.table import Table
from deepfield.data.images.sources import BrokenImage, Source

log = logging.getLogger("deepfield")
_AHEAD = 3  # batches in the making while one is used
_WINDOW = 4  # blocks whose rows are shuffled together


@dataclass(frozen=True)
class Frame:
    """The standard form that every image is brought to.

    Parameters
    ----------
    bands : int
        Bands an image must have.
    size : int
        Pixels on a side.
    crop : int
        Central pixels of the original that are kept before they are resampled to ``size``; 0 keeps the
        largest square. Float images keep their flux (the sum of their pixels), bytes their brightness.
    resample : bool
        Whether images of other sizes are resampled; else they are flagged.
    order : tuple of int
        Which of the original's bands come first, second, ...; empty for all as they are.
    """

    bands: int
    size: int
    crop: int = 0
    resample: bool = True
    order: tuple[int, ...] = ()

    def fit(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Raw pixels (B, H, W) to (bands, size, size) of uint8 or float32.

        Raises
        ------
        BrokenImage
            If bands are missing or too many, pixels are not finite, or the image is too small.
        """
        bands, height, width = pixels.shape
        if bands != self.bands:
            raise BrokenImage(f"the image has {bands} bands, not {self.bands}")
        side = self.crop or min(height, width)
        if side > min(height, width):
            raise BrokenImage(f"the image has {height} x {width} pixels, less than the {side} to be kept")
        if not self.resample and (height, width) != (self.size, self.size):
            raise BrokenImage(f"the image has {height} x {width} pixels, not {self.size} x {self.size}")
        top, left = (height - side) // 2, (width - side) // 2
        kept = pixels[list(self.order) or slice(None), top : top + side, left : left + side]
        if kept.dtype != np.uint8:
            kept = kept.astype(np.float32)
            if wrong := int((~np.isfinite(kept)).sum()):
                raise BrokenImage(f"{wrong} of {kept.size} pixels are not finite")
        return np.ascontiguousarray(kept) if side == self.size else _resample(kept, self.size)


def _resample(pixels: NDArray[Any], size: int) -> NDArray[Any]:
    """Share every pixel out among those it overlaps: floats keep their sum, bytes their brightness."""
    share = overlap(pixels.shape[-1], size).astype(np.float32)
    y = share @ pixels.astype(np.float32) @ share.T
    if pixels.dtype == np.uint8:
        return np.clip(np.rint(y * (size / pixels.shape[-1]) ** 2), 0, 255).astype(np.uint8)
    return y


def _decode(source: Source, frame: Frame, rows: Sequence[int]) -> list[NDArray[Any] | str]:
    """Images of some rows, or why there is none."""
    found: list[NDArray[Any] | str] = []
    for row in rows:
        try:
            found.append(frame.fit(source.load(row)))
        except BrokenImage as error:
            found.append(str(error))
    return found


_WORK: dict[str, Any] = {}  # of a worker process


def _begin_work(source: Source, frame: Frame) -> None:
    torch.set_num_threads(1)
    _WORK.update(source=source, frame=frame)


def _work(rows: Sequence[int]) -> list[NDArray[Any] | str]:
    return _decode(_WORK["source"], _WORK["frame"], rows)


class _Store:
    """What all subsets of one set share: the source, what is decoded, and who decodes."""

    def __init__(self, source: Source, frame: Frame, cache: int, workers: int, processes: bool) -> None:
        self.source, self.frame, self.cache = source, frame, cache
        self.workers, self.processes = workers, processes
        self.dtype: Any = None
        self.reasons = np.full(len(source), None, dtype=object)  # None: not looked at yet
        self._kept: NDArray[Any] | None = None
        self._pool: Executor | None = None

    def submit(self, rows: NDArray[np.int64]) -> list[tuple[NDArray[np.int64], Future[Any]]]:
        """Have those of the rows decoded that are not at hand; several workers share them."""
        missing = rows[[self._kept is None or self.reasons[r] is None for r in rows]] if len(rows) else rows
        if not len(missing) or not self.workers:
            return []
        if self._pool is None:
            self._pool = self._executor()
        parts = [p for p in np.array_split(missing, min(self.workers, len(missing))) if len(p)]
        if self.processes:
            return [(p, self._pool.submit(_work, p.tolist())) for p in parts]
        return [(p, self._pool.submit(_decode, self.source, self.frame, p.tolist())) for p in parts]

    def _executor(self) -> Executor:
        if not self.processes:
            return ThreadPoolExecutor(self.workers)
        import multiprocessing

        start = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        return ProcessPoolExecutor(self.workers, start, _begin_work, (self.source, self.frame))

    def gather(self, rows: NDArray[np.int64], jobs: list[tuple[NDArray[np.int64], Future[Any]]]) -> list[Any]:
        """Images of the rows, or reasons, in their order."""
        found: dict[int, Any] = {}
        for part, job in jobs:
            found |= dict(zip(part.tolist(), job.result()))
        todo = [int(r) for r in rows if int(r) not in found and (self._kept is None or self.reasons[r] is None)]
        found |= dict(zip(todo, _decode(self.source, self.frame, todo)))
        for row, image in found.items():
            found[row] = self._keep(row, image)
        return [
            found.get(int(r), self.reasons[r] or (None if self._kept is None else self._kept[r])) for r in rows
        ]

    def _keep(self, row: int, image: Any) -> Any:
        """Remember what became of a row, and give it back."""
        if self.dtype is None and not isinstance(image, str):
            self.dtype = image.dtype
            if len(self.source) * image.nbytes <= self.cache:
                self._kept = np.empty((len(self.source), *image.shape), dtype=image.dtype)
        if not isinstance(image, str) and image.dtype != self.dtype:
            image = f"the pixels are {image.dtype}, those of other images {self.dtype}"
        self.reasons[row] = image if isinstance(image, str) else ""
        if self._kept is not None and not isinstance(image, str):
            self._kept[row] = image
        return image

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


class Images:
    """Images with their catalogue, decoded when asked for.

    Build it with :func:`deepfield.data.images.read.read`.

    Attributes
    ----------
    table : Table
        The catalogue, one row for each image: identifiers, labels, votes.
    bands : tuple of str
    size : int
        Pixels on a side.
    meta : dict
        ``pixel_scale`` (arcsec, 0 if not known), ``psf_fwhm`` (arcsec in each band, empty if not known),
        ``crop`` (central pixels of the originals that are kept, 0 for all), ``native`` (pixels on a side before
        they are resampled) and ``named`` (whether someone has said which bands these are).
    """

    def __init__(
        self,
        source: Source,
        table: Table,
        *,
        bands: Sequence[str],
        frame: Frame,
        meta: dict[str, Any] | None = None,
        cache: int = 2**31,
        workers: int = 0,
        processes: bool = False,
    ) -> None:
        if len(table) != len(source):
            raise TableError(
                f"{len(source)} images and {len(table)} rows of the catalogue: one row each is needed"
            )
        if len(bands) != frame.bands:
            raise TableError(f"{len(bands)} names of bands ({', '.join(bands)}) for images of {frame.bands} bands")
        self.table, self.bands, self.size = table, tuple(bands), frame.size
        self.meta: dict[str, Any] = {"pixel_scale": 0.0, "psf_fwhm": (), "crop": 0, "named": True}
        self.meta |= {"native": frame.crop or frame.size, **(meta or {})}
        self._told: set[str] = set()
        self._store = _Store(source, frame, cache, workers, processes)
        self._rows = np.arange(len(source))

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"{len(self):,} images of {self.size} x {self.size} pixels in {', '.join(self.bands)}"

    def __getitem__(self, index: slice | ArrayLike) -> Images:
        """Some of the images; what is decoded is shared."""
        part = object.__new__(Images)
        part.__dict__.update(self.__dict__)
        index = index if isinstance(index, slice) else np.atleast_1d(np.asarray(index))
        part._rows, part.table = self._rows[index], self.table[index]
        return part

    def split(self, fraction: float, *, seed: int) -> tuple[Images, Images]:
        """Two sets at random, as :meth:`deepfield.core.table.Table.split`."""
        numbered = Table({"row": np.arange(len(self))})
        first, second = numbered.split(fraction, seed=seed)
        return self[np.asarray(first["row"])], self[np.asarray(second["row"])]

    def load(self, rows: slice | ArrayLike | None = None) -> tuple[Tensor, NDArray[np.str_]]:
        """Images (n, B, S, S), uint8 or float32, and a reason for each that is broken ("" where it is not).

        A broken image is NaN, or zero where images are bytes.
        """
        chosen = self._rows if rows is None else self[rows]._rows
        found = self._store.gather(chosen, self._store.submit(chosen))
        dtype = self._store.dtype or np.dtype(np.uint8)
        stack = np.full(
            (len(chosen), len(self.bands), self.size, self.size), np.nan if dtype.kind == "f" else 0, dtype
        )
        reasons = [image if isinstance(image, str) else "" for image in found]
        for i, image in enumerate(found):
            if not isinstance(image, str):
                stack[i] = image
        return torch.from_numpy(stack), np.array(reasons, dtype=np.str_)

    @property
    def dtype(self) -> str:
        """What the first image that can be used is: "uint8" or "float32", or "" if the first 64 are broken."""
        for row in range(min(len(self), 64)):
            if self._store.dtype is not None:
                break
            self.load([row])
        return "" if self._store.dtype is None else str(self._store.dtype)

    def warn(self, message: str) -> None:
        """Log what is to be said about these images, once for them and all their subsets."""
        if self.first_time(message):
            log.warning("%s", message)

    def first_time(self, what: str) -> bool:
        """Whether this is asked for the first time of these images and all their subsets."""
        new = what not in self._told
        self._told.add(what)
        return new

    def reasons(self) -> NDArray[np.str_]:
        """Why each image cannot be used (N,), "" where it can; looks at those not looked at yet."""
        unknown = np.flatnonzero([r is None for r in self._store.reasons[self._rows]])
        for start in range(0, len(unknown), 256):
            self.load(unknown[start : start + 256])
        return self._store.reasons[self._rows].astype(np.str_)

    def usable(self) -> Images:
        """Those that are not broken."""
        return self[np.flatnonzero(self.reasons() == "")]

    def batches(
        self,
        *targets: Tensor,
        size: int,
        seed: int | None,
        augment: Callable[..., tuple[Tensor, ...]] | None = None,
    ) -> ImageBatches:
        """Batches for :func:`deepfield.core.fit.fit`; see :class:`ImageBatches`."""
        return ImageBatches(self, targets, size=size, seed=seed, augment=augment)

    def close(self) -> None:
        """End the workers; the next request starts new ones."""
        self._store.close()


@dataclass
class ImageBatches:
    """Shuffled minibatches ``(images, *targets)`` that are decoded while the last ones are used.

    As :class:`deepfield.core.batches.Batches`: the order depends on seed and epoch alone, processes take their
    shares, None keeps the order. Broken images are left out, so that a batch may be smaller. Images in blocks (a
    large Parquet file) are shuffled block by block and within some blocks at a time.

    Parameters
    ----------
    images : Images
    targets : tuple of Tensor (N, ...)
    size : int
    seed : int or None
    augment : callable, optional
        ``augment(*batch, generator=...)`` gives the batch to train on.
    """

    images: Images
    targets: tuple[Tensor, ...]
    size: int
    seed: int | None
    augment: Callable[..., tuple[Tensor, ...]] | None = None
    epoch: int = field(default=0, init=False)
    share: tuple[int, int] = field(default=(0, 1), init=False)

    def __post_init__(self) -> None:
        if wrong := [len(t) for t in self.targets if len(t) != len(self.images)]:
            raise DeepfieldError(f"{len(self.images)} images need as many targets, not {wrong[0]}")
        self._index()  # tells of a size that is none

    def set_epoch(self, epoch: int, rank: int = 0, world: int = 1) -> None:
        """Tell which epoch comes next, and this process's share of it."""
        self.epoch, self.share = epoch, (rank, world)

    def _index(self) -> Batches:
        """Batches of positions."""
        blocks = self.images._store.source.blocks
        if blocks is None or self.seed is None or self.images._store._kept is not None:
            index = Batches(torch.arange(len(self.images)), size=self.size, seed=self.seed)
        else:
            index = Batches(torch.from_numpy(self._by_blocks(blocks)), size=self.size, seed=None)
        index.set_epoch(self.epoch, *self.share)
        return index

    def _by_blocks(self, blocks: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
        rng = np.random.default_rng([self.seed or 0, self.epoch])
        owner = np.searchsorted([stop for _, stop in blocks], self.images._rows, side="right")
        place = rng.permutation(len(blocks))[owner] // _WINDOW
        return np.lexsort((rng.uniform(size=len(owner)), place)).astype(np.int64)

    def __len__(self) -> int:
        return len(self._index())

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        store, rows = self.images._store, self.images._rows
        generator = torch.Generator().manual_seed(
            (self.seed or 0) * 1_000_003 + self.epoch + 7_919 * self.share[0]
        )
        waiting: list[tuple[Tensor, Any]] = []
        positions = iter(self._index())
        done = False
        while waiting or not done:
            while not done and len(waiting) <= (_AHEAD if store.workers else 0):
                batch = next(positions, None)
                done = batch is None
                if batch is not None:
                    waiting.append((batch[0], store.submit(rows[batch[0].numpy()])))
            if not waiting:
                return
            where, jobs = waiting.pop(0)
            found = store.gather(rows[where.numpy()], jobs)
            good = [i for i, image in enumerate(found) if not isinstance(image, str)]
            if not good:
                continue
            x = torch.from_numpy(np.stack([found[i] for i in good]))
            batch = (x, *(t[where[good]] for t in self.targets))
            yield batch if self.augment is None else self.augment(*batch, generator=generator)
