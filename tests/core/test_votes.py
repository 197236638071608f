import math
from itertools import pairwise

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import gammaln
from scipy.stats import beta, dirichlet, dirichlet_multinomial

from deepfield.core.batches import Batches
from deepfield.core.errors import ModelError
from deepfield.core.fit import FitConfig, fit
from deepfield.core.heads import Categorical, Ensemble, GaussianMixture, build_head
from deepfield.core.model import Model
from deepfield.core.prediction import Prediction
from deepfield.core.votes import DirichletMultinomial, Groups, Votes, log_rising, summarise

SIZES = [3, 2, 4, 6, 2]
EDGES = np.cumsum([0, *SIZES])


def blocks(row):
    return [row[a:b] for a, b in pairwise(EDGES)]


def concentrations(n, seed=0, low=-4.0, high=7.0):
    rng = np.random.default_rng(seed)
    return np.exp(rng.uniform(low, high, size=(n, EDGES[-1])))


def by_hand(a, k):
    """The loop over questions, from the formula's factorials."""
    total = 0.0
    for alpha, votes in zip(blocks(a), blocks(k)):
        n, s = votes.sum(), alpha.sum()
        total += gammaln(n + 1) - gammaln(votes + 1).sum() + gammaln(s) - gammaln(n + s)
        total += (gammaln(alpha + votes) - gammaln(alpha)).sum()
    return total


def test_whole_votes_agree_with_scipy():
    rng = np.random.default_rng(1)
    a = concentrations(40)
    k = rng.integers(0, 30, size=a.shape).astype(float)
    own = DirichletMultinomial(torch.from_numpy(a), SIZES).log_prob(torch.from_numpy(k)).numpy()
    scipys = [
        sum(
            dirichlet_multinomial.logpmf(votes.astype(int), alpha, int(votes.sum()))
            for alpha, votes in zip(blocks(x), blocks(y))
        )
        for x, y in zip(a, k)
    ]
    assert np.abs(own - scipys).max() < 1e-9


def test_fractional_votes_agree_with_the_formula():
    a = concentrations(40, seed=2)
    k = np.random.default_rng(3).uniform(0, 40, size=a.shape)
    k[:20, EDGES[2] : EDGES[3]] = 0
    own = DirichletMultinomial(torch.from_numpy(a), SIZES).log_prob(torch.from_numpy(k)).numpy()
    assert np.abs(own - [by_hand(x, y) for x, y in zip(a, k)]).max() < 1e-9


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6)])
def test_log_rising_keeps_its_digits_at_any_concentration(dtype, tolerance):
    for a in (1e-6, 0.3, 5.0, 15.9, 16.1, 300.0, 1e6, 1e12):
        for k in (0.0, 0.25, 1.0, 37.5, 4000.0):
            given = [float(torch.tensor(v, dtype=dtype)) for v in (a, k)]
            with mpmath.workdps(50):
                truth = float(mpmath.loggamma(mpmath.mpf(given[0]) + given[1]) - mpmath.loggamma(given[0]))
            own = float(log_rising(torch.tensor(a, dtype=dtype), torch.tensor(k, dtype=dtype)))
            assert abs(own - truth) <= tolerance * (1 + abs(truth)), (a, k)
            assert k or own == 0.0


def test_a_question_nobody_reached_is_exactly_nothing():
    a = torch.from_numpy(concentrations(10)).float().log().requires_grad_()
    head = Votes(SIZES)
    votes = torch.zeros(10, EDGES[-1])
    votes[:, :3] = torch.tensor([5.0, 1.0, 0.5])
    logp = head(a).log_prob(votes)
    assert torch.equal(logp, DirichletMultinomial(a[:, :3].exp(), [3]).log_prob(votes[:, :3]))
    logp.sum().backward()
    assert bool((a.grad[:, 3:] == 0).all()) and bool((a.grad[:, :3] != 0).all())
    assert float(head.loss(a, torch.zeros_like(votes)).detach()) == 0.0


def test_one_vote_is_the_cross_entropy_of_the_fractions():
    raw = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 2, 3, 1, 0])
    one = torch.nn.functional.one_hot(label, 4).double()
    assert float(Votes([4]).loss(raw, one)) == pytest.approx(float(Categorical(4).loss(raw, label)), abs=1e-12)


