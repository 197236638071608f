"""Images per second of processor time, measured alike for deepfield and its peer; needs torch alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


def rate(step: Callable[[], Any], images: int, *, seconds: float = 1.0, repeats: int = 5) -> float:
    """Images per processor second, the best of a few stretches of about a second."""
    for _ in range(2):
        step()
    best = float("inf")
    for _ in range(repeats):
        began, n = time.process_time(), 0
        while time.process_time() - began < seconds:
            step()
            n += 1
        best = min(best, (time.process_time() - began) / n)
    return images / best


def rates(net: nn.Module, serve: Callable[[], nn.Module], *, batch: int, size: int) -> dict[str, float]:
    """Of a training step (forward, backward, AdamW), and of ``serve()``, the net as one would serve it."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 3, size, size, generator=generator)
    y = torch.randint(0, 4, (batch,), generator=generator)
    optimizer = torch.optim.AdamW(net.parameters(), fused=True)
    net.train()

    def train() -> None:
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        optimizer.step()

    found = {"train": rate(train, batch)}
    net.eval()
    served = serve()
    with torch.no_grad():
        found["infer"] = rate(lambda: served(x), batch)
    return found
