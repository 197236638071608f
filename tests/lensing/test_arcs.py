"""The map of the arcs: where it lies, that it turns with its image, and that a finder learns from it."""

import numpy as np
import pytest
import torch

from deepfield import lensing
from deepfield.core.augment import Augment
from deepfield.core.nets import ConvNet
from deepfield.core.nets.camera import Camera
from deepfield.lensing import arcs
from deepfield.lensing.sets import maps_of


def test_the_map_is_of_the_lensed_light_and_nothing_else():
    drawn = lensing.simulate(40, survey="lsst", seed=3, noise=False)
    lens = drawn.table["is_lens"] == 1
    snr = drawn.table["arcs"]
    assert snr.shape == (40, 16, 16)
    assert not snr[~lens].any() and (snr[lens].max((1, 2)) > 2).all()
    # Cells do not overlap, so that their ratios add in squares; within a cell some is lost.
    whole = np.sqrt((snr[lens] ** 2).sum((1, 2))) / drawn.table["source_snr"][lens]
    assert (whole < 1.001).all() and np.median(whole) > 0.85


@pytest.mark.parametrize("group", ["none", "p4m"])
def test_the_map_of_a_net_turns_with_the_image(group):
    torch.manual_seed(0)
    net = ConvNet(2, 1, group=group, width=16).eval()
    head = arcs.ArcMap(net)
    for layer in head.weigh:
        torch.nn.init.normal_(layer.weight)
    x = torch.randn(2, 2, 32, 32)
    with torch.no_grad():
        found, turned = head(net.maps(x)), head(net.maps(x.rot90(1, (2, 3))))
    off = float((found.rot90(1, (1, 2)) - turned).abs().max())
    assert found.shape == (2, 8, 8) and found.std() > 0.01
    assert off < 1e-4 if group == "p4m" else off > 1e-3


def middles(maps):
    """Centres of light (N, 2) as shares of the side."""
    at = (torch.arange(maps.shape[-1]) + 0.5) / maps.shape[-1]
    light = maps / maps.sum((1, 2), keepdim=True)
    return torch.stack([(light.sum(1) * at).sum(1), (light.sum(2) * at).sum(1)], 1)


@pytest.mark.parametrize(("side", "options"), [(32, {"quarters": True}), (64, {"zoom": 0.15, "shift": 0.05})])
def test_maps_turn_and_move_with_their_images(side, options):
    x = torch.zeros(64, 1, side, side)
    x[:, 0, side // 4 : side * 3 // 8, side * 5 // 8 : side * 3 // 4] = 1.0
    cells = torch.nn.functional.avg_pool2d(x, side // 16)[:, 0]
    augment = Augment(Camera(1, 32), **options)
    seen, _, found = augment(x, torch.zeros(64), cells, generator=torch.Generator().manual_seed(1))
    camera = Camera(1, 32)
    seen = seen - camera(torch.zeros(1, 1, side, side))  # what the stretch makes of nothing
    off = (middles(seen[:, 0]) - middles(found)).abs()
    assert off.median() < 0.01 and off.max() < 0.06  # at the edge light is mirrored, pixel by pixel
    assert middles(found).std(0).min() > 0.08


def test_the_middle_of_a_map_goes_with_the_crop():
    drawn = lensing.simulate(20, survey="lsst", seed=1)
    options = {"catalog": drawn.table, "bands": drawn.survey.bands}
    whole, part = (
        lensing.read(drawn.images.numpy(), **options),
        lensing.read(drawn.images.numpy(), crop=40, **options),
    )
    (one,), (two,) = maps_of(whole), maps_of(part)
    assert one.shape == (20, 16, 16) and two.shape == (20, 10, 10)
    torch.testing.assert_close(one[:, 3:13, 3:13], two)
    (cut,) = maps_of(lensing.read(drawn.images[..., 12:52, 12:52].numpy(), **options))  # by somebody else
    torch.testing.assert_close(cut, two)
    drawn.table["arcs"] = np.ma.masked_array(
        drawn.table["arcs"], np.arange(20)[:, None, None] * np.ones((16, 16)) < 2
    )
    (masked,) = maps_of(lensing.read(drawn.images.numpy(), **options))
    assert torch.isnan(masked).all((1, 2)).tolist() == [True] * 2 + [False] * 18
    for other in (np.arange(20), np.full(20, "yes"), np.ones((20, 4, 5))):
        drawn.table["arcs"] = other
        assert maps_of(lensing.read(drawn.images.numpy(), **options)) == ()
    del drawn.table["arcs"]
    assert maps_of(lensing.read(drawn.images.numpy(), **options)) == ()


def test_the_loss_falls_where_the_map_is_right():
    torch.manual_seed(0)
    model = lensing.train(survey="lsst", draws=64, pixels=16, parameters=2000, epochs=1, progress=False).model
    from deepfield.core.vision import nets_of, parts

    camera, core = parts(model)
    core.arcs = torch.nn.ModuleList(arcs.ArcMap(net) for net in nets_of(core))
    loss, x, y = arcs.supervised(2.0), torch.randn(8, camera.channels, 16, 16), torch.zeros(8)
    snr = torch.zeros(8, 4, 4)
    core.eval().requires_grad_(False)
    plain = loss(core, x, y)
    assert loss(core, x, y, snr) == pytest.approx(float(plain) + 2 * np.log(2), abs=1e-4)  # it says a half of all
    core.arcs[0].weigh[0].bias.data.fill_(-5.0)
    assert loss(core, x, y, snr) < plain + 0.1
    assert loss(core, x, y, snr + 10) > plain + 9


def test_a_map_is_learnt():
    torch.manual_seed(0)
    net = ConvNet(1, 1, group="none", width=12)
    head = arcs.ArcMap(net)
    fit = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=1e-2)

    def off():
        x = 0.1 * torch.randn(32, 1, 32, 32)
        snr = torch.zeros(32, 8, 8)
        for k, (row, column) in enumerate(torch.randint(1, 7, (32, 2)).tolist()):
            x[k, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 1.0
            snr[k, row, column] = 10.0
        return torch.nn.functional.binary_cross_entropy_with_logits(head(net.maps(x)), arcs.share(snr))

    for _ in range(60):
        fit.zero_grad()
        off().backward()
        fit.step()
    net.eval()
    with torch.no_grad():
        assert off() < 0.03  # 0.08 by the share of such cells alone


def test_a_finder_trained_with_the_map_saves_none_of_it(tmp_path):
    options = {"survey": "lsst", "draws": 64, "pixels": 16, "parameters": 2000, "epochs": 1, "progress": False}
    model, without = lensing.train(**options), lensing.train(**options, arcs=0.0)
    assert not [name for name in model.model.state_dict() if "arcs" in name]
    assert model.card["history"]["members"]["train"] != without.card["history"]["members"]["train"]
    model.save(tmp_path / "m")
    assert lensing.LensingModel.load(tmp_path / "m").config.arcs == 1.0
