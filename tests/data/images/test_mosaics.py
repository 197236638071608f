import pickle

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from deepfield.core.errors import TableError
from deepfield.data.images.mosaics import Mosaic
from deepfield.data.images.sources import BrokenImage, decode


def sky(scale, size=(16, 16), centre=(150.0, 2.0), names=("RA---TAN", "DEC--TAN")):
    """A WCS with the given scales of columns and rows in arcsec."""
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval = ((size[1] + 1) / 2, (size[0] + 1) / 2), centre
    wcs.wcs.cdelt, wcs.wcs.ctype = (scale[0] / 3600, scale[1] / 3600), names
    return wcs


def mosaic(path, ra=150.0, dec=2.0, coordinates=True, value=None):
    pixels = np.zeros((80, 100), np.float32) if value is None else np.full((80, 100), value, np.float32)
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = (50, 40), (ra, dec), (-1 / 3600, 1 / 3600)
    wcs.wcs.ctype = ("RA---TAN", "DEC--TAN")
    pixels[59, 29] = 100.0  # at column 30, row 60 of the FITS file: 20 pixels east and north of the centre
    fits.writeto(path, pixels, wcs.to_header() if coordinates else None)
    return str(path), wcs


def test_cutouts_are_where_the_sky_says(tmp_path):
    path, wcs = mosaic(tmp_path / "m.fits")
    ra, dec = wcs.all_pix2world(29, 59, 0)
    source = Mosaic([[path]], [float(ra), 150.0, 151.0, np.nan], [float(dec), 2.0, 2.0, 2.0], 11)
    stamp = source.load(0)
    assert stamp.shape == (1, 11, 11) and np.argwhere(stamp[0] == 100).tolist() == [[5, 5]]
    assert stamp.dtype.isnative and source.load(1).max() == 0
    for row, said in ((2, "outside the mosaic, or over its edge"), (3, "position is not known")):
        with pytest.raises(BrokenImage, match=said):
            source.load(row)
    assert np.array_equal(pickle.loads(pickle.dumps(source)).load(0), stamp)


@pytest.mark.parametrize("scale", [(-1, 1), (1, 1)])
def test_cutouts_have_north_up_and_east_left(tmp_path, scale):
    wcs, pixels = sky(scale, (40, 40)), np.zeros((40, 40), np.float32)
    for value, east, north in ((1, 3, 0), (2, 0, 3)):
        x, y = wcs.wcs_world2pix(150 + east / 3600, 2 + north / 3600, 0)
        pixels[round(float(y)), round(float(x))] = value
    fits.writeto(tmp_path / "m.fits", pixels, wcs.to_header())
    stamp = Mosaic([[str(tmp_path / "m.fits")]], [150.0], [2.0], 11).load(0)[0]
    (east,), (north,) = np.argwhere(stamp == 1), np.argwhere(stamp == 2)
    assert east[1] < 5 and north[0] < 5
    whole = decode((tmp_path / "m.fits").read_bytes())[0]
    top, left = np.argwhere(whole == 2)[0] - north
    assert np.array_equal(whole[top : top + 11, left : left + 11], stamp), "as the whole file is read"


def test_tiles_and_mosaics_without_coordinates(tmp_path):
    left, _ = mosaic(tmp_path / "l.fits", ra=150.0, value=1)
    right, _ = mosaic(tmp_path / "r.fits", ra=150.1, value=2)
    blank, _ = mosaic(tmp_path / "b.fits", coordinates=False)
    source = Mosaic([[blank, left, right]], [150.0, 150.1], [2.0, 2.0], 5)
    assert source.load(0).max() == 1 and source.load(1).max() == 2
    with pytest.raises(TableError, match="no celestial WCS, so that nothing can be cut"):
        Mosaic([[blank]], [150.0], [2.0], 5)
    with pytest.raises(TableError, match="cannot read"):
        Mosaic([[str(tmp_path / "absent.fits")]], [150.0], [2.0], 5)
    fits.writeto(tmp_path / "cube.fits", np.zeros((2, 3, 4)))
    with pytest.raises(TableError, match="no image of two dimensions"):
        Mosaic([[str(tmp_path / "cube.fits")]], [150.0], [2.0], 5)


@pytest.mark.parametrize(
    ("frame", "names"),
    [
        ("galactic", ("GLON-TAN", "GLAT-TAN")),
        ("icrs", ("RA---TAN", "DEC--TAN")),
        ("icrs", ("DEC--TAN", "RA---TAN")),
    ],
)
def test_positions_are_icrs_whatever_the_mosaic_has(tmp_path, frame, names):
    star = SkyCoord(150.0, 2.0, unit="deg", frame="icrs").transform_to(frame)
    lon, lat = star.spherical.lon.deg, star.spherical.lat.deg
    swapped = names[0].startswith("DEC")
    wcs = sky((-1, 1), (40, 60), (lat, lon) if swapped else (lon, lat), names)
    pixels = np.zeros((40, 60), np.float32)
    wcs.wcs.crpix = (26, 16)  # the star, counted from one
    pixels[15, 25] = 7
    fits.writeto(tmp_path / "m.fits", pixels, wcs.to_header())
    source = Mosaic([[str(tmp_path / "m.fits")]], [150.0, 150.0, 330.0], [2.0, -9999.0, -2.0], 9)
    assert np.argwhere(source.load(0)[0] == 7).tolist() == [[4, 4]]
    for row, said in ((1, "position is not known"), (2, "outside the mosaic")):
        with pytest.raises(BrokenImage, match=said):
            source.load(row)
