"""Emulators of any summary statistic: accuracy against the truth, coverage, bad tables."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table
from deepfield.emulators import EmulatorConfig, score, train
from deepfield.emulators.train import columns


def simulations(n, seed):
    x = np.random.default_rng(seed).uniform(-1, 1, (n, 3))
    t = np.linspace(0, 1, 40)
    y = np.exp(x[:, :1] * t + 0.3 * np.sin(3 * x[:, 1:2] * t) + 0.1 * x[:, 2:] ** 2)
    return Table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "y": y})


@pytest.fixture(scope="module")
def emulator():
    return train(simulations(90, 0), inputs="a,b,c", outputs="y", components=6)


@pytest.mark.parametrize("method", ["process", "net"])
def test_simulations_not_seen_are_predicted_and_covered(method, emulator):
    if method == "net":
        emulator = train(
            simulations(400, 0),
            inputs="a,b,c",
            outputs="y",
            method="net",
            components=4,
            epochs=40,
            width=48,
            progress=False,
        )
    inside = simulations(60, 1)
    inside = inside[np.all([np.abs(inside[n]) < 0.95 for n in "abc"], axis=0)]
    found = score(emulator.predict(inside), inside["y"])
    assert found.median < (0.002 if method == "process" else 0.03)
    assert 0.4 < found.coverage_683 < 0.95


def test_the_card_says_how_wrong_it_is(emulator):
    left = emulator.card["left_out"]
    assert 0 < left["median"] < left["p95"] < 0.02 and emulator.card["rows"] == 90


def test_linear_outputs_of_any_sign():
    x = np.random.default_rng(0).uniform(0, 1, 30)
    table = Table({"a": x, "y": np.stack([np.sin(6 * x), x - 0.5], 1)})
    found = train(table, inputs="a", outputs="y").predict({"a": [0.3]})
    assert found.mean[0] == pytest.approx([np.sin(1.8), -0.2], abs=0.02)


def test_bad_tables_are_refused():
    table = simulations(20, 0)
    for change, message in (
        ({"inputs": "a,d"}, "no column fits 'd'"),
        ({"inputs": "a,y"}, "'y' is both an input and an output"),
        ({"method": "magic"}, "method is one of process, net"),
    ):
        with pytest.raises(DeepfieldError, match=message):
            train(table, **{"inputs": "a,b", "outputs": "y", **change})
    with pytest.raises(DeepfieldError, match="5 simulations are too few"):
        train(table[:5], inputs="a", outputs="y")
    broken = simulations(20, 0)
    broken["y"][3, 0] = np.nan
    with pytest.raises(DeepfieldError, match="1 rows have outputs that are no numbers, first row 3"):
        train(broken, inputs="a", outputs="y")
    broken["a"] = 1.0
    broken["y"][3, 0] = 1.0
    with pytest.raises(DeepfieldError, match="'a' is the same in all rows"):
        train(broken, inputs="a", outputs="y")
    with pytest.raises(DeepfieldError, match="components is at least 0"):
        EmulatorConfig(components=-1)
    with pytest.raises(TableError, match="no column 'a'; did you mean 'A'"):
        train(table, inputs="a,b", outputs="y", components=2).predict(Table({"A": [0.1], "b": [0.1]}))


def test_columns_keep_the_order_of_the_table():
    table = Table({"p2": [1.0], "p1": [1.0], "x": [1.0]})
    assert columns(table, ["p*"]) == ["p2", "p1"]
