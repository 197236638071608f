"""Training: it finds and measures what can be seen, goes on after a kill and from another model, and adapts."""

import copy
import logging

import numpy as np
import pytest
import torch

from deepfield import lensing
from deepfield.core.align import coral
from deepfield.core.errors import DeepfieldError, ModelError, TableError
from deepfield.core.model import members
from deepfield.core.vision import parts
from deepfield.data.images.read import read
from deepfield.lensing.model import LensingConfig
from deepfield.lensing.train import aligned, fit, train, train_to_folder


def test_it_finds_lenses(finder, lenses):
    images = lenses(300, seed=9)
    found = lensing.find(finder, images)
    right = (found.probability > 0.5) == (np.asarray(images.table["is_lens"]) == 1)
    assert right.mean() > 0.95 and finder.kind == "asinh" and abs(finder.prior - 0.5) < 0.1


def test_it_measures_them(measurer, lenses):
    images = lenses(200, seed=10, lens_fraction=1.0)
    found = lensing.measure(measurer, images)
    truth = np.asarray(images.table["theta_e"])
    error = found.quantile("theta_e", 0.5) - truth
    assert error.std() < 0.5 * truth.std()
    low, high = found.interval("theta_e", 0.95)
    assert 0.85 < ((truth >= low) & (truth <= high)).mean() <= 1


def test_fresh_simulations_train_too(toy_simulate, tiny, lenses):
    options = {**tiny, "parameters": 2000}
    found = fit(survey="toy", simulate=toy_simulate, draws=256, epochs=4, **options)
    images = lenses(200, seed=11)
    p = lensing.find(found.model, images).probability
    assert ((p > 0.5) == (np.asarray(images.table["is_lens"]) == 1)).mean() > 0.9
    assert found.model.card["data"]["survey"] == "toy" and found.model.bands == ("g", "r")


def test_the_same_seed_gives_the_same_model(lenses, tiny):
    images = lenses(80)
    one, two, other = (train(images, seed=s, epochs=1, **tiny).model.state_dict() for s in (1, 1, 2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    assert any(not torch.equal(one[k], other[k]) for k in one)


def test_several_sets_and_broken_images(lenses, tiny, caplog):
    one, two = lenses(60), lenses(50, seed=1)
    pixels = two.load()[0].numpy()
    pixels[3, 0, 0, 0] = np.nan
    two = read(pixels, catalog=two.table, bands=("g", "r"))
    with caplog.at_level(logging.WARNING):
        found = fit([one, two], epochs=1, **tiny)
    assert sum(map(len, found.rows.values())) == 110
    assert "1 broken images were left out" in caplog.text
    assert all(bool(torch.isfinite(t).all()) for t in found.model.model.state_dict().values())


@pytest.mark.parametrize("thaw", [0.0, 0.1])
def test_fine_tuning_on_few_labels_of_another_camera(finder, lenses, tiny, thaw):
    """Bands of other colours and twice the noise: the finder errs, and learns from a hundred images."""

    def other(n, seed):
        images = lenses(n, seed=seed)
        x = images.load()[0]
        x = x[:, [1, 0]] * 1.5 + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))
        return read(x.numpy(), catalog=images.table, bands=("g", "r"), pixel_scale=0.2)

    before = {k: v.clone() for k, v in finder.model.state_dict().items()}
    tuned = train(other(150, 20), init=finder, thaw=thaw, epochs=4, **{**tiny, "group": "p4"})
    assert tuned.config.symmetry == "none" and tuned.config.members == 2, "the net is the other model's"
    assert all(torch.equal(finder.model.state_dict()[k], v) for k, v in before.items()), "that one is untouched"
    test = other(300, 21)
    y = np.asarray(test.table["is_lens"])

    def loss(model):
        p = np.clip(lensing.find(model, test).probability, 1e-6, 1 - 1e-6)
        return -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))

    assert loss(tuned) < 0.7 * loss(finder)


def test_alignment_draws_features_together(finder, lenses):
    camera, core = parts(copy.deepcopy(finder.model))
    images, other = lenses(64), lenses(64, seed=30)
    y = torch.as_tensor(np.asarray(images.table["is_lens"])).float()
    x, faint = (camera(v) for v in (images.load()[0], 0.5 * other.load()[0]))
    net = members(core)[0].net

    def gap():
        both = net.embed(torch.cat([x, faint])).detach()
        return float(coral(both[:64], both[64:]))

    core.train()
    before, optimizer, loss = gap(), torch.optim.Adam(core.parameters(), lr=3e-3), aligned(5.0)
    for _ in range(25):
        optimizer.zero_grad()
        loss(core, x, y, faint).backward()
        optimizer.step()
    assert gap() < 0.5 * before


def test_unlabelled_images_are_told_of(lenses, tiny):
    found = train(lenses(60), unlabelled=lenses(50, seed=30), epochs=1, **tiny)
    assert (
        "unlabelled" in found.card["data"] and "unlabelled" not in train(lenses(60), epochs=1, **tiny).card["data"]
    )


def test_without_partners_the_loss_is_the_models_own(finder, lenses):
    x, y = lenses(20).load()[0], torch.zeros(20)
    camera, core = parts(finder.model)
    seen = camera(x)
    loss = aligned(1.0)
    torch.testing.assert_close(loss(core, seen, y), core.loss(seen, y))
    torch.testing.assert_close(loss(core, seen, y, seen), core.loss(seen, y), rtol=1e-4, atol=1e-5)
    assert len(members(core)) == 2


def test_checkpoints_are_resumed_and_belong_to_one_job(lenses, tmp_path):
    config = LensingConfig(pixels=32, parameters=4000, epochs=2, batch=32)
    images = lenses(100)
    whole = train(images, config, progress=False).model.state_dict()
    folder = tmp_path / ".m.checkpoints"
    train(images, config, progress=False, checkpoint=folder)  # leaves them, as a kill would
    again = train(images, config, progress=False, checkpoint=folder).model.state_dict()
    assert all(torch.allclose(whole[k], again[k], atol=1e-6) for k in whole)
    (folder / "job.json").write_text("{}")
    with pytest.raises(ModelError, match="belongs to a training with other settings or data"):
        train_to_folder(images, tmp_path / "m", config)
    (folder / "job.json").unlink()
    train_to_folder(images, tmp_path / "m", config)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m"]


def test_what_cannot_be_trained_on(lenses, finder, tiny):
    with pytest.raises(DeepfieldError, match="give images to train on, or a survey"):
        train(**tiny)
    with pytest.raises(DeepfieldError, match="one of the two"):
        train(lenses(50), survey="lsst", **tiny)
    images = lenses(50)
    with pytest.raises(DeepfieldError, match="the images have 1 bands, the model to go on from 2"):
        train(read(images.load()[0][:, :1].numpy(), catalog=images.table), init=finder, **tiny)
    images.table["theta_e"] = -1.0
    with pytest.raises(TableError, match="theta_e is positive"):
        train(images, task="measure", **tiny)
