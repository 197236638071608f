"""How many images a core simulates in a second: python benchmarks/lensing_simulate.py [--write].

Processor seconds count, on one thread, of the whole of ``simulate``: the population, images and their noise, half
of them lenses.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.lensing.simulate import draw, paint
from deepfield.lensing.surveys import surveys

RESULT = Path(__file__).parent / "results" / "lensing_simulate.json"


def rate(survey: str, n: int) -> dict[str, float | int | str]:
    chosen = surveys()[survey]
    list(paint(draw(64, survey=survey, seed=1), survey))  # tables and plans are made once
    drawn = painted = float("inf")
    for _ in range(3):
        began = time.process_time()
        table = draw(n, survey=survey, seed=0)
        drawn, began = min(drawn, time.process_time() - began), time.process_time()
        for _ in paint(table, survey):
            pass
        painted = min(painted, time.process_time() - began)
    return {
        "survey": survey, "bands": len(chosen.bands), "size": chosen.size, "n": n,
        "images_per_core_second": round(n / (drawn + painted)), "of_them_drawn": round(n / drawn),
        "and_painted": round(n / painted),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    write = parser.parse_args().write
    torch.set_num_threads(1)
    rows = [rate(survey, n) for survey, n in (("lsst", 2000), ("euclid", 1000))]
    text = json.dumps({"rates": rows, "machine": machine()}, indent=1)
    print(text)
    if write:
        with atomic(RESULT) as temporary:
            temporary.write_text(text + "\n")


if __name__ == "__main__":
    main()
