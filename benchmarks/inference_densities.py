"""The densities of NPE beside one another: mixture, spline flow, flow matching, on three tasks of sbibm.

    python benchmarks/inference_densities.py
    python benchmarks/inference_densities.py --c2st --sbibm benchmarks/work/sbibm    # as in inference.py

Each entry of ``benchmarks/results/inference_densities.json``: the mean negative log-likelihood of the parameters
of 5,000 fresh simulations, in nats, with its standard error; CPU seconds of training, of the log-likelihoods, and
of 10,000 draws of one posterior. Densities were tuned on other simulations than these. ``--c2st`` adds the C2ST of
10,000 draws against the reference posteriors of observations 1 to 3, at which no choice has looked.
``mixture:4`` is the mixture with four members, which costs as much as flow matching with two.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from inference import DRAWS, known, remember
from inference_tasks import TASKS, Array, Task

from deepfield.inference import Posterior, Simulations, simulate, train
from deepfield.trust.two_samples import c2st

DENSITIES: dict[str, dict[str, Any]] = {
    "mixture": {"density": "mixture"},
    "mixture:4": {"density": "mixture", "members": 4},
    "flow": {"density": "flow"},
    "matching": {"density": "matching"},
}
FRESH, FRESH_SEED = 5_000, 999


@torch.no_grad()
def log_likelihood(posterior: Posterior, task: Task, part: Simulations) -> Array:
    """The log of q(theta | x) of each simulation's own parameters, in their unit."""
    u = task.prior.to_line(part.theta)
    features = posterior.model.predict(posterior.encoding(part.x)).features
    rows = zip(features.split(1000), torch.from_numpy(u).float().split(1000))
    on_line = torch.cat([posterior.model.head(f).log_prob(one) for f, one in rows]).double().numpy()
    return on_line + task.prior.log_jacobian(part.theta, u)


def fitted(task: Task, name: str, n: int, seed: int, folder: Path) -> Posterior:
    """Train and ask for likelihoods and draws, or take what was trained before."""
    key = f"{task.name} {name} {n} {seed}"
    if (place := folder / key.replace(" ", "_")).exists():
        return Posterior.load(place)
    table = simulate(task.prior, task.simulate, n, seed=seed)
    fresh = simulate(task.prior, task.simulate, FRESH, seed=FRESH_SEED)
    began = time.process_time()
    posterior = train(table, task.prior, seed=seed, **DENSITIES[name])
    trained = time.process_time()
    nll = -log_likelihood(posterior, task, fresh)
    evaluated = time.process_time()
    posterior.sample(fresh.x[0], DRAWS)
    drawn = time.process_time()
    entry = {
        "nll": round(float(nll.mean()), 4),
        "nll_error": round(float(nll.std() / len(nll) ** 0.5), 4),
        "train_seconds": round(trained - began, 1),
        "epochs": len(posterior.card["history"]["train"]),
        "likelihood_seconds": round(evaluated - trained, 2),
        "draw_seconds": round(drawn - evaluated, 2),
    }
    remember("densities", key, entry)
    print(key, entry, flush=True)
    posterior.save(place)
    return posterior


def score(task: Task, name: str, n: int, seed: int, folder: Path, sbibm: Path) -> None:
    """C2ST against the references of three observations."""
    key = f"{task.name} {name} {n} {seed}"
    entry = known("densities").get(key, {})
    if "c2st" in entry:
        return
    posterior = fitted(task, name, n, seed, folder)
    scores = {}
    for k in (1, 2, 3):
        draws = posterior.sample(task.observation(sbibm, k), DRAWS, seed=k)
        scores[str(k)] = round(c2st(task.reference(sbibm, k), draws), 4)
    remember("densities", key, {**known("densities")[key], "c2st": scores})
    print(key, scores, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    tasks = ["two_moons", "slcp", "gaussian_mixture"]
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=list(TASKS))
    parser.add_argument("--densities", nargs="+", default=list(DENSITIES), choices=list(DENSITIES))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--c2st", action="store_true")
    work = Path("benchmarks/work")
    parser.add_argument("--sbibm", type=Path, default=work / "sbibm", help="where sbibm is installed")
    parser.add_argument("--work", type=Path, default=work / "densities", help="folder for what is trained")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for seed in options.seeds:
        for task in options.tasks:
            for name in options.densities:
                run = (TASKS[task], name, options.n, seed, options.work)
                score(*run, options.sbibm) if options.c2st else fitted(*run)


if __name__ == "__main__":
    main()
