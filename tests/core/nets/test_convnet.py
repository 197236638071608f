import logging
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from deepfield.core.errors import DeepfieldError
from deepfield.core.nets import ConvNet, parameters_of, width_for
from deepfield.core.nets.convnet import polynomials
from deepfield.core.nets.group import GROUPS

TURNS = [lambda x, k=k: x.rot90(k, (2, 3)) for k in range(1, 4)]
MIRRORS = [lambda x, t=t: t(x.flip(3)) for t in (lambda x: x, *TURNS)]
EXACT = {"p4": TURNS, "c8": TURNS, "p4m": TURNS + MIRRORS, "d8": TURNS + MIRRORS}


def blobs(n: int, size: int | tuple[int, int] = 64, *, bands: int = 3, seed: int = 0) -> torch.Tensor:
    """Smooth random images without any symmetry, of order unity."""
    generator = torch.Generator().manual_seed(seed)
    shape = (size, size) if isinstance(size, int) else size
    noise = torch.randn(n, bands, *(side + 8 for side in shape), generator=generator)
    return 5 * F.avg_pool2d(F.avg_pool2d(noise, 5, 1), 5, 1)


def trained(group: str, *, steps: int = 4) -> ConvNet:
    """A small net after a few steps: sharp answers, and norms with statistics of their own."""
    torch.manual_seed(0)
    net = ConvNet(3, 4, group=group, width=24, depth=(1, 1, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.02)
    for step in range(steps):
        x = blobs(16, 32, seed=step)
        y = 2 * (x[:, 0, :16].mean((1, 2)) > 0).long() + (x[:, 1].var((1, 2)) > 1.1).long()
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()
    return net


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("group", EXACT)
def test_answers_do_not_change_as_the_image_turns(group, mode):
    net = trained(group)
    net.train(mode == "train")
    with torch.no_grad():
        x = blobs(8, 32, seed=9)
        z = net(x)
        net.project.weight.div_(z.std(0).mean())
        net.project.bias.sub_(net(x).mean(0))
        p = net(x).softmax(-1)
        assert p.std(0).max() > 0.05, "probabilities far apart, or any net would pass"
        for move in EXACT[group]:
            assert (net(move(x)).softmax(-1) - p).abs().max() <= 1e-5


@pytest.mark.parametrize("group", ["none", "p4", "c8"])
def test_what_is_promised_to_differ_differs(group):
    net = trained(group).eval().requires_grad_(False)
    x = blobs(16, 32, seed=9)
    z = net.embed(x)
    for move in MIRRORS if group != "none" else TURNS + MIRRORS:
        assert (net.embed(move(x)) - z).abs().mean() > 1e-3 * z.std(0).mean()  # rounding is 1e-6


@pytest.mark.parametrize("group", ["p4m", "c8", "d8"])
@pytest.mark.parametrize("size", [(16, 16), (17, 17), (33, 64), (50, 47), (34, 34)])
def test_any_size_is_exact(group, size):
    net = trained(group).eval().requires_grad_(False)
    x = blobs(3, size, seed=1)
    z = net.embed(x)
    assert torch.isfinite(z).all() and z.std(0).max() > 1e-3
    for move in EXACT[group]:
        torch.testing.assert_close(net.embed(move(x)), z, rtol=0, atol=2e-5)


def test_only_the_disc_is_seen():
    net = trained("p4").eval().requires_grad_(False)
    x = blobs(2, 32)
    corners = torch.ones(32, 32)
    corners[4:28] = corners[:, 4:28] = 0
    torch.testing.assert_close(net(x + 100 * corners), net(x), rtol=0, atol=0)
    middle = torch.zeros(32, 32)
    middle[15:17, 15:17] = 1
    assert (net(x + middle) - net(x)).abs().max() > 1e-3


def test_finer_groups_change_less_between_the_quarter_turns():
    # 45 degrees, where nothing is exact: clumps known in closed form, so that no resampling comes in.
    y, x = torch.meshgrid(*(torch.linspace(-1, 1, 64),) * 2, indexing="ij")
    generator = torch.Generator().manual_seed(3)
    radius, angle, height = torch.rand(3, 30, 12, 1, 1, generator=generator)

    def image(turn: float) -> torch.Tensor:
        u, v = (0.7 * radius * wave(2 * torch.pi * angle + turn) for wave in (torch.cos, torch.sin))
        clumps = height * torch.exp(-((x - u).square() + (y - v).square()) / 0.03)
        return clumps.sum(1, keepdim=True).expand(-1, 3, -1, -1)

    change = {}
    for group in ("none", "p4m", "d8"):
        torch.manual_seed(0)
        net = ConvNet(3, 16, group=group, width=32).requires_grad_(False)
        for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.momentum = 1.0
        net(image(0.3))  # statistics of the norms
        z, turned = net.eval()(image(0.0)), net(image(torch.pi / 4))
        change[group] = float(((turned - z).abs().mean(0) / z.std(0)).mean())
    assert change["d8"] < 0.5 * change["p4m"] and change["d8"] < 0.2 * change["none"], change


@pytest.mark.parametrize("group", GROUPS)
def test_the_ordinary_net_gives_the_same_answers(group):
    net = trained(group).eval()
    plain = net.ordinary()
    x = blobs(5, 32, seed=2)
    with torch.no_grad():
        torch.testing.assert_close(plain(x), net(x), rtol=1e-5, atol=1e-5)
    kinds = {type(m) for m in plain.modules() if not list(m.children())}
    assert kinds == {nn.Conv2d, nn.Dropout, nn.Linear}
    assert net.stem.norm.training is False and net.project.weight.requires_grad, "the net itself is left alone"


@pytest.mark.parametrize("group", ["p4m", "c8"])
def test_the_ordinary_net_runs_in_onnxruntime(group, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    net = trained(group).eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.ordinary(), (blobs(2, 32),), str(tmp_path / "net.onnx"), input_names=["x"], dynamo=True,
            dynamic_shapes={"x": {0: torch.export.Dim("rows")}}, external_data=False, verbose=False,
        )  # fmt: skip
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    for rows in (1, 7):
        x = blobs(rows, 32, seed=5)
        with torch.no_grad():
            np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], net(x).numpy(), atol=1e-5)


