"""Other emulators of the matter power spectrum, on cosmologies where they are at home.

    python benchmarks/emulators_peers.py truth --work benchmarks/work/emulators [--seconds 600]   (extra emulators)
    python benchmarks/emulators_peers.py own --work benchmarks/work/emulators

and each in an environment with its own package (cosmopower-jax, emantis, gokunemu, euclidemu2):

    python benchmarks/emulators_peers.py cosmopower --work benchmarks/work/emulators   (or emantis, goku, euclid)

then

    python benchmarks/emulators_peers.py table --work benchmarks/work/emulators

The truth is CAMB at converged settings, massless neutrinos, HMcode2020.
Results: benchmarks/results/emulators_peers.json, and src/deepfield/emulators/peers.json for the report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from emulators_options import options

RESULT = Path(__file__).parent / "results" / "emulators_peers.json"
PACKAGE = Path(__file__).parents[1] / "src" / "deepfield" / "emulators" / "peers.json"
K, Z = np.geomspace(1e-3, 5, 200), np.array([0.0, 1.0])
N, MANY = 6, 1000
ABOUT = (
    "cosmologies, those within a peer's own box, drawn in the box of cosmopower-jax (smaller than ours) and of"
    " Goku, z = 0 and 1, k of 0.001 to 5 h/Mpc or as far as the peer goes, massless neutrinos, against CAMB at"
    " AccuracyBoost 2 and its HMcode2020. Ours takes sigma_8 and the others A_s; the two are matched by CAMB's own"
    " integral for sigma_8. Times are processor times for one spectrum of a batch. cosmopower-jax was trained on"
    " other settings of CAMB, and its nonlinear spectra on an HMcode before that of 2020; Goku and EuclidEmulator2"
    " on simulations, from which HMcode2020 is some per cent off itself, and the ratios of the latter were put on"
    " CAMB's linear spectrum. For the nonlinear ones this is no measure of their accuracy."
)
MISSING = (
    "Of e-MANTIS 1.3.0 the fitted state that comes with it is refused by its own check here"
    " (FittedStateMismatchError), and it was not fitted anew. baccoemu 2.3.0 asks for its weights from the network"
    " when it is first used, and did not run without one. symbolic_pofk and syren are not on PyPI."
)


def cosmologies() -> np.ndarray:
    """In the boxes of cosmopower-jax and of Goku's wide design, which are within ours."""
    low = np.array([0.020, 0.09, 0.66, 0.90, 0.7])  # omega_b h^2, omega_cdm h^2, h, n_s, sigma_8
    high = np.array([0.025, 0.16, 0.76, 1.05, 0.9])
    b, c, h, tilt, sigma_8 = np.random.default_rng(11).uniform(low, high, (200, 5)).T
    found = np.stack([(b + c) / h**2, b / h**2, h, tilt, sigma_8], -1)
    inside = (found[:, 0] > 0.22) & (found[:, 0] < 0.4) & (found[:, 1] > 0.04) & (found[:, 1] < 0.055)
    return found[inside][:N]


def keep(path: Path, **arrays: Any) -> None:
    """To a temporary name, and renamed; environments of peers are without deepfield."""
    temporary = path.with_name(f"{path.stem}.tmp.npz")
    np.savez(temporary, **arrays)
    temporary.replace(path)


def clocked(call: Callable[[], Any], spectra: int) -> float:
    """Microseconds of processor time for a spectrum, the least of five."""
    call()
    times = []
    for _ in range(5):
        clock = time.process_time()
        call()
        times.append(time.process_time() - clock)
    return 1e6 * min(times) / spectra


def on(k: np.ndarray, spectra: np.ndarray) -> np.ndarray:
    """Spectra (..., X) at k (X,) on :data:`K`, NaN beyond; cubic in the logarithms."""
    from scipy.interpolate import CubicSpline

    found = np.exp(CubicSpline(np.log(k), np.log(spectra), axis=-1)(np.log(K)))
    found[..., (k[0] * 0.999 > K) | (k[-1] * 1.001 < K)] = np.nan
    return found


