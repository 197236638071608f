import gzip
import pickle
import re

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data import files

ROWS = 1000
ENDINGS = ["parquet", "hdf5", "fits", "fits.gz", "csv", "ecsv", "txt"]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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


# --- hostile files: what the user sees ---


def write_bytes(name, content):
    def make(folder):
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def cut(ending, keep):
    def make(folder):
        whole = files.write(catalogue(), folder / f"whole.{ending}")
        path = folder / f"cut.{ending}"
        path.write_bytes(whole.read_bytes()[: int(keep * whole.stat().st_size)])
        return path

    return make


def hdf5(**members):
    def make(folder):
        path = folder / "a.hdf5"
        with h5py.File(path, "w") as file:
            for name, values in members.items():
                file[name.replace("__", "/")] = values
        return path

    return make


def saved(name, function):
    def make(folder):
        function(folder / name)
        return folder / name

    return make


def numpy_pickle(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def damaged_parquet(path):
    content = bytearray(files.write(catalogue(), path).read_bytes())
    content[100:2000] = bytes(1900)
    path.write_bytes(content)


HOSTILE = {
    "missing": (lambda folder: folder / "none.csv", "there is no file '.*none.csv'"),
    "folder": (lambda folder: folder, "is a folder without Parquet files: give a file"),
    "empty": (write_bytes("a.csv", b""), "'.*a.csv' is empty"),
    "empty parquet": (write_bytes("a.parquet", b""), "'.*a.parquet' is empty"),
    "blank": (write_bytes("a.csv", b"\n \n\n"), "'.*a.csv': there are no rows"),
    "header only": (write_bytes("a.csv", b"u,g,r\n"), "'.*a.csv': there are no rows"),
    "no header": (write_bytes("a.txt", b"1 2\n3 4\n"), "there is no header: the first line is '1 2'"),
    "header too short": (
        write_bytes("a.txt", b"# u g\n1 2 3\n"),
        "the header names 2 columns but the rows have 3",
    ),
    "ragged": (write_bytes("a.csv", b"u,g\n1,2\n3\n"), "Expected 2 columns, got 1: 3"),
    "ragged white space": (write_bytes("a.txt", b"u g\n1 2\n3 4 5\n"), "Expected 2 columns, got 3: 3,4,5"),
    "twice": (write_bytes("a.csv", b"u,g,u\n1,2,3\n"), "the column 'u' occurs more than once"),
    "web page": (write_bytes("a.csv", b"<!DOCTYPE html>\n<html>"), "is a web page, not a catalogue"),
    "lfs": (write_bytes("a.fits", b"version https://git-lfs.github.com/spec/v1\n"), "Git LFS pointer"),
    "pickle": (
        write_bytes("a.pkl", pickle.dumps({"a": [1]})),
        r"'.*a.pkl' is of an unknown format: give FITS, HDF5, Parquet, CSV, ECSV, text or \.npy",
    ),
    "zip": (write_bytes("a.npz", b"PK\x03\x04" + bytes(50)), "is of an unknown format"),
    "binary csv": (write_bytes("a.csv", b"u,g\n\0\0\0"), "it is neither a known binary format nor text"),
    "utf-16": (write_bytes("a.csv", "u,g\n1,2\n".encode("utf-16")), "neither a known binary format nor text"),
    "misnamed fits": (write_bytes("a.fits", b"u,g\n1,2\n"), "is not a FITS file although it is named so"),
    "misnamed parquet": (write_bytes("a.parquet", b"u,g\n1,2\n"), "is not a Parquet file although"),
    "broken gzip": (
        write_bytes("a.csv.gz", gzip.compress(b"u,g\n1,2\n" * 99)[:30]),
        "cannot read '.*a.csv.gz'",
    ),
    "cut parquet": (cut("parquet", 0.5), "cannot read '.*cut.parquet': Parquet magic bytes not found"),
    "damaged parquet": (saved("d.parquet", damaged_parquet), "cannot read '.*d.parquet': "),
    "cut hdf5": (cut("hdf5", 0.5), "cannot read '.*cut.hdf5': .*truncated file"),
    "cut fits": (cut("fits", 0.6), "'.*cut.fits': the file is truncated"),
    "fits image": (
        saved("i.fits", lambda path: fits.PrimaryHDU(np.zeros((4, 4))).writeto(path)),
        "there is no table in it, only images",
    ),
    "parquet of no rows": (
        saved("e.parquet", lambda path: pq.write_table(pa.table({"u": pa.array([], pa.float64())}), path)),
        "'.*e.parquet': there are no rows",
    ),
    "parquet twice": (
        saved("t.parquet", lambda path: pq.write_table(pa.table([[1], [2]], names=["u", "u"]), path)),
        "the column 'u' occurs more than once",
    ),
    "hdf5 without tables": (hdf5(cube=np.zeros((2, 2))), "there is no table in it: no compound dataset"),
    "hdf5 lengths": (hdf5(u=np.zeros(3), g=np.zeros(4)), "the datasets of '/' have different lengths: 3, 4"),
    "hdf5 several": (
        hdf5(a__u=np.zeros(3), b__u=np.zeros(3)),
        r"it holds 2 tables \(/a, /b\): choose one with 'FILE::a'",
    ),
    "npy without names": (
        saved("p.npy", lambda path: np.save(path, np.zeros((3, 2)))),
        "the array has no named columns",
    ),
    "npy pickle": (saved("o.npy", numpy_pickle), "cannot read '.*o.npy': "),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_get_one_clear_line(tmp_path, case):
    make, message = HOSTILE[case]
    path = make(tmp_path)
    with pytest.raises(TableError, match=message) as caught:
        files.read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(TableError):
        list(files.iter_batches(path))


def test_pandas_hdf_is_refused_by_name(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("df")
        group.attrs["pandas_type"] = "frame"
        group["axis0"] = np.zeros(3)
    with pytest.raises(TableError, match="written by pandas' to_hdf, whose layout needs pickle: write Parquet"):
        files.read(path)


def test_unknown_column_group_and_ending(tmp_path):
    path = files.write(catalogue(), tmp_path / "a.fits")
    with pytest.raises(TableError, match=r"'.*a\.fits': no column 'mag_x'; did you mean 'mag_r'\?"):
        files.read(path, ["mag_x"])
    with pytest.raises(TableError, match="there is no table 'B'; tables: "):
        files.read(path, group="B")
    with pytest.raises(TableError, match=r"end it in \.parquet, \.hdf5, \.fits, \.csv, \.ecsv or \.txt"):
        files.write(catalogue(), tmp_path / "a.xyz")


def test_pickles_in_arrays_never_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "bomb.npy"
    np.save(path, np.array([Bomb()], dtype=object), allow_pickle=True)
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(Bomb()))
    for name in ("bomb.npy", "bomb.pkl"):
        with pytest.raises(TableError):
            files.read(tmp_path / name)
    assert not (tmp_path / "ran").exists()


# --- garbage ---


def readable_or_clear(path):
    """Reading gives a table with rows, or a TableError of one line, and nothing else."""
    try:
        table = files.read(path)
    except TableError as error:
        assert re.fullmatch(r"[^\n]{1,700}", str(error)), str(error)
    else:
        assert len(table) > 0 and table.colnames


@QUICK
@given(
    content=st.binary(max_size=400),
    ending=st.sampled_from(["csv", "fits", "hdf5", "parquet", "npy", "ecsv", "q"]),
)
def test_random_bytes(tmp_path, content, ending):
    path = tmp_path / f"a.{ending}"
    path.write_bytes(content)
    readable_or_clear(path)


@QUICK
@given(text=st.text(alphabet="ab1.5,;\t |#\"'\n\r-enN%", max_size=120))
def test_random_text(tmp_path, text):
    path = tmp_path / "a.txt"
    path.write_text(text, newline="")
    readable_or_clear(path)


@pytest.mark.parametrize("ending", ["parquet", "hdf5", "fits", "npy"])
@settings(QUICK, max_examples=40)
@given(data=st.data())
def test_damage_anywhere(tmp_path, ending, data):
    path = tmp_path / f"a.{ending}"
    whole = tmp_path / f"whole.{ending}"
    if not whole.exists():
        if ending == "npy":
            np.save(whole, catalogue(50)[["id", "mag_r"]].as_array())
        else:
            files.write(catalogue(50), whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
    readable_or_clear(path)
