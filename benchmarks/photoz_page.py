"""Write docs/benchmarks/photoz.md from benchmarks/results/photoz*.json: every number of the page is in those files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent
PAGE = ROOT.parent / "docs" / "benchmarks" / "photoz.md"
TITLES = {
    "deepfield": "**deepfield**, the distilled net",
    "ensemble": "deepfield, ensemble of five",
    "single": "deepfield, one net (mean of five)",
    "flexzboost": "FlexZBoost (flexcode)",
    "gpz": "GPz",
    "forest": "random forest, leaf densities",
    "lightgbm": "LightGBM",
    "knn": "nearest neighbours",
}
PEERS = ("flexzboost", "gpz", "forest", "lightgbm", "knn")
SETS = {
    "boss": "BOSS DR10",
    "mgs": "SDSS main galaxy sample",
    "zcosmos": "zCOSMOS, nine bands with gaps",
    "dc2": "DC2 (simulated LSST)",
}
TITLES_OF_WAYS = {
    "split 15%": "split, 15 % (the default)",
    "split 30%": "split, 30 %",
    "split 45%": "split, 45 %",
    "cross": "cross-conformal",
    "none": "uncalibrated",
}
COLUMNS = {
    "cde_loss": ("CDE loss", 3),
    "crps": ("CRPS", 5),
    "sigma_nmad": ("sigma_NMAD", 5),
    "outlier_fraction": ("outliers", 4),
    "pit_ks": ("PIT KS", 4),
}


def values(runs: list[dict[str, Any]], method: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """Value and bootstrap error of each seed, NaN where the method was not run."""
    found = [run["scores"].get(method, {}).get(metric) or {} for run in runs]
    value, error = ([f.get(k) for f in found] for k in ("value", "error"))
    return np.array(value, dtype=float), np.array(error, dtype=float)


def standing(runs: list[dict[str, Any]], metric: str) -> str:
    """How deepfield stands against the best peer: the mean difference over seeds and its error.

    The error of a difference is that of deepfield's own score, by bootstrap over the test rows, divided by the root
    of the number of seeds: rows are shared, so this overstates it.
    """
    ours, error = values(runs, "deepfield", metric)
    means = {peer: values(runs, peer, metric)[0].mean() for peer in PEERS}
    known = {peer: mean for peer, mean in means.items() if np.isfinite(mean)}
    if not known:
        return "no peer"
    peer = min(known, key=lambda name: known[name])
    difference = (ours - values(runs, peer, metric)[0]).mean()
    sigma = error.mean() / np.sqrt(len(runs))
    verdict = "best" if difference < -sigma else "tied" if difference <= sigma else "**behind**"
    return f"{verdict} ({difference:+.2g} ± {sigma:.1g} against {TITLES[peer]})"


def accuracy(name: str, runs: list[dict[str, Any]]) -> list[str]:
    """The table of one data set."""
    sizes = runs[0]["rows"]
    lines = [f"### {SETS[name]}", ""]
    lines += [
        f"{sizes['train']:,} training, {sizes['validation']:,} validation and {sizes['test']:,} test rows.",
        "",
    ]
    lines += ["| | " + " | ".join(title for title, _ in COLUMNS.values()) + " | coverage 68.3 / 95.5 |"]
    lines += ["|---" * (len(COLUMNS) + 2) + "|"]
    for method, title in TITLES.items():
        cells = []
        for metric, (_, digits) in COLUMNS.items():
            found, _ = values(runs, method, metric)
            spread = found.std(ddof=1) if len(found) > 1 else float("nan")
            cells.append(f"{found.mean():.{digits}f} ± {spread:.{digits}f}" if np.isfinite(found).all() else "-")
        cover = [values(runs, method, f"coverage_{level}")[0].mean() for level in (683, 955)]
        cells.append(" / ".join(f"{100 * c:.1f}" for c in cover) if np.isfinite(cover).all() else "-")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "deepfield against the best peer:", ""]
    lines += [f"- {title}: {standing(runs, metric)}" for metric, (title, _) in COLUMNS.items()]
    return [*lines, ""]


def distillation(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """The share of the ensemble's gain that the student keeps."""
    lines = ["## Distillation", ""]
    lines += [
        "Gain of the ensemble over one of its nets in CDE loss, and the share that the distilled net keeps.",
        "",
    ]
    lines += ["| | gain | kept | kept, each seed |", "|---|---|---|---|"]
    for name, runs in results.items():
        parts = [run["scores"]["distillation"] for run in runs]
        gain = np.array([p["gain"] for p in parts])
        kept = np.array([p["kept"] for p in parts])
        total = (gain * kept).sum() / gain.sum()
        each = ", ".join(f"{100 * k:.0f} %" for k in kept)
        lines.append(
            f"| {SETS[name]} | {gain.mean():.3f} ± {gain.std(ddof=1):.3f} | {100 * total:.0f} % | {each} |"
        )
    return [*lines, ""]


