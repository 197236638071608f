"""Simulation-based inference: which parameters made these data? NPE, NLE and NRE, with their own tests.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfield.core.lazy import lazy

if TYPE_CHECKING:
    from deepfield.inference.cosmology import Expansion, Measurement, measurement
    from deepfield.inference.likelihood import RatioTest, profile, ratio_test
    from deepfield.inference.model import InferenceConfig
    from deepfield.inference.posterior import Posterior
    from deepfield.inference.priors import Prior
    from deepfield.inference.sampling import Chains
    from deepfield.inference.simulate import simulate
    from deepfield.inference.simulations import Simulations
    from deepfield.inference.train import nle, npe, nre, train

    load = Posterior.load

_HOMES = {
    "cosmology": ("Expansion", "Measurement", "measurement"),
    "likelihood": ("RatioTest", "profile", "ratio_test"),
    "model": ("InferenceConfig",),
    "posterior": ("Posterior",),
    "priors": ("Prior",),
    "sampling": ("Chains",),
    "simulate": ("simulate",),
    "simulations": ("Simulations",),
    "train": ("nle", "npe", "nre", "train"),
}

__all__ = [
    "Chains",
    "Expansion",
    "InferenceConfig",
    "Measurement",
    "Posterior",
    "Prior",
    "RatioTest",
    "Simulations",
    "load",
    "measurement",
    "nle",
    "npe",
    "nre",
    "profile",
    "ratio_test",
    "simulate",
    "train",
]

lazy(__name__, _HOMES, saved_model="Posterior")
