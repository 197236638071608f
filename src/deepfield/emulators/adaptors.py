"""Where an emulator is used: CCL and cobaya."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepfield.core.optional import require
from deepfield.emulators.power import MatterPower

_K = np.geomspace(1e-4, 50.0, 500)
_Z = np.linspace(3.0, 0.0, 31)


def to_ccl(cosmology: Mapping[str, float], power: MatterPower | None = None, *, k: ArrayLike = _K) -> Any:
    """The spectrum as ``pyccl.Pk2D``: k in 1/Mpc, P in Mpc^3, scale factors of 0.25 to 1.

    Parameters
    ----------
    cosmology : mapping
        One, with the names of the box.
    k : array (K,)
        h/Mpc.

    Raises
    ------
    MissingExtraError
        If pyccl is not installed.
    """
    ccl = require("pyccl", extra="emulators")
    h = float(cosmology["h"])
    spectrum = np.asarray((power or MatterPower())(cosmology, k, _Z)) / h**3
    return ccl.Pk2D(a_arr=1 / (1 + _Z), lk_arr=np.log(np.asarray(k) * h), pk_arr=np.log(spectrum), is_logp=True)


def cobaya_theory() -> type:
    """The class of a cobaya theory that provides ``Pk_interpolator`` and ``Pk_grid`` of the linear spectrum.

    In a model: ``{"theory": {"emulator": {"external": cobaya_theory()}}}``, with ``H0``, ``omega_m``, ``omega_b``
    (shares), ``n_s`` and ``sigma8`` as parameters.

    Raises
    ------
    MissingExtraError
        If cobaya is not installed.
    """
    theories = require("cobaya.theories.cosmo.boltzmannbase", extra="emulators")
    base: Any = theories.BoltzmannBase

    class EmulatedPower(base):
        """cobaya's Boltzmann interface, answered by an emulator."""

        def initialize(self) -> None:
            super().initialize()
            self.power = MatterPower()

        def get_requirements(self) -> list[str]:
            return ["H0", "omega_m", "omega_b", "n_s", "sigma8"]

        def calculate(self, state: dict[Any, Any], want_derived: bool = True, **values: float) -> bool:
            h = values["H0"] / 100
            names = {"omega_m": "omega_m", "omega_b": "omega_b", "n_s": "n_s", "sigma_8": "sigma8"}
            cosmology = {"h": h, **{own: values[theirs] for own, theirs in names.items()}}
            z = _Z[::-1]
            spectrum = np.asarray(self.power(cosmology, _K, z)) / h**3
            state["Pk_grid", False, "delta_tot", "delta_tot"] = (_K * h, z, spectrum)
            return True

    return EmulatedPower
