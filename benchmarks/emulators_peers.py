"""Other emulators of the matter power spectrum, on cosmologies where they are at home.

    python benchmarks/emulators_peers.py truth --work benchmarks/work/emulators [--seconds 600]   (extra emulators)
    python benchmarks/emulators_peers.py own --work benchmarks/work/emulators
    python benchmarks/emulators_peers.py peers --work benchmarks/work/emulators   (cosmopower-jax)

The truth is CAMB at converged settings, massless neutrinos, HMcode2020.
Result: benchmarks/results/emulators_peers.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from emulators_options import options

from deepfield.core.files import atomic

RESULT = Path(__file__).parent / "results" / "emulators_peers.json"
K, Z = np.geomspace(1e-3, 5, 200), np.array([0.0, 1.0])
N = 4


def cosmologies() -> np.ndarray:
    """In the box of cosmopower-jax, which is the smallest, and in ours."""
    low = np.array([0.020, 0.09, 0.66, 0.90, 0.7])  # omega_b h^2, omega_cdm h^2, h, n_s, sigma_8
    high = np.array([0.025, 0.16, 0.80, 1.05, 0.9])
    b, c, h, tilt, sigma_8 = np.random.default_rng(11).uniform(low, high, (N, 5)).T
    return np.stack([(b + c) / h**2, b / h**2, h, tilt, sigma_8], -1)


def truth(work: Path, seconds: float) -> None:
    from deepfield.emulators.boltzmann import power_of, solve

    began = time.monotonic()
    for i, theta in enumerate(cosmologies()):
        path = work / f"p{i:03d}.npz"
        if path.exists() or time.monotonic() - began > seconds:
            continue
        results = solve(theta, Z, accuracy=(2.0, 2.0), k_max=20.0)
        found = {n: power_of(results, K, Z, nonlinear=n == "nonlinear") for n in ("linear", "nonlinear")}
        with atomic(path) as temporary:
            np.savez(temporary, amplitude=results.Params.InitPower.As, **found)


def own(work: Path) -> None:
    from deepfield.emulators import MatterPower

    theta = cosmologies()
    with atomic(work / "p-own.npz") as temporary:
        np.savez(
            temporary,
            linear=MatterPower()(theta, K, Z),
            nonlinear=MatterPower(nonlinear=True)(theta, K, Z),
        )


def peers(work: Path) -> None:
    theta, files = cosmologies(), [np.load(work / f"p{i:03d}.npz") for i in range(N)]
    known = {name: np.array([file[name] for file in files]) for name in ("linear", "nonlinear")}
    rows = []

    def row(name: str, what: str, found: np.ndarray, speed: str) -> None:
        size = np.abs(found / known[what] - 1)
        numbers = {"median": np.median(size), "p95": np.quantile(size, 0.95), "largest": size.max()}
        rows.append({"name": name, "what": what, **{k: float(v) for k, v in numbers.items()}, "speed": speed})
        print(rows[-1])

    with np.load(work / "p-own.npz") as file:
        row("deepfield", "linear", file["linear"], "see above")
        row("deepfield", "nonlinear", file["nonlinear"], "see above")
    import jax
    from cosmopower_jax.cosmopower_jax import CosmoPowerJAX

    share, b, h, tilt, _ = theta.T
    amplitude = np.log(1e10 * np.array([float(file["amplitude"]) for file in files]))
    linear = CosmoPowerJAX(probe="mpk_lin")
    boost = CosmoPowerJAX(probe="mpk_boost")
    call = jax.jit(linear.predict)
    columns = np.stack([b * h**2, (share - b) * h**2, h, tilt, amplitude], -1)
    many = np.repeat(np.append(columns[0], 0.0)[None], 1000, 0)
    call(many).block_until_ready()
    clock = time.process_time()
    for _ in range(5):
        call(many).block_until_ready()
    microseconds = (time.process_time() - clock) / 5e3 * 1e6
    found, curved = np.empty_like(known["linear"]), np.empty_like(known["linear"])
    for i, one in enumerate(columns):
        for j, z in enumerate(Z):
            modes = np.asarray(linear.modes)
            spectrum = np.asarray(linear.predict(np.append(one, z)))
            ratio = np.asarray(boost.predict(np.concatenate([one, [3.13, 0.603, z]])))
            log_k = np.log(modes / one[2])  # 1/Mpc to h/Mpc
            found[i, j] = np.exp(np.interp(np.log(K), log_k, np.log(spectrum * one[2] ** 3)))
            curved[i, j] = found[i, j] * np.interp(np.log(K), log_k, ratio)
    row(
        "cosmopower-jax",
        "linear",
        found,
        f"{microseconds:.1f} microseconds, of 1,000, {len(linear.modes)} wavenumbers",
    )
    row("cosmopower-jax", "nonlinear", curved, "")
    text = {
        "about": f"{N} cosmologies in the box of cosmopower-jax (smaller than ours), z = 0 and 1, k of 0.001 to"
        " 5 h/Mpc, massless neutrinos, against CAMB at converged settings and its HMcode2020. cosmopower-jax was"
        " trained on other settings of CAMB, and its nonlinear spectra on an HMcode before that of 2020: for those"
        " this is no measure of its accuracy.",
        "missing": "symbolic_pofk and syren are not on PyPI; emantis, baccoemu and euclidemu2 were not run.",
        "microseconds": microseconds,
        "wavenumbers": len(linear.modes),
        "rows": rows,
    }
    with atomic(RESULT) as temporary:
        temporary.write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    given = options(__doc__, "truth", "own", "peers").parse_args()
    if given.what == "truth":
        truth(given.work, given.seconds)
    else:
        {"own": own, "peers": peers}[given.what](given.work)
