"""Cosmic shear against CAMB (benchmarks/inference_shear.py reference), simulated skies and bad input."""

from pathlib import Path

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.emulators import MatterPower
from deepfield.inference.priors import Prior
from deepfield.inference.shear import BOUNDS, FIDUCIAL, CosmicShear, Survey, lsst_y1
from deepfield.physics.limber import shear_factor

CAMB = np.load(Path(__file__).parent / "shear.npz")


@pytest.fixture(scope="module")
def world():
    return CosmicShear(MatterPower(), lsst_y1(2), runs=256)


def fiducial(world, **changes):
    start = {**dict.fromkeys(world.prior.names, 0.0), **FIDUCIAL}
    return np.array([[*(start | changes).values()]])


def test_spectra_are_those_of_camb():
    """Of five bins, from the nonlinear emulator: its own error is a part in a thousand."""
    world = CosmicShear(MatterPower(nonlinear=True), runs=32)
    (i, j), ell = world.pairs.T, world.survey.ell
    plain, aligned = (
        world.mean(fiducial(world, a_ia=a), direct=True).reshape(len(i), -1) / shear_factor(ell)
        for a in (0.0, 1.0)
    )
    assert np.allclose(plain, CAMB["plain"][i, j], rtol=2e-3)
    # Alignment takes a half of some; what is left is a difference.
    assert (np.abs(aligned - CAMB["aligned"][i, j]) < 4e-3 * CAMB["plain"][i, j]).all()
    # CAMB's own lensing sources, three of the bins, with the factor of convergence and not of shear.
    every_other = (i % 2 == 0) & (j % 2 == 0)
    convergence = plain * ell**2 * (ell + 1) ** 2 / (ell + 0.5) ** 4
    assert np.allclose(
        convergence[every_other], CAMB["sources"][i[every_other] // 2, j[every_other] // 2], rtol=5e-3
    )
    off = (plain - CAMB["plain"][i, j]).ravel()
    assert np.sqrt(off @ np.linalg.solve(world.covariance, off)) < 0.2  # in units of the noise


def test_polynomials_are_near_the_spectrum_itself(world):
    theta = world.prior.sample(30, seed=1)
    theta[:, 5] = 0  # alignment can take spectra through zero
    fit, truth = world.mean(theta), world.mean(theta, direct=True)
    assert np.sqrt(((fit / truth - 1) ** 2).mean()) < 0.01


def test_covariance_is_that_of_gaussian_skies():
    """One band: the scatter of spectra of correlated harmonics, as many as the band has on so little sky."""
    survey = Survey(**{**vars(lsst_y1(2)), "area": 412.53, "edges": np.array([90.0, 110.0])})
    world = CosmicShear(MatterPower(), survey, runs=32)
    c11, c12, c22 = world.mean(fiducial(world))[0]
    total = np.array([[c11, c12], [c12, c22]]) + np.diag(survey.noise)
    modes = round((110**2 - 90**2) * 0.01)
    sky = np.random.default_rng(0).multivariate_normal([0, 0], total, (20_000, modes))
    found = np.einsum("smi,smj->sij", sky, sky)[:, [0, 0, 1], [0, 1, 1]] / modes
    assert np.allclose(np.cov(found.T), world.covariance, rtol=0.06)
    assert world.covariance[0, 0] == pytest.approx(2 / modes * total[0, 0] ** 2, rel=1e-4)  # Knox (1995)


def test_survey_is_that_of_the_document():
    survey = lsst_y1()
    counts = np.trapezoid(survey.n_of_z, survey.z)
    assert np.allclose(counts, counts.mean(), rtol=0.03)  # some of the last are beyond z = 3
    steradian = 2 * (60 * 180 / np.pi) ** 2  # two sources for each square arcminute
    assert np.allclose(survey.noise, 0.26**2 / steradian, rtol=0.03)
    assert (np.diff(survey.mean_z) > 0).all() and len(survey.ell) == 12


def test_compression_loses_nothing(world):
    theta = world.prior.sample(400, seed=2)
    off = world.data - world.mean(theta)
    full = -0.5 * (off * np.linalg.solve(world.covariance, off.T).T).sum(1)
    near = full > full.max() - 1000  # of hundreds of thousands
    assert near.sum() > 1 and np.ptp((world.log_likelihood(theta) - full)[near]) < 1.0
    assert np.allclose(world.compress(world.data), world.observed)
    bounds = world.prior.support()
    bounds[0], bounds[4] = (0.3, 0.33), (0.8, 0.86)
    narrow = world.within(world.prior.cut(bounds))
    theta = narrow.prior.sample(40, seed=3)
    assert len(narrow.observed) < len(world.observed)
    assert np.ptp(narrow.log_likelihood(theta) - world.log_likelihood(theta)) < 0.5


def test_directions(world):
    base = world.mean(fiducial(world))
    assert (world.mean(fiducial(world, sigma_8=0.86)) > base).all()
    assert (
        world.mean(fiducial(world, shift_1=0.02))[:, :24] > base[:, :24]
    ).all()  # farther sources, more lensing
    assert np.allclose(world.mean(fiducial(world, shift_1=0.02))[:, 24:], base[:, 24:])
    assert (world.mean(fiducial(world, a_ia=1.0)) < base).all()


def test_bad_input(world):
    with pytest.raises(DeepfieldError, match=r"sigma_8 = 1\.2 is outside the prior's bounds"):
        world.mean(fiducial(world, sigma_8=1.2))
    shifts = {f"shift_{i}": {"normal": [0, 0.002]} for i in (1, 2)}
    cases = [
        ({**BOUNDS, "h": (0.3, 0.9), **shifts}, "h = .* is outside the emulator's range"),
        ({**BOUNDS, "h": {"normal": [0.7, 0.1]}, **shifts}, "needs bounds"),
        (dict(BOUNDS), "the prior is one of omega_m, .*, shift_2, not of"),
    ]
    for prior, words in cases:
        with pytest.raises(DeepfieldError, match=words):
            CosmicShear(MatterPower(), lsst_y1(2), prior=Prior(prior), runs=32)
    with pytest.raises(DeepfieldError, match="too few for a polynomial"):
        CosmicShear(MatterPower(), runs=5)
    with pytest.raises(DeepfieldError, match="data are 36 spectra"):
        CosmicShear(MatterPower(), lsst_y1(2), runs=32, data=[1.0])
    z = np.linspace(0, 3, 20)
    wrong = [
        ({"z": z[::-1]}, "increase"),
        ({"n_of_z": np.ones(20)}, r"\(bins, S\)"),
        ({"n_of_z": np.zeros((1, 20))}, "each bin has sources"),
        ({"edges": np.array([30.0, 30.0])}, "whole numbers"),
        ({"area": 5e4}, "the area"),
    ]
    for changes, words in wrong:
        with pytest.raises(DeepfieldError, match=words):
            Survey(**({"z": z, "n_of_z": np.ones((1, 20))} | changes))
