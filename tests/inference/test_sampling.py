"""The sampler against posteriors in closed form: moments, far modes, evidence, diagnostics."""

import math

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.inference.sampling import effective, rhat, sample, sample_many


def test_a_gaussian_in_ten_dimensions():
    found = sample(lambda u: -0.5 * ((u - 1) ** 2).sum(1) / 0.1, 10, 3000, seed=0)
    mean, std = 1 / 1.1, math.sqrt(0.1 / 1.1)
    error = std / np.sqrt(found.ess)
    assert (np.abs(found.u.mean((0, 1)) - mean) < 5 * error).all()
    assert np.allclose(found.u.std((0, 1)), std, rtol=0.06)
    # Normalised likelihoods N(1; u, 0.1): the evidence is N(1; 0, 1.1) each, without their constant.
    evidence = 10 * (-0.5 / 1.1 - 0.5 * math.log(1.1) + 0.5 * math.log(0.1))
    assert abs(found.log_evidence - evidence) < max(5 * found.evidence_error, 0.3)
    assert found.mixed and found.u.shape[0] * found.u.shape[1] >= 3000


def test_far_modes_keep_their_shares():
    def log_likelihood(u):
        left = math.log(0.2) - 0.5 * (((u - torch.tensor([-1.5, 0.0])) / 0.05) ** 2).sum(1)
        right = math.log(0.8) - 0.5 * (((u - torch.tensor([1.5, 0.0])) / 0.05) ** 2).sum(1)
        return torch.logaddexp(left, right)

    found = sample(log_likelihood, 2, 4000, seed=1)
    assert abs((found.u[..., 0] < 0).mean() - 0.2) < 0.05
    assert np.allclose(found.u[found.u[..., 0] > 0].std(0), 0.05, rtol=0.15)


def test_a_flat_likelihood_gives_the_prior_and_a_bounded_one_its_bounds():
    found = sample(lambda u: torch.zeros(len(u)), 1, 4000, seed=0)
    assert abs(found.u.mean()) < 0.1 and abs(found.u.std() - 1) < 0.08 and found.log_evidence == pytest.approx(0)
    half = sample(lambda u: torch.where(u[:, 0] > 0, 0.0, -math.inf), 1, 4000, seed=0)
    assert half.u.min() > 0 and half.log_evidence == pytest.approx(math.log(0.5), abs=0.15)


def test_many_posteriors_at_once():
    centre, width = torch.linspace(-2, 2, 8)[:, None], torch.tensor([0.1, 1.0]).repeat(4)[:, None]

    def log_likelihood(u):
        return -0.5 * ((u[..., 0] - centre) / width) ** 2

    u = sample_many(log_likelihood, 1, 8, 400, seed=0)[..., 0]
    variance = (1 / (1 + 1 / width**2)).numpy()[:, 0]
    mean = (centre / width**2).numpy()[:, 0] * variance
    assert (np.abs(u.mean(1) - mean) < 5 * np.sqrt(variance / 150)).all()
    assert np.allclose(u.std(1), np.sqrt(variance), rtol=0.2)


def test_an_impossible_likelihood_says_so():
    with pytest.raises(DeepfieldError, match="zero or NaN all over the prior"):
        sample(lambda u: torch.full((len(u),), torch.nan), 2, 100, seed=0)


def test_diagnostics_on_known_chains():
    rng = np.random.default_rng(0)
    white = rng.normal(size=(400, 8, 1))
    assert rhat(white, 4)[0] < 1.005 and effective(white)[0] == pytest.approx(3200, rel=0.25)
    red = np.zeros((2000, 8, 1))
    for t in range(1, 2000):  # an AR(1) of correlation 0.8: (1 - 0.8) / (1 + 0.8) of the draws are worth something
        red[t] = 0.8 * red[t - 1] + 0.6 * rng.normal(size=(8, 1))
    assert effective(red)[0] == pytest.approx(16_000 / 9, rel=0.2)
    apart = white + np.repeat([0.0, 0.0, 0.0, 1.0], 2)[:, None]
    assert rhat(apart, 4)[0] > 1.05


def test_seeds():
    def run(seed):
        return sample(lambda u: -(u**2).sum(1), 1, 100, seed=seed).u

    assert np.array_equal(run(3), run(3)) and not np.array_equal(run(3), run(4))
