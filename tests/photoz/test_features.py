"""Extinction from training to serving: corrected alike, or the user is told."""

import importlib
import logging

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepfield import photoz
from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data.files import write
from deepfield.photoz.features import CORRECTED, encode, settle_extinction
from deepfield.photoz.predict import predict_file
from deepfield.physics.photometry import extinction

BANDS = ("g", "r", "i")
RAW = "neither marked as corrected"


def corrected(table):
    """The same catalogue, marked as corrected for extinction."""
    table.meta["dereddened"] = True
    return table


def reddened(table, ebv):
    """The catalogue as it would be observed behind dust, with its E(B-V)."""
    table["ebv"] = ebv
    for band in BANDS:
        table[f"mag_{band}"] += extinction(band, table.column("ebv"), survey="sdss")
    return table


@pytest.fixture(scope="module")
def model(toy, tiny):
    """Trained on a catalogue that came corrected."""
    return photoz.train(corrected(toy(400)), **tiny, progress=False)


def test_raw_catalogues_are_corrected_as_the_training_set_was(model, toy, caplog):
    dust = np.random.default_rng(0).uniform(0, 0.5, 80)
    clean = photoz.predict(model, corrected(toy(80, 3)))
    raw = photoz.predict(model, reddened(toy(80, 3), dust))
    assert RAW not in caplog.text
    assert np.allclose(raw.mean, clean.mean, atol=1e-4)
    uncorrected = reddened(toy(80, 3), dust)
    uncorrected.remove_column("ebv")
    assert np.abs(photoz.predict(model, uncorrected).mean - clean.mean).max() > 0.01, "else the test says nothing"


def test_training_on_raw_and_on_corrected_photometry_is_the_same(model, toy, tiny):
    other = photoz.train(reddened(toy(400), np.full(400, 0.3)), **tiny, progress=False)
    assert other.config.extinction == model.config.extinction == "sdss"
    table = corrected(toy(50, 3))
    assert np.allclose(photoz.predict(other, table).mean, photoz.predict(model, table).mean, atol=1e-3)


def test_a_corrected_catalogue_is_not_corrected_again(toy):
    table = corrected(reddened(toy(20), np.full(20, 0.3)))
    assert np.array_equal(encode(table, BANDS, "sdss"), encode(table, BANDS))


def test_a_catalogue_that_may_be_raw_is_warned_of_once(model, toy, tmp_path, caplog, monkeypatch):
    photoz.predict(model, toy(20, 3))
    assert caplog.text.count(RAW) == 1 and "it has no E(B-V), column ebv" in caplog.text
    monkeypatch.setattr(importlib.import_module("deepfield.photoz.predict"), "_ROWS", 7)
    model.save(tmp_path / "model")
    write(toy(20, 3), tmp_path / "cat.parquet")
    for out in ("pz.parquet", "pz.hdf5"):
        caplog.clear()
        predict_file(tmp_path / "model", tmp_path / "cat.parquet", tmp_path / out, progress=False)
        assert caplog.text.count(RAW) == 1, out


def test_no_warning_where_there_is_nothing_to_warn_of(model, toy, tiny, caplog):
    photoz.predict(model, corrected(toy(20, 3)))
    photoz.predict(photoz.train(toy(200), **tiny, progress=False), toy(20, 3))
    assert RAW not in caplog.text


def test_rows_without_a_usable_ebv_have_a_reason_of_their_own(model, toy, tmp_path):
    table = reddened(toy(30, 3), np.full(30, 0.1))
    table["ebv"][[2, 5, 7]] = np.nan, -0.2, 40.0
    for band in BANDS:
        table[f"mag_{band}"][9] = np.nan
    pz, why = model.predict_raw(model.encode(table))
    assert np.flatnonzero(np.isnan(pz.mean)).tolist() == [2, 5, 7, 9]
    texts = [model.reason_texts[code] for code in why]
    assert {texts[k] for k in (2, 5, 7)} == {"E(B-V) is missing, negative or absurd"}
    assert texts[9] == "no band is measured" and texts[0] == ""
    model.save(tmp_path / "model")
    write(table, tmp_path / "cat.parquet")
    counts = predict_file(tmp_path / "model", tmp_path / "cat.parquet", tmp_path / "pz.parquet", progress=False)
    assert counts.unserved == {"E(B-V) is missing, negative or absurd": 3, "no band is measured": 1}
    written = pq.read_table(tmp_path / "pz.parquet")
    assert written["reason_code"].to_pylist() == why.tolist()
    assert np.isnan(written["zmode"].to_numpy()[[2, 5, 7, 9]]).all()


