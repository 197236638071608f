"""The truth: transfer functions and spectra of CAMB, at settings whose noise is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.optional import require
from deepfield.emulators.linear import Run

Array = NDArray[np.float64]

CONVERGED, CHEAP = (2.0, 2.0), (1.0, 2.0)
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


def transfer(
    theta: ArrayLike, z: ArrayLike = 0.0, *, accuracy: tuple[float, float] = CONVERGED
) -> tuple[Array, Array, float]:
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
    camb = require("camb", extra="emulators")
    results = camb.get_results(parameters(theta, z, accuracy=accuracy))
    data = results.get_matter_transfer_data().transfer_data
    k = data[0, :, 0].astype(float) * float(np.asarray(theta)[2])
    return k, data[6].astype(float)[:, ::-1], float(results.get_derived_params()["rdrag"])


def run(theta: ArrayLike, *, accuracy: tuple[float, float] = CONVERGED) -> Run:
    """One point of a design of :meth:`deepfield.emulators.linear.Transfer.fit`."""
    share, baryons, h, *_ = (float(v) for v in np.asarray(theta))
    k, t, horizon = transfer(theta, accuracy=accuracy)
    return Run(share * h * h, baryons * h * h, k, t[:, 0], horizon)


def spectrum(theta: ArrayLike, k: ArrayLike, z: ArrayLike, *, nonlinear: bool = False) -> Array:
    """P(k, z) (Z, K) in (Mpc/h)^3 with the sigma_8 of ``theta``, at CAMB's default accuracy.

    Parameters
    ----------
    k : array (K,)
        h/Mpc, at most 50.
    nonlinear : bool
        HMcode2020 (Mead et al. 2021).
    """
    camb = require("camb", extra="emulators")
    redshift = np.unique(np.append(np.atleast_1d(np.asarray(z, float)), 0.0))
    chosen = parameters(theta, redshift, accuracy=(1.0, 1.0), k_max=max(_K_MAX, 1.01 * float(np.max(k))))
    first = camb.get_results(chosen)
    sigma = float(first.get_sigma8_0())
    # sigma_8 enters through the amplitude: the transfer functions are used again.
    chosen.InitPower.set_params(
        ns=float(np.asarray(theta)[3]), As=2e-9 * (float(np.asarray(theta)[4]) / sigma) ** 2
    )
    if nonlinear:
        chosen.NonLinear = camb.model.NonLinear_pk
        chosen.NonLinearModel.set_params(halofit_version="mead2020")
        first.Params.NonLinear = chosen.NonLinear
    first.calc_power_spectra(chosen)
    line = first.get_matter_power_interpolator(nonlinear=nonlinear, hubble_units=True, k_hunit=True)
    return np.atleast_2d(line.P(np.atleast_1d(np.asarray(z, float)), np.asarray(k, float)))
