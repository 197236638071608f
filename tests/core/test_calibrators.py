"""PIT maps and conformal scores as data."""

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from deepfield.core.calibrators import CalibrationError, CalibrationWarning, Conformal, PITMap

MAP = PITMap([0.0, 0.01, 0.3, 0.8, 1.0], [6.0, 2.0, 0.5, 1.0, 3.0])


def test_the_map_is_the_integral_of_its_density():
    for u in (0.005, 0.01, 0.2, 0.55, 0.93, 1.0):
        expected = quad(lambda t: float(MAP.density(t)), 0, u, points=[0.01, 0.3, 0.8], limit=200)[0]
        assert MAP.forward(u) == pytest.approx(expected, abs=1e-10)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=20), st.floats(0, 1))
def test_the_inverse_undoes_the_map(slopes, u):
    g = PITMap(np.linspace(0, 1, len(slopes)), slopes)
    v = g.forward(u)
    assert 0 <= v <= 1
    assert g.forward(g.inverse(v)) == pytest.approx(v, abs=1e-12)
    assert g.inverse(v) == pytest.approx(u, abs=1e-8)


def test_ends_shapes_and_missing_values():
    u = np.array([[0.0, 1.0, np.nan], [-0.1, 1.1, 0.5]])
    for value in (MAP.forward(u), MAP.inverse(u)):
        assert value.shape == u.shape
        assert value[0, 0] == value[1, 0] == 0
        assert value[0, 1] == value[1, 1] == 1
        assert np.isnan(value[0, 2])
    assert np.isnan(MAP.density(np.nan))
    assert (np.diff(MAP.forward(np.linspace(0, 1, 10001))) > 0).all()


def test_the_identity_changes_nothing():
    u = np.linspace(0, 1, 101)
    g = PITMap.identity()
    assert g.is_identity and not MAP.is_identity
    np.testing.assert_array_equal(g.forward(u), u)
    np.testing.assert_array_equal(g.inverse(u), u)
    np.testing.assert_array_equal(g.log_density(u), 0)


def test_both_survive_json():
    again = PITMap.from_dict(json.loads(json.dumps(MAP.to_dict())))
    u = np.linspace(0, 1, 50)
    np.testing.assert_allclose(again.forward(u), MAP.forward(u), rtol=0, atol=1e-15)
    conformal = Conformal([np.array([0.3, 0.1]), np.array([0.2])], [20.5], "mag_i")
    again = Conformal.from_dict(json.loads(json.dumps(conformal.to_dict())))
    assert again.feature == "mag_i" and again.counts == (2, 1)
    np.testing.assert_array_equal(again.scores[0], [0.1, 0.3])


@pytest.mark.parametrize(
    "state",
    [
        None,
        [],
        {"knots": [0, 1]},
        {"knots": [0, 1], "slopes": [1, -1]},
        {"knots": [0, 1], "slopes": [1, "x"]},
        {"knots": [0, 0.5], "slopes": [1, 1]},
        {"knots": [0, 0.5, 0.5, 1], "slopes": [1, 1, 1, 1]},
        {"knots": [0, 1], "slopes": [1, float("nan")]},
    ],
)
def test_a_stored_map_that_makes_no_sense_is_refused(state):
    with pytest.raises(CalibrationError):
        PITMap.from_dict(state)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"scores": 3, "edges": [], "feature": ""},
        {"scores": [[]], "edges": [], "feature": ""},
        {"scores": [[0.5]], "edges": [1.0], "feature": ""},
        {"scores": [[1.5]], "edges": [], "feature": ""},
        {"scores": [[0.5], [0.5], [0.5]], "edges": [2.0, 1.0], "feature": "m"},
    ],
)
def test_stored_scores_that_make_no_sense_are_refused(state):
    with pytest.raises(CalibrationError):
        Conformal.from_dict(state)


def test_levels_are_the_exact_order_statistics():
    scores = np.linspace(0.001, 0.999, 999)
    conformal = Conformal([scores])
    for level in (0.1, 0.683, 0.9, 0.955):
        assert conformal.levels(level) == scores[int(np.ceil(1000 * level - 1e-9)) - 1]
    low, high = conformal.tails(0.9)
    assert high - low == pytest.approx(conformal.levels(0.9)) and low + high == pytest.approx(1)


def test_groups_and_their_missing_features():
    conformal = Conformal([np.full(9, 0.2), np.full(9, 0.5), np.full(9, 0.8)], [20.0, 21.0], "mag_r")
    group = conformal.group([19.0, 20.0, 20.9, 21.0, np.inf, np.nan, -np.inf])
    assert group.tolist() == [0, 1, 1, 2, 2, 2, 0]
    assert conformal.levels(0.8, group).tolist() == [0.2, 0.5, 0.5, 0.8, 0.8, 0.8, 0.2]
    assert conformal.levels(0.8, np.empty(0, int)).shape == (0,)
    with pytest.raises(CalibrationError, match="differ between 3 groups of 'mag_r'"):
        conformal.levels(0.8)
    with pytest.raises(CalibrationError, match="run from 0 to 2"):
        conformal.levels(0.8, [3])


def test_no_interval_is_silently_infinite():
    few = Conformal([np.linspace(0, 0.9, 10)])
    assert few.levels(0.9) == 0.9
    with pytest.raises(CalibrationError, match=r"level 0.955 needs 22 calibration rows; .* has 10: ask"):
        few.levels(0.955)
    with pytest.warns(CalibrationWarning, match="the interval is the whole support"):
        assert few.levels(0.955, short="whole") == 1
    off = Conformal([np.append(np.linspace(0, 0.5, 80), np.ones(20))])
    with pytest.raises(CalibrationError, match=r"20.0% of the truths .* lie off the density's support"):
        off.levels(0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert off.levels(0.7) < 0.5
    for level in (0, 1, -1, 2, float("nan")):
        with pytest.raises(CalibrationError, match="between 0 and 1"):
            few.levels(level)
