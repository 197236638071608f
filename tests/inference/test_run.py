"""The main job on the numbers of the package, in small."""

import json

import numpy as np
import pytest

from deepfield.core.errors import DataError, DeepfieldError
from deepfield.inference import run as job
from deepfield.inference.model import METHODS, InferenceConfig

pytest.importorskip("matplotlib")
SMALL = InferenceConfig(members=1, width=32, context=8, hidden=16, components=3, epochs=4, contrasts=2, batch=64)


def test_the_report(tmp_path, monkeypatch):
    from deepfield.inference import run as function
    from deepfield.inference.cosmology import registry

    def absent(name, **_):
        raise DataError(f"{name} is not at hand")

    monkeypatch.setattr(registry, "load", absent)  # DESI alone
    content = function(out=tmp_path, config=SMALL, n=600, methods=METHODS, progress=False)
    assert json.loads((tmp_path / "report.json").read_text()) == content
    rows = {row["posterior"]: row for row in content["tables"]["posteriors"]["rows"]}
    assert set(rows) == {"exact", "npe", "nle", "nre"} and set(content["figures"]) >= {
        "posterior",
        "coverage",
        "ranks",
    }
    assert rows["exact"]["omega_m"].startswith("0.297") or rows["exact"]["omega_m"].startswith("0.298")
    assert all(0.4 < rows[m]["C2ST"] <= 1 for m in ("npe", "nle", "nre")), "too few steps to be good"
    assert all(row["p-value"] > 0.01 for row in content["tables"]["like_the_simulations"]["rows"])
    (test,) = content["tables"]["cosmological_constant"]["rows"]
    assert 0 <= test["p (simulated)"] <= 1 and np.isfinite(test["t (learnt)"])
    assert (tmp_path / "model" / "model.json").exists()


def test_bad_arguments(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DeepfieldError, match="is a file; give a folder"):
        job(out=tmp_path / "file")
    with pytest.raises(DeepfieldError, match="no distances 'planck'; there are: desi_dr2"):
        job("planck", out=tmp_path / "r")
    with pytest.raises(DeepfieldError, match="methods are some of npe, nle, nre, not abc"):
        job(methods=["abc"], out=tmp_path / "r")
