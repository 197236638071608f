"""Prediction: broken images are flagged, files equal what memory gives and go on after a kill, priors, ONNX."""

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from deepfield import lensing
from deepfield.core.errors import DeepfieldError
from deepfield.data.images.read import read
from deepfield.lensing.predict import export, find_file, measure_file


@pytest.fixture(scope="module")
def place(tmp_path_factory, finder, measurer, lenses):
    folder = tmp_path_factory.mktemp("predict")
    finder.save(folder / "finder")
    measurer.save(folder / "measurer")
    images = lenses(60, seed=14)
    pixels = images.load()[0].numpy()
    pixels[5, 1, 3, 3] = np.nan
    pixels[6] = 1e38
    np.savez(folder / "set.npz", images=pixels, **{n: np.asarray(images.table[n]) for n in images.table.colnames})
    return folder


def test_broken_images_are_flagged_and_come_last(finder, place, caplog):
    images = read(place / "set.npz", bands=("g", "r"))
    with caplog.at_level(logging.WARNING):
        found = lensing.find(finder, images, prior=1e-3)
    assert (
        np.flatnonzero(np.isnan(found.probability)).tolist() == [5, 6]
        and "2 images cannot be served" in caplog.text
    )
    assert sorted(found.rank.tolist()) == list(range(1, 61)) and sorted(found.rank[[5, 6]].tolist()) == [59, 60]
    good = np.delete(np.arange(60), [5, 6])
    assert (found.posterior[good] < found.probability[good]).all(), "lenses are rarer in the survey"
    low, high = found.interval
    assert ((low <= found.probability) & (found.probability <= high))[good].all()


def test_files_hold_what_memory_gives(place, finder, measurer):
    counts = find_file(
        place / "finder", place / "set.npz", place / "found.parquet", prior=1e-3, measurer=place / "measurer",
        progress=False,
    )  # fmt: skip
    assert counts.rows == 60 and counts.unserved.total() == 2
    table = pq.read_table(place / "found.parquet").to_pandas()
    images = read(place / "set.npz", bands=("g", "r"))
    found = lensing.find(finder, images, prior=1e-3)
    np.testing.assert_allclose(table["probability"], found.probability, rtol=1e-5)
    np.testing.assert_allclose(table["posterior"], found.posterior, rtol=1e-5)
    assert sorted(table["rank"]) == list(range(1, 61)) and table["object_id"].tolist() == list(range(100, 160))
    assert table.sort_values("rank")["log_odds"].dropna().is_monotonic_decreasing
    likely = found.probability >= 0.5
    assert np.array_equal(np.isfinite(table["theta_e_median"]), likely)
    assert table["reason"][5].startswith("1 of 2048 pixels are not finite") and table["reason_code"][0] == 0
    assert [p.name for p in place.glob(".*")] == []
    measure_file(place / "measurer", place / "set.npz", place / "m.parquet", progress=False)
    table = pq.read_table(place / "m.parquet").to_pandas()
    expected = lensing.measure(measurer, images).quantile("theta_e", 0.5)
    np.testing.assert_allclose(table["theta_e_median"], expected, rtol=1e-5)


def test_a_killed_run_goes_on(place, monkeypatch):
    from deepfield.data.images import serve
    from deepfield.scale import stream

    monkeypatch.setattr(serve, "_ROWS", 16)
    monkeypatch.setattr(stream, "SHARD", 1)
    calls = []

    def counted(rows, broken):
        def features(model, part):
            calls.append(len(part))
            if len(calls) == broken:
                raise KeyboardInterrupt
            return original(model, part)

        return features

    from deepfield.lensing import predict

    original = predict.features_of
    monkeypatch.setattr(predict, "features_of", counted(16, 4))
    job = (place / "finder", place / "set.npz", place / "again.parquet")
    with pytest.raises(KeyboardInterrupt):
        find_file(*job, progress=False)
    done = len(calls)
    monkeypatch.setattr(predict, "features_of", counted(16, 0))
    find_file(*job, progress=False)
    assert sum(calls[done:]) < 60
    whole = pq.read_table(place / "again.parquet")["log_odds"].to_numpy()
    np.testing.assert_allclose(whole, pq.read_table(place / "found.parquet")["log_odds"].to_numpy(), rtol=1e-5)


def test_what_does_not_fit(place, finder, lenses):
    images = lenses(4)
    with pytest.raises(DeepfieldError, match="the images have 1 bands"):
        lensing.find(finder, read(images.load()[0][:, :1].numpy()))
    with pytest.raises(DeepfieldError, match="the model takes 32"):
        lensing.find(finder, read(np.zeros((2, 2, 40, 40), dtype=np.float32)))
    with pytest.raises(DeepfieldError, match=r"images come from read\(...\)"):
        lensing.find(finder, "set.npz")
    with pytest.raises(DeepfieldError, match="in the order r, g, the model takes g, r"):
        lensing.find(finder, read(images.load()[0].numpy(), bands=("r", "g")))
    with pytest.raises(DeepfieldError, match="prior is a share of lenses"):
        lensing.find(finder, images, prior=0.0)
    with pytest.raises(DeepfieldError, match=r"written to .parquet"):
        find_file(place / "finder", place / "set.npz", place / "x.csv", progress=False)
    with pytest.raises(DeepfieldError, match="trained to find, not to measure"):
        measure_file(place / "finder", place / "set.npz", place / "x.parquet", progress=False)


def test_onnx(finder, lenses, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    export(finder, tmp_path / "f.onnx")
    images = lenses(20, seed=15)
    x = images.load()[0]
    session = onnxruntime.InferenceSession(str(tmp_path / "f.onnx"), providers=["CPUExecutionProvider"])
    odds = session.run(None, {"x": x.numpy()})[0][:, 0]
    np.testing.assert_allclose(odds, lensing.find(finder, images).joint, rtol=1e-3, atol=1e-3)
    assert torch.isfinite(torch.from_numpy(odds)).all()
