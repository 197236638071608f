"""The map of structured targets: found only where there is structure, exact as a change of variables."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from deepfield.core.errors import ModelError
from deepfield.core.heads import Ensemble, GaussianMixture, build_head
from deepfield.core.model import Model, ensemble, members
from deepfield.core.prediction import Prediction
from deepfield.core.warp import Warped, find_structure, interpolate

WALLS = np.array([0.2, 0.35, 0.37, 0.6, 0.9])


def walls(n, seed, width=0.001):
    """Half of the targets in five walls, half spread evenly."""
    rng = np.random.default_rng(seed)
    inside = rng.random(n) < 0.5
    return np.where(inside, rng.choice(WALLS, n) + width * rng.normal(size=n), rng.uniform(0.05, 1.1, n))


def density(z, width=0.001):
    return 0.1 * norm.pdf(z[:, None], WALLS, width).sum(1) + 0.5 / 1.05


def head_of(pieces=3, seed=0):
    knots, values, _ = find_structure(walls(4000, 0))
    head = Warped(GaussianMixture(pieces), len(knots)).set_map(knots, values)
    head.fit_target(torch.tensor(walls(4000, 0)))
    features = torch.randn(6, head.n_features, generator=torch.Generator().manual_seed(seed))
    return head, features


def test_walls_are_found_where_they_are():
    knots, values, _ = find_structure(walls(4000, 0))
    slope = np.diff(values) / np.diff(knots)
    middle = 0.5 * (knots[1:] + knots[:-1])
    heights = np.interp(WALLS, middle, slope)
    assert heights.min() > 3 * np.median(slope)
    # What it gains on fresh targets, against the true density's gain.
    fresh = walls(4000, 1)
    gain = np.log(np.interp(fresh, middle, slope)).mean()
    ideal = np.log(density(fresh) * 1.05).mean()  # over an even density
    assert 0.8 * ideal < gain < 1.05 * ideal


@pytest.mark.parametrize(
    "target",
    [
        np.random.default_rng(0).gamma(3.0, 0.2, 3000),
        np.concatenate([np.random.default_rng(1).normal(m, 0.1, 1500) for m in (0.3, 1.2)]),
        np.full(500, 0.5),
        np.random.default_rng(2).uniform(size=120),
        np.random.default_rng(3).gamma(3.0, 0.2, 50_000).round(2),
        np.random.default_rng(8).gamma(4.0, 0.1, 20_000).round(3),
        np.concatenate([np.random.default_rng(6).gamma(4.0, 0.03, 7000), np.linspace(1, 7, 25)]),
        np.random.default_rng(4).gamma(3.0, 0.2, 5000).astype(np.float32).round(1),
        np.where(np.arange(5000) % 2, *[(g := np.random.default_rng(5).gamma(3.0, 0.2, 5000)), g.round(2)]),
    ],
    ids=[
        "smooth",
        "two broad peaks",
        "all the same",
        "few",
        "rounded",
        "three decimals",
        "a long tail",
        "rounded float32",
        "half rounded",
    ],
)
def test_smooth_targets_get_no_map(target):
    assert find_structure(target) is None


def test_rounding_to_four_decimals_hides_no_wall():
    knots, values, _ = find_structure(walls(4000, 0).round(4))
    middle = 0.5 * (knots[1:] + knots[:-1])
    slope = np.diff(values) / np.diff(knots)
    assert np.interp(WALLS, middle, slope).min() > 3 * np.median(slope)


def test_log_prob_integrates_to_one_and_cdf_is_its_integral():
    head, features = head_of()
    grid = torch.linspace(-6, 8, 400_001, dtype=torch.float64)
    d = head.double()(features[0].double())
    p = d.log_prob(grid).exp()
    assert float(torch.trapezoid(p, grid)) == pytest.approx(1, abs=2e-4)
    for y in (0.19, 0.2, 0.36, 0.5, 1.05, 1.5):
        below = float(torch.trapezoid(p[grid <= y], grid[grid <= y]))
        assert float(d.cdf(torch.tensor(y, dtype=torch.float64))) == pytest.approx(below, abs=3e-4)


def test_quantiles_invert_the_cdf():
    head, features = head_of()
    d = head.double()(features.double())
    q = torch.tensor([0.01, 0.3, 0.5, 0.84, 0.999], dtype=torch.float64)[:, None]
    torch.testing.assert_close(d.cdf(d.icdf(q)), q.expand(5, 6), atol=1e-9, rtol=0)


def test_moments_agree_with_samples_and_quadrature():
    head, features = head_of()
    d = head.double()(features.double())
    torch.manual_seed(0)
    draws = d.sample((200_000,))
    error = d.variance.sqrt() / 200_000**0.5
    assert bool(((draws.mean(0) - d.mean).abs() < 5 * error).all())
    torch.testing.assert_close(draws.std(0), d.variance.sqrt(), rtol=0.01, atol=0)
    grid = torch.linspace(-12, 14, 2_000_001, dtype=torch.float64)[:, None]
    exact = torch.trapezoid(grid * d.log_prob(grid).exp(), grid, dim=0)
    torch.testing.assert_close(d.mean, exact, atol=3e-4, rtol=0)


def test_mode_and_squared_norm_agree_with_a_fine_grid():
    head, features = head_of()
    d = head.double()(features.double())
    grid = torch.linspace(-6, 8, 1_000_001, dtype=torch.float64)
    p = d.log_prob(grid[:, None]).exp()
    assert bool((d.log_prob(d.mode).exp() > 0.98 * p.amax(0)).all())
    torch.testing.assert_close(d.squared_norm(), torch.trapezoid(p**2, grid, dim=0), rtol=0.01, atol=0)


def test_the_loss_is_the_log_likelihood_in_the_targets_unit():
    head, features = head_of()
    y = torch.tensor(walls(6, 3)).float()
    torch.testing.assert_close(head.loss(features, y), -head(features).log_prob(y).mean())
    torch.manual_seed(0)
    assert head.draw(features, 4).shape == (4, 6)


def test_a_known_density_is_recovered():
    """With one feature for all, the best fit is the marginal density of the targets itself."""
    y = torch.tensor(walls(4000, 0)).float()
    knots, values, _ = find_structure(y)
    logs = {}
    for name, head in (("plain", GaussianMixture(6)), ("warped", Warped(GaussianMixture(6), len(knots)))):
        if isinstance(head, Warped):
            head.set_map(knots, values)
        head.fit_target(y)
        raw = torch.nn.Parameter(torch.zeros(head.n_features))
        optimizer = torch.optim.Adam([raw], lr=0.05)
        for _ in range(200):
            optimizer.zero_grad()
            head.loss(raw.expand(len(y), -1), y).backward()
            optimizer.step()
        fresh = walls(4000, 5)
        with torch.no_grad():
            logs[name] = float(head(raw).log_prob(torch.tensor(fresh).float()).mean())
    truth = float(np.log(density(fresh)).mean())
    assert logs["warped"] > logs["plain"] + 0.3
    assert logs["warped"] == pytest.approx(truth, abs=0.12)


def test_nan_features_give_nan_and_the_rest_stays():
    head, features = head_of()
    features[2] = torch.nan
    p = Prediction(head, features)
    for values in (p.mean, p.std, p.median, p.mode, *p.interval(0.68)):
        assert np.isnan(values).tolist() == [False, False, True, False, False, False]


def test_members_of_an_ensemble_carry_the_map():
    knots, values, _ = find_structure(walls(4000, 0))
    core = ensemble([Model(torch.nn.Linear(2, 6), GaussianMixture(2)) for _ in range(3)])
    model = Model(core.net, Warped(core.head, len(knots)).set_map(knots, values))
    x, y = torch.randn(5, 2), torch.tensor(walls(5, 2)).float()
    each = torch.stack([m(x).log_prob(y).exp() for m in members(model)])
    torch.testing.assert_close(model(x).log_prob(y).exp(), each.mean(0))


def test_it_is_rebuilt_from_its_config_and_state():
    head, features = head_of()
    again = build_head(head.config)
    again.load_state_dict(head.state_dict())
    y = torch.tensor(walls(6, 3)).float()
    torch.testing.assert_close(again(features).log_prob(y), head(features).log_prob(y))
    nested = Warped(Ensemble([GaussianMixture(2), GaussianMixture(2)]), 3)
    assert build_head(nested.config).n_features == 12


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"head": "Warped"}, "Warped"),
        ({"head": "Warped", "inner": {"head": "Warped", "inner": {"head": "Bernoulli"}}}, "Warped"),
        ({"head": "Warped", "inner": {"head": "GaussianMixture"}, "knots": 10**9}, "2 to 8192 knots"),
        ({"head": "Warped", "inner": {"head": "GaussianMixture"}, "knots": "x"}, "knots"),
    ],
)
def test_nonsense_from_a_file_is_refused(config, message):
    with pytest.raises(ModelError, match=message):
        build_head(config)


def test_a_map_that_does_not_increase_is_refused():
    with pytest.raises(ModelError, match="3 increasing knots"):
        Warped(GaussianMixture(1), 3).set_map([0, 1, 1], [0, 1, 2])


def test_beyond_its_ends_the_map_is_the_identity():
    x, ends = torch.tensor([-5.0, 0.5, 9.0]), torch.tensor([0.0, 1.0, 2.0])
    y, slope = interpolate(x, ends, torch.tensor([0.0, 1.5, 2.0]))
    assert y.tolist() == [-5.0, 0.75, 9.0] and slope.tolist() == [1.0, 1.5, 1.0]
