import gzip
import io
import pickle

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from deepfield.data.images import sources
from deepfield.data.images.sources import (
    Arrays,
    BrokenImage,
    Encoded,
    Files,
    ParquetColumn,
    channels_first,
    decode,
)


def picture(seed=0, size=16, mode="RGB"):
    bands = {"RGB": (3,), "L": (), "RGBA": (4,), "CMYK": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 255, (size, size, *bands), dtype=np.uint8)
    return Image.fromarray(pixels, mode=None if mode != "CMYK" else "CMYK")


def encoded(seed=0, kind="PNG", **options):
    file = io.BytesIO()
    picture(seed, **options).save(file, kind)
    return file.getvalue()


def fits_bytes(pixels, header=None):
    file = io.BytesIO()
    fits.PrimaryHDU(pixels, header).writeto(file)
    return file.getvalue()


def test_encoded_images_come_back_as_they_were():
    assert np.array_equal(decode(encoded(1)), np.moveaxis(np.asarray(picture(1)), 2, 0))
    assert decode(encoded(1, mode="L")).shape == (1, 16, 16)
    assert decode(encoded(1, mode="RGBA")).shape == (3, 16, 16)  # transparency is no band
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 3
    file = io.BytesIO()
    Image.fromarray(smooth).save(file, "JPEG", quality=95)
    assert np.abs(decode(file.getvalue())[0].astype(int) - smooth).max() < 6
    flux = np.random.default_rng(3).normal(size=(2, 9, 7)).astype(">f4")
    assert np.array_equal(decode(fits_bytes(flux)), flux[:, ::-1])


def sky(scale, size=(16, 16), centre=(150.0, 2.0), names=("RA---TAN", "DEC--TAN")):
    """A WCS with the given scales of columns and rows in arcsec."""
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval = ((size[1] + 1) / 2, (size[0] + 1) / 2), centre
    wcs.wcs.cdelt, wcs.wcs.ctype = (scale[0] / 3600, scale[1] / 3600), names
    return wcs


def test_a_scene_is_the_same_as_a_picture_and_as_fits():
    """Star positions on the sky decide where a pixel lies; the picture has north up and east to the left."""
    stars = {(3.0, 5.0): 200, (-4.0, 1.0): 90, (0.0, -6.0): 50}  # arcsec to the east and north
    shown = np.zeros((17, 17), np.uint8)
    for (east, north), value in stars.items():
        shown[8 - int(north), 8 - int(east)] = value
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    picture = decode(file.getvalue())
    for scale in ((-1, 1), (1, 1), (-1, -1), (1, -1)):
        wcs, pixels = sky(scale, (17, 17)), np.zeros((17, 17), np.float32)
        for (east, north), value in stars.items():
            place = 150 + east / 3600 / np.cos(np.radians(2)), 2 + north / 3600
            column, row = np.rint(wcs.wcs_world2pix(*place, 0)).astype(int)
            pixels[row, column] = value
        found = decode(fits_bytes(pixels, wcs.to_header()))
        turned = picture if scale[1] > 0 else np.rot90(picture, 2, (1, 2))  # turned it may be, mirrored not
        assert np.array_equal(found, turned), scale
    for header in (None, sky((1, 1), names=("", "")).to_header()):
        assert np.array_equal(decode(fits_bytes(shown[::-1], header)), picture), "no sky: rows from the top"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "there are no bytes"),
        (b"not an image", "not an image, or cut off"),
        (encoded(0, "JPEG", size=64)[:700], "cut off"),
        (encoded(0, "PNG", size=64)[:700], "cut off"),
        (fits_bytes(np.zeros((40, 40)))[:4000], "FITS"),
        (fits_bytes(None), "the FITS file has no image"),
        (gzip.compress(fits_bytes(np.zeros((40, 40))))[:60], "not a gzip file, or cut off"),
        (b"\x1f\x8b no archive", "not a gzip file, or cut off"),
        (gzip.compress(b"not an image"), "not an image, or cut off"),
    ],
    # Names, as gzip writes the time into its bytes.
    ids=["empty", "text", "JPEG", "PNG", "FITS", "no image", "cut gzip", "no gzip", "gzipped text"],
)
def test_broken_bytes_are_told(data, said):
    with pytest.raises(BrokenImage, match=said) as error:
        decode(data)
    assert "0x" not in str(error.value), "an address differs from run to run"


def test_a_gzipped_fits_file_is_read_and_one_of_absurd_size_is_not(tmp_path, monkeypatch):
    flux = np.random.default_rng(3).normal(size=(9, 7)).astype(np.float32)
    fits.writeto(tmp_path / "a.fits.gz", flux)
    assert (tmp_path / "a.fits.gz").read_bytes().startswith(b"\x1f\x8b")
    assert np.array_equal(Files([[tmp_path / "a.fits.gz"]]).load(0)[0], flux[::-1])
    monkeypatch.setattr(sources, "_MOST_BYTES", 1000)
    with pytest.raises(BrokenImage, match="unpacked it has more than 1000 bytes"):
        decode((tmp_path / "a.fits.gz").read_bytes())


