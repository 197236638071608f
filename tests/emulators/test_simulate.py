"""Designs fill the box; simulations go on where they were stopped."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.emulators import BOX, design, simulate

RANGES = {"a": (0.0, 1.0), "b": (-2.0, 2.0)}


def double(row):
    return [2 * row["a"], row["b"]]


@pytest.mark.parametrize("kind", ["sobol", "latin"])
def test_a_design_is_even(kind):
    table = design(RANGES, 64, kind=kind, seed=1)
    for name, (low, high) in RANGES.items():
        counts, _ = np.histogram(table[name], 8, (low, high))
        assert counts.min() >= 6 and counts.sum() == 64
    assert len(design(BOX, 5)) == 5


def test_a_longer_sobol_sequence_continues_a_shorter_one():
    assert np.array_equal(design(RANGES, 10, seed=2)["a"], design(RANGES, 50, seed=2)["a"][:10])


def test_a_stopped_run_goes_on(tmp_path):
    points, done = design(RANGES, 8), []

    def failing(row):
        if len(done) == 5:
            raise RuntimeError("killed")
        done.append(row)
        return double(row)

    with pytest.raises(RuntimeError):
        simulate(failing, points, folder=tmp_path)
    calls = []
    table = simulate(lambda row: calls.append(row) or double(row), points, folder=tmp_path)
    assert len(calls) == 3
    assert table["y"] == pytest.approx(np.stack([2 * points["a"], points["b"]], 1))
    with pytest.raises(DeepfieldError, match="simulations of another design"):
        simulate(double, design(RANGES, 8, seed=5), folder=tmp_path)


def test_bad_designs_are_refused():
    for arguments, message in (
        (({"a": (1.0, 0.0)}, 4), "the range of a is empty"),
        ((RANGES, 0), "at least one point"),
    ):
        with pytest.raises(DeepfieldError, match=message):
            design(*arguments)
    with pytest.raises(DeepfieldError, match="'sobol' or 'latin'"):
        design(RANGES, 4, kind="grid")
    with pytest.raises(DeepfieldError, match="different lengths"):
        simulate(lambda row: np.ones(1 + int(row["a"] > 0.5)), design(RANGES, 8))
