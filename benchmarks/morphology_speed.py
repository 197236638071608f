"""How fast: equivariant nets against escnn's and against plain convolutions, images per core-second.

    python benchmarks/morphology_speed.py --escnn venv-escnn/bin/python

Writes benchmarks/results/morphology_speed.json. Each net is measured in a process of its own, on one thread, one
after the other in this one run. escnn lives in its own environment (morphology_peer_escnn.py says how to make
it) and is measured in three layouts at the same number of parameters (LAYOUTS): two of deepfield's shape, which
compare the code alone, and the net of its own published example, which compares what users of either run: there
images stay at full resolution for longer. "products" are multiplications per image. "onnx" is the exported net in
onnxruntime; "onnx plain" an ordinary net of deepfield with as many multiplications.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from morphology_rates import rate, rates
from torch import nn

from deepfield.core.files import atomic
from deepfield.core.nets import ConvNet, parameters_of, width_for
from deepfield.core.report import machine

ROOT = Path(__file__).parent
DEPTH = (1, 2, 2)
LAYOUTS = {
    "separable": "deepfield's layout: separable residual blocks, images halved as early",
    "full": "deepfield's layout with full k x k residual blocks",
    "example": "as escnn's example builds it: 7 x 7 at full resolution, then five layers of 5 x 5",
}


def products(net: ConvNet, size: int) -> int:
    """Multiplications per image of all convolutions."""
    total = 0

    def count(module: nn.Conv2d, _: Any, out: torch.Tensor) -> None:
        nonlocal total
        total += module.weight.numel() * out.shape[-1] * out.shape[-2]

    plain = net.eval().ordinary()
    for module in plain.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    with torch.no_grad():
        plain(torch.zeros(1, 3, size, size))
    return total


def onnx_rate(net: ConvNet, *, batch: int, size: int) -> float:
    """Of the exported net in onnxruntime."""
    import onnxruntime

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    x = torch.randn(batch, 3, size, size)
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = str(Path(scratch) / "net.onnx")
        torch.onnx.export(
            net.eval().ordinary(), (x,), path, input_names=["x"], dynamo=True, external_data=False, verbose=False
        )
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return rate(lambda: session.run(None, {"x": x.numpy()}), batch)


def own(spec: dict[str, Any]) -> dict[str, Any]:
    """One net of deepfield; in a process of its own."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    group, batch, size = spec["group"], spec["batch"], spec["size"]
    net = ConvNet(3, 4, group=group, width=width_for(spec["parameters"], 3, 4, group=group))
    found = {**spec, "parameters": parameters_of(net), "products": products(net, size)}
    found |= rates(net, net.ordinary, batch=batch, size=size)
    found["onnx"] = onnx_rate(net, batch=batch, size=size)
    if group != "none":
        channels = net.stages[1][0].norm.num_features * net.group.order
        plain = ConvNet(3, 4, group="none", width=channels)
        found["plain products"] = products(plain, size)
        found["onnx plain"] = onnx_rate(plain, batch=batch, size=size)
    return found


def child(command: list[str], spec: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, json.dumps(spec)], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )
    if done.returncode:
        return {**spec, "error": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def table(results: dict[str, Any]) -> str:
    """The ratios of images per second, for people."""
    lines = ["deepfield / escnn            train  infer"]
    for name, found in results["escnn"].items():
        train, infer = (found.get(f"deepfield / escnn, {what}", float("nan")) for what in ("train", "infer"))
        lines.append(f"{name:27s} {train:6.2f} {infer:6.2f}   {found['layout']}")
    for name, ours in results["deepfield"].items():
        if "onnx plain" in ours:
            lines.append(f"{name:27s} onnx at {ours['onnx'] / ours['onnx plain']:.2f} of the plain net's speed")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--escnn", help="the Python of the environment that has escnn")
    parser.add_argument("--parameters", type=int, default=60_900)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--own", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.own:
        print(json.dumps(own(json.loads(options.own))))
        return
    common = {"parameters": options.parameters, "batch": options.batch, "size": options.size}
    results: dict[str, Any] = {"machine": machine(), "deepfield": {}, "escnn": {}}
    for group in ("none", "p4", "p4m", "c8", "d8"):
        spec = {"group": group, **common}
        results["deepfield"][group] = ours = child([sys.executable, str(Path(__file__).resolve()), "--own"], spec)
        print("deepfield", json.dumps(ours), flush=True)
        # escnn's nets of this group right after: a machine shared with others is not as fast at all times.
        for block, layout in LAYOUTS.items() if options.escnn and group in ("p4m", "c8") else ():
            kernel = 3 if (group, block) == ("p4m", "full") else 5
            spec = {"group": group, "block": block, "layout": layout, "kernel": kernel, "depth": DEPTH, **common}
            found = child([options.escnn, str(ROOT / "morphology_peer_escnn.py")], spec)
            for what in ("train", "infer"):
                if what in found and what in ours:
                    found[f"deepfield / escnn, {what}"] = ours[what] / found[what]
            results["escnn"][f"{group} {block}"] = found
            print("escnn", json.dumps(found), flush=True)
    print(table(results))
    with atomic(ROOT / "results" / "morphology_speed.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
