"""deepfield lensing: the verbs on the command line."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from deepfield.core.console import PARAMETERS

app = App(
    name="lensing",
    help="Strong lensing: cutouts in, the probability of a lens and its parameters out.",
    group_parameters=PARAMETERS,
)


@app.command
def simulate(
    *,
    out: Path,
    survey: str = "lsst",
    n: Annotated[int, Parameter(name=("--n", "-n"))] = 10000,
    lens_fraction: float = 0.5,
    size: int = 0,
    seed: int = 0,
) -> None:
    """Simulate lenses, and what is none, as a survey sees them, each with its truth.

    Parameters
    ----------
    out
        .hdf5, with `images` in nJy and a column for each parameter.
    survey
        lsst, euclid, des, cfhtls, hsc or hst: whose bands, pixels, seeing, depth and lenses.
    n
        Number of images.
    lens_fraction
        Share of lenses; the rest are galaxies, artefacts and what else fools finders.
    size
        Pixels on a side, even; by default 8 to 17 arcsec, by survey.
    """
    from deepfield.lensing.simulate import write

    count = write(out, n, survey=survey, lens_fraction=lens_fraction, size=size, seed=seed)
    print(f"{n:,} images, {count:,} of them lenses, to {out}", file=sys.stderr)
