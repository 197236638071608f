"""Spectra of the microwave background, against CAMB (benchmarks/emulators_cmb.py made the file)."""

from pathlib import Path

import numpy as np
import pytest

from deepfield import emulators
from deepfield.core.errors import DeepfieldError
from deepfield.emulators import CMB_BOX, CMBSpectra
from deepfield.emulators.cmb import LARGEST, SPECTRA, acoustic_scale, stretched

PLANCK = {"omega_b_h2": 0.0224, "omega_c_h2": 0.12, "h": 0.674, "tau": 0.054, "n_s": 0.965, "ln_a_s": 3.044}


@pytest.fixture(scope="module")
def cmb():
    return CMBSpectra()


@pytest.fixture(scope="module")
def boltzmann():
    with np.load(Path(__file__).with_name("cmb.npz")) as file:
        return {name: file[name] for name in file.files}


def test_the_acoustic_scale_is_that_of_camb():
    # CAMB 2.0.5, cosmomc_theta(), of two corners of the box and of Planck's best fit.
    found = acoustic_scale([0.02, 0.025, 0.0224], [0.10, 0.14, 0.12], [0.60, 0.76, 0.674])
    assert found == pytest.approx([0.0100016, 0.0107784, 0.0104103], rel=5e-5)


def test_simulations_reach_far_enough():
    corners = np.array([[b, c, h] for b in (0.02, 0.025) for c in (0.1, 0.14) for h in (0.6, 0.76)]).T
    theta = acoustic_scale(*corners)
    for where in (stretched(theta), *(stretched(theta, np.full(len(theta), tau)) for tau in (0.02, 0.12))):
        assert (np.diff(where, axis=1) > 0).all() and where[:, 0] == pytest.approx(2, rel=1e-3)
        assert where.max() < LARGEST and (where[:, -1] > 2500).all()


def test_spectra_are_those_of_camb(cmb, boltzmann):
    found = cmb(boltzmann["theta"])
    at = boltzmann["ell"] - 2
    tt, te, ee, pp = boltzmann["spectra"]
    high = boltzmann["ell"] >= 30
    for name, truth, bound in (("tt", tt, 0.005), ("ee", ee, 0.02), ("pp", pp, 0.02)):
        assert found[name][:, at][:, high] == pytest.approx(truth[:, high], rel=bound)
        # On the largest scales cosmic variance is tens of per cent.
        assert found[name][:, at] == pytest.approx(truth, rel=0.08)
    assert np.abs(found["te"][:, at] - te) / np.sqrt(tt * ee) == pytest.approx(0, abs=0.01)


def test_errors_are_of_the_size_of_the_misses(cmb, boltzmann):
    found, at = cmb.predict(boltzmann["theta"]), boltzmann["ell"] - 2
    pulls = [np.abs(found[name].mean[:, at] - truth) / found[name].std[:, at]
             for name, truth in zip(SPECTRA, boltzmann["spectra"])]  # fmt: skip
    assert 0.3 < np.median(pulls) < 1.2


def test_the_amplitude_is_nearly_a_factor(cmb):
    """Of what is not lensed it is one; lensing moves a per cent of power at these multipoles."""
    low, high = (cmb(PLANCK | {"ln_a_s": v})["tt"][:1000] for v in (3.0, 3.1))
    assert high / low == pytest.approx(np.exp(0.1), rel=0.01)


def test_shapes(cmb):
    one, many = cmb(PLANCK), cmb(PLANCK | {"tau": [0.05, 0.06]})
    assert one["tt"].shape == (2499,) and many["tt"].shape == (2, 2499)
    assert cmb(list(PLANCK.values()))["pp"] == pytest.approx(one["pp"])
    assert cmb(PLANCK | {"tau": [0.054]})["te"][0] == pytest.approx(one["te"])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"h": 0.9}, "h = 0.9 is outside the training's range, 0.6 to 0.76"),
        ({"tau": np.nan}, "tau = nan is outside"),
        ({"omega_k": 0.0}, "unknown parameter 'omega_k'"),
    ],
)
def test_what_it_does_not_know_is_refused(cmb, change, message):
    with pytest.raises(DeepfieldError, match=message):
        cmb(PLANCK | change)


def test_a_missing_parameter_is_named(cmb):
    with pytest.raises(DeepfieldError, match="n_s"):
        cmb({name: value for name, value in PLANCK.items() if name != "n_s"})


def test_other_emulators_are_refused():
    with pytest.raises(DeepfieldError, match="not of the spectra of the microwave background"):
        CMBSpectra("matter-power-miratitan")


def test_it_is_trained_on_a_table(tmp_path):
    """Spectra with peaks at multiples of the acoustic scale, of an amplitude and damping that are known."""

    def simulator(row):
        ell = np.arange(LARGEST + 1) + 0.1
        theta = acoustic_scale(row["omega_b_h2"], row["omega_c_h2"], row["h"])
        size = np.exp(row["ln_a_s"] - 2 * row["tau"]) * (ell / 550) ** (row["n_s"] - 1)
        tt = size * (1.5 + np.cos(ell * theta)) * np.exp(-((ell * theta / 25) ** 2))
        ee = size * (1.5 - np.cos(ell * theta)) * 0.02
        return np.stack([tt, 0.3 * np.sin(ell * theta) * np.sqrt(tt * ee), ee, 1e-9 * size / ell])

    room = {name: 0.02 * (high - low) for name, (low, high) in CMB_BOX.items()}
    ranges = {name: (low - room[name], high + room[name]) for name, (low, high) in CMB_BOX.items()}
    table = emulators.simulate(simulator, emulators.design(ranges, 40), output="cl")
    found = CMBSpectra.train(table, components=6)
    found.save(tmp_path / "model")
    again = CMBSpectra(tmp_path / "model")(PLANCK)
    truth = simulator(PLANCK)[:, 2:2501]
    rho = (again["te"] - truth[1]) / np.sqrt(truth[0] * truth[2])
    assert again["tt"][100:] == pytest.approx(truth[0, 100:], rel=0.02)
    assert rho[100:] == pytest.approx(0, abs=0.02)
