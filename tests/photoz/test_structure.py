"""A small field with walls in redshift: found, followed, saved, exported, and left alone where not wanted."""

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepfield import photoz
from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.core.table import Table
from deepfield.core.warp import Warped
from deepfield.photoz.predict import export, predict_file

WALLS = np.array([0.22, 0.35, 0.37, 0.52, 0.7])
SCATTER = 0.04
SETTINGS = {
    "structure": "auto",
    "members": 2,
    "width": 16,
    "components": 2,
    "epochs": 15,
    "batch": 128,
    "progress": False,
}


def field(n, seed=0):
    """Redshifts half in walls; a colour that tells the redshift with a Gaussian error of SCATTER."""
    rng = np.random.default_rng(seed)
    wall = rng.random(n) < 0.5
    z = np.where(wall, rng.choice(WALLS, n) + 0.001 * rng.normal(size=n), rng.uniform(0.1, 0.9, n))
    colour, i = (z + SCATTER * rng.normal(size=n)) / 0.4, rng.uniform(18, 22, n)
    table = Table({"id": np.arange(n), "z_spec": z})
    for band, mag in zip("gri", (i + 0.5 + colour, i + 0.5, i)):
        table[f"mag_{band}"], table[f"mag_err_{band}"] = mag, np.full(n, 0.002)
    return table


def truth(table, grid):
    """The best densities there are (N, G): the likelihood of the colour times the density of the redshifts."""
    colour = 0.4 * (table.column("mag_g") - table.column("mag_r"))
    likelihood = np.exp(-0.5 * ((colour[:, None] - grid) / SCATTER) ** 2)
    walls = np.exp(-0.5 * ((grid[:, None] - WALLS) / 0.001) ** 2).sum(1) / (0.001 * np.sqrt(2 * np.pi)) * 0.1
    p = likelihood * (walls + 0.5 / 0.8 * ((grid > 0.1) & (grid < 0.9)))
    return p / np.trapezoid(p, grid, axis=1)[:, None]


@pytest.fixture(scope="module")
def model():
    return photoz.train(field(3000), **SETTINGS)


@pytest.fixture(scope="module")
def fresh():
    return field(800, 1)


def test_densities_have_the_walls_and_come_near_the_best_possible(model, fresh):
    z = fresh.column("z_spec")
    plain = photoz.train(field(3000), **{**SETTINGS, "structure": "off"})
    assert isinstance(model.model.head, Warped) and not isinstance(plain.model.head, Warped)
    grid = np.linspace(0, 1, 20_001)
    best = np.array([np.interp(zi, grid, p) for zi, p in zip(z, truth(fresh, grid))])
    score = {name: photoz.predict(m, fresh).log_prob(z).mean() for name, m in (("walls", model), ("off", plain))}
    assert score["walls"] > score["off"] + 0.25
    assert score["walls"] > np.log(best).mean() - 0.25


def test_intervals_cover(model, fresh):
    pz, z = photoz.predict(model, fresh), fresh.column("z_spec")
    n_cal = model.card["split"]["calibration"]
    for level in (0.683, 0.955):
        low, high = pz.interval(level)
        error = np.sqrt(level * (1 - level) * (1 / n_cal + 1 / len(z)))
        assert abs(((z >= low) & (z <= high)).mean() - level) < 4 * error


def test_the_user_is_told(model, fresh, caplog):
    quick = {**SETTINGS, "members": 1, "epochs": 1}
    with caplog.at_level(logging.WARNING, "deepfield"):
        photoz.train(field(1500), **quick)
        assert "right for objects of the same field alone" in caplog.text
        caplog.clear()
        off = photoz.train(field(1500), **{**quick, "structure": "off"})
        assert "structure='auto' gains about 0." in caplog.text
        caplog.clear()
        photoz.predict(off, fresh)
        assert not caplog.text
        photoz.predict(model, fresh)
        assert "structure of its training field" in caplog.text


def test_saved_and_loaded_it_is_the_same(model, fresh, tmp_path):
    model.save(tmp_path / "m")
    again = photoz.PhotozModel.load(tmp_path / "m")
    z = fresh.column("z_spec")
    np.testing.assert_allclose(
        photoz.predict(again, fresh).log_prob(z), photoz.predict(model, fresh).log_prob(z), rtol=1e-6
    )


def test_files_and_onnx_say_the_same(model, fresh, tmp_path):
    model.save(tmp_path / "m")
    fresh.write(tmp_path / "c.parquet")
    export(model, tmp_path / "m.onnx")
    predict_file(tmp_path / "m", tmp_path / "c.parquet", tmp_path / "a.parquet", progress=False)
    predict_file(
        tmp_path / "m.onnx", tmp_path / "c.parquet", tmp_path / "b.parquet", engine="onnx", progress=False
    )
    z, here = fresh.column("z_spec"), photoz.predict(model, fresh)
    for name in ("a", "b"):
        path = tmp_path / f"{name}.parquet"
        np.testing.assert_allclose(Prediction.read(path).cdf(z), here.cdf(z), atol=2e-4)
        np.testing.assert_allclose(pq.read_table(path)["zmedian"], here.median, atol=2e-4)


def test_qp_has_the_walls_too(model, fresh, tmp_path):
    qp = pytest.importorskip("qp")
    model.save(tmp_path / "m")
    fresh.write(tmp_path / "c.parquet")
    predict_file(tmp_path / "m", tmp_path / "c.parquet", tmp_path / "a.hdf5", progress=False)
    ensemble, here = qp.read(str(tmp_path / "a.hdf5")), photoz.predict(model, fresh)
    np.testing.assert_allclose(np.squeeze(ensemble.ppf(0.5)), here.median, atol=3e-3)


def test_classes_have_no_map():
    table = field(800)
    table["class"] = np.where(np.arange(800) % 2, "GALAXY", "QSO")
    model = photoz.train(table, classes="class", **{**SETTINGS, "members": 1, "epochs": 1})
    assert not isinstance(model.model.head, Warped)


def test_another_word_is_refused():
    with pytest.raises(DeepfieldError, match="structure is 'auto' or 'off', not 'on'"):
        photoz.PhotozConfig(structure="on")
