"""MatterPower against CAMB, its own units and limits, gradients, bad input."""

import astropy.units as u
import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.emulators import BOX, MatterPower
from deepfield.emulators.power import K_RANGE
from deepfield.physics.power import variance


def test_it_agrees_with_camb(power, camb):
    """The benchmark has the errors of the emulator on more cosmologies."""
    found = power(camb["theta"], camb["k"], camb["z"])
    error = found / camb["linear"] - 1
    assert error.shape == (4, 3, 80)
    assert np.sqrt((error**2).mean()) < 2.5e-4
    assert np.median(np.abs(error)) < 2e-4
    assert np.abs(error).max() < 8e-4


def test_the_nonlinear_spectrum_agrees_with_camb(camb):
    power = MatterPower(nonlinear=True)
    error = power(camb["theta"], camb["k"], camb["z"]) / camb["nonlinear"] - 1
    assert np.median(np.abs(error)) < 3e-4
    assert np.quantile(np.abs(error), 0.99) < 2e-3
    # The linear spectrum is far from it: there is something to find.
    assert np.abs(camb["linear"] / camb["nonlinear"] - 1).max() > 0.5


def test_what_the_nonlinear_spectrum_cannot_do(planck):
    power = MatterPower(nonlinear=True)
    with pytest.raises(DeepfieldError, match=r"k = 20 h/Mpc is outside the range, 0\.0001 to 10"):
        power(planck, [0.1, 20.0])
    with pytest.raises(DeepfieldError, match="laid out for the linear spectrum alone"):
        power.on([0.1])
    with pytest.raises(DeepfieldError, match="it has no gradients"):
        power(torch.tensor([list(planck.values())], dtype=torch.float64), [0.1])
    assert (power.error([0.1, 1.0]) > 0).all()


def test_growth_and_late_times_agree_with_camb(power, camb):
    """Ratios of redshifts are exact on small scales, and good to a thousandth near the horizon."""
    found = power(camb["theta"], camb["k"], camb["z"])
    ratio = (found[:, 1:] / found[:, :1]) / (camb["linear"][:, 1:] / camb["linear"][:, :1]) - 1
    small = camb["k"] > 0.005
    assert np.abs(ratio[..., small]).max() < 2e-4
    assert np.abs(ratio).max() < 1e-3
    # Without the late-time term it would be ten times that.
    assert np.abs(found[0, 2] / found[0, 0] / (found[0, 2, -1] / found[0, 0, -1]) - 1).max() > 1e-3


def test_sigma_8_is_what_was_asked_for(power, planck):
    k = np.geomspace(2e-4, 20, 3000)
    for one in (planck, dict(planck, omega_m=0.11, omega_b=0.069, h=0.55, n_s=1.15)):
        assert np.sqrt(variance(k, power(one, k), 8.0)) == pytest.approx(0.81, rel=1e-4)


def test_amplitude_and_tilt_enter_exactly(power, planck):
    k = np.array([0.01, 0.1, 1.0])
    base = power(planck, k)
    assert power(dict(planck, sigma_8=0.9), k) == pytest.approx(base * (0.9 / 0.81) ** 2, rel=1e-12)
    tilted = power(dict(planck, n_s=1.065), k) / base
    assert tilted[1] / tilted[0] == pytest.approx(10**0.1, rel=1e-9)


def test_what_is_accepted_as_a_cosmology(power, planck):
    astropy = pytest.importorskip("astropy.cosmology")
    k = np.array([0.1])
    one = power(planck, k)
    row = [planck[name] for name in BOX]
    assert one.shape == (1,) and power(row, k) == pytest.approx(one)
    assert power(np.array([row, row]), k, z=[0.0, 1.0]).shape == (2, 2, 1)
    assert power(dict(planck, h=[0.6, 0.7, 0.8]), k).shape == (3, 1)
    flat = astropy.FlatLambdaCDM(H0=68, Om0=0.31, Ob0=0.049, meta={"n": 0.965, "sigma8": 0.81})
    assert power(flat, k) == pytest.approx(one)
    with pytest.raises(DeepfieldError, match="knows no omega_b and no n_s and no sigma_8: give Ob0"):
        power(astropy.FlatLambdaCDM(H0=68, Om0=0.31), k)
    with pytest.raises(DeepfieldError, match="of flat LCDM, the cosmology is"):
        power(astropy.FlatwCDM(H0=68, Om0=0.31, Ob0=0.049, meta={"n": 0.965, "sigma8": 0.81}), k)


def test_gradients_are_those_of_differences(power, planck):
    theta = torch.tensor([[planck[name] for name in BOX]], dtype=torch.float64, requires_grad=True)
    k = np.array([0.05, 0.2, 2.0])
    spectra = power(theta, k, z=[0.0, 2.0])
    assert spectra.detach().numpy() == pytest.approx(power(planck, k, z=[0.0, 2.0])[None], rel=1e-9)
    spectra.log()[0, 1, 1].backward()
    for i, name in enumerate(BOX):
        step = 1e-4 * planck[name]
        up, down = (power(dict(planck, **{name: planck[name] + s}), k, z=2.0)[1] for s in (step, -step))
        assert float(theta.grad[0, i]) == pytest.approx(np.log(up / down) / (2 * step), rel=2e-3, abs=1e-4)


