"""What CAMB says (benchmarks/emulators_fixture.py made the file), and the spectrum that comes with the package."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def camb():
    with np.load(Path(__file__).with_name("camb.npz")) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="session")
def power():
    from deepfield.emulators import MatterPower

    return MatterPower()


@pytest.fixture(scope="session")
def planck():
    return {"omega_m": 0.31, "omega_b": 0.049, "h": 0.68, "n_s": 0.965, "sigma_8": 0.81}
