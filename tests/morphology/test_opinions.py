import numpy as np
import pytest
import torch
from scipy.stats import betabinom, kstest

from deepfield.core.errors import DeepfieldError
from deepfield.core.votes import DirichletMultinomial
from deepfield.morphology.opinions import draw_votes, opinions
from deepfield.morphology.simulate import draw, surveys
from deepfield.morphology.trees import classes, tree, trees

SDSS = surveys()["sdss"]


def parameters(n, seed=0):
    return draw(n, np.random.default_rng(seed), SDSS)


@pytest.mark.parametrize("name", trees())
def test_votes_follow_the_posterior_they_are_said_to_come_from(name):
    """Probability integral transforms of every answer's votes are uniform, given how many were asked."""
    t, n = tree(name), 6000
    rng = np.random.default_rng(1)
    a = opinions(parameters(n), t)
    k = draw_votes(rng, a, t, 40)
    asked, total = t.voters(k)[:, t.owner], t.voters(a)[:, t.owner]
    for j, column in enumerate(t.columns):
        rows = asked[:, j] >= 1
        assert rows.sum() > 300, column
        law = betabinom(asked[rows, j], a[rows, j], total[rows, j] - a[rows, j])
        u = law.cdf(k[rows, j] - 1) + rng.uniform(size=rows.sum()) * law.pmf(k[rows, j])
        assert kstest(u, "uniform").pvalue > 1e-4, column


def test_voters_are_kept_down_the_tree():
    for name in trees():
        t = tree(name)
        a = opinions(parameters(200), t)
        k = draw_votes(np.random.default_rng(2), a, t, 25)
        assert (k[:, : t.groups[0]].sum(1) == 25).all()
        for i, columns in enumerate(t.asked_after):
            if columns:
                assert np.array_equal(t.voters(k)[:, i], k[:, list(columns)].sum(1))
        assert (k[:, list(t.leaves)].sum(1) == 25).all()


def test_the_true_concentrations_are_the_likeliest():
    t = tree("decals5")
    a = opinions(parameters(3000), t)
    k = torch.from_numpy(draw_votes(np.random.default_rng(3), a, t, 40))
    score = lambda c: float(DirichletMultinomial(torch.from_numpy(c), t.groups).log_prob(k).mean())  # noqa: E731
    best = score(a)
    assert best > score(a * 1.3) and best > score(a / 1.3)
    wrong = a.copy()
    wrong[:, t.slice("bar")] = wrong[:, t.slice("bar")][:, ::-1]
    assert best > score(wrong)


@pytest.mark.parametrize("name", ["gz2", "decals5"])
def test_opinions_follow_the_galaxy(name):
    t = tree(name)
    table = parameters(400)

    def share(column, **values):
        changed = table.copy()
        for key, value in values.items():
            changed[key] = np.full(len(table), float(value))
        f = t.fractions(opinions(changed, t))
        return f[:, t.columns.index(column)].mean()

    assert share("disk-edge-on_yes", disc_q=0.1) > 0.8 > 0.2 > share("disk-edge-on_yes", disc_q=0.8)
    assert share("bar_no", bar_strength=0.0) > 0.6 > 0.3 > share("bar_no", bar_strength=0.35)
    assert share("spiral-winding_tight", pitch=10) > 0.5 > 0.1 > share("spiral-winding_tight", pitch=35)
    assert share("spiral-arm-count_3", arms=3, arm_strength=0.8) > 0.5
    assert share("bulge-size_dominant", bulge_fraction=0.9) > 0.5
    odd = "something-odd_yes" if name == "gz2" else "merging_merger"
    assert share(odd, disturbance=1.0, companion=0.5) > 0.5 > 0.1 > share(odd, disturbance=0.0, companion=0.0)


def test_no_opinion_on_questions_of_ones_own():
    with pytest.raises(DeepfieldError, match="no opinion on 'class': dog, cat"):
        opinions(parameters(5), classes(["dog", "cat"]))
