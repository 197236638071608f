"""The command line, from simulations to draws and diagnostics."""

import json

import numpy as np
import pytest

from deepfield import cli
from deepfield.data import files


@pytest.fixture(scope="module")
def folder(tmp_path_factory, toy):
    path = tmp_path_factory.mktemp("inference")
    toy.table[:600].write(path / "sims.parquet")
    (path / "prior.json").write_text(json.dumps({"a": {"normal": [0, 1]}, "b": {"normal": [0, 1]}}))
    np.save(path / "x.npy", np.array([0.4, -0.3]))
    arguments = [
        "--prior",
        str(path / "prior.json"),
        "--out",
        str(path / "model"),
        "--members",
        "1",
        "--epochs",
        "5",
    ]
    assert cli.main(["inference", "fit", "--simulations", str(path / "sims.parquet"), *arguments]) == 0
    return path


def test_fit_and_sample(folder, capsys):
    assert (folder / "model" / "model.json").exists() and not list(folder.glob(".model*"))
    out = folder / "chain.parquet"
    assert (
        cli.main(
            ["inference", "sample", str(folder / "model"), str(folder / "x.npy"), "--out", str(out), "-n", "500"]
        )
        == 0
    )
    table = files.read(out)
    assert table.colnames == ["a", "b"] and len(table) == 500
    assert abs(table.column("a").mean() - 0.32) < 0.3
    assert "a " in capsys.readouterr().out


def test_the_help_ends_with_an_example_that_runs(folder, capsys, monkeypatch):
    assert cli.main(["inference", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "deepfield photoz" not in told
    example = told[told.index("deepfield inference fit") :].rstrip(".")
    monkeypatch.chdir(folder)
    np.save("observation.npy", np.load("x.npy"))
    for line in example.split(", then "):
        quick = ["--members", "1", "--epochs", "2"] if " fit " in line else []
        assert cli.main([*line.split()[1:], *quick]) == 0
    assert files.read("chain.parquet").colnames == ["a", "b"]


def test_diagnose(folder, capsys):
    assert cli.main(["inference", "diagnose", str(folder / "model"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["sbc_p_value"]) == {"a", "b"} and found["simulations"] == 60
    arguments = ["--simulations", str(folder / "sims.parquet"), "--most", "100"]
    assert cli.main(["inference", "diagnose", str(folder / "model"), *arguments]) == 0
    assert "TARP" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sample", "nowhere", "x.npy", "--out", "c.parquet"], "no model at nowhere"),
        (["fit", "--simulations", "none.parquet", "--prior", "none.json", "--out", "m"], "cannot be read"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert cli.main(["inference", *arguments]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
