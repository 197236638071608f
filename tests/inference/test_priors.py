"""Priors: densities and quantiles against scipy, the bijection to a standard normal, foreign priors, bad input."""

import json

import numpy as np
import pytest
import scipy.stats
import torch
from torch import distributions as td

from deepfield.core.errors import DeepfieldError
from deepfield.inference.priors import FARTHEST, Prior

ALL = {
    "a": (-2, 3),
    "b": {"normal": [1, 0.5]},
    "c": {"loguniform": [0.01, 10]},
    "d": {"truncnormal": [0, 1, 0.5, 2]},
    "e": {"lognormal": [0.3, 0.7]},
    "f": {"beta": [2, 5]},
    "g": {"gamma": [2.5, 3]},
    "h": {"exponential": [2]},
    "i": {"halfnormal": [1.5]},
    "j": {"student": [4, 1, 2]},
}


def test_under_the_prior_the_line_is_standard_normal():
    prior = Prior(ALL)
    rng = np.random.default_rng(0)
    theta = np.stack(
        [block.frozen.rvs(20_000, random_state=rng) for block in prior.blocks], 1
    )  # scipy's own draws
    u = prior.to_line(theta)
    for column in u.T:
        assert scipy.stats.kstest(column, "norm").pvalue > 1e-3
    assert np.allclose(prior.from_line(u), theta, rtol=1e-7, atol=1e-9)


def test_density_is_that_of_scipy_and_torch():
    prior = Prior(ALL)
    theta = prior.sample(50, seed=1)
    expected = sum(block.frozen.logpdf(column) for block, column in zip(prior.blocks, theta.T))
    assert np.allclose(prior.log_prob(theta), expected)
    peer = td.LogNormal(torch.tensor(0.3), torch.tensor(0.7)).log_prob(torch.tensor([0.9]))
    assert np.allclose(Prior({"e": ALL["e"]}).log_prob([[0.9]]), peer, atol=1e-6)


def test_a_cut_prior_is_the_same_within_its_bounds():
    prior = Prior({**ALL, "x": (0, 1)})
    low, high = np.quantile(prior.sample(2000, seed=0), [0.2, 0.7], axis=0)
    cut = prior.cut(np.stack([low, high], 1))
    theta = cut.sample(5000, seed=1)
    assert (theta >= low).all() and (theta <= high).all()
    ratio = cut.log_prob(theta) - prior.log_prob(theta)
    assert np.ptp(ratio) < 1e-9 and abs(ratio[0] + prior.dim * np.log(0.5)) < 0.4
    assert np.allclose(cut.from_line(cut.to_line(theta)), theta, rtol=1e-6)
    assert np.isneginf(cut.log_prob(high + 1e-3)).all()
    assert Prior.from_dict(cut.to_dict()).blocks == cut.blocks
    with pytest.raises(DeepfieldError, match="no mass between"):
        Prior({"a": (0, 1)}).cut([[2, 3]])


def test_the_jacobian_is_the_derivative():
    prior = Prior({"a": (-2, 3), "c": {"loguniform": [0.01, 10]}})
    theta, h = np.array([[1.2, 0.3]]), 1e-6
    slope = [
        (prior.to_line(theta + h * e) - prior.to_line(theta - h * e))[0, i] / (2 * h)
        for i, e in enumerate(np.eye(2))
    ]
    assert np.isclose(prior.log_jacobian(theta, prior.to_line(theta))[0], np.log(np.prod(slope)), atol=1e-6)


def test_no_mass_leaks_and_edges_stay_finite():
    prior = Prior({"x": (0.01, 0.8)})
    far = prior.from_line(np.array([[-40.0], [40.0]]))
    assert prior.inside(far).all()
    assert np.abs(prior.to_line([[0.01], [0.8]])).tolist() == [[FARTHEST], [FARTHEST]]
    assert prior.inside([[0.009], [0.01], [0.81]]).tolist() == [False, True, False]
    assert prior.log_prob([[0.9]])[0] == -np.inf


@pytest.mark.parametrize(
    ("given", "family"),
    [
        (td.Independent(td.Uniform(torch.zeros(2), torch.tensor([1.0, 3.0])), 1), ["uniform", "uniform"]),
        (td.Normal(torch.zeros(2), torch.ones(2)), ["normal", "normal"]),
        ([td.Uniform(torch.zeros(1), torch.ones(1)), td.HalfNormal(torch.tensor(2.0))], ["uniform", "halfnormal"]),
        (td.Gamma(torch.tensor(2.0), torch.tensor(3.0)), ["gamma"]),
        ([scipy.stats.norm(1, 2), scipy.stats.uniform(-1, 3)], ["normal", "uniform"]),
        (scipy.stats.truncnorm(-1, 2, 3, 0.5), ["truncnormal"]),
        (scipy.stats.lognorm(0.5, scale=2.0), ["lognormal"]),
    ],
)  # fmt: skip
def test_priors_of_torch_and_scipy(given, family):
    prior = Prior.of(given)
    assert [block.family for block in prior.blocks] == family
    theta = prior.sample(20, seed=0)
    parts = given if isinstance(given, list) else [given]
    own = np.zeros(20)
    start = 0
    for part in parts:
        if isinstance(part, td.Distribution):
            width = max(part.batch_shape.numel() * part.event_shape.numel(), 1)
            columns = torch.as_tensor(theta[:, start : start + width]).float()
            logp = part.log_prob(columns if part.batch_shape or part.event_shape else columns[:, 0])
            own += logp.reshape(20, -1).sum(1).numpy()
        else:
            width = 1
            own += part.logpdf(theta[:, start])
        start += width
    assert np.allclose(prior.log_prob(theta), own, rtol=1e-4, atol=1e-4)


