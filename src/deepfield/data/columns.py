"""From a survey's columns to the standard ones: guess or be told, say what was guessed, convert.

:func:`resolve` decides once from the column names, :meth:`Mapping.apply` converts tables or batches of
them. The standard columns are those of :mod:`deepfield.data.photometry`, with ``z_spec`` (spectroscopic
redshift), ``ebv`` (E(B-V), mag), ``class`` and ``id``; columns without a part in it keep their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from deepfield.core.errors import TableError
from deepfield.core.table import Table, no_column, numbers, shorten
from deepfield.data import photometry
from deepfield.data.presets import EBV, ID, LABEL, PRESETS, REDSHIFT, Preset, Style

NOT_BANDS = {"err", "lim", "sel", "abs", "auto", "best", "tot", "ref", "id", "radius", "ratio"}
OTHERS = {"z_spec": "redshift", "ebv": "ebv", "class": "label", "id": "id"}
COMMON = {"redshift": REDSHIFT, "ebv": EBV, "label": LABEL, "id": ID}

ColumnsLike = str | MappingABC[str, str | tuple[str, str]] | None


@dataclass(frozen=True)
class Band:
    """Where one band comes from: source columns and unit (``mag`` or a flux unit)."""

    name: str
    value: str
    error: str | None = None
    unit: str = "mag"
    inverse_variance: bool = False
    limit: str | None = None


@dataclass(frozen=True)
class Mapping:
    """Columns of a survey mapped to the standard ones.

    Attributes
    ----------
    title
        Whose columns they are, in words.
    bands
        The bands in order.
    others
        Standard name to source column, for everything but photometry.
    dereddened
        Whether the photometry is corrected for extinction already.
    guessed
        Whether anybody asked for it.
    survey
        Name of the preset, where it is a survey's.
    """

    title: str
    bands: tuple[Band, ...]
    others: MappingABC[str, str]
    dereddened: bool = False
    guessed: bool = True
    survey: str = ""

    @property
    def sources(self) -> list[str]:
        """The source columns that are needed, each once."""
        photometric = [(b.value, b.error, b.limit) for b in self.bands]
        names = [name for group in photometric for name in group if name] + list(self.others.values())
        return list(dict.fromkeys(names))

    @property
    def message(self) -> str:
        """One line for the user: what was read as what."""
        pairs = [f"{b.value}{f' ± {b.error}' if b.error else ''} ({b.unit})" for b in self.bands]
        rest = [f"{k} from '{source}'" for k, source in self.others.items() if source != k and k != "id"]
        ids = f"id from '{self.others['id']}'" if "id" in self.others else "no id column: row numbers"
        names = ",".join(b.name for b in self.bands)
        verb = "guessed" if self.guessed else "read"
        return f"{verb} {self.title} columns, bands {names}: {shorten([*pairs, *rest], limit=30)}, {ids}"

    def apply(self, table: Any, *, keep: bool = True) -> Table:
        """Convert a table (or a batch of its rows) to standard columns; no row is dropped or moved.

        Parameters
        ----------
        table
            A table with the columns :attr:`sources`.
        keep
            Whether columns without a standard name are kept.
        """
        result, notes = Table(), []
        for band in self.bands:
            notes += _add_band(result, table, band)
        for name, source in self.others.items():
            notes += _add_other(result, table, name, source)
        used = set(self.sources)
        for name in table.colnames if keep else ():
            if name not in used:
                result[name if name not in result.colnames else f"{name}_original"] = table[name]
        result.meta.update(table.meta)
        result.meta.update(bands=tuple(b.name for b in self.bands), reading=self.message, notes=notes)
        result.meta["dereddened"] = self.dereddened or bool(table.meta.get("dereddened", False))
        if self.survey:
            result.meta["survey"] = self.survey
        return result


def resolve(
    names: Iterable[str],
    columns: ColumnsLike = None,
    *,
    bands: Sequence[str] | None = None,
    target: str | None = None,
    gaps: Sequence[str] = (),
) -> Mapping:
    """Decide which columns are what.

    Parameters
    ----------
    names
        Column names of the catalogue.
    columns
        None to guess, the name of a preset, or a dictionary from standard names to the catalogue's:
        ``{"mag_g": "MAG_APER_G", "mag_err_g": "MAGERR_APER_G", "z_spec": "ZBEST"}``, for fluxes with a
        unit: ``{"flux_g": ("FLUX_G", "uJy"), "flux_err_g": ("FLUXERR_G", "uJy")}``. The bands it names are
        the bands; one that names none, as ``{"id": "NAME"}``, is laid over what is guessed.
    bands
        Bands wanted, in this order; by default all that are found, blue to red.
    target
        Name of the column of the true redshift.
    gaps
        Those of ``bands`` that need not be there.

    Raises
    ------
    TableError
        If no photometry is found, a band or column asked for is not there, or the preset is unknown.

    Examples
    --------
    >>> mapping = resolve(["objID", "modelMag_g", "modelMagErr_g", "modelMag_r", "modelMagErr_r", "z"])
    >>> mapping.message
    "guessed SDSS columns, bands g,r: modelMag_g ± modelMagErr_g (mag), ...z_spec from 'z', id from 'objID'"
    """
    index = _Index(names)
    if columns is None or isinstance(columns, str):
        mapping = _preset(index, columns, bands)
    else:
        mapping = _explicit(index, columns, bands)
    told = not isinstance(columns, str) and "z_spec" in (columns or {})
    if target is not None and not (told and target == "z_spec"):
        found, guess = index.find(target), mapping.others.get("z_spec")
        if found is None:
            hint = f"; the redshift may be '{guess}': give --target {guess}, in Python target" if guess else ""
            raise TableError(no_column(target, index.names) + hint)
        mapping = replace(mapping, others={**mapping.others, "z_spec": found})
    return _select(mapping, bands, index, gaps)


class _Index:
    """Column names, found exactly or, if that is unambiguous, without regard to case."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = list(names)
        self.exact = set(self.names)
        self.lower: dict[str, list[str]] = {}
        for name in self.names:
            self.lower.setdefault(name.lower(), []).append(name)

    def find(self, name: str) -> str | None:
        if name in self.exact:
            return name
        alike = self.lower.get(name.lower(), [])
        return alike[0] if len(alike) == 1 and len(name) > 1 else None

    def need(self, name: str) -> str:
        found = self.find(name)
        if found is None:
            raise TableError(no_column(name, self.names))
        return found


