"""Prediction in memory and file to file: order, broken images, what does not fit, ONNX."""

import io
import logging
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deepfield import morphology
from deepfield.core.errors import DeepfieldError
from deepfield.data.images.read import read
from deepfield.morphology.predict import export, predict, predict_file
from deepfield.morphology.prediction import read_prediction


def encoded(pixels):
    from PIL import Image

    found = []
    for image in pixels:
        file = io.BytesIO()
        Image.fromarray(np.moveaxis(image, 0, -1)).save(file, "PNG")
        found.append(file.getvalue())
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory, model, toy):
    """A model, and a Parquet file of 30 pictures of which three are broken."""
    folder = tmp_path_factory.mktemp("predict")
    model.save(folder / "model")
    pixels, table = toy(30, seed=5)
    images = encoded(pixels)
    images[4], images[11], images[20] = images[4][:60], b"", encoded(pixels[:1, :, :16])[0]
    pq.write_table(pa.table({"id": table["id"], "label": table["label"], "image": images}), folder / "new.parquet")
    return folder


def test_file_to_file_keeps_order_and_flags_what_is_broken(place, model, toy):
    counts = predict_file(place / "model", place / "new.parquet", place / "p.parquet", progress=False)
    assert counts.rows == 30 and counts.unserved.total() == 2, counts.summary()
    table = pq.read_table(place / "p.parquet").to_pandas()
    assert table["object_id"].tolist() == list(range(100, 130))
    broken = table["reason_code"] != 0
    assert broken[broken].index.tolist() == [4, 11] and table["p_flat"].isna().tolist() == broken.tolist()
    assert (
        "cut off" in table["reason"][4]
        and table["reason"][11] == "there are no bytes"
        and table["reason"][0] == ""
    )
    pixels, _ = toy(30, seed=5)
    straight = predict(model, read(pixels)).probabilities
    good = ~broken.to_numpy() & (np.arange(30) != 20)  # that one is half the size, and was resampled
    assert np.allclose(table[["p_flat", "p_round"]].to_numpy()[good], straight[good], atol=1e-5)
    again, _ = read_prediction(place / "p.parquet")
    assert np.allclose(again.probabilities[good], straight[good], atol=1e-5)
    assert again.reasons.tolist() == table["reason"].tolist()


def test_votes_have_intervals(voter, simulated, tmp_path):
    voter.save(tmp_path / "m")
    predict_file(tmp_path / "m", simulated[1][:20], tmp_path / "v.parquet", progress=False)
    table = pq.read_table(tmp_path / "v.parquet").to_pandas()
    for name in simulated[0].tree.columns:
        assert (table[f"{name}_lo68"] <= table[name] + 0.2).all() and (table[f"{name}_hi68"] <= 1).all()
        assert (table[f"{name}_lo68"] < table[f"{name}_hi68"]).all()


def test_votes_averaged_over_turns_are_written_and_read(voter, simulated, tmp_path):
    asked = replace(voter, config=replace(voter.config, average=True))
    asked.save(tmp_path / "m")
    images = simulated[1][:6]
    predict_file(tmp_path / "m", images, tmp_path / "v.parquet", progress=False)
    p = predict(asked, images)
    assert p.features.shape[1] == 8 * len(voter.answers)
    again, _ = read_prediction(tmp_path / "v.parquet")
    assert again.answers == voter.answers and np.allclose(again.probabilities, p.probabilities, atol=1e-6)


def test_a_warning_counts_what_cannot_be_served(voter, simulated, caplog):
    pixels = simulated[0].images[:8].numpy().copy()
    pixels[1, 0, 0, 0] = np.nan
    with caplog.at_level(logging.WARNING):
        p = predict(voter, read(pixels, bands=("g", "r", "i")))
    assert p.reasons[1] == "1 of 3072 pixels are not finite"
    assert np.isnan(p.probabilities[1]).all() and np.isfinite(p.probabilities[[0, 2, 3]]).all()
    assert "1 images cannot be served" in caplog.text


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((4, 1, 32, 32), r"the images have 1 bands \(band1\), the model takes 3"),
        ((4, 3, 48, 48), "the images have 48 pixels a side, the model takes 32: read them with size=32"),
    ],
)
def test_images_that_do_not_fit(model, shape, message):
    with pytest.raises(DeepfieldError, match=message):
        predict(model, read(np.zeros(shape, dtype=np.uint8)))


def test_another_scale_is_told(model, toy, caplog):
    camera = model.model.net[0]
    camera.stretch.pixel_scale.fill_(0.4)
    with caplog.at_level(logging.WARNING):
        predict(model, read(toy(4)[0], pixel_scale=0.2))
    camera.stretch.pixel_scale.fill_(0.0)
    assert "the images have 0.2 arcsec a pixel, those the model learnt from 0.4" in caplog.text


