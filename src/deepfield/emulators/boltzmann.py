"""The truth: transfer functions and spectra of CAMB, at settings whose noise is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.optional import require

Array = NDArray[np.float64]

CONVERGED, WIDE = (2.0, 2.0), (1.0, 2.0)
"""AccuracyBoost and lAccuracyBoost, of the usual and of the wide spectra."""

NEUTRINO_MASS = 93.04
"""Sum of masses in eV over Omega_nu h^2, of neutrinos with the temperature of N_eff = 3.044."""

_K_MAX = 46.0  # 1/Mpc: 50 h/Mpc at h = 0.9


def parameters(
    theta: ArrayLike,
    z: ArrayLike,
    *,
    accuracy: tuple[float, float] = CONVERGED,
    k_max: float = _K_MAX,
    m_nu: float = 0.0,
    w_0: float = -1.0,
    w_a: float = 0.0,
) -> Any:
    """CAMB's parameters: flat, N_eff = 3.046, matter spectra alone.

    Parameters
    ----------
    theta : array (5,)
        In the order of the box; sigma_8 is not used, CAMB's amplitude is A_s = 2e-9.
    z : array (Z,)
    accuracy : tuple
        AccuracyBoost and lAccuracyBoost.
    k_max : float
        1/Mpc.
    m_nu : float
        Sum of the masses of three neutrinos alike, in eV.
    w_0, w_a : float
        Equation of state of dark energy, w_0 + w_a (1 - a), whose perturbations are those of the PPF description.
    """
    camb = require("camb", extra="emulators")
    share, baryons, h, tilt, _ = (float(v) for v in np.asarray(theta))
    found = camb.CAMBparams()
    matter = {"ombh2": baryons * h * h, "omch2": (share - baryons) * h * h - m_nu / NEUTRINO_MASS}
    light = {"mnu": m_nu, "num_massive_neutrinos": 3 if m_nu else 0, "nnu": 3.046, "TCMB": 2.7255}
    found.set_cosmology(H0=100 * h, **matter, **light, neutrino_hierarchy="degenerate", omk=0.0)
    if (w_0, w_a) != (-1.0, 0.0):
        found.set_dark_energy(w=w_0, wa=w_a, dark_energy_model="ppf")
    found.InitPower.set_params(ns=tilt, As=2e-9)
    found.WantTensors = found.DoLensing = False
    found.set_accuracy(AccuracyBoost=accuracy[0], lAccuracyBoost=accuracy[1])
    # k_per_logint stays at 0: CAMB's own spacing, which set_matter_power refines with AccuracyBoost.
    found.set_matter_power(redshifts=sorted(np.atleast_1d(z).tolist(), reverse=True), kmax=k_max, silent=True)
    found.NonLinear = camb.model.NonLinear_none
    found.WantCls = False
    return found


def solve(theta: ArrayLike, z: ArrayLike, **how: Any) -> Any:
    """CAMB's results with the sigma_8 of ``theta``; HMcode2020 (Mead et al. 2021) is there if asked for.

    The redshifts are ``z`` (Z,) and today; other keywords are those of :func:`parameters`.
    """
    camb = require("camb", extra="emulators")
    _, _, _, tilt, sigma_8 = (float(v) for v in np.asarray(theta))
    redshift = np.unique(np.append(np.atleast_1d(np.asarray(z, float)), 0.0))
    chosen = parameters(theta, redshift, **how)
    results = camb.get_results(chosen)
    # sigma_8 enters through the amplitude: the transfer functions are used again.
    chosen.InitPower.set_params(ns=tilt, As=2e-9 * (sigma_8 / float(results.get_sigma8_0())) ** 2)
    chosen.NonLinear = camb.model.NonLinear_pk
    halos(results, chosen)
    return results


def halos(results: Any, chosen: Any, log_t_agn: float | None = None) -> None:
    """Have HMcode2020 computed again, with feedback if its temperature is given."""
    version = "mead2020" if log_t_agn is None else "mead2020_feedback"
    chosen.NonLinearModel.set_params(halofit_version=version, HMCode_logT_AGN=log_t_agn or 7.8)
    results.Params.NonLinear = chosen.NonLinear
    results.calc_power_spectra(chosen)


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


def wide_transfer(row: Mapping[str, float], *, k: tuple[float, ...], z: tuple[float, ...]) -> Array:
    """Transfer function of all matter (Z, K) at k in h/Mpc, in CAMB's unit.

    Parameters
    ----------
    row : mapping
        One cosmology: omega_m, omega_b, h, m_nu, w_0 and w_a, as :class:`deepfield.emulators.WidePower` takes it.
    """
    camb = require("camb", extra="emulators")
    theta = [row["omega_m"], row["omega_b"], row["h"], 1.0, 0.8]
    more = {name: row[name] for name in ("m_nu", "w_0", "w_a")}
    chosen = parameters(theta, sorted({0.0, *z}), accuracy=WIDE, k_max=50.5 * row["h"], **more)
    return transfer_on(camb.get_results(chosen), row, np.asarray(k), z)


def transfer_on(results: Any, row: Mapping[str, float], k: Array, z: ArrayLike) -> Array:
    """Transfer functions (Z, K) of CAMB's results at k in h/Mpc.

    What is interpolated between CAMB's wavenumbers, which are sparse where oscillations fade, is the ratio to the
    closed form of :func:`deepfield.emulators.wide.base`, which has nearly the same oscillations.
    """
    from deepfield.emulators.wide import FEATURES, base

    wave, found, _ = transfer_of(results)
    own = wave / row["h"]
    inside = own > 5e-5
    known = sorted(results.Params.Transfer.PK_redshifts[: found.shape[1]])
    at = [int(np.argmin(np.abs(np.subtract(known, one)))) for one in np.atleast_1d(z)]
    theta = np.array([[row[name] for name in FEATURES]])
    ratio = found[inside][:, at].T / base(theta, own[inside], z)[0]
    line = CubicSpline(np.log(own[inside]), ratio, axis=1)
    return np.asarray(line(np.log(k)) * base(theta, k, z)[0])


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


def cmb_spectra(
    row: Mapping[str, float], *, accuracy: tuple[float, float] = (1.0, 1.0), lensing: float = 1.0
) -> Array:
    """Lensed TT, TE and EE, and the lensing potential, (4, L) from l = 0 on, as :class:`CMBSpectra` has them.

    Parameters
    ----------
    row : mapping
        One cosmology, with the names of :data:`deepfield.emulators.cmb.CMB_BOX`.
    accuracy : tuple
        AccuracyBoost and lAccuracyBoost.
    lensing : float
        CAMB's lens_potential_accuracy.
    """
    from deepfield.emulators.cmb import LARGEST

    camb = require("camb", extra="emulators")
    found = camb.CAMBparams()
    matter = {"ombh2": row["omega_b_h2"], "omch2": row["omega_c_h2"], "mnu": 0.06, "omk": 0.0}
    found.set_cosmology(H0=100 * row["h"], tau=row["tau"], nnu=3.044, TCMB=2.7255, **matter)
    found.InitPower.set_params(ns=row["n_s"], As=1e-10 * np.exp(row["ln_a_s"]))
    found.WantTensors = False
    found.set_accuracy(AccuracyBoost=accuracy[0], lAccuracyBoost=accuracy[1])
    found.set_for_lmax(LARGEST, lens_potential_accuracy=lensing)
    spectra = camb.get_results(found).get_cmb_power_spectra(found, CMB_unit="muK", lmax=LARGEST)
    tt, ee, _, te = spectra["total"].T
    return np.stack([tt, te, ee, spectra["lens_potential"][:, 0]])
