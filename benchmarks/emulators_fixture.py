"""The Boltzmann code's word for the tests: tests/emulators/camb.npz, from CAMB 2.0.5 at converged settings.

    python benchmarks/emulators_fixture.py

Four cosmologies drawn uniformly in the box: linear spectra and HMcode2020 at z = 0, 1 and 3, Takahashi's halofit
at z = 0 and 1, and the sound horizon. And camb_miratitan.npz: linear spectra with w0, wa and neutrinos of two
cosmologies in the box of Mira-Titan, which are not in the training, at z = 0, 1 and 2.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from emulators_miratitan import BOX as WIDE
from emulators_miratitan import solve

from deepfield.core.files import atomic
from deepfield.emulators.boltzmann import parameters, power_of, spectrum
from deepfield.emulators.parameters import BOX


def main() -> None:
    import camb

    low, high = np.array(list(BOX.values())).T
    theta = np.random.default_rng(5).uniform(low, high, (4, len(low))).round(4)
    k = np.geomspace(1e-4, 10, 80)
    linear, nonlinear, curved, horizons = [], [], [], []
    for row in theta:
        both = (spectrum(row, k, [0.0, 1.0, 3.0], nonlinear=n, accuracy=(2.0, 2.0)) for n in (False, True))
        for kept, found in zip((linear, nonlinear), both):
            kept.append(found)
        chosen = parameters(row, [0.0, 1.0], accuracy=(1.0, 1.0), k_max=20.0)
        results = camb.get_results(chosen)
        chosen.InitPower.set_params(ns=row[3], As=2e-9 * (row[4] / results.get_sigma8_0()) ** 2)
        chosen.NonLinear = camb.model.NonLinear_pk
        chosen.NonLinearModel.set_params(halofit_version="takahashi")
        results = camb.get_results(chosen)
        line = results.get_matter_power_interpolator(nonlinear=True, hubble_units=True, k_hunit=True)
        curved.append(line.P(np.array([0.0, 1.0]), k))
        horizons.append(results.get_derived_params()["rdrag"])
    path = Path(__file__).parents[1] / "tests" / "emulators" / "camb.npz"
    with atomic(path) as temporary:
        np.savez_compressed(
            temporary,
            theta=theta,
            k=k,
            z=[0.0, 1.0, 3.0],
            linear=linear,
            nonlinear=nonlinear,
            halofit=curved,
            horizon=horizons,
        )
    print(path, path.stat().st_size, "bytes")


def miratitan() -> None:
    low, high = np.array(list(WIDE.values())).T
    theta = np.random.default_rng(5).uniform(low, high, (2, len(low))).round(4)
    k, z = np.geomspace(1e-3, 5, 60), np.array([0.0, 1.0, 2.0])
    linear = []
    for row in theta.tolist():
        given = dict(zip(WIDE, row))
        linear.append(power_of(solve(given, z), k / given["h"], z, nonlinear=False) / given["h"] ** 3)
    path = Path(__file__).parents[1] / "tests" / "emulators" / "camb_miratitan.npz"
    with atomic(path) as temporary:
        np.savez_compressed(temporary, theta=theta, k=k, z=z, linear=linear)
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
    miratitan()
