"""Running simulators: the same rows however they are run, failures counted, kills survived."""

import os

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.inference.priors import Prior
from deepfield.inference.simulate import simulate

PRIOR = Prior({"a": (0, 1), "b": (0, 1)})


def noisy(theta, seed):
    return theta + 0.1 * np.random.default_rng(seed).normal(size=theta.shape)


def test_the_rows_do_not_depend_on_the_workers():
    one = simulate(PRIOR, noisy, 60, seed=3, chunk=10)
    two = simulate(PRIOR, noisy, 60, seed=3, chunk=10, workers=2)
    assert one.digest() == two.digest()
    assert one.digest() != simulate(PRIOR, noisy, 60, seed=4, chunk=10).digest()
    assert np.array_equal(one.theta, PRIOR.sample(60, seed=3))


def test_torch_simulators_get_tensors_and_a_seeded_generator():
    prior = torch.distributions.Independent(torch.distributions.Uniform(torch.zeros(2), torch.ones(2)), 1)

    def simulator(theta):
        assert isinstance(theta, torch.Tensor)
        return theta + 0.1 * torch.randn_like(theta)

    state = torch.get_rng_state()
    one, two = (simulate(prior, simulator, 20, seed=1) for _ in range(2))
    assert one.digest() == two.digest()
    assert torch.equal(state, torch.get_rng_state()), "nobody else's random numbers are touched"


def test_failures_are_counted_one_by_one():
    def fragile(theta):
        if (theta[..., 0] > 0.8).any():
            raise RuntimeError("too large")
        data = theta.copy()
        data[theta[:, 1] < 0.1] = np.nan
        return data

    drawn = PRIOR.sample(200, seed=0)
    failed, broken = drawn[:, 0] > 0.8, (drawn[:, 0] <= 0.8) & (drawn[:, 1] < 0.1)
    found = simulate(PRIOR, fragile, 200, seed=0, chunk=50)
    assert found.lost == {"failed": failed.sum(), "not finite": broken.sum()}
    assert np.array_equal(found.theta, drawn[~failed & ~broken])
    row = simulate(PRIOR, lambda t: fragile(t[None])[0], 200, seed=0, chunk=50, batched=False)
    assert row.lost == found.lost and np.array_equal(row.x, found.x)


def test_a_killed_run_goes_on(tmp_path):
    calls = []

    def interrupted(theta):
        calls.append(len(theta))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return 2 * theta

    with pytest.raises(KeyboardInterrupt):
        simulate(PRIOR, interrupted, 50, seed=0, chunk=10, folder=tmp_path / "s")
    found = simulate(PRIOR, interrupted, 50, seed=0, chunk=10, folder=tmp_path / "s")
    assert len(calls) == 4 + 2, "three chunks were done, and are not done again"
    assert np.array_equal(found.x, 2 * PRIOR.sample(50, seed=0))
    with pytest.raises(DeepfieldError, match="of another prior, number or seed"):
        simulate(PRIOR, interrupted, 50, seed=1, chunk=10, folder=tmp_path / "s")


def test_a_dead_worker_loses_nothing(tmp_path):
    mark = tmp_path / "died"

    def deadly(theta):
        if not mark.exists():
            mark.touch()
            os._exit(9)
        return theta + 1

    found = simulate(PRIOR, deadly, 40, seed=0, chunk=10, workers=2)
    assert np.array_equal(found.x, PRIOR.sample(40, seed=0) + 1) and not found.lost


def test_workers_that_always_die_end_in_a_message():
    with pytest.raises(DeepfieldError, match="workers died 3 times"):
        simulate(PRIOR, lambda theta: os._exit(9), 4, chunk=2, workers=2)


def test_bad_simulators():
    def broken(theta):
        raise ValueError("no such model")

    with pytest.raises(DeepfieldError, match="all 5 simulations failed; the first with ValueError: no such model"):
        simulate(PRIOR, broken, 5)
    with pytest.raises(DeepfieldError, match="given 5 rows and returned 2: pass batched=False"):
        simulate(PRIOR, lambda theta: theta[:2], 5, chunk=5)
    with pytest.raises(DeepfieldError, match="n and workers are at least 1"):
        simulate(PRIOR, noisy, 0)


def test_an_argument_that_nobody_gives_is_named():
    with pytest.raises(DeepfieldError, match=r"the simulator wants 'rng': it is called as simulator\(theta\)"):
        simulate({"a": (0, 1)}, lambda theta, rng: theta, 20, seed=0)
