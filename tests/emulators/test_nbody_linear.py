"""The linear spectrum with w0, wa and neutrinos against CAMB, at cosmologies that it was not trained on."""

from pathlib import Path

import numpy as np
import pytest

from deepfield.emulators.nbody_linear import LinearPower


@pytest.fixture(scope="module")
def truth():
    with np.load(Path(__file__).parent / "camb_miratitan.npz") as file:
        return {name: file[name] for name in file.files}


def errors(power, truth):
    spectra, rates = power.on(truth["theta"], truth["z"]), truth["theta"][:, 3]
    found = np.stack([spectra(truth["k"] / h)[i] / h**3 for i, h in enumerate(rates)])
    return np.abs(found / truth["linear"] - 1)


def test_it_is_near_the_boltzmann_code(truth):
    error, plain = errors(LinearPower.load(), truth), errors(LinearPower(), truth)
    large = truth["k"] < 0.01
    assert np.median(error) < 0.002 and error[..., ~large].max() < 0.01
    assert error[..., large].max() < 0.05 < plain[..., large].max()


def test_the_amplitude_is_the_one_asked_for(truth):
    sigma = LinearPower.load().sigma(truth["theta"], [0.0, 2.0])
    assert sigma[:, 0] == pytest.approx(truth["theta"][:, 2], rel=1e-6)
    assert (sigma[:, 1] < 0.6 * sigma[:, 0]).all()


def test_redshifts_between_those_of_the_training_follow_the_growth(truth):
    power, k = LinearPower.load(), np.array([0.1])
    spectra = power.on(truth["theta"], np.linspace(0, 2, 41))(k)[..., 0]
    assert (np.diff(spectra, axis=1) < 0).all()
    assert np.abs(np.diff(np.log(spectra), 3, axis=1)).max() < 2e-3  # no wiggles between the nodes
