"""How close to their level intervals can come: split conformal, cross-conformal, uncalibrated.

    python benchmarks/photoz_coverage.py

Only the training and validation rows of the benchmark's split (seed 0) are used: the test rows stay unseen.
Five times they are divided anew, 30 % to measure on, the rest to train and calibrate one net (the quick setting)
in each way:

- split-conformal with 15, 30 and 45 % of the rows for the calibration;
- cross-conformal (Vovk 2015): five nets, each trained without one fifth, give every row a PIT value by a net that
  has not seen it; they calibrate the net trained on all rows. No finite-sample guarantee;
- the density's own intervals.

The deviation of the measured coverage from its level is given in units of the binomial error of the measured
rows, root mean square over divisions, levels (68.3 and 95.5 %), all rows and thirds in magnitude. Expected for
split conformal: sqrt(1 + measured rows / calibration rows). Writes benchmarks/results/photoz_coverage.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from photoz import table_of
from photoz_data import DATA, load, split

from deepfield import photoz
from deepfield.core.calibrators import Conformal
from deepfield.core.report import machine
from deepfield.core.table import Table
from deepfield.photoz.model import PhotozModel
from deepfield.trust.calibration import fit_conformal
from deepfield.trust.metrics import crps

ROOT = Path(__file__).parent
LEVELS = (0.683, 0.955)


def train(table: Table, seed: int, calibration: float = 0.0) -> PhotozModel:
    """One net."""
    options = {"members": 1, "distil": False, "structure": "auto", "progress": False}
    return photoz.train(table, calibration=calibration, seed=seed, **options)


def crossed(table: Table, seed: int) -> Conformal:
    """Conformal scores of every row, each from a net that was trained on the other folds."""
    fold = np.random.default_rng(seed).permutation(len(table)) % 5
    pit, magnitude = np.empty(len(table)), np.empty(len(table))
    for k in range(5):
        model, held = train(table[fold != k], seed + k), table[fold == k]
        x = model.encode(held)
        pit[fold == k] = model.predict_raw(x)[0].cdf(held.column("z_spec"))
        magnitude[fold == k] = model.reference_magnitude(x)
    return fit_conformal(pit, magnitude, groups=3, name="magnitude", limit=len(pit))


def measure(model: PhotozModel, table: Table, conformal: Conformal | None) -> dict[str, Any]:
    """Deviations in binomial errors, of all rows and of thirds in magnitude at each level, and the CRPS."""
    x, z = model.encode(table), table.column("z_spec")
    density, _ = model.predict_raw(x)
    magnitude = model.reference_magnitude(x)
    density.conformal = conformal
    density.group = None if conformal is None else conformal.group(magnitude)
    order = np.argsort(np.where(np.isnan(magnitude), np.inf, magnitude), kind="stable")
    pulls = []
    for level in LEVELS:
        low, high = density.interval(level)
        inside = np.where(np.isfinite(low), (z >= low) & (z <= high), np.nan)  # rows that are not served
        for rows in (order, *np.array_split(order, 3)):
            error = np.sqrt(level * (1 - level) / len(rows))
            pulls.append(float((np.nanmean(inside[rows]) - level) / error))
    return {"pulls": pulls, "crps": float(np.nanmean(crps(density, z)))}


def one(table: Table, seed: int) -> dict[str, Any]:
    """All ways on one division."""
    rest, held = table.split(0.7, seed=seed)
    found = {}
    for share in (0.15, 0.30, 0.45):
        model = train(rest, seed, share)
        found[f"split {share:.0%}"] = measure(model, held, model.conformal)
    model = train(rest, seed)
    found["cross"] = measure(model, held, crossed(rest, seed))
    found["none"] = measure(model, held, None)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--divisions", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"machine": machine(), "divisions": options.divisions, "data": {}}
    for name in options.data:
        catalog = load(name)
        rows = np.concatenate(split(len(catalog["z"]), 0)[:2])
        table = table_of(catalog, rows[~np.isnan(catalog["mag"][rows]).all(1)])
        runs = [one(table, seed) for seed in range(options.divisions)]
        results["data"][name] = {
            way: {
                "rms": float(np.sqrt(np.mean(np.square([run[way]["pulls"] for run in runs])))),
                "mean": float(np.mean([run[way]["pulls"] for run in runs])),
                "crps": float(np.mean([run[way]["crps"] for run in runs])),
            }
            for way in runs[0]
        }
        line = {way: f"{v['rms']:.2f} (mean {v['mean']:+.2f}, crps {v['crps']:.5f})"
                for way, v in results["data"][name].items()}  # fmt: skip
        print(name, line, flush=True)
        (ROOT / "results" / "photoz_coverage.json").write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
