"""Train the emulators that come with the package, and measure them.

    python benchmarks/emulators_weights.py linear --work benchmarks/work/emulators
    python benchmarks/emulators_weights.py miratitan

linear needs CAMB (extra emulators): a transfer function for each of 64 design points and 40 test cosmologies,
a file
each, so that a second call goes on. --only-fit takes what is there. Results: benchmarks/results/emulators_*.json.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.core.store import versions
from deepfield.emulators.grid import late_time
from deepfield.emulators.growth import growth
from deepfield.emulators.linear import Run, Transfer
from deepfield.emulators.parameters import BOX
from deepfield.emulators.power import MatterPower, save_linear
from deepfield.physics.power import variance

HERE = Path(__file__).parent
WEIGHTS = HERE.parent / "src" / "deepfield" / "emulators" / "weights"
REDSHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)
SETTINGS = (1.0, 2.0)  # AccuracyBoost, lAccuracyBoost


def design() -> list[tuple[float, float, float]]:
    """Omega_m h^2, Omega_b h^2 and h at Chebyshev nodes of ln(share of baryons) and ln Omega_b h^2.

    Those alone that the box reaches, with a margin, farthest first: any beginning of the list fills the plane.
    """

    def nodes(n: int) -> np.ndarray:
        return np.cos(np.pi * (np.arange(n) + 0.5) / n)

    share, baryons = np.log([0.06, 0.7]), np.log([0.0075, 0.0567])
    found = []
    for u in nodes(10):
        for v in nodes(8):
            log_share, log_b = share.mean() + u * np.ptp(share) / 2, baryons.mean() + v * np.ptp(baryons) / 2
            m, b = float(np.exp(log_b - log_share)), float(np.exp(log_b))
            lowest, highest = max(0.25, m / 0.5, b / 0.07), min(0.81, m / 0.1, b / 0.03)
            if lowest <= 1.25 * highest:
                a, z = max(0.5, np.sqrt(m / 0.5)), min(0.9, np.sqrt(m / 0.1))
                found.append((m, b, float(0.5 * (a + z) if a <= z else (a if m > 0.4 else z))))
    found = [found[i] for i in np.random.default_rng(0).permutation(len(found))]
    points = np.log([[b / m, b] for m, b, _ in found])
    chosen = [0, 1, 2]
    while len(chosen) < len(found):
        chosen.append(int(((points[:, None] - points[chosen]) ** 2).sum(-1).min(1).argmax()))
    return [found[i] for i in chosen]


def held_out(n: int = 40) -> list[tuple[float, float, float]]:
    """Cosmologies drawn uniformly in the box."""
    low, high = np.array([BOX[name] for name in ("omega_m", "omega_b", "h")]).T
    draws = np.random.default_rng(2024).uniform(low, high, (n, 3))
    return [(m * h * h, b * h * h, h) for m, b, h in draws.tolist()]


def transfers(work: Path, only_there: bool) -> tuple[list[dict], list[dict]]:
    """Transfer functions of design and test, run where they are not there."""
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict]] = {"d": [], "t": []}
    for kind, points in (("d", design()), ("t", held_out())):
        for i, (m, b, h) in enumerate(points):
            path = work / f"{kind}{i:03d}.npz"
            if not path.exists():
                if only_there:
                    continue
                from deepfield.emulators.boltzmann import transfer

                clock = time.process_time()
                k, t, horizon = transfer([m / h**2, b / h**2, h, 1.0, 0.8], REDSHIFTS, accuracy=SETTINGS)
                seconds = time.process_time() - clock
                with atomic(path) as temporary:
                    np.savez(temporary, k=k, T=t, par=[m, b, h, horizon], z=REDSHIFTS, cpu=seconds)
            with np.load(path) as file:
                found[kind].append({name: file[name] for name in file.files})
    return found["d"], found["t"]


def run_of(item: dict) -> Run:
    m, b, _, horizon = (float(v) for v in item["par"])
    return Run(m, b, item["k"], item["T"][:, 0], horizon)


def fit_late(items: list[dict]) -> np.ndarray:
    """The two numbers of :func:`deepfield.emulators.grid.late_time`, on large scales."""
    known = []
    for item in items:
        m, _, h, _ = item["par"]
        near = (item["k"] > 5e-5) & (item["k"] < 0.02)
        grown = growth(item["z"], np.array([m / h**2]), h)[0]
        truth = item["T"][near] / item["T"][near][:, :1] / grown - 1
        known.append((item["k"][near] / h, np.array([m / h**2]), np.array([m]), np.array([h]), truth))

    def residual(late: np.ndarray) -> np.ndarray:
        parts = []
        for k, share, m, h, truth in known:
            today, *then = (late_time(k, z, share, m, h, late)[0] for z in REDSHIFTS)
            parts += [truth[:, j + 1] - (now - today) for j, now in enumerate(then)]
        return np.concatenate(parts)

    found = least_squares(residual, [1.9, 2.4])
    print(f"late-time numbers {found.x.round(3)}, largest residual of T {np.abs(found.fun).max():.1e}")
    return found.x


def errors(power: MatterPower, items: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers (h/Mpc) and relative errors of P (T, Z, K)."""
    k = np.geomspace(1e-4, 50, 300)
    found = []
    for item in items:
        m, b, h, _ = (float(v) for v in item["par"])
        run = run_of(item)
        fine = np.geomspace(2e-4, 20, 2500)
        tilt, sigma_8 = 0.96, 0.8
        spectrum = fine**tilt * run.on(np.log(fine * h)) ** 2
        level = sigma_8**2 / variance(fine, spectrum, 8.0)
        truth = []
        for j in range(len(REDSHIFTS)):
            at = Run(m, b, item["k"], item["T"][:, j], run.horizon)
            ratio = (
                item["T"][item["k"] > 2e-5][0, j] / item["T"][item["k"] > 2e-5][0, 0]
            )  # on() sets the first to one
            truth.append(level * k**tilt * (at.on(np.log(k * h)) * ratio) ** 2)
        theta = np.array([[m / h**2, b / h**2, h, tilt, sigma_8]])
        found.append(power.on(k, REDSHIFTS)(theta)[0] / np.array(truth) - 1)
    return k, np.array(found)


