"""Reading cosmologies; most of it is tested through MatterPower in test_power.py."""

import logging

import numpy as np
import pytest

from deepfield.core.table import Table
from deepfield.emulators.parameters import BOX, read_cosmology


def test_tables_and_order():
    table = Table({name: [0.5 * (low + high)] * 3 for name, (low, high) in reversed(BOX.items())})
    table["note"] = ["a", "b", "c"]
    theta, one, xp = read_cosmology(table)
    assert theta.shape == (3, 5) and not one and xp is np
    assert theta[0] == pytest.approx([0.3, 0.05, 0.7, 1.0, 0.8])


def test_massive_neutrinos_are_warned_of(caplog):
    cosmology = pytest.importorskip("astropy.cosmology")
    with caplog.at_level(logging.WARNING):
        theta, one, _ = read_cosmology(cosmology.Planck18)
    assert one and theta[0, 4] == pytest.approx(0.8102)
    assert "Planck18 has massive neutrinos" in caplog.text
