"""The peer of morphology_speed.py: residual nets of escnn, of the same shape or of its usual one.

Runs in an environment of its own (numpy below 2; lie_learn wants gfortran; build tools first):

    python3.11 -m venv venv-escnn
    venv-escnn/bin/pip install "numpy<2" setuptools wheel "cython>=3" meson meson-python ninja scipy torch
    PATH=venv-escnn/bin:$PATH pip install --no-build-isolation "numpy<2" py3nj lie_learn escnn==1.0.11

Called with one JSON argument: group, block ("separable" or "full"), kernel, parameters, batch, size, depth.
Prints one JSON line. ReLU and 2 x 2 means stand where deepfield has SiLU and a blur, both in escnn's favour.
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


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.manual_seed(0)
    space = SPACES[spec["group"]]()
    best, width = None, 8.0
    while width < 200:  # the widest net within the budget; a few per cent below is what whole fields allow
        net = Net(space, width, spec["block"], spec["kernel"], spec["depth"])
        count = sum(p.numel() for p in net.parameters())
        if best is None or abs(count - spec["parameters"]) < abs(best[0] - spec["parameters"]):
            best = (count, net)
        if count > 1.1 * spec["parameters"]:
            break
        width *= 1.04
    count, net = best
    found = rates(net, net.eval, batch=spec["batch"], size=spec["size"])
    versions = {name: metadata.version(name) for name in ("escnn", "torch", "numpy")}
    print(json.dumps({**spec, "parameters": count, **found, "versions": versions}))


if __name__ == "__main__":
    main()