def test_a_picture_of_absurd_size_is_not_decoded(monkeypatch):
    monkeypatch.setattr(sources, "_MOST_PIXELS", 100)
    with pytest.raises(BrokenImage, match="16 x 16 pixels are no cutout"):
        decode(encoded(0))


def test_axes_of_arrays():
    assert channels_first(np.zeros((8, 9))).shape == (1, 8, 9)
    assert channels_first(np.zeros((8, 9, 5))).shape == (5, 8, 9)
    assert channels_first(np.zeros((5, 8, 9))).shape == (5, 8, 9)
    with pytest.raises(BrokenImage, match="no pixels"):
        channels_first(np.zeros((0, 4)))
    with pytest.raises(BrokenImage, match="is no image of up to 16 bands"):
        channels_first(np.zeros((20, 20, 20)))


def test_hdf5_of_numbers_and_of_bytes(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["flux"] = np.arange(2 * 4 * 4 * 3, dtype=np.float32).reshape(2, 4, 4, 3)
        file.create_dataset("jpeg", (2,), dtype=h5py.vlen_dtype(np.uint8))
        for i in range(2):
            file["jpeg"][i] = np.frombuffer(encoded(i), np.uint8)
    flux = Arrays(path=str(tmp_path / "a.h5"), name="flux")
    assert len(flux) == 2 and flux.load(1)[2, 0, 0] == 50
    again = pickle.loads(pickle.dumps(flux))  # as on its way to a worker process
    assert np.array_equal(again.load(1), flux.load(1))
    assert np.array_equal(Arrays(path=str(tmp_path / "a.h5"), name="jpeg").load(1), decode(encoded(1)))


def test_bytes_in_memory():
    source = Encoded([encoded(4), None, 7])
    assert len(source) == 3 and source.load(0).shape == (3, 16, 16)
    with pytest.raises(BrokenImage, match="there is no image"):
        source.load(1)
    with pytest.raises(BrokenImage, match="a int is no image"):
        source.load(2)


def write_parquet(path, groups=4, rows=10):
    flux = [list(map(float, range(i, i + 27))) for i in range(groups * rows)]
    data = [encoded(i) for i in range(groups * rows)]
    table = pa.table({
        "jpeg": pa.array(data, pa.binary()),
        "image": pa.array([{"bytes": d, "path": "x"} for d in data]),
        "flux": pa.array(flux, pa.list_(pa.float32())),
        "nested": pa.array([np.reshape(f, (3, 3, 3)).tolist() for f in flux]),
    })  # fmt: skip
    pq.write_table(table, path, row_group_size=rows)


def test_parquet_by_row_groups(tmp_path, monkeypatch):
    path = str(tmp_path / "a.parquet")
    write_parquet(path)
    for column in ("jpeg", "image"):
        source = ParquetColumn([path], column)
        assert len(source) == 40 and source.blocks is None
        assert np.array_equal(source.load(23), decode(encoded(23)))
    numbers = np.arange(5.0, 32).reshape(3, 3, 3)
    assert np.array_equal(ParquetColumn([path], "flux").load(5), numbers)
    assert np.array_equal(ParquetColumn([path], "nested").load(5), numbers)
    assert ParquetColumn([path], "flux", (3, 9, 1)).load(5).shape == (3, 9, 1)
    with pytest.raises(BrokenImage, match=r"a list of 27 is no image of shape \(2, 5, 5\)"):
        ParquetColumn([path], "flux", (2, 5, 5)).load(5)
    monkeypatch.setattr(sources, "_IN_MEMORY", 10)
    large = ParquetColumn([path], "jpeg")
    assert large.blocks == ((0, 10), (10, 20), (20, 30), (30, 40))
    for row in (0, 39, 10, 9, 25):
        assert np.array_equal(large.load(row), decode(encoded(row)))
    assert len(large._groups) == 4 - 0 and list(large._groups)[-1] == 2
    again = pickle.loads(pickle.dumps(large))
    assert np.array_equal(again.load(12), large.load(12))


def test_files_of_one_band_each(tmp_path):
    for i, name in enumerate("gr"):
        fits.writeto(tmp_path / f"{name}.fits", np.full((6, 6), i, np.float32))
    fits.writeto(tmp_path / "small.fits", np.zeros((5, 5), np.float32))
    source = Files([
        (tmp_path / "g.fits", tmp_path / "r.fits"), (tmp_path / "g.fits", tmp_path / "small.fits"),
        (tmp_path / "g.fits", None), (tmp_path / "g.fits", tmp_path / "absent.fits"),
    ])  # fmt: skip
    assert source.load(0).shape == (2, 6, 6) and source.load(0)[1].max() == 1
    for row, said in ((1, r"bands have shapes \(6, 6\), \(5, 5\)"), (2, "no file"), (3, "absent.fits cannot be")):
        with pytest.raises(BrokenImage, match=said):
            source.load(row)
