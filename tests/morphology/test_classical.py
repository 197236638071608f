"""Structural parameters against galaxies whose parameters are known."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.morphology.classical import NAMES, StructureRegression, structure

Y, X = np.mgrid[-48:48, -48:48] + 0.5


def measured(image):
    return dict(zip(NAMES, structure(np.asarray(image)[None, None])[0]))


def test_an_exponential_disc():
    found = measured(np.exp(-np.hypot(X, Y) / 6))
    # r80 = 2.994 h, r20 = 0.824 h: C = 5 log10(3.632) = 2.80
    assert found["concentration"] == pytest.approx(2.80, abs=0.06)
    assert abs(found["asymmetry"]) < 1e-3 and found["ellipticity"] == pytest.approx(0, abs=0.01)
    assert 10 ** found["size"] * 96 == pytest.approx(2.994 * 6, rel=0.03)
    assert found["concentration"] < measured(np.exp(-((np.hypot(X, Y) / 3) ** 0.5)))["concentration"]


def test_flattening_gini_and_asymmetry():
    assert measured(np.exp(-np.hypot(X, Y / 0.5) / 6))["ellipticity"] == pytest.approx(0.45, abs=0.06)
    flat = (np.hypot(X, Y) < 20).astype(float)
    assert measured(flat)["gini"] < measured(np.exp(-np.hypot(X, Y) / 6))["gini"]
    two = np.exp(-np.hypot(X, Y) / 4) + 0.6 * np.exp(-np.hypot(X - 14, Y - 6) / 2.5)
    assert measured(two)["asymmetry"] > 0.2 and measured(two)["m20"] > measured(np.exp(-np.hypot(X, Y) / 4))["m20"]


def test_quarter_turns_change_nothing():
    rng = np.random.default_rng(0)
    image = rng.normal(0, 0.01, (1, 3, 96, 96)) + np.exp(-np.hypot(X - 4, Y / 0.6) / 6)
    assert np.allclose(structure(image), structure(np.rot90(image, axes=(2, 3)).copy()), atol=5e-3)


def test_colours_are_ratios_of_bands():
    disc = np.exp(-np.hypot(X, Y) / 6)
    found = structure(np.stack([disc, 2 * disc, 4 * disc])[None])[0]
    assert np.allclose(found[len(NAMES) :], np.log10(2), atol=1e-3)


def test_regression_on_pictures(toy):
    pixels, table = toy(200)
    label = (table["label"] == "round").astype(int)
    p = StructureRegression().fit(pixels[:150], label[:150], classes=2).predict(pixels[150:])
    assert (p.argmax(1) == label[150:]).mean() > 0.9 and np.allclose(p.sum(1), 1)


def test_images_without_light_and_shapes_that_are_none():
    p = StructureRegression().fit(np.random.default_rng(0).random((30, 1, 16, 16)), np.arange(30) % 2, classes=2)
    assert np.isnan(p.predict(np.zeros((1, 1, 16, 16)))).all()
    with pytest.raises(DeepfieldError, match=r"square images .* got \(2, 16, 16\)"):
        structure(np.zeros((2, 16, 16)))
    with pytest.raises(DeepfieldError, match="0 images have structural parameters"):
        StructureRegression().fit(np.zeros((20, 1, 16, 16)), np.zeros(20), classes=2)
