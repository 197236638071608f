"""Readers of the original files of registered data sets: the formats of those who published them.

Each takes the paths of the files of one data set in their registered order and returns a table with
standard column names, sentinels not yet mapped.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from deepfield.core.errors import TableError
from deepfield.core.table import Table, no_column
from deepfield.data import files

UGRIZ = ("u", "g", "r", "i", "z")


def mlz(paths: Sequence[Path]) -> Table:
    """SDSS main sample as in MLZ: 19 numbers a row under a header that names 18 (it omits ``eu``).

    The columns are redshift, five magnitudes, four colours, the five errors of the magnitudes and the four
    of the colours; colours are not kept.
    """
    values = np.concatenate([_numbers(path, 19) for path in paths])
    places = {"z_spec": 0}
    places |= {f"mag_{band}": 1 + i for i, band in enumerate(UGRIZ)}
    places |= {f"mag_err_{band}": 10 + i for i, band in enumerate(UGRIZ)}
    return Table({name: values[:, place].copy() for name, place in places.items()})


def annz(paths: Sequence[Path]) -> Table:
    """BOSS DR10 as in ANNZ: commas in the rows, ``F:MAG_U;F:MAGERR_U;...;D:Z`` in the header.

    A galaxy that occurs in several of the files is kept once, where it occurs first, so that no row can
    be in a training and a test set.
    """
    tables = []
    for path in paths:
        names = _annz_names(path)
        tables.append((names, _numbers(path, len(names), delimiter=",")))
    wanted = {f"mag_{b}": f"MAG_{b.upper()}" for b in UGRIZ}
    wanted |= {f"mag_err_{b}": f"MAGERR_{b.upper()}" for b in UGRIZ} | {"z_spec": "Z"}
    for path, (names, _) in zip(paths, tables):
        for name in wanted.values():
            if name not in names:
                raise TableError(f"'{path}': {no_column(name, names)}")
    values = np.concatenate([v[:, [names.index(name) for name in wanted.values()]] for names, v in tables])
    _, first = np.unique(values, axis=0, return_index=True)
    values = values[np.sort(first)]
    return Table({name: values[:, i].copy() for i, name in enumerate(wanted)})


def sdss_colors(paths: Sequence[Path]) -> Table:
    """SDSS galaxies and quasars: a structured ``.npy`` (or CSV) of u, g, r, i, z, class and redshift."""
    table = files.read(paths[0])
    names = {band: f"mag_{band}" for band in UGRIZ}
    names |= {"redshift": "z_spec", "redshift_err": "z_spec_err", "spec_class": "spec_class"}
    result = _renamed(table, names, paths[0])
    classes = np.asarray(result["spec_class"])
    result["spec_class"] = np.char.strip(np.char.decode(classes) if classes.dtype.kind == "S" else classes)
    return result


def zcosmos(paths: Sequence[Path]) -> Table:
    """zCOSMOS-bright with the COSMOS photometry: CSV, ``-99`` and ``-99.9`` or nothing for no magnitude.

    ``secure`` is a redshift above 0.001 (no star) of confidence class 3 or 4 with any decimal, 2.5, 9.3
    or 9.5; the classes are those of Lilly et al. (2009), ApJS 184, 218.
    """
    bands = ("u", "b", "v", "g", "r", "i", "z", "j", "k", "ic")
    names = {"id_zcosmos": "id", "alpha": "ra", "delta": "dec", "zpec": "z_spec", "cc": "zconf"}
    names |= {"mag_sel": "mag_sel"}
    names |= {f"{band}_photzi25": f"mag_{band}" for band in bands}
    names |= {f"e{band}_photzi25": f"mag_err_{band}" for band in bands}
    table = _renamed(files.read(paths[0]), names, paths[0])
    for band in bands:
        mag, error = table.column(f"mag_{band}"), table.column(f"mag_err_{band}")
        missing = ~(mag > -50)
        mag[missing], error[missing] = np.nan, np.nan
        table[f"mag_{band}"], table[f"mag_err_{band}"] = mag, error
    table["secure"] = _secure(table.column("z_spec"), table.column("zconf"))
    return table


def _secure(redshift: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    tenths = np.round(10 * confidence).astype(int)
    return (redshift > 0.001) & (np.isin(tenths // 10, (3, 4)) | np.isin(tenths, (25, 93, 95)))


def rail(paths: Sequence[Path]) -> Table:
    """RAIL's sample of cosmoDC2: HDF5 with ``photometry/mag_u_lsst``, ``mag_err_u_lsst`` and ``redshift``."""
    bands = (*UGRIZ, "y")
    names = {f"mag_{band}_lsst": f"mag_{band}" for band in bands}
    names |= {f"mag_err_{band}_lsst": f"mag_err_{band}" for band in bands}
    return _renamed(files.read(paths[0]), names | {"redshift": "z_spec", "id": "id"}, paths[0])


