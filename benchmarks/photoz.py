"""Photometric redshifts: deepfield and its peers on the same rows, with the same scores.

    python benchmarks/photoz.py --peers DIR                    # all data sets and seeds
    python benchmarks/photoz.py --peers DIR --data boss --seeds 0

``photoz_peers.py`` (in the peers' own environment) has put each peer's densities for the test and validation rows
into DIR/<data>/<seed>/<peer>.npz; what is missing there is named in the result as missing. For every data set and
seed this script trains deepfield on the training and validation rows (from which it takes its own early-stopping
and calibration rows; the peers train on the training rows and are tuned on the validation rows), scores everything
on the test rows, and writes benchmarks/results/photoz.json and docs/benchmarks/photoz.md.

The point estimate (mode, median or mean) of each method is the one with the smallest sigma_NMAD on validation
rows.
deepfield's validation rows are those that it holds out itself. Test rows without photometry in any band (1 % of
zCOSMOS) are left out for all: deepfield gives them NaN and the reason, no density.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photoz_data import DATA, load, split

from deepfield import photoz
from deepfield.core.model import members
from deepfield.core.prediction import Prediction
from deepfield.core.report import machine
from deepfield.core.table import Table
from deepfield.photoz.model import PhotozModel, parts
from deepfield.photoz.score import POINTS, Score, scaled_error, score, sigma_nmad
from deepfield.trust.metrics import coverage_law

ROOT = Path(__file__).parent
PEERS = ("flexzboost", "gpz", "forest", "lightgbm", "knn")
METRICS = ("cde_loss", "crps", "sigma_nmad", "outlier_fraction", "pit_ks", "coverage_683", "coverage_955")


def table_of(catalog: dict[str, Any], rows: np.ndarray) -> Table:
    """The standard table of some rows; a limit in the error of a non-detection is not used, as by the peers."""
    columns = {"z_spec": catalog["z"][rows]}
    for b, band in enumerate(catalog["bands"]):
        columns[f"mag_{band}"], columns[f"mag_err_{band}"] = catalog["mag"][rows, b], catalog["err"][rows, b]
    return photoz.read(Table(columns), bands=catalog["bands"])


def best_point(density: Prediction, z: np.ndarray) -> str:
    """The point estimate with the smallest scatter."""
    return min(POINTS, key=lambda p: float(sigma_nmad(scaled_error(getattr(density, p), z))))


def summary(found: Score) -> dict[str, Any]:
    """Values and bootstrap errors."""
    values = {k: {"value": m.value, "error": m.error} for k, m in found.metrics.items()}
    return {"point": found.point, "n": found.n, "missing": found.n_missing, **values}


def coverage(model: PhotozModel, density: Prediction, table: Table) -> list[dict[str, Any]]:
    """Coverage of conformal intervals, over all rows and in thirds of the reference magnitude."""
    z = table.column("z_spec")
    magnitude = model.reference_magnitude(model.encode(table))
    order = np.argsort(np.where(np.isnan(magnitude), np.inf, magnitude), kind="stable")
    parts = {"all": order, **dict(zip(("bright", "middle", "faint"), np.array_split(order, 3)))}
    assert model.conformal is not None
    counts = model.conformal.counts
    found = []
    for level in (0.683, 0.955):
        low, high = density.interval(level)
        inside = (z >= low) & (z <= high)
        for name, rows in parts.items():
            n_cal = sum(counts) if name == "all" else round(sum(counts) / 3)
            law = coverage_law(level, len(rows), n_cal)
            value = float(inside[rows].mean())
            found.append(
                {
                    "level": level,
                    "rows": name,
                    "n": len(rows),
                    "n_calibration": n_cal,
                    "coverage": value,
                    "binomial_error": float(np.sqrt(level * (1 - level) / len(rows))),
                    "law_error": float(law.std() / len(rows)),
                    "pull": float((value - law.mean() / len(rows)) / (law.std() / len(rows))),
                }
            )
    return found


def run_deepfield(catalog: dict[str, Any], train: np.ndarray, val: np.ndarray, test: np.ndarray, seed: int) -> Any:
    """Train on training and validation rows; score student, ensemble and single nets on the test rows."""
    table, held = table_of(catalog, np.concatenate([train, val])), table_of(catalog, test)
    clock, cpu = time.perf_counter(), time.process_time()
    # One setting for all data sets: training and test galaxies are of the same field, which "auto" may use.
    result = photoz.fit(table, seed=seed, structure="auto", progress=False)
    seconds = {"wall": time.perf_counter() - clock, "cpu": time.process_time() - cpu}
    x, z = result.model.encode(held), held.column("z_spec")
    xv, zv = result.held_out
    density, _ = result.model.predict_raw(x)
    found = {"deepfield": score(density, z, point=best_point(result.model.predict_raw(xv)[0], zv), bins={})}
    teacher = result.teacher
    if teacher is not None:
        point = best_point(teacher.predict(xv), zv)
        found["ensemble"] = score(teacher.predict(x), z, point=point, bins={})
        features, core = parts(teacher)
        seen = features(x)
        singles = [summary(score(m.predict(seen), z, point=point, bins={}, repeats=20)) for m in members(core)]
    scores = {name: summary(s) for name, s in found.items()}
    if teacher is not None:
        mean = {k: {"value": float(np.mean([s[k]["value"] for s in singles])), "error": singles[0][k]["error"]}
                for k in METRICS}  # fmt: skip
        scores["single"] = {"point": point, "n": singles[0]["n"], "missing": 0, **mean}
        gain = mean["cde_loss"]["value"] - scores["ensemble"]["cde_loss"]["value"]
        kept = (mean["cde_loss"]["value"] - scores["deepfield"]["cde_loss"]["value"]) / gain
        scores["distillation"] = {"gain": gain, "kept": kept}
    return scores, coverage(result.model, density, held), seconds


def run_peer(path: Path, test: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """Score a peer's densities by the same code; ``seen`` marks the test rows with any photometry."""
    note = path.with_suffix(".json")
    if not path.is_file():
        why = json.loads(note.read_text()).get("status", "not run") if note.is_file() else "not run"
        return {"status": why}
    content = np.load(path)
    if not np.array_equal(content["rows_test"], test):
        raise SystemExit(f"{path} was made with another split; run photoz_peers.py again")
    validation = Prediction.tabulated(content["grid"], content["pdf_val"])
    density = Prediction.tabulated(content["grid"], content["pdf_test"][seen])
    found = summary(
        score(density, content["z_test"][seen], point=best_point(validation, content["z_val"]), bins={})
    )
    info = json.loads(note.read_text())
    return {
        **found,
        **{
            k: info[k]
            for k in ("settings", "candidates", "tuned", "budget_s", "tune_s", "fit_s", "rate_pdf", "rate_native")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", type=Path, default=ROOT / "work", help="what photoz_peers.py wrote")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "photoz.json")
    parser.add_argument(
        "--rescore-peers", action="store_true", help="keep deepfield's scores, read the peers anew"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = json.loads(options.out.read_text()) if options.out.is_file() else {"runs": {}}
    results["machine"] = machine()
    for name in options.data:
        catalog = load(name)
        for seed in options.seeds:
            train, val, test = split(len(catalog["z"]), seed)
            seen = ~np.isnan(catalog["mag"][test]).all(1)
            key = f"{name}/{seed}"
            if options.rescore_peers and key in results["runs"]:
                run = results["runs"][key]
            else:
                ours, cover, seconds = run_deepfield(catalog, train, val, test[seen], seed)
                rows = {"train": len(train), "validation": len(val), "test": int(seen.sum())}
                run = {"rows": rows, "seconds": seconds, "scores": ours, "coverage": cover}
            for peer in PEERS:
                found = run_peer(options.peers / name / str(seed) / f"{peer}.npz", test, seen)
                before = results["runs"].get(key, {}).get("scores", {}).get(peer, found)
                run["scores"][peer] = found if "cde_loss" in found else before  # the rows of a seed are the same
            results["runs"][key] = run
            options.out.parent.mkdir(exist_ok=True)
            options.out.write_text(json.dumps(results, indent=1))
            found = run["scores"]
            line = {k: round(v["cde_loss"]["value"], 3) for k, v in found.items() if "cde_loss" in v}
            print(key, f"{run['seconds']['wall']:.0f} s", line, found.get("distillation"), flush=True)


if __name__ == "__main__":
    main()
