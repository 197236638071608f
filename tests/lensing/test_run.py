"""The main job: a report with its tables and figures, with given models and with real candidates where at hand."""

import importlib
import json

import numpy as np
import pytest

from deepfield import data
from deepfield.core.errors import DeepfieldError
from deepfield.lensing.model import LensingConfig

module = importlib.import_module("deepfield.lensing.run")


@pytest.fixture(scope="module")
def report(tmp_path_factory, finder, measurer, lenses):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "model_for", lambda task, survey, progress: finder if task == "find" else measurer)
        patch.setattr(module, "_data", lambda *a: (lenses(120, seed=70), "toys"))
        return folder, module.run(out=folder, progress=False)


def test_a_report(report):
    folder, told = report
    assert (folder / "index.html").stat().st_size > 50_000
    assert json.loads((folder / "report.json").read_text())["title"] == "Strong lensing"
    text = json.dumps(told)
    for name in ("roc", "completeness", "candidates", "coverage", "arc filter", "theta_e"):
        assert name in text, name
    assert ("spacewarps" in text.lower() or "real candidates" in text.lower()) or not data.available(
        "spacewarps_cfhtls"
    )


def test_small_models_take_the_place_of_those_that_are_not_there(monkeypatch):
    asked = []
    monkeypatch.setattr(module, "shipped", dict)
    monkeypatch.setattr(module, "train", lambda images, config, progress: asked.append(config))
    module.model_for("measure", "euclid", progress=False)
    assert isinstance(asked[0], LensingConfig) and (asked[0].task, asked[0].survey) == ("measure", "euclid")


def test_ranks_stand_in_for_probabilities():
    p = module._as_probability(np.array([5.0, -1.0, 2.0]))
    assert p.argsort().tolist() == [1, 2, 0] and 0 < p.min() < p.max() < 1


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "f").write_text("")
    with pytest.raises(DeepfieldError, match="give a folder"):
        module.run(out=tmp_path / "f")
