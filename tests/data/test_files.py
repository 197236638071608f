import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data import files

ROWS = 1000
ENDINGS = ["parquet", "hdf5", "fits", "fits.gz", "csv", "ecsv", "txt"]


def catalogue(rows: int = ROWS) -> Table:
    rng = np.random.default_rng(1)
    return Table(
        {
            "id": np.arange(rows) + 2**40,
            "mag_r": rng.uniform(18, 25, rows),
            "class": np.where(rng.random(rows) < 0.5, "GALAXY", "QSO"),
            "clean": rng.random(rows) < 0.5,
        }
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_returns_what_was_written(tmp_path, ending):
    table = catalogue()
    table["mag_r"][3] = np.nan
    path = files.write(table, tmp_path / f"a.{ending}")
    back = files.read(path)
    assert isinstance(back, Table)
    for name in table.colnames:
        np.testing.assert_array_equal(back[name], table[name], err_msg=name)
    head = files.header(path)
    assert head.rows == ROWS and set(head.names) == set(table.colnames)


@pytest.mark.parametrize("ending", ["parquet", "fits", "ecsv"])
def test_masks_survive(tmp_path, ending):
    table = Table({"n": np.ma.array([1, 2, 3], mask=[False, True, False]), "x": [1.0, 2.0, 3.0]})
    back = files.read(files.write(table, tmp_path / f"a.{ending}"))
    np.testing.assert_array_equal(back.column("n"), [1.0, np.nan, 3.0])


@pytest.mark.parametrize("ending", ["parquet", "hdf5", "fits"])
def test_columns_of_several_numbers_survive(tmp_path, ending):
    table = Table({"x": [1.0, 2.0], "shape": np.arange(6.0).reshape(2, 3)})
    back = files.read(files.write(table, tmp_path / f"a.{ending}"))
    np.testing.assert_array_equal(back["shape"], table["shape"])


@pytest.mark.parametrize("ending", ["parquet", "hdf5", "fits", "csv"])
@pytest.mark.parametrize(("size", "start"), [(64, 0), (300, 299), (5000, 7), (1, 995), (10, 1000)])
def test_batches_are_the_file_in_pieces(tmp_path, ending, size, start):
    table = catalogue()
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        from deepfield.data._arrow import to_arrow

        pq.write_table(to_arrow(table), path, row_group_size=170)
    else:
        files.write(table, path)
    batches = list(files.iter_batches(path, ["mag_r", "id"], rows=size, start=start))
    assert all(batch.colnames == ["mag_r", "id"] for batch in batches)
    assert all(len(batch) == size for batch in batches[:-1])
    ids = [value for batch in batches for value in batch["id"]]
    np.testing.assert_array_equal(ids, table["id"][start:])


def test_batches_need_at_least_a_row(tmp_path):
    path = files.write(catalogue(), tmp_path / "a.parquet")
    with pytest.raises(TableError, match="batches need rows >= 1 and start >= 0, not rows=0, start=0"):
        next(files.iter_batches(path, rows=0))


def test_a_folder_of_parquet_files_is_one_catalogue(tmp_path):
    table = catalogue(30)
    for part in range(3):
        place = tmp_path / "cat" / "dataset" / "Norder=0" / f"Npix={part}.parquet"
        files.write(table[10 * part : 10 * part + 10], place)
    (tmp_path / "cat" / "dataset" / "_metadata").write_text("not a part")
    assert files.read(tmp_path / "cat").digest() == table.digest()
    ids = [i for b in files.iter_batches(tmp_path / "cat", ["id"], rows=7, start=12) for i in b["id"]]
    np.testing.assert_array_equal(ids, table["id"][12:])


def test_parts_of_other_types_or_names_are_refused_by_the_column(tmp_path):
    for part, kind in enumerate((pa.int64(), pa.int64(), pa.float64())):
        columns = {"a": pa.array([1, 2]), "b": pa.array([3, 4], kind)}
        pq.write_table(pa.table(columns), tmp_path / f"p{part}.parquet")
    said = r"column 'b' is double in 'p2.parquet' and int64 in 'p0.parquet': write all parts with one type"
    for read in (files.read, lambda path: list(files.iter_batches(path, rows=4))):
        with pytest.raises(TableError, match=said):
            read(tmp_path)
    assert list(files.read(tmp_path, ["a"])["a"]) == [1, 2] * 3, "nobody asked for b"
    pq.write_table(pa.table({"a": [1], "b": [2], "c": [3]}), tmp_path / "p3.parquet")
    with pytest.raises(TableError, match=r"'p3.parquet' has other columns.*only one of them has 'c'"):
        files.read(tmp_path, ["a"])


def test_hdf5_layouts(tmp_path):
    table = catalogue(20)
    rail, compound, native = (tmp_path / f"{name}.hdf5" for name in ("rail", "compound", "astropy"))
    with h5py.File(rail, "w") as file:
        for name in ("id", "mag_r"):
            file[f"photometry/{name}"] = table[name]
        file["other/x"] = np.arange(3.0)
    with h5py.File(compound, "w") as file:
        file["deep/inside"] = table[["id", "mag_r"]].as_array()
    table.write(native, path="cat", serialize_meta=True)
    for path in (rail, compound, native):
        np.testing.assert_array_equal(files.read(path, ["mag_r"])["mag_r"], table["mag_r"])
        np.testing.assert_array_equal(next(files.iter_batches(path, ["id"], rows=5))["id"], table["id"][:5])
    assert files.read(f"{rail}::other").colnames == ["x"]
    assert list(files.read(native)["class"]) == list(table["class"])


def test_fits_reads_the_named_extension_and_keeps_units(tmp_path):
    first, second = fits.BinTableHDU(Table({"a": [1.0]}), name="FIRST"), Table({"b": [2.0, 3.0]})
    second["b"].unit = "uJy"
    path = tmp_path / "two.fits"
    fits.HDUList([fits.PrimaryHDU(), first, fits.BinTableHDU(second, name="SECOND")]).writeto(path)
    assert files.read(path).colnames == ["a"]
    named = files.read(path, group="second")
    assert named["b"].unit == "uJy" and named["b"].dtype.isnative


@pytest.mark.parametrize(
    "text",
    [
        "u,g\n1.5,2\n3.5,4\n",
        "# u g\n1.5 2\n3.5 4\n",
        "#Table1\nu,g\n1.5,2\n3.5,4\n",
        "u;g\n1.5;2\n3.5;4\n",
        "u\tg\n1.5\t2\n3.5\t4\n",
        "# made by me\n# u | g\n1.5 | 2\n3.5 | 4\n",
        '\ufeff"u","g"\r\n1.5,2\r\n\r\n3.5,4\r\n',
        "   u      g\n 1.5   2 \n# a remark\n 3.5   4",
        "u , g\n1.5 , 2\n3.5 , 4\n",
        "#F g is next\n#u;g\n1.5,2\n3.5,4\n",
    ],
)
def test_text_of_many_kinds(tmp_path, text):
    path = tmp_path / "a.dat"
    path.write_text(text, encoding="utf-8")
    table = files.read(path)
    assert table.colnames == ["u", "g"]
    np.testing.assert_array_equal(table.column("u"), [1.5, 3.5])
    np.testing.assert_array_equal(table.column("g"), [2, 4])


def test_text_words_for_nothing_and_infinity(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,nan,x\n,inf,\nNULL,-inf,y\n")
    table = files.read(path)
    np.testing.assert_array_equal(table.column("a"), [1, np.nan, np.nan])
    np.testing.assert_array_equal(table.column("b"), [np.nan, np.inf, -np.inf])
    assert list(table["c"]) == ["x", "", "y"]


def test_integers_then_decimals_far_down_are_decimals(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a\n" + "1\n" * 200_000 + "1.5\n")
    assert files.read(path)["a"][-1] == 1.5


def test_parquet_types_without_a_numpy_twin(tmp_path):
    path = tmp_path / "a.parquet"
    flags = pa.array([True, None, False])
    pq.write_table(
        pa.table(
            {
                "label": pa.array(["a", "b", None]).dictionary_encode(),
                "flag": flags,
                "half": pa.array(np.array([1, 2, 3], dtype=np.float16)),
                "none": pa.nulls(3),
                "money": pa.array([1, 2, 3]).cast(pa.decimal128(25, 2)),
            }
        ),
        path,
    )
    table = files.read(path)
    assert list(table["label"]) == ["a", "b", ""]
    np.testing.assert_array_equal(table.column("flag"), [1, np.nan, 0])
    np.testing.assert_array_equal(table.column("half"), [1, 2, 3])
    assert np.isnan(table.column("none")).all()
    np.testing.assert_array_equal(table.column("money"), [1, 2, 3])


def test_the_first_bytes_win_over_the_ending(tmp_path):
    path = files.write(catalogue(), tmp_path / "a.parquet").rename(tmp_path / "a.csv")
    assert files.file_format(path) == "Parquet"
    assert len(files.read(path)) == ROWS


def test_a_failed_write_leaves_nothing(tmp_path):
    table = Table({"x": np.array([object(), object()], dtype=object)})
    with pytest.raises(TableError, match="cannot write"):
        files.write(table, tmp_path / "a.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_csv_of_one_column_comes_back_as_it_went(tmp_path):
    files.write(Table({"my z": np.arange(3.0)}), tmp_path / "one.csv")
    assert files.read(tmp_path / "one.csv").colnames == ["my z"]
