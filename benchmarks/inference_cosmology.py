"""Real distances: NPE, NLE and NRE beside the exact posterior; calibration, size of tests, rate of alarms.

    python benchmarks/inference_cosmology.py posteriors --data desi_dr2,union3 --models wcdm
    python benchmarks/inference_cosmology.py calibration

Writes ``inference_cosmology.json`` and ``inference_calibration.json`` in ``benchmarks/results``; what is there is
not done again. The settings are those of ``deepfield run inference``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from typing import Any

import numpy as np
import torch
from inference import known, remember
from scipy.stats import chi2, kstest

from deepfield.inference import Expansion, Prior, Simulations, diagnose, simulate
from deepfield.inference.likelihood import size_of_test, statistics
from deepfield.inference.model import METHODS
from deepfield.inference.posterior import ALARM
from deepfield.inference.run import learn, quick
from deepfield.trust.two_samples import c2st

SETS = ("desi_dr2", "union3", "desi_dr2,union3")


def posteriors(data: str, model: str, methods: list[str], n: int, seed: int) -> None:
    """Each method against the exact likelihood: means, widths, C2ST."""
    todo = [m for m in methods if f"{data} {model} {m} {n} {seed}" not in known("cosmology")]
    if not todo:
        return
    world = Expansion(model, data.split(","))
    exact, chains = world.exact(10_000, seed=seed)
    for method in todo:
        near, found, seconds = learn(world, [method], quick(seed), n, seed=seed)
        began = time.process_time()
        draws = found[method].sample(near.observed, 10_000, seed=seed)
        entry = {
            "parameters": list(world.prior.names),
            "exact_mean": exact.mean(0).tolist(),
            "exact_std": exact.std(0).tolist(),
            "exact_ess": float(chains.ess.min()),
            "shift": ((draws.mean(0) - exact.mean(0)) / exact.std(0)).round(4).tolist(),
            "width": (draws.std(0) / exact.std(0)).round(4).tolist(),
            "draw_seconds": round(time.process_time() - began, 2),
            "c2st": round(c2st(exact, draws), 4),
            "train_seconds": round(seconds[method], 1),
        }
        remember("cosmology", f"{data} {model} {method} {n} {seed}", entry)
        print(data, model, method, entry, flush=True)


def exact_ranks(
    world: Expansion, prior: Prior, fresh: Simulations, seed: int, n: int = 60_000
) -> dict[str, float]:
    """p-values of the ranks of the exact posteriors, by importance: what this draw of simulations gives."""
    theta = prior.sample(n, seed=seed)
    mean = torch.from_numpy(world.expected(theta))
    energy, draws, pit = 0.5 * (mean**2).sum(1), torch.from_numpy(theta), []
    for i in range(0, len(fresh), 250):
        weight = torch.softmax(torch.from_numpy(fresh.x[i : i + 250]) @ mean.T - energy, 1)
        truth = torch.from_numpy(fresh.theta[i : i + 250])
        pit.append(torch.stack([(weight * (d < t[:, None])).sum(1) for d, t in zip(draws.T, truth.T)], 1))
    columns = torch.cat(pit).numpy().T
    return {name: float(kstest(column, "uniform").pvalue) for name, column in zip(prior.names, columns)}


def calibration(data: str, model: str, n: int, seed: int) -> None:
    """Of the posteriors that ``deepfield run inference`` would give for the data: ranks, TARP, tests, alarms."""
    key = f"{data} {model} {n} {seed}"
    if key in known("calibration"):
        return
    world, found, _ = learn(Expansion(model, data.split(",")), ["npe", "nle"], quick(seed), n, seed=seed)
    npe, nle = found["npe"], found["nle"]
    fresh = simulate(npe.prior, world.simulate, 5000, seed=seed + 50)
    entry: dict[str, Any] = {"npe": diagnose(npe, fresh, most=5000, seed=seed).to_dict()}
    entry["exact"] = exact_ranks(world, npe.prior, fresh, seed + 60)
    entry["nle"] = diagnose(nle, fresh, most=300, seed=seed).to_dict()
    # A likelihood-ratio test of one parameter's value where it is true, at the best fit of the data.
    name, value = ("w", -1.0) if model == "wcdm" else ("omega_m", 0.3)
    column = nle.prior.names.index(name)
    _, _, there = statistics(nle, world.observed, [column], np.array([value]), seed=seed)
    null = world.simulate(np.repeat(there, 2000, 0), seed=seed + 51)
    t = statistics(nle, null, [column], np.array([value]), seed=seed)[0]
    tested, reference = t[:1000], np.sort(t[1000:])
    simulated = (1 + len(reference) - np.searchsorted(reference, tested)) / (1 + len(reference))
    names = ("share below 0.05", "band low", "band high")
    entry["hypothesis"] = f"{name} = {value:g}"
    entry["test"] = {
        "by Wilks": dict(zip(names, size_of_test(chi2.sf(tested, 1)))),
        "by simulation": dict(zip(names, size_of_test(simulated))),
    }
    # Alarms of the conformal test: on data of the simulator, and with one number moved or more noise.
    wrong = {
        "well specified": fresh.x,
        "one number moved by 8 of its errors": fresh.x + 8 * np.eye(fresh.x.shape[1])[-1],
        "noise larger by a half": world.expected(fresh.theta)
        + 1.5 * np.random.default_rng(seed).normal(size=fresh.x.shape),
    }
    entry["alarms"] = {name: float((npe.p_value(x) < ALARM).mean()) for name, x in wrong.items()}
    entry["nominal rate of alarms"] = ALARM
    remember("calibration", key, entry)
    print(key, entry, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("part", choices=["posteriors", "calibration"])
    parser.add_argument("--data", nargs="+", default=list(SETS), help="sets with commas between")
    parser.add_argument("--models", nargs="+", default=["lcdm", "wcdm"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.part == "calibration":
        for data in options.data:
            for model in options.models:
                calibration(data, model, options.n, options.seed)
        return
    for data in options.data:
        for model in options.models:
            posteriors(data, model, options.methods, options.n, options.seed)


if __name__ == "__main__":
    main()
