"""Cutouts of large FITS images by position."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import TableError
from deepfield.data.images.sources import BrokenImage, Source, first_line, mirrored, upright


class Mosaic(Source):
    """Cutouts of large FITS images around positions, through their WCS.

    Parameters
    ----------
    mosaics : sequence of sequences of paths
        For each band its tiles; several extensions of one file are not looked at, only the first image.
    ra, dec : (N,) arrays
        Degrees, ICRS, whatever the coordinates of the mosaic.
    size : int
        Pixels on a side. A band is cut on its own pixel grid, hence aligned to half a pixel.

    Raises
    ------
    TableError
        If a file cannot be read, or no tile of a band has celestial coordinates.
    """

    def __init__(self, mosaics: Sequence[Sequence[str]], ra: Any, dec: Any, size: int) -> None:
        self.mosaics = [tuple(map(str, tiles)) for tiles in mosaics]
        self.ra, self.dec, self.size = np.asarray(ra, dtype=float), np.asarray(dec, dtype=float), size
        self._open: list[list[tuple[Any, Any, Any]]] | None = None
        self.tiles()  # a mosaic that cannot be used is told at once

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": None}

    def __len__(self) -> int:
        return len(self.ra)

    def tiles(self) -> list[list[tuple[Any, Any, Any]]]:
        """For each band and tile the pixels, mapped from disk, the WCS, and where the positions are."""
        if self._open is None:
            self._open = [[t for t in map(self._tile, tiles) if t is not None] for tiles in self.mosaics]
            for tiles, found in zip(self.mosaics, self._open):
                if not found:
                    raise TableError(
                        f"{', '.join(tiles)}: no celestial WCS, so that nothing can be cut out by position"
                    )
        return self._open

    def _tile(self, path: str) -> tuple[Any, Any, Any] | None:
        from astropy.coordinates import SkyCoord

        if (found := _read(path)) is None:
            return None
        known = np.isfinite(self.ra) & (np.abs(self.dec) <= 90)
        places = np.full((len(self), 2), np.nan)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a position far from the tile has no pixel there
                at = found[1].world_to_pixel(SkyCoord(self.ra[known], self.dec[known], unit="deg", frame="icrs"))
        except Exception as error:
            raise TableError(f"'{path}': its celestial coordinates are not known ({first_line(error)})") from error
        places[known] = np.stack(at, -1)
        return *found, places

    def load(self, row: int) -> NDArray[Any]:
        from astropy.nddata import Cutout2D, NoOverlapError, PartialOverlapError

        if not (np.isfinite(self.ra[row]) and abs(self.dec[row]) <= 90):
            raise BrokenImage("the position is not known")
        planes = []
        for tiles in self.tiles():
            for data, wcs, places in tiles:
                try:
                    found = Cutout2D(data, tuple(places[row].tolist()), self.size, mode="strict", copy=True).data[
                        None
                    ]
                except (NoOverlapError, PartialOverlapError, ValueError):
                    continue
                planes.append(upright(found.astype(found.dtype.newbyteorder("=")), mirrored(wcs)))
                break
            else:
                raise BrokenImage("the cutout lies outside the mosaic, or over its edge")
        return np.concatenate(planes)


def _read(path: str) -> tuple[Any, Any] | None:
    """The first image of a FITS file and its WCS, or None where it has none."""
    from astropy.io import fits
    from astropy.wcs import WCS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hdus = fits.open(path, memmap=True)
            hdu = next((h for h in hdus if h.is_image and h.header.get("NAXIS") == 2), None)
            if hdu is None:
                raise TableError(f"'{path}' has no image of two dimensions")
            wcs = WCS(hdu.header)
            return (hdu.data, wcs if wcs.naxis == 2 else wcs.celestial) if wcs.has_celestial else None
    except TableError:
        raise
    except Exception as error:
        raise TableError(f"cannot read '{path}': {first_line(error)}") from error
