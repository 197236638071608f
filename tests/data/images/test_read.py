import io

import astropy.units as u
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image

from deepfield import data
from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table
from deepfield.data.images.read import cutouts, read


def png(value, size=16):
    file = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(file, "PNG")
    return file.getvalue()


def first_pixels(images):
    x, reasons = images.load()
    return x[:, 0, 0, 0].tolist(), reasons.tolist()


def test_parquet_of_encoded_images_with_broken_rows(tmp_path):
    path = tmp_path / "a.parquet"
    rows = [png(0), png(1)[:60], png(2, size=20), None, png(4), b""]
    pq.write_table(
        pa.table({"objid": range(6), "label": list("abcdef"), "jpeg": pa.array(rows, pa.binary())}), path
    )
    images = read(path)
    assert images.table.colnames == ["objid", "label"] and images.bands == ("r", "g", "b") and images.size == 16
    values, reasons = first_pixels(images)
    assert values == [0, 0, 0, 0, 4, 0] and reasons[0] == reasons[4] == ""
    assert "cut off" in reasons[1] and reasons[2] == "the image has 20 x 20 pixels, not 16 x 16"
    assert reasons[3] == "there is no image" and reasons[5] == "there are no bytes"
    assert len(images.usable()) == 2
    again = read(path, size=8, bands="xyz", pixel_scale=0.4)
    assert again.load([2])[1].tolist() == [""] and again.bands == ("x", "y", "z")
    assert again.meta["pixel_scale"] == pytest.approx(0.8)
    assert read(path, size=8, crop=4, pixel_scale=0.4).meta["pixel_scale"] == pytest.approx(0.2)


def test_parquet_of_fluxes(tmp_path):
    path = tmp_path / "a.parquet"
    flux = np.random.default_rng(0).normal(size=(4, 2 * 6 * 6)).astype(np.float32)
    flux[2, 5] = np.nan
    pq.write_table(pa.table({"image": pa.array(flux.tolist(), pa.list_(pa.float32()))}), path)
    images = read(path, shape=(2, 6, 6))
    x, reasons = images.load()
    assert x.dtype == torch.float32 and np.array_equal(x[3].numpy().ravel(), flux[3])
    assert reasons.tolist() == ["", "", "1 of 72 pixels are not finite", ""] and bool(x[2].isnan().all())
    assert images.bands == ("band1", "band2") and images.table.colnames == ["id"]
    with pytest.raises(TableError, match="none of the first 4 images can be used: 72 numbers in a row: give"):
        read(path)


def test_a_folder_of_parquet_files_is_one_set(tmp_path):
    for k in range(3):
        rows = pa.array([png(10 * k + i) for i in range(4)], pa.binary())
        pq.write_table(pa.table({"jpeg": rows, "label": [k] * 4}), tmp_path / f"{k}.parquet", row_group_size=3)
    images = read(tmp_path)
    assert first_pixels(images)[0] == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
    assert images.table["label"].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_hdf5_with_what_its_attributes_say(tmp_path, caplog):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["images"] = np.ones((3, 2, 16, 16), np.float32)
        file.attrs.update(bands=["g", "i"], pixel_scale=0.2, psf_fwhm=[0.8, 0.7])
    found = read(path)
    assert found.bands == ("g", "i")
    assert (found.meta["pixel_scale"], found.meta["psf_fwhm"]) == (0.2, (0.8, 0.7))
    other = read(path, bands=("r", "z"), pixel_scale=0.3, psf_fwhm=(1, 1))
    assert (other.bands, other.meta["pixel_scale"], other.meta["psf_fwhm"]) == (("r", "z"), 0.3, (1.0, 1.0))
    with h5py.File(tmp_path / "b.hdf5", "w") as file:
        file["images"] = np.ones((3, 2, 16, 16), np.float32)
        file["mask"] = np.ones((3, 16, 16), np.float32)
        file["coarse"] = np.ones((3, 4, 4), np.float32)
        file.attrs.update(pixel_scale="wide", bands="gr", psf_fwhm=[])
    plain = read(tmp_path / "b.hdf5")  # what others mean by these names
    assert (plain.bands, plain.meta["pixel_scale"], plain.meta["psf_fwhm"]) == (("band1", "band2"), 0.0, ())
    assert plain.table.colnames == ["coarse"]
    with h5py.File(tmp_path / "c.hdf5", "w") as file:
        file["images"] = np.ones((3, 2, 16, 16), np.float32)
        file.attrs["bands"] = np.array([b"i", b"g"])
    assert read(tmp_path / "c.hdf5").bands == ("i", "g")
    read(tmp_path / "c.hdf5", bands=("g", "i"))
    assert "says that its bands are" in caplog.text


