"""Template fit and nearest neighbours on simulated catalogues of known truth, and on broken input."""

import numpy as np
import pytest

from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.core.table import Table
from deepfield.photoz.classical import NearestNeighbours, TemplateFit
from deepfield.photoz.gridded import log_score, normalise, redshift_grid
from deepfield.photoz.prior import MagnitudePrior, benitez_prior, fit_prior
from deepfield.photoz.simulate import simulate
from deepfield.physics.photometry import flux, magnitude
from deepfield.physics.templates import galaxy_templates

METHODS = [TemplateFit, NearestNeighbours]


@pytest.fixture(scope="module")
def catalogues():
    return [simulate(n, survey="sdss", mag_limit=19.0, seed=i) for i, n in enumerate((1500, 300, 400))]


@pytest.fixture(scope="module", params=METHODS)
def fitted(request, catalogues):
    return request.param().fit(*catalogues[:2])


def nmad(estimate, truth):
    dz = (estimate - truth) / (1 + truth)
    return 1.4826 * np.median(np.abs(dz - np.median(dz)))


def test_redshifts_are_recovered_with_honest_densities(fitted, catalogues):
    test = catalogues[2]
    prediction = fitted.predict(test)
    assert isinstance(prediction, Prediction) and len(prediction) == len(test)
    truth = test.column("z_spec")
    assert nmad(prediction.median, truth) < 0.03
    low, high = prediction.interval(0.6827)
    assert 0.58 < ((low <= truth) & (truth <= high)).mean() < 0.88
    pdf = fitted.pdf(test)
    np.testing.assert_allclose(np.trapezoid(pdf, fitted.grid, axis=1), 1.0, rtol=1e-9)
    assert (pdf >= 0).all()


def test_gaps_and_non_detections_are_served(fitted, catalogues):
    test = catalogues[2][:40].copy()
    test["mag_u"][:20] = np.inf
    test["mag_err_u"][:20] = np.nan
    test["mag_g"][10:30] = np.nan
    test["mag_z"][30] = np.nan
    for band in "ugriz":
        test[f"mag_{band}"][39] = np.nan
    pdf = fitted.pdf(test)
    assert np.isfinite(pdf).all()
    np.testing.assert_allclose(np.trapezoid(pdf, fitted.grid, axis=1), 1.0, rtol=1e-9)
    whole = fitted.pdf(catalogues[2][31:39])
    np.testing.assert_allclose(pdf[31:39], whole, rtol=1e-6)
    # less is known without a band, nothing beyond the sample itself without all of them
    grid = fitted.grid
    mean = np.trapezoid(pdf * grid, grid, axis=1)[:, None]
    spread = np.sqrt(np.trapezoid(pdf * (grid - mean) ** 2, grid, axis=1))
    assert spread[39] > np.median(spread[31:39])


@pytest.mark.parametrize("method", METHODS)
def test_without_magnitude_errors(method, catalogues):
    train, val, test = (t[[c for c in t.colnames if "err" not in c]] for t in catalogues)
    estimate = method().fit(train[:600], val[:100]).predict(test[:200]).median
    assert nmad(estimate, test.column("z_spec")[:200]) < 0.06


