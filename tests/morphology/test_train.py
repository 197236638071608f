"""Training: it learns what can be seen, keeps its splits apart, goes on from another model and after a kill."""

import logging

import numpy as np
import pytest
import torch

from deepfield import morphology
from deepfield.core.errors import DeepfieldError, ModelError, TableError
from deepfield.data.images.read import read
from deepfield.data.images.serve import digest
from deepfield.morphology.model import MorphologyConfig
from deepfield.morphology.train import fit, train, train_to_folder


def test_it_tells_round_from_flat(model, toy):
    pixels, table = toy(150, seed=9)
    p = morphology.predict(model, read(pixels))
    assert (p.chosen == table["label"]).mean() > 0.9
    assert model.labels == ("flat", "round") and model.kind == "linear"


def test_votes_are_learnt_better_than_by_their_means(voter, simulated):
    s, images = simulated
    score = morphology.score(morphology.predict(voter, images), s.votes, tree=s.tree)
    assert np.isfinite(score.log_prob) and voter.tree == s.tree and voter.kind == "asinh"


def test_soft_labels(stamps, tiny):
    stamps = stamps[:]
    share = np.where(np.asarray(stamps.table["label"]) == "flat", 0.8, 0.1)
    stamps.table["p_flat"], stamps.table["p_round"] = share, 1 - share
    model = train(stamps, labels=("p_flat", "p_round"), **{**tiny, "epochs": 6})
    p = morphology.predict(model, stamps).probabilities
    assert model.labels == ("flat", "round")
    assert p[share > 0.5, 0].mean() > p[share < 0.5, 0].mean() + 0.2


def test_rows_are_in_one_split_alone_and_unknown_ones_in_none(toy, tiny, caplog):
    pixels, table = toy(100)
    table["label"] = np.where(np.arange(100) < 10, "", table["label"])
    with caplog.at_level(logging.WARNING):
        found = fit(read(pixels, catalog=table), **tiny)
    rows = np.concatenate(list(found.rows.values()))
    assert sorted(rows.tolist()) == list(range(10, 100)), "each once: nothing is shown twice"
    assert "10 images without a label or a vote are left out" in caplog.text


