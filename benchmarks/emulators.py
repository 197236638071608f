"""Speed and memory of the matter power spectrum, and the page of the benchmark.

    python benchmarks/emulators.py speed
    python benchmarks/emulators.py page

Errors are measured by emulators_weights.py, which trains the models. Results: benchmarks/results/emulators_*.json;
page: docs/benchmarks/emulators.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from emulators_sections import cmb_part, wide_part

from deepfield.core.files import atomic
from deepfield.core.report import machine, peak_memory

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results", HERE.parent / "docs" / "benchmarks" / "emulators.md"


def cost(call: Callable[[], Any], repeats: int, calls: int = 1) -> float:
    """Processor time of a call in microseconds, the least of some repeats: other programs only add to it."""
    call()
    times = []
    for _ in range(repeats):
        clock = time.process_time()
        for _ in range(calls):
            call()
        times.append((time.process_time() - clock) / calls)
    return 1e6 * min(times)


def speed() -> None:
    from deepfield.emulators import BOX, MatterPower
    from deepfield.emulators.grid import Grid

    def measure(grid: Grid, precision: str) -> None:
        spectra = grid(theta)
        found[f"batched_{precision}_us"] = cost(lambda: grid(theta, out=spectra), 12) / len(theta)
        found[f"batched_new_{precision}_us"] = cost(lambda: grid(theta), 12) / len(theta)
        found[f"batch_of_1000_{precision}_us"] = cost(lambda: grid(theta[:1000]), 20) / 1000
        found[f"single_call_{precision}_us"] = cost(lambda: grid(theta[:1]), 20, 200)

    low, high = np.array(list(BOX.values())).T
    theta = np.random.default_rng(0).uniform(low, high, (100_000, 5))
    k = np.geomspace(1e-4, 10, 200)
    found = {}
    for precision in ("single", "double"):
        power = MatterPower(precision=precision)
        clock = time.process_time()
        grid = power.on(k)
        found[f"layout_{precision}_s"] = time.process_time() - clock
        measure(grid, precision)
    found["peak_memory_mb"] = peak_memory()
    found["without_grid_us"] = cost(lambda: power(theta[:100], k), 5) / 100
    curved = MatterPower(nonlinear=True)
    found["nonlinear_ms"] = cost(lambda: curved(theta[:10], k, [0.0, 0.5, 1.0, 2.0, 3.0]), 3) / 50e3
    # What the processor gives here and now, for what else ran on the machine: a product of matrices alone.
    a, b = np.ones((256, 28), np.float32), np.ones((28, 200), np.float32)
    found["product_alone_us"] = cost(lambda: a @ b, 20, 200) / 256
    found["machine"] = machine()
    with atomic(RESULTS / "emulators_speed.json") as temporary:
        temporary.write_text(json.dumps(found, indent=1) + "\n")
    print({name: value for name, value in found.items() if name != "machine"})


def read(name: str) -> dict[str, Any]:
    path = RESULTS / f"emulators_{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def at(k: list[float], values: list[float], wanted: float) -> float:
    return 100 * float(np.exp(np.interp(np.log(wanted), np.log(k), np.log(values))))


def bands(found: dict[str, Any], wanted: tuple[float, ...], digits: int) -> str:
    return "\n".join(
        f"| {k:g} | {at(found['k'], found['p50_of_k'], k):.{digits}f} | {at(found['k'], found['p95_of_k'], k):.{digits}f} |"
        for k in wanted
    )


def per_cent(value: float, digits: int = 3) -> str:
    return f"{100 * value:.{digits}f} %"


def bars(linear: dict, curved: dict, simulated: dict, fast: dict, peers: dict, chain: dict) -> str:
    rows = [
        ("linear, rms", 3e-4, linear["rms"], 3),
        ("linear, median worst k", 8e-4, linear["median_worst"], 3),
        ("linear, 99.9 %", 2e-3, linear["p999"], 3),
        ("linear, largest", 5e-3, linear["largest"], 3),
        ("nonlinear, median", 1e-3, curved["median"], 3),
        ("nonlinear, 99 %", 5e-3, curved["p99"], 3),
        ("nonlinear, largest", 2e-2, curved["largest"], 3),
        ("Mira-Titan, median", 5e-3, simulated["median"], 2),
        ("Mira-Titan, 95 %", 1.5e-2, simulated["p95"], 2),
    ]
    lines = [(what, per_cent(bar, 2), per_cent(value, digits), value < bar) for what, bar, value, digits in rows]
    for what, bar, name in (("batched", 1.2, "batched_single_us"), ("one call", 60, "single_call_single_us")):
        lines.append((f"speed, {what}", f"{bar:g} microseconds", f"{fast[name]:.2g}", fast[name] < bar))
    rival = [r for r in peers.get("rows", ()) if r["name"] == "cosmopower-jax" and "microseconds" in r]
    if rival:
        theirs, share = rival[0]["microseconds"], 200 / rival[0]["wavenumbers"]
        large, equal = (theirs / fast[name] for name in ("batched_single_us", "batch_of_1000_single_us"))
        told = f"{equal:.0f}, both of 1,000 at once ({equal * share:.0f} for a wavenumber); {large:.0f} of 100,000"
        lines.append(("speed, times cosmopower-jax", "20", told, equal > 20))
    memory = fast["peak_memory_mb"]
    lines.append(("memory, 100,000 spectra", "1500 MB", f"{memory} MB", memory < 1500))
    if chain:
        most = max(map(abs, chain["first_order"].values()))
        lines.append(("likelihood, largest shift, first order", "0.05 sigma", f"{most:.3f} sigma", most < 0.05))
    return "\n".join(
        f"| {what} | {bar} | {value} | {'reached' if reached else '**not reached**'} |"
        for what, bar, value, reached in lines
    )


def page() -> None:
    linear, curved, simulated, fast = (read(name) for name in ("linear", "nonlinear", "miratitan", "speed"))
    noise, chain, peers = (read(name) for name in ("noise", "chain", "peers"))
    about, camb, away = linear["machine"], linear["camb_seconds"], linear["away_from_zeros"]
    text = f"""# Benchmark: emulators

