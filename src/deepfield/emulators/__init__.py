"""Emulators: what would the simulation say? Matter power spectra, and any other summary statistic, with errors.

The names load when they are first touched, so that the command line can explain itself without torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfield.core.lazy import lazy

if TYPE_CHECKING:
    from deepfield.emulators.adaptors import to_ccl
    from deepfield.emulators.cmb import CMB_BOX, CMBSpectra
    from deepfield.emulators.derived import correlation, lensing_spectra, sigma
    from deepfield.emulators.model import Emulation, Emulator, EmulatorConfig
    from deepfield.emulators.nbody import SimulatedPower
    from deepfield.emulators.parameters import BOX
    from deepfield.emulators.power import MatterPower
    from deepfield.emulators.run import run
    from deepfield.emulators.score import Score, learning_curve, leave_out, score
    from deepfield.emulators.simulate import boltzmann_spectra, design, simulate
    from deepfield.emulators.train import train
    from deepfield.emulators.wide import WIDE_BOX, WidePower

    load = Emulator.load

_HOMES = {
    "adaptors": ("to_ccl",),
    "cmb": ("CMB_BOX", "CMBSpectra"),
    "derived": ("correlation", "lensing_spectra", "sigma"),
    "model": ("Emulation", "Emulator", "EmulatorConfig"),
    "nbody": ("SimulatedPower",),
    "parameters": ("BOX",),
    "power": ("MatterPower",),
    "run": ("run",),
    "score": ("Score", "learning_curve", "leave_out", "score"),
    "simulate": ("boltzmann_spectra", "design", "simulate"),
    "train": ("train",),
    "wide": ("WIDE_BOX", "WidePower"),
}

__all__ = [
    "BOX",
    "CMB_BOX",
    "WIDE_BOX",
    "CMBSpectra",
    "Emulation",
    "Emulator",
    "EmulatorConfig",
    "MatterPower",
    "Score",
    "SimulatedPower",
    "WidePower",
    "boltzmann_spectra",
    "correlation",
    "design",
    "learning_curve",
    "leave_out",
    "lensing_spectra",
    "load",
    "run",
    "score",
    "sigma",
    "simulate",
    "to_ccl",
    "train",
]

lazy(__name__, _HOMES, saved_model="Emulator")
