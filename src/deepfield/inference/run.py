"""The main job: real distances in, the posterior of omega_m and w out, beside the exact one."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core import figures
from deepfield.core.errors import DataError, DeepfieldError
from deepfield.core.report import Report
from deepfield.core.triangles import triangle
from deepfield.inference.cosmology import IN_PACKAGE, REGISTERED, Expansion
from deepfield.inference.diagnose import Diagnostics, diagnose, predictive_check
from deepfield.inference.likelihood import RatioTest, ratio_test
from deepfield.inference.model import METHODS, InferenceConfig
from deepfield.inference.posterior import Posterior
from deepfield.inference.rounds import cut_to
from deepfield.inference.simulate import simulate
from deepfield.inference.train import FEWEST, train
from deepfield.trust.two_samples import c2st

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")

DEFAULT = ("desi_dr2", "union3")
LABELS = {"omega_m": r"$\Omega_m$", "w": "$w$", "h_r_d": r"$h\,r_d$ [Mpc]", "h": "$h$"}


def quick(seed: int = 0) -> InferenceConfig:
    """Nets that train in some ten seconds each."""
    return InferenceConfig(members=1, width=64, hidden=48, dropout=0.0, epochs=40, seed=seed)


def run(
    data: str | None = None,
    *,
    out: str | os.PathLike[str] = "report",
    methods: Sequence[str] = ("npe",),
    config: InferenceConfig | None = None,
    n: int = 20_000,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Simulate, learn, test, and compare with the exact posterior of flat wCDM.

    Parameters
    ----------
    data : str, optional
        One of desi_dr2, chronometers, union3 and pantheon_binned; by default DESI DR2 and Union3 together, or DESI
        alone where Union3 cannot be had.
    out : path
        Folder for ``index.html``, ``report.json`` and the model of the first method.
    methods : sequence of str
        Some of npe, nle and nre; the last two also test w = -1, and take longer.
    config : InferenceConfig, optional
        By default one small net for each method.
    n : int
        Simulations of the second round; the first, which finds the place, has a quarter of them.
    seed : int

    Returns
    -------
    dict
        The content of ``report.json``.
    """
    if not methods or not set(methods) <= set(METHODS):
        raise DeepfieldError(f"methods are some of {', '.join(METHODS)}, not {', '.join(methods) or 'none'}")
    if Path(out).is_file():
        raise DeepfieldError(f"--out {out} is a file; give a folder")
    began = time.perf_counter()
    config = config or quick(seed)
    whole = _world(data)
    exact, _ = whole.exact(10_000, seed=seed)
    world, posteriors, seconds = learn(whole, methods, config, n, seed=seed, progress=progress)
    draws = {m: p.sample(world.observed, 10_000, seed=seed) for m, p in posteriors.items()}
    first = posteriors[methods[0]]
    tests = {  # chains take a thousand times as long as draws of NPE
        m: diagnose(p, simulate(p.prior, world.simulate, 1000 if m == "npe" else 100, seed=seed + 2))
        for m, p in posteriors.items()
    }
    first.save(Path(out) / "model")
    names = " and ".join(m.name for m in world.measurements)
    report = Report(
        "Simulation-based inference", f"flat wCDM from {names}: learnt posteriors and the exact one", began=began
    )
    report.facts(
        {
            "data": "; ".join(f"{m.name}: {len(m.value)} numbers ({m.citation})" for m in world.measurements),
            "compressed to": f"{len(world.observed)} numbers of unit noise",
            "simulations": f"{n // 4:,} over the prior, {n:,} around the posterior of those; new noise each epoch",
            "prior": ", ".join(
                f"{k} {a:g} to {b:g}" for k, (a, b) in zip(whole.prior.names, whole.prior.support())
            ),
            "training": ", ".join(f"{m} {s:.0f} s" for m, s in seconds.items()),
            "seed": seed,
        }
    )
    check = {
        "among all simulations": float(first.p_value(world.observed)[0]),
        "among those of the posterior": predictive_check(first, world.simulate, world.observed, seed=seed),
    }
    _tables(report, world, exact, draws, tests, check)
    for likelihood in [p for m, p in posteriors.items() if m != "npe"][:1]:
        fixed = {"w": -1.0}
        _hypothesis(
            report,
            world,
            ratio_test(likelihood, world.observed, fixed, simulator=world.simulate, n=100, seed=seed),
        )
    _figures(report, world, exact, draws, tests, first)
    return report.write(out)


def _world(data: str | None) -> Expansion:
    if data is not None:
        if data not in (*IN_PACKAGE, *REGISTERED):
            raise DeepfieldError(f"no distances '{data}'; there are: {', '.join((*IN_PACKAGE, *REGISTERED))}")
        return Expansion("wcdm", [data])
    try:
        return Expansion("wcdm", DEFAULT)
    except DataError as error:
        log.warning("%s; going on with DESI alone", error)
        return Expansion("wcdm", DEFAULT[:1])


