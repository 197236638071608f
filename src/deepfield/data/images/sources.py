"""Where images come from, row by row: encoded bytes, arrays, files (cutouts: ``mosaics.py``).

A source has a length and ``load(row)``, which gives the raw pixels (B, H, W) or raises :class:`BrokenImage` with
the reason in words. It is opened where it is used, so that it can be sent to another process.

Rows run from the top down, as in a picture. FITS counts them from the bottom, so that its rows are turned round;
and where a WCS says that an image shows the mirrored sky, its columns too, so that handedness is that of the sky.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import re
import threading
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.optional import require

_MOST_BANDS = 16
_MOST_PIXELS = 2**26  # a small file may claim to be a huge picture
_MOST_BYTES = 2**29  # and a small archive a huge file
_GROUPS_KEPT = 4
_IN_MEMORY = 2**29  # bytes of encoded images that are read at once

_QUIET = threading.Lock()  # warnings are switched off for the whole process, so by one thread at a time


class BrokenImage(DeepfieldError):
    """An image that cannot be used, and why; its row is flagged and the others are served."""


class Source:
    """What :class:`~deepfield.data.images.collection.Images` asks of its images.

    ``blocks`` are rows that are cheap to read together (start, stop), or None where any order is cheap.
    """

    blocks: tuple[tuple[int, int], ...] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def load(self, row: int) -> NDArray[Any]:
        """Raw pixels (B, H, W) of a row; BrokenImage says why there are none."""
        raise NotImplementedError


def decode(data: bytes) -> NDArray[Any]:
    """Pixels (B, H, W) of an encoded image: JPEG, PNG and what else Pillow reads, or FITS; also gzipped.

    Raises
    ------
    BrokenImage
        If the bytes are none, or cut off.

    Examples
    --------
    >>> from PIL import Image
    >>> file = io.BytesIO()
    >>> Image.new("RGB", (8, 4)).save(file, "PNG")
    >>> decode(file.getvalue()).shape
    (3, 4, 8)
    """
    if not data:
        raise BrokenImage("there are no bytes")
    if data.startswith(b"\x1f\x8b"):
        data = _unzipped(data)
    if data.startswith(b"SIMPLE  ="):
        return _decode_fits(io.BytesIO(data))
    pillow = require("PIL.Image", extra="morphology")
    try:
        with pillow.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise BrokenImage(f"{image.width} x {image.height} pixels are no cutout")
            plain = {"P": "RGB", "RGBA": "RGB", "PA": "RGB", "1": "L", "LA": "L"}.get(image.mode)
            pixels = np.asarray(image if plain is None else image.convert(plain))
    except BrokenImage:
        raise
    except Exception as error:
        raise BrokenImage(f"not an image, or cut off ({first_line(error)})") from None
    return channels_first(pixels)


def _unzipped(data: bytes) -> bytes:
    try:
        with gzip.open(io.BytesIO(data)) as file:
            found = file.read(_MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BrokenImage(f"not a gzip file, or cut off ({first_line(error)})") from None
    if len(found) > _MOST_BYTES:
        raise BrokenImage(f"unpacked it has more than {_MOST_BYTES} bytes, which is no cutout")
    return found


def channels_first(pixels: NDArray[Any]) -> NDArray[Any]:
    """(H, W), (H, W, B) or (B, H, W) to (B, H, W); bands are the axis of at most 16 that is the shorter.

    Raises
    ------
    BrokenImage
        If it is none of these, or has no pixels.
    """
    if pixels.size == 0:
        raise BrokenImage("the image has no pixels")
    if pixels.ndim == 2:
        return pixels[None]
    if pixels.ndim == 3 and pixels.shape[0] <= min(_MOST_BANDS, pixels.shape[2]):
        return pixels
    if pixels.ndim == 3 and pixels.shape[2] <= _MOST_BANDS:
        return np.moveaxis(pixels, 2, 0)
    raise BrokenImage(f"an array of shape {pixels.shape} is no image of up to {_MOST_BANDS} bands")


def _decode_fits(file: Any) -> NDArray[Any]:
    from astropy.io import fits

    try:
        with _QUIET, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(file, memmap=False) as hdus:
                hdu = next((h for h in hdus if h.is_image and h.data is not None), None)
                pixels = None if hdu is None else hdu.data
                flipped = hdu is not None and mirrored(hdu.header)
    except Exception as error:
        raise BrokenImage(f"not a FITS image, or cut off ({first_line(error)})") from None
    if pixels is None:
        raise BrokenImage("the FITS file has no image")
    return upright(channels_first(np.asarray(pixels, dtype=pixels.dtype.newbyteorder("="))), flipped)


def upright(pixels: NDArray[Any], flipped: bool) -> NDArray[Any]:
    """FITS pixels (B, H, W) as a picture shows them: the first row at the top, handedness as on the sky."""
    return pixels[:, ::-1, ::-1] if flipped else pixels[:, ::-1]


def mirrored(header: Any) -> bool:
    """Whether the WCS of a header, or a WCS, has east to the right where north is up (positive determinant)."""
    from astropy.wcs import WCS

    try:
        wcs = header if isinstance(header, WCS) else WCS(header)
    except Exception:  # a header that astropy cannot make sense of says nothing of the sky
        return False
    if not wcs.has_celestial:
        return False
    matrix = wcs.pixel_scale_matrix[[wcs.wcs.lng, wcs.wcs.lat], :2]
    return bool(np.linalg.det(matrix) > 0)


def first_line(error: BaseException) -> str:
    """The first line of a message, without addresses of objects, so that the same fault reads the same."""
    lines = [line.strip() for line in re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", str(error)).splitlines()]
    lines = [line for line in lines if line]
    return (lines[0] if lines else type(error).__name__)[:120]


class Arrays(Source):
    """Images in memory, or in an HDF5 data set of numbers: (N, H, W), (N, B, H, W) or (N, H, W, B)."""

    def __init__(self, array: Any = None, *, path: str = "", name: str = "") -> None:
        self._array, self._path, self._name = array, path, name
        self._length = len(self.array)

    @property
    def array(self) -> Any:
        """The array, or the open data set."""
        if self._array is None:
            import h5py

            self._array = h5py.File(self._path, "r")[self._name]
        return self._array

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_array": None if self._path else self._array}

    def __len__(self) -> int:
        return self._length

    def load(self, row: int) -> NDArray[Any]:
        try:
            pixels = np.asarray(self.array[row])
        except (OSError, RuntimeError, ValueError, KeyError) as error:
            raise BrokenImage(f"the row cannot be read ({first_line(error)})") from None
        if pixels.dtype.kind == "V" or pixels.dtype == object:
            return decode(bytes(pixels.tolist() if pixels.dtype.kind == "V" else pixels.item()))
        if pixels.ndim == 1 and pixels.dtype == np.uint8:
            return decode(pixels.tobytes())
        return channels_first(pixels)


class Encoded(Source):
    """Encoded images in memory, one ``bytes`` for each row; None where there is none."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def load(self, row: int) -> NDArray[Any]:
        data = self._rows[row]
        if not isinstance(data, bytes | bytearray | memoryview | np.bytes_):
            raise BrokenImage("there is no image" if data is None else f"a {type(data).__name__} is no image")
        return decode(bytes(data))


