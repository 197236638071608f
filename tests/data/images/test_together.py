"""Several sets as one: rows in order, catalogues joined, broken rows kept, sets that do not fit refused."""

import numpy as np
import pytest

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data.images.read import read
from deepfield.data.images.together import together


def stamps(n, start, **columns):
    pixels = (
        np.full((n, 2, 16, 16), 0.0, dtype=np.float32)
        + start
        + np.arange(n, dtype=np.float32)[:, None, None, None]
    )
    return pixels, read(pixels, catalog=Table({"id": np.arange(n), **columns}), bands=("g", "r"))


def test_rows_are_those_of_the_sets_in_order():
    _, one = stamps(3, 0, flag=[1, 0, 1], only=[1, 2, 3])
    _, two = stamps(4, 10, flag=[0, 0, 1, 1])
    both = together([one[[2, 0]], two])
    x, reasons = both.load()
    assert x[:, 0, 0, 0].tolist() == [2, 0, 10, 11, 12, 13] and set(reasons.tolist()) == {""}
    assert both.table.colnames == ["id", "flag"] and both.table["flag"].tolist() == [1, 1, 0, 0, 1, 1]
    assert both.bands == ("g", "r") and together([one]) is one
    assert both[[3, 0]].load()[0][:, 0, 0, 0].tolist() == [11, 2]


def test_a_broken_image_stays_a_row():
    pixels, one = stamps(3, 0)
    pixels[1, 0, 0, 0] = np.nan
    both = together([one, stamps(2, 5)[1]])
    assert [bool(r) for r in both.reasons()] == [False, True, False, False, False]


def test_sets_that_differ():
    other = read(np.zeros((3, 2, 20, 20), dtype=np.float32), bands=("g", "r"))
    for wrong in (other, read(np.zeros((3, 16, 16, 3), dtype=np.uint8))):
        with pytest.raises(TableError, match="the sets differ"):
            together([stamps(2, 0)[1], wrong])
    with pytest.raises(TableError, match="no set of images"):
        together([])
