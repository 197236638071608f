"""The wide matter power spectrum, against CAMB (benchmarks/emulators_wide.py made the file)."""

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import CubicSpline

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.emulators import WIDE_BOX, WidePower, sigma, wide
from deepfield.emulators.growth import growth as narrow_growth
from deepfield.physics.hmcode import hmcode
from deepfield.physics.power import growth as growth_without_radiation


@pytest.fixture(scope="module")
def boltzmann():
    with np.load(Path(__file__).with_name("wide.npz")) as file:
        return {name: file[name] for name in file.files}


@pytest.fixture(scope="module")
def linear():
    return WidePower()


@pytest.fixture(scope="module")
def curved():
    return WidePower(nonlinear=True)


def heated(boltzmann):
    names = dict(zip(WIDE_BOX, boltzmann["theta"].T))
    return Table({**names, "log_t_agn": boltzmann["log_t_agn"]})


def test_growth_of_lcdm_and_of_dark_energy():
    theta = np.array([[0.3, 0.05, 0.7, 0.0, -1.0, 0.0], [0.3, 0.05, 0.7, 0.0, -0.8, -0.4]])
    z = np.array([0.0, 1.0, 3.0])
    found = wide.growth(z, theta)
    found /= found[:, :1]
    assert found[0] == pytest.approx(narrow_growth(z, 0.3, 0.7)[0], rel=2e-4)
    # Radiation takes its part, some parts in a thousand.
    assert found[1] == pytest.approx(growth_without_radiation(z, 0.3, -0.8, -0.4)[0], rel=3e-3)


def test_sound_horizons_with_neutrinos_are_those_of_camb():
    # CAMB 2.0.5: rdrag of omega_b_h2 = 0.0224, omega_c_h2 = 0.12 with 0.3 eV over that with 0.03 eV.
    found = wide._horizon(*(np.full(2, v) for v in (0.1424, 0.0224)), np.array([0.3, 0.03]))
    assert found[0] / found[1] == pytest.approx(147.0088007 / 147.0658045, rel=1e-4)


def test_linear_spectra_are_those_of_camb(linear, boltzmann):
    found = linear(boltzmann["theta"], boltzmann["k"], boltzmann["z"]) / boltzmann["linear"]
    small = boltzmann["k"] > 0.005
    assert found[..., small] == pytest.approx(1, abs=0.005)
    assert found == pytest.approx(1, abs=0.015)


def test_nonlinear_spectra_are_those_of_camb(curved, boltzmann):
    found = curved(boltzmann["theta"], boltzmann["k_nonlinear"], boltzmann["z"])
    small = boltzmann["k_nonlinear"] > 0.005
    assert (found / boltzmann["nonlinear"])[..., small] == pytest.approx(1, abs=0.015)
    hot = curved(heated(boltzmann), boltzmann["k_nonlinear"], boltzmann["z"])
    assert (hot / boltzmann["feedback"])[..., small] == pytest.approx(1, abs=0.015)
    assert np.abs(hot / found - 1).max() > 0.05


def test_feedback_alone_is_that_of_camb(curved, boltzmann):
    """The response, in which the linear spectrum almost cancels."""
    k, z = boltzmann["k_nonlinear"], boltzmann["z"]
    response = curved(heated(boltzmann), k, z) / curved(boltzmann["theta"], k, z)
    assert response == pytest.approx(boltzmann["feedback"] / boltzmann["nonlinear"], abs=2e-3)


def test_the_halo_model_alone_is_that_of_camb(boltzmann):
    """With CAMB's own linear spectrum beneath it, as well as it can be interpolated from these wavenumbers."""
    theta = dict(zip(WIDE_BOX, boltzmann["theta"][0]))
    line = CubicSpline(np.log(boltzmann["k"]), np.log(boltzmann["linear"][0]), axis=1)
    share = theta["m_nu"] / 93.04 / (theta["omega_m"] * theta["h"] ** 2)
    given = [theta[name] for name in ("omega_m", "omega_b", "h", "n_s")]
    more = {"w0": theta["w_0"], "wa": theta["w_a"], "f_nu": share, "log_t_agn": boltzmann["log_t_agn"][0]}
    found = hmcode(
        boltzmann["k_nonlinear"], lambda q: np.exp(line(np.log(np.minimum(q, 50)))), *given, boltzmann["z"], **more
    )
    beyond = boltzmann["k_nonlinear"] > 1
    assert (found / boltzmann["feedback"][0])[:, beyond] == pytest.approx(1, abs=5e-3)