@pytest.mark.parametrize("method", METHODS)
def test_same_input_same_answer_and_own_grid(method, catalogues):
    train, val, test = catalogues
    grid = np.linspace(0, 0.8, 101)
    first, second = (method(grid=grid).fit(train[:300], val[:50]).pdf(test[:20]) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (20, 101)


@pytest.mark.parametrize("method", METHODS)
def test_validation_rows_are_optional(method, catalogues):
    assert method().fit(catalogues[0][:200]).pdf(catalogues[2][:3]).shape == (3, 401)


@pytest.mark.parametrize("method", METHODS)
def test_errors_say_what_to_do(method, catalogues):
    train = catalogues[0][:50]
    with pytest.raises(DeepfieldError, match="fit"):
        method().pdf(train)
    with pytest.raises(DeepfieldError, match="no column 'redshift'"):
        method().fit(train, target="redshift")
    with pytest.raises(ValueError, match="mag_<band>"):
        method(bands=("u", "q")).fit(train)
    blank = train.copy()
    blank["z_spec"] = np.nan
    with pytest.raises(DeepfieldError, match="no finite redshift"):
        method().fit(blank)


def test_template_fit_options_say_what_they_are(catalogues):
    with pytest.raises(DeepfieldError, match="'fit', 'benitez' or 'flat'"):
        TemplateFit(prior="none")
    odd = Table({"mag_a": [20.0, 21.0], "mag_b": [20.0, 21.0], "z_spec": [0.1, 0.2]})
    with pytest.raises(ValueError, match="pass survey="):
        TemplateFit().fit(odd)


def test_noise_free_templates_are_found_exactly():
    from deepfield.physics.filters import survey_filters

    rng = np.random.default_rng(1)
    z = rng.uniform(0.05, 1.2, 60)
    kind = rng.integers(0, 8, 60)
    filters = survey_filters("lsst")
    exact = galaxy_templates().photometry(filters, z)[np.arange(60), kind]
    exact = exact / exact[:, 3:4] * flux(20.0)
    table = Table({f"mag_{band}": magnitude(exact[:, i]) for i, band in enumerate("ugrizy")})
    for band in "ugrizy":
        table[f"mag_err_{band}"] = 0.01
    table["z_spec"] = z
    fit = TemplateFit(prior="flat", offsets=False, floor=0.01, grid=np.linspace(0, 1.5, 601)).fit(table)
    mode = fit.grid[fit.pdf(table).argmax(1)]
    assert np.mean(np.abs(mode - z) < 0.01) > 0.95


def test_offsets_of_a_miscalibrated_survey_are_found(catalogues):
    train, val = (t.copy() for t in catalogues[:2])
    shifts = {"u": 0.12, "g": -0.08, "r": 0.0, "i": 0.05, "z": -0.09}
    plain = TemplateFit().fit(train, val).offsets
    for table in (train, val):
        for band, shift in shifts.items():
            table[f"mag_{band}"] = table[f"mag_{band}"] + shift
    found = -2.5 * np.log10(TemplateFit().fit(train, val).offsets / plain)
    # A tilt of the offsets from blue to red is partly absorbed by the templates, whatever the number of rows.
    np.testing.assert_allclose(found, list(shifts.values()), atol=0.05)


def test_quasars_join_the_templates():
    train, val, test = (simulate(300, survey="sdss", mag_limit=20.0, quasars=0.5, seed=i) for i in range(3))
    pz = TemplateFit().fit(train, val).predict(test)
    quasar = np.asarray(test["class"] == "QSO")
    dz = np.abs(pz.mode - test.column("z_spec")) / (1 + test.column("z_spec"))
    assert (dz[quasar] < 0.15).mean() > 0.5 and (dz[~quasar] < 0.15).mean() > 0.8


def test_neighbours_of_themselves():
    table = simulate(400, survey="sdss", seed=4)
    fit = NearestNeighbours(neighbours=(1,)).fit(table, table)
    estimate = fit.grid[fit.pdf(table).argmax(1)]
    assert np.abs(estimate - table.column("z_spec")).max() < 0.01


def test_fewer_rows_than_neighbours():
    table = simulate(6, survey="sdss", seed=4)
    assert np.isfinite(NearestNeighbours().fit(table, table).pdf(table)).all()
    with pytest.raises(DeepfieldError, match="at least two"):
        NearestNeighbours().fit(table[:1], table)


def test_benitez_prior_is_normalised_and_published():
    prior, grid = benitez_prior(), np.linspace(1e-4, 12, 6000)
    density = np.exp(prior([20.0, 23.0, 26.0, np.inf, np.nan, 15.0], grid))
    np.testing.assert_allclose(np.trapezoid(density.sum(1), grid), 1.0, atol=0.02)
    share = np.trapezoid(density, grid)
    assert share[0] == pytest.approx([0.35, 0.50, 0.15], abs=0.01)
    # as BPZ and RAIL have it: f exp(-k (m - 20)) with k = 0.450 for ellipticals and 0.147 for spirals
    early, spiral = 0.35 * np.exp(-0.450 * 3), 0.50 * np.exp(-0.147 * 3)
    assert share[1] == pytest.approx([early, spiral, 1 - early - spiral], abs=0.01)
    # Benitez (2000): irregulars take over at faint magnitudes and ellipticals peak at z_m = 0.431 + 0.091 (m - 20)
    assert share[2].argmax() == 2
    assert grid[density[1, 0].argmax()] == pytest.approx(0.431 + 3 * 0.091, abs=0.01)
    np.testing.assert_allclose(density[5], density[0])


def test_fit_prior_recovers_its_own_form():
    rng = np.random.default_rng(0)
    mag = rng.uniform(18, 22, 3000)
    truth = MagnitudePrior(
        *(np.array(v) for v in ([2.2, 1.5], [0.35, 0.5], [0.06, 0.10], [0.6, 0.4], [0.3, -0.2]))
    )
    grid = np.linspace(0.001, 3, 800)
    density = np.exp(truth(mag, grid)).reshape(mag.size, -1)
    chosen = (np.cumsum(density / density.sum(1, keepdims=True), 1) < rng.random((mag.size, 1))).sum(1)
    kind, place = np.divmod(np.minimum(chosen, 2 * grid.size - 1), grid.size)
    fit = fit_prior(mag, grid[place], np.eye(2)[kind])
    np.testing.assert_allclose(fit.alpha, truth.alpha, rtol=0.12)
    np.testing.assert_allclose(fit.slope, truth.slope, atol=0.02)
    np.testing.assert_allclose(fit.z0 + (20 - fit.m_ref) * fit.slope, truth.z0, atol=0.03)
    np.testing.assert_allclose(fit.decay[0] - fit.decay[1], 0.5, atol=0.12)


def test_gridded_helpers():
    grid = redshift_grid([0.5], 11)
    assert grid[0] == 0 and grid[-1] == pytest.approx(0.525)
    pdf = normalise(np.ones((2, 11)), grid)
    assert log_score(pdf, grid, np.array([0.1, 0.3])) == pytest.approx(-np.log(0.525))
