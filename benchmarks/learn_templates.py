"""Learn the continuum corrections of the galaxy templates, as src/deepfield/physics/templates.json holds them.

    DEEPFIELD_DATA=... python benchmarks/learn_templates.py OUT.json

Uses only rows that are in neither the test nor the validation split of seeds 0, 1, 2.
"""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from deepfield.physics import photometry as ph
from deepfield.physics.filters import survey_filters
from deepfield.physics.learning import Sample, learn_corrections
from deepfield.physics.templates import analytic_templates

KNOTS = [1500, 2000, 2400, 2700, 3000, 3300, 3550, 3750, 3900, 4050, 4250, 4500, 4800, 5200, 5700, 6300, 7000,
         8000, 9500, 12000, 16000, 20000, 24000]  # fmt: skip


def never_tested(n: int) -> np.ndarray:
    keep = np.ones(n, bool)
    for seed in range(3):
        keep[np.random.default_rng(seed).permutation(n)[: round(0.3 * n) + round(0.1 * n)]] = False
    return keep


def sample(path: Path, bands: str, survey: str) -> Sample:
    table = pq.read_table(path).to_pandas()
    if "secure" in table:
        table = table[table.secure & (table.z_spec > 0.01)]
    mags, errors = (table[[f"{kind}_{b}" for b in bands]].to_numpy(float) for kind in ("mag", "mag_err"))
    z = table.z_spec.to_numpy(float)
    kept = never_tested(len(table)) & (z > 0.01) & (z < 1.3)
    return Sample(
        survey_filters(survey, tuple(bands)), z[kept], ph.flux(mags)[kept], ph.flux_error(mags, errors)[kept]
    )


def main(out: Path) -> None:
    folder = Path(os.environ["DEEPFIELD_DATA"]) / "photoz"
    cosmos = sample(folder / "zcosmos_bright.parquet", "ubvgrizjk", "zcosmos")
    main_sample = sample(folder / "sdss_mgs.parquet", "ugriz", "sdss")
    boss = sample(folder / "sdss_boss_dr10.parquet", "griz", "sdss")  # its u is noise
    samples = [cosmos, main_sample, boss, main_sample, main_sample]
    corrections, _ = learn_corrections(
        analytic_templates(), samples, KNOTS, iterations=15, smoothness=0.1, offsets=[True] + [False] * 4
    )
    stored = {"knots": KNOTS, "corrections": corrections.round(4).tolist()}
    out.write_text(json.dumps(stored))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
