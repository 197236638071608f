"""Options of commands that take images, the same in every science; loads no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Stamps = Annotated[
    str,
    Parameter(help="Parquet or HDF5 with images, a folder of JPEG, PNG or FITS files, or a registered data set."),
]
Catalog = Annotated[
    Path | None, Parameter(help="Table with a row for each image, where it does not lie with the images.")
]
Column = Annotated[str, Parameter(help="Column of the images, or of file names, where the guess is wrong.")]
Scale = Annotated[
    float, Parameter(help="Arcsec a pixel of the originals: a model that knows its own then compares.")
]
Device = Annotated[str, Parameter(help="auto, cpu, cuda, cuda:1 or mps.")]
