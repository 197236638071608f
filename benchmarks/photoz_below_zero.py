"""How much probability mixture densities put below redshift zero: the default model on zCOSMOS.

    python benchmarks/photoz_below_zero.py

Trains on the training and validation rows of the benchmark's split (seed 0) and measures the test rows. Writes
benchmarks/results/photoz_below_zero.json: the largest share of a density below zero, the shares of served rows
with more than 1 and 5 % there, and how far the modes of the latter go.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from photoz import table_of
from photoz_data import load, split

from deepfield import photoz
from deepfield.core.report import machine

OUT = Path(__file__).parent / "results" / "photoz_below_zero.json"


def main() -> None:
    """Train, measure, write."""
    catalog = load("zcosmos")
    train, val, test = split(len(catalog["z"]), seed=0)
    model = photoz.train(table_of(catalog, np.concatenate([train, val])), seed=0)
    densities = photoz.predict(model, table_of(catalog, test))
    served = np.isfinite(densities.mean)
    below, mode = densities.cdf(0.0)[served], densities.mode[served]
    many = below > 0.05
    found = {
        "rows": int(served.sum()),
        "largest": float(below.max()),
        "share_above_1_percent": float((below > 0.01).mean()),
        "share_above_5_percent": float(many.mean()),
        "largest_mode_above_5_percent": float(mode[many].max()),
        "machine": machine(),
    }
    OUT.write_text(json.dumps(found, indent=1) + "\n")
    print(OUT.read_text())


if __name__ == "__main__":
    main()
