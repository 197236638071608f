"""Asking functions of images: flagged rows, and identifiers."""

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.data.images.read import read
from deepfield.data.images.serve import ABSURD, check_same, codes, identifiers, serve

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 3, 32, 32)).astype(np.uint8)


def test_a_net_that_gives_no_number_is_a_reason():
    def third_fails(x):
        return torch.where(torch.arange(len(x))[:, None] == 2, torch.inf, torch.ones(len(x), 2))

    values, reasons = serve(read(PIXELS), third_fails)
    assert reasons.tolist() == ["", "", ABSURD, "", ""] and torch.isnan(values[2]).all()


@pytest.mark.parametrize("name", ["GalaxyID", "dr7objid", "asset_id", "object_id", "name"])
def test_identifiers_are_those_of_the_catalogue_under_any_usual_name(name):
    images = read(PIXELS[:3], catalog=Table({"label": [0, 1, 0], name: [7, 5, 9]}))
    assert identifiers(images).tolist() == [7, 5, 9] and identifiers(images[1:]).tolist() == [5, 9]
    assert identifiers(read(PIXELS[:3], catalog=Table({"label": [0, 1, 0]}))[1:]).tolist() == [1, 2]


def test_predictions_and_a_catalogue_in_another_order():
    check_same([7, 5], Table({"id": ["7", "5"]}), "p.parquet")
    check_same([0, 1], Table({"label": ["a", "b"]}), "p.parquet")
    with pytest.raises(DeepfieldError, match="and the catalogue differ in 2 of 3 identifiers, first in row 1"):
        check_same([b"a", b"b", b"c"], Table({"GalaxyID": ["a", "c", "b"]}), "p.parquet")


def test_reasons_have_numbers():
    assert codes(np.array(["", "too small", ABSURD])).tolist() == [0, 1, 2]
