"""Metrics: by hand, against closed forms, and what cannot be scored."""

import importlib

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from scipy.stats import norm

from deepfield import lensing
from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.lensing.measurement import Measurement
from deepfield.lensing.parameters import decode, encode

sc = importlib.import_module("deepfield.lensing.score")


def two_gaussians(n=20_000, apart=2.0, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    return rng.normal(apart * y, 1.0), y


def test_the_area_and_rates_of_two_gaussians():
    s, y = two_gaussians()
    assert sc.auroc(s, y) == pytest.approx(ndtr(2 / np.sqrt(2)), abs=4e-3)
    assert sc.recall_at(s, y, 0.01) == pytest.approx(ndtr(2 - norm.ppf(0.99)), abs=0.02)
    false, true = sc.roc(s, y)
    assert np.trapezoid(true, false) == pytest.approx(sc.auroc(s, y), abs=1e-9)
    assert false[0] == true[0] == 0 and false[-1] == true[-1] == 1


def test_false_positives_by_hand():
    s, y = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], [1, 1, 0, 1, 0, 0]
    assert sc.tpr_at(s, y, 0) == pytest.approx(2 / 3) and sc.tpr_at(s, y, 1) == 1
    assert sc.tpr_at(s, y, 99) == 1
    ties = [0.5] * 4
    assert sc.auroc(ties, [1, 0, 1, 0]) == 0.5 and sc.tpr_at(ties, [1, 0, 1, 0], 0) == 0
    found = sc.false_positives(s, y, 0.65, galaxies=3e6)
    assert found.value == pytest.approx(1e6)
    assert sc.false_positives(s, y, 0.95, galaxies=30).error == pytest.approx(10), "none of three seen"


def test_probabilities_that_are_right_score_so():
    rng = np.random.default_rng(1)
    p = rng.beta(0.5, 0.5, 20_000)
    y = (rng.uniform(size=len(p)) < p).astype(int)
    theta = np.where(y == 1, rng.uniform(0.5, 2, len(p)), np.nan)
    found = sc.score(np.append(p, np.nan), np.append(y, 1), theta_e=np.append(theta, 1.0), repeats=20)
    assert found.n == 20_000 and found.n_missing == 1
    assert abs(found.calibration_error - found.calibration_floor) < 0.005
    assert found.log_loss == pytest.approx(float(-(p * np.log(p) + (1 - p) * np.log1p(-p)).mean()), abs=0.01)
    assert sum(found.curves["completeness"]["theta_e"]["n"]) == int(y.sum())
    sure = sc.score(np.clip(2 * p - 0.5, 0.001, 0.999), y, repeats=5)
    assert sure.calibration_error > 0.05
    assert "auroc" in str(found) and found.to_dict()["metrics"]["auroc"]["error"] > 0
    with pytest.raises(AttributeError, match="a score has no 'f1'"):
        _ = found.f1


def test_completeness():
    x = np.linspace(0, 1, 400)
    told = sc.completeness(x > 0.5, x, [0.0, 0.25, 0.5, 0.75, 1.01])
    assert told["share"] == [0, 0, 1, 1] and told["n"] == [100] * 4
    assert all(0 <= a <= b <= 1 for a, b in zip(told["lo68"], told["hi68"]))
    assert told["hi68"][0] == pytest.approx(1 / 101), "Wilson (1927), none of 100 at one sigma"
    assert len(sc.completeness(x > 0.5, x, 5)["n"]) == 5
    with pytest.raises(DeepfieldError, match="no lens has a number"):
        sc.completeness([True], [np.nan])


def test_agreement_with_grades():
    rng = np.random.default_rng(2)
    grade = rng.choice([0.3, 1.0, 2.0, 3.0], 500)
    found = sc.agreement(grade + rng.normal(0, 0.5, 500), grade)
    assert found["spearman"].value > 0.8 > found["kendall"].value > 0.6 and 0 < found["spearman"].error < 0.05
    nothing = sc.agreement(rng.normal(size=500), grade)["spearman"]
    assert abs(nothing.value) < 4 * nothing.error
    with pytest.raises(DeepfieldError, match="too few"):
        sc.agreement([0.1, 0.2], [1.0, 2.0])