class ParquetColumn(Source):
    """A column of Parquet files: encoded images (binary, or a struct with ``bytes``) or lists of numbers.

    Small files are read at once; of large ones a few row groups are kept.
    """

    def __init__(self, paths: Sequence[str], column: str, shape: tuple[int, ...] | None = None) -> None:
        import pyarrow.parquet as pq

        self.column, self.shape = column, shape
        metas = [(path, pq.ParquetFile(path).metadata) for path in paths]
        groups = [(path, meta, i) for path, meta in metas for i in range(meta.num_row_groups)]
        self._places = [(path, i) for path, _, i in groups]
        sizes = [meta.row_group(i).num_rows for _, meta, i in groups]
        self._ends = np.cumsum(sizes)
        total = sum(meta.row_group(i).total_byte_size for _, meta, i in groups)
        starts = [0, *self._ends[:-1].tolist()]
        self.blocks = None if total <= _IN_MEMORY else tuple(zip(starts, self._ends.tolist()))
        self._most = len(sizes) if self.blocks is None else _GROUPS_KEPT
        self._begin()

    def _begin(self) -> None:
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in self.__dict__.items() if k not in ("_groups", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def _group(self, index: int) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        with self._lock:
            if index not in self._groups:
                try:
                    path, group = self._places[index]
                    table = pq.ParquetFile(path).read_row_group(group, columns=[self.column])
                except (OSError, pa.ArrowException) as error:
                    raise BrokenImage(f"the row cannot be read ({first_line(error)})") from None
                self._groups[index] = table.column(0).combine_chunks()
                while len(self._groups) > self._most:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(index)
            return self._groups[index]

    def load(self, row: int) -> NDArray[Any]:
        index = int(np.searchsorted(self._ends, row, side="right"))
        value = self._group(index)[row - (int(self._ends[index - 1]) if index else 0)].as_py()
        if isinstance(value, dict):
            value = value.get("bytes")
        if value is None:
            raise BrokenImage("there is no image")
        return decode(value) if isinstance(value, bytes) else self._numbers(value)

    def _numbers(self, value: Any) -> NDArray[Any]:
        shape = self.shape or (_square(len(value)) if np.ndim(value) == 1 else None)
        try:
            pixels = np.asarray(value, dtype=np.float32)
            return channels_first(pixels) if shape is None else pixels.reshape(shape)
        except (ValueError, TypeError) as error:
            if isinstance(error, BrokenImage):
                raise
            raise BrokenImage(f"a list of {len(value)} is no image of shape {shape}") from None


def _square(n: int) -> tuple[int, ...]:
    for bands in (1, 3):
        side = math.isqrt(n // bands)
        if n and bands * side * side == n:
            return (bands, side, side)
    raise BrokenImage(f"{n} numbers in a row: give shape=(bands, height, width)")


class Files(Source):
    """One file for each row, or one for each band of each row; None where there is none."""

    def __init__(self, paths: Sequence[Sequence[str | os.PathLike[str] | None]]) -> None:
        self.paths = [tuple(row) for row in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def load(self, row: int) -> NDArray[Any]:
        planes = [self._one(path) for path in self.paths[row]]
        if len({p.shape[1:] for p in planes}) > 1:
            raise BrokenImage(f"the bands have shapes {', '.join(str(p.shape[1:]) for p in planes)}")
        return np.concatenate(planes) if len(planes) > 1 else planes[0]

    def _one(self, path: Any) -> NDArray[Any]:
        if path is None:
            raise BrokenImage("there is no file")
        try:
            return decode(Path(path).read_bytes())
        except OSError as error:
            raise BrokenImage(f"{Path(path).name} cannot be read ({error.strerror or 'no file'})") from None
