"""The main job on stand-ins for simulations, and its report."""

import pytest

from deepfield.core.errors import DataError, DeepfieldError
from deepfield.emulators import EmulatorConfig, run


def test_without_data_hmcode_takes_their_place(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("jinja2")
    import importlib

    module = importlib.import_module("deepfield.emulators.run")

    def no_network(name):
        raise DataError("no network")

    monkeypatch.setattr(module.registry, "load", no_network)
    report = run(out=tmp_path / "r", config=EmulatorConfig(components=4), folds=2)
    assert report["facts"]["data"] == "HMcode2020 with a suppression"
    rows = report["tables"]["left_out"]["rows"]
    assert rows[0]["scales"] == "all scales" and 0 < rows[0]["median"] < 1
    assert 0.3 < report["tables"]["coverage"]["rows"][0]["coverage_683"] < 1
    speed = report["tables"]["linear"]["rows"][-1]
    assert "microseconds" in speed["what"] and speed["value"] < 1000
    assert (tmp_path / "r" / "index.html").is_file()
    assert set(report["figures"]) == {"errors", "corner", "learning", "speed"}
    curve = report["figures"]["learning"]["axes"][0]["lines"]
    assert [line["label"] for line in curve] == ["median", "95 %"] and curve[0]["x"][-1] == 32
    assert curve[0]["y"][-1] < curve[0]["y"][0]
    with pytest.raises(DataError):
        run("miratitan4", out=tmp_path / "s")
    (tmp_path / "file").touch()
    with pytest.raises(DeepfieldError, match="is a file"):
        run(out=tmp_path / "file")