def truth(work: Path, seconds: float) -> None:
    from deepfield.emulators.boltzmann import power_of, solve

    began = time.monotonic()
    for i, theta in enumerate(cosmologies()):
        path = work / f"p{i:03d}.npz"
        if path.exists() or time.monotonic() - began > seconds:
            continue
        results = solve(theta, Z, accuracy=(2.0, 2.0), k_max=20.0)
        found = {n: power_of(results, K, Z, nonlinear=n == "nonlinear") for n in ("linear", "nonlinear")}
        keep(path, amplitude=results.Params.InitPower.As, **found)


def known(work: Path) -> dict[str, np.ndarray]:
    files = [np.load(work / f"p{i:03d}.npz") for i in range(N)]
    return {name: np.array([file[name] for file in files]) for name in ("linear", "nonlinear", "amplitude")}


def own(work: Path) -> None:
    from deepfield.emulators import MatterPower
    from deepfield.emulators.parameters import BOX

    theta, fast, curved = cosmologies(), MatterPower(precision="single"), MatterPower(nonlinear=True)
    many = np.random.default_rng(0).uniform(*np.array(list(BOX.values())).T, (MANY, 5))  # as a design has them
    keep(
        work / "p-own.npz",
        linear=MatterPower()(theta, K, Z),
        nonlinear=curved(theta, K, Z),
        linear_us=clocked(lambda: fast.on(K)(many), MANY),
        nonlinear_us=clocked(lambda: curved(theta, K, Z), N * len(Z)),
        wavenumbers=len(K),
    )


def cosmopower(work: Path) -> None:
    import jax
    from cosmopower_jax.cosmopower_jax import CosmoPowerJAX

    share, b, h, tilt, _ = cosmologies().T
    amplitude = np.log(1e10 * known(work)["amplitude"])
    linear, boost = CosmoPowerJAX(probe="mpk_lin"), CosmoPowerJAX(probe="mpk_boost")
    call = jax.jit(linear.predict)
    columns = np.stack([b * h**2, (share - b) * h**2, h, tilt, amplitude], -1)
    many, modes = np.repeat(np.append(columns[0], 0.0)[None], MANY, 0), np.asarray(linear.modes)
    found = {"linear": np.empty((N, len(Z), len(K))), "nonlinear": np.empty((N, len(Z), len(K)))}
    for i, one in enumerate(columns):
        for j, z in enumerate(Z):
            spectrum = np.asarray(linear.predict(np.append(one, z)))
            ratio = np.asarray(boost.predict(np.concatenate([one, [3.13, 0.603, z]])))
            for name, values in (("linear", spectrum), ("nonlinear", spectrum * ratio)):
                found[name][i, j] = on(modes / one[2], values * one[2] ** 3)  # 1/Mpc to h/Mpc
    microseconds = clocked(lambda: call(many).block_until_ready(), MANY)
    keep(work / "p-cosmopower.npz", linear_us=microseconds, wavenumbers=len(modes), **found)


def emantis(work: Path) -> None:
    from emantis.matter_power_spectrum import NonLinearBoostEmulator

    emulator, theta = NonLinearBoostEmulator(verbose=False), cosmologies()
    names = dict(zip(("Omega_m", "Omega_b", "h", "n_s", "sigma8"), theta.T)) | {"w": np.full(N, -1.0)}
    epochs = np.sort(1 / (1 + Z))
    ratio = emulator.predict_boost(names, epochs, squeeze=False)[::-1]  # z rising
    ratio = on(np.asarray(emulator.kbins), np.moveaxis(ratio, 0, 1))
    many = {name: np.repeat(values[:1], MANY) for name, values in names.items()}
    microseconds = clocked(lambda: emulator.predict_boost(many, 1.0), MANY)
    linear = known(work)["linear"]
    keep(
        work / "p-emantis.npz",
        nonlinear=linear * ratio,
        nonlinear_us=microseconds,
        wavenumbers=len(emulator.kbins),
    )


