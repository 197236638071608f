"""Asking a model of images, some at a time: broken ones are flagged rows, and rows keep their identifiers."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.core.model import Model
from deepfield.core.nets.stretch import sky_noise
from deepfield.core.store import META, find
from deepfield.core.table import Table, text
from deepfield.core.vision import inherit, parts
from deepfield.data.images.collection import Images
from deepfield.data.images.read import ID_NAMES, read

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger("deepfield")
_LOOKED_AT = 32  # images whose sky tells the unit of the fluxes
_ROWS = 512  # images that are decoded and served at a time

ABSURD = "the net gives no number: pixels are absurd"
FLAT = "all pixels are the same: there are no data"
CODES = {0: "served", 1: "the image is broken", 2: ABSURD, 3: FLAT}


@dataclass
class Counts:
    """Images of a prediction run, and why some of them could not be served."""

    rows: int = 0
    unserved: Counter[str] = field(default_factory=Counter)

    def add(self, reasons: NDArray[np.str_]) -> None:
        self.rows += len(reasons)
        self.unserved.update(r for r in reasons.tolist() if r)

    def summary(self) -> str:
        """One line."""
        first = [f"{n:,}: {reason}" for reason, n in self.unserved.most_common(3)]
        return f"{self.unserved.total():,} images cannot be served and have NaN ({'; '.join(first)})"


def serve(
    images: Images, function: Callable[[Tensor], Tensor], *, rows: int = _ROWS
) -> tuple[Tensor, NDArray[np.str_]]:
    """``function`` of all images (N, ...), NaN where an image is broken or the net gives no number, and why.

    Parameters
    ----------
    images : Images
    function : callable
        Raw pixels (n, B, S, S) to numbers (n, ...).
    rows : int
        Images that are decoded and served at a time.
    """
    found: list[Tensor] = []
    why: list[NDArray[np.str_]] = []
    for start in range(0, max(len(images), 1), rows):
        x, reasons = images.load(slice(start, start + rows))
        if x.is_floating_point() and len(x):  # a gap between detectors, or beyond the survey
            flat = (x.flatten(2).amax(2) == x.flatten(2).amin(2)).all(1).numpy()
            reasons = np.where(flat & (reasons == ""), FLAT, reasons)
        values = function(x)
        wrong = ~torch.isfinite(values).flatten(1).all(1).numpy() & (reasons == "")
        reasons = np.where(wrong, ABSURD, reasons)
        values[torch.from_numpy(reasons != "")] = torch.nan
        found.append(values)
        why.append(reasons)
    return torch.cat(found), np.concatenate(why)


class Taker(Protocol):
    """A saved model of images: what it takes, for the functions below."""

    model: Model
    bands: tuple[str, ...]
    side: int
    crop: int
    seen: dict[str, Any]

    def features(self, x: Tensor) -> Tensor: ...


def check(model: Taker, images: Images) -> None:
    """Refuse images that the model cannot take; warn of those whose scale, unit or bands it does not know."""
    if not isinstance(images, Images):
        raise DeepfieldError(f"images come from read(...), in memory or of a file, not as {type(images).__name__}")
    if len(images.bands) != len(model.bands):
        raise DeepfieldError(
            f"the images have {len(images.bands)} bands ({', '.join(images.bands)}), the model takes "
            f"{len(model.bands)} ({', '.join(model.bands)})"
        )
    if images.size != model.side:
        raise DeepfieldError(
            f"the images have {images.size} pixels a side, the model takes {model.side}: read them with "
            f"size={model.side}" + (f", crop={model.crop}" if model.crop else "")
        )
    check_pixels(model, images)
    scale, stretch = images.meta["pixel_scale"], parts(model.model)[0].stretch
    if said := stretch.check(images.bands, scale, images.meta["psf_fwhm"]):
        images.warn(said)
    if said := _unit(model, images):
        images.warn(said)
    known = scale and float(stretch.pixel_scale)
    if not known and images.meta["native"] != model.seen["native"]:
        images.warn(
            f"the images have {images.meta['native']} pixels a side and are resampled to {images.size}, those the "
            f"model learnt from had {model.seen['native']}: their scale on the sky may be another"
        )


def _unit(model: Taker, images: Images) -> str:
    """What speaks against the unit of the fluxes, by the noise of the sky; looked at once for a set of images."""
    camera = parts(model.model)[0]
    known = 1 / camera.stretch.unit.flatten().cpu()
    if camera.stretch.kind != "asinh" or not len(images) or not images.first_time(f"unit {known.tolist()}"):
        return ""
    x, reasons = images.load(np.unique(np.linspace(0, len(images) - 1, _LOOKED_AT).astype(int)))
    x = x[torch.from_numpy(reasons == "")]
    if not len(x):
        return ""
    try:
        found = sky_noise(camera.reduce(x))
    except DeepfieldError:  # no noise at all
        found = torch.zeros_like(known)
    if bool(((found > 0.5 * known) & (found < 2 * known)).all()):
        return ""
    one, two = (", ".join(f"{v:.3g}" for v in noise.tolist()) for noise in (found, known))
    return (
        f"the noise of the sky is {one} ({', '.join(images.bands)}), that the model learnt with {two}: fluxes "
        "must be in the unit of its training (nJy for the models that come with the package), at about its depth"
    )


def features_of(model: Taker, images: Images) -> tuple[Tensor, NDArray[np.str_]]:
    """The features of all images (N, ...), as :func:`serve`, if the model can take them."""
    check(model, images)
    return serve(images, model.features)


def tell_unserved(reasons: NDArray[np.str_]) -> None:
    """Log how many images cannot be served, if any."""
    counts = Counts()
    counts.add(reasons)
    if counts.unserved:
        log.warning("%s", counts.summary())


def take_over(model: Taker, base: Taker, images: Images, *, last: bool) -> None:
    """The weights and the camera of another model, with the last layer or without; not what its pixels are like.

    Raises
    ------
    DeepfieldError
        If the images have another number of bands than ``base`` takes, or other pixels.
    """
    if len(model.bands) != len(base.bands):
        raise DeepfieldError(
            f"the images have {len(model.bands)} bands, the model to go on from {len(base.bands)}: "
            f"{', '.join(base.bands)}"
        )
    check_pixels(base, images)
    inherit(model.model, base.model, last=last)
    stretch, scale = parts(model.model)[0].stretch, images.meta["pixel_scale"]
    if said := stretch.check(images.bands, scale, images.meta["psf_fwhm"]):
        images.warn(said)
    stretch.tell(pixel_scale=scale, psf_fwhm=images.meta["psf_fwhm"])


def check_pixels(model: Taker, images: Images) -> None:
    """Refuse fluxes where the model has seen pictures, and the other way round; warn of bands of other names."""
    kinds = {"uint8": "bytes (pictures)", "float32": "floats (fluxes)"}
    own, given = model.seen["dtype"], images.dtype
    if own and given and own != given:
        raise DeepfieldError(
            f"the images are {kinds.get(given, given)}, those the model learnt from {kinds.get(own, own)}: give "
            "such images (whole numbers from 0 to 255 are made bytes by .astype('uint8')), or train on these"
        )
    unknown = all(name == f"band{i + 1}" for i, name in enumerate(model.bands))
    if images.bands != model.bands and set(images.bands) == set(model.bands):
        raise DeepfieldError(
            f"the bands are in the order {', '.join(images.bands)}, the model takes {', '.join(model.bands)}: "
            "give the images so"
        )
    if images.meta["named"] and not unknown and images.bands != model.bands:
        images.warn(
            f"the bands are {', '.join(images.bands)}, those the model learnt from {', '.join(model.bands)}: they "
            "are taken one for one in this order"
        )


def open_images(model: Taker, images: Any, **options: Any) -> Images:
    """Images of a file or folder in the form that a model takes; they are not kept in memory."""
    if isinstance(images, Images):
        return images
    settings: dict[str, Any] = {"bands": model.bands, "size": model.side, "crop": model.crop, "cache": 0}
    return read(images, **(settings | {k: v for k, v in options.items() if v}))


def codes(reasons: NDArray[np.str_]) -> NDArray[np.int8]:
    """For each reason its number in ``CODES``."""
    return np.select([reasons == said for said in ("", ABSURD, FLAT)], [0, 2, 3], 1).astype(np.int8)


def checked_target(out: str | os.PathLike[str], images: Any) -> Path:
    """The Parquet file to write, which is not the one that is read."""
    target = Path(out)
    if target.suffix.lower() != ".parquet" or target.is_dir():
        raise DeepfieldError(f"results are written to .parquet, not to '{out}'")
    named = isinstance(images, str | os.PathLike) and Path(images).exists()
    if named and target.exists() and os.path.samefile(target, images):
        raise DeepfieldError(f"'{out}' holds the images themselves: give another --out")
    return target


def serve_file(
    images: Images,
    target: Path,
    answer: Callable[[Images], pa.Table],
    *,
    job: dict[str, Any],
    progress: bool = True,
) -> Counts:
    """Answers for all images to Parquet, in order; a killed run goes on where it stopped.

    Parameters
    ----------
    images : Images
        Closed at the end.
    target : Path
        From :func:`checked_target`.
    answer : callable
        The rows of the file for some of the images, with a column ``reason``, empty where there is an answer.
    job : dict
        What tells this run from others; the images' catalogue is added.
    """
    import pyarrow.parquet as pq

    from deepfield.scale.stream import stream_parquet

    def batches(start: int) -> Iterator[Images]:
        for first in range(start, len(images), _ROWS):
            yield images[first : first + _ROWS]

    stream_parquet(
        batches,
        answer,
        target,
        job={**job, "digest": images.table.digest()},
        total=len(images),
        workers=1,  # the net itself and the decoding share the cores
        progress=progress,
    )
    images.close()
    counts = Counts()
    for batch in pq.ParquetFile(target).iter_batches(columns=["reason"]):
        counts.add(np.array(batch.column(0).to_pylist(), dtype=np.str_))
    return counts


def identity(model: str | os.PathLike[str]) -> str:
    """The sha256 of a saved model, by its folder or name."""
    return hashlib.sha256((find(model) / META).read_bytes()).hexdigest()


def digest(images: Images) -> str:
    """Sha256 of the catalogue and of some of the images: what a training was made from."""
    sha = hashlib.sha256(images.table.digest().encode())
    sha.update(f"{len(images)} {images.size} {images.bands}".encode())
    x, _ = images.load(np.unique(np.linspace(0, len(images) - 1, 64).astype(int)))
    sha.update(np.ascontiguousarray(x.numpy()).tobytes())
    return sha.hexdigest()


def tell_broken(images: Images) -> None:
    """Say how many images cannot be used, if any."""
    reasons = images.reasons()
    if (broken := int((reasons != "").sum())) > 0:
        log.warning("%s broken images were left out, first: %s", broken, reasons[reasons != ""][0])


def identifiers(images: Images) -> NDArray[Any]:
    """The catalogue's identifiers, or row numbers."""
    found = identifiers_of(images.table)
    return np.asarray(images._rows) if found is None else found


