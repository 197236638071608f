"""Posteriors: quantiles of the samples, calibration that covers, angles over their seam, masses."""

import copy

import numpy as np
import pytest
import torch

from deepfield import lensing
from deepfield.core.calibrators import PITMap
from deepfield.core.errors import DeepfieldError
from deepfield.lensing.measurement import LEVELS, Measurement
from deepfield.lensing.parameters import UNITS
from deepfield.physics.lensing import einstein_mass


@pytest.fixture(scope="module")
def found(measurer, lenses):
    return lensing.measure(measurer, lenses(60, seed=13, lens_fraction=1.0), samples=400)


def test_quantiles_are_those_of_the_samples(found):
    plain = copy.copy(found.model)
    plain.pit_maps = {}
    bare = Measurement(plain, found.features, found.reasons, samples=400)
    for name in UNITS:
        expected = np.quantile(bare.samples[name], [0.1, 0.5, 0.9], axis=0, method="weibull")
        np.testing.assert_allclose(bare.quantile(name, [0.1, 0.5, 0.9]), expected, rtol=1e-6)
    assert bare.samples["q"].min() > 0 and bare.samples["q"].max() <= 1


def test_a_calibration_moves_quantiles(found):
    moved = copy.copy(found.model)
    moved.pit_maps = {"theta_e": PITMap([0.0, 0.5, 1.0], [0.2, 1.8, 0.2])}  # truths lie more in the middle
    own = Measurement(moved, found.features, found.reasons, samples=400)
    plain = copy.copy(moved)
    plain.pit_maps = {}
    bare = Measurement(plain, found.features, found.reasons, samples=400)
    one, two = (np.subtract(*m.interval("theta_e", 0.68)[::-1]) for m in (own, bare))
    assert (one < 0.85 * two).all()
    truth = own.coordinates[7]  # a draw from each
    pit = {m: x.pit(truth)["theta_e"] for m, x in {"own": own, "bare": bare}.items()}
    np.testing.assert_allclose(pit["own"], moved.pit_maps["theta_e"].forward(pit["bare"]))


def test_draws_from_the_posterior_have_uniform_pit(found):
    plain = copy.copy(found.model)
    plain.pit_maps = {}
    bare = Measurement(plain, found.features, found.reasons, samples=400)
    values = {name: [] for name in UNITS}
    for k in range(0, 400, 10):
        for name, v in bare.pit(bare.coordinates[k]).items():
            values[name].extend(v)
    for name, v in values.items():
        assert np.abs(np.quantile(v, [0.16, 0.5, 0.84]) - [0.16, 0.5, 0.84]).max() < 0.03, name


def test_columns_are_in_order_and_masses_follow_the_radius(found, lenses):
    columns = found.columns()
    assert set(columns) == {f"{name}_{suffix}" for name in UNITS for suffix in LEVELS}
    assert (np.diff([columns[f"theta_e_{s}"] for s in LEVELS], axis=0) >= 0).all()
    mass = found.einstein_mass(0.4, 1.5, [0.16, 0.5])
    np.testing.assert_allclose(mass[1], einstein_mass(found.quantile("theta_e", 0.5), 0.4, 1.5))
    far = np.full(60, 1.5)
    far[7] = 0.3
    with pytest.raises(DeepfieldError, match=r"behind the lens.* z_lens 0.4 and z_source 0.3 in row 7"):
        found.einstein_mass(0.4, far)
    far[7] = np.nan
    assert np.flatnonzero(np.isnan(found.einstein_mass(0.4, far))).tolist() == [7]
    with pytest.raises(DeepfieldError, match="60 measurements need as many redshifts"):
        found.einstein_mass(0.4, far[:5])


def test_one_lens_of_a_posterior_is_a_draw_near_its_median(found):
    lens = found.lens(4)
    mass, shear = (d.parameters for d in lens.deflectors)
    draws = {name: v[:, 4] for name, v in found.samples.items()}
    k = int(np.abs(draws["theta_e"] - float(mass["theta_e"])).argmin())
    assert float(mass["theta_e"]) == pytest.approx(draws["theta_e"][k])
    assert float(mass["q"]) == pytest.approx(draws["q"][k])
    assert np.cos(2 * (float(mass["phi"]) - np.deg2rad(draws["phi"][k]))) == pytest.approx(1)
    turn = np.deg2rad(2 * draws["shear_phi"][k])
    assert float(shear["gamma1"]) == pytest.approx(draws["shear"][k] * np.cos(turn))
    assert float(shear["gamma2"]) == pytest.approx(draws["shear"][k] * np.sin(turn))
    low, high = np.quantile(draws["theta_e"], [0.16, 0.84])
    assert low < float(mass["theta_e"]) < high
    with pytest.raises(DeepfieldError, match="there is no row 60 among 60 lenses"):
        found.lens(60)


def test_broken_rows_stay_rows_and_bad_questions_are_told(found):
    features = found.features.clone()
    features[3] = torch.nan
    some = Measurement(found.model, features, found.reasons, samples=50)
    assert np.isnan(some.quantile("theta_e", 0.5)).nonzero()[0].tolist() == [3]
    assert np.isnan(some.einstein_mass(0.4, 1.5, [0.2, 0.5])).nonzero()[1].tolist() == [3, 3]
    assert np.isnan(some.pit(found.coordinates[0])["phi"]).nonzero()[0].tolist() == [3]
    with pytest.raises(DeepfieldError, match="no lens is measured in row 3: the image is broken"):
        some.lens(3)
    with pytest.raises(DeepfieldError, match="a lens has no 'mass'"):
        some.quantile("mass", 0.5)
    with pytest.raises(DeepfieldError, match="60 measurements need as many truths"):
        some.pit(found.coordinates[0, :5])
    with pytest.raises(DeepfieldError, match="two samples at least"):
        Measurement(found.model, features, found.reasons, samples=1)
