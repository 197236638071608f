"""Several sets of images as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data.images.collection import Frame, Images
from deepfield.data.images.sources import Source


class _Chain(Source):
    """The images of several sets in a row, each brought to the form of its own set."""

    def __init__(self, sets: Sequence[Images]) -> None:
        self.sources = [(s._store.source, s._store.frame, s._rows) for s in sets]
        self.starts = np.cumsum([0, *map(len, sets)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def load(self, row: int) -> NDArray[Any]:
        which = int(np.searchsorted(self.starts, row, side="right")) - 1
        source, frame, rows = self.sources[which]
        return frame.fit(source.load(int(rows[row - self.starts[which]])))


def together(sets: Sequence[Images], *, cache: int = 2**31) -> Images:
    """One set of several, in their order, with the columns that all their catalogues have, in one shape.

    Raises
    ------
    TableError
        If there is none, or they differ in bands, size or kind of pixels.

    Examples
    --------
    >>> from deepfield.data.images.read import read
    >>> one, two = (read(np.zeros((n, 16, 16, 3), dtype=np.uint8)) for n in (2, 3))
    >>> together([one, two])
    5 images of 16 x 16 pixels in r, g, b
    """
    if not sets:
        raise TableError("there is no set of images to put together")
    first = sets[0]
    if len(sets) == 1:
        return first
    for other in sets[1:]:
        if (other.bands, other.size, other.dtype) != (first.bands, first.size, first.dtype):
            raise TableError(
                f"the sets differ: {first!r} ({first.dtype}), and {other!r} ({other.dtype}); read them with the "
                "same bands and size"
            )
    names = [n for n in first.table.colnames if all(n in s.table.colnames for s in sets)]
    names = [n for n in names if len({s.table[n].shape[1:] for s in sets}) == 1]
    columns = {n: np.ma.concatenate([np.ma.asarray(s.table[n]) for s in sets]) for n in names}
    table = Table({n: c if np.ma.is_masked(c) else np.asarray(c) for n, c in columns.items()})
    if not names:
        table = Table({"id": np.arange(sum(map(len, sets)))})
    frame = Frame(len(first.bands), first.size)
    return Images(_Chain(sets), table, bands=first.bands, frame=frame, meta=first.meta, cache=cache)
