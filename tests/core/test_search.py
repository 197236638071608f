"""Quantiles and modes of hard mixtures in float32, against scipy's root finder in float64."""

import numpy as np
import pytest
import torch
from scipy import optimize
from scipy.special import ndtr, ndtri

from deepfield.core import _search
from deepfield.core._search import BLOCK, MixtureSearch

LEVELS = np.array([1e-4, 0.0228, 0.1587, 0.5, 0.8413, 0.9772, 1 - 1e-4])
N = 400


def draw(kind: str, seed: int = 0, n: int = N) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, means and widths (n, K); means and widths are exact in float32."""
    rng = np.random.default_rng(seed)
    k = 8
    w, m = rng.dirichlet(np.full(k, 0.3), n), rng.uniform(0, 3, (n, k))
    s = 10 ** rng.uniform(-2, -0.5, (n, k))
    if kind == "widths differ by a thousand":
        s = 10 ** rng.uniform(-3, 0, (n, k))
        s[:, 0], s[:, 1] = 1e-3, 1.0
    elif kind == "two narrow peaks of equal weight":
        w, m = np.full((n, 2), 0.5), np.sort(rng.uniform(0, 3, (n, 2)), 1)
        s = 10 ** rng.uniform(-3, -2, (n, 2))
    elif kind == "far tails":
        w[:, 0], m[:, 0], s[:, 0] = 1e-3, 50.0, 10.0
        w[:, 1], m[:, 1] = 1e-3, -30.0
    elif kind == "spike in a plain":
        w, m = np.tile([0.02, 0.98], (n, 1)), np.stack([rng.uniform(0, 3, n), np.full(n, 1.5)], 1)
        s = np.tile([1e-3, 1.0], (n, 1))
    elif kind == "a ridge":
        m = np.sort(rng.normal(1, 0.03, (n, k)), 1)
        s = rng.uniform(0.015, 0.04, (n, k))
    elif kind == "mute components":
        w[:, ::2] = 1e-37
        s[:, 0] = 1e-9
    return w / w.sum(1, keepdims=True), np.float64(np.float32(m)), np.float64(np.float32(s))


KINDS = (
    "redshifts",
    "widths differ by a thousand",
    "two narrow peaks of equal weight",
    "far tails",
    "spike in a plain",
    "a ridge",
    "mute components",
)


def search(parts, dtype=torch.float32) -> MixtureSearch:
    return MixtureSearch(*(torch.as_tensor(a).to(dtype) for a in parts))


def cdf(y, w, m, s):
    return (w * ndtr((y - m) / s)).sum(-1)


def exact(q: float, w, m, s) -> float:
    ends = m + s * ndtri(q)
    low, high = ends.min() - 1e-3 * s.max(), ends.max() + 1e-3 * s.max()
    return float(optimize.brentq(lambda y: cdf(y, w, m, s) - q, low, high, xtol=1e-13, rtol=1e-14))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_quantiles_are_those_of_brentq(kind, dtype):
    parts = draw(kind)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    spread = np.sqrt(
        (parts[0] * (parts[2] ** 2 + (parts[1] - (parts[0] * parts[1]).sum(1, keepdims=True)) ** 2)).sum(1)
    )
    for q in LEVELS:
        found = search(parts, dtype).quantile(torch.full((N,), q, dtype=dtype)).double().numpy()
        level = float(torch.tensor(q, dtype=dtype))
        wanted = np.array([exact(level, *row) for row in zip(*parts)])
        place = np.abs(found - wanted) / (spread + np.abs(wanted))
        # Where the cdf is flat the place is not determined: then the level is right.
        off = np.abs(cdf(found[:, None], *parts) - level)
        assert np.minimum(place, off).max() < tolerance, f"{q}: row {np.minimum(place, off).argmax()}"


@pytest.mark.parametrize("kind", KINDS)
def test_first_steps_say_truly_whether_they_have_led_there(kind):
    parts = draw(kind, seed=1, n=4000)
    columns = search(parts)._blocks[0]
    for q in LEVELS[1:-1]:
        solved, y = columns.quantile(torch.full((4000,), q, dtype=torch.float32))
        off = np.abs(cdf(y.double().numpy()[:, None], *parts) - np.float32(q))
        # 1.9e-6 of the level by the bound, as much again by rounding, and what a float32 place can resolve.
        resolved = np.spacing(np.abs(y.numpy())) * (parts[0] / parts[2]).sum(1)
        assert (off - resolved)[solved.numpy()].max(initial=0) < 5e-6
        assert kind in ("far tails", "spike in a plain") or solved.any()


@pytest.mark.parametrize("kind", KINDS)
def test_modes_are_peaks_and_none_is_missed(kind):
    w, m, s = parts = draw(kind, seed=2)
    if kind == "mute components":
        m, w, s = m[:, 1::2], w[:, 1::2], s[:, 1::2]
    y = search(parts).mode().double().numpy()

    def log_density(y, i):
        return np.log((w[i] / s[i] * np.exp(-0.5 * ((y - m[i]) / s[i]) ** 2)).sum())

    for i in range(N):
        width = s[i].min()
        best = optimize.minimize_scalar(
            lambda v, i=i: -log_density(v, i), bounds=(y[i] - width, y[i] + width), method="bounded",
            options={"xatol": 1e-7 * width},
        )  # fmt: skip
        rounding = 4 * np.spacing(np.float32(abs(y[i])))
        assert abs(best.x - y[i]) < 2e-3 * width + rounding
        assert log_density(y[i], i) > max(log_density(v, i) for v in m[i]) - 1e-5


def test_nan_rows_stay_nan_and_harm_no_other():
    parts = draw("redshifts")
    broken = [a.copy() for a in parts]
    for a in broken:
        a[::7] = np.nan
    lost = np.arange(N) % 7 == 0
    for ask in (lambda s: s.quantile(torch.full((N,), 0.16)), lambda s: s.mode(), lambda s: s.mean):
        here, there = ask(search(broken)).numpy(), ask(search(parts)).numpy()
        assert np.isnan(here[lost]).all()
        np.testing.assert_allclose(here[~lost], there[~lost], rtol=1e-6)


def test_blocks_change_nothing(monkeypatch):
    parts = draw("redshifts", n=1000)
    q = torch.linspace(0, 1, 3000)
    whole = [search(parts).quantile(q), search(parts).mode(), search(parts).variance]
    monkeypatch.setattr(_search, "BLOCK", 7)
    for a, b in zip(whole, [search(parts).quantile(q), search(parts).mode(), search(parts).variance]):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    assert BLOCK > 1000


def test_nearly_all_redshift_densities_are_solved_in_the_first_steps():
    # The price of a search is that of its first steps only if few objects need more.
    parts = draw("a ridge", n=4000)
    columns = search(parts)._blocks[0]
    for q in (0.16, 0.5, 0.84):
        assert columns.quantile(torch.full((4000,), q))[0].float().mean() > 0.9
    assert columns.mode()[0].float().mean() > 0.7
