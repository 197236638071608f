"""What models of images share: settings in range, nets of a size, weights taken over, stages of a tuning."""

from dataclasses import dataclass

import pytest
import torch

from deepfield.core.augment import Seen
from deepfield.core.batches import Batches
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.heads import Bernoulli
from deepfield.core.model import Model, members
from deepfield.core.nets import ConvNet, parameters_of
from deepfield.core.nets.camera import Camera
from deepfield.core.vision import (
    assemble,
    check_net,
    embed,
    in_range,
    inherit,
    learn,
    net_options,
    nets_of,
    ordinary,
    parts,
    recipe,
)


@dataclass(frozen=True)
class Settings:
    batch: int = 16
    epochs: int = 2
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    thaw: float = 0.1
    validation: float = 0.1
    calibration: float = 0.1
    seed: int = 0


def untrained(seed=0, count=2):
    net = net_options(3000, 1, 1, group="p4", dropout=0.0)
    return assemble(Camera(1, 16), count, lambda: Model(ConvNet(1, 1, **net), Bernoulli()), seed=seed)


def toy(n, seed):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 2, (n,), generator=g).float()
    x = torch.randn(n, 1, 16, 16, generator=g)
    x[..., 6:10, 6:10] += 1.5 * y[:, None, None, None]
    return x, y


def batches(part, size, seed, camera):
    x, y = toy(160 if part == "train" else 80, {"train": 1, "validation": 2}[part])
    return Batches(x, y, size=size, seed=seed, augment=Seen(camera))


def fitted(model, tuning, **options):
    camera, core = parts(model)
    config = Settings(**options)
    held_out = batches("validation", 64, None, camera)
    history = learn(
        core, lambda part: batches(part, 64, None, camera), batches("train", 16, 0, camera), held_out, config,
        recipe(config, 160, 80), tuning=tuning, progress=False,
    )  # fmt: skip
    return history


def test_members_start_apart_and_repeat_with_the_seed():
    one, again, other = untrained(), untrained(), untrained(seed=1)
    first, second = nets_of(parts(one)[1])
    assert not torch.equal(first.project.weight, second.project.weight)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), again.state_dict().values()))
    assert not torch.equal(first.project.weight, nets_of(parts(other)[1])[0].project.weight)
    assert 0.8 < parameters_of(first) / 3000 < 1.2


def test_what_is_served_is_what_was_trained():
    model = untrained()
    fitted(model, False)
    x = toy(9, 3)[0]
    model.eval()
    served = ordinary(model)
    torch.testing.assert_close(served(x), model.net(x), rtol=1e-4, atol=1e-5)
    nets = nets_of(parts(model)[1])
    torch.testing.assert_close(
        embed(served, x), torch.cat([net.embed(parts(model)[0](x)) for net in nets], 1), rtol=1e-4, atol=1e-5
    )
    assert embed(served, x[:0]).shape == (0, sum(net.n_features for net in nets))


def test_tuning_fits_the_last_layers_first_and_alone_without_thaw():
    base = untrained()
    fitted(base, False)
    for thaw in (0.0, 0.1):
        model = untrained(seed=5)
        inherit(model, base, last=False)
        assert not torch.equal(
            nets_of(parts(model)[1])[0].project.weight, nets_of(parts(base)[1])[0].project.weight
        )
        history = fitted(model, True, thaw=thaw)
        trunk = [k for k, v in base.state_dict().items() if ".project." not in k and v.is_floating_point()]
        moved = any(not torch.equal(model.state_dict()[k], base.state_dict()[k]) for k in trunk)
        assert ("members" in history) == (thaw > 0)
        assert moved == (thaw > 0 and history["members"]["best_epoch"] >= 0)
    whole = untrained(seed=5)
    inherit(whole, base, last=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), base.state_dict().values()))


def test_ranges_and_absurd_nets():
    in_range(Settings())
    with pytest.raises(DeepfieldError, match="batch lies between 2 and"):
        in_range(Settings(batch=1))
    with pytest.raises(DeepfieldError, match="must leave some to train on"):
        in_range(Settings(validation=0.9))
    net = net_options(3000, 1, 1, group="none", moments=2)
    check_net(net, bands=1, side=16, members=2)
    assert len(members(parts(untrained())[1])) == 2
    for change in ({"width": 1e9}, {"depth": [1, 10**9, 1]}, {"moments": 99}):
        with pytest.raises(ModelError, match="absurd size"):
            check_net(net | change, bands=1, side=16, members=2)
