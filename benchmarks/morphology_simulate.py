"""How many galaxies a core simulates in a second: python benchmarks/morphology_simulate.py [--write].

Processor seconds count, on one thread, of the whole of ``simulate``: parameters, votes, images and their noise.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from deepfield.core.files import atomic
from deepfield.morphology.simulate import simulate

RESULT = Path(__file__).parent / "results" / "morphology_simulate.json"


def rate(size: int, survey: str, n: int) -> dict[str, float | int | str]:
    simulate(64, seed=1, size=size, survey=survey)  # tables and plans are made once
    best = float("inf")
    for _ in range(3):
        began = time.process_time()
        simulate(n, seed=0, size=size, survey=survey)
        best = min(best, time.process_time() - began)
    return {"survey": survey, "bands": 3, "size": size, "n": n, "images_per_core_second": round(n / best)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    rows = [
        rate(size, survey, n) for survey, size, n in (("sdss", 64, 2000), ("lsst", 64, 2000), ("sdss", 128, 500))
    ]
    text = json.dumps({"torch": torch.__version__, "rates": rows}, indent=1)
    print(text)
    if write:
        with atomic(RESULT) as temporary:
            temporary.write_text(text + "\n")


if __name__ == "__main__":
    main()
