"""The main job, on a small simulated sample: a report that stands alone."""

import importlib
import json
import re

import numpy as np
import pytest
import torch

from deepfield import morphology
from deepfield.core.errors import DataError
from deepfield.core.table import Table
from deepfield.data.images.read import read
from deepfield.morphology.model import MorphologyConfig
from deepfield.morphology.run import _data, invariance, run, turn

pytest.importorskip("matplotlib")
module = importlib.import_module("deepfield.morphology.run")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """No data set at hand: simulated galaxies take its place."""

    def absent(name, **_):
        raise DataError(f"data set '{name}' is not at hand")

    def either(images, **options):
        return absent(images) if isinstance(images, str) else read(images, **options)

    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "read", either)
        patch.setattr(module, "simulate", lambda n, **options: morphology.simulate(240, size=32, **options))
        config = MorphologyConfig(pixels=32, parameters=4000, epochs=2)
        return out, run(out=out, config=config, progress=False)


def test_the_page_stands_alone(report):
    page = (report[0] / "index.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", page), "nothing is loaded from elsewhere"
    assert "Galaxy morphology" in page and "simulated SDSS-like galaxies" in page


def test_the_numbers_for_machines(report):
    told = json.loads((report[0] / "report.json").read_text())
    rows = told["tables"]["metrics"]["rows"]
    assert [row["method"] for row in rows] == ["deepfield", "structural parameters"]
    assert all(0 < row["accuracy"]["value"] <= 1 for row in rows)
    assert {"confusion", "reliability", "invariance", "confident", "uncertain", "neighbours"} <= set(
        told["figures"]
    )
    line = told["figures"]["invariance"]["axes"][0]["lines"][0]
    change = dict(zip(line["x"], line["y"]))
    assert max(change[a] for a in (0, 90, 180, 270, 360)) < 1e-5 < change[45]


def test_the_model_is_kept(report):
    assert morphology.load(report[0] / "model").labels[0] == "edge-on"


def test_a_data_set_that_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(DataError, match="no data set 'nowhere'"):
        run("nowhere", out=tmp_path)


def test_galaxy_zoo_has_four_classes_and_its_own_split(monkeypatch):
    names = ["elliptical", "spiral_cw", "spiral_acw", "edge_on", "dont_know", "merger"]
    table = Table({"label_name": names, "label": np.arange(6), "split": ["train", "val"] * 3})
    images = read(np.zeros((6, 3, 16, 16), dtype=np.uint8), catalog=table)
    monkeypatch.setattr(module, "read", lambda name, crop: images)
    rows, test, source = _data(None, 0)
    assert source == "galaxy_zoo1_sdss"
    assert rows.table["class"].tolist() == ["elliptical", "spiral"] and len(test) == 3
    assert test.table["class"].tolist() == ["spiral", "edge-on", "merger"]


def test_turns_are_those_of_the_grid_and_go_round():
    y, x = torch.meshgrid(*[torch.arange(64.0) - 31.5] * 2, indexing="ij")
    blob = torch.exp(-((x - 8) ** 2 + (y + 4) ** 2) / 18)[None, None]
    quarter = turn(turn(turn(blob, 30.0), 30.0), 30.0)
    assert torch.allclose(quarter, turn(blob, 90.0), atol=0.05), "and it is the same sense of turning"


def test_invariance_of_the_model_is_exact_at_quarter_turns(model, stamps):
    change = invariance(model, stamps[:20])["deepfield"]
    assert len(change) == 25 and change[[0, 6, 12, 18, 24]].max() < 1e-5
