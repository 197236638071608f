"""deepfield: survey data in, calibrated probabilities out.

The sciences are modules of one shape (``read``, ``simulate``, ``train``, ``predict``, ``score``, ``run``)
and load when they are first touched, so that ``import deepfield`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

SCIENCES = {
    "photoz": "Photometric redshifts: how far is this galaxy?",
    "morphology": "Galaxy morphology: what does this galaxy look like?",
    "lensing": "Strong lensing: is it a lens, and which?",
    "inference": "Simulation-based inference: which parameters made these data?",
    "emulators": "Emulators: what would the simulation say?",
}
_ROOMS = (*SCIENCES, "core", "data", "physics", "scale", "trust")

if TYPE_CHECKING:
    from deepfield import (  # noqa: F401
        core,
        data,
        emulators,
        inference,
        lensing,
        morphology,
        photoz,
        physics,
        scale,
        trust,
    )

__all__ = ["SCIENCES", "__version__", *_ROOMS]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"deepfield.{name}")
    raise AttributeError(f"module 'deepfield' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
