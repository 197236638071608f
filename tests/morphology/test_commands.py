"""The verbs on the command line."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepfield import morphology
from deepfield.cli import main
from deepfield.core.table import Table
from deepfield.data.files import write

SMALL = ["--pixels", "32", "--parameters", "4000", "--epochs", "1", "--batch", "16"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    assert main(f"morphology simulate --out {folder}/g.hdf5 -n 120 --size 32".split()) == 0
    train = f"morphology train {folder}/g.hdf5 --out {folder}/model --labels kind --members 2".split()
    assert main([*train, *SMALL]) == 0
    assert main(f"morphology predict {folder}/model {folder}/g.hdf5 --out {folder}/p.parquet".split()) == 0
    return folder


def test_score(place, capsys):
    assert main(f"morphology score {place}/p.parquet {place}/g.hdf5 --labels kind --json".split()) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n"] == 120 and len(told["classes"]) == 5
    images = morphology.read(place / "g.hdf5")
    p = morphology.predict(morphology.load(place / "model"), images)
    right = (p.chosen == np.asarray(images.table["kind"]).astype(str)).mean()
    assert told["metrics"]["accuracy"]["value"] == pytest.approx(right)
    kinds = np.asarray(images.table["kind"]).astype(str)
    write(Table({"number": np.arange(120), "kind": kinds}), place / "truth.csv")
    assert main(f"morphology score {place}/p.parquet {place}/truth.csv --labels kind".split()) == 0
    assert "accuracy" in capsys.readouterr().out
    write(Table({"id": np.arange(120)[::-1], "kind": kinds[::-1]}), place / "turned.csv")
    assert main(f"morphology score {place}/p.parquet {place}/turned.csv --labels kind".split()) == 2
    assert "differ in 120 of 120 identifiers, first in row 0: '0' and '119'" in capsys.readouterr().err


def test_votes_from_train_to_score(place, capsys):
    train = f"morphology train {place}/g.hdf5 --out {place}/voter --tree decals5 --group p4".split()
    assert main([*train, *SMALL]) == 0
    assert main(f"morphology predict {place}/voter {place}/g.hdf5 --out {place}/v.parquet".split()) == 0
    capsys.readouterr()
    assert main(f"morphology score {place}/v.parquet {place}/g.hdf5".split()) == 2
    assert "is of votes: give their --tree" in capsys.readouterr().err
    assert main(f"morphology score {place}/v.parquet {place}/g.hdf5 --tree decals5 --json".split()) == 0
    assert "smooth-or-featured" in json.loads(capsys.readouterr().out)["questions"]


def test_embed_similar_rank(place, capsys):
    assert main(f"morphology embed {place}/model {place}/g.hdf5 --out {place}/e.parquet".split()) == 0
    capsys.readouterr()
    assert main(f"morphology similar {place}/e.parquet --to 7 -n 3 --json".split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found) == 3 and all(row["object_id"] != 7 for row in found)
    assert found[0]["distance"] <= found[2]["distance"]
    assert main(f"morphology rank {place}/model {place}/g.hdf5 --out {place}/r.parquet".split()) == 0
    table = pq.read_table(place / "r.parquet").to_pandas()
    assert (np.diff(table["information"]) <= 0).all() and sorted(table["row"]) == list(range(120))


def test_a_folder_of_pictures_and_a_model_to_go_on_from(place, toy, tmp_path, capsys):
    from PIL import Image

    pixels, table = toy(60)
    (tmp_path / "pictures").mkdir()
    for image, name in zip(pixels, table["id"]):
        Image.fromarray(np.moveaxis(image, 0, -1)).save(tmp_path / "pictures" / f"{name}.png")
    write(Table(table), tmp_path / "labels.csv")
    train = f"morphology train {tmp_path}/pictures --catalog {tmp_path}/labels.csv --out {tmp_path}/m".split()
    assert main([*train, *SMALL]) == 0
    assert main([*train[:-1], f"{tmp_path}/m2", "--init", f"{tmp_path}/m", *SMALL]) == 0
    assert "flat, round" in capsys.readouterr().err
    (tmp_path / "pictures" / "130.png").write_bytes(b"\x89PNG cut off")
    predict = f"morphology predict {tmp_path}/m2 {tmp_path}/pictures --out {tmp_path}/p.parquet"
    assert main(predict.split()) == 0
    assert "60 images to" in (said := capsys.readouterr().err) and "1 images cannot be served" in said
    # A catalogue of file names alone: objects are called by them, as without it.
    write(Table({"filename": [f"{name}.png" for name in table["id"]]}), tmp_path / "names.csv")
    embed = f"morphology embed {tmp_path}/m {tmp_path}/pictures --catalog {tmp_path}/names.csv"
    assert main([*embed.split(), "--out", f"{tmp_path}/e.parquet"]) == 0
    assert main(f"morphology similar {tmp_path}/e.parquet --to 100 -n 2 --json".split()) == 0
    assert all(isinstance(row["object_id"], str) for row in json.loads(capsys.readouterr().out))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train {0}/g.hdf5 --out {0}/x", "no column of classes"),
        ("train {0}/g.hdf5 --out {0}/x --labels kind --group p5", "group 'p5' is not one of"),
        ("train {0}/g.hdf5 --out {0}/g.hdf5 --labels kind", "is not a deepfield model"),
        ("train {0}/nowhere --out {0}/x", "there is no file"),
        ("predict {0}/none {0}/g.hdf5 --out {0}/y.parquet", "the folder does not exist"),
        ("similar {0}/e2.parquet --to 1", "the file does not exist"),
        ("similar {0}/p.parquet --to 1", "was not written by deepfield morphology embed"),
        ("embed {0}/model {0}/g.hdf5 --out {0}/e.csv", "results are written to .parquet"),
        ("simulate --out {0}/g.fits", "end it in .hdf5"),
        ("simulate --out {0}/h.hdf5 --survey ska", "cannot simulate survey 'ska'"),
        ("score {0}/p.parquet {0}/g.hdf5 --labels pitch", "column 'pitch'"),
    ],
)
def test_bad_input_is_one_line(place, capsys, command, message):
    assert main(["morphology", *command.format(place).split()]) == 2
    said = capsys.readouterr().err
    assert message in said and said.startswith("deepfield: ") and "Traceback" not in said