Made by `benchmarks/emulators_design.py`, `emulators_miratitan.py`, `emulators_weights.py`, `emulators_noise.py`, `emulators_chain.py`, `emulators_peers.py` and `emulators.py` (`make bench-emulators`), from the JSON files in `benchmarks/results`.
The machine: {about["processor"]}, {about["cores"]} cores, which other programs were using too; times are processor times of one core.

| what | bar | found | |
|---|---|---|---|
{bars(linear, curved, simulated, fast, peers, chain)}

Not tried: {untried(noise, chain, peers)}a GPU.

## The linear spectrum

{linear["design"]} transfer functions of CAMB 2.0.5 were learnt from; {linear["tests"]} cosmologies drawn uniformly in the box, which nothing was chosen by, were held out, at z = 0, 0.5, 1, 2 and 3 and 300 wavenumbers of 1e-4 to 50 h/Mpc each.
Truth and training have AccuracyBoost 2 and lAccuracyBoost 2, {camb:.1f} s of processor time for a cosmology here; on large and acoustic scales, k r < 45 with r the sound horizon, AccuracyBoost 3 and lAccuracyBoost 4; and 60 wavenumbers to an e-fold beside CAMB's own where these spare the last acoustic oscillations, 45 < k r < 160.
Without the latter, interpolation between CAMB's own wavenumbers was the largest error of all, and kept the series from converging.
Relative errors of P over cosmologies and redshifts, in per cent:

| k [h/Mpc] | median | 95 % |
|---|---|---|
{bands(linear, (2e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1, 10, 40), 3)}

By redshift (0, 0.5, 1, 2, 3) the rms is {", ".join(per_cent(v) for v in linear["rms_of_z"])}.
Errors are stated by {linear["validation"]} other cosmologies. Those of one standard deviation cover {linear["coverage_683"]:.1%} (nominal 68.3 %), of two {linear["coverage_955"]:.1%} (95.5 %).

Where most of the matter is baryons P passes near zero between acoustic peaks, and a relative error means little there. Such wavenumbers are in all the numbers above. Where P is above a third of its smooth form, which is {per_cent(away["share"], 1)} of them, the rms is {per_cent(away["rms"])}, 99.9 % are below {per_cent(away["p999"])}, and the largest is {per_cent(away["largest"])}.

How many runs it takes: on runs left out one by one, most of which lie at the edge of the design, the error of T (rms) is {", ".join(f"{per_cent(v)} with {n}" for n, v in linear["left_out_by_number"].items())}.
{noise_part(noise)}
## The nonlinear spectrum

