"""Small simulated galaxies, and tiny models trained on them, for the tests of morphology."""

import numpy as np
import pytest
import torch

from deepfield.data.images.read import read
from deepfield.morphology.simulate import simulate
from deepfield.morphology.train import train

TINY = {"pixels": 32, "parameters": 4000, "epochs": 2, "batch": 16, "progress": False}


def _toy(n, seed=0):
    """Pictures of round and of flattened blobs, bytes: a class that can be seen at once."""
    rng = np.random.default_rng(seed)
    y, x = torch.meshgrid(*[torch.arange(32.0) - 15.5] * 2, indexing="ij")
    label = rng.integers(0, 2, n)
    turn = torch.from_numpy(rng.uniform(0, np.pi, n)).float()[:, None, None]
    along, across = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    flat = torch.from_numpy(np.where(label == 1, 0.3, 1.0)).float()[:, None, None]
    blob = 200 * torch.exp(-torch.hypot(along, across / flat) / 4)
    noise = torch.from_numpy(rng.normal(20, 4, (n, 3, 32, 32))).float()
    pixels = (blob[:, None] * torch.tensor([1.0, 0.8, 0.6])[:, None, None] + noise).clamp(0, 255).to(torch.uint8)
    table = {"id": np.arange(n) + 100, "label": np.array(["round", "flat"])[label]}
    return pixels.numpy(), table


@pytest.fixture(scope="session")
def toy():
    """``toy(n, seed)``: pixels (n, 3, 32, 32) and a table with labels."""
    return _toy


@pytest.fixture(scope="session")
def tiny():
    """Settings of a model that trains in a blink."""
    return dict(TINY)


@pytest.fixture(scope="session")
def stamps():
    """200 labelled pictures."""
    pixels, table = _toy(200)
    return read(pixels, catalog=table)


@pytest.fixture(scope="session")
def model(stamps):
    """Two members of group p4m that tell round from flat."""
    return train(stamps, members=2, group="p4m", **{**TINY, "epochs": 6})


@pytest.fixture(scope="session")
def simulated():
    """Simulated galaxies with votes, as images."""
    s = simulate(200, size=32, seed=3)
    return s, read(s.images.numpy(), catalog=s.table, bands=s.survey.bands)


@pytest.fixture(scope="session")
def voter(simulated):
    """One net of group p4 on the votes."""
    return train(simulated[1], tree="decals5", group="p4", **TINY)
