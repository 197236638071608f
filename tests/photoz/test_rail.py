"""The adaptor for RAIL: its conversions without RAIL, its stages where RAIL is installed."""

import importlib.util
import pickle
import sys

import numpy as np
import pytest

from deepfield.core.errors import ModelError, TableError
from deepfield.photoz import rail
from deepfield.photoz.predict import predict

BANDS = ["mag_g_lsst", "mag_r_lsst", "mag_i_lsst"]
ERRORS = ["mag_err_g_lsst", "mag_err_r_lsst", "mag_err_i_lsst"]


def catalogue(table):
    data = {f"mag_{b}_lsst": table.column(f"mag_{b}") for b in "gri"}
    data |= {f"mag_err_{b}_lsst": table.column(f"mag_err_{b}") for b in "gri"}
    return data | {"redshift": table.column("z_spec"), "object_id": np.asarray(table["id"])}


def test_columns_become_the_standard_ones(toy):
    table = toy(20)
    found = rail.standard_table(catalogue(table), BANDS, ERRORS, redshift_col="redshift")
    for name in ("mag_g", "mag_err_g", "mag_i", "mag_err_i", "z_spec"):
        assert np.array_equal(found.column(name), table.column(name)), name
    assert found.meta["bands"] == ("g", "r", "i")


def test_non_detections_and_gaps():
    data = {"mag_u_lsst": [20.0, 99.0, -99.0, np.nan], "mag_err_u_lsst": [0.1, 99.0, -99.0, np.nan]}
    limits = {"mag_u_lsst": 27.79, "mag_y_lsst": 27.0}
    found = rail.standard_table(data, ["mag_u_lsst"], ["mag_err_u_lsst"], mag_limits=limits)
    assert np.array_equal(found.column("mag_u"), [20, np.inf, np.nan, np.nan], equal_nan=True)
    assert np.array_equal(found.column("mag_err_u"), [0.1, np.nan, np.nan, np.nan], equal_nan=True)
    assert found.meta["mag_lim"] == {"u": 27.79}
    # RAIL's error models flag non-detections with NaN
    found = rail.standard_table(data, ["mag_u_lsst"], nondetect_val=np.nan)
    assert np.array_equal(found.column("mag_u"), [20, np.inf, np.nan, np.inf], equal_nan=True)


def test_a_missing_column_is_named():
    with pytest.raises(TableError, match="no column 'mag_r_lsst'; columns: mag_r"):
        rail.standard_table({"mag_r": [20.0]}, ["mag_r_lsst"])


def test_models_travel_as_bytes(model, toy, tmp_path):
    again = rail.unpack(rail.pack(model))
    table = toy(10, 1)
    assert np.array_equal(predict(again, table).features, predict(model, table).features)
    model.save(tmp_path / "m")
    rail.write_rail_model(tmp_path / "m", tmp_path / "m.pkl")
    content = pickle.loads((tmp_path / "m.pkl").read_bytes())
    assert type(content) is bytes and rail.unpack(content).bands == ("g", "r", "i")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(99), {"model": 1}, None], ids=str)
def test_other_content_is_refused(content):
    with pytest.raises(ModelError, match="model of DeepfieldInformer"):
        rail.unpack(content)


def test_damage_is_found(model):
    content = bytearray(rail.pack(model))
    content[-900] ^= 1
    with pytest.raises(ModelError):
        rail.unpack(bytes(content))


def test_densities_are_a_qp_ensemble(model, toy):
    pytest.importorskip("qp", reason="qp is in the extra 'photoz'")
    table = toy(12, 2)
    table["mag_r"][4] = np.nan
    found = rail.estimate(model, table, summary=True)
    pz = predict(model, table)
    served = np.arange(12) != 4
    assert found.npdf == 12 and np.isnan(found.ancil["zmode"]).tolist() == (~served).tolist()
    grid = np.linspace(0.01, 1.5, 50)
    assert np.allclose(found[np.flatnonzero(served)].pdf(grid), pz.pdf(grid)[served], rtol=1e-3, atol=1e-4)
    assert np.allclose(found.ancil["z_hi68"], pz.interval(0.6827)[1], atol=1e-5, equal_nan=True)
    assert found.ancil["z_median"].shape == (12, 1)
    assert np.allclose(found.ancil["z_q16"][:, 0], pz.quantile(0.16), atol=1e-5, equal_nan=True)


def test_without_rail_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rail", None)
    spec = importlib.util.spec_from_file_location("rail_is_absent", rail.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(ImportError, match=r"DeepfieldInformer needs RAIL.*pip install pz-rail-base"):
        _ = module.DeepfieldInformer
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = module.Other


def test_the_stages(toy, tiny, tmp_path, monkeypatch):
    pytest.importorskip("rail.estimation.estimator", reason="RAIL is not installed: pip install pz-rail-base")
    from deepfield.photoz.rail import DeepfieldEstimator, DeepfieldInformer

    monkeypatch.chdir(tmp_path)
    shared = {"hdf5_groupname": "", "bands": BANDS, "err_bands": ERRORS}
    inform = DeepfieldInformer.make_stage(name="inform_toy", model="toy.pkl", settings=tiny, **shared)
    handle = inform.inform(catalogue(toy(300)))
    assert isinstance(handle.data, bytes)
    stage = DeepfieldEstimator.make_stage(name="estimate_toy", model=handle, chunk_size=30, **shared)
    data = catalogue(toy(100, 3))
    found = stage.estimate(data).data
    assert found.npdf == 100 and np.array_equal(found.ancil["id"], data["object_id"])
    expected = predict(rail.unpack(handle.data), toy(100, 3))
    assert np.allclose(found.ancil["zmean"], expected.mean, atol=1e-5)
