"""Tables of simulations: cleaning, files, and bad input."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table
from deepfield.data import files
from deepfield.inference.priors import Prior
from deepfield.inference.simulations import Simulations, add_noise, noise_root

PRIOR = Prior({"a": (0, 1), "b": {"normal": [0, 1]}})


@pytest.fixture
def table():
    theta = PRIOR.sample(30, seed=0)
    return Simulations.of(theta, np.stack([theta.sum(1), theta[:, 0] - 1, theta[:, 1] ** 2], 1), PRIOR)


def test_rows_that_are_not_finite_are_counted(caplog):
    theta = PRIOR.sample(6, seed=0)
    x = np.ones((6, 2))
    x[1, 0], x[4, 1] = np.nan, np.inf
    with caplog.at_level(logging.WARNING, "deepfield"):
        found = Simulations.of(theta, x, PRIOR, lost={"failed": 3})
    assert len(found) == 4 and found.lost == {"failed": 3, "not finite": 2}
    assert "of 9 simulations 3 failed, 2 not finite" in caplog.text


@pytest.mark.parametrize("ending", [".npz", ".parquet", ".hdf5"])
def test_files_round_trip(ending, table, tmp_path):
    path = tmp_path / f"sims{ending}"
    table.write(path)
    again = Simulations.read(path, PRIOR)
    assert np.array_equal(again.theta, table.theta) and np.array_equal(again.x, table.x)
    assert again.digest() == table.digest() and table[:5].digest() != table.digest()


@pytest.mark.parametrize("shape", [(4, 2, 9), (4, 2, 3, 3)], ids=["sequences", "maps"])
def test_sequences_and_maps_keep_their_shape(shape, tmp_path):
    theta = PRIOR.sample(4, seed=0)
    table = Simulations.of(theta, np.arange(72.0).reshape(shape), PRIOR)
    for name in ("data.npz", "data.hdf5"):
        table.write(tmp_path / name)
        assert Simulations.read(tmp_path / name, PRIOR).x.shape == shape


def test_some_parameters_alone(table):
    found = table.marginal(["b"])
    assert found.names == ("b",) and np.array_equal(found.theta[:, 0], table.theta[:, 1])
    assert found.x is table.x and found.lost == table.lost
    assert table.marginal(["b", "a"]).names == ("a", "b")
    for bad in (["c"], []):
        with pytest.raises(DeepfieldError, match=r"some of the parameters a, b are asked for, not (c|none)"):
            table.marginal(bad)


def test_named_columns(tmp_path, table):
    path = tmp_path / "t.parquet"
    columns = {
        "id": np.arange(30.0),
        "p1": table.x[:, 0],
        "p2": table.x[:, 1],
        "b": table.theta[:, 1],
        "a": table.theta[:, 0],
    }
    files.write(Table(columns), path)
    found = Simulations.read(path, PRIOR, data=["p2", "p1"])
    assert np.array_equal(found.theta, table.theta) and np.array_equal(found.x, table.x[:, [1, 0]])
    assert Simulations.read(path, PRIOR).x.shape == (30, 3), "all that is no parameter is data"


def test_bad_tables(tmp_path, table):
    with pytest.raises(TableError, match="5 rows of parameters and 4 of data"):
        Simulations.of(PRIOR.sample(5, seed=0), np.ones((4, 1)), PRIOR)
    with pytest.raises(TableError, match="no simulation is left: 3 not finite"):
        Simulations.of(PRIOR.sample(3, seed=0), np.full((3, 1), np.nan), PRIOR)
    with pytest.raises(TableError, match="lie outside the prior, most in 'a', which goes from"):
        Simulations.of(PRIOR.sample(9, seed=0) + np.array([2, 0]), np.ones((9, 1)), PRIOR)
    table.write(tmp_path / "t.parquet")
    with pytest.raises(TableError, match="no column 'c'"):
        Simulations.read(tmp_path / "t.parquet", Prior({"a": (0, 1), "c": (0, 1)}))
    with pytest.raises(TableError, match="no column 'y'"):
        Simulations.read(tmp_path / "t.parquet", PRIOR, data=["y"])
    (tmp_path / "t.npz").write_bytes(b"no archive")
    with pytest.raises(TableError, match="cannot read"):
        Simulations.read(tmp_path / "t.npz", PRIOR)
    np.savez(tmp_path / "u.npz", theta=np.full((3, 2), 0.5))
    with pytest.raises(TableError, match="and no data"):
        Simulations.read(tmp_path / "u.npz", PRIOR)


def test_noise_has_the_covariance_that_is_asked_for(table):
    covariance = np.array([[2.0, 0.6, 0], [0.6, 1.0, 0], [0, 0, 0.5]])
    many = Simulations(np.zeros((40_000, 2)), np.zeros((40_000, 3)), ("a", "b"))
    found = add_noise(many, noise_root(covariance, many.x), seed=0).x
    assert np.allclose(np.cov(found.T), covariance, atol=0.04) and np.abs(found.mean(0)).max() < 0.03
    assert np.array_equal(add_noise(table, noise_root(np.zeros(3), table.x), seed=0).x, table.x)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        ([1.0, 1.0], r"shape \(2,\) does not fit data of shape \(3,\)"),
        ([1.0, -1.0, 1.0], "should be positive"),
        (-np.eye(3), "should be positive"),
        (np.eye(3) + np.eye(3, k=1), "symmetric"),
    ],
)
def test_bad_noise(noise, message, table):
    with pytest.raises(DeepfieldError, match=message):
        noise_root(noise, table.x)


def test_a_column_of_lists_is_a_vector(tmp_path):
    x = np.arange(12.0).reshape(4, 3)
    pq.write_table(pa.table({"a": [0.1, 0.2, 0.3, 0.4], "x": x.tolist()}), tmp_path / "t.parquet")
    found = Simulations.read(tmp_path / "t.parquet", Prior({"a": (0, 1)}))
    assert np.array_equal(found.x, x)
    assert repr(found) == "Simulations(4 of a; data (3,); lost {})"
