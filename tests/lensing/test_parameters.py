"""Coordinates of a lens: there and back, what no lens has, and that they turn as the painted image does."""

import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import TableError
from deepfield.core.nets.camera import Camera
from deepfield.core.table import Table
from deepfield.lensing import Lens, Sersic, sheet, sie
from deepfield.lensing.model import LensingConfig
from deepfield.lensing.parameters import NAMES, UNITS, carry, centred, decode, encode
from deepfield.lensing.render import render
from deepfield.lensing.train import augmentation


def lenses(n=50, seed=0):
    rng = np.random.default_rng(seed)
    return Table(
        {
            "theta_e": rng.uniform(0.5, 2, n), "q": rng.uniform(0.4, 0.99, n), "phi": rng.uniform(0, 180, n),
            "shear": rng.uniform(0.01, 0.1, n), "shear_phi": rng.uniform(0, 180, n),
            "source_x": rng.normal(0, 0.2, n), "source_y": rng.normal(0, 0.2, n),
        }
    )  # fmt: skip


def test_there_and_back():
    table = lenses()
    y = encode(table)
    assert y.shape == (50, len(NAMES)) and y.dtype == torch.float32
    found = decode(y)
    for name in UNITS:
        np.testing.assert_allclose(found[name], table[name], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(decode(y[None])["q"][0], found["q"])
    assert decode(torch.tensor([0.0, 3.0, 0.0, 0, 0, 0, 0]))["q"] == pytest.approx(1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("theta_e", -1.0, "theta_e is positive, got -1 in row 3"),
        ("q", 0.0, "q is above 0 and 1 at most, got 0 in row 3"),
        ("q", 1.5, "q is above 0 and 1 at most, got 1.5"),
        ("shear", -0.1, "shear is 0 or more and below 1"),
        ("z_source", 0.2, "a source lies behind its lens, got z_lens 0.5 and z_source 0.2 in row 3"),
    ],
)
def test_what_no_lens_has(column, value, message):
    table = lenses()
    table["z_lens"], table["z_source"] = np.full(50, 0.5), np.full(50, 2.0)
    encode(table)
    table[column][3] = value
    with pytest.raises(TableError, match=message):
        encode(table)


def test_a_missing_value_is_no_error():
    table = lenses()
    table["shear"][2] = np.nan
    assert torch.isnan(encode(table)).any(1).nonzero().flatten().tolist() == [2]


def paint(y):
    p = {name: torch.as_tensor(v, dtype=torch.float64) for name, v in decode(y).items()}
    turn = 2 * torch.deg2rad(p["shear_phi"])
    lens = Lens(
        sie(p["theta_e"], p["q"], torch.deg2rad(p["phi"])),
        sheet(gamma1=p["shear"] * turn.cos(), gamma2=p["shear"] * turn.sin()),
    )
    source = Sersic(1.0, 0.2, x=p["source_x"], y=p["source_y"])
    return render(lens, [source], pixel=0.15, size=40, like=torch.zeros(0, dtype=torch.float64))


def test_parameters_turn_with_their_image():
    y = encode(lenses(6, seed=3))
    images = paint(y)
    for k in range(4):
        for mirrored in (False, True):
            turned = images.rot90(k, (1, 2))
            turned = turned.flip(2) if mirrored else turned
            moved = carry(y, torch.full((6,), k * math.pi / 2), torch.full((6,), mirrored))
            torch.testing.assert_close(paint(moved), turned, rtol=2e-3, atol=2e-5)


def test_training_turns_both():
    """What a step of training sees is the image of the lens that it is told of."""
    y = encode(lenses(8, seed=4))
    augment = augmentation(Camera(1, 40), LensingConfig(task="measure"))
    seen, moved = augment(paint(y).float()[:, None], y, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(seen[:, 0], paint(moved).float(), rtol=5e-3, atol=2e-4)
    assert float((moved - y).abs().max()) > 0.1


def test_angles_around_their_mean():
    angles = np.random.default_rng(0).normal(179.0, 5.0, (400, 3)) % 180
    found = centred(angles)
    assert found.std(0).max() < 7 and np.abs(found.mean(0) % 180 - 179).max() < 1
    np.testing.assert_allclose(found % 180, angles, atol=1e-9)
