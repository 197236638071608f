import json

import numpy as np
import pytest
import torch
from scipy.stats import betabinom, kstest

from deepfield.core.errors import DeepfieldError
from deepfield.core.heads import Bernoulli, Categorical, Ensemble, GaussianMixture
from deepfield.core.prediction import Prediction
from deepfield.core.votes import Votes
from deepfield.morphology.opinions import draw_votes, opinions
from deepfield.morphology.score import compare, concentrations, score, score_votes, vote_pit
from deepfield.morphology.simulate import draw, surveys
from deepfield.morphology.trees import classes, tree


def posterior(n=1500, seed=0, name="decals5"):
    t = tree(name)
    rng = np.random.default_rng(seed)
    a = opinions(draw(n, rng, surveys()["sdss"]), t)
    return t, a, draw_votes(rng, a, t, 40)


def test_classes_by_hand():
    p = [[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.2, 0.2, 0.6], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1], [np.nan] * 3]
    s = score(p, [0, 1, 2, 1, -1, 0], classes=("E", "S", "M"))
    assert (s.n, s.n_missing, s.n_without_truth) == (4, 1, 1)
    assert s.confusion == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert s.accuracy == 0.75
    assert s.log_loss == pytest.approx(-np.log([0.8, 0.6, 0.6, 0.2]).mean())
    assert s.macro_f1 == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert s.per_class["S"]["recall"] == 0.5 and s.per_class["E"]["precision"] == 0.5
    assert json.loads(json.dumps(s.to_dict()))["metrics"]["accuracy"]["value"] == 0.75
    assert "accuracy" in str(s) and "0.75" in compare({"mine": s})
    with pytest.raises(AttributeError, match="a score has no 'auc'; its metrics are accuracy"):
        s.auc  # noqa: B018


@pytest.mark.parametrize("soft", [False, True])
def test_every_object_is_counted_once(soft):
    p = [[0.8, 0.2], [np.nan] * 2, [0.5, 0.5], [np.nan] * 2, [np.nan] * 2]
    label = np.array([0, 1, -1, -1, -1])
    s = score(p, np.array([[1, 0], [0, 4], [0, 0]])[label] if soft else label)
    assert (s.n, s.n_missing, s.n_without_truth) == (1, 1, 3), "missing: those with a truth and no prediction"


def test_errors_are_those_of_the_sampling():
    rng = np.random.default_rng(1)
    values = []
    for k in range(40):
        logits = rng.normal(size=(500, 3))
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        label = (rng.uniform(size=(500, 1)) > p.cumsum(1)).sum(1)
        s = score(p, label, repeats=100, seed=k)
        values.append([s.accuracy, s.macro_f1, s.metrics["accuracy"].error, s.metrics["macro_f1"].error])
    accuracy, f1, error, f1_error = np.transpose(values)
    assert error.mean() == pytest.approx(accuracy.std(ddof=1), rel=0.3)
    assert f1_error.mean() == pytest.approx(f1.std(ddof=1), rel=0.3)
    assert abs(s.calibration_error - s.calibration_floor) < 4 * s.metrics["calibration_floor"].error


def test_predictions_of_every_kind_are_scored():
    features = torch.tensor([[2.0, 0.0], [0.0, 2.0], [torch.nan, 0.0]])
    s = score(Prediction(Categorical(2), features), [0, 1, 1])
    assert s.n == 2 and s.accuracy == 1.0 and s.n_missing == 1
    both = Ensemble([Categorical(2), Categorical(2)])
    assert score(Prediction(both, torch.cat([features, features], 1)), [1, 0, 0]).accuracy == 0.0
    assert score(Prediction(Bernoulli(), torch.tensor([[3.0], [-3.0]])), [1, 0]).accuracy == 1.0
    with pytest.raises(DeepfieldError, match="of something else"):
        score(Prediction(GaussianMixture(2), torch.zeros(2, 6)), [0, 1])
    with pytest.raises(DeepfieldError, match="of votes: give tree="):
        score(Prediction(Votes([2, 2]), torch.zeros(2, 4)), np.ones((2, 4)))


def test_the_true_posterior_covers_at_its_level_for_every_question():
    t, a, k = posterior()
    s = score_votes(a, k, t)
    assert set(s.questions) == {q.name for q in t.questions} and set(s.reliability) == set(t.columns)
    for name, found in s.questions.items():
        for level, target in (("coverage_683", 0.683), ("coverage_955", 0.955)):
            assert abs(float(found[level]) - target) < 5 * found[level].error + 1e-3, name
        assert float(found["rmse"]) > float(found["rmse_floor"])
        assert found["confident_accuracy"].value > found["accuracy"].value
    for curve in s.reliability.values():
        off = np.subtract(curve["predicted"], curve["observed"]) / np.array(curve["error"])
        assert np.abs(off).max() < 5
    assert score_votes(3 * a, k, t).log_prob < s.log_prob > score_votes(a / 3, k, t).log_prob
    overconfident = score_votes(5 * a, k, t).questions["bar"]
    assert float(overconfident["coverage_683"]) < 0.6


