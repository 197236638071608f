"""The matter power spectrum of a cosmology, from weights that come with the package."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.store import Saved, load, save
from deepfield.emulators.direct import Direct
from deepfield.emulators.grid import Grid
from deepfield.emulators.linear import Transfer
from deepfield.emulators.parameters import read_cosmology

Array = NDArray[np.float64]

K_RANGE, Z_RANGE = (1e-4, 50.0), (0.0, 3.0)
"""In h/Mpc, and redshift."""

SHIPPED = "matter-power-linear"

_MANY = 5000  # cosmologies for which laying out a grid pays


class MatterPower:
    """P(k, z) of flat LCDM with massless neutrinos, linear theory, as CAMB would give it.

    N_eff = 3.046 and T_CMB = 2.7255 K. Wavenumbers are in h/Mpc and spectra in (Mpc/h)^3.

    Parameters
    ----------
    model : path or str
        A folder, or a model that comes with the package.
    precision : str
        "double" or "single"; single is some 1e-5 off and faster.

    Examples
    --------
    >>> power = MatterPower()
    >>> planck = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.68, "n_s": 0.965, "sigma_8": 0.81}
    >>> power(planck, [0.01, 0.1, 1.0]).shape
    (3,)
    >>> many = dict(planck, h=[0.6, 0.7])
    >>> power(many, [0.1, 1.0], z=[0.0, 0.5, 1.0]).shape
    (2, 3, 2)
    """

    def __init__(self, model: str | os.PathLike[str] = SHIPPED, *, precision: str = "double") -> None:
        if precision not in ("double", "single"):
            raise DeepfieldError(f"precision is 'double' or 'single', not '{precision}'")
        saved = load(model, domain="emulators")
        if saved.config.get("kind") != "linear":
            raise ModelError(f"{model} is no model of the linear power spectrum")
        tensors = {name: t.double().numpy() for name, t in saved.weights.items()}
        degree = tuple(int(d) for d in saved.config["degree"])
        self.transfer = Transfer((degree[0], degree[1]), tensors["weights"], tensors["form"], tensors["ratio"])
        self.late, self._errors = tensors["late"], tensors["error"]
        self.card = saved.card
        self._dtype = np.float64 if precision == "double" else np.float32
        self._direct = Direct(self.transfer, self.late)
        self._grid = lru_cache(maxsize=4)(self._build)

    def on(self, k: ArrayLike, z: ArrayLike = 0.0) -> Grid:
        """The spectrum laid out on wavenumbers k (K,) and redshifts z: a microsecond for each of many cosmologies.

        Laying out takes about a second, and is kept for the next call with the same k and z.

        Raises
        ------
        DeepfieldError
            If k does not increase, or k or z are beyond what the emulator knows.
        """
        wave, redshift = check_k(k), check_z(z)
        return self._grid(wave.tobytes(), redshift.tobytes())

    def _build(self, k: bytes, z: bytes) -> Grid:
        return Grid(self._direct, np.frombuffer(k).copy(), np.frombuffer(z).copy(), self._dtype)

    def __call__(self, cosmology: Any, k: ArrayLike, z: ArrayLike = 0.0) -> Any:
        """P in (Mpc/h)^3.

        Parameters
        ----------
        cosmology : mapping, array, tensor, table or astropy cosmology
            As :func:`deepfield.emulators.parameters.read_cosmology` takes it. With torch tensors the answer is a
            tensor through which gradients flow to the parameters.
        k : array (K,)
            Increasing, 1e-4 to 50 h/Mpc.
        z : number or array (Z,)
            0 to 3.

        Returns
        -------
        Array ([N,] [Z,] K)
            Without the first axis for a single cosmology, without the second for a single number z.

        Raises
        ------
        DeepfieldError
            If a parameter is outside the box, or k or z beyond their ranges: nothing is clipped.
        """
        theta, one, xp = read_cosmology(cosmology)
        wave, redshift = check_k(k), check_z(z)
        if xp is np and len(theta) > _MANY:
            found = self.on(wave, redshift)(theta)
        else:
            found = self._direct(theta, wave, redshift, xp)
        if np.ndim(z) == 0:
            found = found[:, 0]
        return found[0] if one else found

    def error(self, k: ArrayLike) -> Array:
        """Relative error (K,) expected at k: root of the mean square over held-out cosmologies of the box."""
        return np.exp(np.interp(np.log(check_k(k)), self._errors[0], np.log(self._errors[1])))


def save_linear(
    folder: str | os.PathLike[str], transfer: Transfer, late: Array, error: Array, card: dict[str, Any]
) -> None:
    """Write a model of the linear spectrum.

    Parameters
    ----------
    late : Array (2,)
        Of :func:`deepfield.emulators.grid.late_time`.
    error : Array (2, E)
        Nodes of ln k (k in h/Mpc) and relative errors there.
    """
    arrays = {"weights": transfer.weights, "form": transfer.form, "ratio": transfer.ratio}
    # Shapes in single precision: their rounding is 1e-7, the emulator's error 1e-3 to 1e-4.
    weights = {
        name: torch.tensor(a, dtype=torch.float32 if name != "weights" else None) for name, a in arrays.items()
    }
    weights |= {"late": torch.tensor(late), "error": torch.tensor(error)}
    save(folder, Saved("emulators", {"kind": "linear", "degree": list(transfer.degree)}, weights, card))


def check_k(k: ArrayLike) -> Array:
    """Wavenumbers as an increasing array within the range."""
    wave = np.atleast_1d(np.asarray(k, dtype=float))
    if wave.ndim != 1 or not len(wave):
        raise DeepfieldError(f"k is one array of wavenumbers, not of shape {wave.shape}")
    if not np.isfinite(wave).all():
        raise DeepfieldError("k has NaN or infinite values")
    low, high = K_RANGE
    outside = (wave < low * (1 - 1e-9)) | (wave > high * (1 + 1e-9))
    if outside.any():
        raise DeepfieldError(f"k = {wave[outside][0]:g} h/Mpc is outside the range, {low:g} to {high:g}")
    if (np.diff(wave) <= 0).any():
        raise DeepfieldError("k should increase: sort it, without repeated values")
    return wave


def check_z(z: ArrayLike) -> Array:
    """Redshifts as an array within the range, in any order."""
    redshift = np.atleast_1d(np.asarray(z, dtype=float))
    low, high = Z_RANGE
    outside = ~((redshift >= low) & (redshift <= high))
    if redshift.ndim != 1 or outside.any():
        wrong = redshift[outside][0] if redshift.ndim == 1 else redshift.shape
        raise DeepfieldError(f"z = {wrong} is outside the emulator's range, {low:g} to {high:g}")
    return redshift