GZ2_FRACTIONS = {
    "smooth_prob": "t01_smooth_or_features_a01_smooth_debiased",
    "features_prob": "t01_smooth_or_features_a02_features_or_disk_debiased",
    "artifact_prob": "t01_smooth_or_features_a03_star_or_artifact_debiased",
    "edgeon_prob": "t02_edgeon_a04_yes_debiased",
    "spiral_prob": "t04_spiral_a08_spiral_debiased",
    "nospiral_prob": "t04_spiral_a09_no_spiral_debiased",
    "odd_prob": "t06_odd_a14_yes_debiased",
    "disturbed_prob": "t08_odd_feature_a21_disturbed_debiased",
    "irregular_prob": "t08_odd_feature_a22_irregular_debiased",
    "merger_prob": "t08_odd_feature_a24_merger_debiased",
}
"""Names of the fractions in the JSON, and in the table of Hart et al. (2016) that they were taken from."""


def gz2_fractions(paths: Sequence[Path]) -> Table:
    """Galaxy Zoo 2 fractions as JSON, plain or gzipped: ``objid``, a class, and ``metrics`` by name."""
    raw = paths[0].read_bytes()
    try:
        rows = json.loads(gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw)
        table = Table({"id": np.array([row["objid"] for row in rows], dtype=np.int64)})
        table["class"] = [str(row["classification"]) for row in rows]
        for name, column in GZ2_FRACTIONS.items():
            table[column] = np.array([row["metrics"][name] for row in rows], dtype=np.float64)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise TableError(f"'{paths[0]}' is no list of galaxies with their fractions: {error}") from error
    return table


def mirabest(paths: Sequence[Path]) -> Table:
    """MiraBest images gathered in one ``.npz``: ``images`` (N, 150, 150) of bytes, ``label``, ``code``."""
    try:
        with np.load(paths[0], allow_pickle=False) as file:
            return Table({"label": file["label"], "code": file["code"], "image": file["images"]})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TableError(f"'{paths[0]}' does not hold images, label and code: {error}") from error


def spacewarps(paths: Sequence[Path]) -> Table:
    """Space Warps candidates in one ``.npz``: ``images`` (N, 96, 96, 3), ``grade``, ``name``, ``zooid``."""
    try:
        with np.load(paths[0], allow_pickle=False) as file:
            columns = {name: file[name] for name in ("name", "zooid", "grade")}
            return Table({**columns, "image": file["images"]})
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TableError(f"'{paths[0]}' does not hold images, name, zooid and grade: {error}") from error


def supernova_bins(paths: Sequence[Path]) -> Table:
    """Binned supernova distances in the format of SNLS and CosmoMC: a table of bins, a covariance.

    Columns ``z``, ``z_hel``, ``mu`` (mag, up to a common number) and ``covariance`` (mag^2), a row of the matrix
    for each bin. The second file holds the size and the numbers of the matrix; errors in the column ``dmb`` of the
    first are added to its diagonal.
    """
    bins, matrix = paths
    try:
        values = np.loadtxt(bins, comments="#", ndmin=2, usecols=(1, 2, 4, 5))
        numbers = np.loadtxt(matrix)
        size = int(numbers[0])
        covariance = numbers[1:].reshape(size, size) + np.diag(values[:, 3] ** 2)
    except (OSError, ValueError, IndexError) as error:
        raise TableError(f"cannot read '{bins}' and '{matrix}': {str(error).splitlines()[0]}") from error
    return Table({"z": values[:, 0], "z_hel": values[:, 1], "mu": values[:, 2], "covariance": covariance})


