"""What every file format offers: column names, a number of rows, and slices of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from deepfield.core.errors import TableError

Columns = dict[str, Any]


class Source:
    """An open catalogue: ``names``, ``rows``, slices and batches of columns.

    A format implements :meth:`slice`; one whose rows come in groups implements :meth:`batches` too.
    """

    def __init__(self, names: Sequence[str], rows: int) -> None:
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise TableError(f"the column '{twice[0]}' occurs more than once")
        if not names:
            raise TableError("there are no columns")
        if rows == 0:
            raise TableError("there are no rows")
        self.names = list(names)
        self.rows = rows

    def slice(self, columns: Sequence[str], start: int, stop: int) -> Columns:
        """Return the rows ``start`` to ``stop`` of some columns."""
        raise NotImplementedError

    def batches(self, columns: Sequence[str], start: int, size: int) -> Iterator[Columns]:
        """Yield the rows from ``start`` on, ``size`` at a time, holding one batch in memory."""
        for first in range(start, self.rows, size):
            yield self.slice(columns, first, min(first + size, self.rows))

    def close(self) -> None:
        """Close the file."""