def test_pictures_and_fluxes_are_not_taken_for_each_other(model, voter, stamps, simulated, tmp_path):
    pixels = stamps.load()[0]
    with pytest.raises(DeepfieldError, match=r"the images are floats .*learnt from bytes"):
        predict(model, read(pixels.float() / 255))
    with pytest.raises(DeepfieldError, match=r"the images are bytes .*learnt from floats"):
        predict(voter, read(simulated[1].load()[0].clamp(0, 255).to(torch.uint8)))
    model.save(tmp_path / "m")
    np.savez(tmp_path / "x.npz", images=pixels.float().numpy())
    with pytest.raises(DeepfieldError, match="or train on these"):
        predict_file(tmp_path / "m", tmp_path / "x.npz", tmp_path / "p.parquet", progress=False)


def test_a_linear_model_of_floats_takes_floats(toy, tiny, tmp_path):
    pixels, table = toy(60)
    images = read(pixels / np.float32(255), catalog=table)
    own = morphology.train(images, stretch="linear", group="p4", **{**tiny, "epochs": 1})
    own.save(tmp_path / "m")
    again = morphology.load(tmp_path / "m")
    assert again.kind == "linear" and again.seen["dtype"] == "float32"
    assert np.isfinite(predict(again, images).probabilities).all()
    tuned = morphology.train(images, init=again, **{**tiny, "epochs": 1})  # though "auto" would be asinh
    assert np.isfinite(predict(tuned, images).probabilities).all()
    with pytest.raises(DeepfieldError, match="the images are bytes"):
        predict(again, read(pixels))


def test_bands_of_other_names_are_told_once(model, toy, caplog):
    pixels, _ = toy(4)
    with caplog.at_level(logging.WARNING):
        predict(model, read(pixels))
        predict(model, read(pixels, bands="rgb"))
        assert not caplog.text, "nobody has said that the bands are others"
        images = read(pixels, bands="irg")
        predict(model, images)
        predict(model, images[:2])
    assert caplog.text.count("the bands are i, r, g, those the model learnt from r, g, b") == 1
    with pytest.raises(DeepfieldError, match="in the order b, g, r, the model takes r, g, b"):
        predict(model, read(pixels, bands="bgr"))


def test_images_resampled_from_another_size_are_told(place, model, toy, caplog):
    large = np.repeat(np.repeat(toy(3)[0], 2, 2), 2, 3)
    np.savez(place / "large.npz", images=large)
    with caplog.at_level(logging.WARNING):
        predict_file(place / "model", place / "new.parquet", place / "q.parquet", progress=False)
        assert "pixels a side" not in caplog.text
        predict_file(place / "model", place / "large.npz", place / "q2.parquet", progress=False)
    assert (
        caplog.text.count("the images have 64 pixels a side and are resampled to 32, those the model learnt") == 1
    )
    caplog.clear()
    camera = model.model.net[0]
    camera.stretch.pixel_scale.fill_(0.4)
    try:
        with caplog.at_level(logging.WARNING):
            predict(model, read(large, size=32, pixel_scale=0.2))
            assert not caplog.text, "with both scales known, the scale counts and not the number of pixels"
            predict(model, read(large, size=32, pixel_scale=0.4))
    finally:
        camera.stretch.pixel_scale.fill_(0.0)
    assert "the images have 0.8 arcsec a pixel, those the model learnt from 0.4" in caplog.text


@pytest.mark.parametrize(
    ("images", "out", "message"),
    [
        ("new.parquet", "p.csv", "results are written to .parquet"),
        ("new.parquet", "new.parquet", "holds the images themselves"),
        ("nothing.parquet", "p2.parquet", "nothing.parquet"),
    ],
)
def test_files_that_make_no_sense(place, images, out, message):
    with pytest.raises((DeepfieldError, OSError), match=message):
        predict_file(place / "model", place / images, place / out, progress=False)


def test_no_image_at_all(model, stamps):
    p = predict(model, stamps[:0])
    assert len(p) == 0 and p.probabilities.shape == (0, 2)


@pytest.mark.parametrize("which", ["model", "voter"])
def test_onnx_answers_the_same(which, request, tmp_path, stamps, simulated):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    own = request.getfixturevalue(which)
    images = (stamps if which == "model" else simulated[1])[:5]
    export(own, tmp_path / "m.onnx")
    session = runtime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(["answers"], {"x": images.load()[0].float().numpy()})[0]
    p = morphology.predict(own, images)
    if which == "voter":
        a = found.mean(1)
        groups = own.tree.owner
        found = a / np.stack([a[:, groups == g].sum(1) for g in groups], 1)
    assert np.allclose(found, p.probabilities, atol=1e-4)
    assert "answers" in session.get_modelmeta().custom_metadata_map["deepfield"]