def test_gradients_are_right_and_bounded_by_the_votes():
    head = Votes([3, 2]).double()
    raw = torch.linspace(-5, 9, 10, dtype=torch.float64).reshape(2, 5).requires_grad_()
    votes = torch.tensor([[3.0, 0.5, 0, 2, 1], [0, 0, 7, 40, 0]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: head(x).log_prob(votes), raw)
    extreme = torch.tensor([[29.0, -13.0, 3.0, 25.0, 25.0]]).requires_grad_()
    Votes([3, 2])(extreme).log_prob(votes[1:].float()).sum().backward()
    assert bool(extreme.grad.isfinite().all()) and float(extreme.grad.abs().max()) <= 40


def test_fractions_are_beta_laws():
    a = torch.from_numpy(concentrations(20, seed=4, low=-1, high=4))
    d = DirichletMultinomial(a, SIZES)
    rest = (
        np.stack([np.concatenate([np.full(len(b), b.sum()) for b in blocks(row)]) for row in a.numpy()])
        - a.numpy()
    )
    law = beta(a.numpy(), rest)
    assert np.allclose(d.mean, law.mean(), atol=1e-12) and np.allclose(d.variance, law.var(), atol=1e-12)
    for q in (0.05, 0.5, 0.975):
        assert np.allclose(d.icdf(torch.tensor(q)), law.ppf(q), atol=1e-9)
    assert np.allclose(d.cdf(torch.tensor(0.3)), law.cdf(0.3), atol=1e-12)


def test_entropies_against_a_million_draws():
    a = np.array([0.7, 2.0, 5.0, 1.5, 30.0])
    d = DirichletMultinomial(torch.from_numpy(a)[None], [3, 2])
    draws = [dirichlet.rvs(part, size=400_000, random_state=5) for part in (a[:3], a[3:])]
    mean = [-(p.mean(0) * np.log(p.mean(0))).sum() for p in draws]
    inside = [-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean() for p in draws]
    assert np.allclose(d.entropy_of_mean[0], mean, atol=2e-3)
    assert np.allclose(d.expected_entropy[0], inside, atol=2e-3)
    assert np.allclose(d.mutual_information[0], np.subtract(mean, inside), atol=2e-3)
    assert float(d.disagreement.max()) < 1e-12
    sure = DirichletMultinomial(1e9 * torch.from_numpy(a)[None], [3, 2])
    assert float(sure.mutual_information.max()) < 1e-8


def test_mixtures_average_densities():
    parts = [DirichletMultinomial(torch.from_numpy(concentrations(7, s, -1, 3)), SIZES) for s in (6, 7, 8)]
    head = Ensemble([Votes(SIZES) for _ in range(3)])
    mixed = head(torch.cat([p.stack[0].log() for p in parts], -1))
    k = torch.from_numpy(np.random.default_rng(9).uniform(0, 5, size=(7, EDGES[-1])))
    each = torch.stack([p.log_prob(k) for p in parts])
    assert torch.allclose(mixed.log_prob(k), torch.logsumexp(each, 0) - math.log(3))
    assert torch.allclose(mixed.mean, torch.stack([p.mean for p in parts]).mean(0))
    q = torch.tensor(0.2, dtype=torch.float64)
    assert torch.allclose(
        torch.stack([p.cdf(mixed.icdf(q)) for p in parts]).mean(0), q.expand(7, EDGES[-1]), atol=1e-9
    )
    assert float(mixed.disagreement.min()) > 0 and bool((mixed.mutual_information > mixed.disagreement).all())
    same = parts[0].average_with([parts[0]])
    assert torch.allclose(same.variance, parts[0].variance) and float(same.disagreement.max()) < 1e-12


def test_draws_have_the_moments_of_the_law():
    a = torch.tensor([[4.0, 2.0, 1.0, 0.5, 0.5]], dtype=torch.float64)
    d = DirichletMultinomial(a, [3, 2])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        votes = d.sample((40_000,), torch.tensor([12, 5]))
        fractions = d.sample_fractions((40_000,))
    assert votes.shape == (40_000, 1, 5)
    assert bool((votes[..., :3].sum(-1) == 12).all()) and bool((votes[..., 3:].sum(-1) == 5).all())
    n = np.array([12, 12, 12, 5, 5.0])
    p, total = d.mean.numpy()[0], np.array([7, 7, 7, 1, 1.0])
    variance = n * p * (1 - p) * (n + total) / (1 + total)
    error = 5 * np.sqrt(variance / 40_000)
    assert (np.abs(votes[:, 0].double().mean(0).numpy() - n * p) < error).all()
    assert np.allclose(votes[:, 0].double().var(0), variance, rtol=0.05)
    assert np.allclose(fractions[:, 0].var(0), d.variance[0], rtol=0.05)
    assert bool((d.sample((3,), 0) == 0).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("total", [1e-6, 1e-4, 1e-2, 1.0])
def test_fractions_of_tiny_concentrations_keep_their_mean(total, dtype):
    torch.manual_seed(5)
    share = torch.tensor([0.3, 0.7, 0.1, 0.2, 0.7], dtype=dtype)
    d = DirichletMultinomial(total * share, [2, 3])
    drawn = d.sample_fractions((40_000,)).double()
    error = (d.variance.double() / 40_000).sqrt()
    assert ((drawn.mean(0) - share).abs() < 4 * error).all(), "nearly every draw is one answer alone"
    assert torch.allclose(drawn[:, :2].sum(1), torch.ones(40_000, dtype=torch.float64), atol=1e-6)
    assert torch.allclose(drawn.var(0), d.variance.double(), rtol=0.05)


def test_draws_of_a_mixture_come_from_all_members():
    low, high = (DirichletMultinomial(torch.tensor([[a, 1e4 - a]]), [2]) for a in (100.0, 9900.0))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = low.average_with([high]).sample((2000,), 10)[:, 0, 0]
    assert 0.4 < float((drawn > 5).double().mean()) < 0.6


def test_a_fit_recovers_the_posterior_that_votes_were_drawn_from():
    rng = np.random.default_rng(10)
    truth = np.array([6.0, 3.0, 1.0, 0.8, 0.2])
    n = 4000
    f = [rng.dirichlet(part, size=n) for part in (truth[:3], truth[3:])]
    votes = np.concatenate([rng.multinomial(30, f[0]), rng.multinomial(rng.integers(0, 30, n), f[1])], 1)
    y = torch.from_numpy(votes).float()
    head = Votes([3, 2])
    head.fit_target(y)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = Model(torch.nn.Linear(1, 5), head)
    x = torch.zeros(n, 1)
    fit(
        model,
        Batches(x, y, size=200, seed=0),
        Batches(x, y, size=4000, seed=None),
        FitConfig(epochs=40, learning_rate=0.03, device="cpu"),
        progress=False,
    )
    found = model(x[:1]).stack[0, 0].detach().numpy()
    assert np.allclose(np.log(found), np.log(truth), atol=0.12), found


def test_start_of_a_fit_is_the_share_of_all_votes():
    votes = torch.tensor([[10.0, 20, 10, 0, 0], [0, 0, 0, 3, 1]])
    head = Votes([3, 2])
    head.fit_target(votes)
    found = head(torch.zeros(1, 5))
    assert torch.allclose(found.mean[0], torch.tensor([10.5 / 41.5, 20.5 / 41.5, 10.5 / 41.5, 0.7, 0.3]))
    assert torch.allclose(found.groups.sum(found.stack[0]), torch.tensor([[3.0, 2.0]]))


def test_prediction_summary_files_and_broken_rows(tmp_path):
    head = Ensemble([Votes([3, 2]), Votes([3, 2])])
    features = torch.randn(9, 10, generator=torch.Generator().manual_seed(3))
    features[4] = torch.nan
    prediction = Prediction(head, features)
    prediction.chunk = 4
    found = summarise(prediction, 0.9)
    assert found["mean"].shape == (9, 5) and found["entropy"].shape == (9, 2)
    good = np.arange(9) != 4
    assert (found["low"] < found["mean"])[good].all() and (found["mean"] < found["high"])[good].all()
    assert all(np.isnan(values[4]).all() and np.isfinite(values[good]).all() for values in found.values())
    prediction.write(tmp_path / "p.parquet")
    again = Prediction.read(tmp_path / "p.parquet")
    assert np.array_equal(again.mean, prediction.mean, equal_nan=True)
    with pytest.raises(ModelError, match="not of votes"):
        summarise(Prediction(GaussianMixture(2), torch.zeros(1, 6)))
    with pytest.raises(ModelError, match="between 0 and 1, got 1"):
        summarise(prediction, 1.0)


def test_heads_are_rebuilt_and_absurd_ones_refused():
    head = Votes([3, 2], voters=25)
    assert build_head(head.config).config == head.config
    assert build_head(Ensemble([head, head]).config).n_features == 10
    assert head.draw(torch.zeros(4, 5), 6).shape == (6, 4, 5)
    for groups in ([], [1, 3], [2.5, 2], "33", [3, 10**7], None):
        with pytest.raises(ModelError):
            build_head({"head": "Votes", "groups": groups})
    with pytest.raises(ModelError, match="at least one voter"):
        Votes([2], voters=0)
    with pytest.raises(ModelError, match="two or more each"):
        Groups([2, 1])
