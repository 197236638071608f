"""Column names as a command line tells them: a preset, pairs, or a JSON file of pairs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from deepfield.core.errors import TableError
from deepfield.data.photometry import SAME_UNIT, UNITS

Told = str | dict[str, str | tuple[str, str]] | None

STANDARD = re.compile(r"(mag|flux)_\w+|z_spec|ebv|class|id")
HELP = "mag_<band>, mag_err_<band>, flux_<band>, flux_err_<band>, z_spec, ebv, class or id"
_UNIT = re.compile(rf"(.+):(zp:[\d.]+|{'|'.join({*UNITS, *SAME_UNIT})})")


def told(text: str) -> Told:
    """What :func:`deepfield.data.columns.resolve` takes, from one word of a command line.

    Parameters
    ----------
    text
        Empty to guess; the name of a preset; pairs ``mag_g=G_MAG,mag_err_g=G_ERR,id=NAME`` of standard and own
        names, a flux with its unit behind a colon (``flux_g=FLUX_G:uJy``); or a ``.json`` file that holds such
        pairs as an object, ``{"mag_g": "G_MAG", "flux_r": ["FLUX_R", "uJy"]}``.

    Raises
    ------
    TableError
        If a pair is not whole, or the name on its left is not a standard one or stands there twice, or the file
        is not there or holds anything else.

    Examples
    --------
    >>> told("mag_g=G MAG, mag_err_g=G ERR, flux_r=F:zp:30")
    {'mag_g': 'G MAG', 'mag_err_g': 'G ERR', 'flux_r': ('F', 'zp:30')}
    >>> told("sdss")
    'sdss'
    """
    if text.lower().endswith(".json"):
        return _checked(_file(Path(text)))
    if "=" not in text:
        return text or None
    return _checked(_pair(part) for part in text.split(",") if part.strip())


def _pair(part: str) -> tuple[str, str | tuple[str, str]]:
    standard, _, own = (word.strip() for word in part.partition("="))
    if not own:
        raise TableError(
            f"'{part.strip()}' among the column names is no pair such as mag_g=G_MAG; names with a comma in them "
            "are given in a .json file"
        )
    unit = _UNIT.fullmatch(own) if standard.startswith("flux_") else None
    return standard, (unit[1], unit[2]) if unit else own


def _file(path: Path) -> Iterable[tuple[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TableError(f"cannot read the column names in '{path}': {(error.strerror or '').lower()}") from None
    except ValueError as error:
        raise TableError(f"'{path}' is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise TableError(f'\'{path}\' holds no object of column names such as {{"mag_g": "G_MAG"}}')
    for standard, own in content.items():
        pair = isinstance(own, list) and len(own) == 2 and all(isinstance(part, str) for part in own)
        if not (pair or isinstance(own, str)):
            raise TableError(f"'{path}': {standard} needs a column name, or [name, unit], not {json.dumps(own)}")
        yield standard, tuple(own) if pair else own


def _checked(pairs: Iterable[tuple[str, Any]]) -> dict[str, str | tuple[str, str]]:
    result: dict[str, str | tuple[str, str]] = {}
    for standard, own in pairs:
        if not STANDARD.fullmatch(standard):
            raise TableError(f"'{standard}' is not a standard name of a column: it is {HELP}")
        if standard in result:
            raise TableError(f"the column of '{standard}' is given twice")
        result[standard] = own
    return result
