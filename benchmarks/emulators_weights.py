"""Train the emulators that come with the package, and measure them.

    python benchmarks/emulators_weights.py linear --work benchmarks/work/emulators
    python benchmarks/emulators_weights.py miratitan --work benchmarks/work/emulators

linear takes what emulators_design.py made, miratitan what emulators_miratitan.py did.
Results: benchmarks/results/emulators_*.json.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
from emulators_design import FINE, REDSHIFTS, SETTINGS
from emulators_design import K as NONLINEAR_K
from scipy.optimize import least_squares

from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.core.store import versions
from deepfield.emulators.growth import growth, late_time
from deepfield.emulators.linear import Run, Transfer
from deepfield.emulators.power import USUAL_SHARE, MatterPower, save_linear
from deepfield.physics.power import smooth_transfer, variance

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "deepfield" / "emulators" / "weights"
VALIDATION = 5  # of the test's cosmologies, which choices were made by: the numbers printed come from the others
K = np.geomspace(1e-4, 50, 300)

Item = dict[str, np.ndarray]


def items(work: Path, kind: str) -> list[Item]:
    """What emulators_design.py left: "d" the design, "t" the held-out cosmologies."""
    found = []
    for path in sorted(work.glob(f"{kind}[0-9]*.npz")):
        with np.load(path) as file:
            found.append({name: file[name] for name in file.files})
    return found


def cosmology(item: Item) -> tuple[np.ndarray, ...]:
    """Share of matter, Omega_m h^2, Omega_b h^2 and h, (1,) each."""
    share, baryons, h, *_ = (np.array([v]) for v in item["theta"])
    return share, share * h**2, baryons * h**2, h


def run_of(item: Item, late: np.ndarray | None = None, j: int = 0) -> Run:
    """The transfer function at a redshift; that of today without late times if they are given."""
    _, m, b, h = cosmology(item)
    t = item["T"][:, j]
    if late is not None:
        t = t / (1 + late_time(item["k"] / h, 0.0, *cosmology(item), late)[0])
    return Run(float(m[0]), float(b[0]), item["k"], t, float(item["horizon"]))


def fit_late(design: list[Item]) -> np.ndarray:
    """The numbers of :func:`deepfield.emulators.growth.late_time`: near the horizon, then on small scales."""
    known = []
    for item in design:
        share, _, _, h = cosmology(item)
        inside = item["k"] > 6e-5 * h
        grown = growth(REDSHIFTS, share, h)[0]
        t = item["T"][inside]
        known.append((item["k"][inside] / h, t / t[:, :1] / grown, cosmology(item)))

    def misfit(late: np.ndarray, low: float, high: float) -> np.ndarray:
        parts = []
        for k, truth, about in known:
            near = (k > low) & (k < high)
            today, *then = ((1 + late_time(k[near], z, *about, late)[0]) for z in REDSHIFTS)
            parts += [truth[near, j + 1] - now / today for j, now in enumerate(then)]
        return np.concatenate(parts)

    start = np.array([2.63, 3.1, -0.27, -0.67, 0.21, 1.26, 1.51, 1.7e-9, 2.0, 1.5, -1.3, 0.6])
    near = least_squares(lambda x: misfit(np.append(x, start[7:]), 6e-5, 0.03), start[:7])
    scale = [1e-9, 1, 1, 1, 1]
    small = least_squares(lambda x: 1e3 * misfit(np.append(near.x, x), 1.0, 50.0), start[7:], x_scale=scale)
    late = np.append(near.x, small.x)
    print(f"late times {late.round(10).tolist()}, largest residual of T {np.abs(near.fun).max():.1e},"
          f" {np.abs(small.fun).max() / 1e3:.1e}")  # fmt: skip
    return late


def truth_of(item: Item) -> np.ndarray:
    """P (Z, K) of the Boltzmann code, with the sigma_8 of the item."""
    if "truth" in item:
        return item["truth"]
    _, _, _, h = cosmology(item)
    tilt, sigma_8 = item["theta"][3:].tolist()
    fine = np.geomspace(2e-4, 20, 6000)
    inside = item["k"] > 2e-5  # on() sets the first of these to one
    level = sigma_8**2 / variance(fine, fine**tilt * run_of(item).on(np.log(fine * h)) ** 2, 8.0)
    item["truth"] = np.array(
        [
            level
            * K**tilt
            * (run_of(item, j=j).on(np.log(K * h)) * item["T"][inside][0, j] / item["T"][inside][0, 0]) ** 2
            for j in range(len(REDSHIFTS))
        ]
    )
    return item["truth"]


def calm(item: Item) -> np.ndarray:
    """Wavenumbers (K,) where P is not near a zero between acoustic peaks: above a third of its smooth form."""
    _, m, b, h = cosmology(item)
    truth, smooth = truth_of(item)[0], K ** item["theta"][3] * smooth_transfer(K * h, m, b) ** 2
    return truth / smooth > np.median(truth / smooth) / 3


def errors(power: MatterPower, tests: list[Item]) -> np.ndarray:
    """Relative errors of P (T, Z, K)."""
    if power.nonlinear:
        return np.array([power(item["theta"], NONLINEAR_K, REDSHIFTS) / item["nonlinear"] - 1 for item in tests])
    return np.array([power(item["theta"], K, REDSHIFTS) / truth_of(item) - 1 for item in tests])


def linear(work: Path) -> None:
    design, tests = items(work, "d"), items(work, "t")
    validation, tests = items(work, "v") + tests[:VALIDATION], tests[VALIDATION:]
    late = fit_late(design)
    runs = [run_of(item, late) for item in design]
    curve = {n: rms(Transfer.fit(runs[:n]).left_out) for n in (16, 32, 48, 64) if n < len(runs)}
    transfer = Transfer.fit(runs)
    curve[len(runs)] = rms(transfer.left_out)
    print(len(runs), "design points,", len(tests), "test cosmologies; left out, by number:", curve)
    folder = WEIGHTS / "matter-power-linear"
    card = {
        "about": "linear P(k, z) of flat LCDM, massless neutrinos, box of Quijote, z to 3, k to 50 h/Mpc",
        "truth": "CAMB 2.0.5, AccuracyBoost {:g}, lAccuracyBoost {:g}; {:g} and {:g} at k r < 45, r the sound"
        " horizon".format(*SETTINGS, *FINE),
        "design": len(runs),
        "versions": versions(),
    }
    unknown = np.array([[np.log(1e-4), np.log(50)], [1e-3, 1e-3]])
    save_linear(folder, transfer, late, unknown, unknown, (0.0, 0.0), card)
    powers = MatterPower(folder), MatterPower(folder, nonlinear=True)
    stated, factors, steepness = [], [], []
    for power, k in zip(powers, (K, NONLINEAR_K)):
        first, excess = errors(power, validation), above_usual(validation)
        slope = float(np.clip(np.polyfit(excess, np.log([rms(error) for error in first]), 1)[0], 0, 10))
        stated.append(state(first / np.exp(slope * excess)[:, None, None], k))
        factors.append(np.exp(slope * above_usual(tests))[:, None, None])
        steepness.append(slope)
    second = [errors(power, tests) for power in powers]
    quiet = np.array([calm(item) for item in tests])
    size = np.abs(second[0])
    away = np.concatenate([one[:, part].ravel() for one, part in zip(size, quiet)])
    numbers = {
        "design": len(runs),
        "left_out_by_number": curve,
        "validation": len(validation),
        **describe(second[0], K, stated[0], factors[0]),
        "steepness": steepness,
        "away_from_zeros": {
            "share": float(quiet.mean()),
            "rms": float(np.sqrt((away**2).mean())),
            "p999": float(np.quantile(away, 0.999)),
            "largest": float(away.max()),
        },
        "camb_seconds": float(np.median([item["cpu"] for item in tests])),
        "machine": machine(),
    }
    for error, k in zip(second, (K, NONLINEAR_K)):
        size = np.abs(error)
        for i in np.argsort(-size.reshape(len(size), -1).max(1))[:4]:
            item, at = tests[i], np.unravel_index(size[i].argmax(), size[i].shape)
            where = f"k = {k[at[1]]:.3g}, z = {REDSHIFTS[at[0]]}"
            print("  worst", item["theta"].round(3), f"{100 * size[i].max():.3f} % at {where}")
    card["left_out"] = {n: numbers[n] for n in ("rms", "median_worst", "largest")}
    curved = describe(second[1], NONLINEAR_K, stated[1], factors[1])
    card["left_out_nonlinear"] = {n: curved[n] for n in ("median", "p99", "largest")}
    save_linear(folder, transfer, late, *stated, (steepness[0], steepness[1]), card)
    write("linear", numbers)
    write("nonlinear", curved | {"machine": machine()})


def above_usual(found: list[Item]) -> np.ndarray:
    """Share of baryons in the matter (N,), less the usual one."""
    return np.array([one["theta"][1] / one["theta"][0] for one in found]) - USUAL_SHARE


def state(error: np.ndarray, k: np.ndarray) -> np.ndarray:
    """Nodes of ln k, and the size below which 68.3 % of the errors are around them."""
    edges = np.geomspace(k[0], k[-1], 13)
    parts = [(k >= a * 0.999) & (k <= b * 1.001) for a, b in pairwise(edges)]
    sizes = [np.quantile(np.abs(error[..., part]), 0.683) for part in parts]
    return np.array([np.log(np.sqrt(edges[1:] * edges[:-1])), np.maximum(sizes, 1e-6)])


def rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def describe(error: np.ndarray, k: np.ndarray, stated: np.ndarray, factor: np.ndarray) -> dict:
    """Errors (T, Z, K) in numbers; the stated ones are of the nodes, times a factor (T, 1, 1)."""
    size = np.abs(error)
    expected = np.exp(np.interp(np.log(k), stated[0], np.log(stated[1]))) * factor
    return {
        "tests": len(error),
        "rms": float(np.sqrt((error**2).mean())),
        "median": float(np.median(size)),
        "median_worst": float(np.median(size.reshape(len(size), -1).max(1))),
        "p99": float(np.quantile(size, 0.99)),
        "p999": float(np.quantile(size, 0.999)),
        "largest": float(size.max()),
        "coverage_683": float((size < expected).mean()),
        "coverage_955": float((size < 2 * expected).mean()),
        "k": k.tolist(),
        "p50_of_k": np.quantile(size, 0.5, axis=(0, 1)).tolist(),
        "p95_of_k": np.quantile(size, 0.95, axis=(0, 1)).tolist(),
        "rms_of_z": np.sqrt((error**2).mean((0, 2))).tolist(),
    }


def miratitan(work: Path, folds: int) -> None:
    from deepfield.data import registry
    from deepfield.emulators.model import EmulatorConfig
    from deepfield.emulators.nbody import FEATURES, SimulatedPower, ratios
    from deepfield.emulators.nbody_linear import LinearPower
    from deepfield.emulators.score import leave_out, score

    theory = linear_of_miratitan(work)
    LinearPower.load.cache_clear()
    table = registry.load("miratitan4")
    config = EmulatorConfig(components=16)
    emulator = SimulatedPower.train(table, config)
    emulator.emulator.card["about"] = "P(k, z) of N-body simulations (Mira-Titan IV): w0, wa, neutrinos; z to 2"
    emulator.save(WEIGHTS / "matter-power-miratitan")
    if not folds:
        return
    rows = ratios(table)
    found, truth = leave_out(rows, config, inputs=list(FEATURES), outputs=["ratio"], folds=folds)
    numbers = score(found, truth).to_dict()
    error = np.log(found.mean / truth).reshape(len(table), len(emulator.z), -1)
    size = np.abs(np.expm1(error))
    numbers |= {"k": emulator.k.tolist(), "p50_of_k": np.quantile(size, 0.5, axis=(0, 1)).tolist()}
    numbers |= {"p95_of_k": np.quantile(size, 0.95, axis=(0, 1)).tolist(), "folds": folds, "linear": theory}
    numbers["amplitude"] = amplitude(error, emulator.k)
    numbers["plain"] = plain(np.stack([rows.column(n) for n in FEATURES], -1), np.log(rows["ratio"]))
    write("miratitan", numbers | {"machine": machine()})


def linear_of_miratitan(work: Path) -> dict[str, float]:
    """Train the linear spectrum on what emulators_miratitan.py left; its errors on a fifth that was left out."""
    from deepfield.emulators.model import EmulatorConfig
    from deepfield.emulators.nbody_linear import SHIPPED, LinearPower

    runs, config = items(work, "m"), EmulatorConfig(components=24)
    k, z = runs[0]["k"][::3], runs[0]["z"]
    theta, spectra = (np.array([run[name] for run in runs]) for name in ("theta", "linear"))
    spectra = spectra[..., ::3]
    held = np.arange(len(runs)) % 5 == 0
    tried = LinearPower.train(theta[~held], k, z, spectra[~held], config).on(theta[held], z)
    found = np.stack([tried(k / h)[i] / h**3 for i, h in enumerate(theta[held, 3])])
    size = np.abs(found / spectra[held] - 1)
    model = LinearPower.train(theta, k, z, spectra, config).emulator
    assert model is not None
    model.card["about"] = "linear P(k, z) of CAMB over a closed form, box of Mira-Titan: w0, wa, neutrinos; z to 2"
    model.save(WEIGHTS / SHIPPED)
    numbers = {"runs": len(runs), "median": float(np.median(size)), "p95": float(np.quantile(size, 0.95))}
    large = size[..., k < 0.01]
    return numbers | {"p95_large": float(np.quantile(large, 0.95)), "largest": float(size.max())}


def amplitude(error: np.ndarray, k: np.ndarray) -> dict[str, float]:
    """How much of errors (N, Z, K) is one factor for each simulation: that of 0.06 to 0.25 /Mpc, all redshifts.

    What is left is with that factor taken out in hindsight, times a response (Z, K) that is the same for all.
    """
    own = error[..., (k > 0.06) & (k < 0.25)].mean((1, 2))
    response = (error * own[:, None, None]).mean(0) / (own**2).mean()
    left = np.abs(error - own[:, None, None] * response)
    return {
        "rms": rms(own),
        "below": float(response[:, k < 0.035].mean()),
        "above": float(response[:, k > 0.05].mean()),
        "left_median": float(np.median(left)),
        "left_p95": float(np.quantile(left, 0.95)),
    }


def plain(inputs: np.ndarray, target: np.ndarray) -> dict[str, dict[str, float]]:
    """Errors of ridge regressions on linear and quadratic terms, each row left out in turn.

    The strength of the ridge is the best of each column in hindsight, which flatters them.
    """
    low, high = inputs.min(0), inputs.max(0)
    unit = 2 * (inputs - low) / (high - low) - 1
    found = {}
    for name, power in (("linear", 1), ("quadratic", 2)):
        kernel = (unit @ unit.T + 10) ** power
        kernel /= kernel.diagonal().mean()
        missed = []
        for ridge in 10.0 ** np.arange(-6, 0.1, 0.5):
            inverse = np.linalg.inv(kernel + ridge * np.eye(len(unit)) + 1e3)
            missed.append((inverse @ target) / inverse.diagonal()[:, None])
        missed = np.array(missed)
        best = (missed**2).mean(1).argmin(0)
        size = np.abs(np.expm1(np.take_along_axis(missed, best[None, None], 0)[0]))
        found[name] = {"median": float(np.median(size)), "p95": float(np.quantile(size, 0.95))}
    return found


def write(name: str, numbers: dict) -> None:
    path = HERE / "results" / f"emulators_{name}.json"
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n")
    print({k: v for k, v in numbers.items() if isinstance(v, float | int)}, "->", path.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("linear", "miratitan"))
    parser.add_argument("--work", type=Path, default=HERE / "work" / "emulators")
    parser.add_argument("--folds", type=int, default=9)
    given = parser.parse_args()
    linear(given.work) if given.what == "linear" else miratitan(given.work, given.folds)
