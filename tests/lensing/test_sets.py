"""Training sets: targets, splits that keep apart, fresh images that repeat with the seed, pairs."""

import numpy as np
import pytest
import torch

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data.images.read import read
from deepfield.lensing.sets import Fresh, given, paired, seed_of, simulated, targets

SHARES = {"validation": 0.2, "calibration": 0.1, "seed": 0}


def plain(x, y, *, generator):
    return x, y


def test_targets_to_find_and_to_measure(lenses):
    table = lenses(60).table
    y, known = targets(table, "find")
    assert y.tolist() == table["is_lens"].tolist() and known.all()
    y, known = targets(table, "measure")
    assert y.shape == (60, 7) and known.tolist() == (np.asarray(table["is_lens"]) > 0.5).tolist()
    lone = table[known]
    lone.remove_column("is_lens")
    assert targets(lone, "measure")[1].all(), "without a flag all are lenses"
    lone["theta_e"][0] = np.nan
    assert not targets(lone, "measure")[1][0]
    with pytest.raises(TableError, match="no column 'is_lens'"):
        targets(lone, "find")
    with pytest.raises(TableError, match="is_lens is 1 of a lens"):
        targets(Table({"is_lens": [0.0, 3.0]}), "find")


def test_rows_are_in_one_part_alone(lenses):
    images = lenses(100)
    images.table["is_lens"] = np.where(np.arange(100) < 10, np.nan, np.asarray(images.table["is_lens"], float))
    sets = given(images, "find", **SHARES)
    rows = np.concatenate(list(sets.where.values()))
    assert sorted(rows.tolist()) == list(range(10, 100))
    assert {n: len(r) for n, r in sets.where.items()} == {"validation": 18, "calibration": 9, "train": 63}


def test_what_cannot_be_trained_on(lenses):
    images = lenses(100)
    with pytest.raises(TableError, match="20 images say whether they are lenses; training needs 40"):
        given(images[:20], "find", **SHARES)
    only = images[np.flatnonzero(np.asarray(images.table["is_lens"]) == 1)]
    with pytest.raises(TableError, match="all lenses, or none is"):
        given(only, "find", **SHARES)
    with pytest.raises(TableError, match="leaves none"):
        given(images, "find", **{**SHARES, "validation": 0.001})


def test_fresh_images_are_new_in_each_epoch_and_the_same_for_the_same_seed(toy_simulate):
    sets = simulated(toy_simulate, "find", survey="toy", images=128, **SHARES)

    def go(seed, epoch, share=(0, 1)):
        batches = sets.fresh(16, seed, plain, False)
        batches.set_epoch(epoch, *share)
        found = list(batches)
        assert len(found) == len(batches) and all(len(x) == 16 for x, _ in found)
        return torch.cat([x for x, _ in found])

    one, again, later, other = go(0, 0), go(0, 0), go(0, 1), go(1, 0)
    assert len(one) == 128 and torch.equal(one, again)
    seen = {float(v) for v in one.sum((1, 2, 3))}
    for new in (later, other, go(0, 0, (1, 2))):
        assert not seen & {float(v) for v in new.sum((1, 2, 3))}
    kept = sets.parts["validation"][0].load()[0]
    assert not seen & {float(v) for v in kept.sum((1, 2, 3))}
    assert isinstance(sets.fresh(16, 0, plain, False), Fresh)


def test_nothing_is_kept_to_calibrate_on_if_none_is_asked_for(toy_simulate):
    sets = simulated(toy_simulate, "find", survey="toy", images=32, **{**SHARES, "calibration": 0.0})
    assert {n: len(y) for n, (_, y) in sets.parts.items()} == {"train": 32, "validation": 256, "calibration": 0}


def test_to_measure_all_are_lenses(toy_simulate):
    sets = simulated(toy_simulate, "measure", survey="toy", images=64, **SHARES)
    assert all(np.asarray(part.table["is_lens"]).all() for part, _ in sets.parts.values())
    assert sets.parts["train"][1].shape == (64, 7)


def test_each_batch_gets_a_partner(lenses):
    images = lenses(64)
    other = read(np.full((20, 2, 32, 32), 7.0, dtype=np.float32), bands=("g", "r"))
    y = torch.arange(64.0)
    pairs = paired(images.batches(y, size=16, seed=0), other, plain, size=16, seed=1)
    pairs.set_epoch(2)
    found = list(pairs)
    assert len(found) == len(pairs) == 4
    assert all(len(b) == 3 and bool((b[2] == 7).all()) for b in found)


def test_seeds_differ_where_numbers_do():
    assert len({seed_of(a, b, c) for a in range(5) for b in range(5) for c in range(5)}) == 125