def test_ebv_is_no_reason_where_nothing_is_corrected(toy, tiny, model):
    plain = photoz.train(toy(200), **tiny, progress=False)
    assert plain.config.extinction == "none" and model.config.extinction == "sdss"
    raw = plain.encode(toy(3))
    raw[1, 1], raw[1, 4] = np.nan, np.inf  # raw input made by hand: a table's reader does not give this
    said = [m.reason_texts[m.predict_raw(raw)[1][1]] for m in (plain, model)]
    assert said == ["flux or error of r is absurd", "E(B-V) is missing, negative or absurd"]


def test_training_leaves_rows_without_ebv_out(toy, tiny, caplog):
    table = reddened(toy(300), np.full(300, 0.1))
    table["ebv"][:40] = np.nan
    assert photoz.train(table, **tiny, progress=False).card["data"]["used"] == 260
    assert "40 rows without" in caplog.text


def test_what_auto_settles_to(toy, caplog):
    caplog.set_level(logging.INFO)
    odd = {f"mag_{b}": [20.0] for b in ("odd", "r")}
    assert settle_extinction(toy(5), BANDS, "auto") == "none"
    assert settle_extinction(corrected(Table(odd)), ("odd", "r"), "auto") == CORRECTED
    assert settle_extinction(Table({**odd, "ebv": [0.1]}), ("odd", "r"), "auto") == "none"
    assert "is not used" in caplog.text
    assert settle_extinction(corrected(toy(5)), BANDS, "auto") == "sdss"
    assert "the photometry of raw catalogues is corrected" in caplog.text


def des(n=1):
    """A raw catalogue as DES names it."""
    names = [f"{kind}_AUTO_{band}" for kind in ("MAG", "MAGERR") for band in "GRI"]
    return photoz.read({**{name: np.full(n, 20.0) for name in names}, "EBV_SFD98": np.full(n, 0.1)})


def test_auto_takes_the_survey_that_the_reader_recognised(caplog):
    caplog.set_level(logging.INFO)
    assert settle_extinction(des(), BANDS, "auto") == settle_extinction(corrected(des()), BANDS, "auto") == "des"
    assert "coefficients of des" in caplog.text and not [r for r in caplog.records if r.levelname == "WARNING"]
    assert settle_extinction(des(), BANDS, "hsc") == "hsc", "what was asked for stands"


def test_an_ambiguous_survey_is_warned_of(toy, caplog):
    unknown = reddened(toy(5), np.full(5, 0.1))
    assert settle_extinction(unknown, BANDS, "auto") == "sdss"
    assert (
        "survey of the bands g,r,i is not known: extinction is that of sdss, and could be that of lsst, des,"
        in (caplog.text)
    )
    caplog.clear()
    unknown.meta["survey"] = "euclid"  # which has no g, r, i
    assert settle_extinction(unknown, BANDS, "auto") == "sdss" and "is not known" in caplog.text
    caplog.clear()
    assert settle_extinction(Table({"mag_vis": [20.0], "ebv": [0.1]}), ("vis",), "auto") == "euclid"
    assert "is not known" not in caplog.text, "there is one only"


def test_a_model_without_coefficients_warns_of_every_unmarked_catalogue(toy, tiny, caplog):
    def odd(table):
        table.rename_columns(["mag_g", "mag_err_g"], ["mag_odd", "mag_err_odd"])
        return table

    model = photoz.train(corrected(odd(toy(200))), bands=("odd", "r", "i"), **tiny, progress=False)
    assert model.config.extinction == CORRECTED
    table = odd(toy(20, 3))
    table["ebv"] = np.full(20, 0.1)
    photoz.predict(model, table)
    assert "no coefficients are known for the bands" in caplog.text


def test_asking_for_a_correction_needs_ebv(toy, tiny):
    with pytest.raises(TableError, match="no column 'ebv'"):
        photoz.train(toy(200), **tiny, extinction="sdss", progress=False)