def identifiers_of(table: Table) -> NDArray[Any] | None:
    """The column of a catalogue that names its objects, missing ones -1 or empty; None if there is none."""
    lower = {name.lower(): name for name in table.colnames}
    for name in ID_NAMES:
        if name in lower:
            ids = np.ma.asarray(table[lower[name]])
            return np.asarray(ids.filled(-1 if ids.dtype.kind in "iuf" else "") if np.ma.is_masked(ids) else ids)
    return None


def check_same(predicted: Any, table: Table, path: object) -> None:
    """Refuse a catalogue whose identifiers are not, row by row, those of a prediction file.

    Raises
    ------
    DeepfieldError
        With the first row that differs. A catalogue without identifiers is paired by number.
    """
    own = identifiers_of(table)
    if own is None or predicted is None:
        return
    one, two = ([text(i) for i in np.asarray(ids).tolist()] for ids in (predicted, own))
    differ = [row for row, pair in enumerate(zip(one, two, strict=True)) if pair[0] != pair[1]]
    if differ:
        row = differ[0]
        raise DeepfieldError(
            f"{path} and the catalogue differ in {len(differ)} of {len(one)} identifiers, first in row {row}: "
            f"'{one[row]}' and '{two[row]}'; give the catalogue that was predicted, in its order"
        )
