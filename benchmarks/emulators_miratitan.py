"""HMcode2020 on CAMB's linear spectra over the box of Mira-Titan: what its emulator starts from.

    python benchmarks/emulators_miratitan.py --work benchmarks/work/emulators [--seconds 600]

Needs CAMB (extra emulators), and three seconds of processor time for each of the cosmologies; a file each,
m000.npz and on, so that a second call goes on. None of them is one of the simulations.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from emulators_options import options

from deepfield.core.files import atomic
from deepfield.data import registry
from deepfield.emulators.boltzmann import parameters, power_of
from deepfield.emulators.nbody_linear import SIMULATED
from deepfield.emulators.simulate import design

RUNS = 256


def solve(row: dict[str, float], z: np.ndarray) -> Any:
    """CAMB's results at its default accuracy, with the sigma_8 of the row and HMcode2020."""
    import camb

    h, w0 = row["h"], row["w_0"]
    baryons, light = row["omega_b_h2"], row["omega_nu_h2"]
    theta = [row["omega_m_h2"] / h**2, baryons / h**2, h, row["n_s"], row["sigma_8"]]
    chosen = parameters(theta, z, accuracy=(1.0, 1.0), k_max=12.0)
    cold = row["omega_m_h2"] - baryons - light
    if light:
        more: dict[str, Any] = {"mnu": 0.06, "num_massive_neutrinos": 3, "neutrino_hierarchy": "degenerate"}
        chosen.set_cosmology(H0=100 * h, ombh2=baryons, omch2=cold, nnu=3.046, TCMB=2.7255, **more)
        chosen.omnuh2 = light
    chosen.set_dark_energy(w=w0, wa=-(row["w_root"] ** 4) - w0, dark_energy_model="ppf")
    results = camb.get_results(chosen)
    amplitude = 2e-9 * (row["sigma_8"] / float(results.get_sigma8_0())) ** 2
    chosen.InitPower.set_params(ns=row["n_s"], As=amplitude)
    chosen.NonLinear = camb.model.NonLinear_pk
    chosen.NonLinearModel.set_params(halofit_version="mead2020")
    results.Params.NonLinear = chosen.NonLinear
    results.calc_power_spectra(chosen)
    return results


def one(row: dict[str, float], k: np.ndarray, z: np.ndarray, path: Path) -> None:
    """Spectra (Z, K) in Mpc^3 at k in 1/Mpc, redshifts as they come in the simulations: falling."""
    h, clock = row["h"], time.process_time()
    results = solve(row, z)
    rising = np.sort(z)
    found = {
        name: power_of(results, k / h, rising, nonlinear=name == "nonlinear")[::-1] / h**3
        for name in ("linear", "nonlinear")
    }
    theta = [row[name] for name in SIMULATED]
    with atomic(path) as temporary:
        np.savez(temporary, theta=theta, k=k, z=np.sort(z)[::-1], cpu=time.process_time() - clock, **found)


def main(work: Path, seconds: float) -> None:
    work.mkdir(parents=True, exist_ok=True)
    began, simulations = time.monotonic(), registry.load("miratitan4")
    k, z = (np.asarray(simulations.meta[name], dtype=float) for name in ("k", "z"))
    table = design(SIMULATED, RUNS, seed=0)
    for i in range(RUNS):
        path = work / f"m{i:03d}.npz"
        if not path.exists() and time.monotonic() - began < seconds:
            one({name: float(table[name][i]) for name in SIMULATED}, k, z, path)
    print(len(list(work.glob("m[0-9]*.npz"))), "of", RUNS, "are there")


if __name__ == "__main__":
    given = options(__doc__).parse_args()
    main(given.work, given.seconds)
