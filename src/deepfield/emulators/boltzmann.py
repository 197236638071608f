"""The truth: transfer functions and spectra of CAMB, at settings whose noise is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.optional import require

Array = NDArray[np.float64]

CONVERGED = (2.0, 2.0)
"""AccuracyBoost and lAccuracyBoost."""

_K_MAX = 46.0  # 1/Mpc: 50 h/Mpc at h = 0.9


def parameters(
    theta: ArrayLike, z: ArrayLike, *, accuracy: tuple[float, float] = CONVERGED, k_max: float = _K_MAX
) -> Any:
    """CAMB's parameters: flat LCDM, N_eff = 3.046, massless neutrinos, matter spectra alone.

    Parameters
    ----------
    theta : array (5,)
        In the order of the box; sigma_8 is not used, CAMB's amplitude is A_s = 2e-9.
    z : array (Z,)
    accuracy : tuple
        AccuracyBoost and lAccuracyBoost.
    k_max : float
        1/Mpc.
    """
    camb = require("camb", extra="emulators")
    share, baryons, h, tilt, _ = (float(v) for v in np.asarray(theta))
    found = camb.CAMBparams()
    matter = {"ombh2": baryons * h * h, "omch2": (share - baryons) * h * h}
    found.set_cosmology(H0=100 * h, **matter, mnu=0.0, num_massive_neutrinos=0, nnu=3.046, TCMB=2.7255, omk=0.0)
    found.InitPower.set_params(ns=tilt, As=2e-9)
    found.WantTensors = found.DoLensing = False
    found.set_accuracy(AccuracyBoost=accuracy[0], lAccuracyBoost=accuracy[1])
    # k_per_logint stays at 0: CAMB's own spacing, which set_matter_power refines with AccuracyBoost.
    found.set_matter_power(redshifts=sorted(np.atleast_1d(z).tolist(), reverse=True), kmax=k_max, silent=True)
    found.NonLinear = camb.model.NonLinear_none
    found.WantCls = False
    return found


def solve(
    theta: ArrayLike, z: ArrayLike, *, accuracy: tuple[float, float] = CONVERGED, k_max: float = _K_MAX
) -> Any:
    """CAMB's results with the sigma_8 of ``theta``; HMcode2020 (Mead et al. 2021) is there if asked for.

    The redshifts are ``z`` (Z,) and today.
    """
    camb = require("camb", extra="emulators")
    _, _, _, tilt, sigma_8 = (float(v) for v in np.asarray(theta))
    redshift = np.unique(np.append(np.atleast_1d(np.asarray(z, float)), 0.0))
    chosen = parameters(theta, redshift, accuracy=accuracy, k_max=k_max)
    results = camb.get_results(chosen)
    # sigma_8 enters through the amplitude: the transfer functions are used again.
    chosen.InitPower.set_params(ns=tilt, As=2e-9 * (sigma_8 / float(results.get_sigma8_0())) ** 2)
    chosen.NonLinear = camb.model.NonLinear_pk
    chosen.NonLinearModel.set_params(halofit_version="mead2020")
    results.Params.NonLinear = chosen.NonLinear
    results.calc_power_spectra(chosen)
    return results


def transfer_of(results: Any) -> tuple[Array, Array, float]:
    """Matter transfer functions, straight from the integrator.

    Returns
    -------
    k : Array (K,)
        1/Mpc, where CAMB put them.
    T : Array (K, Z)
        In CAMB's unit, for z in increasing order.
    horizon : float
        Sound horizon at the drag epoch, Mpc.
    """
    data = results.get_matter_transfer_data().transfer_data
    k = data[0, :, 0].astype(float) * float(results.Params.H0) / 100
    return k, data[6].astype(float)[:, ::-1], float(results.get_derived_params()["rdrag"])


def spectrum(
    theta: ArrayLike,
    k: ArrayLike,
    z: ArrayLike,
    *,
    nonlinear: bool = False,
    accuracy: tuple[float, float] = (1.0, 1.0),
) -> Array:
    """P(k, z) (Z, K) in (Mpc/h)^3 with the sigma_8 of ``theta``, by default at CAMB's default accuracy.

    Parameters
    ----------
    k : array (K,)
        h/Mpc, at most 50.
    nonlinear : bool
        HMcode2020 (Mead et al. 2021).
    """
    results = solve(theta, z, accuracy=accuracy, k_max=max(_K_MAX, 1.01 * float(np.max(k))))
    return power_of(results, k, z, nonlinear=nonlinear)


def power_of(results: Any, k: ArrayLike, z: ArrayLike, *, nonlinear: bool) -> Array:
    """P(k, z) (Z, K) in (Mpc/h)^3 of CAMB's results, such as those of :func:`solve`; k (K,) in h/Mpc."""
    line = results.get_matter_power_interpolator(nonlinear=nonlinear, hubble_units=True, k_hunit=True)
    return np.atleast_2d(line.P(np.atleast_1d(np.asarray(z, float)), np.asarray(k, float)))
