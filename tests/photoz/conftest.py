"""A small catalogue with known densities, and a tiny model trained on it, for the tests of photoz."""

import numpy as np
import pytest

from deepfield.core.table import Table
from deepfield.photoz.model import PhotozConfig
from deepfield.photoz.train import train

BANDS = ("g", "r", "i")
TINY = {"members": 1, "epochs": 2, "width": 8, "components": 2, "batch": 64}


def _toy(n, seed=0, *, scatter=0.05):
    """z is normal about a line in g - r, with the given scatter: the best density there is is known."""
    rng = np.random.default_rng(seed)
    colour = rng.uniform(0.2, 1.8, n)
    z = 0.1 + 0.4 * colour + rng.normal(0, scatter, n)
    i = rng.uniform(18, 22, n)
    table = Table({"id": np.arange(n) + 7})
    for band, mag in zip(BANDS, (i + 0.5 + colour, i + 0.5, i)):
        table[f"mag_{band}"] = mag
        table[f"mag_err_{band}"] = np.full(n, 0.02)
    table["z_spec"] = z
    return table


@pytest.fixture(scope="session")
def toy():
    """``toy(n, seed)``: a catalogue of three bands."""
    return _toy


@pytest.fixture(scope="session")
def tiny():
    """Settings of a model that trains in a blink."""
    return dict(TINY)


@pytest.fixture(scope="session")
def model():
    """Trained on 400 rows; no gaps, hence none is served."""
    return train(_toy(400), PhotozConfig(**TINY), progress=False)
