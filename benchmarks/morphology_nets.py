"""Plain against equivariant nets on real galaxies, at equal parameters and equal processor time.

    DEEPFIELD_DATA=... python benchmarks/morphology_nets.py --groups none p4m d8 --seconds 440

Galaxy Zoo 1 (Lintott et al. 2008), four classes (elliptical, spiral, edge-on, merger) at 64 pixels, trained on its
train rows with turns by any angle, mirrors, small shifts and scales, and measured on its val rows: accuracy,
log-loss, macro-F1; largest change of a probability under the exact symmetries; and at 45 degrees (cubic splines at
128 pixels, then halved) the mean change of a logit over its standard deviation across galaxies, and the share of
labels that flip. One thread; needs pillow. The val rows are few (675): an accuracy has an error of .014.
"""

from __future__ import annotations

import argparse
import copy
import io
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy.ndimage import affine_transform
from torch import Tensor
from torch.nn import functional as F

from deepfield.core.nets import ConvNet, parameters_of, width_for

CLASSES = {0: 0, 1: 1, 2: 1, 3: 2, 5: 3}  # both senses of spiral are one class; 4 is "don't know"


def normalise(x: Tensor) -> Tensor:
    return (x / 255 - 0.12) / 0.15


def load(path: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Images (N, 3, 128, 128) uint8, classes, and whether a row is for training."""
    table = pq.read_table(path).to_pydict()
    rows = [i for i, label in enumerate(table["label"]) if label in CLASSES]
    images = [np.asarray(Image.open(io.BytesIO(table["jpeg"][i])).convert("RGB")) for i in rows]
    x = torch.from_numpy(np.stack(images).transpose(0, 3, 1, 2).copy())
    y = torch.tensor([CLASSES[table["label"][i]] for i in rows])
    return x, y, torch.tensor([table["split"][i] == "train" for i in rows])


def turned(x: Tensor, angle: float) -> Tensor:
    """Images turned by ``angle`` (radians) with cubic splines."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix, middle = np.array([[cos, -sin], [sin, cos]]), np.full(2, (x.shape[-1] - 1) / 2)
    shift = middle - matrix @ middle
    planes = x.float().numpy().reshape(-1, *x.shape[2:])
    out = np.stack([affine_transform(p, matrix, shift, order=3, mode="reflect") for p in planes])
    return torch.from_numpy(out).view(x.shape)


def augmented(x: Tensor, rng: torch.Generator) -> Tensor:
    """Means of 2 x 2 pixels (N, 3, 127, 127), drawn on a turned grid of 64 x 64."""
    n = len(x)
    angle, scale, flip = (torch.rand(n, generator=rng) for _ in range(3))
    shift = 0.08 * (torch.rand(n, 2, generator=rng) - 0.5)
    factor = torch.exp(0.24 * (scale - 0.5)) * 126 / 127
    cos, sin = factor * (2 * math.pi * angle).cos(), factor * (2 * math.pi * angle).sin()
    mirror = torch.where(flip < 0.5, -1.0, 1.0)
    rows = [torch.stack([mirror * cos, -sin, shift[:, 0]], -1), torch.stack([mirror * sin, cos, shift[:, 1]], -1)]
    grid = F.affine_grid(torch.stack(rows, 1), [n, 3, 64, 64], align_corners=False)
    out = F.grid_sample(x.float(), grid, padding_mode="reflection", align_corners=False)
    return normalise(out).contiguous(memory_format=torch.channels_last)


def train(net: ConvNet, x: Tensor, y: Tensor, *, seconds: float, seed: int, rate: float, batch: int) -> float:
    """One cycle of AdamW over ``seconds`` of processor time; the net becomes the moving average. Epochs."""
    rng = torch.Generator().manual_seed(seed)
    parameters = list(net.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.99), weight_decay=1e-2, fused=True)
    average, steps, began = copy.deepcopy(net), 0, time.process_time()
    net.train()
    while (progress := (time.process_time() - began) / seconds) < 1:
        rows = torch.randint(len(y), (batch,), generator=rng)
        rise, fall = progress / 0.1, 0.5 * (1 + math.cos(math.pi * (progress - 0.1) / 0.9))
        optimizer.param_groups[0]["lr"] = rate * (rise if progress < 0.1 else fall)
        optimizer.zero_grad()
        F.cross_entropy(net(augmented(x[rows], rng)), y[rows]).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        steps += 1
        weight = 1 - min(0.995, (1 + steps) / (10 + steps))
        with torch.no_grad():
            for kept, now in zip(average.state_dict().values(), net.state_dict().values()):
                if kept.is_floating_point():
                    kept.lerp_(now, weight)
    net.load_state_dict(average.state_dict())
    return steps * batch / len(y)


@torch.no_grad()
def measure(net: ConvNet, x: Tensor, at45: Tensor, y: Tensor) -> dict[str, float]:
    """All that the head of this file names."""
    served = net.eval()

    def logits(images: Tensor) -> Tensor:
        return torch.cat([served(images[i : i + 64]) for i in range(0, len(images), 64)]).double()

    z, between = logits(x), logits(at45)
    log_p, label = z.log_softmax(-1), z.argmax(-1)
    f1 = [2 * ((label == k) & (y == k)).sum() / ((label == k).sum() + (y == k).sum()).clamp(1) for k in range(4)]
    turns = [x.rot90(k, (2, 3)) for k in (1, 2, 3)]
    mirrors = [x.flip(3)] if net.group.mirrors or net.group.name == "none" else []
    change = [(logits(moved).softmax(-1) - log_p.exp()).abs().max() for moved in (*turns, *mirrors)]
    return {
        "accuracy": (label == y).double().mean().item(),
        "log-loss": -log_p.gather(1, y[:, None]).mean().item(),
        "macro-F1": torch.stack(f1).mean().item(),
        "change of p, exact symmetries": torch.stack(change).max().item(),
        "change of logit at 45, over its spread": ((between - z).abs().mean(0) / z.std(0)).mean().item(),
        "labels that flip at 45": (between.argmax(-1) != label).double().mean().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="+", default=["none", "p4", "p4m", "c8", "d8"])
    parser.add_argument("--seconds", type=float, default=440)
    parser.add_argument("--parameters", type=int, default=97_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x, y, training = load(Path(os.environ["DEEPFIELD_DATA"]) / "morphology" / "galaxy_zoo1_sdss_128.parquet")
    held_out = x[~training]
    val, at45 = (normalise(F.avg_pool2d(v, 2)) for v in (held_out.float(), turned(held_out, math.pi / 4)))
    fine = F.avg_pool2d(x[training].float(), 2, 1).to(torch.uint8)
    for group in options.groups:
        torch.manual_seed(options.seed)
        net = ConvNet(3, 4, group=group, width=width_for(options.parameters, 3, 4, group=group))
        epochs = train(
            net, fine, y[training], seconds=options.seconds, seed=options.seed, rate=options.rate,
            batch=options.batch,
        )  # fmt: skip
        found = {"group": group, "parameters": parameters_of(net), "epochs": epochs, **vars(options)}
        print(json.dumps(found | measure(net, val, at45, y[~training])), flush=True)


if __name__ == "__main__":
    main()