def linear(work: Path, only_there: bool) -> None:
    items, tests = transfers(work, only_there)
    runs = [run_of(item) for item in items]
    transfer = Transfer.fit(runs)
    print(len(runs), "design points,", len(tests), "test cosmologies; left out, by degree:", transfer.curve)
    late = fit_late(items)
    folder = WEIGHTS / "matter-power-linear"
    card = {
        "about": "linear P(k, z) of flat LCDM, massless neutrinos, box of Quijote, z to 3, k to 50 h/Mpc",
        "truth": f"CAMB 2.0.5, AccuracyBoost {SETTINGS[0]:g}, lAccuracyBoost {SETTINGS[1]:g}",
        "design": len(runs),
        "versions": versions(),
    }
    flat = np.array([[np.log(1e-4), np.log(50)], [1e-3, 1e-3]])
    save_linear(folder, transfer, late, flat, card)
    half = len(tests) // 2  # one half for the stated error, the other for the numbers that are printed
    k, first = errors(MatterPower(folder), tests[:half])
    edges = np.geomspace(1e-4, 50, 13)
    centres = np.sqrt(edges[1:] * edges[:-1])
    stated = [np.sqrt((first[..., (k >= a) & (k <= b)] ** 2).mean()) for a, b in pairwise(edges)]
    save_linear(folder, transfer, late, np.array([np.log(centres), stated]), card)
    k, second = errors(MatterPower(folder), tests[half:])
    size = np.abs(second)
    numbers = {
        "design": len(runs),
        "left_out_by_degree": transfer.curve,
        "tests": len(second),
        "rms": float(np.sqrt((second**2).mean())),
        "median_worst": float(np.median(size.reshape(len(size), -1).max(1))),
        "p999": float(np.quantile(size, 0.999)),
        "largest": float(size.max()),
        "k": k.tolist(),
        "p50_of_k": np.quantile(size, 0.5, axis=(0, 1)).tolist(),
        "p95_of_k": np.quantile(size, 0.95, axis=(0, 1)).tolist(),
        "camb_seconds": float(np.median([item["cpu"] for item in [*items, *tests]])),
        "machine": machine(),
    }
    card["left_out"] = {n: numbers[n] for n in ("rms", "median_worst", "largest")}
    save_linear(folder, transfer, late, np.array([np.log(centres), stated]), card)
    write("linear", numbers)


def miratitan(folds: int) -> None:
    from deepfield.data import registry
    from deepfield.emulators.model import EmulatorConfig
    from deepfield.emulators.nbody import INPUTS, SimulatedPower, ratios
    from deepfield.emulators.score import leave_out, score

    table = registry.load("miratitan4")
    config = EmulatorConfig(components=16)
    emulator = SimulatedPower.train(table, config)
    emulator.emulator.card["about"] = "P(k, z) of N-body simulations (Mira-Titan IV): w0, wa, neutrinos; z to 2"
    emulator.save(WEIGHTS / "matter-power-miratitan")
    numbers = {}
    if folds:
        found, truth = leave_out(ratios(table), config, inputs=list(INPUTS), outputs=["ratio"], folds=folds)
        numbers = score(found, truth).to_dict()
        size = np.abs(found.mean / truth - 1).reshape(len(table), len(emulator.z), -1)
        numbers |= {"k": emulator.k.tolist(), "p50_of_k": np.quantile(size, 0.5, axis=(0, 1)).tolist()}
        numbers |= {"p95_of_k": np.quantile(size, 0.95, axis=(0, 1)).tolist(), "folds": folds}
        write("miratitan", numbers | {"machine": machine()})


def write(name: str, numbers: dict) -> None:
    path = HERE / "results" / f"emulators_{name}.json"
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n")
    print({k: v for k, v in numbers.items() if isinstance(v, float | int)}, "->", path.name)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("linear", "miratitan"))
    parser.add_argument("--work", type=Path, default=HERE / "work" / "emulators")
    parser.add_argument("--only-fit", action="store_true")
    parser.add_argument("--folds", type=int, default=9)
    given = parser.parse_args()
    linear(given.work, given.only_fit) if given.what == "linear" else miratitan(given.folds)
