"""Images in: any file, folder or array of galaxies to a lazy set in one standard form."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from deepfield.core.errors import TableError
from deepfield.core.table import Table, no_column, shorten, text
from deepfield.data import files, registry
from deepfield.data.images.attributes import attributes, order_of
from deepfield.data.images.collection import Frame, Images
from deepfield.data.images.mosaics import Mosaic
from deepfield.data.images.sources import Arrays, BrokenImage, Encoded, Files, ParquetColumn, Source

ENDINGS = (".jpg", ".jpeg", ".png", ".fits", ".fit", ".fits.gz", ".fits.fz", ".tif", ".tiff")
_IMAGE_NAMES = ("image", "images", "jpeg", "jpg", "png", "cutout", "cutouts", "img", "pixels", "fits", "x")
_PATH_NAMES = ("path", "image_path", "file", "filename", "file_name", "file_loc", "image", "jpeg", "png_loc")
ID_NAMES = ("id", "object_id", "objid", "id_str", "dr7objid", "asset_id", "iauname", "galaxyid", "name")
_COLOURS = ("r", "g", "b")


def read(
    images: Any,
    *,
    catalog: Any = None,
    column: str | Sequence[str] | None = None,
    bands: Sequence[str] = (),
    size: int = 0,
    crop: int = 0,
    shape: tuple[int, int, int] | None = None,
    pixel_scale: float = 0.0,
    psf_fwhm: Sequence[float] = (),
    cache: int = 2**31,
    workers: int = 0,
    processes: bool = False,
) -> Images:
    """Read images with their catalogue; nothing is decoded before it is asked for, and no row is dropped.

    Parameters
    ----------
    images
        A Parquet or HDF5 file with encoded (JPEG, PNG, FITS) or float images, a folder of such Parquet files, an
        ``.npz``; a folder of JPEG, PNG or FITS files; a table with a column of images, or an array (N, H, W),
        (N, B, H, W) or (N, H, W, B); or the name of a registered data set of images.
    catalog
        A table, or the file of one, with a row for each image: of the file names or identifiers of a
        folder (its rows then decide which images there are), or in the order of the images of an array.
    column
        The column of images, or of file names; several, one for each band, for files of one band each.
    bands
        Names of the bands; as many as the images have. By default those in the attributes of an HDF5 file, r, g
        and b of pictures, else band1, band2, ... Where the file names the same bands in another order, they are
        put into this one.
    size, crop
        Pixels on a side, and how many central pixels of the original go into them; by default those of the first
        image that is not broken, and then images of another size are flagged.
    shape
        (bands, height, width) of images that are flat lists of numbers.
    pixel_scale, psf_fwhm
        Arcsec a pixel of the original, arcsec in each band; kept in ``meta`` for the model. By default what the
        attributes of an HDF5 file say.
    cache
        Bytes of decoded images that are kept in memory; if the whole set does not fit, none are.
    workers, processes
        Threads that decode beside the training (JPEG and PNG need no more); or processes, for FITS.

    Raises
    ------
    TableError
        If there are no images, the catalogue does not fit to them, or the file says that it has other bands.

    Examples
    --------
    >>> pixels = np.zeros((3, 16, 16, 3), dtype=np.uint8)
    >>> stamps = read(pixels, catalog=Table({"label": [0, 1, 1]}))
    >>> stamps
    3 images of 16 x 16 pixels in r, g, b
    >>> x, reasons = stamps.load()
    >>> tuple(x.shape), reasons.tolist()
    ((3, 3, 16, 16), ['', '', ''])
    """
    source, table = _open(images, catalog, column, shape)
    if len(source) == 0:
        raise TableError(f"there are no images in {_name(images)}")
    first = _first(source, len(bands))
    own = attributes(images, len(first))
    order = order_of(own["bands"], tuple(bands), _name(images))
    bands = tuple(bands) or own["bands"]
    widths = own["psf_fwhm"]
    psf_fwhm = tuple(psf_fwhm) or (tuple(widths[k] for k in order) if widths and order else widths)
    pixel_scale = pixel_scale or own["pixel_scale"]
    frame, names = _frame(first, tuple(bands), size, crop)
    frame = replace(frame, order=order)
    native = crop or min(first.shape[1:])
    meta: dict[str, Any] = {
        "pixel_scale": float(pixel_scale) * native / frame.size,
        "psf_fwhm": tuple(map(float, psf_fwhm)),
        "crop": crop,
        "native": native,
        "named": bool(bands),
    }
    return Images(
        source, table, bands=names, frame=frame, meta=meta, cache=cache, workers=workers, processes=processes
    )


def cutouts(
    mosaics: Mapping[str, Any],
    catalog: Any,
    *,
    size: int,
    ra: str = "ra",
    dec: str = "dec",
    psf_fwhm: Sequence[float] = (),
    cache: int = 2**31,
    workers: int = 0,
    processes: bool = False,
) -> Images:
    """Cut images around the positions of a catalogue out of FITS mosaics, by their WCS.

    Parameters
    ----------
    mosaics
        For each band, from blue to red, a FITS file or a list of them (tiles).
    catalog
        A table, or the file of one, with positions in degrees (ICRS, whatever the coordinates of the mosaics).
    size
        Pixels on a side, of the mosaic. Bands should share one pixel grid: each is cut on its own, to the pixel.
    ra, dec
        Names of the columns.

    Raises
    ------
    TableError
        If a mosaic cannot be read or has no celestial WCS, or the catalogue lacks the positions. Positions outside
        the mosaic are flagged rows.
    """
    if size < 1 or not mosaics:
        raise TableError(
            f"cutouts need a size of one pixel or more and a mosaic, got size={size}, {len(mosaics)} mosaics"
        )
    table = _table(catalog)
    tiles = [[str(p)] if isinstance(p, str | os.PathLike) else [str(q) for q in p] for p in mosaics.values()]
    source = Mosaic(tiles, table.column(ra), table.column(dec), size)
    from astropy.wcs.utils import proj_plane_pixel_scales

    scale = float(np.mean(proj_plane_pixel_scales(source.tiles()[0][0][1]))) * 3600
    return Images(
        source,
        table,
        bands=tuple(mosaics),
        frame=Frame(len(mosaics), size),
        meta={"pixel_scale": scale, "psf_fwhm": tuple(map(float, psf_fwhm))},
        cache=cache,
        workers=workers,
        processes=processes,
    )


def _name(images: Any) -> str:
    return f"'{images}'" if isinstance(images, str | os.PathLike) else f"the {type(images).__name__}"


def _table(catalog: Any) -> Table:
    if isinstance(catalog, str | os.PathLike):
        return files.read(catalog)
    return catalog if isinstance(catalog, Table) else Table(catalog)


def _frame(first: np.ndarray, bands: tuple[str, ...], size: int, crop: int) -> tuple[Frame, tuple[str, ...]]:
    """What every image must become, after the first that can be read; only pictures have colours by themselves."""
    if size < 0 or crop < 0:
        raise TableError(f"size and crop are numbers of pixels, got size={size}, crop={crop}")
    picture = first.shape[0] == 3 and first.dtype == np.uint8
    names = bands or (_COLOURS if picture else tuple(f"band{i + 1}" for i in range(first.shape[0])))
    side = size or crop or min(first.shape[1:])
    return Frame(len(names), side, crop, resample=bool(size or crop)), names


def _first(source: Source, bands: int = 0) -> np.ndarray:
    """The first image that can be read, of so many bands if they are named."""
    reason = ""
    for row in range(min(len(source), 64)):
        try:
            pixels = source.load(row)
        except BrokenImage as error:
            reason = reason or str(error)
            continue
        if not bands or pixels.shape[0] == bands:
            return pixels
        reason = (
            f"they have {pixels.shape[0]} band{'s' * (pixels.shape[0] > 1)}, not the {bands} that are asked for"
        )
    raise TableError(f"none of the first {min(len(source), 64)} images can be used: {reason}")


def _open(images: Any, catalog: Any, column: Any, shape: Any) -> tuple[Source, Table]:
    if hasattr(images, "to_value"):
        raise TableError(
            f"the images are a Quantity in {images.unit}: give plain numbers, such as images.to_value('nJy'), "
            "in the unit that the model learns or has learnt from"
        )
    if isinstance(images, torch.Tensor):
        images = images.numpy()
    if isinstance(images, np.ndarray) and images.dtype.names is None:
        if images.ndim not in (3, 4):
            raise TableError(f"an array of images is (N, H, W), (N, B, H, W) or (N, H, W, B), not {images.shape}")
        return Arrays(images), _fitting(catalog, len(images))
    if isinstance(images, str | os.PathLike):
        place = Path(images)
        if not place.exists() and "/" not in str(images) and not place.suffix:
            return _registered(str(images), catalog, column)
        if place.is_dir() and not _parts(place):
            return _folder(place, catalog, column)
        return _file(place, catalog, column, shape)
    table = _table(images)
    name = _image_column(table.colnames, column, "the table")
    rest = table.copy(copy_data=False)
    rest.remove_column(name)
    values = np.asarray(table[name])
    source: Source = Arrays(values) if values.ndim > 1 else Encoded(list(table[name]))
    return source, _fitting(catalog, len(table), rest)


def _fitting(catalog: Any, count: int, own: Table | None = None) -> Table:
    if catalog is None:
        return own if own is not None and own.colnames else Table({"id": np.arange(count)})
    table = _table(catalog)
    if len(table) != count:
        raise TableError(f"{count} images and {len(table)} catalogue rows: one each is needed")
    return table


def _registered(name: str, catalog: Any, column: Any) -> tuple[Source, Table]:
    entry = registry.dataset(name)
    if entry.content != "images":
        raise TableError(f"the data set '{name}' has no images")
    path = registry.get(name)[0]
    if path.suffix == ".parquet":
        return _file(path, catalog, column, None)
    return _open(registry.load(name), catalog, column, None)


def _image_column(names: Sequence[str], wanted: Any, where: str) -> str:
    if wanted is not None:
        if wanted not in names:
            raise TableError(f"{where}: {no_column(str(wanted), names)}")
        return str(wanted)
    lower = {name.lower().rsplit("/", 1)[-1]: name for name in names}
    for name in _IMAGE_NAMES:
        if name in lower:
            return lower[name]
    raise TableError(f"{where} has no column of images that is named so: give column=; columns: {shorten(names)}")


def _file(place: Path, catalog: Any, column: Any, shape: Any) -> tuple[Source, Table]:
    if place.suffix == ".npz":
        return _npz(place, catalog, column)
    kind = files.file_format(place)
    if kind == "Parquet":
        names = files.header(place).names
        name = _image_column([n.split(".")[0] for n in names], column, f"'{place}'")
        parquet = ParquetColumn(_parts(place), name, shape)
        others = [n for n in names if n != name and not n.startswith(f"{name}.")]
        return parquet, _fitting(catalog, len(parquet), files.read(place, others) if others else None)
    if kind == "HDF5":
        return _hdf5(place, catalog, column)
    # Any other table holds names of files, relative to its own folder.
    return _listed(place.parent, files.read(place), column)


def _parts(place: Path) -> list[str]:
    """The Parquet files of a folder, in the order in which a catalogue of them is read; or the file itself."""
    from deepfield.data._arrow import parts

    return [str(p) for p in parts(place)] if place.is_dir() else [str(place)]


def _npz(place: Path, catalog: Any, column: Any) -> tuple[Source, Table]:
    if not zipfile.is_zipfile(place):
        raise TableError(f"'{place}' is no .npz, or is cut off")
    try:
        with np.load(place, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:
        raise TableError(f"cannot read '{place}': {error}") from error
    name = _image_column(list(arrays), column, f"'{place}'")
    count = len(arrays[name])
    others = {n: a for n, a in arrays.items() if n != name and a.shape[:1] == (count,)}
    return Arrays(arrays[name]), _fitting(catalog, count, Table(others))


def _hdf5(place: Path, catalog: Any, column: Any) -> tuple[Source, Table]:
    import h5py

    found: dict[str, Any] = {}
    try:
        with h5py.File(place, "r") as file:
            file.visititems(
                lambda name, item: found.update({name: item.shape}) if hasattr(item, "shape") else None
            )
            some = [n for n, form in found.items() if len(form) > 1 or file[n].dtype.kind in "OSV"]
            name = _image_column(list(found) if column else some, column, f"'{place}'")
            others = {
                n.rsplit("/", 1)[-1]: file[n].asstr()[()] if file[n].dtype.kind == "O" else file[n][()]
                for n, form in found.items()
                if n != name and _column(form, found[name])
            }
    except TableError:
        raise
    except Exception as error:
        raise TableError(f"cannot read '{place}': {error}") from error
    return Arrays(path=str(place), name=name), _fitting(catalog, found[name][0], Table(others))


def _column(form: tuple[int, ...], images: tuple[int, ...]) -> bool:
    """Whether an array belongs into the catalogue: a number a row, or a map of a quarter of the image's sides."""
    small = len(form) == 3 and max(form[1:]) <= max(images[1:]) / 4
    return form[:1] == images[:1] and (len(form) == 1 or small)