def learn(
    world: Expansion,
    methods: Sequence[str],
    config: InferenceConfig,
    n: int = 20_000,
    *,
    seed: int = 0,
    progress: bool = False,
) -> tuple[Expansion, dict[str, Posterior], dict[str, float]]:
    """The world within the prior cut to the data, posteriors by method, and their CPU seconds.

    A round over the whole prior finds the place, each method learns there. The simulator gives expectations;
    their noise is known and drawn anew in every epoch.
    """
    settings = {k: v for k, v in asdict(config).items() if k != "method"}
    table = simulate(world.prior, world.expected, max(FEWEST, n // 4), seed=seed + 10)
    first = train(table, world.prior, noise=world.noise, progress="first round" if progress else False, **settings)
    near = world.within(cut_to(first, world.observed, seed=seed))
    table = simulate(near.prior, near.expected, n, seed=seed + 1)
    found, seconds = {}, {}
    for method in methods:
        clock = time.process_time()
        # One ratio alone missed a mean by a tenth of its standard deviation.
        count = max(2, config.members) if method == "nre" else config.members
        found[method] = train(
            table, near.prior, method=method, noise=near.noise, progress=method if progress else False,
            **{**settings, "members": count},
        )  # fmt: skip
        seconds[method] = time.process_time() - clock
        log.info("%s: trained in %.0f s", method, seconds[method])
    return near, found, seconds


def _tables(
    report: Report,
    world: Expansion,
    exact: Array,
    draws: dict[str, Array],
    tests: dict[str, Diagnostics],
    check: dict[str, float],
) -> None:
    rows = []
    for name, theta in {"exact": exact, **draws}.items():
        row: dict[str, Any] = {"posterior": name}
        for i, parameter in enumerate(world.prior.names):
            row[parameter] = f"{theta[:, i].mean():.4g} ± {theta[:, i].std():.2g}"
        if name != "exact":
            row["shift [sigma]"] = float(np.abs((theta.mean(0) - exact.mean(0)) / exact.std(0)).max())
            row["width ratio"] = float((theta.std(0) / exact.std(0))[-1])
            row["C2ST"] = c2st(exact[:3000], theta[:3000], epochs=20)
            each = tests[name].calibration.p_value
            row["SBC p"] = min(1.0, len(each) * float(each.min()))
            row["TARP p"] = tests[name].calibration.tarp_p_value
        rows.append(row)
    report.table(
        "posteriors",
        rows,
        "Means and standard deviations. Shift: the largest difference of a mean from the exact one; width ratio: "
        "of the last parameter; C2ST: how well a classifier tells the draws from exact ones, 0.5 if not at all. "
        "SBC (the smallest of the parameters, times their number) and TARP: p-values of calibration on fresh "
        "simulations, "
        + ", ".join(f"{len(test.calibration.pit)} for {m.upper()}" for m, test in tests.items())
        + ".",
    )
    report.table(
        "like_the_simulations",
        [{"compared": name, "p-value": value} for name, value in check.items()],
        "Could the data have come from the simulator? Two-sided p-values of their distance from simulations.",
    )


def _hypothesis(report: Report, world: Expansion, found: RatioTest) -> None:
    def best(**fixed: float) -> float:
        theta = np.array(list({**found.constrained, **fixed}.values()))[None]
        return float(world.log_likelihood(theta)[0])

    exact = 2 * (float(world.log_likelihood(np.array(list(found.best.values()))[None])[0]) - best(w=-1.0))
    report.table(
        "cosmological_constant",
        [
            {
                "hypothesis": "w = -1",
                "t (learnt)": found.statistic,
                "t (exact, same points)": exact,
                "p (Wilks)": found.p_wilks,
                "p (simulated)": found.p_simulated,
            }
        ],
        "Likelihood-ratio test of a cosmological constant with the learnt likelihood. The simulated p-value "
        f"is the share of {len(found.simulated)} data sets, simulated under it, with as large a statistic.",
    )


def _figures(
    report: Report,
    world: Expansion,
    exact: Array,
    draws: dict[str, Array],
    tests: dict[str, Diagnostics],
    first: Posterior,
) -> None:
    names = [LABELS[name] for name in world.prior.names]
    shown = {"exact": exact, **{m.upper(): d for m, d in draws.items()}}
    report.figure("posterior", triangle(shown, names), "The posteriors; regions hold 68 and 95 %.")
    levels = np.linspace(0.02, 0.98, 49)
    curves = {f"{m.upper()} (TARP)": t.calibration.tarp_coverage(levels) for m, t in tests.items()}
    report.figure(
        "coverage",
        figures.coverage_curve(levels, curves, n=min(len(t.calibration.tarp) for t in tests.values())),
        "Share of true parameters inside the joint credible regions (TARP) of fresh simulations.",
    )
    pit = tests[first.method].calibration.pit[:, world.prior.names.index("omega_m")]
    report.figure("ranks", figures.pit_histogram(pit), "Simulation-based calibration of omega_m: flat is right.")
    report.figure(
        "training",
        figures.training_curves(first.card["history"]),
        f"Loss of {first.method.upper()} in each epoch.",
    )
