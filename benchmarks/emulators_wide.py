"""The wide matter power spectrum: simulate, train what comes with the package, and measure it.

    python benchmarks/emulators_wide.py simulate --work benchmarks/work/emulators
    python benchmarks/emulators_wide.py train --work benchmarks/work/emulators
    python benchmarks/emulators_wide.py fixture --work benchmarks/work/emulators

simulate needs CAMB (extra emulators), three seconds of processor time for each of 128 cosmologies of the design
and eight for each of 20 held out; a second call goes on where the first was stopped.
Result: benchmarks/results/emulators_wide.json.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
from emulators_options import options
from emulators_weights import describe, state

from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.core.store import versions
from deepfield.core.table import Table
from deepfield.emulators import boltzmann, wide
from deepfield.emulators.direct import NODES, sphere
from deepfield.emulators.simulate import design, simulate
from deepfield.emulators.wide import WIDE_BOX, WidePower
from deepfield.physics.power import variance

HERE = Path(__file__).parent
RESULT = HERE / "results" / "emulators_wide.json"
WEIGHTS = HERE.parent / "src" / "deepfield" / "emulators" / "weights" / "matter-power-wide"
RUNS, TESTS = 128, 20
VALIDATION = 6  # of the tests: they set stated errors, and are in no number that is printed
REDSHIFTS = (0.0, 0.5, 1.0, 2.0, 3.0)
K, NONLINEAR_K = np.geomspace(1e-4, 50, 300), np.geomspace(1e-4, 10, 200)
PARTS = np.cumsum([len(REDSHIFTS) * n for n in (len(K), len(NONLINEAR_K))])


def reach(w_0: np.ndarray, part: np.ndarray) -> np.ndarray:
    """The w_a that lies at a share of what w_0 leaves of its range."""
    low, high = WIDE_BOX["w_a"]
    return low + part * (np.minimum(high, wide.EARLY - w_0) - low)


def points() -> Table:
    """A Sobol sequence over the parameters that the regression sees."""
    found = design({**{name: WIDE_BOX[name] for name in wide.FEATURES}, "w_a": (0.0, 1.0)}, RUNS)
    found["w_a"] = reach(found["w_0"], found["w_a"])
    return found


def held_out() -> Table:
    """Cosmologies drawn uniformly in the part of the box that is allowed, with a temperature of the feedback."""
    ranges = {**WIDE_BOX, "log_t_agn": wide.FEEDBACK}
    low, high = np.array(list(ranges.values())).T
    found = Table(np.random.default_rng(20261129).uniform(low, high, (4 * TESTS, len(low))), names=list(ranges))
    return found[found["w_0"] + found["w_a"] <= wide.EARLY][:TESTS]


def truth(row: Mapping[str, float]) -> np.ndarray:
    """Linear spectrum, HMcode2020, and HMcode2020 with feedback of one cosmology, one after the other.

    The amplitude is set by an integral of CAMB's spectrum for sigma_8: CAMB's own value is some parts in ten
    thousand from it at these settings.
    """
    import camb

    theta = [row[name] for name in list(WIDE_BOX)[:5]]
    more = {name: row[name] for name in ("m_nu", "w_0", "w_a")}
    chosen = boltzmann.parameters(theta, REDSHIFTS, accuracy=boltzmann.WIDE, k_max=50.5 * row["h"], **more)
    results = camb.get_results(chosen)
    fine, tilt = np.geomspace(2e-4, 20, 4000), row["n_s"]
    calm = (K > 1e-3) & (K < 4e-3)  # where the spectrum is smooth, and CAMB's interpolation of it good
    linear = K**tilt * boltzmann.transfer_on(results, row, K, REDSHIFTS) ** 2
    level = (boltzmann.power_of(results, K[calm], 0.0, nonlinear=False)[0] / linear[0, calm]).mean()
    whole = level * variance(fine, fine**tilt * boltzmann.transfer_on(results, row, fine, 0.0)[0] ** 2, 8.0)
    scale = row["sigma_8"] ** 2 / float(whole)
    chosen.InitPower.set_params(ns=tilt, As=2e-9 * scale)
    chosen.NonLinear = camb.model.NonLinear_pk
    found = [linear * level * scale]
    for heat in (None, row["log_t_agn"]):
        boltzmann.halos(results, chosen, heat)
        found.append(boltzmann.power_of(results, NONLINEAR_K, REDSHIFTS, nonlinear=True))
    return np.concatenate([np.ravel(one) for one in found])


def simulated(work: Path, what: str) -> Table:
    """The design or the held-out cosmologies, simulated where they are not yet there."""
    if what == "design":
        one = partial(boltzmann.wide_transfer, k=tuple(wide.K_NODES.tolist()), z=wide.Z_NODES)
        return simulate(one, points(), output="transfer", folder=work / "wide-design")
    return simulate(truth, held_out(), output="truth", folder=work / "wide-test")


def spectra_of(tests: Table) -> tuple[np.ndarray, ...]:
    """Linear, nonlinear and feedback spectra (T, Z, K) of CAMB."""
    parts = np.split(np.asarray(tests["truth"]), PARTS, axis=1)
    return tuple(p.reshape(len(tests), len(REDSHIFTS), -1) for p in parts)


def train(work: Path) -> None:
    table, tests = simulated(work, "design"), simulated(work, "test")
    power = WidePower.train(table)
    curved = WidePower(power.emulator, nonlinear=True)
    card = power.card
    card["about"] = "P(k, z) of flat universes with massive neutrinos, w0 and wa: difference from a closed form"
    card["truth"] = "CAMB 2.0.5, AccuracyBoost {:g}, lAccuracyBoost {:g}, PPF".format(*boltzmann.WIDE)
    card["box"], card["versions"] = WIDE_BOX, versions()
    cosmologies, heated = tests[list(WIDE_BOX)], tests[[*WIDE_BOX, "log_t_agn"]]
    known = spectra_of(tests)
    linear = power(cosmologies, K, REDSHIFTS) / known[0] - 1
    nonlinear = curved(cosmologies, NONLINEAR_K, REDSHIFTS) / known[1] - 1
    feedback = curved(heated, NONLINEAR_K, REDSHIFTS) / known[2] - 1
    stated = state(np.concatenate([nonlinear, feedback])[:VALIDATION], NONLINEAR_K)
    card["error_nonlinear"] = stated.tolist()
    one = np.ones((len(tests) - VALIDATION, 1, 1))
    numbers = {
        name: describe(error[VALIDATION:], NONLINEAR_K, stated, one)
        for name, error in (("nonlinear", nonlinear), ("feedback", feedback))
    }
    expected = power.error(cosmologies, K, REDSHIFTS)[VALIDATION:]
    numbers["linear"] = describe(linear[VALIDATION:], K, np.array([np.log(K), np.ones(len(K))]), one)
    size = np.abs(linear[VALIDATION:])
    numbers["linear"] |= {
        "coverage_683": float((size < expected).mean()),
        "coverage_955": float((size < 2 * expected).mean()),
        "above_0.005_p99": float(np.quantile(size[..., K > 0.005], 0.99)),
        "above_0.005_largest": float(size[..., K > 0.005].max()),
    }
    numbers["closed_form"] = closed_form(tests[VALIDATION:], known[0][VALIDATION:])
    numbers["left_out"], numbers["runs"] = card["left_out"], len(table)
    card["held_out"] = {name: numbers[name]["p99"] for name in ("linear", "nonlinear", "feedback")}
    power.save(WEIGHTS)
    with atomic(RESULT) as temporary:
        temporary.write_text(json.dumps(numbers | {"machine": machine()}, indent=1) + "\n")
    for name in ("linear", "nonlinear", "feedback"):
        print(name, {n: round(v, 5) for n, v in numbers[name].items() if isinstance(v, float)})
    print("closed form", numbers["closed_form"])


def closed_form(tests: Table, known: np.ndarray) -> dict[str, float]:
    """Errors of the form that the regression starts from."""
    theta = np.stack([tests.column(name) for name in wide.FEATURES], -1)
    both = np.concatenate([K, NODES])
    found = both ** tests.column("n_s")[:, None, None] * wide.base(theta, both, REDSHIFTS) ** 2
    level = tests.column("sigma_8") ** 2 / (found[:, 0, len(K) :] @ sphere())
    size = np.abs(found[..., : len(K)] * level[:, None, None] / known - 1)
    return {
        "p99": float(np.quantile(size, 0.99)),
        "above_0.005_p99": float(np.quantile(size[..., K > 0.005], 0.99)),
        "largest": float(size.max()),
    }


def fixture(work: Path) -> None:
    """The Boltzmann code's word for the tests: three held-out cosmologies at some wavenumbers."""
    chosen = simulated(work, "test")[VALIDATION : VALIDATION + 3]
    linear, curved, hot = spectra_of(chosen)
    path = HERE.parent / "tests" / "emulators" / "wide.npz"
    some, few = slice(None, None, 12), slice(None, None, 10)
    with atomic(path) as temporary:
        np.savez_compressed(
            temporary,
            theta=np.stack([chosen.column(name) for name in WIDE_BOX], -1),
            log_t_agn=chosen.column("log_t_agn"),
            z=REDSHIFTS,
            k=K[some],
            linear=linear[..., some],
            k_nonlinear=NONLINEAR_K[few],
            nonlinear=curved[..., few],
            feedback=hot[..., few],
        )
    print(path, path.stat().st_size, "bytes")


if __name__ == "__main__":
    given = options(__doc__, "simulate", "train", "fixture").parse_args()
    if given.what == "simulate":
        for what in ("design", "test"):
            print(len(simulated(given.work, what)), what)
    else:
        {"train": train, "fixture": fixture}[given.what](given.work)