def convergence_map(paths: Sequence[Path]) -> Table:
    """A map of sbi_lens and what is known of it, one row: ``kappa`` (1, P, P), ``chain`` (S, 2), ``shift`` (8, 8).

    The files are the map, the draws of omega_c and sigma_8 from its posterior, and lambda on a grid of omega_m and
    sigma_8 in lines of three numbers under a header.
    """
    try:
        kappa, chain = (np.load(path, allow_pickle=False) for path in paths[:2])
        shift = np.loadtxt(paths[2], delimiter=",", skiprows=1)[:, 2].reshape(8, 8)
    except (OSError, ValueError, IndexError) as error:
        raise TableError(f"cannot read the map of '{paths[0].parent}': {str(error).splitlines()[0]}") from error
    return Table({"kappa": kappa[None, None], "chain": chain[None], "shift": shift[None]})


def miratitan(paths: Sequence[Path]) -> Table:
    """Spectra of the Mira-Titan simulations gathered in one ``.npz``.

    A row for each cosmology: ``omega_m_h2``, ``omega_b_h2``, ``sigma_8``, ``h``, ``n_s``, ``w_0``, ``w_root``
    (the fourth root of -w_0 - w_a) and ``omega_nu_h2``, and ``pk`` (Z, K) in Mpc^3; ``meta`` has ``k`` (1/Mpc) and
    ``z``.
    """
    names = ("omega_m_h2", "omega_b_h2", "sigma_8", "h", "n_s", "w_0", "w_root", "omega_nu_h2")
    try:
        with np.load(paths[0], allow_pickle=False) as file:
            columns = dict(zip(names, file["params"].T))
            meta = {"k": file["k_invMpc"], "z": file["z"]}
            return Table({**columns, "pk": file["P_Mpc3"].astype(float)}, meta=meta)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TableError(f"'{paths[0]}' does not hold params, k_invMpc, z and P_Mpc3: {error}") from error


READERS: dict[str, Callable[[Sequence[Path]], Table]] = {
    "mlz": mlz,
    "annz": annz,
    "sdss_colors": sdss_colors,
    "zcosmos": zcosmos,
    "rail": rail,
    "gz2_fractions": gz2_fractions,
    "mirabest": mirabest,
    "spacewarps": spacewarps,
    "supernova_bins": supernova_bins,
    "convergence_map": convergence_map,
    "miratitan": miratitan,
}
"""The readers by the name under which the registry knows them."""


def _renamed(table: Table, names: dict[str, str], path: Path) -> Table:
    for name in names:
        if name not in table.colnames:
            raise TableError(f"'{path}': {no_column(name, table.colnames)}")
    result = table[list(names)]
    result.rename_columns(list(names), list(names.values()))
    return result


def _annz_names(path: Path) -> list[str]:
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip()
    if not header.startswith("#") or ";" not in header:
        raise TableError(f"'{path}' does not start with a header such as '#F:MAG_U;F:MAGERR_U;...;D:Z'")
    return [field.split(":", 1)[-1].strip() for field in header.lstrip("#").split(";")]


def _numbers(path: Path, count: int, delimiter: str | None = None) -> np.ndarray:
    """Read rows of exactly ``count`` numbers under comment lines, shape (N, count)."""
    try:
        values = np.loadtxt(path, delimiter=delimiter, ndmin=2, comments="#")
    except (OSError, ValueError) as error:
        raise TableError(f"cannot read '{path}': {str(error).splitlines()[0]}") from error
    if values.shape[1] != count or len(values) == 0:
        found = f"{values.shape[1]} columns and {len(values)} rows"
        raise TableError(f"'{path}' has {found}: {count} columns and some rows were expected")
    return values
