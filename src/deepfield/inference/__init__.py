"""Simulation-based inference: which parameters made these data? NPE, NLE and NRE, with their own tests.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfield.core.lazy import lazy

if TYPE_CHECKING:
    from deepfield.inference.chains import plot, to_anesthetic, to_arviz, to_getdist, write_chain
    from deepfield.inference.cosmology import Expansion, Measurement, measurement
    from deepfield.inference.diagnose import Diagnostics, diagnose, local_test, predictive_check
    from deepfield.inference.likelihood import RatioTest, profile, ratio_test
    from deepfield.inference.model import InferenceConfig
    from deepfield.inference.posterior import Posterior, export
    from deepfield.inference.priors import Prior
    from deepfield.inference.regions import Regions, conformal_regions
    from deepfield.inference.rounds import focus
    from deepfield.inference.run import run
    from deepfield.inference.sampling import Chains
    from deepfield.inference.simulate import simulate
    from deepfield.inference.simulations import Simulations
    from deepfield.inference.train import nle, npe, nre, train

    load = Posterior.load

_HOMES = {
    "chains": ("plot", "to_anesthetic", "to_arviz", "to_getdist", "write_chain"),
    "cosmology": ("Expansion", "Measurement", "measurement"),
    "diagnose": ("Diagnostics", "diagnose", "local_test", "predictive_check"),
    "likelihood": ("RatioTest", "profile", "ratio_test"),
    "model": ("InferenceConfig",),
    "posterior": ("Posterior", "export"),
    "priors": ("Prior",),
    "regions": ("Regions", "conformal_regions"),
    "rounds": ("focus",),
    "run": ("run",),
    "sampling": ("Chains",),
    "simulate": ("simulate",),
    "simulations": ("Simulations",),
    "train": ("nle", "npe", "nre", "train"),
}

__all__ = [
    "Chains",
    "Diagnostics",
    "Expansion",
    "InferenceConfig",
    "Measurement",
    "Posterior",
    "Prior",
    "RatioTest",
    "Regions",
    "Simulations",
    "conformal_regions",
    "diagnose",
    "export",
    "focus",
    "load",
    "local_test",
    "measurement",
    "nle",
    "npe",
    "nre",
    "plot",
    "predictive_check",
    "profile",
    "ratio_test",
    "run",
    "simulate",
    "to_anesthetic",
    "to_arviz",
    "to_getdist",
    "train",
    "write_chain",
]

lazy(__name__, _HOMES, saved_model="Posterior")
