"""From model and catalogue to densities: in memory, file to file, by torch and by ONNX."""

import importlib
import shutil

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfield import photoz
from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.data.files import write
from deepfield.photoz.export_qp import read_qp
from deepfield.photoz.predict import Counts, open_model, predict_file

module = importlib.import_module("deepfield.photoz.predict")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy, model):
    """A model, and a catalogue in which rows 3 and 8 cannot be served."""
    place = tmp_path_factory.mktemp("predict")
    model.save(place / "model")
    table = toy(50, 4)
    table["mag_r"][3] = np.nan
    for band in "gri":
        table[f"mag_{band}"][8] = np.nan
    write(table, place / "cat.parquet")
    return place


@pytest.fixture(scope="module")
def exported(folder, model):
    """Exporting takes seconds: once."""
    pytest.importorskip("onnxruntime")
    photoz.export(folder / "model", folder / "model.onnx")
    return folder / "model.onnx"


def run(folder, tmp_path, out="pz.parquet", **options):
    counts = predict_file(folder / "model", folder / "cat.parquet", tmp_path / out, progress=False, **options)
    return counts, tmp_path / out


def same(one, two):
    """Whether two files say the same, but for the last digit of their floats."""
    a, b = pq.read_table(one), pq.read_table(two)
    words = all(a[name].to_pylist() == b[name].to_pylist() for name in ("object_id", "reason", "reason_code"))
    numbers = [name for name in a.column_names if pa.types.is_floating(a[name].type)]
    close = all(np.allclose(a[n], b[n], atol=2e-6, equal_nan=True) for n in numbers)
    densities = [np.stack(t["features"].to_numpy()) for t in (a, b)]
    return a.schema.equals(b.schema) and words and close and np.allclose(*densities, atol=2e-6, equal_nan=True)


def test_parquet_keeps_order_and_says_why(folder, tmp_path, model):
    counts, path = run(folder, tmp_path)
    assert counts.rows == 50 and sum(counts.unserved.values()) == 2
    assert counts.summary() == (
        "2 rows have NaN (1: no band is measured; 1: r or its error is missing, and the training data always had "
        "it); to serve rows without a band, train on data with such gaps, or with --bands of the others"
    )
    table = pq.read_table(path)
    assert table["object_id"].to_pylist() == list(range(7, 57))
    assert table["reason"].to_pylist()[3].startswith("r or its error is missing")
    assert table["reason"].to_pylist()[8] == "no band is measured" and table["reason"].to_pylist()[0] == ""
    assert np.flatnonzero(np.isnan(table["zmode"].to_numpy())).tolist() == [3, 8]


def test_a_band_without_a_column_is_served_where_the_training_had_gaps(toy, tiny, tmp_path, caplog, model):
    rows = toy(400)
    rows["mag_r"][::3] = np.nan
    gappy = photoz.train(rows, progress=False, **tiny)
    gappy.save(tmp_path / "gappy")
    table = toy(30, seed=5)
    table["mag_r"] = np.nan
    table["mag_err_r"] = np.nan
    empty = photoz.predict(gappy, table)
    assert "no column" not in caplog.text
    table.remove_columns(["mag_r", "mag_err_r"])
    assert np.array_equal(photoz.predict(gappy, table).mean, empty.mean) and np.isfinite(empty.mean).all()
    assert "no column for band r: served as not observed in every row" in caplog.text
    write(table, tmp_path / "cat.parquet")
    for out in ("pz.parquet", "pz.hdf5"):
        caplog.clear()
        counts = predict_file(tmp_path / "gappy", tmp_path / "cat.parquet", tmp_path / out, progress=False)
        assert counts.rows == 30 and not counts.unserved and caplog.text.count("no column for band r") == 1
    again = pq.read_table(tmp_path / "pz.parquet")["zmean"].to_numpy()
    assert np.allclose(again, empty.mean, atol=1e-5)
    with pytest.raises(DeepfieldError, match="no photometry in band 'r'"):
        photoz.predict(model, table)


