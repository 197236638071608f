"""Asking functions of images: flagged rows, and identifiers."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.core.heads import Bernoulli
from deepfield.core.model import Model
from deepfield.core.nets.camera import Camera
from deepfield.core.table import Table
from deepfield.data.images.read import read
from deepfield.data.images.serve import ABSURD, FLAT, check, check_same, codes, identifiers, serve

PIXELS = np.random.default_rng(0).integers(0, 255, (5, 3, 32, 32)).astype(np.uint8)


def test_a_net_that_gives_no_number_is_a_reason():
    def third_fails(x):
        return torch.where(torch.arange(len(x))[:, None] == 2, torch.inf, torch.ones(len(x), 2))

    values, reasons = serve(read(PIXELS), third_fails)
    assert reasons.tolist() == ["", "", ABSURD, "", ""] and torch.isnan(values[2]).all()


def test_a_gap_between_detectors_is_a_reason():
    pixels = np.random.default_rng(0).normal(size=(3, 2, 8, 8)).astype(np.float32)
    pixels[1], pixels[2, 0] = 0, 0  # the nets may know what to make of a band without data
    values, reasons = serve(read(pixels), lambda x: x.mean((2, 3)))
    assert reasons.tolist() == ["", FLAT, ""] and torch.isnan(values[1]).all()
    assert codes(reasons).tolist() == [0, 3, 0]


@pytest.mark.parametrize("name", ["GalaxyID", "dr7objid", "asset_id", "object_id", "name"])
def test_identifiers_are_those_of_the_catalogue_under_any_usual_name(name):
    images = read(PIXELS[:3], catalog=Table({"label": [0, 1, 0], name: [7, 5, 9]}))
    assert identifiers(images).tolist() == [7, 5, 9] and identifiers(images[1:]).tolist() == [5, 9]
    assert identifiers(read(PIXELS[:3], catalog=Table({"label": [0, 1, 0]}))[1:]).tolist() == [1, 2]


def test_fluxes_in_another_unit_are_told_once(caplog):
    rng = np.random.default_rng(1)
    sky = (rng.normal(size=(20, 2, 32, 32)) * np.array([3.0, 5.0])[:, None, None]).astype(np.float32)
    camera = Camera(2, 16, "asinh")
    camera.stretch.fit(camera.reduce(torch.from_numpy(sky)))
    net = torch.nn.Sequential(camera, torch.nn.Flatten())
    seen = {"dtype": "float32", "native": 32}
    model = SimpleNamespace(model=Model(net, Bernoulli()), bands=("g", "r"), side=32, crop=0, seen=seen)

    def said(pixels):
        caplog.clear()
        images = read(pixels, bands=("g", "r"))
        for part in (images, images[:5]):
            check(model, part)
        return [r.getMessage() for r in caplog.records if "noise of the sky" in r.getMessage()]

    broken = sky.copy()
    broken[::2, 0, 0, 0] = np.nan
    assert not said(sky) and not said(broken) and not said(1.8 * sky)
    (told,) = said(sky * np.array([1, 1e-3], np.float32)[:, None, None])
    assert re.search(r"is 1\.\d+, 0\.002\d+ \(g, r\), .* learnt with 1\.\d+, 2\.\d+: fluxes .*nJy", told)
    assert len(said(np.zeros_like(sky))) == 1


def test_predictions_and_a_catalogue_in_another_order():
    check_same([7, 5], Table({"id": ["7", "5"]}), "p.parquet")
    check_same([0, 1], Table({"label": ["a", "b"]}), "p.parquet")
    with pytest.raises(DeepfieldError, match="and the catalogue differ in 2 of 3 identifiers, first in row 1"):
        check_same([b"a", b"b", b"c"], Table({"GalaxyID": ["a", "c", "b"]}), "p.parquet")


def test_reasons_have_numbers():
    assert codes(np.array(["", "too small", ABSURD])).tolist() == [0, 1, 2]
