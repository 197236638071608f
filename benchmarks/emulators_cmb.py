"""Spectra of the microwave background: simulate, train what comes with the package, and measure it.

    python benchmarks/emulators_cmb.py simulate --work benchmarks/work/emulators
    python benchmarks/emulators_cmb.py train --work benchmarks/work/emulators
    python benchmarks/emulators_cmb.py noise --work benchmarks/work/emulators
    python benchmarks/emulators_cmb.py fixture --work benchmarks/work/emulators

simulate needs CAMB (extra emulators), three seconds of processor time for each of 88 cosmologies; a second call
goes on where the first was stopped. Result: benchmarks/results/emulators_cmb.json.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from emulators_options import options

from deepfield.core.files import atomic
from deepfield.core.report import machine
from deepfield.core.store import versions
from deepfield.core.table import Table
from deepfield.emulators.boltzmann import cmb_spectra
from deepfield.emulators.cmb import CMB_BOX, ELL, SPECTRA, CMBSpectra
from deepfield.emulators.simulate import design, simulate

HERE = Path(__file__).parent
RESULT = HERE / "results" / "emulators_cmb.json"
WEIGHTS = HERE.parent / "src" / "deepfield" / "emulators" / "weights" / "cmb-spectra"
ROOM = 0.03  # by which the design reaches beyond the box, of its width
RUNS, TESTS, NOISE_TESTS = 64, 24, 3
EXPERIMENTS = {
    # Noise of temperature and polarisation in muK arcmin, beam in arcmin, share of the sky.
    "Planck-like": (33.0, 70.0, 7.0, 0.6),
    "Simons-Observatory-like": (6.0, 8.5, 1.4, 0.4),
    "noiseless": (0.0, 0.0, 1.0, 1.0),
}


def points() -> Table:
    """A Sobol sequence in a box a little larger than that of the emulator."""
    room = {name: ROOM * (high - low) for name, (low, high) in CMB_BOX.items()}
    return design({n: (low - room[n], high + room[n]) for n, (low, high) in CMB_BOX.items()}, RUNS)


def held_out() -> Table:
    """Cosmologies drawn uniformly in the box."""
    low, high = np.array(list(CMB_BOX.values())).T
    drawn = np.random.default_rng(20261129).uniform(low, high, (TESTS, len(low)))
    return Table(drawn, names=list(CMB_BOX))


def simulated(work: Path, what: str) -> Table:
    """The design or the held-out cosmologies with their spectra, simulated where they are not yet there."""
    found = points() if what == "design" else held_out()
    return simulate(cmb_spectra, found, output="cl", folder=work / f"cmb-{what}")


def spectra_of(table: Table) -> np.ndarray:
    """Spectra (4, N, L) of a table, on the multipoles of the emulator."""
    return np.asarray(table["cl"]).reshape(len(table), len(SPECTRA), -1)[..., ELL].transpose(1, 0, 2)


def misfit(truth: np.ndarray, found: np.ndarray, experiment: tuple[float, ...]) -> np.ndarray:
    """Chi square (N,) of spectra (3, N, L) TT, TE and EE against the truth, in a Gaussian likelihood of all l.

    Hamimeche & Lewis (2008, PRD 77, 103013), equations 6 and 7, expanded to second order.
    """
    temperature, polarisation, beam, sky = experiment
    radian = np.pi / 180 / 60
    window = np.exp(ELL * (ELL + 1) * (beam * radian) ** 2 / (8 * np.log(2)))
    unit = ELL * (ELL + 1) / (2 * np.pi)
    tt, te, ee = truth
    tt = tt + unit * window * (temperature * radian) ** 2
    ee = ee + unit * window * (polarisation * radian) ** 2
    d_tt, d_te, d_ee = found - truth
    # tr(C^-1 D C^-1 D) of symmetric matrices of two rows.
    determinant = tt * ee - te**2
    a, b, c = ee * d_tt - te * d_te, ee * d_te - te * d_ee, tt * d_te - te * d_tt
    d = tt * d_ee - te * d_te
    return (sky * (ELL + 0.5) * (a**2 + 2 * b * c + d**2) / determinant**2).sum(-1)


def in_variance(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Errors (4, N, L) in standard deviations of cosmic variance of a single l, the whole sky seen."""
    tt, te, ee, pp = truth
    one = np.stack([tt * np.sqrt(2), np.sqrt(te**2 + tt * ee), ee * np.sqrt(2), pp * np.sqrt(2)])
    return np.abs(found - truth) / one * np.sqrt(2 * ELL + 1)


