"""The three estimators: shapes, seeds, configurations."""

import numpy as np
import pytest
import torch

from deepfield.core.errors import DeepfieldError
from deepfield.inference.encoding import Encoding
from deepfield.inference.model import InferenceConfig, build

VECTOR = Encoding.fit(np.random.default_rng(0).normal(size=(50, 4)))
SEQUENCES = Encoding.fit(np.random.default_rng(0).normal(size=(10, 2, 37)))
MAPS = Encoding.fit(np.random.default_rng(0).normal(size=(10, 2, 32, 32)))
TINY = {"width": 16, "context": 4, "hidden": 8, "components": 2}


@pytest.mark.parametrize("encoding", [VECTOR, SEQUENCES, MAPS], ids=["vector", "sequence", "map"])
@pytest.mark.parametrize("method", ["npe", "nre"])
def test_data_of_all_shapes(method, encoding):
    model = build(encoding, 3, InferenceConfig(method=method, **TINY)).eval()
    x = encoding(np.random.default_rng(1).normal(size=(5, *encoding.shape)))
    if method == "npe":
        assert model(x).log_prob(torch.zeros(5, 3)).shape == (5,)
        return
    pair = torch.cat([x.flatten(1), torch.zeros(5, 3)], 1)
    assert model(pair).logits.shape == (5,)


@pytest.mark.parametrize("density", ["mixture", "flow"])
def test_the_likelihood_is_a_density_of_the_data(density):
    model = build(VECTOR, 3, InferenceConfig(method="nle", density=density, **TINY)).eval()
    assert model(torch.zeros(5, 3)).log_prob(torch.zeros(5, 4)).shape == (5,)
    for encoding in (SEQUENCES, MAPS):
        with pytest.raises(DeepfieldError, match=f"whole {encoding.kind} is out of reach"):
            build(encoding, 3, InferenceConfig(method="nle", **TINY))


def test_members_differ_and_seeds_repeat():
    one, two = (build(VECTOR, 2, InferenceConfig(members=2, **TINY)) for _ in range(2))
    weights = [p for p in one.parameters() if p.dim() > 1]
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters()))
    assert not torch.equal(one.net.nets[0].net.embed.weight, one.net.nets[1].net.embed.weight) and weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "abc"}, "one of npe, nle, nre, not 'abc'"),
        ({"density": "kde"}, "'mixture', 'flow' or 'matching'"),
        ({"density": "matching", "method": "nle"}, "is for npe: a chain would solve"),
        ({"members": 0}, "members lies between 1 and 4096, got 0"),
        ({"validation": 1.5}, "validation lies between"),
    ],
)
def test_bad_configurations(change, message):
    with pytest.raises(DeepfieldError, match=message):
        InferenceConfig(**change)


def test_a_ratio_has_no_density():
    with pytest.raises(DeepfieldError, match="density='flow' is for npe"):
        InferenceConfig(method="nre", density="flow")