def _preset(index: _Index, name: str | None, bands: Sequence[str] | None) -> Mapping:
    if name is not None and name.lower() not in PRESETS:
        raise TableError(f"unknown column preset '{name}': use one of {shorten(PRESETS)} or a dictionary")
    presets = list(PRESETS.values()) if name is None else [PRESETS[name.lower()]]
    best: tuple[tuple[int, int], Preset | None, Style | None, tuple[Band, ...]] = ((0, 0), None, None, ())
    for preset in presets:
        for style in preset.styles:
            found = _match(index, preset, style, bands)
            score = (len(found), sum(band.error is not None for band in found))
            enough = name is not None or preset.name == "standard" or len(found) > 1
            if enough and score > best[0]:
                best = (score, preset, style, found)
    _, winner, chosen, found = best
    if winner is None or chosen is None:
        wanted = f"{PRESETS[name.lower()].title} " if name else ""
        raise TableError(
            f"no {wanted}magnitudes or fluxes among the columns {shorten(index.names)}: name them on the command "
            "line, --columns mag_g=G_MAG,mag_err_g=G_ERR,z_spec=Z, in Python, columns={'mag_g': 'G_MAG', ...}, "
            "or rename them in the file to mag_g, mag_err_g, z_spec"
        )
    taken = {name for band in found for name in (band.value, band.error, band.limit) if name}
    others = _others(index, winner, taken)
    survey = "" if winner.name in ("standard", "plain") else winner.name
    return Mapping(winner.title, found, others, chosen.dereddened, guessed=name is None, survey=survey)


def _match(index: _Index, preset: Preset, style: Style, wanted: Sequence[str] | None) -> tuple[Band, ...]:
    names = preset.bands or _any_bands(index, style)
    found = []
    for band in [*names, *(b for b in wanted or () if b not in names)]:
        token = style.tokens.get(band, band)
        value = index.find(_fill(style.value, band, token))
        if value is None or (style.tokens and band not in style.tokens):
            continue
        tried = (index.find(_fill(pattern, band, token)) for pattern in style.error)
        error = next((name for name in tried if name), None)
        if error is not None or not style.need_error:
            limit = index.find(f"mag_lim_{band}") if preset.name == "standard" else None
            found.append(Band(band, value, error, style.unit, style.inverse_variance, limit))
    if preset.name == "standard" and not wanted and any(band.error for band in found):
        found = [band for band in found if band.error]
    by_name = {band.name: band for band in found}
    return tuple(by_name[name] for name in photometry.order(by_name))


def _fill(pattern: str, band: str, token: str) -> str:
    return pattern.format(b=band, B=band.upper(), t=token)


def _any_bands(index: _Index, style: Style) -> tuple[str, ...]:
    shape = re.compile(re.escape(style.value).replace(r"\{b\}", "([a-z][a-z0-9]*)"))
    found = (shape.fullmatch(name) for name in index.names)
    return tuple(match.group(1) for match in found if match and match.group(1) not in NOT_BANDS)


def _others(index: _Index, preset: Preset, taken: set[str]) -> dict[str, str]:
    others = {}
    for standard, kind in OTHERS.items():
        for candidate in (*getattr(preset, kind), *COMMON[kind]):
            source = index.find(candidate)
            if source is not None and source not in taken:
                others[standard] = source
                taken.add(source)
                break
    return others


