"""Six sbibm tasks (Lueckmann et al. 2021): deepfield beside sbi with its defaults, on the same simulations.

    python -m venv .venv-sbi
    .venv-sbi/bin/python -m pip install . sbi==0.27.0
    .venv-sbi/bin/python -m pip install --no-deps --target benchmarks/work/sbibm sbibm==1.1.0   # its files alone
    .venv-sbi/bin/python benchmarks/inference.py --tasks two_moons slcp --codes deepfield deepfield:6 sbi

``deepfield`` is the default; ``deepfield:6`` one net and six passes over the simulations, which says how soon
another code's accuracy is reached.

Each result is an entry of ``benchmarks/results/inference_tasks.json``; what is there is not done again, so that a
run can be stopped at any time. Simulations come from this script's seeds. Scores are C2ST of 10,000 draws against
10,000 of the reference, by :func:`deepfield.trust.two_samples.c2st`. Times are seconds of one core. Nothing is
chosen by looking at reference posteriors.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from inference_tasks import TASKS, Array, Task

from deepfield.core.files import atomic
from deepfield.inference import simulate, train
from deepfield.trust.two_samples import c2st

RESULTS = Path(__file__).parent / "results"
DRAWS = 10_000
Sampler = Callable[[Array, int], Array]


def ours(method: str, task: Task, n: int, seed: int, epochs: int = 0) -> tuple[Sampler, float]:
    """Our defaults, or one net for so many epochs; a sampler and the seconds of training."""
    short = {"members": 1, "epochs": epochs} if epochs else {}
    table = simulate(task.prior, task.simulate, n, seed=seed)
    began = time.process_time()
    posterior = train(table, task.prior, method=method, seed=seed, **short)
    return lambda observation, k: posterior.sample(observation, DRAWS, seed=k), time.process_time() - began


def theirs(method: str, task: Task, n: int, seed: int) -> tuple[Sampler, float]:
    """The same by sbi, with a spline flow for NPE (its best) and all else as it comes."""
    from sbi import inference as sbi

    table = simulate(task.prior, task.simulate, n, seed=seed)
    theta, x = (torch.from_numpy(part).float() for part in (table.theta, table.x))
    torch.manual_seed(seed)
    settings = {"density_estimator": "nsf"} if method == "npe" else {}
    kind = {"npe": sbi.NPE, "nle": sbi.NLE, "nre": sbi.NRE}[method]
    trainer = kind(prior=task.torch_prior(), show_progress_bars=False, **settings)
    began = time.process_time()
    trainer.append_simulations(theta, x).train()
    seconds = time.process_time() - began
    posterior = trainer.build_posterior()

    def draw(observation: Array, k: int) -> Array:
        torch.manual_seed(k)
        given = torch.from_numpy(observation).float()[None]
        return posterior.sample((DRAWS,), x=given, show_progress_bars=False).double().numpy()

    return draw, seconds


CODES: dict[str, Callable[[str, Task, int, int], tuple[Sampler, float]]] = {"deepfield": ours, "sbi": theirs}
CODES |= {f"deepfield:{epochs}": partial(ours, epochs=epochs) for epochs in (6, 12)}


def known(part: str) -> dict[str, Any]:
    """The results so far."""
    path = RESULTS / f"inference_{part}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def remember(part: str, key: str, entry: dict[str, Any]) -> None:
    """Add one result."""
    content = {**known(part), key: entry}
    with atomic(RESULTS / f"inference_{part}.json") as temporary:
        temporary.write_text(json.dumps(dict(sorted(content.items())), indent=1) + "\n")


def one(
    task: Task, method: str, code: str, n: int, seed: int, observations: list[int], sbibm: Path, keep: Path
) -> None:
    """Train once, draw for each observation, score; the draws stay in a folder."""
    key = f"{task.name} {method} {code} {n} {seed}"
    entry = known("tasks").get(key, {"c2st": {}, "draw_seconds": {}})
    todo = [k for k in observations if str(k) not in entry["c2st"]]
    if not todo:
        return
    sampler, seconds = CODES[code](method, task, n, seed)
    entry["train_seconds"] = round(seconds, 1)
    for k in todo:
        began = time.process_time()
        draws = sampler(task.observation(sbibm, k), k)
        entry["draw_seconds"][str(k)] = round(time.process_time() - began, 2)
        with atomic(keep / f"{key} {k}.npy".replace(" ", "_")) as temporary:
            np.save(temporary, draws.astype(np.float32))
        entry["c2st"][str(k)] = round(c2st(task.reference(sbibm, k), draws), 4)
        remember("tasks", key, entry)
        print(key, k, entry["c2st"][str(k)], entry["train_seconds"], entry["draw_seconds"][str(k)], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    work = Path("benchmarks/work")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=["npe", "nle", "nre"])
    parser.add_argument("--codes", nargs="+", default=["deepfield", "sbi"], choices=list(CODES))
    parser.add_argument("--observations", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--sbibm", type=Path, default=work / "sbibm", help="where sbibm is installed")
    parser.add_argument("--work", type=Path, default=work / "inference", help="folder for the draws")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for seed in options.seeds:
        for task in options.tasks:
            for method in options.methods:
                for code in options.codes:
                    one(
                        TASKS[task], method, code, options.n, seed, options.observations, options.sbibm,
                        options.work,
                    )  # fmt: skip


if __name__ == "__main__":
    main()
