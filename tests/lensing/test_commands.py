"""The verbs on the command line."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepfield import lensing
from deepfield.cli import main

SMALL = ["--pixels", "16", "--parameters", "2500", "--epochs", "1", "--batch", "32"]


@pytest.fixture(scope="module")
def place(tmp_path_factory, finder, measurer, lenses):
    folder = tmp_path_factory.mktemp("commands")
    finder.save(folder / "finder")
    measurer.save(folder / "measurer")
    images = lenses(80, seed=50)
    names = [n for n in images.table.colnames if n != "kind"]
    columns = {n: np.asarray(images.table[n]) for n in names}
    np.savez(folder / "toy.npz", images=images.load()[0].numpy(), **columns)
    np.savez(folder / "graded.npz", images=images.load()[0].numpy(), grade=3.0 * columns["is_lens"] + 0.3)
    return folder


def test_find_measure_score(place, capsys):
    find = f"lensing find {place}/finder {place}/toy.npz --out {place}/f.parquet --measurer {place}/measurer"
    assert main(find.split()) == 0
    assert main(f"lensing score {place}/f.parquet {place}/toy.npz --json".split()) == 0
    told = json.loads(capsys.readouterr().out)
    images = lensing.read(place / "toy.npz")
    found = lensing.find(lensing.load(place / "finder"), images)
    expected = lensing.score(found.probability, images.table["is_lens"], repeats=2)
    assert told["finding"]["metrics"]["auroc"]["value"] == pytest.approx(expected.auroc)
    assert told["measuring"]["n"] == int(
        (found.probability[np.asarray(images.table["is_lens"]) == 1] >= 0.5).sum()
    )
    assert main(f"lensing measure {place}/measurer {place}/toy.npz --out {place}/m.parquet".split()) == 0
    assert main(f"lensing score {place}/m.parquet {place}/toy.npz".split()) == 0
    assert "theta_e_coverage_683" in capsys.readouterr().out
    assert len(pq.read_table(place / "m.parquet")) == 80
    find = f"lensing find {place}/finder {place}/graded.npz --out {place}/g.parquet"
    assert main(find.split()) == 0
    assert main(f"lensing score {place}/g.parquet {place}/graded.npz".split()) == 0
    assert "spearman" in capsys.readouterr().out


def test_simulate_and_train(place, capsys):
    assert main(f"lensing simulate --out {place}/s.hdf5 --n 100 --size 32".split()) == 0
    train = f"lensing train {place}/s.hdf5 {place}/s.hdf5 --out {place}/model --unlabelled {place}/s.hdf5"
    assert main([*train.split(), *SMALL]) == 0
    assert "to find; 160 images" in capsys.readouterr().err
    tune = f"lensing train {place}/s.hdf5 --out {place}/tuned --init {place}/model"
    assert main([*tune.split(), *SMALL]) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train --out {0}/x", "give images to train on, or a survey"),
        ("train {0}/toy.npz --out {0}/x --task look", "the task is find or measure"),
        ("train {0}/toy.npz --out {0}/toy.npz", "is not a deepfield model"),
        ("train {0}/graded.npz --out {0}/x", "no column 'is_lens'"),
        ("find {0}/none {0}/toy.npz --out {0}/y.parquet", "the folder does not exist"),
        ("find {0}/finder {0}/toy.npz --out {0}/y.parquet --prior 2", "prior is a share of lenses"),
        ("find {0}/measurer {0}/toy.npz --out {0}/y.parquet", "trained to measure, not to find"),
        ("measure {0}/measurer {0}/nowhere.npz --out {0}/y.parquet", "nowhere.npz"),
        ("simulate --out {0}/h.hdf5 --survey ska", "'ska'"),
    ],
)
def test_bad_input_is_one_line(place, capsys, command, message):
    assert main(["lensing", *command.format(place).split()]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("deepfield: ") and "Traceback" not in said
