"""Expansion histories against astropy, published posteriors and chains of another code."""

import json
import os
from pathlib import Path

import astropy.cosmology
import numpy as np
import pytest

from deepfield import data
from deepfield.core.errors import DataError, DeepfieldError
from deepfield.inference.cosmology import Expansion, Measurement, measurement
from deepfield.inference.priors import Prior


def at_hand(name):
    try:
        return data.available(name)
    except DataError:
        return False


supernovae = pytest.mark.skipif(not at_hand("union3"), reason="the data are not at hand")


def test_what_a_universe_shows_is_what_astropy_says():
    desi = measurement("desi_dr2")
    peer = astropy.cosmology.FlatwCDM(70, 0.3, w0=-0.8, Tcmb0=0)
    shown = desi.expected({"omega_m": np.array([0.3]), "w": np.array([-0.8]), "h_r_d": np.array([0.7 * 147.0])})[0]
    z = desi.z
    transverse = peer.comoving_distance(z).value / 147
    radial = 299792.458 / peer.H(z).value / 147
    expected = {"DM": transverse, "DH": radial, "DV": np.cbrt(z * transverse**2 * radial)}
    assert np.allclose(shown, [expected[k][i] for i, k in enumerate(desi.kind)], rtol=1e-6)
    clocks = measurement("chronometers")
    rates = clocks.expected({"omega_m": np.array([0.3]), "w": np.array([-0.8]), "h": np.array([0.7])})[0]
    assert np.allclose(rates, peer.H(clocks.z).value, rtol=1e-6)


def test_compression_loses_nothing():
    """The likelihood of the compressed data differs from that of all data by a constant."""
    toy = Expansion("wcdm", ["desi_dr2"])
    (desi,) = toy.measurements
    near = toy.exact(400, seed=0)[0][::40]
    expected = desi.expected(dict(zip(toy.prior.names, near.T)))
    full = [-0.5 * (desi.value - e) @ np.linalg.solve(desi.covariance, desi.value - e) for e in expected]
    assert np.ptp(toy.log_likelihood(near) - full) < 0.02 and len(toy.observed) < len(desi.value)


def test_a_narrower_prior_makes_shorter_data_that_say_the_same():
    whole = Expansion("wcdm", ["desi_dr2"])
    near = whole.within(Prior({"omega_m": (0.25, 0.35), "w": (-1.2, -0.8), "h_r_d": (97.0, 106.0)}))
    theta = near.prior.sample(50, seed=0)
    assert np.ptp(near.log_likelihood(theta) - whole.log_likelihood(theta)) < 0.05
    assert len(near.observed) < len(whole.observed)
    with pytest.raises(DeepfieldError, match="the prior is one of omega_m, w, h_r_d, not of omega_m"):
        whole.within(Prior({"omega_m": (0.25, 0.35)}))


def test_desi_dr2_gives_what_its_paper_says():
    """arXiv:2503.14738, equation 17: omega_m 0.2975 +- 0.0086, h r_d 101.54 +- 0.73 Mpc in flat LCDM."""
    theta, chains = Expansion("lcdm", ["desi_dr2"]).exact(3000, seed=0)
    assert chains.mixed
    assert np.allclose(theta.mean(0), [0.2975, 101.54], atol=[0.0012, 0.12])
    assert np.allclose(theta.std(0), [0.0086, 0.73], rtol=0.07)


@supernovae
def test_supernovae_agree_with_chains_of_another_code():
    """Means and widths of a long MCMC (reference_posteriors.json beside the data)."""
    path = Path(os.environ["DEEPFIELD_DATA"]) / "inference" / "reference_posteriors.json"
    if not path.exists():
        pytest.skip("no reference at hand")
    reference = json.loads(path.read_text())["union3_wCDM"]
    theta, _ = Expansion("wcdm", ["union3"]).exact(4000, seed=0)
    mean, std = np.array(reference["mean"]), np.array(reference["std"])
    assert (np.abs(theta.mean(0) - mean) < 0.1 * std).all() and np.allclose(theta.std(0), std, rtol=0.06)


@supernovae
def test_the_zero_point_of_supernovae_does_not_matter():
    union = measurement("union3")
    moved = Measurement("moved", "", union.z, union.kind, union.value + 3.7, union.covariance, union.z_hel)
    toy, other = Expansion("lcdm", [union]), Expansion("lcdm", [moved])
    assert np.allclose(toy.observed, other.observed, atol=1e-6)
    noise = union.whitener() @ union.covariance @ union.whitener().T
    assert np.allclose(noise, np.eye(21), atol=1e-8)


def test_simulations_have_unit_noise():
    toy = Expansion("lcdm", ["chronometers"])
    theta = np.tile([[0.3, 0.7]], (4000, 1))
    x = toy.simulate(theta, seed=0)
    assert np.allclose(x.std(0), 1, atol=0.06) and np.allclose(x.mean(0), toy.expected(theta)[0], atol=0.08)
    assert not np.array_equal(x, toy.simulate(theta, seed=1))


def test_unknown_names():
    with pytest.raises(DeepfieldError, match="no measurement 'cmb'; there are: desi_dr2, chronometers, union3"):
        measurement("cmb")
    with pytest.raises(DeepfieldError, match="'lcdm' or 'wcdm'"):
        Expansion("owcdm", ["desi_dr2"])
