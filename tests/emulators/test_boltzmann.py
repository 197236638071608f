"""The Boltzmann code behind the simulations; skipped where it is not installed."""

import sys

import numpy as np
import pytest

from deepfield.core.errors import MissingExtraError
from deepfield.emulators import BOX, boltzmann, boltzmann_spectra

THETA = np.array([0.31, 0.049, 0.68, 0.965, 0.81])


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "camb", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepfield\[emulators\]'"):
        boltzmann_spectra(2, k=[0.1], z=[0.0])


def test_spectra_have_the_sigma_8_asked_for(power):
    pytest.importorskip("camb")
    k = np.geomspace(1e-3, 2, 50)
    found = boltzmann.spectrum(THETA, k, [0.0, 1.0])
    assert found == pytest.approx(power(dict(zip(BOX, THETA)), k, [0.0, 1.0]), rel=0.02)
