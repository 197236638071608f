"""Hostile and broken input through the command line: exit code 2, one clear line, never a traceback."""

import hashlib
import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save
from safetensors.torch import save_file as save_tensors

from deepfield import photoz
from deepfield.cli import main
from deepfield.core.store import META, WEIGHTS, Saved, seal
from deepfield.core.store import save as save_model
from deepfield.core.table import Table
from deepfield.data.files import write

TRAIN = ["--epochs", "1", "--members", "1", "--width", "8"]


@pytest.fixture(scope="module")
def good(tmp_path_factory, toy, model):
    """A folder with a sound catalogue, model and predictions, to be broken in copies."""
    folder = tmp_path_factory.mktemp("good")
    write(toy(200, 1), folder / "cat.parquet")
    model.save(folder / "model")
    assert (
        main(["photoz", "predict", f"{folder}/model", f"{folder}/cat.parquet", "--out", f"{folder}/pz.parquet"])
        == 0
    )
    return folder


# -- how things are broken -----------------------------------------------------------------------------------


def catalogue(name, change=lambda table: table, rows=200):
    """Train on a changed copy of the toy catalogue."""

    def make(tmp, good, toy):
        write(Table(change(toy(rows, 1))), tmp / name)
        return ["photoz", "train", tmp / name, "--out", tmp / "m", *TRAIN]

    return make


def raw(name, content):
    """Train on a file with these bytes."""

    def make(tmp, good, toy):
        (tmp / name).write_bytes(content)
        return ["photoz", "train", tmp / name, "--out", tmp / "m", *TRAIN]

    return make


def truncated(name):
    def make(tmp, good, toy):
        write(toy(200, 1), tmp / name)
        content = (tmp / name).read_bytes()
        (tmp / name).write_bytes(content[: len(content) // 2])
        return ["photoz", "train", tmp / name, "--out", tmp / "m", *TRAIN]

    return make


def train(*options, out="m"):
    """Train on the sound catalogue with bad options."""

    def make(tmp, good, toy):
        return ["photoz", "train", good / "cat.parquet", "--out", tmp / out, *TRAIN, *options]

    return make


def predict(*options, out="pz.parquet", model="model", catalog="cat.parquet"):
    def make(tmp, good, toy):
        return ["photoz", "predict", good / model, good / catalog, "--out", tmp / out, *options]

    return make


def broken_model(change):
    """Predict with a copy of the model folder after ``change(folder)``."""

    def make(tmp, good, toy):
        shutil.copytree(good / "model", tmp / "model")
        change(tmp / "model")
        return ["photoz", "predict", tmp / "model", good / "cat.parquet", "--out", tmp / "pz.parquet"]

    return make


def meta(change, *, sealed=True):
    """Change model.json, and seal it anew as a forger would."""

    def edit(folder):
        content = json.loads((folder / META).read_text())
        change(content)
        if sealed:
            content["sha256"] = seal(content)
        (folder / META).write_text(json.dumps(content))

    return broken_model(edit)


def weights(change):
    """Change the tensors, with digests that fit."""

    def edit(folder):
        content = change(load_file(folder / WEIGHTS))
        content = content if isinstance(content, bytes) else save(content)
        (folder / WEIGHTS).write_bytes(content)
        described = json.loads((folder / META).read_text())
        described["weights_sha256"] = hashlib.sha256(content).hexdigest()
        described["sha256"] = seal(described)
        (folder / META).write_text(json.dumps(described))

    return broken_model(edit)


def photoz_setting(**settings):
    return meta(lambda m: m["config"]["photoz"].update(settings))


def cut(folder, share=0.5):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(share * len(content))])


def flip(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-5] ^= 1
    (folder / WEIGHTS).write_bytes(bytes(content))


def first(tensors, value):
    name = next(n for n in tensors if n.endswith("weight"))
    tensors[name] = torch.full_like(tensors[name], value)
    return tensors


class _Bomb:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def _score(change=None, *, pz="pz.parquet", options=()):
    def make(tmp, good, toy):
        table = toy(200, 1)
        write(Table(change(table)) if change else table, tmp / "truth.parquet")
        return ["photoz", "score", good / pz, tmp / "truth.parquet", *options]

    return make


