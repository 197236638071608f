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
BUDGETS = {"6 passes": "deepfield:6", "12 passes": "deepfield:12", "default": "deepfield"}


def tasks(found: dict[str, Any]) -> str:
    """Accuracy by number of simulations, then what it cost; means over what both codes have been scored on."""
    parts = []
    for n in sorted({int(key.split()[3]) for key in found}, reverse=True):
        parts.append(f"### {n:,} simulations\n")
        parts.append(_accuracy(found, n))
    parts.append(
        "### Cost at 10,000 simulations\n\nCPU seconds of training: by default (two nets, 2,000 steps and as many "
        "again while the loss falls); of one net and 6 or 12 passes, or the default, whichever first has a mean "
        "C2ST over the same observations at or below sbi's; of sbi. Seconds of 10,000 draws. The passes are "
        "picked by the score itself: they say what an accuracy costs, not what a user gets unasked.\n"
    )
    parts.append(_cost(found, 10_000))
    return "\n".join(parts)


def _cells(found: dict[str, Any], n: int) -> list[tuple[str, str]]:
    keys = (key.split() for key in found)
    return sorted({(k[0], k[1]) for k in keys if int(k[3]) == n}, key=_order)


def _order(cell: tuple[str, str]) -> tuple[int, int]:
    return METHODS.index(cell[1]), list(PUBLISHED).index(cell[0])


def _both(
    found: dict[str, Any], task: str, method: str, n: int, code: str = "deepfield"
) -> tuple[Any, Any, list[str]]:
    """The entries of a code and of sbi, and the observations that both have."""
    ours, theirs = (found.get(f"{task} {method} {c} {n} 0") for c in (code, "sbi"))
    shared = [set(entry["c2st"]) for entry in (ours, theirs) if entry]
    return ours, theirs, sorted(set.intersection(*shared), key=int) if shared else []


def _accuracy(found: dict[str, Any], n: int) -> str:
    rows = []
    for task, method in _cells(found, n):
        ours, theirs, numbers = _both(found, task, method, n)
        told = f"{PUBLISHED[task][METHODS.index(method)]:.3f}" if n == 10_000 else "-"
        rows.append(
            [method.upper(), task, _score(ours, numbers), _score(theirs, numbers), told, str(len(numbers))]
        )
    return table(["method", "task", "C2ST deepfield", "C2ST sbi", "published", "observations"], rows)


def _cost(found: dict[str, Any], n: int) -> str:
    rows = []
    for task, method in _cells(found, n):
        ours, theirs, _ = _both(found, task, method, n)
        told, ratio = "-", "-"
        for label, code in BUDGETS.items():
            short, peer, numbers = _both(found, task, method, n, code)
            if short and peer and _mean(short, numbers) <= _mean(peer, numbers):
                told = f"{short['train_seconds']:.1f} ({label}, {_mean(short, numbers):.3f})"
                ratio = f"{short['train_seconds'] / peer['train_seconds']:.2f}"
                break
        rows.append([method.upper(), task, _seconds(ours, 1), told, _seconds(theirs, 1), ratio,
                     _seconds(ours, 0), _seconds(theirs, 0)])  # fmt: skip
    head = ["method", "task", "training by default", "to sbi's accuracy", "sbi", "ratio of the last two",
            "draws deepfield", "draws sbi"]  # fmt: skip
    return table(head, rows)


def _mean(entry: dict[str, Any], numbers: list[str]) -> float:
    return float(np.mean([entry["c2st"][k] for k in numbers]))


def _score(entry: dict[str, Any] | None, numbers: list[str]) -> str:
    if entry is None or not numbers:
        return "not run"
    scores = [entry["c2st"][k] for k in numbers]
    return f"{np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})"


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


def densities(found: dict[str, Any]) -> str:
    rows = []
    for key, entry in found.items():
        task, density, n, _ = key.split()
        rows.append([task, density, f"{int(n):,}", f"{entry['nll']:.3f} ± {entry['nll_error']:.3f}",
                     f"{entry['train_seconds']:.0f}", f"{entry['draw_seconds']:.2f}",
                     f"{entry['likelihood_seconds']:.2f}"])  # fmt: skip
    head = ["task", "density", "simulations", "-log q of fresh simulations", "training [CPU s]",
            "10,000 draws [CPU s]", "5,000 densities [CPU s]"]  # fmt: skip
    return table(head, rows)


def shear(found: dict[str, Any]) -> str:
    rows = []
    for key, entry in found.items():
        _, method, n, seed = key.split()
        for values in zip(*(entry[k] for k in ("parameters", "exact_mean", "exact_std", "shift", "width"))):
            name, mean, std, shift, width = values
            rows.append([method.upper(), f"{int(n):,}", seed, name, f"{mean:.4f} ± {std:.4f}", f"{shift:+.2f}",
                         f"{width:.2f}"])  # fmt: skip
    head = ["method", "simulations", "seed", "parameter", "exact", "shift [sigma]", "width / exact"]
    entry = next(iter(found.values()))
    told = ", ".join(f"{name}: {value:.3f}" for name, value in entry["c2st"].items())
    seconds = ", ".join(f"{name}: {value:.0f}" for name, value in entry["seconds"].items())
    return f"C2ST of the first seed: {told}. CPU seconds: {seconds}.\n\n" + table(head, rows)


PARTS = {
    "tasks": (
        "Tasks of sbibm",
        "Both codes learn from the same simulations, on one core of the same machine; sbi 0.27 with its defaults "
        "(a spline flow for NPE), one seed. C2ST: 0.5 is perfect; mean over observations, smallest and largest in "
        "brackets; published is the mean over ten (Lueckmann et al. 2021). The machine was busy with other work, "
        "which makes seconds longer than they would be alone: compare columns. The sizes of our nets, their rates "
        "and numbers of steps were chosen by the loss on held-out simulations of these tasks; sbi's are its "
        "defaults.",
        tasks,
        "inference.py",
    ),
    "densities": (
        "Densities of NPE",
        "Mixture (the default; `mixture:4` with four members), spline flow and flow matching, all around the same "
        "linear regression; their sizes and rates were chosen on other simulations than these.",
        densities,
        "inference_densities.py",
    ),
    "cosmology": (
        "Real distances",
        "Against chains on the exact likelihood: differences of means in its deviations, ratios of widths. Nets "
        "of `deepfield run inference`: one for NPE and NLE, two for NRE: "
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
        "wavelet coefficients. Settings of the nets were chosen by held-out loss.",
        maps,
        "inference_maps.py power wavelets --n 50000",
    ),
    "shear": (
        "Cosmic shear",
        "A mock of 180 band powers like those of LSST's first year, with matter spectra by the emulator, beside "
        "the exact likelihood. Nets of `deepfield run inference`; seconds of the training after the first round.",
        shear,
        "inference_shear.py posteriors",
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