def test_what_cannot_be_scored():
    for scores, label, message in (
        ([0.1, 0.2], [1], "a score and a label for each image"),
        ([0.1, 0.2], [1, 1], "all lenses, or none is"),
        ([0.1, 0.2], [0, 2], "labels 0 or 1"),
        ([0.1, np.nan], [0, 1], "scores are numbers"),
    ):
        with pytest.raises(DeepfieldError, match=message):
            sc.auroc(scores, label)


class Exact(Measurement):
    """Samples around a truth that is itself a draw of the same law: calibrated by construction."""

    def __init__(self, model, n, width=1.0, seed=0):
        super().__init__(model, torch.zeros(n, 1), np.full(n, ""), samples=300)
        g = torch.Generator().manual_seed(seed)
        middle = torch.tensor([0.0, 0.2, 0.1, 0.05, 0.02, 0.0, 0.0]) + 0.02 * torch.randn(n, 7, generator=g)
        spread = torch.tensor([0.02, 0.03, 0.03, 0.01, 0.01, 0.05, 0.05])
        self.__dict__["coordinates"] = middle + width * spread * torch.randn(300, n, 7, generator=g)
        drawn = decode(middle + spread * torch.randn(n, 7, generator=g))
        self.truth = Table(drawn)


def test_measurements_that_are_right_cover(measurer):
    import copy

    plain = copy.copy(measurer)
    plain.pit_maps = {}
    exact = Exact(plain, 2000)
    found = sc.score_measurement(exact, exact.truth, repeats=20)
    low, high = found.curves["bands"]["coverage_683"]
    for name in ("theta_e", "q", "shear", "phi", "source_x"):
        assert low - 0.015 < found.metrics[f"{name}_coverage_683"].value < high + 0.015, name
        assert abs(found.metrics[f"{name}_coverage_955"].value - 0.955) < 0.02, name
    assert abs(found.theta_e_bias) < 0.002 and found.theta_e_scatter == pytest.approx(0.02, rel=0.1)
    narrow = Exact(plain, 2000, width=0.5)
    assert sc.score_measurement(narrow, narrow.truth, repeats=5).theta_e_coverage_683 < 0.5


def test_a_measurement_with_broken_rows(measurer, lenses):
    images = lenses(50, seed=40, lens_fraction=1.0)
    found = lensing.measure(measurer, images, samples=100)
    features = found.features.clone()
    features[:5] = torch.nan
    told = sc.score_measurement(
        Measurement(measurer, features, found.reasons, samples=100), images.table, repeats=5
    )
    assert told.n == 45 and told.n_missing == 5
    with pytest.raises(DeepfieldError, match="no lens has both"):
        sc.score_measurement(Measurement(measurer, features[:5], found.reasons[:5]), images.table[:5])
    assert len(encode(images.table)) == 50
    assert "theta_e_bias" in sc.compare({"one": told}, ["theta_e_bias"])


def test_a_file_is_ranked_by_its_log_odds(tmp_path):
    odds = np.array([25.0, 24.0, 23.0, 22.0, -3.0], np.float32)
    columns = {"object_id": np.arange(5), "probability": (1 / (1 + np.exp(-odds))).astype(np.float32)}
    Table({**columns, "log_odds": odds}).write(tmp_path / "found.csv")
    Table({"id": np.arange(5), "is_lens": [1, 1, 0, 0, 0]}).write(tmp_path / "truth.csv")
    assert (columns["probability"][:4] == 1).all()
    assert sc.score_file(tmp_path / "found.csv", tmp_path / "truth.csv")["finding"].auroc == 1
