"""The peer of morphology_speed.py: nets of escnn, of deepfield's shape or as its own example builds them.

Runs in an environment of its own (numpy below 2; lie_learn wants gfortran; build tools first):

    python3.11 -m venv venv-escnn
    venv-escnn/bin/pip install "numpy<2" setuptools wheel "cython>=3" meson meson-python ninja scipy torch
    PATH=venv-escnn/bin:$PATH pip install --no-build-isolation "numpy<2" py3nj lie_learn escnn==1.0.11

Called with one JSON argument: group, block ("separable", "full" or "example"), kernel, parameters, batch, size,
depth. Prints one JSON line. In the first two ReLU and 2 x 2 means stand where deepfield has SiLU and a blur, both
in escnn's favour. "example" is the C8 net of escnn's examples/model.ipynb (:class:`Example`).
"""

from __future__ import annotations

import json
import sys
from importlib import metadata

import torch
from escnn import gspaces
from escnn import nn as enn
from morphology_rates import rates

SPACES = {
    "p4": lambda: gspaces.rot2dOnR2(4),
    "c8": lambda: gspaces.rot2dOnR2(8),
    "p4m": lambda: gspaces.flipRot2dOnR2(4),
    "d8": lambda: gspaces.flipRot2dOnR2(8),
}


class Block(torch.nn.Module):
    """x + convolutions, separable as deepfield's or two full ones."""

    def __init__(self, field, wide, n, kernel, separable):
        super().__init__()
        pad = kernel // 2
        if separable:
            layers = [
                enn.R2Conv(field, field, kernel, padding=pad, groups=n, bias=False),
                enn.R2Conv(field, wide, 1, bias=False), enn.InnerBatchNorm(wide), enn.ReLU(wide),
                enn.R2Conv(wide, field, 1, bias=False), enn.InnerBatchNorm(field),
            ]  # fmt: skip
        else:
            layers = [
                enn.R2Conv(field, field, kernel, padding=pad, bias=False), enn.InnerBatchNorm(field),
                enn.ReLU(field), enn.R2Conv(field, field, kernel, padding=pad, bias=False),
                enn.InnerBatchNorm(field),
            ]  # fmt: skip
        self.body = enn.SequentialModule(*layers)

    def forward(self, x):
        return x + self.body(x)


class Net(torch.nn.Module):
    """Stem to half the size, three stages at a quarter, an eighth and a sixteenth, mean, linear."""

    def __init__(self, space, width, block, kernel, depth):
        super().__init__()
        regular = space.regular_repr
        order = regular.size

        def fields(share):
            return max(1, round(share * width / order**0.5))

        def kind(n):
            return enn.FieldType(space, n * [regular])

        self.image = enn.FieldType(space, 3 * [space.trivial_repr])
        n = fields(0.5)
        layers = [
            enn.R2Conv(self.image, kind(n), 6, stride=2, padding=2, bias=False),
            enn.InnerBatchNorm(kind(n)),
            enn.ReLU(kind(n)),
        ]
        for share, blocks in zip((0.5, 1, 2), depth):
            m = fields(share)
            layers += [
                enn.PointwiseAvgPool(kind(n), 2, 2),
                enn.R2Conv(kind(n), kind(m), 1, bias=False),
                enn.InnerBatchNorm(kind(m)),
            ]
            layers += [Block(kind(m), kind(2 * m), m, kernel, block == "separable") for _ in range(blocks)]
            n = m
        last = kind(2 * n)
        layers += [enn.R2Conv(kind(n), last, 1, bias=False), enn.InnerBatchNorm(last), enn.ReLU(last)]
        layers += [enn.GroupPooling(last)]
        self.layers = torch.nn.ModuleList(layers)
        self.project = torch.nn.Linear(2 * n, 4)

    def forward(self, x):
        h = enn.GeometricTensor(x, self.image)
        for layer in self.layers:
            h = layer(h)
        return self.project(h.tensor.mean((-1, -2)))


class Example(torch.nn.Module):
    """The net of escnn's examples/model.ipynb.

    7 x 7 on the image as it is, five layers of regular fields, antialiased means after the second and the fourth,
    the maximum over versions, two linear layers. Its fields (24, 48, 48, 96, 96, 64) are scaled to the number of
    parameters. The example ends on one pixel (images of 29); larger maps are averaged in place of its third mean.
    For the mirrored group the space alone is exchanged.
    """

    def __init__(self, space, share, kernel, size):
        super().__init__()
        self.image = enn.FieldType(space, 3 * [space.trivial_repr])
        layers = [enn.MaskModule(self.image, size, margin=1)]
        kind = self.image
        for i, n in enumerate((24, 48, 48, 96, 96, 64)):
            wide = enn.FieldType(space, max(1, round(n * share)) * [space.regular_repr])
            taps, padding = (7, 1) if i == 0 else (kernel, kernel // 2 if i < 5 else kernel // 2 - 1)
            layers += [
                enn.R2Conv(kind, wide, taps, padding=padding, bias=False),
                enn.InnerBatchNorm(wide),
                enn.ReLU(wide, inplace=True),
            ]
            if i in (1, 3):
                layers.append(enn.PointwiseAvgPoolAntialiased(wide, sigma=0.66, stride=2))
            kind = wide
        self.layers = torch.nn.ModuleList([*layers, enn.GroupPooling(kind)])
        features = self.layers[-1].out_type.size
        self.head = torch.nn.Sequential(
            torch.nn.Linear(features, 64),
            torch.nn.BatchNorm1d(64),
            torch.nn.ELU(inplace=True),
            torch.nn.Linear(64, 4),
        )

    def forward(self, x):
        h = enn.GeometricTensor(x, self.image)
        for layer in self.layers:
            h = layer(h)
        return self.head(h.tensor.mean((-1, -2)))


def build(spec: dict, width: float) -> torch.nn.Module:
    space = SPACES[spec["group"]]()
    if spec["block"] == "example":
        return Example(space, width / 128, spec["kernel"], spec["size"])
    return Net(space, width, spec["block"], spec["kernel"], spec["depth"])


def products(net: torch.nn.Module, size: int) -> int:
    """Multiplications per image of all convolutions, their filters expanded."""
    found = []

    def count(conv, _, out):
        pixels = out.tensor.shape[-1] * out.tensor.shape[-2]
        found.append(conv.in_type.size * conv.out_type.size // conv.groups * conv.kernel_size**2 * pixels)

    hooks = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, enn.R2Conv)]
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    return sum(found)


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    best, width = None, 16.0
    while width < 200:  # the widest net within the budget; a few per cent below is what whole fields allow
        net = build(spec, width)
        count = sum(p.numel() for p in net.parameters())
        if best is None or abs(count - spec["parameters"]) < abs(best[0] - spec["parameters"]):
            best = (count, net)
        if count > 1.1 * spec["parameters"]:
            break
        width *= 1.01
    count, net = best
    spec["products"] = products(net, spec["size"])
    found = rates(net, net.eval, batch=spec["batch"], size=spec["size"])
    versions = {name: metadata.version(name) for name in ("escnn", "torch", "numpy")}
    print(json.dumps({**spec, "parameters": count, **found, "versions": versions}))


if __name__ == "__main__":
    main()
