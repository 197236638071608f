"""A temperature brings over-sure probabilities back to what they were drawn from."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from deepfield.core.errors import DeepfieldError
from deepfield.trust.temperature import fit_scale, fit_temperature


def drawn(n, factor, seed=0):
    """Labels drawn from known probabilities, and the logits of a model that is surer by ``factor``."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 4))
    edges = softmax(logits, 1).cumsum(1)
    return factor * logits, (rng.uniform(size=(n, 1)) > edges).sum(1)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_factor_by_which_the_model_is_too_sure(factor):
    logits, labels = drawn(20_000, factor)
    assert fit_temperature(logits, labels) == pytest.approx(factor, rel=0.04)


def test_soft_labels_are_the_truth_itself():
    logits, _ = drawn(500, 3.0)
    assert fit_temperature(logits, softmax(logits / 3, 1)) == pytest.approx(3.0, rel=0.01)


def test_the_shift_of_a_row_of_logits_changes_nothing():
    logits, labels = drawn(2000, 2.0)
    assert fit_temperature(logits, labels) == pytest.approx(fit_temperature(log_softmax(logits + 9, 1), labels))


def test_few_rows_do_not_run_away():
    assert 0.2 < fit_temperature([[2.0, -2.0]], [0]) < 1.0, "one right label does not make certainty"
    assert fit_temperature([[0.0, -np.inf]], [0]) > 0


def test_what_makes_no_sense_is_refused():
    with pytest.raises(DeepfieldError, match=r"got \(2, 2\) and \(3,\)"):
        fit_temperature([[0.0, 0.0]] * 2, [0, 1, 0])
    with pytest.raises(DeepfieldError, match="one row at least"):
        fit_scale(lambda s: s, rows=0)
