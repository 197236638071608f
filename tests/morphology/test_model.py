"""The model: its settings, its camera, exact invariance, and model folders that are whole or refused."""

import json

import numpy as np
import pytest
import torch

from deepfield import morphology
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.morphology.model import MorphologyConfig, MorphologyModel
from deepfield.morphology.predict import answer


def probabilities(model, x):
    return answer(model, model.features(x), np.full(len(x), "")).probabilities


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": "p5"}, "group 'p5' is not one of none, p4"),
        ({"tree": "gz9"}, "no tree 'gz9'"),
        ({"labels": ("a",), "tree": "gz2"}, "not both"),
        ({"members": 0}, "members lies between 1 and 100, got 0"),
        ({"stretch": "log"}, "stretch 'log' is not one of auto, linear, asinh"),
        ({"swap": ("a",)}, "swap names two classes"),
        ({"validation": 0.6, "calibration": 0.4}, "must leave some to train on"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(DeepfieldError, match=message):
        MorphologyConfig(**settings)


def test_labels_as_a_command_line_says_them():
    assert MorphologyConfig(labels="a, b").labels == ("a", "b")


def test_a_trained_model_is_blind_to_the_symmetries_of_the_square(model, stamps):
    x = stamps.load(slice(0, 40))[0]
    p = probabilities(model, x)
    assert p.std(0).min() > 0.02, "it tells images apart"
    for k in range(4):
        for v in (x.rot90(k, (2, 3)), x.rot90(k, (2, 3)).flip(3)):
            assert np.abs(probabilities(model, v) - p).max() < 1e-5


def test_group_p4_sees_mirrors(voter, simulated):
    x = simulated[1].load(slice(0, 40))[0]
    p = probabilities(voter, x)
    assert np.abs(probabilities(voter, x.rot90(1, (2, 3))) - p).max() < 1e-5
    assert np.abs(probabilities(voter, x.flip(3)) - p).max() > 1e-4


def test_the_served_net_is_the_trained_one(model, stamps):
    x = stamps.load(slice(0, 8))[0]
    with torch.no_grad():
        trained = model.model.eval().net(x)
    assert torch.allclose(model.features(x).flatten(1), trained, atol=1e-4)


@pytest.mark.parametrize("which", ["model", "voter"])
def test_a_saved_model_answers_the_same(which, request, tmp_path, stamps, simulated):
    own = request.getfixturevalue(which)
    images = stamps if which == "model" else simulated[1]
    own.save(tmp_path / "m")
    again = morphology.load(tmp_path / "m")
    assert again.describe() == own.describe() and again.card["split"] == own.card["split"]
    one, two = (morphology.predict(m, images[:20]).probabilities for m in (own, again))
    assert np.array_equal(one, two)


def test_a_folder_that_does_not_say_what_it_was_trained_on_still_loads(model, voter):
    for own, dtype in ((model, "uint8"), (voter, "float32")):
        described = json.loads(json.dumps(own.describe()))
        assert described.pop("seen") == {"dtype": dtype, "native": 32}
        assert morphology.MorphologyModel.rebuild(described, {}).seen == own.seen


def test_averaging_over_turns_makes_a_plain_net_blind(stamps, tiny):
    once = morphology.train(stamps, group="none", **tiny)
    often = morphology.train(stamps, group="none", average=True, **tiny)
    x = stamps.load(slice(0, 30))[0]

    def ask(plain, images):
        return answer(plain, plain.features(images), np.full(len(images), "")).probabilities

    turned = x.rot90(1, (2, 3)).flip(2)
    assert np.abs(ask(once, turned) - ask(once, x)).max() > 1e-4
    assert np.abs(ask(often, turned) - ask(often, x)).max() < 1e-5
    assert often.temperature != once.temperature, "calibrated as it is asked"


def damaged(model, change):
    described = json.loads(json.dumps(model.describe()))
    change(described)
    return described


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["net"].update(width=1e9), "absurd size"),
        (lambda d: d["net"].update(depth=[1, 10**9, 1]), "absurd size"),
        (lambda d: d["morphology"].update(future=1), "unknown to this version: future"),
        (lambda d: d.pop("bands"), "configuration is damaged: 'bands'"),
        (lambda d: d.update(temperature=-1.0), "temperature of -1.0"),
        (lambda d: d["net"].update(group="p9"), "unknown group 'p9'"),
        (lambda d: d.update(labels=[]), "absurd size"),
    ],
)
def test_descriptions_that_are_refused(model, change, message):
    with pytest.raises(ModelError, match=message):
        MorphologyModel.rebuild(damaged(model, change), {})


def test_a_model_of_another_science(tmp_path, model):
    from deepfield.core.store import Saved, save

    save(tmp_path / "other", Saved("photoz", {}, model.model.state_dict()))
    with pytest.raises(ModelError, match="is a model of 'photoz', not of 'morphology'"):
        morphology.load(tmp_path / "other")
