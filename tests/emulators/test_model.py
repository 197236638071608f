"""Saved emulators say the same when they are read again, and refuse what they have not learnt."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.table import Table
from deepfield.emulators import Emulator, train
from deepfield.emulators.model import compress


@pytest.fixture(scope="module")
def emulator():
    x = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    y = np.exp(x[:, :1] * np.linspace(0, 1, 12) + x[:, 1:] ** 2)
    return train(Table({"a": x[:, 0], "b": x[:, 1], "y": y}), inputs="a,b", outputs="y", components=4)


@pytest.mark.parametrize("method", ["process", "net"])
def test_saved_and_read(method, emulator, tmp_path):
    if method == "net":
        x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
        table = Table({"a": x[:, 0], "b": x[:, 1], "y": np.exp(x[:, :1] * np.linspace(0, 1, 12))})
        emulator = train(table, inputs="a,b", outputs="y", method="net", epochs=3, width=16, progress=False)
    emulator.save(tmp_path / "model")
    again = Emulator.load(tmp_path / "model")
    at = {"a": [0.1, -0.2], "b": [0.3, 0.0]}
    first, second = emulator.predict(at), again.predict(at)
    assert second.mean == pytest.approx(first.mean, rel=1e-5) and second.std == pytest.approx(first.std, rel=1e-4)
    assert again.card == emulator.card and again.inputs == ["a", "b"]


def test_what_was_not_learnt_is_refused(emulator):
    for given, message in (
        ({"a": 3.0, "b": 0.0}, "a = 3 is outside the training's range"),
        ({"a": np.nan, "b": 0.0}, "a = nan is outside"),
        ([[0.1, 0.2, 0.3]], r"inputs are \(N, 2\): a, b"),
    ):
        with pytest.raises(DeepfieldError, match=message):
            emulator.predict(given)
    with pytest.raises(ModelError, match="no emulator of a summary statistic: MatterPower reads it"):
        Emulator.load("matter-power-linear")


def test_compression_keeps_the_rows():
    rows = np.random.default_rng(0).normal(size=(30, 3)) @ np.random.default_rng(1).normal(size=(3, 50))
    basis, scaled = compress(rows, 0)
    assert len(basis["axes"]) == 3
    back = basis["centre"] + scaled @ (basis["axes"] * basis["scale"][:, None])
    assert back == pytest.approx(rows, abs=1e-9)
