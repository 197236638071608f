"""The main job, on a small simulated sample: a report that stands alone."""

import importlib
import json
import re

import pytest

from deepfield import photoz
from deepfield.core.errors import DataError
from deepfield.data import registry
from deepfield.photoz.model import PhotozConfig
from deepfield.photoz.run import run

pytest.importorskip("matplotlib")
module = importlib.import_module("deepfield.photoz.run")


@pytest.fixture(scope="module")
def report(tmp_path_factory, tiny):
    """No data set at hand: the simulated catalogue takes its place."""

    def absent(name, **_):
        raise DataError(f"data set '{name}' is not at hand")

    out = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "load", absent)
        patch.setattr(module, "simulate", lambda n, **options: photoz.simulate(700, **options))
        content = run(out=out, config=PhotozConfig(**tiny), progress=False)
    return out, content


def test_the_page_stands_alone(report):
    out, _ = report
    page = (out / "index.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](https?:)?//""", page), "nothing is loaded from elsewhere"
    assert "@import" not in page and "Photometric redshifts" in page and "simulated SDSS-like catalogue" in page


def test_the_numbers_for_machines(report):
    out, content = report
    told = json.loads((out / "report.json").read_text())
    assert told.keys() == content.keys()
    text = json.dumps(told)
    for word in ("sigma_nmad", "deepfield", "nearest neighbours", "template fit", "coverage_683"):
        assert word in text, word


def test_the_model_is_kept(report):
    assert photoz.load(report[0] / "model").bands == ("u", "g", "r", "i", "z")


def test_a_data_set_that_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(DataError, match="no data set 'nowhere'"):
        run("nowhere", out=tmp_path)
