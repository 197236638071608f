"""The examples run from beginning to end, and say what they should."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_tested_here() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == {
        "emulators",
        "inference",
        "lensing",
        "morphology",
        "photoz",
    }


@pytest.mark.parametrize("data", ["registered", "simulated"])
def test_photoz(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    example = load("photoz")
    if data == "simulated" or not example.data.available("sdss_mgs"):
        monkeypatch.setattr(example.data, "load", _no_network)
    figure = tmp_path / "photoz.png"
    found = example.main(["--rows", "1500", "--quick", "--out", str(figure)])
    said = capsys.readouterr().out
    assert ("simulating" in said) == (example.data.load is _no_network)
    assert figure.read_bytes().startswith(b"\x89PNG") and figure.stat().st_size < 300_000
    assert said.count("spectroscopic") == 3
    # Of 450 test galaxies and some 220 that calibrated: five standard deviations about the nominal level.
    assert 0.48 < found["coverage_68"] < 0.88
    assert found["sigma_nmad"] < 0.04 and found["crps"] < 0.03


@pytest.mark.parametrize("data", ["registered", "simulated"])
def test_morphology(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("PIL")
    example = load("morphology")
    if data == "simulated":
        monkeypatch.setattr(example.data, "available", lambda name: False)
    elif not example.data.available("galaxy_zoo1_sdss"):
        pytest.skip("the data set is not at hand")
    found = example.main(["--rows", "200", "--quick", "--out", str(tmp_path / "m.png")])
    said = capsys.readouterr().out
    assert ("simulating" in said) == (data == "simulated")
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert found["change"] < 1e-5 and 0 < found["accuracy"] <= 1


def test_inference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    found = load("inference").main(["--quick", "--out", str(tmp_path / "i.png")])
    assert (tmp_path / "i.png").read_bytes().startswith(b"\x89PNG")
    assert "cosmological" not in capsys.readouterr().err
    assert found["shift"] < 4 and found["p_data"] > 0.005 and 0 <= found["p_wilks"] <= 1
    assert found["p_moved"] < 0.05


def _no_network(name: str) -> None:
    from deepfield.core.errors import DataError

    raise DataError(f"data set '{name}' is not at hand")


def test_lensing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    example = load("lensing")
    found = example.main(["--quick", "--out", str(tmp_path / "l.png")])
    said = capsys.readouterr().out
    assert (tmp_path / "l.png").read_bytes().startswith(b"\x89PNG") and "solar masses" in said
    assert 0 < found["auroc"] <= 1 and 0.3 < found["arcs"] <= 1
    assert 0.3 < found["coverage"] <= 1, "of some fifty lenses"


def test_emulators(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    found = load("emulators").main(["--n", "60", "--out", str(tmp_path / "e.png")])
    assert (tmp_path / "e.png").read_bytes().startswith(b"\x89PNG")
    assert abs(found["peak"] - 102) < 6 and found["median"] < 0.01
    assert abs(found["sigma_8"] - 0.8) < 0.005
    assert "Mpc/h" in capsys.readouterr().out
