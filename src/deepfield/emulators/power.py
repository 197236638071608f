"""The matter power spectrum of a cosmology, from weights that come with the package."""

from __future__ import annotations

import os
from functools import cache, lru_cache
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
from deepfield.physics.hmcode import hmcode

Array = NDArray[np.float64]

K_RANGE, Z_RANGE = (1e-4, 50.0), (0.0, 3.0)
"""In h/Mpc, and redshift."""

SHIPPED = "matter-power-linear"

USUAL_SHARE = 0.2
"""Of baryons in the matter, for which errors are stated if no cosmology is given."""

_NONLINEAR = (1e-4, 10.0)
_EXACT = ("n_s", "sigma_8")  # parameters that enter the linear spectrum in closed form
_TOGETHER = 32  # cosmologies that go through the halo model at once
_MANY = 5000  # cosmologies for which laying out a grid pays


class MatterPower:
    """P(k, z) of flat LCDM with massless neutrinos, as CAMB would give it: linear, or by HMcode2020.

    N_eff = 3.046 and T_CMB = 2.7255 K. Wavenumbers are in h/Mpc and spectra in (Mpc/h)^3.

    Parameters
    ----------
    model : path or str
        A folder, or a model that comes with the package.
    nonlinear : bool
        Apply HMcode2020 (:mod:`deepfield.physics.hmcode`), which takes some milliseconds for each spectrum; k is
        at most 10 h/Mpc then.
    precision : str
        "double" or "single", of :meth:`on`; single is some 1e-6 off and faster.
    extrapolate : bool
        Let n_s and sigma_8 be outside the box: they enter the linear spectrum in closed form, and are as precise
        there. The other parameters and the nonlinear spectrum have no safe extrapolation.

    Raises
    ------
    DeepfieldError
        If the options do not fit.

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

    def __init__(
        self,
        model: str | os.PathLike[str] = SHIPPED,
        *,
        nonlinear: bool = False,
        precision: str = "double",
        extrapolate: bool = False,
    ) -> None:
        if extrapolate and nonlinear:
            raise DeepfieldError("extrapolate=True is for the linear spectrum: the halo model is not exact in n_s")
        self._free = _EXACT if extrapolate else ()
        if precision not in ("double", "single"):
            raise DeepfieldError(f"precision is 'double' or 'single', not '{precision}'")
        saved = load(model, domain="emulators")
        if saved.config.get("kind") != "linear":
            raise ModelError(f"{model} is no model of the linear power spectrum")
        tensors = {name: t.double().numpy() for name, t in saved.weights.items()}
        degree = tuple(int(d) for d in saved.config["degree"])
        self.transfer = Transfer((degree[0], degree[1]), tensors["weights"], tensors["form"], tensors["ratio"])
        self.late, self.nonlinear = tensors["late"], nonlinear
        self.k_range = _NONLINEAR if nonlinear else K_RANGE
        self._errors = tensors["error_nonlinear" if nonlinear else "error"]
        self._steepness = float(tensors["steepness"][int(nonlinear)])
        self.card = saved.card
        self._dtype = np.float64 if precision == "double" else np.float32
        self.direct = Direct(self.transfer, self.late)
        self._grid = lru_cache(maxsize=4)(self._build)

    def on(self, k: ArrayLike, z: ArrayLike = 0.0) -> Grid:
        """The spectrum laid out on wavenumbers k (K,) and redshifts z: a microsecond for each of many cosmologies.

        Laying out takes about a second, and is kept for the next call with the same k and z.

        Raises
        ------
        DeepfieldError
            If k does not increase, k or z are beyond what the emulator knows, or the spectrum is not linear.
        """
        if self.nonlinear:
            raise DeepfieldError("a grid is laid out for the linear spectrum alone: call the nonlinear one itself")
        wave, redshift = check_k(k), check_z(z)
        return self._grid(wave.tobytes(), redshift.tobytes())

    def _build(self, k: bytes, z: bytes) -> Grid:
        return Grid(self.direct, np.frombuffer(k).copy(), np.frombuffer(z).copy(), self._dtype)

    def __call__(self, cosmology: Any, k: ArrayLike, z: ArrayLike = 0.0) -> Any:
        """P in (Mpc/h)^3.

        Parameters
        ----------
        cosmology : mapping, array, tensor, table or astropy cosmology
            As :func:`deepfield.emulators.parameters.read_cosmology` takes it. With torch tensors the answer is a
            tensor through which gradients flow to the parameters.
        k : array (K,)
            Increasing, 1e-4 to 50 h/Mpc, or to 10 where it is nonlinear.
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
        theta, one, xp = read_cosmology(cosmology, self._free)
        wave, redshift = check_k(k, self.k_range), check_z(z)
        if self.nonlinear:
            if xp is not np:
                raise DeepfieldError("the nonlinear spectrum takes numpy arrays: it has no gradients")
            parts = (theta[i : i + _TOGETHER] for i in range(0, len(theta), _TOGETHER))
            found = np.concatenate([self._halo_model(part, wave, redshift) for part in parts])
        elif xp is np and len(theta) > _MANY and not self._free:  # grids end where the box does
            found = self.on(wave, redshift)(theta)
        else:
            found = self.direct(theta, wave, redshift, xp)
        return asked(found, z, one)

    def _halo_model(self, theta: Array, k: Array, z: Array) -> Array:
        """HMcode2020 on the linear spectra: (N, Z, K)."""
        share, baryons, h, tilt, _ = np.repeat(theta, len(z), 0).T

        def linear(q: Array) -> Array:
            return np.asarray(self.direct(theta, q, z)).reshape(-1, len(q))

        found = hmcode(k, linear, share, baryons, h, tilt, np.tile(z, len(theta)))
        return found.reshape(len(theta), len(z), -1)

    def error(self, k: ArrayLike, cosmology: Any = None) -> Array:
        """Relative error expected at k, of one standard deviation, at any redshift.

        Parameters
        ----------
        k : array (K,)
        cosmology : optional
            As in a call. Errors grow with the share of baryons; without a cosmology it is a fifth of the matter.

        Returns
        -------
        Array ([N,] K)
        """
        wave = check_k(k, self.k_range)
        typical = np.exp(np.interp(np.log(wave), self._errors[0], np.log(self._errors[1])))
        if cosmology is None:
            return typical
        theta, one, _ = read_cosmology(cosmology, self._free)
        share = np.asarray(theta)[:, 1] / np.asarray(theta)[:, 0]
        found = typical * np.exp(self._steepness * (share - USUAL_SHARE))[:, None]
        return found[0] if one else found


