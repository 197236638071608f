"""Write docs/benchmarks/lensing.md from benchmarks/results/lensing_*.json: every number is in those files.

Parts that have not been run are named as such.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "benchmarks" / "lensing.md"
FIND = {"auroc": "AUROC", "tpr0": "TPR0", "tpr10": "TPR10", "log_loss": "log-loss", "calibration_error": "ECE",
        "calibration_floor": "its floor"}  # fmt: skip
MEASURE = {"bias": "bias", "scatter": "scatter", "coverage_683": "in 68.3 %", "coverage_955": "in 95.5 %"}
HEAD = """<!-- written by benchmarks/lensing_page.py -->
# Strong lensing

Written by `benchmarks/lensing_page.py` from the JSON files in `benchmarks/results/`; `benchmarks/lensing*.py` make
those.
"""


def results(part: str) -> dict[str, Any]:
    path = ROOT / "results" / f"lensing_{part}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def number(value: Any, digits: int = 3) -> str:
    """A metric with its error, or a plain number."""
    if isinstance(value, dict):
        return f"{value['value']:.{digits}f} ± {value['error']:.{digits}f}"
    return "-" if value is None else f"{value:.{digits}f}"


SUBSETS = (
    "galaxies alone against all lenses", "galaxies alone against lenses of S/N above 50 wider than the PSF",
)  # fmt: skip


def finding(found: dict[str, Any]) -> str:
    rows, kinds = [], []
    for survey, told in found.items():
        for name, part in told.items() if isinstance(told, dict) else ():
            if not isinstance(part, dict):
                continue
            if "auroc" in (numbers := part.get("metrics", part)):
                few = f" ({part['images']} images)" if "images" in part and "metrics" not in part else ""
                rows.append([survey, name + few, *(number(numbers.get(k)) for k in FIND)])
            rows += [
                [survey, f"{name}, {s}", *(number(part[s].get(k)) for k in FIND)] for s in SUBSETS if s in part
            ]
        if isinstance(told, dict) and "simulated" in told:
            apart = told["simulated"]["auroc against each"]
            kinds.append(f"{survey}: " + ", ".join(f"{k} {v:.3f}" for k, v in sorted(apart.items(), key=_second)))
    text = table(["survey", "images or method", *FIND.values()], rows)
    return text + "\nAUROC against each kind of what is no lens. " + "; ".join(kinds) + ".\n"


def _second(pair: tuple[str, float]) -> float:
    return pair[1]


def measuring(found: dict[str, Any]) -> str:
    rows, parts, fits = [], [], []
    for survey, told in found.items():
        if not isinstance(told, dict) or "simulated" not in told:
            continue
        there = [name for name in ("simulated", "brighter half", "lenstronomy") if name in told]
        rows += [[survey, n, *(number(told[n].get(f"theta_e_{k}"), 4) for k in MEASURE)] for n in there]
        for q in told["by theta_e"]:
            numbers = (number(q[k], 4) for k in ("bias", "scatter", "coverage_683"))
            parts.append([survey, f"{q['from']:.2f} to {q['to']:.2f}", *numbers])
        fit = told["fit"]
        same, failed = fit["the posterior's on the same lenses"], f"{fit['failed']} fits failed"
        for name, part, seconds in (
            ("posterior", same, told["seconds for each"]),
            (f"likeliest fit ({fit['band']} alone, {failed})", fit, fit["seconds for each"]),
        ):
            numbers = (number(part[k], 4) for k in ("bias", "scatter", "far off (20 %)"))
            fits.append([survey, name, str(fit["lenses"]), *numbers, f"{1000 * seconds:.1f} ms"])
    return "\n".join(
        [
            table(["survey", "lenses", *MEASURE.values()], rows),
            "By the true Einstein radius (arcsec): a posterior leans on its population, so that medians shrink "
            "towards its middle.\n",
            table(["survey", "theta_E", "bias", "scatter", "in 68.3 %"], parts),
            "Beside the likeliest fit of the same lenses, which knows PSF, gain and the scatter of a pixel, takes "
            "noise to be white, and begins at the posterior's median.\n",
            table(["survey", "method", "lenses", "bias", "scatter", "off by 20 %", "time for each"], fits),
        ]
    )


def calibration(found: dict[str, Any]) -> str:
    keys = ("calibration_error", "calibration_floor", "excess", "log_loss")
    rows = [
        [survey, name, *(number(part[k], 4) for k in keys)]
        for survey, told in found.items()
        if isinstance(told, dict)
        for name, part in told.items()
        if isinstance(part, dict) and "calibration_error" in part
    ]
    head = ["survey", "share of lenses", "ECE", "its floor", "mean p less share", "log-loss"]
    return table(head, rows)


def candidates(found: dict[str, Any]) -> str:
    keys = (
        "recall at 1 % of SDSS", "auroc against SDSS", "auroc of grade 2 and above against below 1",
        "spearman", "kendall",
    )  # fmt: skip
    rows = [
        [name, *(number(told.get(k)) for k in keys)]
        for name, told in found.items()
        if isinstance(told, dict) and "spearman" in told
    ]
    caution = (
        "A recall that comes without a rank correlation says that candidates look unlike the galaxies, not that "
        "lenses do."
    )
    return f"{found['candidates']} {found['what']} {caution}\n\n" + table(["model", *keys], rows)


def speed(found: dict[str, Any]) -> str:
    peers = [name.removeprefix("times ") for name in found if name.startswith("times ")]
    rows = [
        [name, f"{rate:,.0f}", *(number(found[f"times {peer}"].get(name)) for peer in peers)]
        for name, rate in found["images per core-second"].items()
    ]
    return table(["code", "images per core-second", *(f"times {peer}" for peer in peers)], rows)


def counts(found: dict[str, Any]) -> str:
    own, peer = found["ours"], found["peer"]
    return (
        f"Of {own['sources']:,} sources {own['counted wrongly']} have a wrong number of images; of "
        f"{peer['sources']} on and near symmetry axes deepfield has {peer['ours counted wrongly']} wrong, "
        f"lenstronomy {peer['lenstronomy counted wrongly']}.\n"
    )


PARTS = {
    "find": (
        "Finding",
        "Held-out simulations with what fools finders, and with galaxies alone as what is no lens, as the "
        "challenge has it; other codes' images. TPR0 and TPR10 at 10,000 of what is no lens.",
        finding,
    ),
    "measure": ("Measuring", "Einstein radii: relative errors of the posterior's median.", measuring),
    "prior": ("Calibration", "At the share of lenses of the training, and at a rarer one by Bayes.", calibration),
    "real": ("Real candidates", "", candidates),
    "images": ("Image counts", "", counts),
    "speed": ("Rendering", "64 x 64 pixels, SIE and shear, two Sersic profiles, a full PSF, noise.", speed),
}


def main() -> None:
    page = [HEAD]
    for part, (title, words, write) in PARTS.items():
        found = results(part)
        page.append(f"## {title}\n")
        page += [f"{words}\n"] if words else []
        page.append(write(found) if found else f"Not run yet: `python benchmarks/lensing.py {part}`.\n")
    PAGE.write_text("\n".join(page))


if __name__ == "__main__":
    main()
