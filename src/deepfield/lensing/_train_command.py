"""deepfield lensing train, apart from the other verbs because its options need the model's configuration."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deepfield.core.store import checked_folder
from deepfield.data.images.collection import Images
from deepfield.data.images.read import read
from deepfield.lensing.model import LensingConfig
from deepfield.lensing.train import train_to_folder


def train(
    *images: str,
    out: Path,
    config: Annotated[LensingConfig | None, Parameter(name="*")] = None,
    init: str = "",
    unlabelled: str = "",
    size: int = 0,
    crop: int = 0,
    pixel_scale: float = 0.0,
    workers: int = 1,
) -> None:
    """The help's first lines stand in ``commands.py``.

    Parameters
    ----------
    images
        Sets with `is_lens` in their tables, as `simulate` writes them; none with --survey.
    out
        Folder of the model.
    init
        Folder or name of a model to go on from.
    unlabelled
        Images of the survey where the model shall be used: its features are drawn towards them.
    size
        Pixels on a side that images are kept with; by default those they have.
    crop
        Central pixels of the originals that are used; by default all.
    pixel_scale
        Arcsec a pixel of files that do not say; the model then warns of images of another scale.
    workers
        Threads that decode images.
    """
    checked_folder(out)

    def opened(place: str) -> Images:
        return read(place, size=size, crop=crop, pixel_scale=pixel_scale, workers=workers)

    sets = [opened(place) for place in images]
    other = opened(unlabelled) if unlabelled else None
    model = train_to_folder(sets or None, out, config or LensingConfig(), init=init, unlabelled=other)
    for stamps in (*sets, *([other] if other is not None else [])):
        stamps.close()
    print(f"model: {out} (to {model.config.task}; {model.card['split']['train']:,} images)", file=sys.stderr)
