"""Scores against numbers done by hand."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.emulators import Emulation, EmulatorConfig, learning_curve, leave_out, score


def test_numbers_by_hand():
    found = Emulation(np.array([[1.01, 2.0], [3.0, 4.2]]), np.array([[0.02, 0.1], [0.1, 0.09]]))
    result = score(found, [[1.0, 2.0], [3.0, 4.0]])
    assert result.n == 2 and result.largest == pytest.approx(0.05)
    assert result.rms == pytest.approx(np.sqrt((0.01**2 + 0.05**2) / 4))
    assert result.median_worst == pytest.approx(0.03)
    assert (result.coverage_683, result.coverage_955) == (0.75, 0.75)
    assert "largest 5 %" in str(result)


def test_bad_truths_are_refused():
    found = Emulation(np.ones((1, 2)), np.ones((1, 2)))
    with pytest.raises(DeepfieldError, match="shape"):
        score(found, [1.0])
    with pytest.raises(DeepfieldError, match="not zero"):
        score(found, [[1.0, 0.0]])


def test_leave_out_predicts_each_row_in_order():
    x = np.random.default_rng(0).uniform(0.5, 1, 30)
    table = Table({"a": x, "y": x[:, None] ** np.arange(1, 4)})
    found, truth = leave_out(table, EmulatorConfig(components=3), inputs="a", outputs="y", folds=2)
    assert np.array_equal(truth, table["y"])
    assert np.median(np.abs(found.mean / truth - 1)) < 1e-3
    with pytest.raises(DeepfieldError, match="folds are 2 to the number"):
        leave_out(table, EmulatorConfig(), inputs="a", outputs="y", folds=1)


def test_a_learning_curve_falls_and_trains_on_none_of_its_tests():
    x = np.random.default_rng(1).uniform(0.5, 1, 60)
    table = Table({"a": x, "y": np.sin(4 * x[:, None] * np.arange(1, 4)) + 3})
    rows = learning_curve(table, EmulatorConfig(components=3), inputs="a", outputs="y", sizes=[10, 40])
    assert [row["simulations"] for row in rows] == [10, 40]
    assert rows[1]["median"] < 0.3 * rows[0]["median"] and rows[0]["median"] < rows[0]["p95"] < rows[0]["largest"]
    noisy = Table({"a": x, "y": np.random.default_rng(2).normal(3, 0.3, (60, 3))})
    rows = learning_curve(noisy, EmulatorConfig(components=3), inputs="a", outputs="y", sizes=[40])
    assert rows[0]["median"] > 0.03  # noise that was seen would have been learnt
    with pytest.raises(DeepfieldError, match="from 10 to 40"):
        learning_curve(table, EmulatorConfig(), inputs="a", outputs="y", sizes=[41])
