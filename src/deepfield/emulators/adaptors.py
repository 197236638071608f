"""Where an emulator is used: CCL and cobaya."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepfield.core.optional import require
from deepfield.emulators.power import MatterPower

_Z = np.linspace(3.0, 0.0, 31)


def to_ccl(cosmology: Mapping[str, float], power: MatterPower | None = None, *, k: ArrayLike | None = None) -> Any:
    """The spectrum as ``pyccl.Pk2D``: k in 1/Mpc, P in Mpc^3, scale factors of 0.25 to 1.

    Parameters
    ----------
    cosmology : mapping
        One, with the names of the box.
    power : MatterPower
        Linear by default.
    k : array (K,)
        h/Mpc; by default all that the spectrum knows.

    Raises
    ------
    MissingExtraError
        If pyccl is not installed.
    """
    ccl = require("pyccl", extra="emulators")
    h = float(cosmology["h"])
    power = power or MatterPower()
    k = np.geomspace(*power.k_range, 500) if k is None else k
    spectrum = np.asarray(power(cosmology, k, _Z)) / h**3
    return ccl.Pk2D(a_arr=1 / (1 + _Z), lk_arr=np.log(np.asarray(k) * h), pk_arr=np.log(spectrum), is_logp=True)


def cobaya_theory() -> type:
    """The class of a cobaya theory that provides ``Pk_interpolator`` and ``Pk_grid``.

    In a model: ``{"theory": {"emulator": {"external": cobaya_theory()}}}``, with ``H0``, ``omega_m``, ``omega_b``
    (shares), ``n_s`` and ``sigma8`` as parameters. With ``"nonlinear": True`` there, also of HMcode2020.

    Raises
    ------
    MissingExtraError
        If cobaya is not installed.
    """
    theories = require("cobaya.theories.cosmo.boltzmannbase", extra="emulators")
    base: Any = theories.BoltzmannBase

    class EmulatedPower(base):
        """cobaya's Boltzmann interface, answered by an emulator."""

        nonlinear: bool = False

        def initialize(self) -> None:
            super().initialize()
            self.powers = [MatterPower(nonlinear=curved) for curved in {False, self.nonlinear}]

        def get_requirements(self) -> list[str]:
            return ["H0", "omega_m", "omega_b", "n_s", "sigma8"]

        def calculate(self, state: dict[Any, Any], want_derived: bool = True, **values: float) -> bool:
            h = values["H0"] / 100
            names = {"omega_m": "omega_m", "omega_b": "omega_b", "n_s": "n_s", "sigma_8": "sigma8"}
            cosmology = {"h": h, **{own: values[theirs] for own, theirs in names.items()}}
            z = _Z[::-1]
            for power in self.powers:
                k = np.geomspace(*power.k_range, 500)
                spectrum = np.asarray(power(cosmology, k, z)) / h**3
                state["Pk_grid", power.nonlinear, "delta_tot", "delta_tot"] = (k * h, z, spectrum)
            return True

    return EmulatedPower
