import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from astropy.table import Table as AstropyTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data import files
from deepfield.data.photometry import photometry
from deepfield.photoz.read import read, read_batches


def sdss(rows: int = 50) -> dict:
    rng = np.random.default_rng(0)
    columns = {"objID": np.arange(rows) + 10**15, "redshift": rng.uniform(0, 1, rows)}
    for band in "ugriz":
        columns[f"modelMag_{band}"] = rng.uniform(17, 24, rows)
        columns[f"modelMagErr_{band}"] = rng.uniform(0.01, 0.5, rows)
    return columns


def test_every_way_in_gives_the_same_table(tmp_path):
    data = sdss()
    structured = AstropyTable(data).as_array()
    ways = [AstropyTable(data), Table(data), pd.DataFrame(data), pa.table(data), structured, data]
    ways += [files.write(Table(data), tmp_path / f"a.{end}") for end in ("parquet", "fits", "hdf5", "ecsv", "csv")]
    tables = [read(way) for way in ways]
    assert len({table.digest() for table in tables}) == 1
    assert tables[0].meta["bands"] == ("u", "g", "r", "i", "z")
    assert {"mag_u", "mag_err_u", "z_spec", "id"} <= set(tables[0].colnames)
    np.testing.assert_array_equal(tables[0]["id"], data["objID"])


def test_pandas_with_missing_values():
    frame = pd.DataFrame(
        {"mag_g": [20.0, None], "mag_r": pd.array([21, None], dtype="Int64"), "class": ["QSO", None]}
    )
    table = read(frame)
    np.testing.assert_array_equal(table.column("mag_g"), [20, np.nan])
    np.testing.assert_array_equal(table.column("mag_r"), [21, np.nan])
    assert list(table["class"]) == ["QSO", ""]


def test_masked_magnitudes_are_not_observed():
    table = read({"mag_g": np.ma.array([20.0, 21.0], mask=[False, True]), "mag_r": [20.0, 21.0]})
    np.testing.assert_array_equal(table.column("mag_g"), [20.0, np.nan])


def test_reading_is_said(caplog):
    with caplog.at_level("INFO", logger="deepfield.photoz"):
        table = read(sdss())
    assert "guessed SDSS columns, bands u,g,r,i,z: modelMag_u ± modelMagErr_u (mag)" in caplog.text
    assert table.meta["reading"] in caplog.text


def test_preset_map_bands_and_target():
    data = sdss() | {"other_z": np.full(50, 0.5)}
    table = read(data, columns="sdss", bands=["r", "i"], target="other_z")
    assert table.meta["bands"] == ("r", "i") and (table["z_spec"] == 0.5).all()
    table = read(data, columns={"mag_r": "modelMag_g", "z_spec": "other_z"})
    np.testing.assert_array_equal(table["mag_r"], data["modelMag_g"])


@pytest.mark.parametrize("ending", ["parquet", "hdf5", "fits", "csv"])
def test_batches_equal_the_whole(tmp_path, ending):
    data = sdss(500)
    data["modelMag_u"][::7] = 99.0
    path = files.write(Table(data | {"unused": np.arange(500)}), tmp_path / f"a.{ending}")
    whole = read(path)
    batches = list(read_batches(path, rows=64, start=100))
    assert [len(batch) for batch in batches] == [64] * 6 + [16]
    assert "unused" not in batches[0].colnames
    for name in batches[0].colnames:
        np.testing.assert_array_equal(np.concatenate([b[name] for b in batches]), whole[name][100:])
    assert "unused" in next(read_batches(path, extra=["unused"])).colnames


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        (3, "cannot read a int: give a path, an astropy, pandas or pyarrow table"),
        (None, "cannot read a NoneType: give a path"),
        (np.zeros((3, 2)), "cannot read a ndarray: give a path"),
        ({}, "the catalogue has no rows"),
        ({"mag_g": [], "mag_r": []}, "the catalogue has no rows"),
        (pd.DataFrame({"mag_g": []}), "the catalogue has no rows"),
        ({"mag_g": ["faint", "20.1"]}, "column 'mag_g' holds text such as 'faint': numbers are needed"),
        ({"mag_g": [20.0], "mag_err_g": ["?"]}, r"column 'mag_err_g' holds text such as '\?'"),
        ({"mag_g": np.zeros((4, 5))}, r"column 'mag_g' has shape \(4, 5\): one number per row is needed"),
        ({"mag_g": np.array([1, "x"], dtype=object)}, "column 'mag_g' holds text such as 'x'"),
        ({"ra": [1.0], "dec": [2.0]}, "no magnitudes or fluxes among the columns ra, dec"),
        ({"mag_g": [20.0], "z_spec": ["?"]}, r"column 'z_spec' holds text such as '\?'"),
        ("nowhere/at_all.fits", "there is no file 'nowhere/at_all.fits'"),
    ],
)
def test_hostile_catalogues(catalog, message):
    with pytest.raises(TableError, match=message) as caught:
        read(catalog)
    assert "\n" not in str(caught.value)


def test_text_among_the_magnitudes_of_a_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("mag_g,mag_r\n20.1,21\nfaint,22\n")
    with pytest.raises(TableError, match="column 'mag_g' holds text such as 'faint': numbers are needed"):
        read(path)


values = st.one_of(st.floats(width=64), st.sampled_from([99.0, -99.0, 999.0, -9999.0, 1e20, 0.0]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(values, values, values, values), min_size=1, max_size=12), st.booleans())
def test_no_row_is_dropped_or_moved_and_photometry_is_usable(rows, flux):
    array = np.array(rows)
    kind = "flux" if flux else "mag"
    table = read({f"{kind}_g": array[:, 0], f"{kind}_err_g": array[:, 1], "z_spec": array[:, 2], "n": array[:, 3]})
    np.testing.assert_array_equal(table["n"], array[:, 3])
    f, e = photometry(table, ["g"])
    assert f.shape == e.shape == (len(rows), 1)
    assert not np.isinf(f).any() and not np.isinf(e).any() and np.all(np.isnan(e) | (e >= 0))
    z = table.column("z_spec")
    assert np.all(np.isnan(z) | ((z > -1) & (z < 20)))
    usual = (array[:, 0] > 5) & (array[:, 0] < 40) & ~np.isnan(array[:, 0])
    assert np.isfinite(f[usual]).all()