def test_rmse_of_the_exact_fractions_is_its_floor():
    t, a, _ = posterior(2000)
    sure = 1e6 * a
    k = draw_votes(np.random.default_rng(2), sure, t, 40)
    for name, found in score_votes(sure, k, t).questions.items():
        error = np.hypot(found["rmse"].error, found["rmse_floor"].error)
        assert abs(float(found["rmse"]) - float(found["rmse_floor"])) < 4 * error < 0.02, name


def test_rmse_floor_of_wide_fractions_is_that_of_the_exact_ones():
    rng = np.random.default_rng(6)
    f = rng.beta(0.3, 0.7, 20_000)
    k = rng.binomial(40, f)
    votes, a = np.stack([k, 40 - k], 1), np.tile([0.3, 0.7], (20_000, 1))
    exact = np.sqrt(np.mean((k / 40 - f) ** 2))
    assert exact == pytest.approx(np.sqrt(0.3 * 0.7 / (1 * 2) / 40), rel=0.02)  # a b / ((a + b) (a + b + 1)) / n
    floor = score_votes(a, votes, classes(["yes", "no"])).questions["class"]["rmse_floor"]
    assert float(floor) == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("members", [1, 2])
def test_reliability_of_the_true_posterior_is_off_by_its_error(members):
    t, z = classes(["yes", "no"]), []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mean, total = rng.uniform(size=(members, 1000)), rng.uniform(1, 20, size=(members, 1000))
        a = np.stack([mean * total, (1 - mean) * total], -1)
        own = a[rng.integers(0, members, 1000), np.arange(1000)]
        n = rng.integers(5, 60, 1000)
        k = rng.binomial(n, rng.beta(own[:, 0], own[:, 1]))
        curve = score_votes(a, np.stack([k, n - k], 1), t, repeats=2).reliability["class_yes"]
        z.extend(np.subtract(curve["observed"], curve["predicted"]) / np.array(curve["error"]))
    assert len(z) > 350 and np.std(z) == pytest.approx(1, abs=0.12), "three times 1 / sqrt(2 * 400)"
    assert abs(np.mean(z)) < 4 / np.sqrt(len(z))


def test_pit_of_votes_is_that_of_scipy_and_uniform_for_a_mixture():
    rng = np.random.default_rng(3)
    a = np.stack([rng.uniform(0.5, 5, size=(3000, 2)), rng.uniform(5, 20, size=(3000, 2))])
    member = rng.integers(0, 2, 3000)
    f = rng.beta(a[member, np.arange(3000), 0], a[member, np.arange(3000), 1])
    n = rng.integers(0, 40, 3000)
    k = rng.binomial(n, f)
    u = vote_pit(a, np.stack([k, n - k], 1), [2], seed=4)
    assert np.isnan(u[n == 0]).all() and kstest(u[n > 0, 0], "uniform").pvalue > 1e-3
    low = np.mean([betabinom(n, *m.T).cdf(k - 1) for m in a], axis=0)
    high = np.mean([betabinom(n, *m.T).cdf(k) for m in a], axis=0)
    inside = (u[:, 0] >= low - 1e-9) & (u[:, 0] <= high + 1e-9)
    assert inside[n > 0].all()


def test_votes_through_a_prediction_with_broken_rows():
    t = classes(["a", "b", "c"])
    head = Ensemble([Votes([3]), Votes([3])])
    features = torch.zeros(4, 6)
    features[1] = torch.nan
    prediction = Prediction(head, features)
    assert concentrations(prediction).shape == (2, 4, 3)
    votes = np.array([[6, 1, 1], [6, 1, 1], [0, 0, 0], [0, 2, 1]])
    s = score(prediction, votes, tree=t)
    assert (s.n, s.n_missing, s.n_without_truth) == (2, 1, 1)
    assert s.questions["class"]["accuracy"].value == 1.0  # of the one object with five votes or more
    assert "class" in score(prediction, votes, tree=t, least=1).to_dict()["questions"]
    assert score(prediction, votes, tree=t, least=100).questions == {}
    with pytest.raises(DeepfieldError, match="none of the 4 objects has both a prediction and a vote"):
        score(prediction, 0 * votes, tree=t)
    with pytest.raises(DeepfieldError, match="over the 3 answers of tree 'classes' do not fit"):
        score(prediction, votes[:3], tree=t)


def test_labels_that_do_not_fit():
    with pytest.raises(DeepfieldError, match="1 names for 2 classes: a"):
        score([[0.5, 0.5]], [0], classes=("a",))
    with pytest.raises(DeepfieldError, match="none of the 1 objects has both"):
        score([[0.5, 0.5]], [-1])