def test_parquet_holds_what_memory_holds(folder, tmp_path, model):
    _, path = run(folder, tmp_path)
    whole = photoz.predict(model, photoz.read(folder / "cat.parquet"))
    again, table = Prediction.read(path), pq.read_table(path)
    grid = np.linspace(0, 2, 101)
    served = ~np.isnan(whole.mean)
    assert np.allclose(again.pdf(grid)[served], whole.pdf(grid)[served], rtol=1e-4, atol=1e-6)
    assert np.allclose(again.interval(0.9), whole.interval(0.9), atol=1e-5, equal_nan=True), "calibration travels"
    low, high = whole.interval(0.6827)
    for name, values in {"zmode": whole.mode, "zmean": whole.mean, "zmedian": whole.median, "z_std": whole.std,
                         "z_lo68": low, "z_hi68": high}.items():  # fmt: skip
        assert np.allclose(table[name].to_numpy(), values, atol=1e-5, equal_nan=True), name


def test_hdf5_is_a_qp_ensemble_of_the_same(folder, tmp_path, model):
    counts, path = run(folder, tmp_path, "pz.hdf5")
    assert counts.rows == 50 and sum(counts.unserved.values()) == 2
    pz, columns = read_qp(path)
    whole = photoz.predict(model, photoz.read(folder / "cat.parquet"))
    assert np.allclose(pz.mean, whole.mean, atol=1e-5, equal_nan=True)
    assert columns["object_id"].tolist() == list(range(7, 57))
    assert np.flatnonzero(columns["reason_code"]).tolist() == [3, 8]
    assert np.allclose(columns["zmedian"], whole.median, atol=1e-5, equal_nan=True)
    with h5py.File(path) as file:
        assert set(file) == {"meta", "data", "ancil"}


def test_streaming_in_batches_gives_the_same_file(folder, tmp_path, monkeypatch):
    _, path = run(folder, tmp_path)
    monkeypatch.setattr(module, "_ROWS", 7)
    _, small = run(folder, tmp_path, "small.parquet", workers=3)
    assert same(path, small)


def test_a_stopped_run_goes_on_where_it_was(folder, tmp_path, monkeypatch):
    _, path = run(folder, tmp_path)
    monkeypatch.setattr(module, "_ROWS", 4)
    monkeypatch.setattr("deepfield.scale.stream.SHARD", 2)
    seen, whole = [], module._arrow

    def stops(served, start, table):
        seen.append(start)
        if start == 32:
            raise KeyboardInterrupt
        return whole(served, start, table)

    monkeypatch.setattr(module, "_arrow", stops)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path, "again.parquet", workers=1)
    assert not (tmp_path / "again.parquet").exists() and (tmp_path / ".again.parquet.parts").is_dir()
    monkeypatch.setattr(module, "_arrow", lambda *a: (seen.append(-a[1]), whole(*a))[1])
    counts, again = run(folder, tmp_path, "again.parquet", workers=1)
    resumed = [-start for start in seen if start <= 0 and start != 0]
    assert min(resumed) >= 16, "what was done is not done again"
    assert counts.rows == 50 and sum(counts.unserved.values()) == 2, "all rows are counted, also the earlier ones"
    assert same(path, again)
    assert not (tmp_path / ".again.parquet.parts").exists()


def test_what_another_version_left_is_not_gone_on_with(folder, tmp_path, monkeypatch):
    jobs = []
    monkeypatch.setattr("deepfield.scale.stream.stream_parquet", lambda *a, job, **o: jobs.append(job) or 1 / 0)
    for version in ("1.0", "2.0"):
        monkeypatch.setattr("deepfield.__version__", version)
        with pytest.raises(ZeroDivisionError):
            predict_file(folder / "model", folder / "cat.parquet", tmp_path / "pz.parquet", progress=False)
    assert jobs[0] != jobs[1] and {**jobs[0], "version": "2.0"} == jobs[1]


def test_other_formats_stream_too(folder, tmp_path, toy):
    write(toy(20, 4), tmp_path / "cat.fits")
    write(toy(20, 4), tmp_path / "cat.hdf5")
    found = []
    with h5py.File(tmp_path / "cat.hdf5") as file:
        group = next(iter(file))
        inside = f"{tmp_path}/cat.hdf5" + (f"::{group}" if isinstance(file[group], h5py.Group) else "")
    for catalog in (f"{tmp_path}/cat.fits", inside):
        predict_file(folder / "model", catalog, tmp_path / "pz.parquet", progress=False)
        found.append(pq.read_table(tmp_path / "pz.parquet")["zmean"].to_numpy())
    assert np.allclose(*found)


