"""Spirals, real and simulated, and nets that learn which way they wind: for the benchmark and the shipped net."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from deepfield import morphology
from deepfield.morphology import Images, MorphologyConfig, MorphologyModel

PARAMETERS = 60_000
SPIRAL = 64  # central pixels, all of them seen: arms are thin
SENSES = ("spiral_cw", "spiral_acw")


def spirals() -> Images:
    """The real spirals whose sense volunteers could tell."""
    images = morphology.read("galaxy_zoo1_sdss", crop=SPIRAL)
    return images[np.isin(np.asarray(images.table["label_name"]).astype(str), SENSES)]


def senses(group: str) -> tuple[MorphologyModel, MorphologyConfig]:
    """A net that has learnt the senses of simulated spirals, and how to go on with real ones."""
    still = {"zoom": 0.0, "blur": 0.0, "noise": 0.0, "shift": 0.0, "dropout": 0.0}
    settings: dict[str, Any] = {"labels": ("label_name",), "group": group, "pixels": SPIRAL, **still}
    config = MorphologyConfig(**settings, parameters=PARAMETERS, epochs=6)
    changed = replace(config, zoom=0.3, blur=0.7, noise=0.15, shift=0.03, thaw=1.0, learning_rate=2e-3, epochs=5)
    base = morphology.train(simulated_spirals(12_000, seed=0), config, progress=False)
    base = morphology.train(simulated_spirals(12_000, seed=1), changed, init=base, progress=False)
    return base, replace(changed, learning_rate=1e-3, epochs=50)


def simulated_spirals(n: int, seed: int) -> Images:
    """The spirals among n simulated galaxies, as pictures."""
    drawn = morphology.simulate(n, seed=seed, size=SPIRAL)
    armed = np.flatnonzero(np.asarray(drawn.table["kind"]) == "spiral")
    table = drawn.table[armed]
    table["label_name"] = np.where(np.asarray(table["winding"]) > 0, *SENSES)
    return morphology.read(picture(drawn.images[armed]).numpy(), catalog=table)


def picture(flux: torch.Tensor) -> torch.Tensor:
    """Fluxes (N, 3, S, S) in g, r and i (nJy) as the bytes of a picture much like SDSS's (Lupton et al. 2004)."""
    rgb = flux.flip(1) / 8_000 * torch.tensor([0.75, 1.0, 1.6])[:, None, None]
    mean = rgb.mean(1, keepdim=True).clamp_min(1e-6)
    return (255 * rgb * torch.asinh(3 * mean) / (3 * mean)).clamp(0, 255).to(torch.uint8)


def mirror(images: Images) -> Images:
    return morphology.read(images.load()[0].flip(3).numpy(), bands=images.bands)