@cache
def shipped_direct() -> Direct:
    """The linear spectrum that comes with the package, for what is built on it."""
    return MatterPower().direct


def save_linear(
    folder: str | os.PathLike[str],
    transfer: Transfer,
    late: Array,
    error: Array,
    error_nonlinear: Array,
    steepness: tuple[float, float],
    card: dict[str, Any],
) -> None:
    """Write a model of the linear spectrum.

    Parameters
    ----------
    late : Array (12,)
        Of :func:`deepfield.emulators.growth.late_time`.
    error, error_nonlinear : Array (2, E)
        Nodes of ln k (k in h/Mpc) and relative errors there, where baryons have their usual share.
    steepness : tuple of float
        How the logarithm of errors grows with the share of baryons, of the linear and of the nonlinear spectrum.
    """
    arrays = {"weights": transfer.weights, "form": transfer.form, "ratio": transfer.ratio}
    # Shapes in single precision: their rounding is 1e-7, the emulator's error 1e-3 to 1e-4.
    weights = {
        name: torch.tensor(a, dtype=torch.float32 if name != "weights" else None) for name, a in arrays.items()
    }
    weights |= {name: torch.tensor(a) for name, a in (("late", late), ("error", error))}
    weights |= {"error_nonlinear": torch.tensor(error_nonlinear), "steepness": torch.tensor(steepness)}
    save(folder, Saved("emulators", {"kind": "linear", "degree": list(transfer.degree)}, weights, card))


def check_k(k: ArrayLike, limits: tuple[float, float] = K_RANGE) -> Array:
    """Wavenumbers as an increasing array within the limits."""
    if hasattr(k, "to_value"):
        raise DeepfieldError(
            f"k is numbers in h/Mpc, not a Quantity in {getattr(k, 'unit', '')}: give .value, over h if in 1/Mpc"
        )
    wave = np.atleast_1d(np.asarray(k, dtype=float))
    if wave.ndim != 1 or not len(wave):
        raise DeepfieldError(f"k is one array of wavenumbers, not of shape {wave.shape}")
    if not np.isfinite(wave).all():
        raise DeepfieldError("k has NaN or infinite values")
    low, high = limits
    outside = (wave < low * (1 - 1e-9)) | (wave > high * (1 + 1e-9))
    if outside.any():
        raise DeepfieldError(f"k = {wave[outside][0]:g} h/Mpc is outside the range, {low:g} to {high:g}")
    if (np.diff(wave) <= 0).any():
        raise DeepfieldError("k should increase: sort it, without repeated values")
    return wave


def asked(found: Any, z: ArrayLike, one: bool) -> Any:
    """Answers (N, Z, K) without the axes that were not asked for: of one cosmology, and of a single number z."""
    if np.ndim(z) == 0:
        found = found[:, 0]
    return found[0] if one else found


def check_z(z: ArrayLike) -> Array:
    """Redshifts as an array within the range, in any order."""
    redshift = np.atleast_1d(np.asarray(z, dtype=float))
    low, high = Z_RANGE
    outside = ~((redshift >= low) & (redshift <= high))
    if redshift.ndim != 1 or outside.any():
        wrong = redshift[outside][0] if redshift.ndim == 1 else redshift.shape
        raise DeepfieldError(f"z = {wrong} is outside the emulator's range, {low:g} to {high:g}")
    return redshift