def test_predict_warns_and_counts(folder, model, caplog):
    photoz.predict(model, photoz.read(folder / "cat.parquet"))
    assert "2 rows have NaN" in caplog.text


def test_onnx_agrees_with_torch(folder, exported, model, tmp_path, monkeypatch):
    table = photoz.read(folder / "cat.parquet")
    runtime, _ = open_model(exported)
    x = model.encode(table)
    ours, why = model.predict_raw(x)
    theirs, why_onnx = runtime.predict_raw(x)
    assert np.array_equal(why, why_onnx)
    assert np.allclose(ours.mean, theirs.mean, atol=2e-5, equal_nan=True)
    assert np.allclose(ours.interval(0.9), theirs.interval(0.9), atol=1e-4, equal_nan=True)
    # file to file: the .onnx itself, and the folder with the engine named
    predict_file(exported, folder / "cat.parquet", tmp_path / "a.parquet", progress=False)
    monkeypatch.setattr(module, "export", lambda model, path: shutil.copy(exported, path))
    predict_file(folder / "model", folder / "cat.parquet", tmp_path / "b.parquet", engine="onnx", progress=False)
    predict_file(folder / "model", folder / "cat.parquet", tmp_path / "c.parquet", progress=False)
    a, c = (pq.read_table(tmp_path / f"{name}.parquet") for name in "ac")
    assert same(tmp_path / "a.parquet", tmp_path / "b.parquet") and a["object_id"].equals(c["object_id"])
    assert np.allclose(a["z_hi68"].to_numpy(), c["z_hi68"].to_numpy(), atol=1e-4, equal_nan=True)


def test_a_flow_cannot_be_exported_and_says_so(toy, tiny, tmp_path):
    pytest.importorskip("onnxscript")
    flow = photoz.train(toy(200), **tiny, estimator="flow", progress=False)
    with pytest.raises(ValueError, match="only Gaussian mixtures are exported; this model's head is a Flow"):
        photoz.export(flow, tmp_path / "a.onnx")
    flow.save(tmp_path / "flow")
    write(toy(10, 2), tmp_path / "cat.parquet")
    predict_file(tmp_path / "flow", tmp_path / "cat.parquet", tmp_path / "pz.parquet", progress=False)
    pz = Prediction.read(tmp_path / "pz.parquet")
    assert np.allclose(pz.median, photoz.predict(flow, toy(10, 2)).median, atol=1e-3)


def test_counts():
    counts = Counts()
    counts.add(np.array([0, 2, 2], dtype=np.int8), ["", "a", "b"])
    counts.add(np.array([1, 2], dtype=np.int8), ["", "a", "b"])
    assert (counts.rows, counts.unserved) == (5, {"a": 1, "b": 3})
    assert counts.summary() == "4 rows have NaN (1: a; 3: b)"


def test_a_catalogue_far_from_the_training_rows_is_served_with_a_warning(model, toy, tmp_path, caplog):
    table = toy(100, 3)
    for band in "gri":
        table[f"mag_{band}"] += 7.5  # fluxes a thousand times too small
    photoz.predict(model, table)
    assert "of the rows are fainter in" in caplog.text and "nJy" in caplog.text
    caplog.clear()
    model.save(tmp_path / "m")
    table.write(tmp_path / "c.parquet")
    for out in ("pz.parquet", "pz.hdf5"):
        photoz.predict_file(tmp_path / "m", tmp_path / "c.parquet", tmp_path / out, progress=False)
        assert caplog.text.count("of the rows are fainter in") == 1
        caplog.clear()
    photoz.predict(model, toy(100, 4))
    assert "of the rows are" not in caplog.text


def test_paths_and_dictionaries_are_read_on_the_way(model, toy, tmp_path):
    table = toy(50, 3)
    table.write(tmp_path / "c.parquet")
    here = photoz.predict(model, table)
    np.testing.assert_array_equal(photoz.predict(model, tmp_path / "c.parquet").median, here.median)
    columns = {name: np.asarray(table[name]) for name in table.colnames}
    np.testing.assert_array_equal(photoz.predict(model, columns).median, here.median)
    one, other = photoz.score(here, table), photoz.score(here, str(tmp_path / "c.parquet"))
    assert one.metrics["crps"].value == other.metrics["crps"].value