def test_a_correlated_gaussian_is_whitened():
    mean, cov = np.array([1.0, -2.0]), np.array([[2.0, 0.9], [0.9, 1.0]])
    for given in (
        td.MultivariateNormal(torch.tensor(mean), torch.tensor(cov)),
        scipy.stats.multivariate_normal(mean, cov),
    ):
        prior = Prior.of(given, ["a", "b"])
        theta = prior.sample(40_000, seed=0)
        assert np.allclose(np.cov(theta.T), cov, atol=0.05) and np.allclose(theta.mean(0), mean, atol=0.03)
        assert np.allclose(prior.log_prob(theta), scipy.stats.multivariate_normal(mean, cov).logpdf(theta))
        assert np.allclose(prior.from_line(prior.to_line(theta)), theta)


def test_priors_of_sbi_are_known_by_their_shape():
    class BoxUniform(td.Independent):
        def __init__(self, low, high):
            super().__init__(td.Uniform(low, high), 1)

    class MultipleIndependent:
        def __init__(self, dists):
            self.dists = dists

    box = BoxUniform(torch.zeros(2), torch.ones(2))
    assert Prior.of(box).support().tolist() == [[0, 1], [0, 1]]
    both = Prior.of(MultipleIndependent([box, td.Exponential(torch.tensor([2.0]))]))
    assert both.names == ("theta_1", "theta_2", "theta_3")


def test_json_round_trip(tmp_path):
    prior = Prior(ALL)
    again = Prior.from_dict(json.loads(json.dumps(prior.to_dict())))
    assert again.names == prior.names and again.blocks == prior.blocks
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"omega_m": [0.01, 0.8], "w": {"normal": [-1, 0.2]}}))
    assert Prior.of(path).names == ("omega_m", "w")


def test_marginals_of_a_correlated_gaussian_are_exact():
    covariance = np.array([[2.0, 0.5, 0.3], [0.5, 1.0, -0.2], [0.3, -0.2, 0.5]])
    whole = Prior.of(
        [
            td.Uniform(0.0, 1.0),
            td.MultivariateNormal(torch.tensor([1.0, 2.0, 3.0]), torch.from_numpy(covariance).float()),
        ],
        ["a", "b", "c", "d"],
    )
    two = whole.marginal(["d", "a", "b"])
    assert two.names == ("a", "b", "d")
    theta = whole.sample(5, seed=0)[:, [0, 1, 3]]
    known = scipy.stats.multivariate_normal([1, 3], covariance[np.ix_([0, 2], [0, 2])])
    assert np.allclose(two.log_prob(theta), known.logpdf(theta[:, 1:]))
    alone = whole.marginal("c")
    assert np.allclose(alone.log_prob([[2.5]]), scipy.stats.norm(2, 1).logpdf(2.5))
    assert alone.cut([[1, 3]]).support().tolist() == [[1, 3]], "one parameter can be cut, a correlated pair cannot"
    with pytest.raises(DeepfieldError, match="some of the parameters a, b, c, d are asked for, not x"):
        whole.marginal(["x", "a"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "at least one"),
        ({"a": (3, 1)}, "makes no sense"),
        ({"a": {"cauchy": [0, 1]}}, "no prior 'cauchy'; there are"),
        ({"a": {"normal": [0]}}, "takes 2 finite numbers"),
        ({"a": {"normal": ["x", 1]}}, "takes numbers"),
        ({"a": {"normal": [0, -1]}}, "makes no sense"),
        ({"a": {"normal": [0, 1], "uniform": [0, 1]}}, "one family"),
        ({"a": object()}, "no prior can be made of object"),
        (td.Poisson(torch.tensor(2.0)), "no prior can be made of Poisson"),
        ({"a": {"gaussian": [[0, 0], [[1, 2], [2, 1]]]}}, "positive definite"),
    ],
)
def test_bad_priors_say_what_is_wrong(given, message):
    with pytest.raises(DeepfieldError, match=message):
        Prior.of(given)


def test_bad_rows_and_files(tmp_path):
    with pytest.raises(DeepfieldError, match=r"shape \(N, 1\) expected \(a\), got"):
        Prior({"a": (0, 1)}).log_prob([[1, 2]])
    with pytest.raises(DeepfieldError, match="cannot be read"):
        Prior.of(tmp_path / "none.json")
    with pytest.raises(DeepfieldError, match="2 parameters need as many names, all different"):
        Prior.of([scipy.stats.norm(), scipy.stats.norm()], ["a", "a"])
