from pathlib import Path

import numpy as np
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def reference():
    """Numbers of lenstronomy and caustics that benchmarks/lensing_reference.py made."""
    with np.load(HERE / "reference.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def here():
    return HERE
