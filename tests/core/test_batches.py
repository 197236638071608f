import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepfield.core.batches import Batches
from deepfield.core.errors import ModelError


def rows(batches: Batches) -> list[int]:
    return [int(v) for (x,) in batches for v in x]


def test_every_epoch_has_its_own_order_which_the_seed_decides():
    x = torch.arange(100)
    a, b, c = Batches(x, size=10, seed=1), Batches(x, size=10, seed=1), Batches(x, size=10, seed=2)
    first = rows(a)
    assert first == rows(a) == rows(b) != rows(c)
    a.set_epoch(1)
    second = rows(a)
    assert second != first and sorted(second) == sorted(first) == list(range(100))
    # As after a resume: no memory of the epochs before.
    b.set_epoch(1)
    assert rows(b) == second


def test_training_drops_the_ragged_end_and_validation_keeps_it():
    x = torch.arange(25)
    train, held = Batches(x, size=10, seed=0), Batches(x, size=10, seed=None)
    assert [len(b) for (b,) in train] == [10, 10] and len(train) == 2
    assert [len(b) for (b,) in held] == [10, 10, 5] and len(held) == 3
    assert rows(held) == list(range(25))


def test_fewer_rows_than_a_batch_are_one_batch():
    assert [len(b) for (b,) in Batches(torch.arange(3), size=10, seed=0)] == [3]


def test_tensors_stay_together():
    for x, y in Batches(torch.arange(20), torch.arange(20) * 2, size=4, seed=3):
        assert bool((y == 2 * x).all())


@settings(max_examples=60, deadline=None)
@given(n=st.integers(0, 60), size=st.integers(1, 20), world=st.integers(1, 4))
def test_processes_share_an_epoch_and_take_equally_many_steps(n, size, world):
    shares, held = [], []
    for rank in range(world):
        for seed, found in ((5, shares), (None, held)):
            batches = Batches(torch.arange(n), size=size, seed=seed)
            batches.set_epoch(2, rank, world)
            found.append([b.tolist() for (b,) in batches])
            assert len(found[-1]) == len(batches) and all(found[-1])
    assert len({len(share) for share in shares}) == 1
    seen = [v for share in shares for batch in share for v in batch]
    assert len(seen) == len(set(seen))
    assert sorted(v for share in held for batch in share for v in batch) == list(range(n))


def test_noise_is_fresh_in_every_epoch_and_process_and_repeats_after_a_resume():
    def noisy(epoch: int, rank: int = 0, world: int = 1) -> torch.Tensor:
        def augment(x, generator):
            return (torch.randn(len(x), generator=generator),)

        batches = Batches(torch.zeros(8), size=4, seed=0, augment=augment)
        batches.set_epoch(epoch, rank, world)
        return torch.cat([x for (x,) in batches])

    torch.testing.assert_close(noisy(1), noisy(1))
    assert not torch.equal(noisy(0), noisy(1))
    assert not torch.equal(noisy(0, 0, 2), noisy(0, 1, 2))


def test_no_rows_are_no_batches():
    assert list(Batches(torch.zeros(0, 3), size=4, seed=0)) == []
    assert list(Batches(torch.zeros(0, 3), size=4, seed=None)) == []


def test_nonsense_is_refused():
    with pytest.raises(ModelError, match=r"tensors of one length, got \[3, 4\]"):
        Batches(torch.zeros(3), torch.zeros(4), size=2, seed=0)
    with pytest.raises(ModelError, match="at least one row, got size=0"):
        Batches(torch.zeros(3), size=0, seed=0)
