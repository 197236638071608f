import h5py
import pytest

from deepfield.core.errors import TableError
from deepfield.data.images.attributes import attributes, order_of


def test_what_fits_the_images_is_taken(tmp_path):
    path = tmp_path / "set.hdf5"
    with h5py.File(path, "w") as file:
        file.attrs.update(bands=["g", "r", "i"], psf_fwhm=[0.9, 0.8, 0.7], pixel_scale=0.2)
    assert attributes(path, 3) == {"bands": ("g", "r", "i"), "psf_fwhm": (0.9, 0.8, 0.7), "pixel_scale": 0.2}
    assert attributes(path, 2) == {"bands": (), "psf_fwhm": (), "pixel_scale": 0.2}
    assert attributes(tmp_path / "folder", 3) == {"bands": (), "psf_fwhm": (), "pixel_scale": 0.0}


def test_orders(caplog):
    assert order_of(("i", "r", "g"), ("g", "r", "i"), "it") == (2, 1, 0)
    assert order_of(("g", "r"), ("g", "r"), "it") == order_of((), ("g",), "it") == order_of(("g",), (), "it") == ()
    with pytest.raises(TableError, match="it says that its bands are g, r, not g, i"):
        order_of(("g", "r"), ("g", "i"), "it")
    assert not caplog.text and order_of(("lsst_g",), ("g",), "it") == ()
    assert "it says that its bands are lsst_g; they are taken to be g" in caplog.text
