"""Labels as catalogues have them, and what a mirror does to them."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table
from deepfield.morphology.targets import handed, renamed, swapped, targets
from deepfield.morphology.trees import classes


def test_numbers_are_sorted_as_numbers_and_minus_one_is_unknown():
    found = targets(Table({"label": [10, 2, -1, 2]}))
    assert found.labels == ("2", "10") and found.y.tolist() == [1, 0, -1, 0]
    assert found.known.tolist() == [True, True, False, True]
    assert found.shares.tolist() == [[0, 1], [1, 0], [0, 0], [1, 0]]


def test_masked_and_byte_strings():
    column = np.ma.array([b"a", b"b", b"a"], mask=[False, False, True])
    assert targets(Table({"class": column})).y.tolist() == [0, 1, -1]


def test_shares_are_brought_to_a_sum_of_one():
    table = Table({"p_e": [3.0, 0.0, np.nan, -1.0], "p_s": [1.0, 0.0, 1.0, 2.0]})
    found = targets(table, ["p_e", "p_s"])
    assert found.labels == ("e", "s") and found.known.tolist() == [True, False, False, False]
    assert found.y[0].tolist() == [0.75, 0.25] and found.y[1:].sum() == 0


def test_votes_over_a_tree():
    found = targets(Table({"bar_yes": [3, 0], "bar_no": [1, 0]}), tree=classes(["yes", "no"], "bar"))
    assert found.y.tolist() == [[3.0, 1.0], [0.0, 0.0]] and found.known.tolist() == [True, False]


@pytest.mark.parametrize(
    ("columns", "labels", "message"),
    [
        ({"x": [1]}, [], "no column of classes"),
        ({"x": [1]}, ["lable"], "no column 'lable'"),
        ({"label": [0.3, 1.0]}, [], "holds fractions"),
        ({"label": ["a", "a"]}, [], "has 1 classes"),
        ({"label": np.ones((2, 2))}, [], "one class for each image"),
    ],
)
def test_columns_that_are_no_labels(columns, labels, message):
    with pytest.raises(TableError, match=message):
        targets(Table(columns), labels)


def test_a_class_that_the_model_does_not_know():
    with pytest.raises(TableError, match="the class 'ring', which is none of a, b"):
        targets(Table({"label": ["a", "ring"]}), classes=("a", "b"))


def test_mirror_images_are_found_by_their_names():
    assert handed(["spiral_cw", "spiral_acw", "edge"]) == ("spiral_cw", "spiral_acw")
    assert swapped(["a", "b"], ()) == ()
    with pytest.raises(DeepfieldError, match="swap names 'x', which is no class"):
        swapped(["a", "b"], ("a", "x"))


@pytest.mark.parametrize(
    "pair",
    [
        ("Z", "S"),
        ("Z-spiral", "S-spiral"),
        ("z spiral", "S_spiral"),
        ("left", "right"),
        ("Left-handed", "right handed"),
        ("clockwise", "anti-clockwise"),
        ("Clockwise", "Counter-clockwise"),
        ("Clockwise Spiral", "counter_clockwise spiral"),
        ("cw", "CCW"),
    ],
)
def test_pairs_by_their_common_names(pair, caplog):
    assert handed(["edge", *pair, "spiral"]) == handed([pair[1], "edge", pair[0]]) == pair
    with caplog.at_level("INFO", logger="deepfield"):
        assert swapped(pair, ()) == pair
    assert len(caplog.records) == 1 and all(repr(name) in caplog.text for name in pair)


@pytest.mark.parametrize(
    "labels",
    [
        ["spiral", "z0"],
        ["spiral", "zpiral", "s0", "z0"],  # z and s are words, not letters
        ["spiral", "elliptical", "S", "E"],
        ["clockwise", "clock-wise", "wise"],
        ["bright", "left", "bright left", "faint right"],
        ["clockwise bar", "anticlockwise ring"],
        ["1", "2", "10"],
    ],
)
def test_names_that_are_no_pair(labels, caplog):
    with caplog.at_level("INFO", logger="deepfield"):
        assert swapped(labels, ()) == ()
    assert not caplog.records


def test_classes_of_other_names():
    table = Table({"label": ["cw ", "acw", "edge", "?"]})
    found = renamed(table, ["label"], "cw=spiral, acw = spiral,?=")
    assert found["label"].tolist() == ["spiral", "spiral", "edge", ""] and table["label"].tolist()[1] == "acw"
    assert targets(found, ["label"], classes=("edge", "spiral")).known.tolist() == [True, True, True, False]
    for wrong in ("ring=x", "cw"):
        with pytest.raises(DeepfieldError, match="is no class of column 'label'"):
            renamed(table, ["label"], wrong)