def _folder(place: Path, catalog: Any, column: Any) -> tuple[Source, Table]:
    """Files of a folder: those that a catalogue names, or all."""
    if catalog is not None:
        return _listed(place, _table(catalog), column)
    paths = sorted(p for p in place.rglob("*") if p.name.lower().endswith(ENDINGS) and not p.name.startswith("."))
    if not paths:
        raise TableError(f"'{place}' has no images: files ending in {', '.join(ENDINGS)} are looked for")
    table = Table({"id": [_stem(p) for p in paths], "path": [str(p.relative_to(place)) for p in paths]})
    return Files([[p] for p in paths]), table


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".fz")
    return name.rsplit(".", 1)[0]


def _listed(place: Path, table: Table, column: Any) -> tuple[Source, Table]:
    """The files that the rows of a catalogue name, by path or by identifier; a row without one is flagged."""
    lower = {name.lower(): name for name in table.colnames}
    wanted = [column] if isinstance(column, str) else list(column or ())
    if not wanted:
        wanted = [lower[n] for n in (*_PATH_NAMES, *ID_NAMES) if n in lower][:1]
    if not wanted:
        raise TableError(
            f"no column of file names or identifiers: give column=; columns: {shorten(table.colnames)}"
        )
    for name in wanted:
        if name not in table.colnames:
            raise TableError(no_column(name, table.colnames))
    by_stem = {_stem(p): p for p in place.rglob("*") if p.name.lower().endswith(ENDINGS)}
    rows = [[_find(place, by_stem, value) for value in values] for values in zip(*(table[n] for n in wanted))]
    if all(path is None for row in rows for path in row):
        raise TableError(f"none of the {len(rows)} rows of '{wanted[0]}' names a file in '{place}'")
    if not any(n in lower for n in ID_NAMES):  # as without a table, so that results can be joined
        table = table.copy(copy_data=False)
        table["id"] = [_stem(Path(text(value))) for value in table[wanted[0]]]
    return Files(rows), table


def _find(place: Path, by_stem: Mapping[str, Path], value: Any) -> Path | None:
    name = text(value)
    if not name:
        return None
    path = place / name
    return path if path.is_file() else by_stem.get(name) or by_stem.get(_stem(Path(name)))
