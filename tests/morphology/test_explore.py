"""Neighbours, oddities and what to label next, against brute force and planted truths."""

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.data.images.read import read
from deepfield.morphology.explore import Index, anomaly, embed, rank, similar


def test_an_embedding_does_not_see_how_an_image_is_turned(model, stamps):
    x, _ = stamps[:30].load()
    straight, turned = (embed(model, read(v.numpy())) for v in (x, x.rot90(1, (2, 3)).flip(3)))
    assert straight.shape == (30, sum(m.n_features for m in model.model.net[1].nets))
    assert np.abs(straight - turned).max() < 1e-4 * straight.std()


def test_neighbours_are_those_of_brute_force():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(300, 5)) * [1, 10, 0.1, 1, 1]
    points[7] = np.nan
    index = Index(points)
    rows, distance = index.nearest(points[:50], 4)
    good = np.flatnonzero(np.isfinite(points).all(1))
    z = points / points[good].std(0)
    for i in (0, 3, 49):
        exact = np.linalg.norm(z[good] - z[i], axis=1)
        assert rows[i].tolist() == good[np.argsort(exact)[:4]].tolist()
        assert np.allclose(distance[i], np.sort(exact)[:4], atol=1e-4)
    assert rows[7].tolist() == [-1] * 4 and np.isnan(distance[7]).all()


def test_similar_does_not_find_the_row_itself_not_even_among_twins():
    points = np.concatenate([np.zeros((5, 2)), np.random.default_rng(0).normal(5, 1, (20, 2))])
    rows, _ = similar(points, np.arange(5), n=3)
    assert rows.shape == (5, 3) and (rows != np.arange(5)[:, None]).all() and (rows < 5).all()


def test_neighbours_of_an_image_are_of_its_class(model, stamps):
    found = embed(model, stamps)
    label = np.asarray(stamps.table["label"])
    rows, _ = similar(found, np.arange(100), n=5)
    assert (label[rows] == label[:100, None]).mean() > 0.85


def test_an_oddity_stands_out(model, stamps):
    odd = np.zeros((1, 3, 32, 32), dtype=np.uint8)
    odd[:, 0, ::4] = 255
    ordinary = embed(model, stamps)
    score = Index(ordinary).anomaly(np.concatenate([ordinary, embed(model, read(odd))]))
    assert score.argmax() == len(stamps) and score[-1] > np.median(score) + 1
    assert anomaly(ordinary).shape == (200,)


def test_members_that_disagree_are_asked_first(model, stamps):
    found = rank(model, stamps)
    assert (found["information"] >= 0).all() and (found["information"] <= found["entropy"] + 1e-9).all()
    features = model.features(stamps.load()[0]).double() / model.temperature
    p = features.softmax(-1).numpy()
    mixed = p.mean(1)
    by_hand = -(mixed * np.log(mixed)).sum(1) + (p * np.log(p)).sum(-1).mean(1)
    assert np.allclose(found["information"], by_hand, atol=1e-9)


def test_rank_of_votes_and_of_broken_images(voter, simulated):
    x = simulated[1][:6].load()[0].numpy().copy()
    x[2, 0, 0, 0] = np.nan
    found = rank(voter, read(x, bands=("g", "r", "i")))
    assert np.isnan(found["information"][2]) and (found["information"][[0, 1, 3, 4, 5]] > 0).all()


def test_what_cannot_be_looked_into():
    with pytest.raises(DeepfieldError, match="no image of the embedding is finite"):
        Index(np.full((3, 2), np.nan))
    with pytest.raises(DeepfieldError, match="the index has 2 features, the query 3"):
        Index(torch.eye(2).numpy()).nearest(np.zeros((1, 3)), 1)
    with pytest.raises(DeepfieldError, match="between 1 and 2 neighbours"):
        Index(np.eye(2)).nearest(np.eye(2), 3)
    with pytest.raises(DeepfieldError, match="rows are numbers from 0 to 1"):
        similar(np.eye(2), [5], n=1)
