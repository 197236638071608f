import numpy as np
import pytest

from deepfield.lensing import layers, negatives
from deepfield.lensing.simulate import KINDS, draw


@pytest.fixture(scope="module")
def table():
    return draw(3000, survey="lsst", seed=1, lens_fraction=0.3)


def test_kinds_come_with_their_shares(table):
    kind = np.asarray(table["kind"])
    assert sum(negatives.SHARES.values()) == pytest.approx(1.0) and set(kind) == set(KINDS)
    assert (kind == "lens").sum() == 900 == table["is_lens"].sum()
    for name, share in negatives.SHARES.items():
        expected = 2100 * share
        assert abs((kind == name).sum() - expected) < 4 * np.sqrt(expected)


def test_brightness_does_not_tell_lenses_from_plain_galaxies(table):
    kind = np.asarray(table["kind"])
    i, r = table.column("lens_mag_i"), table.column("lens_r_e")
    for name in ("early", "companion", "ring"):
        assert np.median(i[kind == name]) == pytest.approx(np.median(i[kind == "lens"]), abs=0.4)
        assert np.median(r[kind == name]) == pytest.approx(np.median(r[kind == "lens"]), rel=0.15)
    blue = table.column("lens_mag_g") - i
    assert np.median(blue[kind == "spiral"]) < np.median(blue[kind == "early"]) - 0.3
    # Companions lie about where images would.
    away = np.hypot(table["source_x"], table["source_y"])
    far = np.median(away[np.isin(kind, ("companion", "arc"))]) / np.nanmedian(table["theta_e"])
    assert 1.0 < far < 2.0


def test_what_is_not_there_has_no_light(table):
    kind, layer = np.asarray(table["kind"]), np.asarray(table["layer"])
    dark = np.isinf(table["source_mag_i"])
    assert (dark == (layer == 0))[kind != "trail"].all()
    assert set(layer[kind == "lens"]) == {layers.LENSED} and set(layer[kind == "early"]) == {0}
    assert set(layer[kind == "merger"]) == {0, layers.BLOBS}
    assert (np.asarray(table["lens_mag_r"])[kind == "blank"] == 40).all()
    spoilt = np.isfinite(table["defect_u"])
    assert spoilt[kind == "corrupted"].all()
    assert 0 < spoilt[kind == "lens"].mean() < 0.08, "a defect does not tell what is none"
    # A satellite crosses in one band.
    mags = np.stack([table[f"source_mag_{b}"] for b in "gri"])[:, kind == "trail"]
    assert (np.isfinite(mags).sum(0) == 1).all()


def test_discs_bulges_and_shapes(table):
    kind = np.asarray(table["kind"])
    assert (
        np.asarray(table["disc_q"])[kind == "edge-on"].max()
        < 0.23
        < 0.5
        < np.asarray(table["disc_q"])[kind == "spiral"].min()
    )
    spiral = kind == "spiral"
    assert (np.asarray(table["arms"])[spiral] > 0).all() and not np.asarray(table["arms"])[kind == "lens"].any()
    assert (table.column("bulge_fraction_i") > table.column("bulge_fraction_g"))[spiral].all()  # bulges are red
    q = table.column("source_q")
    assert q.min() > 0.1 and q.max() <= 1