def test_hdf5_with_its_catalogue(tmp_path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file["images"] = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 8, 8, 3), np.uint8)
        file["label"] = np.arange(5) % 2
        file["name"] = np.array(["a", "b", "c", "d", "e"], dtype=object)
        file["note"] = [1.0]
    images = read(tmp_path / "a.hdf5")
    assert first_pixels(images) == ([0, 1, 2, 3, 4], [""] * 5)
    assert images.table["label"].tolist() == [0, 1, 0, 1, 0] and images.table["name"][4] == "e"
    assert images.table.colnames == ["label", "name"]


def test_a_folder_with_and_without_a_catalogue(tmp_path):
    for i in (3, 5, 7):
        (tmp_path / f"{i}.png").write_bytes(png(i))
    (tmp_path / "9.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("no image")
    alone = read(tmp_path)
    assert alone.table["id"].tolist() == ["3", "5", "7", "9"]
    assert first_pixels(alone) == ([3, 5, 7, 0], ["", "", "", "there are no bytes"])
    by_id = read(tmp_path, catalog=Table({"objid": [7, 8, 3], "label": [1, 0, 1]}))
    assert first_pixels(by_id) == ([7, 0, 3], ["", "there is no file", ""])
    data.write(Table({"path": ["5.png", "7.png"], "label": [0, 1]}), tmp_path / "catalog.csv")
    for given in (read(tmp_path / "catalog.csv"), read(tmp_path, catalog=tmp_path / "catalog.csv")):
        assert first_pixels(given) == ([5, 7], ["", ""]) and given.table["label"].tolist() == [0, 1]
    with pytest.raises(DeepfieldError, match="none of the 1 rows of 'objid' names a file"):
        read(tmp_path, catalog=Table({"objid": [99]}))
    with pytest.raises(TableError, match="no column of file names or"):
        read(tmp_path, catalog=Table({"ra": [1.0]}))
    with pytest.raises(TableError, match="no column 'paht'; did you mean 'path'"):
        read(tmp_path, catalog=Table({"path": ["3.png"]}), column="paht")


def test_a_folder_of_one_fits_file_a_band(tmp_path):
    for name, value in (("a_g", 1), ("a_r", 2), ("b_g", 3)):
        fits.writeto(tmp_path / f"{name}.fits", np.full((6, 6), value, np.float32))
    catalog = Table({"g": ["a_g.fits", "b_g.fits"], "r": ["a_r.fits", "b_r.fits"]})
    images = read(tmp_path, catalog=catalog, column=["g", "r"], bands=["g", "r"])
    x, reasons = images.load()
    assert x[0, :, 0, 0].tolist() == [1, 2] and reasons.tolist() == ["", "there is no file"]


def test_arrays_and_tables_in_memory():
    pixels = np.zeros((4, 9, 9), np.float32)
    colours = [read(np.zeros((2, 3, 8, 8), kind)).bands for kind in (np.uint8, np.float32)]
    assert colours == [("r", "g", "b"), ("band1", "band2", "band3")], "fluxes have no colours by themselves"
    assert read(pixels).bands == ("band1",) and read(torch.zeros(2, 3, 8, 8)).size == 8
    table = Table({"label": [0, 1], "image": np.zeros((2, 8, 8), np.uint8)})
    assert read(table).table.colnames == ["label"]
    assert first_pixels(read(Table({"jpeg": np.array([png(3), png(4)], dtype=object)})))[0] == [3, 4]
    assert len(read(pixels, catalog=Table({"label": [0, 1, 1, 0]}))) == 4
    with pytest.raises(TableError, match="4 images and 2 catalogue rows"):
        read(pixels, catalog=Table({"label": [0, 1]}))
    with pytest.raises(TableError, match=r"\(N, H, W\), \(N, B, H, W\) or \(N, H, W, B\), not \(9, 9\)"):
        read(pixels[0])
    with pytest.raises(TableError, match="no column of images that is named so: give column=; columns: ra"):
        read(Table({"ra": [1.0]}))
    with pytest.raises(TableError, match="images can be used: they have 3 bands, not the 2 that are asked for"):
        read(np.zeros((2, 3, 8, 8)), bands=["g", "r"]).load()


def test_cutouts_of_a_mosaic_in_two_bands(tmp_path):
    wcs = WCS(naxis=2)
    wcs.wcs.crpix, wcs.wcs.crval, wcs.wcs.cdelt = (50, 40), (150.0, 2.0), (-0.5 / 3600, 0.5 / 3600)
    wcs.wcs.ctype = ("RA---TAN", "DEC--TAN")
    for band, value in (("g", 1), ("r", 2)):
        pixels = np.full((80, 100), value, np.float32)
        pixels[10, 20] = np.nan
        fits.writeto(tmp_path / f"{band}.fits", pixels, wcs.to_header())
    near, broken = wcs.all_pix2world(60, 50, 0), wcs.all_pix2world(20, 10, 0)
    catalog = Table(
        {"ra": [float(near[0]), 151.0, float(broken[0])], "dec": [float(near[1]), 2.0, float(broken[1])]}
    )
    images = cutouts({b: tmp_path / f"{b}.fits" for b in "gr"}, catalog, size=9)
    x, reasons = images.load()
    assert x[0, :, 0, 0].tolist() == [1, 2] and images.meta["pixel_scale"] == pytest.approx(0.5)
    assert reasons.tolist() == [
        "",
        "the cutout lies outside the mosaic, or over its edge",
        "2 of 162 pixels are not finite",
    ]
    with pytest.raises(TableError, match="no column 'ra'"):
        cutouts({"g": tmp_path / "g.fits"}, Table({"x": [1.0]}), size=9)
    with pytest.raises(TableError, match="a mosaic, got size=9, 0 mosaics"):
        cutouts({}, catalog, size=9)


def damaged(content, rng):
    data = bytearray(content)
    if rng.uniform() < 0.3:
        return bytes(data[: rng.integers(4, len(data))])
    for _ in range(5):
        data[rng.integers(0, min(len(data), 6000))] = rng.integers(0, 256)
    return bytes(data)


@pytest.mark.parametrize("ending", ["parquet", "hdf5", "npz"])
def test_damage_anywhere_is_an_error_or_flagged_rows(tmp_path, ending):
    path, pixels = (
        tmp_path / f"a.{ending}",
        np.arange(30)[:, None, None, None] * np.ones((30, 3, 8, 8), np.float32),
    )
    if ending == "parquet":
        rows = pa.array([png(i, 8) for i in range(30)], pa.binary())
        pq.write_table(pa.table({"jpeg": rows, "label": range(30)}), path, row_group_size=10)
    elif ending == "hdf5":
        with h5py.File(path, "w") as file:
            file["images"], file["label"] = pixels, np.arange(30)
    else:
        np.savez(path, images=pixels, label=np.arange(30))
    assert (read(path).reasons() == "").all()
    rng, content, refused = np.random.default_rng(0), path.read_bytes(), 0
    for _ in range(25):
        path.write_bytes(damaged(content, rng))
        try:
            reasons = read(path).reasons()
            assert len(reasons) <= 30
        except DeepfieldError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 3


def test_bands_of_a_file_are_told_apart_by_name(tmp_path, caplog):
    pixels = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w") as file:
        file["images"] = pixels
        file.attrs.update(bands=["i", "r", "g"], psf_fwhm=[0.8, 0.83, 0.87])
    found = read(path, bands=("g", "r", "i"))
    assert found.bands == ("g", "r", "i") and found.meta["psf_fwhm"] == (0.87, 0.83, 0.8)
    assert np.array_equal(found.load()[0].numpy(), pixels[:, ::-1])
    with pytest.raises(TableError, match="says that its bands are i, r, g, not r, i, z"):
        read(path, bands=("r", "i", "z"))
    assert read(path, bands=("one", "two", "three")).load()[0].numpy()[0, 0, 0, 0] == pixels[0, 0, 0, 0]
    assert "they are taken to be one, two, three" in caplog.text
    with h5py.File(tmp_path / "one.hdf5", "w") as file:
        file["images"] = pixels[:, 0]
        file.attrs.update(bands=["vis"])
    assert read(tmp_path / "one.hdf5").bands == ("vis",)


def test_numbers_with_a_unit_are_refused():
    with pytest.raises(TableError, match=r"a Quantity in uJy: give plain numbers"):
        read(np.ones((2, 3, 16, 16)) * u.uJy)


def test_what_is_not_there(tmp_path):
    with pytest.raises(TableError, match="there is no file"):
        read(tmp_path / "absent.parquet")
    with pytest.raises(TableError, match="has no images: files ending in"):
        read(tmp_path)
    with pytest.raises(DeepfieldError, match="no data set 'galaxy_zoo1'; did you mean 'galaxy_zoo1_sdss'"):
        read("galaxy_zoo1")
    with pytest.raises(TableError, match="the data set 'gz2_votes' has no images"):
        read("gz2_votes")


@pytest.mark.parametrize(
    ("name", "bands", "size", "labels"), [("galaxy_zoo1_sdss", 3, 128, 6), ("mirabest", 1, 150, 2)]
)
def test_registered_images(name, bands, size, labels):
    if not data.available(name):
        pytest.skip("not at hand")
    images = read(name)
    assert len(images.bands) == bands and images.size == size
    assert set(images.table["label"]) == set(range(labels)) and len(images) == data.dataset(name).compact.rows
    x, reasons = images.load(slice(0, len(images), 200))
    assert set(reasons) == {""} and x.dtype == torch.uint8 and float(x.float().std()) > 5
