"""Strong lensing: is it a strong lens, and which? Physics, simulator, finder and measurer.

Conventions, here and nowhere else: angles are arcsec, x to the right and y up; position angles ``phi`` are radians
from the x axis anticlockwise to the major axis (tables: degrees); ``q`` is minor over major; the Einstein radius
of an ellipse is sqrt(major * minor) of the ellipse within which the mean kappa is one, as in lenstronomy, caustics
and COOLEST; the half-light radius of a Sersic profile is along its major axis, as in caustics, where lenstronomy
and COOLEST have sqrt(major * minor), smaller by sqrt(q); ``slope`` is that of the density in three dimensions, 2
for an isothermal lens; shear stretches images along its angle; a source is at beta = theta - alpha(theta).

The names load when they are first touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from deepfield.core.lazy import lazy

if TYPE_CHECKING:
    from deepfield.data.images.read import cutouts, read
    from deepfield.lensing.candidates import Candidates
    from deepfield.lensing.coolest import System, read_coolest, write_coolest
    from deepfield.lensing.curves import Curves, curves
    from deepfield.lensing.lens import (
        Deflector,
        Lens,
        epl,
        nfw,
        point_mass,
        point_mass_images,
        shear,
        sheet,
        sie,
        sis,
    )
    from deepfield.lensing.light import Sersic
    from deepfield.lensing.measurement import Measurement
    from deepfield.lensing.model import LensingConfig, LensingModel
    from deepfield.lensing.onto import paint_onto
    from deepfield.lensing.planes import Planes
    from deepfield.lensing.predict import export, find, find_file, measure, measure_file
    from deepfield.lensing.render import Noise, render
    from deepfield.lensing.run import run
    from deepfield.lensing.score import Score, agreement, score, score_measurement
    from deepfield.lensing.simulate import Simulated, simulate
    from deepfield.lensing.solver import Images, images
    from deepfield.lensing.surveys import Survey, surveys
    from deepfield.lensing.train import Fit, fit, train

    load = LensingModel.load

_HOMES = {
    "candidates": ("Candidates",),
    "deepfield.data.images.read": ("cutouts", "read"),
    "measurement": ("Measurement",),
    "model": ("LensingConfig", "LensingModel"),
    "predict": ("export", "find", "find_file", "measure", "measure_file"),
    "run": ("run",),
    "score": ("Score", "agreement", "score", "score_measurement"),
    "train": ("Fit", "fit", "train"),
    "coolest": ("System", "read_coolest", "write_coolest"),
    "curves": ("Curves", "curves"),
    "lens": (
        "Deflector",
        "Lens",
        "epl",
        "nfw",
        "point_mass",
        "point_mass_images",
        "shear",
        "sheet",
        "sie",
        "sis",
    ),
    "light": ("Sersic",),
    "onto": ("paint_onto",),
    "planes": ("Planes",),
    "render": ("Noise", "render"),
    "simulate": ("Simulated", "simulate"),
    "solver": ("Images", "images"),
    "surveys": ("Survey", "surveys"),
}

__all__ = [
    "Candidates",
    "Curves",
    "Deflector",
    "Fit",
    "Images",
    "Lens",
    "LensingConfig",
    "LensingModel",
    "Measurement",
    "Noise",
    "Planes",
    "Score",
    "Sersic",
    "Simulated",
    "Survey",
    "System",
    "agreement",
    "curves",
    "cutouts",
    "epl",
    "export",
    "find",
    "find_file",
    "fit",
    "images",
    "load",
    "measure",
    "measure_file",
    "nfw",
    "paint_onto",
    "point_mass",
    "point_mass_images",
    "read",
    "read_coolest",
    "render",
    "run",
    "score",
    "score_measurement",
    "shear",
    "sheet",
    "sie",
    "simulate",
    "sis",
    "surveys",
    "train",
    "write_coolest",
]

lazy(__name__, _HOMES, saved_model="LensingModel")