def relative(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Errors (4, N, L) relative to the truth, of TE to sqrt(TT EE)."""
    scale = truth.copy()
    scale[1] = np.sqrt(truth[0] * truth[2])
    return np.abs(found - truth) / scale


def describe(truth: np.ndarray, found: np.ndarray) -> dict:
    """Errors of spectra (4, N, L) in numbers, for each spectrum and for likelihoods."""
    numbers: dict = {}
    sizes, variances = relative(truth, found), in_variance(truth, found)
    for name, size, variance in zip(SPECTRA, sizes, variances):
        numbers[name] = {
            **{f"p{100 * q:g}": float(np.quantile(size, q)) for q in (0.5, 0.95, 0.99)},
            "largest": float(size.max()),
            "above_30_p99": float(np.quantile(size[:, ELL >= 30], 0.99)),
            "cosmic_variance_p50": float(np.median(variance)),
            "cosmic_variance_p99": float(np.quantile(variance, 0.99)),
            "cosmic_variance_largest": float(variance.max()),
            "p50_of_l": np.quantile(size, 0.5, axis=0)[_L].tolist(),
            "p95_of_l": np.quantile(size, 0.95, axis=0)[_L].tolist(),
        }
    numbers["l"] = ELL[_L].tolist()
    chi = {name: misfit(truth[:3], found[:3], about) for name, about in EXPERIMENTS.items()}
    numbers["chi_square"] = {
        name: {"median": float(np.median(one)), "largest": float(one.max())} for name, one in chi.items()
    }
    return numbers


_L = np.searchsorted(ELL, [2, 5, 10, 30, 100, 300, 1000, 2000, 2500])


def train(work: Path) -> None:
    table, tests = simulated(work, "design"), simulated(work, "test")
    emulator = CMBSpectra.train(table)
    card = emulator.card
    card["about"] = "lensed TT, TE, EE and lensing potential of the microwave background, l to 2500, flat LCDM"
    card["truth"] = "CAMB 2.0.5 at its defaults, lens_potential_accuracy 1, HMcode2020"
    card["box"], card["versions"] = CMB_BOX, versions()
    truth, found = spectra_of(tests), emulator.predict(tests)
    mean, std = (np.stack([getattr(found[name], kind) for name in SPECTRA]) for kind in ("mean", "std"))
    numbers = describe(truth, mean)
    pull = np.abs(mean - truth) / std
    for name, one in zip(SPECTRA, pull):
        numbers[name] |= {"coverage_683": float((one < 1).mean()), "coverage_955": float((one < 2).mean())}
    card["held_out_p99"] = {name: numbers[name]["p99"] for name in SPECTRA}
    emulator.save(WEIGHTS)
    numbers["by_number"] = {}
    for n in (32,):
        fewer = CMBSpectra.train(table[:n])(tests)
        numbers["by_number"][n] = brief(describe(truth, np.stack([fewer[name] for name in SPECTRA])))
    numbers["by_number"][len(table)] = brief(numbers)
    numbers |= {"runs": len(table), "tests": len(tests), "machine": machine()}
    write(numbers)


def brief(numbers: dict) -> dict[str, float]:
    return {
        "tt_p99": numbers["tt"]["p99"],
        "ee_p99": numbers["ee"]["p99"],
        "chi_square": numbers["chi_square"]["Simons-Observatory-like"]["median"],
    }


def noise(work: Path) -> None:
    """What CAMB's own settings change, on the first held-out cosmologies."""
    chosen = held_out()[:NOISE_TESTS]
    finer = partial(cmb_spectra, accuracy=(2.0, 2.0), lensing=4.0)
    truth = spectra_of(simulate(finer, chosen, output="cl", folder=work / "cmb-finer"))
    usual = spectra_of(simulated(work, "test")[:NOISE_TESTS])
    write({"noise": {"cosmologies": NOISE_TESTS, **describe(truth, usual)}})


def fixture(work: Path) -> None:
    """The Boltzmann code's word for the tests: three held-out cosmologies at some multipoles."""
    chosen = simulated(work, "test")[:3]
    path = HERE.parent / "tests" / "emulators" / "cmb.npz"
    ell = np.unique(np.geomspace(2, 2500, 60).round().astype(int))
    theta = np.stack([chosen.column(name) for name in CMB_BOX], -1)
    with atomic(path) as temporary:
        np.savez_compressed(temporary, theta=theta, ell=ell, spectra=spectra_of(chosen)[..., ell - 2])
    print(path, path.stat().st_size, "bytes")


def write(numbers: dict) -> None:
    known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    with atomic(RESULT) as temporary:
        temporary.write_text(json.dumps(known | numbers, indent=1) + "\n")
    print({name: numbers[name] for name in ("chi_square", "by_number") if name in numbers}, "->", RESULT.name)


if __name__ == "__main__":
    given = options(__doc__, "simulate", "train", "noise", "fixture").parse_args()
    if given.what == "simulate":
        for what in ("design", "test"):
            print(len(simulated(given.work, what)), what)
    else:
        {"train": train, "noise": noise, "fixture": fixture}[given.what](given.work)