@pytest.mark.parametrize("group", GROUPS)
def test_gradients_reach_every_weight(group):
    net = trained(group, steps=1)
    net(blobs(4, 32)).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("group", ["p4m", "c8"])
def test_bf16_stays_near_and_invariant(group):
    net = trained(group).eval().requires_grad_(False)
    x = blobs(8, 32, seed=4)
    z = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        low, turned = net(x).float(), net(x.rot90(1, (2, 3))).float()
    assert (low - z).abs().max() < 0.05 * z.std(0).max() + 0.02
    assert (turned - low).abs().max() < 0.05 * z.std(0).max() + 0.02
    net.train().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        net(x).float().square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.parameters())


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("parameters", [60_000, 200_000])
def test_widths_meet_a_budget(group, parameters):
    width = width_for(parameters, 3, 4, group=group)
    net = ConvNet(3, 4, group=group, width=width)
    assert parameters_of(net) == pytest.approx(parameters, rel=0.06)
    assert parameters_of(net) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("shape", [(2, 4, 64, 64), (2, 3, 64), (3, 64, 64), (2, 3, 15, 64), (2, 3, 0, 0)])
def test_other_images_are_refused(shape):
    with pytest.raises(DeepfieldError, match=r"takes images \(N, 3, height, width\) of 16 pixels.*got an array"):
        ConvNet(3, 4, width=8)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": "so2"}, "unknown group"),
        ({"kernel": 4}, "kernel must be odd"),
        ({"depth": (1, 2)}, "three resolutions"),
        ({"width": 0}, "width must be positive"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(DeepfieldError, match=message):
        ConvNet(3, 4, **options)


def test_no_images_give_no_features():
    assert ConvNet(3, 4, width=8).eval()(torch.zeros(0, 3, 32, 32)).shape == (0, 4)


@pytest.mark.parametrize("group", ["p4m", "d8"])
def test_a_mirror_exchanges_two_outputs_and_keeps_the_others(group):
    net = ConvNet(2, 4, group=group, width=24, exchange=(1, 3)).eval()
    nn.init.normal_(net.project.weight)  # it begins near zero
    nn.init.normal_(net.project.bias)
    x = torch.randn(3, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    y = net(x)
    assert (y[:, 1] - y[:, 3]).abs().max() > 5e-3, "the two differ"
    for seen in (x.flip(3), x.flip(2), x.rot90(1, (2, 3)).flip(3)):
        assert torch.allclose(net(seen), y[:, [0, 3, 2, 1]], atol=1e-5)
        assert torch.allclose(net.ordinary()(seen), y[:, [0, 3, 2, 1]], atol=1e-5)
    assert torch.allclose(net(x.rot90(1, (2, 3))), y, atol=1e-5)


@pytest.mark.parametrize(("group", "pair"), [("c8", (0, 1)), ("d8", (0, 0)), ("d8", (0, 5)), ("d8", (0, 1, 2))])
def test_outputs_that_cannot_be_exchanged(group, pair):
    with pytest.raises(DeepfieldError, match="exchange is of two of 3 outputs"):
        ConvNet(1, 3, group=group, width=16, exchange=pair)


def test_moments_know_where_things_are_and_how_they_lie():
    x = torch.zeros(3, 1, 64, 64)
    x[0, 0, 20:24, 20:24] = x[1, 0, 36:40, 20:24] = x[2, 0, 20:24, 36:40] = 5.0  # the same spot elsewhere
    torch.manual_seed(0)
    blind, sees = (ConvNet(1, 2, group="none", width=16, moments=m).eval() for m in (0, 2))
    assert sees.n_features == 6 * (sees.n_features // 6)
    spread = [float((net.embed(x).std(0).mean() / net.embed(x).abs().mean()).detach()) for net in (blind, sees)]
    assert spread[1] > 3 * spread[0]
    torch.testing.assert_close(sees.ordinary()(x), sees(x), rtol=1e-4, atol=1e-5)
    with pytest.raises(DeepfieldError, match="moments depend on how an image is turned"):
        ConvNet(1, 2, group="p4", moments=1)


def test_the_polynomials_are_orthogonal():
    p = polynomials(3, torch.zeros(1, 1, 200, 200, dtype=torch.float64)).flatten(1)
    torch.testing.assert_close(p @ p.T / 200**2, torch.eye(10, dtype=torch.float64), atol=1e-3, rtol=0)
