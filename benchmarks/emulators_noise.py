"""CAMB's own numerical noise: the linear spectrum at its defaults, at converged settings and beyond.

    python benchmarks/emulators_noise.py --work benchmarks/work/emulators [--seconds 600]

Needs CAMB (extra emulators) and what emulators_design.py made; half a minute for each cosmology, a file each, so
that a second call goes on. Result: benchmarks/results/emulators_noise.json.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from emulators_design import FINE, SETTINGS, held_out
from emulators_options import options

from deepfield.core.files import atomic
from deepfield.emulators.linear import Run
from deepfield.physics.power import variance

RESULT = Path(__file__).parent / "results" / "emulators_noise.json"
CHOICES = ((1.0, 1.0), (1.0, 2.0), SETTINGS)
"""AccuracyBoost, lAccuracyBoost, with CAMB's own wavenumbers."""

K = np.geomspace(1e-4, 50, 300)


def spectrum(theta: np.ndarray, path: Path, settings: tuple[float, float] | None) -> tuple[np.ndarray, float]:
    """P (K,) today with the sigma_8 of the cosmology, and the processor time; without settings it is there."""
    if settings and not path.exists():
        from deepfield.emulators.boltzmann import solve, transfer_of

        clock = time.process_time()
        results = solve(theta, [0.0], accuracy=settings, k_max=50.5 * theta[2])
        seconds = time.process_time() - clock
        k, t, horizon = transfer_of(results)
        with atomic(path) as temporary:
            np.savez(temporary, k=k, T=t, horizon=horizon, cpu=seconds)
    share, baryons, h, tilt, sigma_8 = theta.tolist()
    with np.load(path) as file:
        run = Run(share * h**2, baryons * h**2, file["k"], file["T"][:, 0], float(file["horizon"]))
        seconds = float(file["cpu"])
    fine = np.geomspace(2e-4, 20, 6000)
    level = sigma_8**2 / variance(fine, fine**tilt * run.on(np.log(fine * h)) ** 2, 8.0)
    return level * K**tilt * run.on(np.log(K * h)) ** 2, seconds


def main(work: Path, seconds: float, n: int) -> None:
    began, errors = time.monotonic(), {settings: [] for settings in CHOICES}
    times: dict = {settings: [] for settings in CHOICES}
    for i, theta in enumerate(held_out()[:n]):
        if time.monotonic() - began > seconds:
            return
        found: dict = {}
        for settings in (*CHOICES, None):
            name = "n{:03d}-{:g}-{:g}".format(i, *settings) if settings else f"t{i:03d}"
            found[settings] = spectrum(theta, work / f"{name}.npz", settings)
        for settings in CHOICES:
            errors[settings].append(found[settings][0] / found[None][0] - 1)
            times[settings].append(found[settings][1])
    numbers = {
        "cosmologies": n,
        "reference": "{:g}, {:g}".format(*FINE),
        "settings": {
            "{:g}, {:g}".format(*settings): {
                "seconds": float(np.median(times[settings])),
                "rms": float(np.sqrt(np.mean(np.square(error)))),
                "median_worst": float(np.median(np.abs(error).max(1))),
                "largest": float(np.abs(error).max()),
            }
            for settings, error in errors.items()
        },
    }
    with atomic(RESULT) as temporary:
        temporary.write_text(json.dumps(numbers, indent=1) + "\n")
    print(json.dumps(numbers["settings"]))


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("-n", type=int, default=6)
    given = parser.parse_args()
    main(given.work, given.seconds, given.n)
