"""The models: their settings, symmetries, and folders that are whole or refused."""

import json

import numpy as np
import pytest
import torch

from deepfield import lensing
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.lensing.model import LensingConfig, LensingModel
from deepfield.lensing.train import train


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"task": "look"}, "the task is find or measure, not 'look'"),
        ({"group": "p5"}, "group 'p5' is not one of none, p4"),
        ({"task": "measure", "group": "p4m"}, "cannot tell how a lens lies"),
        ({"task": "measure", "zoom": 0.1}, "zoom and shift would change what is measured"),
        ({"stretch": "log"}, "stretch 'log' is not one of auto, linear, asinh"),
        ({"members": 0}, "members lies between 1 and 100, got 0"),
        ({"pixels": 8}, "pixels lies between 16 and 1024, got 8"),
        ({"draws": 3}, "draws lies between 64"),
        ({"validation": 0.6, "calibration": 0.4}, "must leave some to train on"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(DeepfieldError, match=message):
        LensingConfig(**settings)


def test_the_group_is_that_of_the_task():
    assert LensingConfig().symmetry == "p4m" and LensingConfig(task="measure").symmetry == "none"


def test_a_finder_may_be_blind_to_how_a_lens_lies(tiny, lenses):
    finder = train(lenses(60), epochs=1, members=2, **{**tiny, "group": "p4m"})
    x = lenses(40, seed=7).load()[0]
    odds = finder.features(x)
    spread = float(odds.std())
    assert odds.shape == (40, 2) and spread > 1e-4
    for k in range(4):
        for v in (x.rot90(k, (2, 3)), x.rot90(k, (2, 3)).flip(3)):
            assert float((finder.features(v) - odds).abs().max()) < 1e-2 * spread
    assert finder.embed(x).shape[0] == 40


@pytest.mark.parametrize("which", ["finder", "measurer"])
def test_a_saved_model_answers_the_same(which, request, tmp_path, lenses):
    own = request.getfixturevalue(which)
    own.save(tmp_path / "m")
    again = lensing.load(tmp_path / "m")
    assert again.describe() == own.describe() and again.card["split"] == own.card["split"]
    x = lenses(10, seed=8).load()[0]
    assert torch.equal(own.features(x), again.features(x))
    with torch.no_grad():
        trained = own.model.eval().net(x)
    torch.testing.assert_close(own.features(x), trained, rtol=1e-3, atol=1e-3)
    if which == "measurer":
        one, two = (lensing.measure(m, lenses(10, seed=8)).quantile("theta_e", [0.1, 0.5]) for m in (own, again))
        assert np.array_equal(one, two)


def damaged(model, change):
    described = json.loads(json.dumps(model.describe()))
    change(described)
    return described


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["net"].update(width=1e9), "absurd size"),
        (lambda d: d["lensing"].update(future=1), "unknown to this version: future"),
        (lambda d: d.pop("bands"), "configuration is damaged: 'bands'"),
        (lambda d: d.update(temperature=-1.0), "temperature of -1.0"),
        (lambda d: d.update(prior=1.0), "a prior of 1.0"),
        (lambda d: d["net"].update(group="p9"), "damaged: unknown group 'p9'"),
        (lambda d: d.update(pit_maps={"theta_e": {"knots": [0, 1], "slopes": [-1, 1]}}), "damaged"),
    ],
)
def test_descriptions_that_are_refused(finder, change, message):
    with pytest.raises(ModelError, match=message):
        LensingModel.rebuild(damaged(finder, change), {})


def test_models_of_another_task_or_science(finder, measurer, lenses, tmp_path):
    from deepfield.core.store import Saved, save

    with pytest.raises(ModelError, match="trained to measure, not to find"):
        lensing.find(measurer, lenses(4))
    with pytest.raises(ModelError, match="trained to find, not to measure"):
        lensing.measure(finder, lenses(4))
    save(tmp_path / "other", Saved("photoz", {}, finder.model.state_dict()))
    with pytest.raises(ModelError, match="is a model of 'photoz', not of 'lensing'"):
        lensing.load(tmp_path / "other")
