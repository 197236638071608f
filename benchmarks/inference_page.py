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
`benchmarks/inference*.py` make. Nothing was chosen by looking at a reference posterior,
save where it is said.
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
    """One row for each task, method and number of simulations; means over what both codes have been scored on."""
    cells = sorted({(t, m, int(n)) for t, m, _, n, _ in map(str.split, found)}, key=_order)
    rows = []
    for task, method, n in cells:
        ours, theirs = (found.get(f"{task} {method} {code} {n} 0") for code in ("deepfield", "sbi"))
        told = f"{PUBLISHED[task][METHODS.index(method)]:.3f}" if n == 10_000 else "-"
        shared = [set(entry["c2st"]) for entry in (ours, theirs) if entry]
        numbers = sorted(set.intersection(*shared), key=int)
        rows.append([task, method.upper(), f"{n:,}", _score(ours, numbers), _score(theirs, numbers), told,
                     _seconds(ours, 1), _seconds(theirs, 1), _seconds(ours, 0), _seconds(theirs, 0)])  # fmt: skip
    head = ["task", "method", "simulations", "C2ST deepfield", "C2ST sbi", "published",
            "training deepfield [CPU s]", "sbi", "10,000 draws deepfield [CPU s]", "sbi"]  # fmt: skip
    missing = [f"{t} {m.upper()}" for t in PUBLISHED for m in METHODS if f"{t} {m} sbi 10000 0" not in found]
    told = f"\nNot run with sbi at 10,000 simulations: {', '.join(missing)}.\n" if missing else ""
    return table(head, rows) + told


def _order(cell: tuple[str, str, int]) -> tuple[int, int, int]:
    return -cell[2], list(PUBLISHED).index(cell[0]), METHODS.index(cell[1])


def _score(entry: dict[str, Any] | None, numbers: list[str]) -> str:
    if entry is None:
        return "not run"
    scores = [entry["c2st"][k] for k in numbers]
    return f"{np.mean(scores):.3f} ({', '.join(f'{s:.3f}' for s in scores)})"


def _seconds(entry: dict[str, Any] | None, training: int) -> str:
    if entry is None:
        return "-"
    return f"{entry['train_seconds']:.0f}" if training else f"{np.mean(list(entry['draw_seconds'].values())):.1f}"


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
        npe, nle = entry["npe"], entry["nle"]
        rows = [
            [name, *(f"{told['sbc_p_value'][name]:.3f}" for told in (npe, nle)), f"{exact:.3f}"]
            for name, exact in entry["exact"].items()
        ]
        rows.append(["all (TARP)", f"{npe['tarp_p_value']:.3f}", f"{nle['tarp_p_value']:.3f}", "-"])
        parts.append(f"### {data}, {model}\n\nRanks, p-values on fresh simulations:\n")
        head = ["parameter", f"NPE ({npe['simulations']:,})", f"NLE ({nle['simulations']:,})",
                f"exact posterior ({npe['simulations']:,})"]  # fmt: skip
        parts.append(table(head, rows))
        parts.append(
            f"The likelihood-ratio test of {entry['hypothesis']} (NLE), 1,000 data sets where it is true:\n"
        )
        rows = [[name, *(f"{value:.3f}" for value in told.values())] for name, told in entry["test"].items()]
        parts.append(table(["p-value", "share below 0.05", "band, from", "to"], rows))
        parts.append(
            f"Alarms of the test of misspecification, nominal rate {entry['nominal rate of alarms']:g}:\n"
        )
        parts.append(table(["data", "share"], [[name, f"{v:.3f}"] for name, v in entry["alarms"].items()]))
    return "\n".join(parts)


def maps(found: dict[str, Any]) -> str:
    rows = []
    for key, entry in found.items():
        name, method, n, _ = key.split()
        tested = entry["calibration"]
        ranks = min(tested["sbc_p_value"].values())
        pairs = zip(entry["mean"], entry["std"], entry["shift"], entry["width"])
        seconds = entry["simulate_seconds"]
        simulating = f"{seconds:.0f}" if seconds > 1 else "the same"
        told = [f"{mean:.3f} ± {std:.3f} ({shift:+.2f}, {width:.2f})" for mean, std, shift, width in pairs]
        rows.append([name, method.upper(), f"{int(n):,}", *told, f"{entry['area']:.2f}", f"{entry['c2st']:.3f}",
                     f"{ranks:.3f}", f"{tested['tarp_p_value']:.3f}", simulating,
                     f"{entry['train_seconds']:.0f}"])  # fmt: skip
    head = ["data", "method", "simulations", "omega_c (shift, width)", "sigma_8 (shift, width)", "area", "C2ST",
            "least SBC p", "TARP p", "simulating [CPU s]", "training [CPU s]"]  # fmt: skip
    return table(head, rows)


PARTS = {
    "tasks": (
        "Tasks of sbibm",
        "Both codes learn from the same simulations, on one core of the same machine; sbi 0.27 with its defaults "
        "(a spline flow for NPE), one seed. C2ST: 0.5 is perfect; means over observations, each in brackets; "
        "published is the mean over ten (Lueckmann et al. 2021). The machine was busy with other work, which "
        "makes seconds longer than they would be alone: compare columns.",
        tasks,
        "inference.py",
    ),
    "cosmology": (
        "Real distances",
        "Against chains on the exact likelihood: differences of means in its deviations, ratios of widths. Nets "
        "of `deepfield run inference`: smaller than the default ones, one for NPE and NLE, two for NRE: "
        "that number, unlike all else, was raised after a single one had missed the exact mean of DESI DR2 and "
        "Union3 in wCDM by 0.10 to 0.15 sigma.",
        cosmology,
        "inference_cosmology.py posteriors",
    ),
    "calibration": (
        "Calibration",
        "Of the nets of `deepfield run inference`, around the posterior of the real data. The exact posteriors of "
        "the same simulations are ranked beside the learnt ones: a draw of simulations can be an unlikely one.",
        calibration,
        "inference_cosmology.py calibration",
    ),
    "maps": (
        "A convergence map",
        "One map of 128 x 128 pixels (sbi_lens), beside the published Hamiltonian chain over all its pixels. "
        "Shifts of means are in the chain's deviations; widths and areas (the root of the determinant of the "
        "covariance) are ratios to it. `power`: the power spectrum alone; `wavelets`: that and histograms of "
        "wavelet coefficients.",
        maps,
        "inference_maps.py power wavelets",
    ),
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