HMcode2020 (Mead et al. 2021), evaluated on the emulated linear spectrum; nothing is learnt of it.
Against HMcode2020 as CAMB has it on its own linear spectrum, at the same {curved["tests"]} cosmologies and redshifts, 400 wavenumbers of 1e-4 to 10 h/Mpc: median {per_cent(curved["median"])}, 99 % below {per_cent(curved["p99"])}, 99.9 % below {per_cent(curved["p999"])}, largest {per_cent(curved["largest"])}.
The stated errors cover {curved["coverage_683"]:.1%} (68.3 %) and {curved["coverage_955"]:.1%} (95.5 %).

| k [h/Mpc] | median | 95 % |
|---|---|---|
{bands(curved, (1e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 9), 3)}

CAMB's own integrals stop where two steps agree to 1e-4, be it by chance.

## Speed

200 wavenumbers at one redshift, one core. A grid is laid out once, in {fast["layout_single_s"]:.1f} s. What is counted is all that comes after: parameters in, P in (Mpc/h)^3 with its sigma_8 out, of a batch to an array that is there already (`out`).

| | single precision | double precision |
|---|---|---|
| of 100,000 cosmologies, each | {fast["batched_single_us"]:.2f} microseconds | {fast["batched_double_us"]:.2f} |
| the same, to a new array | {fast["batched_new_single_us"]:.2f} | {fast["batched_new_double_us"]:.2f} |
| of 1,000 cosmologies, each | {fast["batch_of_1000_single_us"]:.1f} | {fast["batch_of_1000_double_us"]:.1f} |
| a single call | {fast["single_call_single_us"]:.0f} | {fast["single_call_double_us"]:.0f} |

The product of matrices alone that is in each spectrum (28 by 200) took {fast["product_alone_us"]:.2f} microseconds in single precision at that time.
CAMB at the settings above takes {camb * 1e6 / fast["batched_single_us"]:,.0f} times as long as the batch, for each spectrum{camb_default(noise, fast)}.
Without a grid a spectrum takes {fast["without_grid_us"]:.0f} microseconds, and the nonlinear one {fast["nonlinear_ms"]:.1f} ms.
{chain_part(chain)}{peers_part(peers)}
## Mira-Titan

90 cosmologies at 8 redshifts, left out in {simulated["folds"]} parts, kernels learnt anew in each.
All errors: median {per_cent(simulated["median"], 2)}, 95 % below {per_cent(simulated["p95"], 2)}, 99 % below {per_cent(simulated["p99"], 2)}, largest {per_cent(simulated["largest"], 1)}.
The stated errors of one standard deviation cover {simulated["coverage_683"]:.1%} (nominal 68.3 %), of two {simulated["coverage_955"]:.1%} (95.5 %).
{limits_part(simulated)}
| k [1/Mpc] | median [%] | 95 % [%] |
|---|---|---|
{bands(simulated, (0.002, 0.01, 0.05, 0.1, 0.3, 1, 3), 2)}

{wide_part()}{cmb_part()}"""
    with atomic(PAGE) as temporary:
        temporary.write_text(text)
    print(PAGE)


def untried(noise: dict, chain: dict, peers: dict) -> str:
    missing = {
        "the noise of CAMB by its settings (`emulators_noise.py`)": noise,
        "a chain beside one with CAMB (`emulators_chain.py`)": chain,
        "peers (`emulators_peers.py`)": peers,
    }
    return "".join(f"{name}, " for name, found in missing.items() if not found)


def limits_part(simulated: dict) -> str:
    theory, scatter = simulated["linear"], simulated["amplitude"]
    words = ", ".join(
        f"{name} {per_cent(one['median'], 2)} and {per_cent(one['p95'], 2)}"
        for name, one in simulated["plain"].items()
    )
    return f"""
The reference is HMcode2020 on a linear spectrum that was learnt from {theory["runs"]} runs of CAMB in the same box, none of them at a simulation. On a fifth of the runs, left out, that one has a median error of {per_cent(theory["median"], 2)}, 95 % are below {per_cent(theory["p95"], 2)} and, at k < 0.01 /Mpc, where early dark energy clusters, below {per_cent(theory["p95_large"], 1)}; the largest is {per_cent(theory["largest"], 1)}.

