"""The model: its settings, its features, its rebuilding from a description."""

import numpy as np
import pytest
import torch

from deepfield.core.table import Table
from deepfield.photoz.model import PhotometryFeatures, PhotozConfig, PhotozModel, build, encode, parts
from deepfield.physics.photometry import asinh_magnitude

BAD = {
    "estimator 'tarot' is not one of mixture, flow, point": {"estimator": "tarot"},
    "members lies between 1": {"members": 0},
    "components lies between 1": {"components": 0},
    "width lies between 1": {"width": -8},
    "batch lies between 1": {"batch": 0},
    "epochs lies between 0": {"epochs": -1},
    "seed lies between 0": {"seed": -1},
    "dropout lies between 0": {"dropout": 1.5},
    "learning_rate lies between": {"learning_rate": float("nan")},
    "weight_decay lies between": {"weight_decay": -0.1},
    "must leave some to train on": {"validation": 0.5, "calibration": 0.5},
    "are shares of the rows": {"validation": 0.0},
    "classes need the estimator 'mixture'": {"classes": "class", "estimator": "flow"},
    "a band is named twice: r, r": {"bands": ("r", "r")},
}


@pytest.mark.parametrize("message", BAD)
def test_settings_are_checked_when_they_are_made(message):
    with pytest.raises(ValueError, match=message):
        PhotozConfig(**BAD[message])


def test_bands_as_the_command_line_says_them():
    assert PhotozConfig(bands=("u,g", "r")).bands == ("u", "g", "r")


def test_features_are_asinh_magnitudes_colours_and_log_errors():
    rng = np.random.default_rng(0)
    flux = rng.normal(100, 80, (50, 3)).astype(np.float32)  # some negative
    error = rng.uniform(5, 20, (50, 3)).astype(np.float32)
    features = PhotometryFeatures(3).fit(torch.from_numpy(np.concatenate([flux, error], 1)))
    found = features(torch.from_numpy(np.concatenate([flux, error], 1))).numpy()
    soft = features.softening.numpy()
    assert np.allclose(soft, 1.042 * np.quantile(error, 0.25, axis=0), rtol=1e-5)
    # Lupton, Gunn & Szalay, but for the zero point of one nJy
    expected = np.stack([asinh_magnitude(flux[:, b], soft[b]) - 31.4 for b in range(3)], 1)
    assert np.allclose(found[:, :3], expected, atol=1e-4)
    colours = [expected[:, 0] - expected[:, 1], expected[:, 0] - expected[:, 2], expected[:, 1] - expected[:, 2]]
    assert np.allclose(found[:, 3:6], np.stack(colours, 1), atol=1e-4)
    assert np.allclose(found[:, 6:], np.log(error / np.sqrt(flux**2 + 4 * soft**2)), atol=1e-4)
    assert np.isfinite(found).all()


def test_features_of_gaps_and_non_detections():
    x = torch.tensor([[10.0, 20.0, 1.0, 2.0], [10.0, np.nan, 1.0, np.nan], [10.0, 0.0, 1.0, np.nan]])
    features = PhotometryFeatures(2).fit(x)
    found = features(x)
    assert found[0].isfinite().all()
    # magnitude g, magnitude r, colour, error g, error r: what needs r is missing, and nothing else
    assert found[1].isnan().tolist() == [False, True, True, False, True]
    # no detection and no limit: the limit of the survey, so that the row can be served
    assert found[2].isfinite().all()
    assert float(features.limit[1]) == 2.0


def test_a_catalogue_without_errors_has_brightness_alone(toy):
    table = toy(50)
    table.remove_columns([name for name in table.colnames if name.startswith("mag_err")])
    x = encode(table, ("g", "r", "i"))
    found = PhotometryFeatures(3).fit(x)(x)
    assert found[:, :6].isfinite().all() and found[:, 6:].isnan().all()
    # softened so little that the magnitudes are Pogson's, to the zero point of one nJy
    assert np.allclose(found[:, 0].numpy() + 31.4, table.column("mag_g"), atol=1e-3)


def test_members_differ_and_the_seed_decides():
    config = PhotozConfig(bands=("g", "r"), members=2, width=8)
    one, two = (build(config).state_dict() for _ in range(2))
    assert all(torch.equal(one[k], two[k]) for k in one)
    first, second = ("net.1.nets.0.embed.weight", "net.1.nets.1.embed.weight")
    assert not torch.equal(one[first], one[second])
    features, core = parts(build(config))
    assert features.n_bands == 2 and len(core.net.nets) == 2


def test_description_and_back(model):
    again = PhotozModel.rebuild(model.describe(), model.card)
    assert again.config == model.config and again.reference == "i" and again.missing == ()
    assert again.conformal.to_dict() == model.conformal.to_dict()
    assert [tuple(t.shape) for t in again.model.state_dict().values()] == [
        tuple(t.shape) for t in model.model.state_dict().values()
    ]


def test_save_and_load_give_identical_predictions(model, toy, tmp_path):
    table = toy(60, 3)
    model.save(tmp_path / "m")
    before, after = (m.predict_raw(m.encode(table))[0] for m in (model, PhotozModel.load(tmp_path / "m")))
    assert np.array_equal(before.features, after.features)
    assert np.array_equal(before.interval(0.9), after.interval(0.9))


def test_reasons(model):
    x = encode(_three(model), model.bands)
    x[1, 1] = np.nan  # r not observed
    x[2, :3] = np.nan  # nothing observed
    x[3, 4] = np.nan  # r observed, its error unknown
    x[4, 0] = np.inf
    x[5, 5] = -1.0
    x[6, 1], x[6, 4] = 0.0, np.nan  # not detected in r, without a limit: served
    texts = [model.reason_texts[code] for code in model.reasons(x)]
    assert texts[0] == "" and texts[6] == ""
    assert texts[1] == texts[3] == "r or its error is missing, and the training data always had it"
    assert texts[2] == "no band is measured"
    assert texts[4] == "flux or error of g is absurd" and texts[5] == "flux or error of i is absurd"
    served, why = model.predict_raw(x)
    assert np.array_equal(np.isnan(served.mean), why != 0)


def _three(model):
    return Table(
        {f"mag_{b}": np.full(7, 20.0) for b in model.bands} | {f"mag_err_{b}": [0.02] * 7 for b in model.bands}
    )
