"""The verbs on the command line, and a training that is killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from deepfield import photoz
from deepfield.cli import main
from deepfield.core.table import Table
from deepfield.data.files import read, write
from deepfield.data.presets import PRESETS
from deepfield.photoz.export_qp import read_qp

SMALL = ["--members", "1", "--epochs", "2", "--width", "8", "--components", "2", "--batch", "64"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, toy):
    folder = tmp_path_factory.mktemp("commands")
    write(toy(300), folder / "cat.parquet")
    assert main(["photoz", "train", f"{folder}/cat.parquet", "--out", f"{folder}/model", *SMALL]) == 0
    return folder


@pytest.mark.parametrize("ending", ["parquet", "hdf5"])
def test_train_predict_score(place, ending, capsys):
    pz = f"{place}/pz.{ending}"
    assert main(["photoz", "predict", f"{place}/model", f"{place}/cat.parquet", "--out", pz]) == 0
    assert f"300 rows to {pz}" in capsys.readouterr().err
    assert main(["photoz", "score", pz, f"{place}/cat.parquet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    table = photoz.read(place / "cat.parquet")
    score = photoz.score(photoz.predict(photoz.load(place / "model"), table), table)
    assert told["n"] == score.n == 300
    # qp has no place for the calibration: its files state the calibrated intervals in columns
    for name in score.metrics:
        assert told["metrics"][name]["value"] == pytest.approx(score[name], rel=2e-3, abs=4e-3), name
    assert main(["photoz", "score", pz, f"{place}/cat.parquet"]) == 0
    assert "sigma_nmad" in capsys.readouterr().out


def test_score_with_another_name_of_the_redshift(place, toy, tmp_path, capsys):
    main(["photoz", "predict", f"{place}/model", f"{place}/cat.parquet", "--out", f"{tmp_path}/pz.parquet"])
    table = toy(300)
    table.rename_column("z_spec", "my_z")
    write(table, tmp_path / "truth.parquet")
    capsys.readouterr()
    argv = f"photoz score {tmp_path}/pz.parquet {tmp_path}/truth.parquet --target my_z --json"
    assert main(argv.split()) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 300


def test_score_against_redshifts_alone(place, toy, tmp_path, capsys):
    main(["photoz", "predict", f"{place}/model", f"{place}/cat.parquet", "--out", f"{tmp_path}/pz.parquet"])
    table = toy(300)["id", "z_spec"][::-1]
    write(Table(table), tmp_path / "truth.parquet")
    capsys.readouterr()
    assert main(["photoz", "score", f"{tmp_path}/pz.parquet", f"{tmp_path}/truth.parquet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 300


def test_train_with_target_bands_and_quick(toy, tmp_path):
    table = toy(200)
    table.rename_column("z_spec", "redshift_best")
    write(table, tmp_path / "cat.csv")
    argv = (
        f"photoz train {tmp_path}/cat.csv --out {tmp_path}/m --target redshift_best --bands g,i --quick --epochs 1"
    )
    assert main(argv.split()) == 0
    model = photoz.load(tmp_path / "m")
    assert model.bands == ("g", "i") and model.members == 1 and model.config.epochs == 1


def test_columns_are_named_on_the_command_line(toy, tmp_path, capsys):
    table = toy(200)
    table["name"] = [f"J{n:04d}" for n in range(200)]
    for old, new in {"mag_g": "G mag", "mag_err_g": "eG", "mag_i": "MI", "z_spec": "ZB"}.items():
        table.rename_column(old, new)
    write(table, tmp_path / "cat.parquet")
    catalog, columns = (
        f"{tmp_path}/cat.parquet",
        "mag_g=G mag,mag_err_g=eG,mag_i=MI,mag_err_i=mag_err_i,z_spec=ZB,id=name",
    )
    fast = ["--quick", "--epochs", "1", "--columns", columns]
    assert main(["photoz", "train", catalog, "--out", f"{tmp_path}/m", *fast]) == 0
    assert photoz.load(tmp_path / "m").bands == ("g", "i")
    pz = f"{tmp_path}/pz.parquet"
    assert main(["photoz", "predict", f"{tmp_path}/m", catalog, "--out", pz, "--columns", columns]) == 0
    assert "id from 'name'" in capsys.readouterr().err
    assert read(pz, ["object_id"])["object_id"][3] == "J0003"
    write(Table({"name": table["name"][::-1], "ZB": table["ZB"][::-1]}), tmp_path / "truth.csv")
    scores = []
    for truth, named in ((catalog, columns), (f"{tmp_path}/truth.csv", "id=name,z_spec=ZB")):
        assert main(["photoz", "score", pz, truth, "--columns", named, "--json"]) == 0
        scores.append(json.loads(capsys.readouterr().out))
    assert [score["n"] for score in scores] == [200, 200]
    assert scores[0]["metrics"]["bias"] == pytest.approx(scores[1]["metrics"]["bias"], rel=1e-6)
    assert main(["photoz", "train", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"preset: {', '.join(PRESETS)}." in said


def test_simulate(tmp_path, capsys):
    assert main(["photoz", "simulate", "--out", f"{tmp_path}/s.parquet", "--survey", "sdss", "-n", "50"]) == 0
    table = photoz.read(tmp_path / "s.parquet")
    assert len(table) == 50 and np.isfinite(table.column("z_spec")).all()


def test_a_killed_training_goes_on_and_ends_where_an_unbroken_one_does(place, tmp_path):
    options = ["--members", "2", "--epochs", "40", "--width", "16", "--components", "2", "--batch", "32"]
    whole = ["photoz", "train", f"{place}/cat.parquet", "--out", f"{tmp_path}/whole", *options]
    broken = [*whole[:4], f"{tmp_path}/broken", *options]
    env = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    child = subprocess.Popen(
        [sys.executable, "-m", "deepfield.cli", *broken], env=env, stderr=subprocess.PIPE, text=True
    )
    checkpoint = tmp_path / ".broken.checkpoints" / "members.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert child.returncode == -signal.SIGKILL and checkpoint.exists() and not (tmp_path / "broken").exists()
    epochs = torch.load(checkpoint, weights_only=True)["numbers"]["epoch"]
    assert 1 <= epochs < 6, "it was killed on the way"
    assert main(broken) == 0 and main(whole) == 0
    one, two = (photoz.load(tmp_path / name) for name in ("whole", "broken"))
    first, second = one.model.state_dict(), two.model.state_dict()
    assert all(torch.allclose(first[k], second[k], atol=1e-6) for k in first)
    assert one.conformal.to_dict()["edges"] == two.conformal.to_dict()["edges"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["broken", "whole"], "checkpoints are gone"


def test_a_training_interrupted_by_hand_says_how_to_go_on(place, tmp_path):
    argv = ["photoz", "train", f"{place}/cat.parquet", "--out", f"{tmp_path}/m", *SMALL[:2], "--epochs", "2000"]
    child = subprocess.Popen(
        [sys.executable, "-m", "deepfield.cli", *argv],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # background jobs inherit that it is ignored
    )
    deadline = time.monotonic() + 120
    left = tmp_path / ".m.checkpoints"
    while not (left / "members.ckpt").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    said = child.communicate(timeout=60)[1].splitlines()[-1]
    assert child.returncode == 130 and left.exists()
    goes_on = r"the same command goes on after epoch \d+ of 2000 \(checkpoint in .*/\.m\.checkpoints\)"
    assert re.fullmatch(f"deepfield: interrupted; {goes_on}", said)


def test_two_trainings_do_not_share_a_folder(place, tmp_path, capsys):
    """The second would go on from the first one's checkpoints, with another batch, and take them away."""
    options = ["--members", "1", "--epochs", "2000", "--width", "8", "--components", "2"]
    argv = ["photoz", "train", f"{place}/cat.parquet", "--out", f"{tmp_path}/m", *options, "--batch"]
    child = subprocess.Popen([sys.executable, "-m", "deepfield.cli", *argv, "64"], stderr=subprocess.DEVNULL)
    left = tmp_path / ".m.checkpoints"
    deadline = time.monotonic() + 120
    while not (left / "members.ckpt").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    try:
        before = (left / "job.json").read_text()
        for batch in ("64", "32"):  # the same job is no better: both would write one checkpoint
            assert main([*argv, batch]) == 2
            said = f"'{tmp_path / 'm'}' is being written by another process (number {child.pid}): wait for it"
            assert said in capsys.readouterr().err
        assert (left / "job.json").read_text() == before and (left / "members.ckpt").exists()
        assert child.poll() is None and not (tmp_path / "m").exists()
    finally:
        child.kill()
        child.wait(timeout=30)


def test_row_numbers_stand_in_for_ids(place, toy, tmp_path):
    table = toy(20)
    table.remove_column("id")
    write(table, tmp_path / "c.parquet")
    assert main(["photoz", "predict", f"{place}/model", f"{tmp_path}/c.parquet", "--out", f"{tmp_path}/p.h5"]) == 0
    assert read_qp(tmp_path / "p.h5")[1]["object_id"].tolist() == list(range(20))