What limits: one factor for each simulation. The error of a simulation left out, averaged over 0.06 to 0.25 /Mpc and all redshifts, has an rms of {per_cent(scatter["rms"], 2)}, and the rest of its spectrum follows it {scatter["above"]:.2f} to one at k > 0.05 /Mpc, at all redshifts, but {scatter["below"]:.2f} to one at k < 0.035 /Mpc, where the published spectra are those of perturbation theory.
With that factor taken out, in hindsight, the median is {per_cent(scatter["left_median"], 2)} and 95 % are below {per_cent(scatter["left_p95"], 2)}.
A smooth function of the eight parameters cannot know it: it looks like the scatter of the one volume in which each spectrum is joined to perturbation theory. Ridge regressions, each cosmology left out in turn, leave the same as median and 95 %: {words}. Tried in vain besides: a regression of (cosmology, redshift) on amplitude, slope and dark energy at that redshift, kernels chosen by the likelihood of what is left out, and lengths that are the same for all inputs.
Features and priors of the kernels were chosen by these same errors of what is left out: there is no further set.

"""


def camb_default(noise: dict, fast: dict) -> str:
    if not noise:
        return ""
    seconds = noise["settings"]["1, 1"]["seconds"]
    return f", and at its defaults ({seconds:.1f} s) {seconds * 1e6 / fast['batched_single_us']:,.0f} times"


def noise_part(noise: dict) -> str:
    if not noise:
        return ""
    rows = "\n".join(
        f"| {name} | {one['seconds']:.1f} | {100 * one['rms']:.3f} | {100 * one['median_worst']:.3f} | {100 * one['largest']:.3f} |"
        for name, one in noise["settings"].items()
    )
    return f"""
CAMB's own noise, by its settings: P today, with CAMB's own spacing in k, against that of the truth, {noise["cosmologies"]} cosmologies of the box, amplitude set by sigma_8, in per cent:

| AccuracyBoost, lAccuracyBoost | s | rms | median worst k | largest |
|---|---|---|---|---|
{rows}

"""


def chain_part(chain: dict) -> str:
    if not chain:
        return ""
    shift = ", ".join(
        f"{name} {value:+.3f} ± {chain['shift_errors'][name]:.3f}" for name, value in chain["shifts"].items()
    )
    first = ", ".join(f"{name} {value:+.3f}" for name, value in chain["first_order"].items())
    straight = ", ".join(f"{name} {value:+.3f}" for name, value in chain["first_order_linear"].items())
    ratio = chain["camb_seconds"] / chain["emulator_seconds"]
    return f"""
## In a likelihood

{chain["about"]}
A chain of {chain["steps"]:,} steps with the emulator took {chain["chain_seconds"]:.0f} s of processor time, {1e3 * chain["emulator_seconds"]:.1f} ms a step, likelihood and all. CAMB at those settings takes {chain["camb_seconds"]:.1f} s for a likelihood (median of {chain["draws"]} that were run), {ratio:,.0f} times as long: its chain, of {chain["camb_seconds"] * chain["steps"] / 3600:.0f} hours, was not run.
Instead {chain["draws"]} draws of the posterior, evenly out of the chain, were computed with CAMB too, and have the weights of CAMB's likelihood over the emulator's; {chain["effective"]:.1f} of them stay effective. By these weights the means move by, in standard deviations of the posterior: {shift} (errors by the jackknife). The bar is 0.05.
To first order in the differences of the spectra they move by: {first}. With the linear spectrum in place of the nonlinear one, same bins and errors, it would be: {straight}.


"""


def peers_part(peers: dict) -> str:
    if not peers:
        return ""
    rows = "\n".join(
        f"| {one['name']} | {one['what']} | {one['cosmologies']:.0f} | {one['k_low']:.2g} to {one['k_high']:.2g} | {100 * one['median']:.3f}"
        f" | {100 * one['p95']:.3f} | {100 * one['largest']:.3f} | {time_of(one)} |"
        for one in peers["rows"]
    )
    return f"""
## Peers

{peers["about"]}

| | spectrum | cosmologies | k [h/Mpc] | median [%] | 95 % [%] | largest [%] | microseconds (wavenumbers) |
|---|---|---|---|---|---|---|---|
{rows}

{peers["missing"]}

"""


def time_of(one: dict) -> str:
    if "microseconds" not in one:
        return ""
    rounded = float("{:.2g}".format(one["microseconds"]))
    return f"{rounded:,g} ({one['wavenumbers']})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "page"))
    {"speed": speed, "page": page}[parser.parse_args().what]()
