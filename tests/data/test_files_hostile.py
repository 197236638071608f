"""Broken and hostile files: what the user sees, and that nothing else can come out."""

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

QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def catalogue(rows: int = 1000) -> Table:
    rng = np.random.default_rng(1)
    return Table({"id": np.arange(rows), "mag_r": rng.uniform(18, 25, rows), "class": ["QSO"] * rows})


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
    with pytest.raises(TableError, match=r"there is no table 'B'; tables: 1$"):
        files.read(path, group="B")
    assert len(files.read(f"{path}::1")) == len(files.read(path)), "a table without a name has a number"
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
