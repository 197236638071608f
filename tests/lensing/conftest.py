from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from deepfield.core.table import Table
from deepfield.data.images.read import read
from deepfield.lensing import Lens, Noise, Sersic, render, sheet, sie
from deepfield.lensing.train import train

HERE = Path(__file__).parent
TOY = SimpleNamespace(bands=("g", "r"), pixel=0.2, fwhm=(0.6, 0.6))
TINY = {"group": "none", "pixels": 16, "parameters": 2500, "batch": 16, "progress": False}


@pytest.fixture(scope="session")
def reference():
    """Numbers of lenstronomy and caustics that benchmarks/lensing_reference.py made."""
    with np.load(HERE / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def here():
    return HERE


@dataclass(frozen=True)
class Toys:
    images: torch.Tensor
    table: Table
    survey: object


def _simulate(n, *, survey="toy", seed=0, lens_fraction=0.5):
    """Bright rings and arcs of small isothermal lenses in two bands, and lenses' galaxies alone: seen at once."""
    rng = np.random.default_rng(seed)
    u = lambda a, b: torch.from_numpy(rng.uniform(a, b, n)).float()  # noqa: E731
    flag = torch.from_numpy((rng.permutation(n) < round(lens_fraction * n)).astype(np.float32))
    t = {
        "theta_e": u(0.7, 1.6), "q": u(0.6, 1), "phi": u(0, 180), "shear": u(0, 0.08), "shear_phi": u(0, 180),
        "source_x": u(-0.3, 0.3), "source_y": u(-0.3, 0.3),
    }  # fmt: skip
    turn = torch.deg2rad(2 * t["shear_phi"])
    lens = Lens(
        sie(t["theta_e"], t["q"], torch.deg2rad(t["phi"])),
        sheet(gamma1=t["shear"] * turn.cos(), gamma2=t["shear"] * turn.sin()),
    )
    source = Sersic(1.0, 0.15, n=1.0, x=t["source_x"], y=t["source_y"])
    light = Sersic(u(1, 3), u(0.4, 0.7), n=3.0, q=t["q"], phi=torch.deg2rad(t["phi"]))
    arcs = render(lens, [source], pixel=0.2, size=32) * flag[:, None, None]
    middle = render(lens, [], [light], pixel=0.2, size=32)
    clean = torch.stack([arcs + 0.3 * middle, 0.5 * arcs + middle], 1)
    noisy = Noise(0.01, seed=seed)(clean.flatten(0, 1)).view_as(clean)
    rows = {name: np.where(flag > 0, v.numpy(), np.nan) for name, v in t.items()}
    z = {"z_lens": np.full(n, 0.4), "z_source": np.where(flag > 0, 1.5, np.nan)}
    snr = arcs.sum((1, 2)).numpy() / 0.1
    kind = np.where(flag > 0, "lens", "galaxy")
    about = {"id": np.arange(n) + 100, "is_lens": flag.numpy().astype(int), "kind": kind, "source_snr": snr}
    return Toys(noisy, Table({**about, **rows, **z}), TOY)


@pytest.fixture(scope="session")
def toy_simulate():
    """``simulate(n, survey=, seed=, lens_fraction=)`` of easy lenses, in the form of the simulator's own."""
    return _simulate


def _lenses(n, seed=0, lens_fraction=0.5):
    found = _simulate(n, seed=seed, lens_fraction=lens_fraction)
    return read(
        found.images.numpy(), catalog=found.table, bands=TOY.bands, pixel_scale=TOY.pixel, psf_fwhm=TOY.fwhm
    )


@pytest.fixture(scope="session")
def lenses():
    """``lenses(n, seed, lens_fraction)``: images with their truth."""
    return _lenses


@pytest.fixture(scope="session")
def tiny():
    """Settings of a model that trains in a blink."""
    return dict(TINY)


@pytest.fixture(scope="session")
def finder():
    """Two members that find the toy's lenses."""
    return train(_lenses(300), members=2, epochs=6, **TINY)


@pytest.fixture(scope="session")
def measurer():
    """One net that measures them, roughly."""
    options = {**TINY, "pixels": 32, "parameters": 4000}
    images = _lenses(300, seed=1, lens_fraction=1.0)
    return train(images, task="measure", epochs=10, hidden=16, context=16, moments=2, **options)
