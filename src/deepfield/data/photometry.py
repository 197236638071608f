r"""Magnitudes and fluxes: units, sentinels, and the flux arrays that a model takes.

A standard table carries, for each band, one of two pairs of columns:

- ``mag_<band>``, ``mag_err_<band>``: magnitudes. NaN: not observed. +inf: observed and not detected; its
  1-sigma limiting magnitude is in ``mag_lim_<band>``, or in ``table.meta["mag_lim"][band]``, or unknown.
- ``flux_<band>``, ``flux_err_<band>``: fluxes in nJy (AB zero point 31.4). NaN: not observed. Negative and
  zero fluxes are measurements like any other and stay as they are.

The error column may be absent, and NaN in it means unknown. :func:`photometry` reads either pair:

.. math::

    F = 10^{-0.4 (m - 31.4)}\,\mathrm{nJy}, \qquad \sigma_F = \frac{\ln 10}{2.5}\, F\, \sigma_m .

The second holds for errors that were themselves derived from a flux and its error, however large, as all
pipelines do (Oke & Gunn 1983, ApJ 266, 713 for the AB system).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from deepfield.core.errors import TableError
from deepfield.core.table import numbers, shorten
from deepfield.physics.photometry import POGSON
from deepfield.physics.photometry import flux as flux_of

UNITS = {
    "nJy": 1.0,
    "uJy": 1e3,
    "mJy": 1e6,
    "Jy": 1e9,
    "nanomaggies": float(flux_of(22.5)),
    "maggies": float(flux_of(0.0)),
}
"""Flux units and their value in nJy. A nanomaggy is a flux of magnitude 22.5."""

SAME_UNIT = {
    "njy": "nJy",
    "nanojansky": "nJy",
    "ujy": "uJy",
    "µjy": "uJy",
    "microjansky": "uJy",
    "mjy": "mJy",
    "jy": "Jy",
    "nmgy": "nanomaggies",
    "nanomaggy": "nanomaggies",
    "nanomaggies": "nanomaggies",
    "mgy": "maggies",
    "maggy": "maggies",
    "maggies": "maggies",
}

FAINTEST = 50.0
"""No magnitude of the sky is fainter: above it stand sentinels."""

ERROR_SENTINELS = (99.0, 99.9, 99.99, 99.999, 999.0, 999.9, 999.99, 9999.0)


def unit_factor(unit: str) -> float:
    """Value of a flux unit in nJy; ``zp:30`` is a flux whose zero point is magnitude 30.

    Raises
    ------
    TableError
        If the unit is unknown.

    Examples
    --------
    >>> unit_factor("uJy"), round(unit_factor("nanomaggies"), 2), round(unit_factor("zp:31.4"), 6)
    (1000.0, 3630.78, 1.0)
    """
    if unit.startswith("zp:"):
        try:
            return float(flux_of(float(unit[3:])))
        except ValueError:
            raise TableError(f"the zero point in the unit '{unit}' is not a number") from None
    name = SAME_UNIT.get(unit.strip().lower(), unit)
    if name not in UNITS:
        raise TableError(f"unknown flux unit '{unit}': use 'mag', 'zp:30' or one of {shorten(UNITS)}")
    return UNITS[name]


def clean_magnitudes(
    values: np.ndarray, errors: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, int]:
    """Map sentinels to NaN (not observed) and +inf (not detected), in copies of the arrays.

    90 to 1000 (99, 999) is a non-detection; NaN, -inf, anything under -50 (-99, -9999), between 50 and 90 or
    over 1000 (1e20) is not observed. In the row of a non-detection an error between 10 and 50 is a
    limiting magnitude at 1 sigma, as in BPZ and in the catalogues of LSST's DC2; any other error there says
    nothing. Elsewhere errors that are not positive, not finite or 99, 999... are unknown.

    Parameters
    ----------
    values, errors
        Magnitudes and their errors (mag), shape (N,).

    Returns
    -------
    values, errors, limits, absurd
        The clean arrays of shape (N,), errors and limits None where there are none, and the number
        of values that are neither possible nor a customary sentinel.

    Examples
    --------
    >>> mags, errs, limits, absurd = clean_magnitudes(
    ...     np.array([20.0, 99.0, -99.0]), np.array([0.1, 26.6, 99.0])
    ... )
    >>> mags, errs, limits
    (array([20., inf, nan]), array([0.1, nan, nan]), array([ nan, 26.6,  nan]))
    """
    mags = np.array(values)
    odd = ~(np.abs(mags) < FAINTEST)
    absurd = 0
    undetected = np.zeros(0, dtype=np.int64)
    if odd.any():
        rows = np.flatnonzero(odd)
        value = mags[rows]
        limit = (value >= 90) & (value < 1000)
        faint = limit | np.isposinf(value)
        usual = limit | ~np.isfinite(value) | (value >= 1000) | (value <= -90)
        absurd = int(np.count_nonzero(~usual))
        mags[rows] = np.where(faint, np.inf, np.nan)
        undetected = rows[faint]
    if errors is None:
        return mags, None, None, absurd
    errs = np.array(errors)
    limits = None
    if undetected.size:
        error = errs[undetected]
        known = (error > 10) & (error < FAINTEST)
        if known.any():
            limits = np.full(len(errs), np.nan, dtype=errs.dtype)
            limits[undetected[known]] = error[known]
    errs[~np.isfinite(mags)] = np.nan
    return mags, clean_errors(errs), limits, absurd


def clean_errors(errors: np.ndarray) -> np.ndarray:
    """Set errors to NaN, in place, that are not positive, not finite, beyond 1e6 or 99, 999, 9999.

    Examples
    --------
    >>> clean_errors(np.array([0.5, 0.0, -1.0, 99.0, 120.0])).tolist()
    [0.5, nan, nan, nan, 120.0]
    """
    errors[~((errors > 0) & (errors < 1e6))] = np.nan
    large = np.flatnonzero(errors >= 90)
    if large.size:
        sentinel = np.isclose(errors[large, None], ERROR_SENTINELS, rtol=1e-6, atol=0).any(axis=1)
        errors[large[sentinel]] = np.nan
    return errors


def clean_fluxes(
    values: np.ndarray, errors: np.ndarray | None, unit: str = "nJy", *, inverse_variance: bool = False
) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Convert fluxes to nJy and map what cannot be one to NaN; zero and negative fluxes stay.

    A flux is missing if it is not finite or beyond 1e15, if its inverse variance is zero, and if it is
    -99, -999 or -9999 with an error that is not a positive number.

    Parameters
    ----------
    values, errors
        Fluxes and their errors (or inverse variances) in ``unit``, shape (N,).
    unit
        As for :func:`unit_factor`.
    inverse_variance
        Whether ``errors`` are inverse variances.

    Returns
    -------
    values, errors, absurd
        Fluxes and errors in nJy as float64, shape (N,), and the number of values beyond 1e15.

    Examples
    --------
    >>> clean_fluxes(np.array([1.0, -0.2, -99.0]), np.array([0.1, 0.1, -99.0]), "uJy")[:2]
    (array([1000., -200.,   nan]), array([100., 100.,  nan]))
    """
    factor = unit_factor(unit)
    flux = np.array(values, dtype=np.float64)
    finite = np.isfinite(flux)
    huge = np.abs(flux) > 1e15
    absurd = int(np.count_nonzero(finite & huge & (np.abs(flux) < 1e19)))
    missing = ~finite | huge
    sentinel = (flux <= -99) & np.isin(flux, (-99.0, -99.9, -99.99, -999.0, -999.9, -9999.0))
    if errors is None:
        missing |= sentinel
        flux[missing] = np.nan
        return flux * factor, None, absurd
    error = np.array(errors, dtype=np.float64)
    if inverse_variance:
        missing |= ~(error > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            error = 1 / np.sqrt(error)
    bad = ~((error > 0) & (error < 1e15))
    missing |= sentinel & bad
    flux[missing] = np.nan
    error[bad | missing] = np.nan
    return flux * factor, error * factor, absurd


def bands_of(table: Any) -> tuple[str, ...]:
    """Bands of a standard table: those its reader found, else those of its columns, blue to red.

    Examples
    --------
    >>> from deepfield.core.table import Table
    >>> bands_of(Table({"mag_r": [20.0], "mag_g": [21.0], "mag_err_g": [0.1]}))
    ('g', 'r')
    """
    if table.meta.get("bands"):
        return tuple(table.meta["bands"])
    found = [name.split("_", 1)[1] for name in table.colnames if name.startswith(("mag_", "flux_"))]
    return order(band for band in found if not band.startswith(("err_", "lim_")))


WAVELENGTHS = {
    "fuv": 150, "nuv": 230, "u": 355, "b": 440, "g": 475, "v": 550, "r": 625, "vis": 710, "i": 770, "ic": 790,
    "z": 900, "y": 1000, "j": 1250, "h": 1650, "k": 2170, "ks": 2170, "w1": 3400, "ch1": 3600, "ch2": 4500,
    "w2": 4600, "w3": 12000, "w4": 22000,
}  # fmt: skip
"""Rough wavelengths (nm), for the order of bands only."""


def order(bands: Iterable[str]) -> tuple[str, ...]:
    """Sort band names from blue to red, each once, unknown names last in the order given.

    Examples
    --------
    >>> order(["z", "i", "mine", "u", "i"])
    ('u', 'i', 'z', 'mine')
    """
    return tuple(sorted(dict.fromkeys(bands), key=lambda band: WAVELENGTHS.get(band, np.inf)))


def absent(table: Any, bands: Iterable[str]) -> list[str]:
    """Those of ``bands`` that have neither a magnitude nor a flux in a standard table.

    Examples
    --------
    >>> from deepfield.core.table import Table
    >>> absent(Table({"mag_r": [20.0]}), ("g", "r"))
    ['g']
    """
    names = set(table.colnames)
    return [band for band in bands if f"mag_{band}" not in names and f"flux_{band}" not in names]


def photometry(
    table: Any, bands: Sequence[str] | None = None, *, gaps: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray]:
    """Return fluxes and their errors, whichever pair of columns the table carries.

    Parameters
    ----------
    table
        A standard table of N rows, from :func:`deepfield.photoz.read` or ``simulate``.
    bands
        Names of the B bands, in the order wanted; by default those of :func:`bands_of`.
    gaps
        Those of them that are not observed in any row if the table does not have them.

    Returns
    -------
    flux, flux_err
        float64 arrays of shape (N, B) in nJy. Not observed: both NaN. Observed and not detected in
        magnitudes: flux 0 and as its error the flux of the 1-sigma limiting magnitude, NaN if that is
        unknown. Detected with an unknown error: the error is NaN.

    Raises
    ------
    TableError
        If the table has neither ``mag_<band>`` nor ``flux_<band>`` for a band that is not in ``gaps``.

    Examples
    --------
    >>> from deepfield.core.table import Table
    >>> table = Table({"mag_r": [31.4, np.inf, np.nan], "mag_err_r": [0.1, np.nan, np.nan]})
    >>> table.meta["mag_lim"] = {"r": 28.9}
    >>> flux, flux_err = photometry(table, ["r"])
    >>> flux.ravel(), flux_err.ravel().round(3)
    (array([ 1.,  0., nan]), array([ 0.092, 10.   ,    nan]))
    """
    chosen = bands_of(table) if bands is None else tuple(bands)
    names = set(table.colnames)
    gone = absent(table, chosen)
    needed = [band for band in gone if band not in gaps]
    if needed or not chosen:
        raise TableError(
            f"no photometry in band {shorten(repr(b) for b in needed)}: the table has the bands "
            f"{shorten(bands_of(table))} (columns mag_<band> or flux_<band>)"
        )
    flux, flux_err = np.full((2, len(chosen), len(table)), np.nan)
    for row, band in enumerate(chosen):
        if band in gone:
            continue
        _one_band(table, names, band, flux[row], flux_err[row])
    return np.ascontiguousarray(flux.T), np.ascontiguousarray(flux_err.T)


def _one_band(table: Any, names: set[str], band: str, flux: np.ndarray, flux_err: np.ndarray) -> None:
    kind = "flux" if f"flux_{band}" in names else "mag"
    value = numbers(table[f"{kind}_{band}"], f"{kind}_{band}")
    error_name = f"{kind}_err_{band}"
    flux_err[:] = numbers(table[error_name], error_name) if error_name in names else np.nan
    if kind == "flux":
        flux[:] = value
        flux_err[np.isnan(flux)] = np.nan
        return
    flux[:] = flux_of(value)
    flux_err *= flux / POGSON
    undetected = np.isposinf(value)
    if undetected.any():
        flux_err[undetected] = flux_of(limits(table, band)[undetected])


def limits(table: Any, band: str) -> np.ndarray:
    """1-sigma limiting magnitudes of a band, shape (N,): its column, else ``meta["mag_lim"]``, else NaN."""
    value = (table.meta.get("mag_lim") or {}).get(band, np.nan)
    result = np.full(len(table), value, dtype=np.float64)
    name = f"mag_lim_{band}"
    if name in table.colnames:
        own = numbers(table[name], name)
        result = np.where(np.isfinite(own), own, result)
    return result
