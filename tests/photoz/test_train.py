"""Training: every estimator, gaps, classes, calibration, distillation, and a toy whose densities are known."""

from dataclasses import asdict

import numpy as np
import pytest
import torch

from deepfield import photoz
from deepfield.core.errors import DeepfieldError, ModelError, TableError
from deepfield.core.heads import Ensemble
from deepfield.core.store import checkpoints
from deepfield.photoz.model import PhotozConfig, PhotozModel
from deepfield.photoz.train import fit, quickly, train, train_to_folder


@pytest.fixture(scope="module")
def fitted(toy):
    """Large enough to learn from: the density is N(0.1 + 0.4 (g - r), 0.05)."""
    return train(toy(2500), members=1, width=16, components=2, epochs=20, batch=128, progress=False)


def test_a_known_density_is_found(fitted, toy):
    table = toy(2000, 9)
    pz, z = photoz.predict(fitted, table), table.column("z_spec")
    truth = 0.1 + 0.4 * (table.column("mag_g") - table.column("mag_r"))
    assert np.median(np.abs(pz.mean - truth)) < 0.02
    assert abs(np.median(pz.std) - 0.05) < 0.012
    entropy = 0.5 * np.log(2 * np.pi * np.e * 0.05**2)
    assert -pz.log_prob(z).mean() < entropy + 0.12


def test_intervals_cover_at_their_level(fitted, toy):
    table = toy(2000, 10)
    pz, z = photoz.predict(fitted, table), table.column("z_spec")
    n_cal = fitted.card["split"]["calibration"]
    assert n_cal == 375 and fitted.conformal is not None
    for level in (0.683, 0.955):
        low, high = pz.interval(level)
        error = np.sqrt(level * (1 - level) * (1 / n_cal + 1 / 2000))
        assert abs(((z >= low) & (z <= high)).mean() - level) < 4.5 * error


def test_the_card_says_what_was_done(fitted):
    card = fitted.card
    assert card["data"]["rows"] == card["data"]["used"] == 2500 and len(card["data"]["sha256"]) == 64
    assert card["split"] == {"train": 1875, "validation": 250, "calibration": 375, "seed": 0}
    assert len(card["history"]["members"]["train"]) <= 20
    assert card["versions"]["deepfield"] and card["validation_nll"]["members"] < 0


@pytest.mark.parametrize("estimator", ["flow", "point"])
def test_other_estimators(estimator, toy, tiny):
    model = train(toy(400), PhotozConfig(**tiny, estimator=estimator), progress=False)
    table = toy(40, 5)
    pz = photoz.predict(model, table)
    grid = np.linspace(-2, 4, 4001)
    assert np.allclose(np.trapezoid(pz.pdf(grid), grid, axis=1), 1, atol=2e-3)
    assert np.allclose(pz.cdf(pz.median), 0.5, atol=1e-3)
    if estimator == "point":
        assert np.ptp(pz.std) < 1e-6


def test_gaps_seen_in_training_are_served_and_others_are_not(toy, tiny):
    table = toy(400)
    table["mag_g"][::5] = np.nan
    table["mag_r"][::7] = np.inf  # not detected
    model = train(table, PhotozConfig(**tiny), progress=False)
    assert model.missing == ("g",)
    new = toy(5, 2)
    new["mag_g"][0], new["mag_i"][1], new["mag_r"][2] = np.nan, np.nan, np.inf
    prediction, why = model.predict_raw(model.encode(new))
    assert why.astype(bool).tolist() == [False, True, False, False, False]
    assert np.isnan(prediction.mean).tolist() == [False, True, False, False, False]
    assert model.reason_texts[why[1]].startswith("i or its error is missing")


def test_without_errors(toy, tiny):
    def bare(n, seed):
        table = toy(n, seed)
        table.remove_columns([name for name in table.colnames if name.startswith("mag_err")])
        return table

    model = train(bare(400, 0), PhotozConfig(**tiny), progress=False)
    assert np.isfinite(photoz.predict(model, bare(30, 1)).mean).all()
    assert np.isfinite(photoz.predict(model, toy(30, 1)).mean).all(), "nor do errors harm a model without them"


def test_classes_are_told_apart_and_have_their_own_densities(toy):
    galaxies, quasars = toy(700), toy(700, 1)
    quasars["mag_g"] = quasars["mag_g"] - 2.5  # bluer than any galaxy
    quasars["z_spec"] = np.random.default_rng(2).normal(2.0, 0.2, 700)
    table = galaxies.copy()
    for name in table.colnames:
        table[name] = np.where(np.arange(700) % 2, galaxies[name], quasars[name])
    table["class"] = np.where(np.arange(700) % 2, "GALAXY", "QSO")
    model = train(table, classes="class", members=2, distil=False, width=16, components=2, epochs=12, batch=64,
                  progress=False)  # fmt: skip
    assert model.labels == ("GALAXY", "QSO")
    pz = photoz.predict(model, table)
    shares = photoz.class_probabilities(model, pz)
    assert shares.shape == (700, 2) and np.allclose(shares.sum(1), 1, atol=1e-5)
    assert (shares.argmax(1) == (table["class"] == "QSO")).mean() > 0.97
    near, far = (photoz.density_of_class(model, pz, label) for label in model.labels)
    assert abs(np.median(far.mean[::2]) - 2.0) < 0.3 and np.median(near.mean[1::2]) < 1.0
    # the whole is the sum of its parts
    y = table.column("z_spec")
    whole = shares[:, 0] * np.exp(near.log_prob(y)) + shares[:, 1] * np.exp(far.log_prob(y))
    assert np.allclose(whole, np.exp(pz.log_prob(y)), rtol=1e-3, atol=1e-6)
    with pytest.raises(ValueError, match="no class 'STAR'; the model knows: GALAXY, QSO"):
        photoz.density_of_class(model, pz, "STAR")


