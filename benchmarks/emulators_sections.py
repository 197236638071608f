"""Parts of the page of the emulators' benchmark: the wide matter power spectrum, and the microwave background.

Each is empty where its results are not there yet; emulators.py puts them on the page.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results"
NAMES = {"tt": "TT", "te": "TE", "ee": "EE", "pp": "lensing potential"}


def read(name: str) -> dict[str, Any]:
    path = RESULTS / f"emulators_{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def bands(found: dict[str, Any], wanted: tuple[float, ...]) -> str:
    """Rows of k, median and 95 % in per cent."""
    log_k = np.log(found["k"])
    lines = []
    for k in wanted:
        pair = (100 * np.interp(np.log(k), log_k, found[name]) for name in ("p50_of_k", "p95_of_k"))
        lines.append("| " + " | ".join([f"{k:g}", *(f"{v:.3f}" for v in pair)]) + " |")
    return "\n".join(lines)


def wide_part() -> str:
    """The section about neutrinos, dark energy and feedback."""
    found = read("wide")
    if not found:
        return ""
    linear, form = found["linear"], found["closed_form"]
    rows = "\n".join(
        f"| {name} | {100 * one['median']:.3f} | {100 * one['p99']:.3f} | {100 * one['largest']:.2f} | {one['coverage_683']:.0%}, {one['coverage_955']:.0%} |"
        for name, one in ((n, found[n]) for n in ("linear", "nonlinear", "feedback"))
    )
    return f"""
## Wide universes: neutrinos, dark energy, feedback

{found["runs"]} runs of CAMB at AccuracyBoost 1 and lAccuracyBoost 2 were learnt from. {linear["tests"]} cosmologies were held out, drawn uniformly in the box as far as w_0 + w_a allows, at z = 0, 0.5, 1, 2 and 3; log T_AGN is drawn from 7.3 to 8.3. Truth: the same settings, HMcode2020, and HMcode2020 with feedback as CAMB has them.

| spectrum | median [%] | 99 % [%] | largest [%] | stated errors of one and two standard deviations cover |
|---|---|---|---|---|
{rows}

Of the linear spectrum at k above 0.005 h/Mpc 99 % are below {100 * linear["above_0.005_p99"]:.3f} % and all below {100 * linear["above_0.005_largest"]:.2f} %; what is larger is near the horizon, where dark energy has perturbations of its own.
The bars were 0.3 % (linear) and 1 % (nonlinear) at 99 %: {verdict(linear["p99"], 3e-3)} for the linear spectrum, {verdict(found["nonlinear"]["p99"], 1e-2)} for the nonlinear one, {verdict(found["feedback"]["p99"], 1e-2)} with feedback.
The closed form that the regression starts from is off by {100 * form["p99"]:.1f} % at 99 %, and above k = 0.005 h/Mpc by {100 * form["above_0.005_p99"]:.2f} %.

| k [h/Mpc] | linear, median [%] | 95 % [%] |
|---|---|---|
{bands(linear, (2e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 10, 40))}
"""


def verdict(value: float, bar: float) -> str:
    return "reached" if value < bar else "not reached"


def cmb_part() -> str:
    """The section about spectra of the microwave background."""
    found = read("cmb")
    if not found:
        return ""
    rows = "\n".join(
        f"| {name} | {100 * one['p50']:.3f} | {100 * one['p99']:.2f} | {100 * one['above_30_p99']:.2f} | {100 * one['largest']:.2f} | {one['cosmic_variance_p50']:.3f} | {one['cosmic_variance_p99']:.2f} | {one['coverage_683']:.0%}, {one['coverage_955']:.0%} |"
        for name, one in ((label, found[key]) for key, label in NAMES.items())
    )
    misfits = "; ".join(
        f"{name}: {one['median']:.2g} and {one['largest']:.2g}" for name, one in found["chi_square"].items()
    )
    curve = "; ".join(
        f"with {n}: TT {100 * one['tt_p99']:.2f} %, EE {100 * one['ee_p99']:.2f} %, chi square {one['chi_square']:.2g}"
        for n, one in found["by_number"].items()
    )
    return f"""
## The microwave background

{found["runs"]} runs of CAMB with lens_potential_accuracy 1 were learnt from; {found["tests"]} cosmologies drawn uniformly in the box were held out. Relative errors over l = 2 to 2500 (of TE relative to the root of TT EE), and in standard deviations of cosmic variance of a single l:

| spectrum | median [%] | 99 % [%] | 99 % of l >= 30 [%] | largest [%] | cosmic variance, median | 99 % | stated errors cover |
|---|---|---|---|---|---|---|---|
{rows}

What the error of a whole spectrum, TT, TE and EE of all l together, adds to chi square, median and largest of the cosmologies: {misfits}. The noises are white: 33 and 70 muK arcmin in temperature and polarisation, a beam of 7 arcmin and 0.6 of the sky; 6 and 8.5 muK arcmin, 1.4 arcmin and 0.4; none, and all of the sky.

How many runs it takes (99 % of the errors, and chi square with the second of these noises): {curve}.
{noise_part(found.get("noise", {}))}"""


def noise_part(noise: dict[str, Any]) -> str:
    if not noise:
        return ""
    sizes = ", ".join(f"{label} {100 * noise[key]['p99']:.2f} %" for key, label in NAMES.items())
    misfits = ", ".join(f"{name} {one['median']:.2g}" for name, one in noise["chi_square"].items())
    return f"""
CAMB's own noise, these settings against AccuracyBoost and lAccuracyBoost of 2 and lens_potential_accuracy 4, on {noise["cosmologies"]} of the cosmologies: 99 % of the differences are below {sizes}; the median of chi square is {misfits}.
"""
