"""The Boltzmann code's word for training and test, at converged settings, a file for each cosmology.

    python benchmarks/emulators_design.py --work benchmarks/work/emulators [--seconds 600]

Needs CAMB (extra emulators), and some ten seconds of processor time for each of the 120 cosmologies; a second call
goes on where the first was stopped.
Design points d000.npz and on hold transfer functions; cosmologies of the test, t000.npz and on, and of the
validation, v000.npz and on, drawn uniformly in the box, hold also the spectra of HMcode2020.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from emulators_options import options

from deepfield.core.files import atomic
from deepfield.emulators.boltzmann import CONVERGED
from deepfield.emulators.linear import BARYONS, SHARE, chebyshev, terms, unit
from deepfield.emulators.parameters import BOX

REDSHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)
SETTINGS, FINE = CONVERGED, (3.0, 4.0)
"""AccuracyBoost and lAccuracyBoost, and those for k r < 45, r the sound horizon."""

K = np.geomspace(1e-4, 10, 400)
"""Of the nonlinear spectra, h/Mpc."""


def allowed(share: np.ndarray, baryons: np.ndarray, room: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Smallest and largest h that put a point of the plane in the box; the first is larger where none does."""
    omega_b, omega_m = (np.array(BOX[name]) for name in ("omega_b", "omega_m"))
    low = np.maximum(omega_b[0], omega_m[0] * share) * (1 - room)
    high = np.minimum(omega_b[1], omega_m[1] * share) * (1 + room)
    smallest, largest = np.sqrt(baryons / high), np.sqrt(baryons / low)
    return np.maximum(smallest, BOX["h"][0]), np.minimum(largest, BOX["h"][1])


def design(n: int = 80, degree: tuple[int, int] = (16, 14)) -> list[tuple[float, float, float]]:
    """Omega_m h^2, Omega_b h^2 and h where runs say most about the part of the plane that the box reaches.

    Each point is where a series whose coefficients fall geometrically is least known from those before it
    (pivoted Cholesky), so that any beginning of the list fills the plane.
    """
    root = np.linspace(np.sqrt(SHARE[0]), np.sqrt(SHARE[1]), 70)
    fourth = np.linspace(BARYONS[0] ** 0.25, BARYONS[1] ** 0.25, 70)
    share, baryons = (v.ravel() for v in np.meshgrid(root**2, fourth**4))
    low, high = allowed(share, baryons, room=0.04)
    share, baryons = share[low <= high], baryons[low <= high]
    features = chebyshev(*(np.clip(v, -1, 1) for v in unit(baryons / share, baryons)), degree)
    features *= np.exp(-0.5 * (terms(degree) @ [0.9, 1.1]))
    unknown, factor, chosen = (features**2).sum(1), np.zeros((len(share), 0)), []
    for _ in range(n):
        i = int(unknown.argmax())
        column = (features @ features[i] - factor @ factor[i]) / np.sqrt(unknown[i])
        factor = np.concatenate([factor, column[:, None]], 1)
        unknown = np.maximum(unknown - column**2, 0)
        chosen.append(i)
    low, high = allowed(share[chosen], baryons[chosen], room=0.04)
    points = zip(share[chosen].tolist(), baryons[chosen].tolist(), (0.5 * (low + high)).tolist())
    return [(b / s, b, h) for s, b, h in points]


def held_out(n: int = 24, seed: int = 20261129) -> np.ndarray:
    """Cosmologies (N, 5) drawn uniformly in the box."""
    low, high = np.array(list(BOX.values())).T
    return np.random.default_rng(seed).uniform(low, high, (n, len(low)))


def refined(theta: np.ndarray, k: np.ndarray, t: np.ndarray, horizon: float) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers (K,) in 1/Mpc and transfer functions (K, Z), those of acoustic oscillations computed again.

    At :data:`SETTINGS` the first oscillations have errors of 1e-4, which lAccuracyBoost takes away. And beyond k r
    of 60 or so, r the sound horizon in Mpc, CAMB goes on with less than one wavenumber to an oscillation; where
    much of the matter is baryons, oscillations go on there.
    """
    for settings, to_an_e_fold, low, high in ((SETTINGS, 60, 45, 160), (FINE, 0, 0, 45)):
        more, values = again(theta, settings, to_an_e_fold, 1.05 * high / horizon)
        rest = k >= high / horizon if low == 0 else np.full(len(k), True)
        added = (more > low / horizon) & (more < high / horizon)
        added &= np.abs(np.log(more[:, None] / k[rest])).min(1) > 2e-3
        order = np.argsort(both := np.append(k[rest], more[added]))
        k, t = both[order], np.concatenate([t[rest], values[added]])[order]
    return k, t


def again(
    theta: np.ndarray, settings: tuple[float, float], to_an_e_fold: int, k_max: float
) -> tuple[np.ndarray, np.ndarray]:
    """Wavenumbers and transfer functions with so many to an e-fold, or CAMB's own if it is 0."""
    import camb

    from deepfield.emulators.boltzmann import parameters, transfer_of

    chosen = parameters(theta, REDSHIFTS, accuracy=settings, k_max=k_max)
    chosen.Transfer.k_per_logint = to_an_e_fold
    return transfer_of(camb.get_results(chosen))[:2]


def one(theta: np.ndarray, path: Path, nonlinear: bool) -> None:
    """One cosmology; with a design point k reaches 50 h/Mpc at the largest h that the box has there."""
    from deepfield.emulators.boltzmann import power_of, solve, transfer_of

    clock = time.process_time()
    share, _, h, *_ = theta
    largest = h if nonlinear else min(BOX["h"][1], h * np.sqrt(share / BOX["omega_m"][0]))
    results = solve(theta, REDSHIFTS, accuracy=SETTINGS, k_max=50.5 * max(h, largest))
    seconds = time.process_time() - clock
    k, t, horizon = transfer_of(results)
    k, t = refined(theta, k, t, horizon)
    found = {"theta": theta, "k": k, "T": t, "z": REDSHIFTS, "horizon": horizon, "cpu": seconds}
    if nonlinear:
        for name in ("linear", "nonlinear"):
            found[name] = power_of(results, K, REDSHIFTS, nonlinear=name == "nonlinear")
    with atomic(path) as temporary:
        np.savez(temporary, **found)


def main(work: Path, seconds: float) -> None:
    work.mkdir(parents=True, exist_ok=True)
    train = [np.array([m / h**2, b / h**2, h, 1.0, 0.8]) for m, b, h in design()]
    jobs = [(theta, work / f"d{i:03d}.npz", False) for i, theta in enumerate(train)]
    tests = [(theta, work / f"t{i:03d}.npz", True) for i, theta in enumerate(held_out())]
    tests += [(theta, work / f"v{i:03d}.npz", True) for i, theta in enumerate(held_out(16, seed=20261130))]
    began = time.monotonic()
    for theta, path, nonlinear in [*jobs[:48], *tests[:16], *jobs[48:64], *tests[16:20], *jobs[64:], *tests[20:]]:
        if not path.exists() and time.monotonic() - began < seconds:
            one(theta, path, nonlinear)
    print(sum(path.exists() for _, path, _ in [*jobs, *tests]), "of", len(jobs) + len(tests), "are there")


if __name__ == "__main__":
    given = options(__doc__).parse_args()
    main(given.work, given.seconds)