def test_single_precision_and_chunks_change_nothing(power):
    rng = np.random.default_rng(0)
    low, high = np.array(list(BOX.values())).T
    theta, k = rng.uniform(low, high, (300, 5)), np.geomspace(1e-4, 10, 50)
    many = power(theta, k, z=[0.0, 0.7])
    assert MatterPower(precision="single").on(k, [0.0, 0.7])(theta) == pytest.approx(many, rel=3e-4)
    assert power(theta[17], k, z=[0.0, 0.7]) == pytest.approx(many[17], rel=1e-9)
    assert np.isfinite(many).all() and (many >= 0).all()


@pytest.mark.parametrize(
    "change, message",
    [
        ({"omega_m": 0.6}, r"omega_m = 0.6 is outside the emulator's range, 0.1 to 0.5"),
        ({"omega_b": 0.4}, r"omega_b = 0.4 is outside the emulator's range, 0.03 to 0.07"),
        ({"h": float("nan")}, r"h = nan is outside"),
        ({"sigma_8": -1.0}, r"sigma_8 = -1 is outside"),
        ({"h": [0.7, 0.95, 0.99]}, r"h = 0.95 \(and 1 more\) is outside"),
        ({"w0": -1.0}, r"unknown parameter 'w0'"),
        ({"h": [0.7, 0.8], "n_s": [0.9, 1.0, 1.1]}, r"numbers or arrays of one length"),
    ],
)
def test_cosmologies_outside_the_box_are_refused(power, planck, change, message):
    with pytest.raises(DeepfieldError, match=message):
        power({**planck, **change}, [0.1])


def test_a_missing_parameter_is_named(power, planck):
    short = {("sigma8" if name == "sigma_8" else name): value for name, value in planck.items()}
    with pytest.raises(DeepfieldError, match=r"lacks 'sigma_8' \(sigma_8\); is 'sigma8' meant"):
        power(short, [0.1])
    with pytest.raises(DeepfieldError, match=r"cosmologies are \(N, 5\)"):
        power([0.3, 0.05], [0.1])


@pytest.mark.parametrize(
    "k, z, message",
    [
        ([0.1, 0.05], 0.0, "k should increase: sort it"),
        ([0.1, 0.1], 0.0, "k should increase"),
        ([0.1, float("nan")], 0.0, "k has NaN"),
        ([0.1, 0.2] / u.Mpc, 0.0, "not a Quantity in 1 / Mpc"),
        ([1e-5, 0.1], 0.0, "k = 1e-05 h/Mpc is outside the range, 0.0001 to 50"),
        ([0.1, 51.0], 0.0, "k = 51 h/Mpc is outside"),
        ([-0.1], 0.0, "k = -0.1 h/Mpc is outside"),
        ([], 0.0, "k is one array"),
        ([0.1], 3.5, "z = 3.5 is outside the emulator's range, 0 to 3"),
        ([0.1], [0.0, float("nan")], "z = nan is outside"),
        ([0.1], -0.1, "z = -0.1 is outside"),
    ],
)
def test_k_and_z_beyond_their_ranges_are_refused(power, planck, k, z, message):
    with pytest.raises(DeepfieldError, match=message):
        power(planck, k, z)


def test_the_stated_error_and_the_model(power, tmp_path):
    error = power.error(np.geomspace(*K_RANGE, 20))
    assert ((error > 1e-6) & (error < 0.05)).all()
    few, many = [0.3, 0.04, 0.7, 1, 0.8], [0.12, 0.06, 0.7, 1, 0.8]  # baryons
    shares = power.error([0.1, 1.0], [few, many])
    assert shares.shape == (2, 2)
    shares = MatterPower(nonlinear=True).error([0.1, 1.0], [few, many])
    assert (shares[1] > shares[0]).all()
    assert "CAMB" in power.card["truth"]
    with pytest.raises(ModelError, match="no model of the linear power spectrum"):
        MatterPower("matter-power-miratitan")
    with pytest.raises(DeepfieldError, match="precision is 'double' or 'single'"):
        MatterPower(precision="half")


def test_what_is_exact_goes_on_outside_the_box():
    far, k = MatterPower(extrapolate=True), np.geomspace(1e-3, 10, 40)
    inside = {"omega_m": 0.3, "omega_b": 0.05, "h": 0.7, "n_s": 1.0, "sigma_8": 0.8}
    plain, steep, low = far(inside, k), far({**inside, "n_s": 1.5}, k), far({**inside, "sigma_8": 0.4}, k)
    assert np.array_equal(plain, MatterPower()(inside, k))
    assert np.ptp(np.log(steep / plain) - 0.5 * np.log(k)) < 1e-8 and np.allclose(4 * low, plain, rtol=1e-12)
    fine = np.geomspace(1e-4, 50, 4000)
    assert variance(fine, far({**inside, "n_s": 1.5}, fine), 8.0) ** 0.5 == pytest.approx(0.8, rel=2e-4)
    with pytest.raises(DeepfieldError, match=r"n_s = 1\.5 is outside"):
        MatterPower()({**inside, "n_s": 1.5}, k)
    with pytest.raises(DeepfieldError, match=r"omega_m = 0\.7 is outside"):
        far({**inside, "omega_m": 0.7}, k)
    with pytest.raises(DeepfieldError, match="for the linear spectrum"):
        MatterPower(nonlinear=True, extrapolate=True)