def test_without_extras_it_is_the_narrow_one(linear, power, planck):
    k = np.geomspace(0.005, 10, 50)
    assert linear(planck, k, [0.0, 1.0]) == pytest.approx(power(planck, k, [0.0, 1.0]), rel=4e-3)
    assert linear({**planck, "m_nu": 0.0, "w_0": -1.0}, k) == pytest.approx(linear(planck, k))


def test_sigma_8_is_that_asked_for(linear, planck):
    assert sigma(linear, {**planck, "m_nu": 0.3, "w_a": -0.5}, 8.0) == pytest.approx(0.81, rel=1e-3)


def test_neutrinos_suppress_small_scales(linear, planck):
    """By about eight times their share of the matter (Hu, Eisenstein & Tegmark 1998), large scales being equal."""
    k = np.array([0.001, 1.0])  # well on both sides of the scales of free streaming
    ratio = linear({**planck, "m_nu": 0.1}, k) / linear(planck, k)
    share = 0.1 / 93.04 / (0.31 * 0.68**2)
    assert 1 - ratio[1] / ratio[0] == pytest.approx(8 * share, rel=0.3)


def test_errors_have_the_shape_of_spectra(linear, curved, planck):
    k = np.geomspace(1e-3, 5, 20)
    for power in (linear, curved):
        found = power.error({**planck, "m_nu": [0.1, 0.2]}, k, [0.0, 1.0])
        assert found.shape == (2, 2, 20) and (found > 0).all() and (found < 0.1).all()
        assert power.error(planck, k).shape == (20,)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"m_nu": 0.7}, "m_nu = 0.7 is outside the training's range, 0 to 0.6"),
        ({"w_0": -0.5, "w_a": 0.4}, "w_0 \\+ w_a = -0.1 is above -0.3"),
        ({"w0": -0.9}, "unknown parameter 'w0'"),
        ({"log_t_agn": 7.8}, "log_t_agn is of the nonlinear spectrum"),
        ({"omega_m": 0.12}, "omega_m = 0.12 is outside"),
        ({"h": np.nan}, "h = nan is outside"),
    ],
)
def test_what_it_does_not_know_is_refused(linear, planck, change, message):
    with pytest.raises(DeepfieldError, match=message):
        linear({**planck, **change}, [0.1])


def test_feedback_beyond_the_fit_is_refused(curved, planck):
    with pytest.raises(DeepfieldError, match="log_t_agn = 9 is outside"):
        curved({**planck, "log_t_agn": 9.0}, [0.1])
    with pytest.raises(DeepfieldError, match="k = 20"):
        curved(planck, [20.0])


def test_other_emulators_are_refused():
    with pytest.raises(DeepfieldError, match="not of the wide power spectrum"):
        WidePower("matter-power-miratitan")


def test_it_is_trained_on_a_table(tmp_path, planck):
    """On the closed form with a tilt that grows with the mass of neutrinos."""
    points = Table(np.random.default_rng(0).uniform(size=(40, 6)), names=list(wide.FEATURES))
    for name in wide.FEATURES:
        low, high = WIDE_BOX[name]
        points[name] = low + (high - low) * points[name]
    points["w_a"] = -1.0
    points["w_a"] += 0.2 * points["h"]
    theta = np.stack([points.column(name) for name in wide.FEATURES], -1)
    bend = np.exp(0.1 * theta[:, 3, None, None] * np.log1p(wide.K_NODES))
    points["transfer"] = (wide.base(theta, wide.K_NODES, wide.Z_NODES) * bend).reshape(len(points), -1)
    WidePower.train(points, components=6).save(tmp_path / "model")
    power = WidePower(tmp_path / "model")
    k = np.array([0.1, 10.0])
    light, heavy = (power({**planck, "m_nu": m, "w_a": -0.85}, k) for m in (0.1, 0.5))
    row = np.array([[planck["omega_m"], planck["omega_b"], planck["h"], m, -1.0, -0.85] for m in (0.1, 0.5)])
    known = wide.base(row, k, 0.0)[:, 0] * np.exp(0.1 * row[:, 3, None] * np.log1p(k))
    known = (known[:, 1] / known[:, 0]) ** 2
    assert heavy[1] / heavy[0] / (light[1] / light[0]) == pytest.approx(known[1] / known[0], rel=3e-3)
