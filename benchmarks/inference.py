"""The sbibm tasks (Lueckmann et al. 2021): deepfield beside sbi with its defaults, on the same simulations.

    python -m venv /tmp/peers
    pip install --no-deps sbibm==1.1.0 sbi==0.27.0 skorch
    pip install pandas pyro-ppl future autograd pyknos nflows tensorboard deepfield
    python benchmarks/inference.py --tasks two_moons slcp --methods npe nle nre --peer
    python benchmarks/inference.py --page

Each result is one entry of ``benchmarks/results/inference.json``; what is there is not done again, so that a run
can be stopped at any time. Scores are C2ST as sbibm computes it, against its references, of 10,000 draws.
Simulations come from this script's seeds. Nothing is chosen by looking at reference posteriors.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepfield.core.files import atomic
from deepfield.inference import Prior, Simulations, train

RESULTS = Path(__file__).parent / "results" / "inference.json"
TASKS = ("two_moons", "slcp", "gaussian_linear", "gaussian_mixture")
DRAWS = 10_000
PUBLISHED = {
    "two_moons": (0.606, 0.713, 0.761),
    "slcp": (0.901, 0.771, 0.947),
    "gaussian_linear": (0.552, 0.555, 0.560),
    "gaussian_mixture": (0.615, 0.723, 0.748),
}
"""Mean C2ST of NPE, NLE and NRE at 10,000 simulations (sbi-benchmark/results)."""


def ours(method: str, task: Any, theta: Any, x: Any, seed: int) -> Any:
    """Our defaults; returns a sampler."""
    prior = Prior.of(task.prior_dist)
    posterior = train(Simulations.of(theta.numpy(), x.numpy(), prior), prior, method=method, seed=seed)
    return lambda observation, k: posterior.sample(observation.numpy()[0], DRAWS, seed=k)


def theirs(method: str, task: Any, theta: Any, x: Any, seed: int) -> Any:
    """The same by sbi, with a spline flow for NPE and all else as it comes; returns a sampler."""
    from sbi import inference as sbi

    torch.manual_seed(seed)
    if method == "npe":
        trainer = sbi.NPE(prior=task.prior_dist, density_estimator="nsf", show_progress_bars=False)
    else:
        trainer = {"nle": sbi.NLE, "nre": sbi.NRE}[method](prior=task.prior_dist, show_progress_bars=False)
    trainer.append_simulations(theta, x).train()
    posterior = trainer.build_posterior()

    def draw(observation: Any, k: int) -> Any:
        torch.manual_seed(k)
        return posterior.sample((DRAWS,), x=observation, show_progress_bars=False).numpy()

    return draw


def known() -> dict[str, Any]:
    """The results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def remember(key: str, entry: dict[str, Any]) -> None:
    """Add one result."""
    content = {**known(), key: entry}
    with atomic(RESULTS) as temporary:
        temporary.write_text(json.dumps(dict(sorted(content.items())), indent=1))


def one(task_name: str, method: str, code: str, n: int, seed: int, observations: list[int]) -> None:
    """Train once, draw for each observation, score."""
    import sbibm
    from sbibm.metrics import c2st

    key = f"{task_name} {method} {code} {n} {seed}"
    entry = known().get(key, {"c2st": {}, "draw_seconds": {}})
    todo = [k for k in observations if str(k) not in entry["c2st"]]
    if not todo:
        return
    task = sbibm.get_task(task_name)
    torch.manual_seed(1000 + seed)
    theta = task.get_prior()(num_samples=n)
    x = task.get_simulator()(theta)
    began = time.process_time()
    sampler = {"deepfield": ours, "sbi": theirs}[code](method, task, theta, x, seed)
    entry["train_seconds"] = round(time.process_time() - began, 1)
    for k in todo:
        began = time.process_time()
        draws = sampler(task.get_observation(k), k)
        entry["draw_seconds"][str(k)] = round(time.process_time() - began, 2)
        reference = task.get_reference_posterior_samples(k)
        entry["c2st"][str(k)] = round(float(c2st(reference, torch.as_tensor(draws, dtype=torch.float32))), 4)
        remember(key, entry)
        print(key, k, entry["c2st"][str(k)], entry["train_seconds"], entry["draw_seconds"][str(k)], flush=True)


def page() -> str:
    """The results as a table in Markdown."""
    lines = [
        "| task | method | code | observations | C2ST | published | training [CPU s] | 10,000 draws [CPU s] |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for key, entry in known().items():
        task, method, code, _, _ = key.split()
        scores = list(entry["c2st"].values())
        told = PUBLISHED[task][["npe", "nle", "nre"].index(method)] if task in PUBLISHED else float("nan")
        lines.append(
            f"| {task} | {method.upper()} | {code} | {len(scores)} | {np.mean(scores):.3f} | {told:.3f} "
            f"| {entry['train_seconds']:.0f} | {np.mean(list(entry['draw_seconds'].values())):.1f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=["npe", "nle", "nre"])
    parser.add_argument("--observations", nargs="+", type=int, default=list(range(1, 11)))
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--peer", action="store_true", help="sbi too")
    parser.add_argument("--page", action="store_true", help="only print the table")
    options = parser.parse_args()
    if not options.page:
        torch.set_num_threads(1)
        warnings.simplefilter("ignore")
        for seed in options.seeds:
            for task in options.tasks:
                for method in options.methods:
                    for code in ("deepfield", "sbi") if options.peer else ("deepfield",):
                        one(task, method, code, options.n, seed, options.observations)
    print(page())


if __name__ == "__main__":
    main()
