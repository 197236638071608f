"""Write docs/benchmarks/morphology.md from benchmarks/results/morphology*.json: every number is in those files."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "benchmarks" / "morphology.md"
NAMES = {"none": "plain, turned copies", "p4": "p4", "p4m": "p4m", "c8": "**c8**", "d8": "d8"}
SCORES = {"accuracy": "accuracy", "log_loss": "log-loss", "macro_f1": "macro F1", "calibration_error": "ECE",
          "calibration_floor": "its floor"}  # fmt: skip


def results(part: str) -> dict[str, Any]:
    path = ROOT / "results" / f"morphology_{part}.json"
    return json.loads(path.read_text()) if path.exists() else {"runs": {}}


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def spread(values: list[float], digits: int = 3) -> str:
    """Mean and standard deviation."""
    found = np.array(values, dtype=float)
    scatter = f" ± {found.std(ddof=1):.{digits}f}" if len(found) > 1 else ""
    return f"{found.mean():.{digits}f}{scatter}"


def by_group(part: str) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for run in results(part)["runs"].values():
        found[run["group"]].append(run)
    return {group: found[group] for group in NAMES if group in found}


def compared() -> str:
    """The differences of means over seeds, with their paired bootstrap errors over galaxies."""
    lines = []
    for key, run in sorted(results("compare")["runs"].items()):
        parts = [f"{name} {run[m]['value']:+.3f} ± {run[m]['error']:.3f}" for m, name in list(SCORES.items())[:3]]
        told = key.replace("less none, eightfold", "less plain, asked eight times").replace(
            "less none", "less plain"
        )
        lines.append(f"- {told}: " + ", ".join(parts))
    return "\n".join(lines) + "\n"


def galaxies() -> str:
    found, tested = by_group("galaxies"), ""
    rows = []
    for group, runs in found.items():
        tested = f"{int(np.sum(runs[0]['confusion']))} galaxies"
        seconds = spread([r["seconds"] for r in runs], 0)
        rows.append([NAMES[group], str(len(runs)), str(runs[0]["parameters"]), seconds, str(runs[0]["epochs"]),
                     *(spread([r[m] for r in runs]) for m in SCORES)])  # fmt: skip
        if group == "none":
            averaged = [r["averaged"] for r in runs]
            eightfold = (spread([r[m] for r in averaged]) for m in SCORES)
            rows.append(["the same, asked eight times", "", "", "", "", *eightfold])
    text = table(["net", "seeds", "weights", "CPU s", "epochs", *SCORES.values()], rows)
    return f"Tested on {tested}.\n\n{text}\n{compared()}"


def invariance() -> str:
    rows = []
    for group, runs in by_group("galaxies").items():
        rows.append([
            NAMES[group],
            f"{max(r['largest change of p'] for r in runs):.1e}",
            f"{max(r['largest change of p, mirrored'] for r in runs):.1e}",
            spread([r["change of logit at 45"] for r in runs]),
            spread([100 * r["flips at 45"] for r in runs], 1),
        ])  # fmt: skip
    head = ["net", "largest change of p, quarter turns", "mirrored and turned",
            "change of a logit at 45° over its spread", "labels that flip at 45°, %"]  # fmt: skip
    return table(head, rows)


def chirality() -> str:
    """Accuracy in each fold, and over those on which nothing was chosen."""
    ways = ("simulated alone", "real alone", "simulated, then real")
    rows = []
    for group, runs in by_group("chirality").items():
        runs = sorted(runs, key=lambda r: r["seed"])
        for way in ways:
            right = [100 * r[way]["accuracy"] for r in runs]
            n = sum(r["tested"] for r in runs[2:])
            mean = np.average(right[2:], weights=[r["tested"] for r in runs[2:]])
            error = np.sqrt(mean * (100 - mean) / n)
            sure = np.mean([100 * r[way]["right of the surest third"] for r in runs[2:]])
            rows.append([NAMES[group], way, ", ".join(f"{v:.1f}" for v in right),
                         f"{mean:.1f} ± {error:.1f}", f"{sure:.1f}",
                         f"{max(r[way]['change beside an exchange'] for r in runs):.1e}"])  # fmt: skip
    head = ["net", "learnt from", "right in each fold, %", "folds 3 to 5, %", "their surest third, %",
            "largest change of p beside the exchange"]  # fmt: skip
    return table(head, rows)


def folded(part: str) -> str:
    """Scores of each group over random splits."""
    head = ["net", "CPU s", "error, %", "log-loss", "ECE"]
    rows = []
    for group, runs in by_group(part).items():
        rows.append([NAMES[group], spread([r["seconds"] for r in runs], 0),
                     spread([100 * (1 - r["accuracy"]) for r in runs], 1), spread([r["log_loss"] for r in runs]),
                     spread([r["calibration_error"] for r in runs])])  # fmt: skip
    return table(head, rows)


def votes() -> str:
    runs = list(results("votes")["runs"].values())
    rows = []
    for question in runs[0]["questions"]:
        parts = [r["questions"][question] for r in runs]
        rows.append([question, *(spread([100 * p[level] for p in parts], 1) for level in
                                 ("0.5", "0.683", "0.9", "0.955")), spread([p["ks"] for p in parts]),
                     *(spread([100 * r["votes"][question][c]["value"] for r in runs], 1) for c in
                       ("coverage_683", "coverage_955"))])  # fmt: skip
    head = ["question", "50", "68.3", "90", "95.5", "KS of the ranks", "votes, 68.3", "votes, 95.5"]
    return table(head, rows)


def active() -> str:
    """Both curves, and how many labels the asked ones need for what random labels reach, seed by seed."""
    curves: dict[str, dict[str, Any]] = defaultdict(dict)
    for key, run in results("active")["runs"].items():
        way, seed = key.split()
        curves[way][seed] = run["curve"]
    seeds = sorted(set(curves["random"]) & set(curves["information"]))
    labels = [point["labels"] for point in curves["random"][seeds[0]]]
    rows, text = [], ""
    for metric, name in (("accuracy", "accuracy"), ("log_loss", "log-loss"), ("macro_f1", "macro F1")):
        sign = -1 if metric == "log_loss" else 1
        grid = {
            way: np.array([[point["held out"][metric] for point in runs[s]] for s in seeds])
            for way, runs in curves.items()
        }
        for way, values in grid.items():
            rows.append([f"{name}, {way}", *(spread(list(column)) for column in values.T)])
        reached = [share(sign * asked, sign * plain[-1], labels)
                   for asked, plain in zip(grid["information"], grid["random"])]  # fmt: skip
        mean = share(sign * grid["information"].mean(0), sign * grid["random"].mean(0)[-1], labels)
        each = ", ".join(f"{r:.0%}" if r < np.inf else "not" for r in reached)
        text += (
            f"- {name} of {labels[-1]} random labels: by the mean curves with {told(mean)}; seed by seed {each}\n"
        )
    return table(["labels", *map(str, labels)], rows) + "\n" + text


def share(curve: np.ndarray, goal: float, labels: list[int]) -> float:
    """Of the labels, how many a curve (interpolated) needs to reach a goal; inf if it does not."""
    reached = np.flatnonzero(curve >= goal)
    if not len(reached):
        return float("inf")
    k = reached[0]
    if k == 0:
        return labels[0] / labels[-1]
    part = (goal - curve[k - 1]) / (curve[k] - curve[k - 1])
    return float(labels[k - 1] + part * (labels[k] - labels[k - 1])) / labels[-1]


def told(part: float) -> str:
    return f"{part:.0%} of them" if part < np.inf else "more than as many"


def speed() -> str:
    found = results("speed")
    rows = []
    for key, peer in found.get("escnn", {}).items():
        ours = found["deepfield"][peer["group"]]
        if "error" in peer:
            rows.append([key, "", "failed", "", "", "", ""])
            continue
        rows.append([key, *(f"{ours[w]:.0f}" for w in ("train", "infer", "onnx")),
                     f"{peer['train']:.0f} / {peer['infer']:.0f}", f"{ours['train'] / peer['train']:.2f}",
                     f"{ours['infer'] / peer['infer']:.2f}"])  # fmt: skip
    head = ["escnn's net", "deepfield trains", "infers", "infers (ONNX)", "escnn trains / infers",
            "training ratio", "inference ratio (both torch)"]  # fmt: skip
    text = table(head, rows)
    plain = [[group, f"{r['products'] / 1e6:.1f}", f"{r['onnx']:.0f}", f"{r['onnx plain']:.0f}",
              f"{r['onnx plain'] / r['onnx']:.2f}"]
             for group, r in found["deepfield"].items() if "onnx plain" in r]  # fmt: skip
    head = ["group", "million multiplications", "ONNX", "plain CNN of as many, ONNX", "ratio"]
    return text + "\n" + table(head, plain)


def main() -> None:
    spirals = next(iter(results("chirality")["runs"].values()))
    made = results("galaxies").get("machine", {})
    cores = f"{made.get('processor', '?')}, {made.get('cores', '?')} cores, no GPU"
    fields = {name: function() for name, function in
              {"galaxies": galaxies, "invariance": invariance, "chirality": chirality, "votes": votes,
               "active": active, "speed": speed}.items()}  # fmt: skip
    runs = results("active")["runs"].values()
    fields["pool"] = f"{next(iter(runs))['pool']:,}" if runs else "?"
    fields["active_seeds"] = str(len(runs) // 2)
    voted = list(results("votes")["runs"].values())
    fields |= {"vote_seconds": spread([r["seconds"] for r in voted], 0), "vote_epochs": str(voted[0]["epochs"])}
    fields["sense_parameters"] = f"{spirals['config']['parameters']:,}"
    fields["sense"] = f"{100 * spirals['on simulated ones']['accuracy']:.1f}"
    fields["sense_seconds"] = f"{spirals['seconds before']:.0f}"
    fields |= {"radio": folded("radio"), "machine": cores}
    text = (ROOT / "morphology_page.md").read_text()
    for name, value in fields.items():
        text = text.replace("{{" + name + "}}", value.strip())
    PAGE.write_text(text)
    print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