def at(*argv):
    """A plain command; {tmp} and {good} are folders."""
    return lambda tmp, good, toy: [part.format(tmp=tmp, good=good) for part in argv]


def after(prepare, *argv):
    def make(tmp, good, toy):
        prepare(tmp, good)
        return at(*argv)(tmp, good, toy)

    return make


def with_column(name, values):
    def change(table):
        table[name] = np.broadcast_to(values, len(table))
        return table

    return change


def sentinels(table):
    for name in table.colnames:
        if name.startswith("mag"):
            table[name] = -99.0
    return table


def without(*names):
    def change(table):
        table.remove_columns(list(names))
        return table

    return change


def as_text(table):
    table["mag_r"] = np.array(["bright"] * len(table))
    return table


def absurd_onnx(tmp, good):
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    def value(name):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 6])

    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value("x")], [value("y")])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp / "other.onnx").write_bytes(content.SerializeToString())


def twice_the_name(tmp, good):
    columns = pq.read_table(good / "cat.parquet")
    pq.write_table(columns.append_column("mag_r", pa.array(np.ones(len(columns)))), tmp / "twice.parquet")


SOUND = "{good}/cat.parquet"
TRAINING = ("--out", "{tmp}/m")
PREDICT = ("photoz", "predict", "{good}/model")

