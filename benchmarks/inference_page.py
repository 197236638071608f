"""Write docs/benchmarks/inference.md from benchmarks/results/inference_*.json: every number is in those files.

Parts that have not been run are named as such.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from inference import known
from lensing_page import table

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "inference.md"
HEAD = """<!-- written by benchmarks/inference_page.py -->
# Simulation-based inference

Written by `benchmarks/inference_page.py` from the JSON files in `benchmarks/results/`, which
`benchmarks/inference*.py` make. Nothing was chosen by looking at a reference posterior.
"""
METHODS = ("npe", "nle", "nre")
PUBLISHED = {
    "two_moons": (0.606, 0.713, 0.761),
    "slcp": (0.901, 0.771, 0.947),
    "gaussian_linear": (0.552, 0.555, 0.560),
    "gaussian_mixture": (0.615, 0.723, 0.748),
    "lotka_volterra": (0.997, 0.956, 0.998),
    "sir": (0.680, 0.748, 0.770),
}
"""Mean C2ST over ten observations at 10,000 simulations (github.com/sbi-benchmark/results, main_paper.csv)."""


def tasks(found: dict[str, Any]) -> str:
    rows = []
    for key in sorted(found, key=lambda k: (list(PUBLISHED).index(k.split()[0]), METHODS.index(k.split()[1]), k)):
        task, method, code, n, _ = key.split()
        entry = found[key]
        scores = ", ".join(f"{v:.3f}" for v in entry["c2st"].values())
        told = f"{PUBLISHED[task][METHODS.index(method)]:.3f}" if n == "10000" else "-"
        seconds = np.mean(list(entry["draw_seconds"].values()))
        rows.append([task, method.upper(), code, f"{int(n):,}", scores, told, f"{entry['train_seconds']:.0f}",
                     f"{seconds:.1f}"])  # fmt: skip
    head = ["task", "method", "code", "simulations", "C2ST of observations 1, 2, ...", "published mean",
            "training [CPU s]", "10,000 draws [CPU s]"]  # fmt: skip
    return table(head, rows)


def cosmology(found: dict[str, Any]) -> str:
    rows = []
    for key, entry in found.items():
        data, model, method, n, _ = key.split()
        shift = max(map(abs, entry["shift"]))
        widths = ", ".join(f"{w:.2f}" for w in entry["width"])
        rows.append([data, model, method.upper(), f"{int(n):,}", f"{shift:.2f}", widths, f"{entry['c2st']:.3f}",
                     f"{entry['train_seconds']:.0f}", f"{entry['draw_seconds']:.1f}"])  # fmt: skip
    head = ["data", "model", "method", "simulations", "largest shift [sigma]", "widths / exact", "C2ST",
            "training [CPU s]", "10,000 draws [CPU s]"]  # fmt: skip
    return table(head, rows)


def calibration(found: dict[str, Any]) -> str:
    parts = []
    for key, entry in found.items():
        data, model, _, _ = key.split()
        npe = entry["npe"]
        ranks = ", ".join(f"{name} {p:.3f}" for name, p in npe["sbc_p_value"].items())
        parts.append(
            f"{data}, {model}. NPE on {npe['simulations']:,} fresh simulations: p-values of the ranks {ranks}; "
            f"of TARP {npe['tarp_p_value']:.3f}.\n"
        )
        rows = [
            [name, *(f"{value:.3f}" for value in told.values())] for name, told in entry["test of w = -1"].items()
        ]
        parts.append("The likelihood-ratio test of w = -1 (NLE) on 1,000 data sets where it is true:\n")
        parts.append(table(["p-value", "share below 0.05", "band, from", "to"], rows))
        parts.append(
            f"Alarms of the test of misspecification, nominal rate {entry['nominal rate of alarms']:g}:\n"
        )
        parts.append(table(["data", "share"], [[name, f"{v:.3f}"] for name, v in entry["alarms"].items()]))
    return "\n".join(parts)


PARTS = {
    "tasks": (
        "Tasks of sbibm",
        "Both codes learn from the same simulations, on one core of the same machine; sbi 0.27 with its defaults "
        "(a spline flow for NPE). C2ST: 0.5 is perfect. The machine was busy with other work, which makes seconds "
        "longer than they would be alone: compare rows.",
        tasks,
        "inference.py",
    ),
    "cosmology": (
        "Real distances",
        "Against chains on the exact likelihood: differences of means in its deviations, ratios of widths.",
        cosmology,
        "inference_cosmology.py posteriors",
    ),
    "calibration": ("Calibration", "", calibration, "inference_cosmology.py calibration"),
}


def main() -> None:
    page = [HEAD]
    for part, (title, words, write, script) in PARTS.items():
        found = known(part)
        page.append(f"## {title}\n")
        page += [f"{words}\n"] if words else []
        page.append(write(found) if found else f"Not run yet: `python benchmarks/{script}`.\n")
    PAGE.write_text("\n".join(page))


if __name__ == "__main__":
    main()
