"""The classical methods: what is smooth goes, arcs are left, and fits find what was painted."""

import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.lensing import Lens, Noise, Sersic, render, sheet, sie
from deepfield.lensing.classical import arc_score, ellipse, fit_lens, sky_noise, subtract
from deepfield.lensing.parameters import encode
from deepfield.lensing.score import auroc

NONE = Lens(sie(1e-6, 1.0, 0.0))


def test_shapes_of_galaxies():
    q, phi = torch.tensor([0.5, 0.7, 0.9]), torch.tensor([0.3, 1.2, 2.5])
    light = Sersic(1.0, 0.8, n=1.0, q=q, phi=phi, x=0.1, y=-0.2)
    image = render(NONE, [], [light], pixel=0.1, size=64, supersample=3)
    cx, cy, ratio, angle = ellipse(image)
    assert float((cx - 1).abs().max()) < 0.2 and float((cy + 2).abs().max()) < 0.3, "pixels, y up"
    assert float((ratio - q).abs().max()) < 0.06
    off = (angle - phi + math.pi / 2) % math.pi - math.pi / 2
    assert float(off[:2].abs().max()) < 0.05


def test_what_is_smooth_goes_and_arcs_stay(lenses):
    images = lenses(200, seed=60)
    x, y = images.load()[0], np.asarray(images.table["is_lens"])
    left = subtract(x)[:, 1, 12:20, 12:20].square().mean((1, 2)).sqrt()  # where the galaxy was
    assert float(left[y == 0].median()) < 0.2 * float(x[:, 1].amax((1, 2))[y == 0].median())
    assert auroc(arc_score(x), y) > 0.9
    one = arc_score(x[:, :1])
    assert auroc(one, y) > 0.9, "in a single band too"


def test_the_noise_of_the_sky():
    image = Noise(0.3, seed=2)(torch.zeros(5, 64, 64))[:, None]
    assert float((sky_noise(image) / 0.3 - 1).abs().max()) < 0.1


def painted(seed, noise):
    truth = {
        "theta_e": 1.1,
        "q": 0.75,
        "phi": 40.0,
        "shear": 0.05,
        "shear_phi": 100.0,
        "source_x": 0.15,
        "source_y": 0.1,
    }
    turn = math.radians(2 * truth["shear_phi"])
    lens = Lens(
        sie(truth["theta_e"], truth["q"], math.radians(truth["phi"])),
        sheet(gamma1=truth["shear"] * math.cos(turn), gamma2=truth["shear"] * math.sin(turn)),
    )
    source = Sersic(1.0, 0.15, n=1.0, q=0.8, phi=0.4, x=truth["source_x"], y=truth["source_y"])
    light = Sersic(6.0, 0.7, n=3.5, q=0.8, phi=0.7)
    x = torch.arange(-5, 6.0)
    psf = torch.exp(-0.5 * (x[:, None] ** 2 + x**2) / 1.3**2)
    image = render(lens, [source], [light], pixel=0.15, size=44, psf=psf, like=torch.zeros(0, dtype=torch.float64))
    return truth, Noise(noise, seed=seed)(image)[0], psf


def test_a_fit_finds_what_was_painted_within_its_error():
    from deepfield.core.table import Table

    errors = []
    for seed in (0, 1):
        truth, image, psf = painted(seed, 0.004)
        start = encode(Table({k: [v] for k, v in truth.items()}))[0] + torch.tensor(
            [0.05, 0.03, -0.03, 0.02, 0, 0.05, -0.04]
        )
        found = fit_lens(image, start, pixel=0.15, noise=0.004, psf=psf)
        assert 0.85 < found.chi2 < 1.15
        errors.append((found.values["theta_e"] - truth["theta_e"]) / found.theta_e_error)
        assert 0 < found.theta_e_error < 0.02
    assert max(map(abs, errors)) < 3.5


def test_what_cannot_be_fitted():
    for image, noise in ((torch.zeros(4, 5), 1.0), (torch.full((8, 8), torch.nan), 1.0), (torch.zeros(8, 8), 0.0)):
        with pytest.raises(DeepfieldError):
            fit_lens(image, torch.zeros(7), pixel=0.1, noise=noise)