HOSTILE = {
    # catalogues
    "missing file": (at("photoz", "train", "{tmp}/none.fits", *TRAINING), "there is no file"),
    "a directory": (at("photoz", "train", "{tmp}", *TRAINING), "folder"),
    "empty file": (raw("a.csv", b""), "is empty"),
    "header only": (raw("a.csv", b"mag_g,mag_r,z_spec\n"), "no rows"),
    "zero rows": (catalogue("a.parquet", lambda t: t[:0]), "no rows"),
    "truncated parquet": (truncated("a.parquet"), "a.parquet"),
    "truncated fits": (truncated("a.fits"), "a.fits"),
    "truncated hdf5": (truncated("a.hdf5"), "a.hdf5"),
    "random bytes": (raw("a.parquet", bytes(range(256)) * 9), "a.parquet"),
    "text in magnitudes": (catalogue("a.csv", as_text), "holds text such as 'bright'"),
    "no magnitudes": (catalogue("a.parquet", lambda t: t["id", "z_spec"]), "no magnitudes or fluxes"),
    "no redshift": (catalogue("a.parquet", without("z_spec")), "no column 'z_spec'"),
    "redshifts all NaN": (catalogue("a.parquet", with_column("z_spec", np.nan)), "no finite redshift"),
    "redshifts absurd": (catalogue("a.parquet", with_column("z_spec", -9999.0)), "no finite redshift"),
    "too few rows": (catalogue("a.parquet", rows=60), "60 usable rows"),
    "magnitudes all sentinels": (catalogue("a.parquet", sentinels), "0 usable rows"),
    "column twice": (after(twice_the_name, "photoz", "train", "{tmp}/twice.parquet", *TRAINING), "twice"),
    # options
    "band not there": (train("--bands", "g,r,y"), "'y'"),
    "band twice": (train("--bands", "g,r,g"), "twice"),
    "no such target": (train("--target", "redshift_true"), "redshift_true"),
    "unknown preset": (train("--columns", "sloan"), "'sloan'"),
    "unknown estimator": (train("--estimator", "magic"), "estimator 'magic' is not one of"),
    "unknown extinction": (train("--extinction", "magic"), "magic"),
    "unknown option": (train("--colour", "red"), "--colour"),
    "not a number": (train("--blocks", "many"), "many"),
    "negative epochs": (train("--epochs", "-3"), "epochs"),
    "no members": (train("--components", "0"), "components lies between 1 and"),
    "absurdly many members": (train("--batch", "99999999999"), "batch"),
    "negative seed": (train("--seed", "-1"), "seed"),
    "dropout of two": (train("--dropout", "2"), "dropout"),
    "negative decay": (train("--weight-decay", "-1"), "weight_decay"),
    "negative noise": (train("--noise", "-1"), "noise"),
    "rate of NaN": (train("--learning-rate", "nan"), "learning_rate"),
    "nothing left to train on": (train("--validation", "0.6", "--calibration", "0.5"), "must leave some"),
    "no such class column": (train("--classes", "kind"), "no column 'kind'"),
    "model over something else": (
        after(lambda tmp, good: ((tmp / "m").mkdir(), (tmp / "m" / "thesis.tex").touch()),
              "photoz", "train", "{good}/cat.parquet", *TRAINING, *TRAIN),
        "not a deepfield model",
    ),
    "model below a file": (train(out="file/m"), "file"),
    # predictions
    "unknown ending": (predict(out="pz.csv"), ".parquet or .hdf5"),
    "unknown engine": (predict("--engine", "jax"), "jax"),
    "negative workers": (predict("--workers", "-2"), "workers"),
    "out is a folder": (predict(out="."), "not to"),
    "out below a file": (predict(out="file/pz.parquet"), "file"),
    "out of hdf5 below a file": (predict(out="file/pz.hdf5"), "file"),
    "out is the catalogue": (at(*PREDICT, SOUND, "--out", SOUND), "catalogue itself"),
    "no catalogue": (at(*PREDICT, "{tmp}/none.parquet", "--out", "{tmp}/pz.parquet"), "no such file"),
    "catalogue without a band": (
        lambda tmp, good, toy: (
            write(Table(without("mag_r", "mag_err_r")(toy(9))), tmp / "c.parquet")
            and ["photoz", "predict", good / "model", tmp / "c.parquet", "--out", tmp / "pz.parquet"]
        ),
        "'r'",
    ),
    # model folders
    "no model": (predict(model="nothing"), "the folder does not exist"),
    "model is a file": (predict(model="cat.parquet"), "is a file; a model is a folder"),
    "model is an empty folder": (
        after(lambda tmp, good: (tmp / "m").mkdir(), "photoz", "predict", "{tmp}/m", "{good}/cat.parquet",
              "--out", "{tmp}/pz.parquet"),
        "it is not a deepfield model",
    ),
    "weights gone": (broken_model(lambda f: (f / WEIGHTS).unlink()), "the model is incomplete"),
    "weights truncated": (broken_model(cut), "truncated or changed"),
    "weights empty": (weights(lambda t: b""), "not a safetensors file"),
    "one bit flipped": (broken_model(flip), "truncated or changed"),
    "a pickle for weights": (weights(lambda t: pickle.dumps(_Bomb())), "not a safetensors file"),
    "weights NaN": (weights(lambda t: first(t, float("nan"))), "holds NaN or infinite values"),
    "a tensor less": (weights(lambda t: dict(list(t.items())[1:])), "the weights lack 1 tensors"),
    "model.json no JSON": (broken_model(lambda f: (f / META).write_text("{'format': 1")), "is not JSON"),
    "model.json a list": (broken_model(lambda f: (f / META).write_text("[1]")), "holds a list"),
    "model.json edited": (meta(lambda m: m["config"].update(members=2), sealed=False), "was changed after"),
    "newer format": (meta(lambda m: m.update(format=99)), "upgrade deepfield"),
    "another science": (meta(lambda m: m.update(domain="lensing")), "is a model of 'lensing', not of 'photoz'"),
    "keys missing": (meta(lambda m: m["config"].pop("photoz")), "configuration is damaged"),
    "settings of the future": (photoz_setting(warp=9), "unknown to this version: warp"),
    "absurd width": (photoz_setting(width=10**9), "width lies between 1 and 4096"),
    "absurd product of sizes": (photoz_setting(width=4096, blocks=100), "absurd size"),
    "width as text": (photoz_setting(width="wide"), "configuration is damaged"),
    "width as a fraction": (photoz_setting(width=8.5), "configuration is damaged"),
    "unknown head": (photoz_setting(estimator="oracle"), "estimator 'oracle' is not one of"),
    "another shape": (photoz_setting(width=9), "the configuration asks for"),
    "reference band not there": (meta(lambda m: m["config"].update(reference="y")), "reference band 'y'"),
    "calibration damaged": (meta(lambda m: m["config"].update(conformal={"scores": "none"})), "damaged"),
    # onnx
    "no onnx": (predict(model="none.onnx"), "the file does not exist"),
    "onnx of bytes": (
        after(lambda tmp, good: (tmp / "a.onnx").write_bytes(b"onnx" * 99), "photoz", "predict", "{tmp}/a.onnx",
              "{good}/cat.parquet", "--out", "{tmp}/pz.parquet"),
        "is not an ONNX model",
    ),
    "onnx of others": (
        after(absurd_onnx, "photoz", "predict", "{tmp}/other.onnx", SOUND, "--out", "{tmp}/pz.parquet"),
        "not written by deepfield",
    ),
    "export of nothing": (at("export", "{tmp}/none", "--out", "{tmp}/a.onnx"), "the folder does not exist"),
    "export of another science": (
        after(lambda tmp, good: save_model(tmp / "m", Saved("alchemy", {}, {"a": torch.ones(1)})),
              "export", "{tmp}/m", "--out", "{tmp}/a.onnx"),
        "'alchemy', which this deepfield does not know",
    ),
    # scores
    "score of nothing": (at("photoz", "score", "{tmp}/none.hdf5", SOUND), "the file does not exist"),
    "score of a catalogue": (at("photoz", "score", "{good}/cat.parquet", "{good}/cat.parquet"), "zmode"),
    "other lengths": (_score(lambda t: without("id")(t)[:150]), "200 predictions for 150 catalogue rows"),
    "other ids": (_score(with_column("id", np.arange(200) + 5000)), "ids do not match"),
    "ids that repeat": (_score(with_column("id", 7)), "ids"),
    "no truth": (_score(without("z_spec")), "z_spec"),
    "truth all NaN": (_score(with_column("z_spec", np.nan)), "none of the 200 rows"),
    # the rest
    "unknown science": (at("run", "alchemy"), "no science 'alchemy'; there are: photoz"),
    "unknown data set": (at("run", "photoz", "--data", "sdss_mgz", "--out", "{tmp}/r"), "did you mean 'sdss_mgs'"),
    "citation of nothing": (at("data", "cite", "none"), "no data set 'none'"),
    "unknown command": (at("photoz", "guess"), "guess"),
    "nothing to simulate": (at("photoz", "simulate", "--out", "{tmp}/s.parquet", "-n", "0"), "n"),
    "simulate to an unknown ending": (at("photoz", "simulate", "--out", "{tmp}/s.doc", "-n", "5"), ".doc"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE, ids=[name.replace(" ", "_") for name in HOSTILE])
def test_one_clear_line_and_exit_code_2(case, tmp_path, good, toy, capfd, caplog, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file where a folder is wanted")
    make, fragment = HOSTILE[case]
    argv = [str(part) for part in make(tmp_path, good, toy)]
    capfd.readouterr()
    assert main(argv) == 2, case
    out, err = capfd.readouterr()
    said = tuple(record.getMessage() for record in caplog.records)  # what was read, and warnings
    lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "rows/s" not in line]
    lines = [line for line in lines if not line.endswith(said)]
    assert len(lines) == 1 and lines[0].startswith("deepfield: "), err
    assert fragment in lines[0]
    assert not out and "Traceback" not in err
    left = [p.name for p in tmp_path.iterdir() if p.name in ("pz.parquet", "pz.hdf5") or (p / META).is_file()]
    assert not [name for name in left if name not in ("model", "m")], "nothing half-made is left"


def test_there_are_enough():
    assert len(HOSTILE) >= 30


def test_the_same_errors_in_python(tmp_path, good, toy):
    with pytest.raises(ValueError, match="the folder does not exist"):
        photoz.load(tmp_path / "none")
    with pytest.raises(ValueError, match="no photometry in band 'r'"):
        photoz.predict(photoz.load(good / "model"), Table(without("mag_r", "mag_err_r")(toy(5))))
    with pytest.raises(ValueError, match="cannot read a int"):
        photoz.read(7)
    save_tensors({"a": torch.ones(1)}, tmp_path / WEIGHTS)
    with pytest.raises(ValueError, match=r"has no model\.json"):
        photoz.load(tmp_path)