def test_the_same_seed_gives_the_same_model(stamps, tiny):
    one, two, other = (train(stamps, seed=s, **tiny).model.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_broken_images_are_left_out(toy, tiny, caplog):
    pixels, table = toy(80)
    flux = pixels.astype(np.float32)
    flux[3, 0, 0, 0] = np.nan
    with caplog.at_level(logging.WARNING):
        model = train(read(flux, catalog=table), **tiny)
    assert "1 broken images were left out, first: 1 of 3072 pixels are not finite" in caplog.text
    assert all(bool(torch.isfinite(t).all()) for t in model.model.state_dict().values())


@pytest.mark.parametrize("thaw", [0.0, 0.1])
def test_fine_tuning_keeps_the_trunk_and_learns_new_classes(model, stamps, tiny, thaw):
    new = stamps[:]
    new.table["class"] = np.where(np.asarray(new.table["label"]) == "flat", "disc", "elliptical")
    new.table.remove_column("label")
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    tuned = train(new, init=model, thaw=thaw, group="p4", **tiny)
    assert tuned.labels == ("disc", "elliptical") and tuned.config.group == "p4m", "the net is the other model's"
    trunk = [k for k in before if "project" not in k and before[k].is_floating_point()]
    moved = any(not torch.equal(tuned.model.state_dict()[k], before[k]) for k in trunk)
    assert moved == (thaw > 0) or tuned.card["history"]["members"]["best_epoch"] == -1
    assert all(torch.equal(model.model.state_dict()[k], v) for k, v in before.items()), "that one is untouched"
    p = morphology.predict(tuned, new)
    assert (p.chosen == np.asarray(new.table["class"])).mean() > 0.85


def test_fine_tuning_on_other_bands(model, toy, tiny):
    pixels, table = toy(60)
    with pytest.raises(DeepfieldError, match="the images have 1 bands, the model to go on from 3"):
        train(read(pixels[:, :1], catalog=table), init=model, **tiny)


def test_fine_tuning_takes_what_is_known_of_the_new_camera(model, toy, tiny, caplog):
    pixels, table = toy(60)
    stretch = model.model.net[0].stretch
    stretch.tell(pixel_scale=0.4, psf_fwhm=(1.4, 1.3, 1.2))
    settings = {**tiny, "epochs": 1, "thaw": 0.0}
    try:
        with caplog.at_level(logging.WARNING):
            images = read(pixels, catalog=table, pixel_scale=0.2, psf_fwhm=(0.8, 0.7, 0.6))
            tuned = train(images, init=model, **settings).model.net[0].stretch
            unknown = train(read(pixels, catalog=table), init=model, **settings).model.net[0].stretch
        assert float(stretch.pixel_scale) == pytest.approx(0.4), "that one is untouched"
    finally:
        stretch.tell()
    assert float(tuned.pixel_scale) == pytest.approx(0.2) and tuned.psf_fwhm.tolist() == pytest.approx(
        [0.8, 0.7, 0.6]
    )
    assert float(unknown.pixel_scale) == 0 and not unknown.psf_fwhm.any()
    assert caplog.text.count("the images have 0.2 arcsec a pixel, those the model learnt from 0.4") == 1


def test_fine_tuning_on_fluxes_from_a_model_of_pictures(model, toy, tiny):
    pixels, table = toy(60)
    with pytest.raises(DeepfieldError, match="the images are floats"):
        train(read(pixels / np.float32(255), catalog=table), init=model, **tiny)


def test_chirality_is_found_by_the_names_of_the_classes(stamps, tiny):
    new = stamps[:]
    new.table["label"] = np.where(np.asarray(new.table["label"]) == "flat", "spiral_cw", "spiral_acw")
    assert train(new, group="p4", **{**tiny, "epochs": 1}).config.swap == ("spiral_cw", "spiral_acw")
    assert train(new, **{**tiny, "epochs": 1}).config.group == "d8"
    assert train(stamps, **{**tiny, "epochs": 1}).config.group == "c8"


@pytest.mark.parametrize(
    ("keep", "settings", "message"),
    [
        (slice(0, 20), {}, "20 images have a label or a vote; training needs 40"),
        (slice(0, 60), {"validation": 0.001}, "leaves none of 60 images"),
        (slice(0, 60), {"labels": ("nothing",)}, "no column 'nothing'"),
        (slice(0, 60), {"tree": "gz2"}, "no question of the tree 'gz2'"),
    ],
)
def test_what_cannot_be_trained_on(stamps, tiny, keep, settings, message):
    with pytest.raises(TableError, match=message):
        train(stamps[keep], **tiny, **settings)


def test_checkpoints_are_resumed_and_belong_to_one_job(stamps, tiny, tmp_path):
    config = MorphologyConfig(pixels=32, parameters=4000, epochs=2, batch=16)
    whole = train(stamps, config, progress=False).model.state_dict()
    folder = tmp_path / ".m.checkpoints"
    train(stamps, config, progress=False, checkpoint=folder)  # leaves them, as a kill would
    assert list(folder.glob("*.ckpt"))
    again = train(stamps, config, progress=False, checkpoint=folder).model.state_dict()
    assert all(torch.allclose(whole[k], again[k], atol=1e-6) for k in whole)
    (folder / "job.json").write_text("{}")
    with pytest.raises(ModelError, match="belongs to a training with other settings or data"):
        train_to_folder(stamps, tmp_path / "m", config)
    (folder / "job.json").unlink()
    train_to_folder(stamps, tmp_path / "m", config)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_the_digest_is_of_pixels_too(toy):
    pixels, table = toy(40)
    first = digest(read(pixels, catalog=table))
    pixels[0] += 1
    assert digest(read(pixels, catalog=table)) != first


def test_a_net_with_mirrors_exchanges_the_classes_that_a_mirror_does(toy, tiny, tmp_path):
    pixels, _ = toy(60)
    names = np.array(["spiral_cw", "spiral_acw", "none"])[np.arange(60) % 3]
    images = read(pixels, catalog={"label": names})
    trained = train(images, group="p4m", **tiny)
    trained.save(tmp_path / "m")
    loaded = morphology.load(tmp_path / "m")
    assert loaded.labels == ("none", "spiral_acw", "spiral_cw") and loaded.net["exchange"] == [2, 1]
    p = morphology.predict(loaded, images[:9]).probabilities
    mirrored = morphology.predict(loaded, read(pixels[:9, ..., ::-1].copy())).probabilities
    assert np.allclose(mirrored, p[:, [0, 2, 1]], atol=2e-6) and np.abs(p[:, 1] - p[:, 2]).max() > 1e-5
    again = train(images, init=loaded, **tiny)
    assert again.net["exchange"] == [2, 1]
