"""The command line as a whole: help, data sets, exit codes."""

import importlib
import json
import os
import subprocess
import sys

import pytest

import deepfield
from deepfield import cli
from deepfield.cli import main
from deepfield.core.errors import DeepfieldError


def test_help_teaches_without_loading_torch():
    code = "import sys; from deepfield.cli import main; sys.exit(main(['--help']) or 9 * ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    for word in ("photoz", "run", "export", "data", "deepfield run photoz --out report"):
        assert word in done.stdout


@pytest.mark.parametrize(
    "command",
    ["photoz", "photoz train", "photoz predict", "photoz score", "morphology", "morphology train", "run", "data"],
)
def test_every_command_has_help(command, capsys):
    assert main([*command.split(), "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == deepfield.__version__


def test_data_list_and_cite(capsys):
    assert main(["data", "list"]) == 0
    assert "sdss_mgs" in capsys.readouterr().out
    assert main(["data", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {"name", "title", "rows", "licence", "here"} <= set(rows[0])
    for row in rows:
        assert main(["data", "cite", row["name"]]) == 0
        cited = capsys.readouterr().out
        assert row["licence"] in cited and row["home"] in cited


def test_bad_input_is_one_line_and_exit_code_2():
    argv = [sys.executable, "-m", "deepfield.cli", "data", "get", "nothing"]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith("deepfield: no data set 'nothing'") and done.stderr.count("\n") == 1


def test_errors_of_the_system_and_long_ones_take_one_line(capsys, monkeypatch):
    def fails(error):
        def app(*_, **__):
            raise error

        monkeypatch.setattr(cli, "app", app)
        assert main([]) == 2
        return capsys.readouterr().err

    assert fails(DeepfieldError("first\n  second")) == "deepfield: first second\n"
    assert fails(PermissionError(13, "Permission denied", "/a/b")) == "deepfield: '/a/b': permission denied\n"
    assert fails(OSError("disk on fire")) == "deepfield: disk on fire\n"


def test_bands_with_spaces_are_shown_with_commas(capsys):
    assert main(["photoz", "train", "cat.csv", "--out", "m", "--bands", "u", "g", "i", "--quick"]) == 2
    assert "not understood: g i: bands are written with commas, --bands u,g,i (see" in capsys.readouterr().err
    assert main(["photoz", "train", "--out", "m", "--bands", "u", "g", "i", "cat.csv"]) == 2
    assert "--bands u,g,i (see" in capsys.readouterr().err
    assert main(["data", "cite", "a", "b"]) == 2
    assert capsys.readouterr().err == "deepfield: not understood: b (see --help)\n"
    assert main(["photoz", "train", "--help"]) == 0
    assert "u,g,r" in capsys.readouterr().out


@pytest.mark.parametrize(
    "science", sorted({*deepfield.SCIENCES} - {"inference", "emulators"})
)  # they ask for more
def test_settings_of_a_training_are_not_rounded(science, capsys):
    argv = [science, "train", "nowhere.parquet", "--out", "m", "--epochs"]
    assert main([*argv, "5.5"]) == 2
    assert capsys.readouterr().err == "deepfield: --epochs takes a whole number, not 5.5 (see --help)\n"
    assert main([*argv, "5.0"]) == 2
    assert "whole" not in capsys.readouterr().err
    assert main([science, "simulate", "--out", "m.parquet", "-n", "5.5"]) == 2
    assert "takes a whole number, not 5.5" in capsys.readouterr().err


def test_models_lists_what_comes_with_the_package(capsys):
    assert main(["models"]) == 0
    listed = capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [line.split()[0] for line in listed.splitlines()] == [model["name"] for model in found]
    assert all(model["science"] in deepfield.SCIENCES and model["card"]["about"] for model in found)


@pytest.mark.parametrize("command", ["data list --json", "data cite sdss_mgs"])
def test_a_reader_that_leaves_is_no_error(command):
    """Both with output longer than any buffer of Python, and with output that is flushed at the end alone."""
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, "-m", "deepfield.cli", *command.split()]
    done = subprocess.run(argv, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_pipe_that_breaks_elsewhere_is_told(capsys, monkeypatch):
    def app(*_, **__):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli, "app", app)
    assert main([]) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_debug_shows_where(monkeypatch):
    monkeypatch.setenv("DEEPFIELD_DEBUG", "1")
    with pytest.raises(DeepfieldError):
        main(["data", "cite", "nothing"])


def test_stopped_by_hand(capsys, monkeypatch):
    def cite(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("deepfield.data.registry.cite", cite)
    assert main(["data", "cite", "sdss_mgs"]) == 130
    assert capsys.readouterr().err == "\ndeepfield: interrupted; run the same command again to go on\n"


def test_run_of_every_science(tmp_path, capsys, monkeypatch):
    calls = []
    for science in deepfield.SCIENCES:
        monkeypatch.setattr(
            importlib.import_module(f"deepfield.{science}"),
            "run",
            lambda data, *, out, **_: calls.append((data, out)) or {"a": 1},
        )
    assert main(["run", "--out", str(tmp_path)]) == 0
    assert calls == [(None, tmp_path / science) for science in deepfield.SCIENCES]
    capsys.readouterr()
    assert main(["run", "photoz", "--data", "sdss_mgs", "--out", str(tmp_path), "--json"]) == 0
    assert calls[-1] == ("sdss_mgs", tmp_path) and json.loads(capsys.readouterr().out) == {"a": 1}
