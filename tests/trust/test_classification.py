import numpy as np
import pytest
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import f1_score
from sklearn.metrics import log_loss as sklearn_log_loss

from deepfield.core.errors import DeepfieldError
from deepfield.trust import classification as cl
from deepfield.trust.metrics import classification_calibration_error


def drawn(n=3000, classes=4, seed=0, sharp=2.0):
    rng = np.random.default_rng(seed)
    logits = sharp * rng.normal(size=(n, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    label = (rng.uniform(size=(n, 1)) > p.cumsum(1)).sum(1)
    return p, label


def test_agreement_with_scikit_learn():
    p, label = drawn()
    chosen = p.argmax(1)
    counts = cl.confusion_matrix(label, chosen, 4)
    assert np.array_equal(counts, sklearn_confusion(label, chosen))
    assert np.allclose(cl.f1(counts), f1_score(label, chosen, average=None))
    assert cl.macro_f1(counts) == pytest.approx(f1_score(label, chosen, average="macro"))
    assert cl.log_loss(p, np.eye(4)[label]).mean() == pytest.approx(sklearn_log_loss(label, p))


def test_many_confusions_at_once():
    p, label = drawn(60)
    stacked = cl.confusion_matrix(np.stack([label, label[::-1]]), np.stack([p.argmax(1)] * 2), 4)
    assert np.array_equal(stacked[0], cl.confusion_matrix(label, p.argmax(1), 4)) and stacked.shape == (2, 4, 4)
    assert np.isnan(cl.f1([[2, 0], [0, 0]])[1]) and cl.macro_f1([[2, 0], [0, 0]]) == 1.0


def test_soft_labels_and_rows_without_a_truth():
    p, share, known = cl.checked([[0.5, 0.5], [np.nan, np.nan], [0.9, 0.1]], [[3, 1], [1, 0], [0, 0]])
    assert np.isnan(share[2]).all() and np.isnan(cl.checked([[0.5, 0.5]], [-1])[1]).all()
    assert share[0].tolist() == [0.75, 0.25] and known.tolist() == [True, False, False]
    assert cl.log_loss(p, share)[0] == pytest.approx(np.log(2))


def test_a_calibrated_model_lies_within_its_floor_and_another_does_not():
    p, label = drawn(800, seed=1)
    mean, spread = cl.calibration_floor(p, seed=2)
    assert abs(classification_calibration_error(p, label) - mean) < 4 * spread and mean > 0.01
    sharper = p**3 / (p**3).sum(1, keepdims=True)
    mean, spread = cl.calibration_floor(sharper)
    assert classification_calibration_error(sharper, label) > mean + 10 * spread


def test_reliability_is_the_diagonal_for_a_calibrated_model():
    p, label = drawn(20_000, seed=3)
    r = cl.reliability(p[:, 0], label == 0)
    off = np.abs(np.subtract(r["observed"], r["predicted"])) / np.array(r["error"])
    assert off.max() < 4 and sum(r["n"]) == 20_000
    wide = cl.reliability(p[:, 0], label == 0, variance=4 * p[:, 0] * (1 - p[:, 0]))
    assert np.allclose(wide["error"], 2 * np.array(r["error"])) and wide["observed"] == r["observed"]
    weighted = cl.reliability([0.2, 0.25, np.nan], [0.0, 1.0, 1.0], [1, 3, 5])
    assert weighted["observed"] == [0.0, 1.0] or weighted["observed"] == [0.75]


@pytest.mark.parametrize(
    ("p", "label", "said"),
    [
        ([0.5, 0.5], [1], "two classes or more"),
        ([[0.5, 0.4]], [1], "sum to one"),
        ([[0.5, 0.5]], [2], "labels are numbers from 0 to 1"),
        ([[0.5, 0.5]], [0.5], "labels are numbers"),
        ([[0.5, 0.5]], [1, 0], "do not fit labels of shape"),
    ],
)
def test_input_that_does_not_fit(p, label, said):
    with pytest.raises(DeepfieldError, match=said):
        cl.checked(p, label)
