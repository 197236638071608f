"""Figures of classes and images."""

import io

import numpy as np
import pytest

from deepfield.core import pictures
from deepfield.core.errors import DeepfieldError
from deepfield.trust.classification import reliability

pytest.importorskip("matplotlib")


def drawn(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=50)
    return len(file.getvalue()) > 300


@pytest.mark.parametrize("bands", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_of_any_bands(bands, dtype):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-8:8, -8:8]
    light = 100 * np.exp(-np.hypot(x, y) / 3) + rng.random((bands, 16, 16))
    picture = pictures.as_picture(light.astype(dtype))
    assert picture.shape == (16, 16, 3) and picture.dtype == np.uint8
    assert picture[8, 8].max() > 80 > picture[0, 0].max()


@pytest.mark.parametrize("bands", [2, 3])
def test_what_is_bright_in_the_reddest_band_of_fluxes_is_red(bands):
    light = np.random.default_rng(0).random((bands, 16, 16))
    light[-1, 4:8, 4:8] += 50
    red, _, blue = pictures.as_picture(light)[5, 5].astype(int)
    assert red > blue + 50


def test_blank_and_broken_images_are_drawn():
    assert pictures.as_picture(np.zeros((3, 4, 4))).max() == 0
    assert pictures.as_picture(np.full((3, 4, 4), np.nan)).max() == 0
    with pytest.raises(DeepfieldError, match="not of shape"):
        pictures.as_picture(np.zeros((4, 4)))


def test_a_contact_sheet_has_its_pictures_and_captions():
    image = np.zeros((3, 4, 4), dtype=np.uint8)
    figure = pictures.contact_sheet({"a": ([image, image], ["one", "two"]), "b": ([], [])})
    assert [axes.get_xlabel() for axes in figure.axes[:2]] == ["one", "two"]
    assert sum(len(axes.images) for axes in figure.axes) == 2 and drawn(figure)
    with pytest.raises(DeepfieldError, match="nothing to draw"):
        pictures.contact_sheet({"a": ([], [])})


def test_confusion_shows_counts_and_shares():
    figure = pictures.confusion([[3, 1], [0, 4]], ["a", "b"])
    texts = [t.get_text() for t in figure.axes[0].texts]
    assert texts == ["3\n75%", "1\n25%", "0\n0%", "4\n100%"] and drawn(figure)
    with pytest.raises(DeepfieldError, match="1 names do not fit"):
        pictures.confusion([[1, 2], [3, 4]], ["a"])


def test_reliability_and_turning():
    curve = reliability(np.array([0.1, 0.1, 0.9]), np.array([0, 0, 1]))
    figure = pictures.reliability({"a": curve, "b": curve, "c": curve, "d": curve, "e": curve})
    assert figure.axes[0].get_lines()[1].get_ydata().tolist() == curve["observed"] and drawn(figure)
    with pytest.raises(DeepfieldError, match="nothing to draw"):
        pictures.reliability({})
    figure = pictures.turning([0, 90], {"a": [0.0, 1e-3]}, ylabel="change")
    assert figure.axes[0].get_lines()[0].get_ydata().tolist() == [1e-9, 1e-3] and drawn(figure)