def test_no_classes_no_class_probabilities(model, toy):
    with pytest.raises(ValueError, match="trained without classes"):
        photoz.class_probabilities(model, photoz.predict(model, toy(3)))


def test_an_ensemble_is_distilled_into_one_net(toy, tiny):
    settings = PhotozConfig(**{**tiny, "members": 2})
    found = fit(toy(400), settings, progress=False)
    assert found.model.members == 1 and isinstance(found.teacher.head, Ensemble)
    assert set(found.model.card["history"]) == set(found.model.card["validation_nll"]) == {"members", "student"}
    x, z = found.held_out
    assert len(x) == len(z) == 40
    whole = fit(toy(400), settings, progress=False, distil=False)
    assert whole.teacher is None and whole.model.members == 2
    for key, value in whole.model.model.state_dict().items():
        assert torch.equal(value, found.teacher.state_dict()[key]), "distillation leaves the ensemble as it was"


def test_the_seed_decides(toy, tiny, model):
    again = train(toy(400), PhotozConfig(**tiny), progress=False)
    other = train(toy(400), PhotozConfig(**tiny, seed=1), progress=False)
    same, different = ([torch.equal(a, b) for a, b in zip(model.model.state_dict().values(),
                        m.model.state_dict().values())] for m in (again, other))  # fmt: skip
    assert all(same) and not all(different)


def test_noise_makes_another_model(toy, tiny, model):
    noisy = train(toy(400), PhotozConfig(**tiny, noise=1.0), progress=False)
    assert not torch.equal(noisy.model.net[1].embed.weight, model.model.net[1].embed.weight)


def test_a_folder_is_written_and_checkpoints_are_gone(toy, tiny, tmp_path):
    train_to_folder(toy(200), tmp_path / "deep" / "m", PhotozConfig(**tiny))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["m"]
    assert PhotozModel.load(tmp_path / "deep" / "m").bands == ("g", "r", "i")


def test_checkpoints_of_another_training_are_refused(toy, tiny, tmp_path):
    with pytest.raises(TableError):  # nothing was learnt: it claims nothing
        train_to_folder(toy(50), tmp_path / "m", PhotozConfig(**tiny))
    train_to_folder(toy(200), tmp_path / "m", PhotozConfig(**tiny))
    job = {"config": asdict(PhotozConfig(**tiny)), "data": toy(200).digest()}
    with pytest.raises(KeyboardInterrupt), checkpoints(tmp_path / "m", job) as left:
        (left / "members.ckpt").touch()
        raise KeyboardInterrupt  # what was learnt stays
    with pytest.raises(ModelError, match="other settings or data"):
        train_to_folder(toy(200), tmp_path / "m", PhotozConfig(**tiny, noise=1.0))


def test_rows_without_redshift_or_photometry_are_left_out_with_a_word(toy, tiny, caplog):
    table = toy(300)
    table["z_spec"][:20] = np.nan
    for band in "gri":
        table[f"mag_{band}"][20:30] = np.nan
    model = train(table, PhotozConfig(**tiny), progress=False)
    assert model.card["data"]["used"] == 270 and "30 rows without a redshift" in caplog.text
    assert model.missing == (), "a row that is left out teaches nothing of gaps"


def test_quickly_is_one_net():
    assert (quickly(PhotozConfig()).members, quickly(PhotozConfig()).distil) == (1, False)


def test_a_path_is_read_and_an_unknown_setting_is_named(toy, tiny, tmp_path):
    toy(200).write(tmp_path / "c.parquet")
    model = train(tmp_path / "c.parquet", PhotozConfig(**tiny), progress=False)
    assert str(model) == "PhotozModel of bands g, r, i: mixture, trained on 150 rows"
    with pytest.raises(DeepfieldError, match="no setting foo; there are bands, target"):
        train(toy(200), foo=1)


def test_redshifts_of_exactly_zero_are_counted_and_no_structure(toy, tiny, caplog):
    table = toy(1500)
    table["z_spec"][:120] = 0.0
    train(table, PhotozConfig(**tiny), progress=False)
    assert "120 redshifts are exactly 0" in caplog.text and "crowd" not in caplog.text


def test_a_model_that_is_replaced_is_named(toy, tiny, tmp_path, caplog):
    train_to_folder(toy(200), tmp_path / "m", PhotozConfig(**tiny))
    assert "is replaced" not in caplog.text
    train_to_folder(toy(200, 1), tmp_path / "m", PhotozConfig(**tiny))
    assert "exists: it is replaced" in caplog.text
