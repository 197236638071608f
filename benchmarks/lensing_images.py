"""Are all images found? Ten thousand random sources, counted in another way; and lenstronomy's solver beside ours.

    python benchmarks/lensing_images.py --write
    venv-lens/bin/python benchmarks/lensing_images.py --peer --write    (lensing_reference.py says how to make it)

Every source has an isothermal lens of its own (q from 0.2 to 1 - 3e-6; shear and convergence up to 0.2, along the
lens's axis in a quarter, none in a third) and lies anywhere: on axes of symmetry, in the very centre, in the tiny
astroids of nearly round lenses. The truth is the number of zeros of a function on a circle
(tests/lensing/truth.py). With --peer some hundred of them, of q below 0.99, go through lenstronomy's
image_position_from_source too (steps of 0.05 in a window that holds all images).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from pathlib import Path

import numpy as np
import torch

from deepfield.core.files import atomic
from deepfield.lensing import Lens, images, sheet, sie

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "lensing_images.json"
_spec = importlib.util.spec_from_file_location("truth", ROOT / "tests" / "lensing" / "truth.py")
truth = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(truth)


def counts(values: np.ndarray) -> dict[str, int]:
    return {str(k): int((values == k).sum()) for k in np.unique(values)}


def ours(n: int, seed: int) -> dict[str, object]:
    q, phi, kappa, gamma1, gamma2, *source = truth.random_isothermal(n, seed)
    want = np.concatenate([
        truth.isothermal_counts(*(v[part] for v in (q, phi, kappa, gamma1, gamma2, *source)))
        for part in np.array_split(np.arange(n), max(1, n // 1000))
    ])  # fmt: skip
    lens = Lens(sie(np.ones(n), q, phi), sheet(kappa=kappa, gamma1=gamma1, gamma2=gamma2))
    began = time.process_time()
    found = images(lens, *source)
    spent = time.process_time() - began
    back = lens.source(found.x, found.y)
    off = max(float((b - torch.tensor(s)[:, None]).abs().nan_to_num(0).max()) for b, s in zip(back, source))
    return {
        "sources": n,
        "seed": seed,
        "with so many images": counts(want),
        "counted wrongly": int((found.count.numpy() != want).sum()),
        "largest residual [theta_E]": off,
        "milliseconds each": round(1e3 * spent / n, 2),
    }


def peer(n: int, seed: int) -> dict[str, object]:
    from importlib import metadata

    from lenstronomy.LensModel.lens_model import LensModel
    from lenstronomy.LensModel.Solver.lens_equation_solver import LensEquationSolver
    from lenstronomy.Util.param_util import phi_q2_ellipticity

    columns = truth.random_isothermal(20 * n, seed)
    columns = [v[columns[0] < 0.99][:n] for v in columns]
    q, phi, kappa, gamma1, gamma2, *source = columns
    want = truth.isothermal_counts(*columns)
    solver = LensEquationSolver(LensModel(["EPL", "SHEAR", "CONVERGENCE"]))
    found, began = [], time.process_time()
    for k in range(n):
        e1, e2 = phi_q2_ellipticity(phi[k], q[k])
        args = [{"theta_E": 1.0, "gamma": 2.0, "e1": e1, "e2": e2, "center_x": 0, "center_y": 0},
                {"gamma1": gamma1[k], "gamma2": gamma2[k]}, {"kappa": kappa[k]}]  # fmt: skip
        x, _ = solver.image_position_from_source(
            source[0][k], source[1][k], args, min_distance=0.05, search_window=10, num_iter_max=200
        )
        found.append(len(x))
    spent = time.process_time() - began
    lens = Lens(sie(np.ones(n), q, phi), sheet(kappa=kappa, gamma1=gamma1, gamma2=gamma2))
    began = time.process_time()
    own = images(lens, *source).count.numpy()
    return {
        "lenstronomy": metadata.version("lenstronomy"),
        "sources": n,
        "lenstronomy counted wrongly": int((np.array(found) != want).sum()),
        "lenstronomy milliseconds each": round(1e3 * spent / n, 2),
        "ours counted wrongly": int((own != want).sum()),
        "ours milliseconds each": round(1e3 * (time.process_time() - began) / n, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", action="store_true", help="lenstronomy and ours on the first 400")
    parser.add_argument("--write", action="store_true", help=f"keep the result in {RESULT.name}")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    result = {"peer": peer(400, arguments.seed)} if arguments.peer else {"ours": ours(arguments.n, arguments.seed)}
    print(json.dumps(result, indent=1))
    if arguments.write:
        before = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        with atomic(RESULT) as temporary:
            temporary.write_text(json.dumps(before | result, indent=1) + "\n")


if __name__ == "__main__":
    main()