def coverage(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Conformal intervals on test rows, over all and in thirds of the magnitude."""
    lines = ["## Coverage of the conformal intervals", ""]
    lines += [
        "Share of test redshifts inside, in per cent, mean over seeds. In brackets the root mean square over seeds of "
        "the deviation in units of its expected error: first the binomial error of the test rows alone, then with the "
        "error of the finite calibration sample (the Beta-binomial law of split conformal prediction, taken for all rows together and for thirds of the test rows, "
        "though the calibration groups are thirds of the calibration rows). One is expected.",
        "",
    ]
    groups = ("all", "bright", "middle", "faint")
    lines += ["| | level | " + " | ".join(groups) + " |", "|---|---" + "|---" * len(groups) + "|"]
    pulls = []
    for name, runs in results.items():
        for level in (0.683, 0.955):
            cells = []
            for group in groups:
                found = [c for run in runs for c in run["coverage"] if c["level"] == level and c["rows"] == group]
                plain = [(c["coverage"] - level) / c["binomial_error"] for c in found]
                law = [c["pull"] for c in found]
                pulls += law
                mean = 100 * np.mean([c["coverage"] for c in found])
                cells.append(
                    f"{mean:.1f} ({np.sqrt(np.mean(np.square(plain))):.1f}, {np.sqrt(np.mean(np.square(law))):.1f})"
                )
            lines.append(f"| {SETS[name]} | {100 * level:.1f} | " + " | ".join(cells) + " |")
    inside = np.mean(np.abs(pulls) < 2)
    lines += ["", f"{100 * inside:.0f} % of the {len(pulls)} measurements lie within two errors of that law.", ""]
    return lines


def alternatives() -> list[str]:
    """What photoz_coverage.py measured."""
    path = ROOT / "results" / "photoz_coverage.json"
    if not path.is_file():
        return []
    found = json.loads(path.read_text())
    ways = list(next(iter(found["data"].values())))
    lines = [
        "A split-conformal interval shares the error of its finite calibration sample: with n calibration and m test "
        "rows the deviation is expected at sqrt(1 + m / n) binomial errors of the test rows (2.0, 1.6 and 1.4 for "
        "shares of 15, 30 and 45 %), and comes near one only for n much larger than m. What other ways reach, on training and validation rows alone (the rows "
        f"divided anew {found['divisions']} times, 30 % to measure on; one net each): root mean square deviation in "
        "binomial errors, its mean in brackets (positive: too wide), and the CRPS.",
        "",
        "| | " + " | ".join(TITLES_OF_WAYS.get(way, way) for way in ways) + " |",
        "|---" * (len(ways) + 1) + "|",
    ]
    for name, row in found["data"].items():
        cells = [f"{row[w]['rms']:.2f} ({row[w]['mean']:+.2f}), {row[w]['crps']:.5f}" for w in ways]
        lines.append(f"| {SETS[name]} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def speed() -> list[str]:
    """What photoz_speed.py measured."""
    path = ROOT / "results" / "photoz_speed.json"
    if not path.is_file():
        return ["## Speed", "", "Not measured yet.", ""]
    found = json.loads(path.read_text())
    lines = ["## Speed", "", f"Machine: {found['machine']}. {found['note']}", "", "| | |", "|---|---|"]
    lines += [f"| {key} | {value} |" for key, value in found["lines"].items()]
    return [*lines, ""]


def tuning(results: dict[str, list[dict[str, Any]]]) -> str:
    """How the peers were tuned, in words, from the times and the notes of their runs."""
    ran = [
        s
        for runs in results.values()
        for run in runs
        for p in PEERS
        if "tune_s" in (s := run["scores"].get(p, {}))
    ]
    if not ran:
        return "no peer was run"
    here = [s for s in ran if s.get("tuned", "here" if s["tune_s"] > 0.1 else "elsewhere") == "here"]
    seconds = max(s.get("budget_s", 10 * round(s["tune_s"] / 10)) for s in here)
    text = f"in equal time ({seconds:.0f} s of one processor each"
    if len(here) == len(ran):
        return f"{text}, on every seed)"
    return (
        f"{text} on the first seed; the other seeds take its settings, chosen on rows some of which they test on, "
        "which favours the peers)"
    )


def settings(results: dict[str, list[dict[str, Any]]]) -> list[str]:
    """What the tuning of the peers chose."""
    lines = ["## Settings of the peers", "", "Chosen on validation rows by CDE loss; first seed.", ""]
    for name, runs in results.items():
        for peer in PEERS:
            found = runs[0]["scores"].get(peer, {})
            if "settings" in found:
                text = f"{found['candidates']} candidates in {found['tune_s']:.0f} s: `{json.dumps(found['settings'])}`"
            else:
                text = found.get("status", "not run")
            lines.append(f"- {SETS[name]}, {TITLES[peer]}: {text}")
    return [*lines, ""]


def main() -> None:
    content = json.loads((ROOT / "results" / "photoz.json").read_text())
    results: dict[str, list[dict[str, Any]]] = {}
    for name in SETS:
        seeds = sorted(key for key in content["runs"] if key.startswith(f"{name}/"))
        if seeds:
            results[name] = [content["runs"][key] for key in seeds]
    machine = content["machine"]
    count = max(len(runs) for runs in results.values())
    train = {SETS[n]: np.mean([r["seconds"]["cpu"] for r in runs]) for n, runs in results.items()}
    lines = [
        "<!-- written by benchmarks/photoz_page.py -->",
        f"Means and standard deviations over {count} seeds, each with its own split of the rows into 60 % training, "
        "10 % validation and 30 % test. Peers are fitted on the training rows and tuned on the validation rows by "
        f"CDE loss, {tuning(results)}; a random search that short leaves some cells "
        "weakly tuned, LightGBM and nearest neighbours on zCOSMOS and DC2 above all. deepfield gets both and takes from them the rows that stop and calibrate it (7 and "
        "10.5 % of all rows), hence fits its networks on fewer rows than the peers. Each method's point estimate is "
        "the one with the smallest sigma_NMAD on validation rows. All densities are scored by the same code, the "
        "peers' on a grid. Smaller is better in every column but the last, where the level is right; there deepfield's "
        'are its conformal intervals. deepfield runs with `structure="auto"` on all sets, since training and test '
        "galaxies are of one field; it finds structure in zCOSMOS alone.",
        "",
        f"Machine: {machine.get('processor', 'unknown')}, {machine.get('cores', '?')} cores, no GPU. Training of "
        "deepfield, five nets and the student, in CPU seconds: "
        + ", ".join(f"{name} {seconds:.0f}" for name, seconds in train.items())
        + ".",
        "",
        "## Accuracy",
        "",
    ]
    for name, runs in results.items():
        lines += accuracy(name, runs)
    lines += distillation(results) + coverage(results) + alternatives() + speed() + settings(results)
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines))
    print(PAGE)


if __name__ == "__main__":
    main()
