"""Cosmic shear of a survey like LSST's first year: NPE beside the exact posterior; the data vector beside CAMB.

    python benchmarks/inference_shear.py posteriors --seeds 0 1
    python benchmarks/inference_shear.py reference   # with camb==2.0.5: what the tests compare with

Writes ``benchmarks/results/inference_shear.json``, or ``tests/inference/shear.npz``; what is in the first is not
done again. The settings are those of ``deepfield run inference``, and nothing is chosen by looking at the exact
posterior.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from inference import known, remember
from numpy.typing import NDArray
from scipy.integrate import simpson
from scipy.interpolate import CubicSpline

from deepfield.core.files import atomic
from deepfield.emulators import MatterPower
from deepfield.inference.run import learn, quick
from deepfield.inference.shear import C1_DENSITY, FIDUCIAL, CosmicShear, lsst_y1
from deepfield.trust.two_samples import c2st

Array = NDArray[np.float64]

EXACT = 60_000
"""Draws of chains, worth about a twelfth as many independent ones."""


def with_s8(theta: Array, names: tuple[str, ...]) -> Array:
    """Draws with S_8 = sigma_8 (omega_m / 0.3)^0.5 as one more column."""
    matter, sigma = (theta[:, names.index(n)] for n in ("omega_m", "sigma_8"))
    return np.column_stack([theta, sigma * np.sqrt(matter / 0.3)])


def posteriors(n: int, seed: int) -> None:
    """NPE of a mock with noise of its own against the exact likelihood: means, widths, C2ST."""
    key = f"lsst_y1 npe {n} {seed}"
    if key in known("shear"):
        return
    clock = time.process_time()
    world = CosmicShear(MatterPower(nonlinear=True), seed=seed)
    build = time.process_time() - clock
    theta, clock = world.prior.sample(10_000, seed=seed), time.process_time()
    world.mean(theta)
    ten_thousand = time.process_time() - clock
    clock = time.process_time()
    exact, chains = world.exact(EXACT, seed=seed)
    exact_seconds = time.process_time() - clock
    print(
        f"seed {seed}: exact posterior in {exact_seconds:.0f} s, {chains.ess.min():.0f} independent draws",
        flush=True,
    )
    # How far polynomials are from the spectrum itself, in units of the noise of all data together.
    away = [
        np.linalg.norm((world.mean(rows) - world.mean(rows, direct=True)) @ world.whitener.T, axis=1)
        for rows in (theta[:100], exact[:: len(exact) // 100])
    ]
    near, found, seconds = learn(world, ["npe"], quick(seed), n, seed=seed)
    draws = found["npe"].sample(near.observed, 10_000, seed=seed)
    print(f"seed {seed}: NPE trained in {seconds['npe']:.0f} s on {len(near.observed)} numbers", flush=True)
    names = world.prior.names
    one, two = with_s8(exact, names), with_s8(draws, names)
    chosen = [names.index("omega_m"), names.index("sigma_8")]
    entry = {
        "parameters": [*names, "S_8"],
        "numbers": {
            "spectra": len(world.data),
            "over the prior": len(world.observed),
            "learnt": len(near.observed),
        },
        "exact_mean": one.mean(0).tolist(),
        "exact_std": one.std(0).tolist(),
        "exact_ess": float(chains.ess.min()),
        "exact_rhat": float(chains.rhat.max()),
        "prior_std": world.prior.sample(10_000, seed=seed).std(0).tolist(),
        "shift": ((two.mean(0) - one.mean(0)) / one.std(0)).round(4).tolist(),
        "width": (two.std(0) / one.std(0)).round(4).tolist(),
        "c2st": {
            "omega_m, sigma_8": round(c2st(one[:, chosen], two[:, chosen], seed=seed), 4),
            "all": round(c2st(exact, draws, seed=seed), 4),
        },
        "seconds": {
            "spectra laid out": round(build, 1),
            "10,000 data vectors": round(ten_thousand, 2),
            "exact": round(exact_seconds, 1),
            "training": round(seconds["npe"], 1),
        },
        "polynomials_off": {
            part: dict(zip(("median", "99 %"), np.quantile(values, [0.5, 0.99]).round(4).tolist()))
            for part, values in zip(("prior", "posterior"), away)
        },
    }
    remember("shear", key, entry)
    print(key, entry, flush=True)


def reference() -> None:
    """Spectra at the fiducial cosmology by CAMB alone: its P(k, z) and distances, and its own lensing sources."""
    import camb
    from camb.sources import SplinedSourceWindow

    survey, f = lsst_y1(), FIDUCIAL

    def chosen(amplitude: float) -> camb.CAMBparams:
        square = f["h"] ** 2
        chosen = camb.CAMBparams()
        chosen.set_cosmology(
            H0=100 * f["h"], ombh2=f["omega_b"] * square, omch2=(f["omega_m"] - f["omega_b"]) * square, mnu=0,
            num_massive_neutrinos=0, nnu=3.046, TCMB=2.7255,
        )  # fmt: skip
        chosen.InitPower.set_params(As=amplitude, ns=f["n_s"])
        chosen.NonLinearModel.set_params(halofit_version="mead2020")
        return chosen

    start = chosen(2e-9)
    start.set_matter_power(redshifts=[0.0], kmax=30)
    amplitude = 2e-9 * (f["sigma_8"] / camb.get_results(start).get_sigma8_0()) ** 2

    power = chosen(amplitude)
    power.NonLinear = camb.model.NonLinear_pk
    power.set_accuracy(AccuracyBoost=1.5)
    power.set_matter_power(redshifts=np.linspace(0, 3.1, 60)[::-1], kmax=60, k_per_logint=40)
    results = camb.get_results(power)
    kinds = {"hubble_units": True, "k_hunit": True}
    line = results.get_matter_power_interpolator(nonlinear=True, **kinds)
    linear = results.get_matter_power_interpolator(nonlinear=False, **kinds)
    z = np.linspace(1e-3, 3, 6001)
    chi = results.comoving_radial_distance(z) * f["h"]
    rate = results.hubble_parameter(z) / 299792.458 / f["h"]
    n = CubicSpline(survey.z, survey.n_of_z, axis=1)(z)
    n /= simpson(n, x=z)[:, None]
    # <1 - chi / chi_s> from two running integrals over the sources.
    count, over = (CubicSpline(z, v, axis=1).antiderivative() for v in (n, n / chi))
    lever = count(3.0)[:, None] - count(z) - chi * (over(3.0)[:, None] - over(z))
    lensing = 1.5 * f["omega_m"] / 2997.92458**2 * (1 + z) * chi * lever
    few = slice(None, None, 10)
    fallen = np.sqrt([linear.P(v, 1e-2) / linear.P(0, 1e-2) for v in z[few]])
    tidal = -C1_DENSITY * f["omega_m"] / fallen * (n * rate)[:, few]
    at = [[line.P(v, (ell + 0.5) / d) if (ell + 0.5) / d < 50 else 0.0 for v, d in zip(z[few], chi[few])]
          for ell in survey.ell]  # fmt: skip
    steps = np.array(at) / (chi**2 * rate)[few]
    plain, aligned = (
        simpson(q[:, None, None] * q[None, :, None] * steps, x=z[few])
        for q in (lensing[:, few], lensing[:, few] + tidal)
    )

    own = chosen(amplitude)
    own.NonLinear = camb.model.NonLinear_both
    own.Want_CMB = False
    own.set_for_lmax(1600, lens_potential_accuracy=1)
    windows = [n / np.trapezoid(n, survey.z) for n in survey.n_of_z[::2]]
    own.SourceWindows = [SplinedSourceWindow(source_type="lensing", z=survey.z, W=w) for w in windows]
    own.SourceTerms.limber_windows, own.SourceTerms.limber_phi_lmin = True, 10
    spectra = camb.get_results(own).get_source_cls_dict(raw_cl=True)
    sources = [[CubicSpline(np.arange(len(spectra["W1xW1"])), spectra[f"W{i}xW{j}"])(survey.ell)
                for j in (1, 2, 3)] for i in (1, 2, 3)]  # fmt: skip
    path = Path(__file__).parents[1] / "tests" / "inference" / "shear.npz"
    with atomic(path) as temporary:
        np.savez_compressed(temporary, plain=plain, aligned=aligned, sources=sources)
    print(path, path.stat().st_size, "bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["posteriors", "reference"])
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.part == "reference":
        reference()
        return
    for seed in options.seeds:
        posteriors(options.n, seed)


if __name__ == "__main__":
    main()
