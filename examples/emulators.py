"""A power spectrum without its simulation: many cosmologies, a gradient, a fit, and an emulator of one's own.

    python examples/emulators.py

First the linear spectrum that comes with deepfield: a thousand cosmologies in one call, and where their acoustic
peak is. Then a likelihood: noisy band powers of a known universe, and sigma_8 found from them by Newton's steps
along the emulator's own gradient. Last an emulator trained on a table, here of the correlation function itself.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from deepfield import emulators
from deepfield.core.table import Table

STANDARD = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.68, "n_s": 0.965, "sigma_8": 0.8}


def many(power: emulators.MatterPower) -> float:
    """A thousand cosmologies at once; the acoustic peak of the standard one in Mpc/h."""
    points = emulators.design(emulators.BOX, 1000)
    k = np.geomspace(1e-3, 10, 200)
    grid = power.on(k)  # laid out for many
    theta = np.column_stack([points[name] for name in emulators.BOX])
    clock = time.perf_counter()
    spectra = grid(theta)
    spent = time.perf_counter() - clock
    print(f"{len(spectra)} spectra in {1e3 * spent:.0f} ms")
    r = np.linspace(85, 120, 141)
    peak = float(r[np.argmax(r**2 * emulators.correlation(power, STANDARD, r))])
    print(f"the acoustic peak of the standard cosmology: {peak:.1f} Mpc/h")
    return peak


def likelihood(power: emulators.MatterPower, seed: int = 0) -> float:
    """sigma_8 from noisy band powers, all else known: two Gauss-Newton steps along the gradient."""
    k, error = np.geomspace(0.02, 0.2, 40), 0.02
    truth = power(STANDARD, k)
    data = torch.from_numpy(truth * (1 + error * np.random.default_rng(seed).standard_normal(len(k))))
    theta = torch.tensor([list(STANDARD.values())], dtype=torch.float64)
    theta[0, 4] = 0.7  # a guess
    for _ in range(3):
        theta.requires_grad_(True)
        model = power(theta, k)[0]
        residual = (data - model) / (error * data)
        slope = torch.stack([torch.autograd.grad(m, theta, retain_graph=True)[0][0, 4] for m in model])
        slope = slope / (error * data)
        step = (slope @ residual) / (slope @ slope)
        theta = theta.detach()
        theta[0, 4] += step.detach()
    found = float(theta[0, 4])
    print(f"sigma_8 from {len(k)} band powers of 2 %: {found:.4f} ± {float(1 / (slope @ slope).sqrt()):.4f} (0.8)")
    return found


def of_my_own(power: emulators.MatterPower, n: int) -> tuple[emulators.Emulator, Table, np.ndarray]:
    """An emulator of the correlation function from a table of n of them, and fresh ones to test it on."""
    ranges = {"omega_m": (0.25, 0.35), "h": (0.65, 0.72), "n_s": (0.94, 0.99)}
    r = np.geomspace(5, 60, 40)

    def correlate(row: dict[str, float]) -> np.ndarray:
        return emulators.correlation(power, {**STANDARD, **row}, r)

    table = emulators.simulate(correlate, emulators.design(ranges, n), output="xi")
    inner = {name: (low + 0.1 * (high - low), high - 0.1 * (high - low)) for name, (low, high) in ranges.items()}
    fresh = emulators.simulate(correlate, emulators.design(inner, 20, kind="latin", seed=1), output="xi")
    emulator = emulators.train(table, inputs="omega_m,h,n_s", outputs="xi", components=6)
    return emulator, fresh, r


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run the three parts and draw the last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=100, help="simulations to train on")
    parser.add_argument("--out", default="emulators.png")
    given = parser.parse_args(arguments)
    power = emulators.MatterPower()
    peak, sigma_8 = many(power), likelihood(power)
    emulator, fresh, r = of_my_own(power, given.n)
    found = emulator.predict(fresh)
    result = emulators.score(found, fresh["xi"])
    print(f"an emulator of xi(r), on fresh cosmologies: {result}")

    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for error, std in zip(found.mean / fresh["xi"] - 1, found.std / fresh["xi"]):
        axes.semilogx(r, 100 * error, color="#0072B2", lw=0.8)
        axes.fill_between(r, -100 * std, 100 * std, color="#E69F00", alpha=0.05, lw=0)
    axes.set_xlabel("r [Mpc/h]")
    axes.set_ylabel(r"error of the emulated $\xi(r)$ [%]")
    figure.savefig(given.out, dpi=120)
    print(f"figure: {given.out}")
    return {"peak": peak, "sigma_8": sigma_8, "median": result.median}


if __name__ == "__main__":
    main()