def _explicit(
    index: _Index, columns: MappingABC[str, str | tuple[str, str]], wanted: Sequence[str] | None
) -> Mapping:
    sources: dict[str, tuple[str, str | None]] = {}
    for standard, given in columns.items():
        name, unit = (given, None) if isinstance(given, str) else given
        sources[standard] = (index.need(name), unit)
    bands, used = [], set()
    for standard, (name, unit) in sources.items():
        match = re.fullmatch(r"(mag|flux)_(?!err_|lim_|ivar_)(\w+)", standard)
        if match is None:
            continue
        kind, band = match.groups()
        ivar = f"flux_ivar_{band}"
        error_name = ivar if ivar in sources and kind == "flux" else f"{kind}_err_{band}"
        error = sources.get(error_name, (None, None))[0]
        limit = sources.get(f"mag_lim_{band}", (None, None))[0]
        chosen = unit or ("mag" if kind == "mag" else "nJy")
        if chosen != "mag":
            photometry.unit_factor(chosen)
        bands.append(Band(band, name, error, chosen, error_name == ivar, limit))
        used |= {standard, error_name, f"mag_lim_{band}"}
    others = {standard: name for standard, (name, _) in sources.items() if standard not in used}
    for standard in others:
        match = re.fullmatch(r"(mag|flux)_(err|lim|ivar)_(\w+)", standard)
        if match and match[3] not in {band.name for band in bands}:
            raise TableError(f"the column of '{standard}' is given, and that of '{match[1]}_{match[3]}' is not")
    taken = {name for name, _ in sources.values()}
    if not bands:
        guess = _preset(_Index(name for name in index.names if name not in taken), None, wanted)
        return replace(guess, others={**guess.others, **others})
    rest = _others(index, PRESETS["standard"], taken)
    return Mapping("the given", tuple(bands), {**rest, **others}, guessed=False)


def _select(mapping: Mapping, bands: Sequence[str] | None, index: _Index, gaps: Sequence[str]) -> Mapping:
    if bands is None:
        return mapping
    known = {band.name: band for band in mapping.bands}
    absent = [band for band in bands if band not in known and band not in gaps]
    if absent:
        raise TableError(
            f"no column for band {shorten(repr(b) for b in absent)} among {mapping.title} columns; "
            f"bands found: {shorten(known)}; columns: {shorten(index.names)}"
        )
    if len(set(bands)) < len(bands):
        raise TableError(f"a band is named twice in {', '.join(bands)}")
    return replace(mapping, bands=tuple(known[band] for band in bands if band in known))


def _add_band(result: Table, table: Any, band: Band) -> list[str]:
    values = numbers(table[band.value], band.value)
    errors = numbers(table[band.error], band.error) if band.error else None
    unit = _unit(table[band.value], band)
    kind, limits, faint = "flux", None, 0
    if unit == "mag":
        kind = "mag"
        values, errors, limits, absurd = photometry.clean_magnitudes(values, errors)
        faint = int(np.count_nonzero(np.isposinf(values)))
    else:
        values, errors, absurd = photometry.clean_fluxes(
            values, errors, unit, inverse_variance=band.inverse_variance
        )
    result[f"{kind}_{band.name}"] = values
    if errors is not None:
        result[f"{kind}_err_{band.name}"] = errors
    if band.limit:
        given = numbers(table[band.limit], band.limit)
        limits = given if limits is None else np.where(np.isfinite(given), given, limits)
    if limits is not None:
        result[f"mag_lim_{band.name}"] = limits
    counts = {
        "not detected": faint,
        "not observed": int(np.count_nonzero(np.isnan(values))),
        "impossible, set to not observed": absurd,
    }
    return [f"{band.name}: {n} of {len(values)} rows {what}" for what, n in counts.items() if n]


def _unit(column: Any, band: Band) -> str:
    """Return the unit written in the file where it is a flux unit, else the one of the map."""
    own = str(getattr(column, "unit", None) or "").strip()
    if band.unit != "mag" and own.lower() in photometry.SAME_UNIT:
        return photometry.SAME_UNIT[own.lower()]
    return band.unit


def _add_other(result: Table, table: Any, name: str, source: str) -> list[str]:
    if name not in ("z_spec", "ebv"):
        result[name] = table[source]
        return []
    values = np.array(numbers(table[source], source))
    low, high = (-0.1, 20.0) if name == "z_spec" else (-1.0, 50.0)
    absurd = ~((values > low) & (values < high))
    values[absurd] = np.nan
    result[name] = values
    count = int(np.count_nonzero(absurd))
    return [f"{name}: {count} of {len(values)} rows unknown or impossible, set to NaN"] if count else []