def goku(work: Path) -> None:
    from gokunemu import MatterPowerEmulator

    emulator = MatterPowerEmulator()
    share, b, h, tilt, _ = cosmologies().T
    amplitude = known(work)["amplitude"]
    fixed = [np.full(N, value) for value in (-1.0, 0.0, 0.0, 3.046, 0.0)]  # w0, wa, m_nu, N_eff, running
    rows = np.stack([share, b, h, amplitude, tilt, *fixed], -1)
    many, found = np.repeat(rows[:1], MANY, 0), {}
    for name, call in (("linear", emulator.get_matter_power_lin), ("nonlinear", emulator.get_matter_power)):
        k, spectra = call(rows, redshifts=Z)
        found[name] = on(np.asarray(k), np.asarray(spectra))
        # All redshifts of the design are computed in each call.
        found[f"{name}_us"] = clocked(lambda call=call: call(many, redshifts=Z[:1]), MANY)
        found["wavenumbers"] = len(k)
    keep(work / "p-goku.npz", **found)


def euclid(work: Path) -> None:
    import euclidemu2

    emulator = euclidemu2.PyEuclidEmulator()
    found, amplitude, times = np.empty((N, len(Z), len(K))), known(work)["amplitude"], []
    for i, (share, b, h, tilt, _) in enumerate(cosmologies().tolist()):
        row = {"As": amplitude[i], "ns": tilt, "Omb": b, "Omm": share, "h": h, "mnu": 0.0, "w": -1.0, "wa": 0.0}
        try:
            k, ratio = emulator.get_boost(row, Z)
        except ValueError:  # its box is smaller
            found[i] = np.nan
            continue
        times.append(clocked(lambda row=row: emulator.get_boost(row, Z), len(Z)))
        found[i] = on(np.asarray(k), np.array([ratio[j] for j in range(len(Z))]))
    keep(
        work / "p-euclid.npz",
        nonlinear=known(work)["linear"] * found,
        nonlinear_us=min(times),
        wavenumbers=len(k),
    )


PEERS = {
    "own": ("deepfield", own),
    "cosmopower": ("cosmopower-jax", cosmopower),
    "goku": ("Goku (gokunemu)", goku),
    "emantis": ("e-MANTIS", emantis),
    "euclid": ("EuclidEmulator2", euclid),
}


def table(work: Path) -> None:
    facts, rows = known(work), []
    for key, (name, _) in PEERS.items():
        if not (work / f"p-{key}.npz").exists():
            continue
        with np.load(work / f"p-{key}.npz") as file:
            for what in ("linear", "nonlinear"):
                if what not in file.files:
                    continue
                size = np.abs(file[what] / facts[what] - 1)
                known_to_it = np.isfinite(size).any((1, 2))
                at = np.isfinite(size[known_to_it]).all((0, 1))
                kept = size[known_to_it][..., at]
                numbers = {"median": np.median(kept), "p95": np.quantile(kept, 0.95), "largest": kept.max()}
                numbers |= {"k_low": K[at][0], "k_high": K[at][-1], "cosmologies": known_to_it.sum()}
                row = {"name": name, "what": what, **{k: float(v) for k, v in numbers.items()}}
                if f"{what}_us" in file.files:
                    row |= {"microseconds": float(file[f"{what}_us"]), "wavenumbers": int(file["wavenumbers"])}
                rows.append(row)
                print(row)
    found = {"about": f"Up to {N} {ABOUT}", "missing": MISSING, "rows": rows}
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    linear = [r for r in rows if r["what"] == "linear" and "microseconds" in r]
    points = [{name: r[name] for name in ("name", "microseconds", "median", "wavenumbers")} for r in linear]
    PACKAGE.write_text(json.dumps(points, indent=1) + "\n")


if __name__ == "__main__":
    given = options(__doc__, "truth", *PEERS, "table").parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    if given.what == "truth":
        truth(given.work, given.seconds)
    else:
        {**{key: call for key, (_, call) in PEERS.items()}, "table": table}[given.what](given.work)
