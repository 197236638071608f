"""What an HDF5 file of images says of itself, and what follows for the order of its bands."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from deepfield.core.errors import TableError

log = logging.getLogger("deepfield")


def attributes(images: Any, count: int) -> dict[str, Any]:
    """What the attributes of an HDF5 file say of its images of so many bands, such as one a simulator wrote."""
    told: dict[str, Any] = {"bands": (), "psf_fwhm": (), "pixel_scale": 0.0}
    if not isinstance(images, str | os.PathLike) or Path(images).suffix.lower() not in (".hdf5", ".h5"):
        return told
    import h5py

    with h5py.File(images, "r") as file:
        found = {name: np.atleast_1d(file.attrs[name]).tolist() for name in told if name in file.attrs}
    names = [b.decode() if isinstance(b, bytes) else b for b in found.get("bands", ())]
    # Others may have attributes of these names that say something else.
    told["bands"] = tuple(names) if len(names) == count and all(isinstance(b, str) for b in names) else ()
    numbers = {n: v for n, v in found.items() if n != "bands" and all(isinstance(x, float | int) for x in v)}
    widths = tuple(map(float, numbers.get("psf_fwhm", ())))
    told["psf_fwhm"] = widths if len(widths) == count else ()
    told["pixel_scale"] = float((numbers.get("pixel_scale") or [0.0])[0])
    return told


def order_of(own: tuple[str, ...], wanted: tuple[str, ...], where: str) -> tuple[int, ...]:
    """Which of the bands that a file names are wanted first, second, ...; empty for all as they are."""
    if not own or not wanted or own == wanted:
        return ()
    if set(own) == set(wanted):
        return tuple(own.index(name) for name in wanted)
    said = f"{where} says that its bands are {', '.join(own)}"
    if set(own) & set(wanted):
        raise TableError(f"{said}, not {', '.join(wanted)}: other bands make other images")
    log.warning("%s; they are taken to be %s", said, ", ".join(wanted))  # may be other names of the same
    return ()
