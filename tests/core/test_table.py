import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table, no_column, numbers


def catalogue(rows: int = 10) -> Table:
    return Table({"mag_r": np.linspace(18, 24, rows), "id": np.arange(rows), "class": ["GALAXY"] * rows})


def test_split_keeps_every_row_once_and_in_order():
    first, second = catalogue(100).split(0.7, seed=3)
    assert isinstance(first, Table) and isinstance(second, Table)
    assert len(first) == 70 and len(second) == 30
    assert sorted([*first["id"], *second["id"]]) == list(range(100))
    assert np.all(np.diff(first["id"]) > 0) and np.all(np.diff(second["id"]) > 0)


def test_split_follows_its_seed():
    table = catalogue(100)
    assert table.split(0.5, seed=1)[0].digest() == table.split(0.5, seed=1)[0].digest()
    assert table.split(0.5, seed=1)[0].digest() != table.split(0.5, seed=2)[0].digest()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.7, float("nan")])
def test_split_refuses_a_fraction_outside_the_unit_interval(fraction):
    with pytest.raises(TableError, match="lies between 0 and 1, not"):
        catalogue().split(fraction, seed=0)


def test_split_refuses_an_empty_side():
    with pytest.raises(TableError, match=r"a split of 2 rows at 0\.9 leaves one side empty"):
        catalogue(2).split(0.9, seed=0)


def test_slices_and_copies_stay_tables_with_meta():
    table = catalogue()
    table.meta["bands"] = ("r",)
    assert isinstance(table[2:4], Table)
    assert table[table["id"] > 3].meta["bands"] == ("r",)


@settings(max_examples=30, deadline=None)
@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(width=64)))
def test_digest_sees_values_and_nothing_else(values):
    table = Table({"x": values, "y": np.arange(len(values))})
    assert table.digest() == Table({"y": np.arange(len(values)), "x": values.astype(">f8")}).digest()
    changed = values.copy()
    changed[0] = 1.0 if changed[0] != 1.0 else 2.0
    assert table.digest() != Table({"x": changed, "y": np.arange(len(values))}).digest()


def test_digest_tells_names_types_masks_and_text_apart():
    tables = [
        Table({"x": [1.0, 2.0]}),
        Table({"y": [1.0, 2.0]}),
        Table({"x": [1, 2]}),
        Table({"x": np.array([1, 2], dtype=np.float32)}),
        Table({"x": ["1", "2"]}),
        Table({"x": ["12", ""]}),
        Table({"x": np.ma.array([1, 2], mask=[False, True])}),
        Table({"x": [[1.0, 2.0]]}),
    ]
    assert len({table.digest() for table in tables}) == len(tables)


def test_digest_of_masked_float_is_that_of_nan():
    assert (
        Table({"x": np.ma.array([1.0, 9.0], mask=[False, True])}).digest() == Table({"x": [1.0, np.nan]}).digest()
    )


def test_digest_takes_bytes_for_text_and_any_width():
    a = Table({"c": np.array([b"GALAXY", b"QSO"])})
    b = Table({"c": np.array(["GALAXY", "QSO"], dtype="U20")})
    assert a.digest() == b.digest()


def test_column_gives_floats_with_nan_for_masked():
    table = Table({"n": np.ma.array([1, 2, 3], mask=[False, True, False])})
    column = table.column("n")
    assert column.dtype == np.float64
    np.testing.assert_array_equal(column, [1.0, np.nan, 3.0])


def test_column_names_what_there_is():
    with pytest.raises(TableError, match=r"no column 'mag_R'; did you mean 'mag_r'\? columns: mag_r, id, cl"):
        catalogue().column("mag_R")
    with pytest.raises(DeepfieldError):
        catalogue().column("nonsense")


def test_column_refuses_text_and_arrays():
    with pytest.raises(TableError, match="column 'class' holds text such as 'GALAXY': numbers are needed"):
        catalogue().column("class")
    with pytest.raises(TableError, match=r"column 'm' has shape \(2, 3\): one number per row is needed"):
        Table({"m": np.zeros((2, 3))}).column("m")


def test_numbers_reads_objects_that_are_numbers():
    np.testing.assert_array_equal(numbers(np.array([1, None, 2.5], dtype=object), "x"), [1.0, np.nan, 2.5])
    with pytest.raises(TableError, match="such as '21,001118': numbers are needed, with decimal points"):
        Table({"x": ["21,001118", "20,5"]}).column("x")
    with pytest.raises(TableError, match="column 'x' holds text such as 'bad'"):
        numbers(np.array([1, "bad"], dtype=object), "x")


def test_numbers_keeps_float32_and_leaves_its_input():
    source = np.ma.array(np.array([1, 2], dtype=">f4"), mask=[True, False])
    assert numbers(source, "x").dtype == np.dtype("f4")
    assert source.data[0] == 1


def test_many_columns_are_shortened():
    assert no_column("q", [f"c{i}" for i in range(50)]).endswith("c19 and 30 more")
