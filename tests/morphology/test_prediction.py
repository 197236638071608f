"""Predictions with names: slices, columns, and the way to a file and back."""

import numpy as np
import pytest

from deepfield import morphology
from deepfield.core.errors import DeepfieldError
from deepfield.core.heads import Categorical, GaussianMixture
from deepfield.core.prediction import Prediction
from deepfield.core.votes import Votes
from deepfield.morphology.prediction import MorphologyPrediction, read_prediction


def test_a_slice_keeps_names_and_reasons():
    p = MorphologyPrediction(
        Categorical(2),
        [[0.0, 1.0], [np.nan, np.nan], [2.0, 0.0]],
        answers=["p_a", "p_b"],
        reasons=["", "broken", ""],
    )
    assert p.chosen.tolist() == ["b", "", "a"]
    part = p[[2, 1]]
    assert (
        part.labels == ("a", "b") and part.reasons.tolist() == ["", "broken"] and part.chosen.tolist() == ["a", ""]
    )
    assert p[np.array([True, False, False])].reasons.tolist() == [""]


def test_intervals_of_votes_hold_their_probability():
    p = MorphologyPrediction(Votes([2]), np.log([[6.0, 4.0]]), answers=["bar_yes", "bar_no"])
    columns = p.columns()
    assert list(columns) == [f"bar_{a}{m}" for a in ("yes", "no") for m in ("", "_lo68", "_hi68")]
    draws = np.random.default_rng(0).beta(6, 4, 200_000)
    low, high = columns["bar_yes_lo68"][0], columns["bar_yes_hi68"][0]
    assert np.mean((draws > low) & (draws < high)) == pytest.approx(0.6827, abs=0.004)
    assert columns["bar_yes"][0] == pytest.approx(0.6) and p.labels == ()
    with pytest.raises(DeepfieldError, match="of votes"):
        _ = p.chosen


@pytest.mark.parametrize("which", ["model", "voter"])
def test_written_and_read(which, request, tmp_path, stamps, simulated):
    own = request.getfixturevalue(which)
    p = morphology.predict(own, (stamps if which == "model" else simulated[1])[:20])
    p.write(tmp_path / "p.parquet", {"object_id": np.arange(20), **p.columns()})
    again, columns = read_prediction(tmp_path / "p.parquet")
    assert again.answers == p.answers and np.allclose(again.probabilities, p.probabilities, atol=1e-6)
    assert columns["object_id"].tolist() == list(range(20))


def test_a_prediction_of_something_else(tmp_path):
    head = GaussianMixture(1)
    Prediction(head, np.zeros((2, 3))).write(tmp_path / "z.parquet", {"z": [0.1, 0.2], "y": [0.0, 0.0]})
    with pytest.raises(DeepfieldError, match="not of morphology"):
        read_prediction(tmp_path / "z.parquet")
