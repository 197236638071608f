"""deepfield morphology train, apart from the other verbs because its options need the model's configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deepfield.core.store import checked_folder
from deepfield.data.images._options import Catalog, Column, Stamps
from deepfield.data.images.read import read
from deepfield.morphology.model import MorphologyConfig
from deepfield.morphology.train import train_to_folder


def train(
    images: Stamps,
    *,
    out: Path,
    config: Annotated[MorphologyConfig | None, Parameter(name="*")] = None,
    init: str = "",
    catalog: Catalog = None,
    column: Column = "",
    size: int = 0,
    crop: int = 0,
    pixel_scale: float = 0.0,
    workers: int = 1,
) -> None:
    """The help's first lines stand in ``commands.py``.

    Parameters
    ----------
    out
        Folder of the model.
    init
        Folder of a model to go on from, with a new last layer where the classes are others.
    size
        Pixels on a side that images are kept with; by default those they have.
    crop
        Central pixels of the originals that are used; by default all.
    pixel_scale
        Arcsec a pixel; the model then warns of images of another scale.
    workers
        Threads that decode images.
    """
    checked_folder(out)
    stamps = read(
        images, catalog=catalog, column=column or None, size=size, crop=crop, pixel_scale=pixel_scale,
        workers=workers,
    )  # fmt: skip
    model = train_to_folder(stamps, out, config or MorphologyConfig(), init=init)
    stamps.close()
    told = f"votes over {model.tree.name}" if model.tree else ", ".join(model.labels)
    print(f"model: {out} ({told}; {model.card['split']['train']:,} training images)", file=sys.stderr)
