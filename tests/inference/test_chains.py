"""Draws for other programs, and observations from files."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError, MissingExtraError, TableError
from deepfield.core.table import Table
from deepfield.data import files
from deepfield.inference import Prior, Simulations, train
from deepfield.inference.chains import plot, read_observation, to_anesthetic, to_arviz, to_getdist, write_chain

DRAWS = np.random.default_rng(0).normal(size=(50, 2))


def test_tables_and_getdist_files(tmp_path):
    write_chain(DRAWS, ["a", "b"], tmp_path / "c.parquet")
    assert np.array_equal(files.read(tmp_path / "c.parquet").column("b"), DRAWS[:, 1])
    write_chain(DRAWS, ["a", "b"], tmp_path / "c.txt")
    rows = np.loadtxt(tmp_path / "c.txt")
    assert rows.shape == (50, 4) and (rows[:, 0] == 1).all() and np.allclose(rows[:, 2:], DRAWS)
    assert (tmp_path / "c.paramnames").read_text() == "a\nb\n"
    with pytest.raises(TableError, match="cannot write"):
        write_chain(DRAWS, ["a", "b"], tmp_path / "c.xyz")


@pytest.mark.parametrize(
    ("name", "extra", "function"),
    [
        ("getdist", "inference", to_getdist),
        ("arviz", "inference", to_arviz),
        ("anesthetic", "anesthetic", to_anesthetic),
    ],
)
def test_other_libraries_or_their_extra(name, extra, function):
    try:
        __import__(name)
    except ImportError:
        with pytest.raises(MissingExtraError, match=rf"pip install 'deepfield\[{extra}\]'"):
            function(DRAWS, ["a", "b"])
    else:
        assert function(DRAWS, ["a", "b"]) is not None


def test_what_anesthetic_is_given(monkeypatch):
    monkeypatch.setitem(sys.modules, "anesthetic", SimpleNamespace(MCMCSamples=lambda **given: given))
    given = to_anesthetic(DRAWS.tolist(), ("a", "b"), labels=["A", "B"])
    assert (
        np.array_equal(given["data"], DRAWS) and given["columns"] == ["a", "b"] and given["labels"] == ["A", "B"]
    )


@pytest.mark.parametrize("ending", ["png", "pdf", "svg"])
def test_a_triangle_in_a_file(ending, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "new" / f"t.{ending}"
    figure = plot({"one": DRAWS, "two": DRAWS + 1}, ["a", "b"], path, truth=[0.25, -0.5])
    assert path.stat().st_size > 1000 and [p.name for p in path.parent.iterdir()] == [path.name]
    below = figure.axes[1]
    assert [0.25, 0.25] in [list(line.get_xdata()) for line in below.lines], "the truth is marked"
    assert [-0.5, -0.5] in [list(line.get_ydata()) for line in below.lines]


def test_figures_that_cannot_be(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(DeepfieldError, match=r"no figure can be written to .* endings are .*png"):
        plot(DRAWS, ["a", "b"], tmp_path / "t.xyz")
    with pytest.raises(DeepfieldError, match="one number for each of a, b, not"):
        plot(DRAWS, ["a", "b"], truth=[1.0])
    with pytest.raises(DeepfieldError, match="3 parameters are named"):
        plot(DRAWS, ["a", "b", "c"])


def test_observations_from_files(tmp_path, fitted):
    posterior, x = fitted["npe"], np.array([0.1, 0.2])
    np.save(tmp_path / "o.npy", x)
    np.savez(tmp_path / "o.npz", x=x[None])
    np.savetxt(tmp_path / "o.txt", x)
    for ending in ("parquet", "hdf5"):
        files.write(Table({"x": x[None]}), tmp_path / f"o.{ending}")
    files.write(Table({"d1": [0.1], "d2": [0.2], "a": [9.0]}), tmp_path / "o.csv")
    for ending in ("npy", "npz", "txt", "parquet", "hdf5", "csv"):
        assert np.allclose(read_observation(tmp_path / f"o.{ending}", posterior), x), ending
    np.save(tmp_path / "bad.npy", np.zeros(3))
    with pytest.raises(TableError, match=r"holds 3 numbers of shape \(3,\); the model takes \(2,\)"):
        read_observation(tmp_path / "bad.npy", posterior)
    with pytest.raises(TableError, match="no observation in"):
        read_observation(tmp_path / "none.npy", posterior)


def test_tables_are_read_by_the_names_of_the_training(tmp_path):
    prior = {"a": (0, 1)}
    rows = np.random.default_rng(0).uniform(size=(300, 1))
    made = Table({"a": rows[:, 0], "d1": rows[:, 0] + 1, "d2": rows[:, 0] - 1})
    files.write(made, tmp_path / "sims.csv")
    posterior = train(Simulations.read(tmp_path / "sims.csv", Prior(prior)), prior, epochs=1, members=1)
    files.write(Table({"id": [7.0], "d2": [-0.5], "d1": [1.5]}), tmp_path / "turned.csv")
    assert np.allclose(read_observation(tmp_path / "turned.csv", posterior), [1.5, -0.5])
    files.write(Table({"d2": [-0.5]}), tmp_path / "less.csv")
    with pytest.raises(TableError, match="lacks the columns d1 of"):
        read_observation(tmp_path / "less.csv", posterior)
