"""A likelihood of a synthetic power spectrum, with the emulator and with CAMB.

    python benchmarks/emulators_chain.py data --work benchmarks/work/emulators
    python benchmarks/emulators_chain.py chain --work benchmarks/work/emulators
    python benchmarks/emulators_chain.py camb --work benchmarks/work/emulators [--seconds 600]

chain samples the posterior with the emulator; camb (extra emulators) gives draws of it the weights of CAMB's
likelihood, at converged settings, a file for each, so that a second call goes on; the result counts those that
are there. Before chain is run for the first time, data makes the data, with CAMB too.
Result: benchmarks/results/emulators_chain.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from emulators_options import options

from deepfield.core.files import atomic
from deepfield.emulators.parameters import BOX
from deepfield.physics.power import variance

RESULT = Path(__file__).parent / "results" / "emulators_chain.json"
FIDUCIAL = np.array([0.31, 0.049, 0.68, 0.965, 0.81])
K, Z = np.geomspace(0.02, 0.5, 40), np.array([0.5, 1.0])
VOLUME, FLOOR = 5e9, 0.002  # (Mpc/h)^3 of a redshift, and a relative error beside that of the volume
STEPS, DRAWS = 5000, 10
K_MAX, ACCURACY = 20.0, (3.0, 4.0)  # 1/Mpc, of CAMB: enough for the integrals of HMcode; and its boosts
ABOUT = (
    f"The matter power spectrum of HMcode2020 at z = 0.5 and 1, {len(K)} bins of k from 0.02 to 0.5 h/Mpc, with"
    f" the errors of {VOLUME / 1e9:g} (Gpc/h)^3 and of {100 * FLOOR:g} % beside; the data are CAMB's at"
    " AccuracyBoost {:g} and lAccuracyBoost {:g}, five parameters are free in the box.".format(*ACCURACY)
)


def errors() -> np.ndarray:
    modes = VOLUME * K**3 * np.log(K[1] / K[0]) / (2 * np.pi**2)
    return np.sqrt(2 / modes + FLOOR**2)


def camb_spectrum(theta: np.ndarray, path: Path) -> np.ndarray:
    if not path.exists():
        from deepfield.emulators.boltzmann import power_of, solve

        clock = time.process_time()
        results = solve(theta, Z, k_max=K_MAX, accuracy=ACCURACY)
        # CAMB's own integral for sigma_8 is 1e-4 off, a tenth of the posterior's standard deviation.
        fine = np.geomspace(1e-4, 20, 6000)
        level = variance(fine, power_of(results, fine, [0.0], nonlinear=False)[0], 8.0)
        chosen = results.Params
        chosen.InitPower.set_params(ns=theta[3], As=chosen.InitPower.As * theta[4] ** 2 / level)
        results.calc_power_spectra(chosen)
        found = {n: power_of(results, K, Z, nonlinear=n == "power") for n in ("power", "linear")}
        with atomic(path) as temporary:
            np.savez(temporary, **found, cpu=time.process_time() - clock)
    with np.load(path) as file:
        return file["power"]


def rise(power: Any, level: np.ndarray) -> np.ndarray:
    """Slopes of the data in each parameter (5, Z * K), in units of their errors at a level (Z, K)."""
    low, high = np.array(list(BOX.values())).T
    steps = 1e-2 * (high - low)
    found = np.array([(power(FIDUCIAL + d, K, Z) - power(FIDUCIAL - d, K, Z)).ravel() for d in np.diag(steps)])
    return found / (2 * steps[:, None]) / (level * errors()).ravel()


def chain(work: Path) -> None:
    """Random-walk Metropolis with the covariance of a first part of it."""
    from deepfield.emulators import MatterPower

    data = camb_spectrum(FIDUCIAL, work / "c-fiducial.npz")
    power, low, high = MatterPower(nonlinear=True), *np.array(list(BOX.values())).T
    rng = np.random.default_rng(0)

    def log_likelihood(theta: np.ndarray) -> float:
        if (theta < low).any() or (theta > high).any():
            return -np.inf
        return float(-0.5 * np.sum(((power(theta, K, Z) / data - 1) / errors()) ** 2))

    # The curvature at the truth is the first proposal.
    slopes = rise(power, data)
    factor = np.linalg.cholesky(np.linalg.inv(slopes @ slopes.T)) * 2.38 / np.sqrt(len(low))
    at, value = FIDUCIAL, log_likelihood(FIDUCIAL)
    path, clock = [], time.process_time()
    for i in range(STEPS):
        if i == STEPS // 4:
            factor = np.linalg.cholesky(np.cov(np.array(path).T)) * 2.38 / np.sqrt(len(low))
        tried = at + factor @ rng.normal(size=len(low))
        new = log_likelihood(tried)
        if np.log(rng.uniform()) < new - value:
            at, value = tried, new
        path.append(at)
    seconds = time.process_time() - clock
    kept = np.array(path[STEPS // 4 :])
    print(
        "accepted",
        float((np.diff(kept, axis=0) != 0).any(1).mean()),
        kept.mean(0),
        kept.std(0),
        f"{seconds:.0f} s",
    )
    draws = kept[np.linspace(0, len(kept) - 1, DRAWS).astype(int)]
    with atomic(work / "chain.npz") as temporary:
        np.savez(
            temporary,
            draws=draws,
            values=[log_likelihood(row) for row in draws],
            std=kept.std(0),
            seconds=seconds,
        )


def slopes(work: Path) -> None:
    """What moves the means to first order: matrices from relative differences of the data to parameters.

    For the nonlinear spectrum, and for the linear one in its place, with widths of the posterior by its curvature.
    """
    from deepfield.emulators import MatterPower

    with np.load(work / "chain.npz") as file:
        draws = file["draws"]
    found = {}
    for name, power in (("", MatterPower(nonlinear=True)), ("_linear", MatterPower())):
        slope = rise(power, power(FIDUCIAL, K, Z))
        inverse = np.linalg.inv(slope @ slope.T)
        found |= {f"gain{name}": inverse @ slope / np.tile(errors(), len(Z)), f"spectra{name}": power(draws, K, Z)}
        found[f"std{name}"] = np.sqrt(inverse.diagonal())
    with atomic(work / "slopes.npz") as temporary:
        np.savez(temporary, **found)


def reweighted(difference: np.ndarray, units: np.ndarray) -> np.ndarray:
    """By how much the means of draws (N, 5) move with the weights of differences (N,) of log-likelihoods."""
    weights = np.exp(difference - difference.max())
    return weights @ units / weights.sum() - units.mean(0)


def camb(work: Path, seconds: float) -> None:
    began = time.monotonic()
    with np.load(work / "chain.npz") as file:
        draws, values, std, took = (file[n] for n in ("draws", "values", "std", "seconds"))
    with np.load(work / "slopes.npz") as file:
        gain, spectra = file["gain"], file["spectra"]
        straight = file["gain_linear"], file["spectra_linear"], file["std_linear"]
    data, found, times, moved, moved_linear = camb_spectrum(FIDUCIAL, work / "c-fiducial.npz"), [], [], [], []
    for i, row in enumerate(draws):
        path = work / f"c{i:03d}.npz"
        if not path.exists() and time.monotonic() - began > seconds:
            break
        spectrum = camb_spectrum(row, path)
        moved.append(gain @ (spectrum / spectra[i] - 1).ravel() / std)
        found.append(-0.5 * np.sum(((spectrum / data - 1) / errors()) ** 2))
        with np.load(path) as file:
            times.append(float(file["cpu"]))
            moved_linear.append(straight[0] @ (file["linear"] / straight[1][i] - 1).ravel() / straight[2])
    print(len(found), "of", len(draws))
    draws, values = draws[: len(found)], values[: len(found)]
    difference = np.array(found) - values
    units = (draws - draws.mean(0)) / std
    one_less = [reweighted(difference[kept], units[kept]) for kept in ~np.eye(len(draws), dtype=bool)]
    errors_of = np.sqrt((len(draws) - 1) * np.var(one_less, axis=0))
    weights = np.exp(difference - difference.max())
    numbers = {
        "about": ABOUT,
        "steps": STEPS,
        "draws": len(draws),
        "chain_seconds": float(took),
        "emulator_seconds": float(took) / STEPS,
        "camb_seconds": float(np.median(times)),
        "effective": float(weights.sum() ** 2 / (weights**2).sum()),
        "difference": [float(difference.mean()), float(difference.std())],
        "first_order": dict(zip(BOX, np.mean(moved, 0).tolist())),
        "first_order_linear": dict(zip(BOX, np.mean(moved_linear, 0).tolist())),
        "shifts": dict(zip(BOX, reweighted(difference, units).tolist())),
        "shift_errors": dict(zip(BOX, errors_of.tolist())),
    }
    with atomic(RESULT) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers))


if __name__ == "__main__":
    given = options(__doc__, "data", "chain", "slopes", "camb").parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.what == "camb":
        camb(given.work, given.seconds)
    elif given.what == "data":
        camb_spectrum(FIDUCIAL, given.work / "c-fiducial.npz")
    else:
        if given.what == "chain":
            chain(given.work)
        slopes(given.work)
