"""deepfield photoz train, apart from the other verbs because its options need the model's configuration."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from deepfield.core.store import checked_folder
from deepfield.data._told import told
from deepfield.photoz.commands import Catalog, Columns
from deepfield.photoz.model import PhotozConfig
from deepfield.photoz.read import read
from deepfield.photoz.train import quickly, train_to_folder


def train(
    catalog: Catalog,
    *,
    out: Path,
    config: Annotated[PhotozConfig | None, Parameter(name="*")] = None,
    quick: Annotated[bool, Parameter(negative="")] = False,
    columns: Columns = "",
) -> None:
    """The help's first lines stand in ``commands.py``.

    Parameters
    ----------
    out
        Folder of the model.
    quick
        One network in place of an ensemble and its student: faster, and a little worse.
    """
    checked_folder(out)
    config = config or PhotozConfig()
    table = read(catalog, columns=told(columns), bands=config.bands or None, target=config.target)
    config = replace(config, target="z_spec")  # as read has called it
    model = train_to_folder(table, out, quickly(config) if quick else config)
    print(
        f"model: {out} ({', '.join(model.bands)}; {model.card['split']['train']:,} training rows)",
        file=sys.stderr,
    )
