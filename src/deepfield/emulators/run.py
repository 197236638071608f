"""The main job: N-body spectra in, an emulator with its error out; and the linear spectrum that comes with it."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DataError, DeepfieldError
from deepfield.core.report import Report
from deepfield.core.table import Table
from deepfield.data import registry
from deepfield.emulators import figures
from deepfield.emulators.model import EmulatorConfig
from deepfield.emulators.nbody import FEATURES, ratios, reference
from deepfield.emulators.nbody_linear import INPUTS, SIMULATED
from deepfield.emulators.parameters import BOX
from deepfield.emulators.power import MatterPower
from deepfield.emulators.score import learning_curve, leave_out, score
from deepfield.emulators.simulate import design
from deepfield.physics.power import variance

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")
DEFAULT = "miratitan4"


def run(
    data: str | None = None,
    *,
    out: str | os.PathLike[str] = "report",
    config: EmulatorConfig | None = None,
    folds: int = 3,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Train on spectra of N-body simulations, predict those left out, and report.

    Parameters
    ----------
    data : str, optional
        A registered set of spectra; without the default one HMcode2020 takes the place of the simulations, and the
        report says so.
    out : path
        Folder for ``index.html`` and ``report.json``.
    config : EmulatorConfig, optional
        By default twelve components.
    folds : int
        In how many parts simulations are left out.
    seed : int

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    if Path(out).is_file():
        raise DeepfieldError(f"--out {out} is a file; give a folder")
    began = time.perf_counter()
    table, source = _data(data, seed)
    k, z = np.asarray(table.meta["k"]), np.asarray(table.meta["z"])
    config = config or EmulatorConfig(components=12, seed=seed)
    log.info("%s: %d cosmologies, %d redshifts; left out in %d parts", source, len(table), len(z), folds)
    simulated = ratios(table)
    found, truth = leave_out(simulated, config, inputs=list(FEATURES), outputs=["ratio"], folds=folds, seed=seed)
    numbers = score(found, truth)
    error = (found.mean / truth - 1).reshape(len(table), len(z), len(k))
    report = Report(
        "Emulators",
        f"{source}: {len(table)} cosmologies, each predicted from the others",
        began=began,
    )
    report.facts(
        {
            "data": source,
            "citation": registry.dataset(source).citation if source == DEFAULT else "made by deepfield",
            "left out": f"in {folds} parts, kernels learnt anew in each",
            "emulated": "the ratio to HMcode2020 on the emulated linear spectrum",
            "seed": seed,
        }
    )
    rows = [_row("all scales", error)] + [
        _row(f"{low:g} to {high:g} /Mpc", error[..., (k >= low) & (k < high)])
        for low, high in ((0.001, 0.01), (0.01, 0.1), (0.1, 1), (1, 5.01))
    ]
    report.table("left_out", rows, "Relative errors of P(k, z) for cosmologies left out, in per cent.")
    report.table(
        "coverage",
        [{"coverage_683": numbers.coverage_683, "coverage_955": numbers.coverage_955, "n": numbers.n}],
        "How often the stated errors of one and two standard deviations cover.",
        best={"coverage_683": 0.683, "coverage_955": 0.955},
    )
    _errors(report, table, k, z, error)
    sizes = np.unique(np.geomspace(max(10, len(table) // 6), len(table) - len(table) // 3, 4).astype(int))
    curve = learning_curve(
        simulated, config, inputs=list(FEATURES), outputs=["ratio"], sizes=sizes.tolist(), seed=seed
    )
    report.figure("learning", figures.learning(curve), "Errors by the number of simulations. " + halving(curve))
    _linear(report)
    return report.write(out)


def _errors(report: Report, table: Table, k: Array, z: Array, error: Array) -> None:
    """Errors (N, Z, K) over scale, redshift and the space of cosmologies."""
    report.figure(
        "errors",
        figures.bands(k, z, error),
        "Errors over scale and redshift. Left: median, 95 % and largest of all redshifts.",
    )
    worst = np.argsort(-np.abs(error).mean((1, 2)))[:5]
    report.table(
        "worst",
        [
            {**{n: float(table[n][i]) for n in INPUTS}, "mean error [%]": float(100 * np.abs(error[i]).mean())}
            for i in worst
        ],
        "The five cosmologies with the largest errors.",
    )
    report.figure(
        "corner",
        figures.corner(np.stack([table.column(n) for n in INPUTS], -1), INPUTS, np.abs(error).mean((1, 2)), worst),
        "Cosmologies by the size of their errors. The five largest are marked.",
    )


def _data(name: str | None, seed: int) -> tuple[Table, str]:
    try:
        return registry.load(name or DEFAULT), name or DEFAULT
    except DataError as error:
        if name is not None:
            raise
        log.warning("%s; going on with HMcode2020 in place of simulations", error)
    table = design({**SIMULATED, "w_root": (0.3, 1.2)}, 48, seed=seed)
    k, z = np.geomspace(1e-3, 5, 60), np.array([1.0, 0.0])
    theta = np.stack([table.column(n) for n in INPUTS], -1)
    # A baryonic kind of suppression, so that there is something to learn.
    soft = 1 - 0.3 * theta[:, 2, None, None] ** 3 * k / (k + 2) * theta[:, 4, None, None]
    table["pk"] = reference(theta, k, z) * soft
    table.meta.update(k=k, z=z)
    return table, "HMcode2020 with a suppression"


def _row(name: str, error: Array) -> dict[str, Any]:
    size = 100 * np.abs(error)
    median, p95, p99 = np.quantile(size, [0.5, 0.95, 0.99]).tolist()
    return {"scales": name, "median": median, "95 %": p95, "99 %": p99, "largest": float(size.max())}


def halving(curve: Sequence[Mapping[str, float]]) -> str:
    """In words, how many more simulations half the median error would take, by the slope of a learning curve.

    Examples
    --------
    >>> halving([{"simulations": 20, "median": 0.02}, {"simulations": 40, "median": 0.01}])
    'By its slope half the error takes 2.0 times as many.'
    """
    n, size = (np.log([row[name] for row in curve]) for name in ("simulations", "median"))
    slope = -float(np.polyfit(n, size, 1)[0])
    if slope < 0.25:
        return "It is almost flat: more simulations would not help much."
    return f"By its slope half the error takes {2 ** (1 / slope):.1f} times as many."


def _linear(report: Report) -> None:
    """The linear spectrum that comes with the package: its stated error, its consistency and its speed here."""
    power = MatterPower(precision="single")
    theta = np.stack([np.asarray(c) for c in design(BOX, 4096, seed=1).columns.values()], -1)
    k = np.geomspace(1e-4, 10, 200)
    grid = power.on(k)
    grid(theta[:256])
    clock = time.process_time()
    grid(theta)
    seconds = (time.process_time() - clock) / len(theta)
    fine = np.geomspace(2e-4, 20, 2000)
    sigma_8 = np.sqrt(variance(fine, power(theta[:50], fine), 8.0))
    rows = [
        {"what": "design points of the Boltzmann code", "value": power.card.get("design")},
        {"what": "truth", "value": power.card.get("truth")},
        *({"what": f"stated error at k = {one:g} h/Mpc [%]", "value": float(100 * power.error([one])[0])}
          for one in (0.001, 0.01, 0.1, 1.0, 10.0)),
        {"what": "sigma_8 of the spectra against that asked for, largest difference [%]",
         "value": float(100 * np.abs(sigma_8 / theta[:50, 4] - 1).max())},
        {"what": "processor time of a spectrum of 200 k, of 4096 [microseconds]", "value": 1e6 * seconds},
    ]  # fmt: skip
    report.table("linear", rows, "The linear spectrum that comes with the package.")
    peers = json.loads(resources.files(__package__).joinpath("peers.json").read_text())
    own = [{**row, "name": "deepfield, here", "microseconds": 1e6 * seconds} for row in peers[:1]]
    report.figure(
        "speed",
        figures.speed(own + peers),
        "Speed against accuracy of the linear spectrum. As the benchmark measured them on one machine, and the "
        "speed here; a spectrum of cosmopower-jax has 420 wavenumbers, the others some 200.",
    )
