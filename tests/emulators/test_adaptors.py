"""Adaptors: what they hand over, with stand-ins where the libraries are not installed."""

import sys
import types

import numpy as np
import pytest

from deepfield.core.errors import MissingExtraError
from deepfield.emulators import adaptors


def test_ccl_gets_its_own_units(power, planck, monkeypatch):
    taken = {}
    stand_in = types.ModuleType("pyccl")
    stand_in.Pk2D = lambda **arguments: taken.update(arguments) or "pk2d"
    monkeypatch.setitem(sys.modules, "pyccl", stand_in)
    assert adaptors.to_ccl(planck, power, k=[0.01, 0.1, 1.0]) == "pk2d"
    assert (np.diff(taken["a_arr"]) > 0).all() and taken["a_arr"][-1] == 1.0
    assert np.exp(taken["lk_arr"]) == pytest.approx(np.array([0.01, 0.1, 1.0]) * 0.68)
    assert np.exp(taken["pk_arr"][-1]) == pytest.approx(power(planck, [0.01, 0.1, 1.0]) / 0.68**3)


def test_cobaya_gets_a_grid(planck, monkeypatch):
    class Base:
        def initialize(self):
            self.begun = True

    for name in ("cobaya", "cobaya.theories", "cobaya.theories.cosmo", "cobaya.theories.cosmo.boltzmannbase"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["cobaya.theories.cosmo.boltzmannbase"].BoltzmannBase = Base
    theory, state = adaptors.cobaya_theory()(), {}
    theory.initialize()
    assert "sigma8" in theory.get_requirements()
    assert theory.calculate(state, H0=68.0, omega_m=0.31, omega_b=0.049, n_s=0.965, sigma8=0.81)
    k, z, spectra = state["Pk_grid", False, "delta_tot", "delta_tot"]
    assert spectra.shape == (len(z), len(k)) and (np.diff(z) > 0).all()
    assert len(state) == 1
    theory.nonlinear = True
    theory.initialize()
    theory.calculate(state, H0=68.0, omega_m=0.31, omega_b=0.049, n_s=0.965, sigma8=0.81)
    curved = state["Pk_grid", True, "delta_tot", "delta_tot"]
    assert curved[2].shape == (len(z), len(k)) and curved[2][0, -1] > 3 * spectra[0, -1]


def test_missing_libraries_are_named(planck, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyccl", None)
    with pytest.raises(MissingExtraError, match="pyccl"):
        adaptors.to_ccl(planck)
