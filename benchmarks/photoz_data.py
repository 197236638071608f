"""The real catalogues of the photometric-redshift benchmark: reading, splitting, grids, quick scores.

Needs numpy and pyarrow alone, so that the peers' own environment can import it. The files are looked for
in the folder ``photoz`` of the directory that ``DEEPFIELD_DATA`` names.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

DATA = {
    "boss": ("sdss_boss_dr10.parquet", "ugriz"),
    "mgs": ("sdss_mgs.parquet", "ugriz"),
    "zcosmos": ("zcosmos_bright.parquet", "ubvgrizjk"),
    "dc2": ("dc2_training.parquet", "ugrizy"),
}
# name: (largest redshift, number of points); zCOSMOS is fine because the field's structures are narrow
GRIDS = {"boss": (1.0, 401), "mgs": (0.3, 401), "zcosmos": (2.0, 1601), "dc2": (3.0, 601)}


def load(name: str) -> dict:
    """Read one catalogue.

    Parameters
    ----------
    name : str
        ``boss``, ``mgs``, ``zcosmos`` (secure redshifts above 0.01: no stars) or ``dc2``.

    Returns
    -------
    dict
        ``mag`` (N, B) magnitudes, NaN where a band is missing, +inf where it was observed and not detected;
        ``err`` (N, B) their errors, NaN where there is none (a "detected at 99" row holds a limit there);
        ``z`` (N,) spectroscopic redshifts; ``bands``, a tuple of B names.

    Raises
    ------
    ValueError
        For an unknown name.
    FileNotFoundError
        If ``DEEPFIELD_DATA`` is not set, or the file is not in its folder ``photoz``.
    """
    if name not in DATA:
        raise ValueError(f"unknown data set {name!r}; known: {', '.join(DATA)}")
    root = os.environ.get("DEEPFIELD_DATA")
    if not root:
        raise FileNotFoundError("set DEEPFIELD_DATA to the directory that holds photoz/*.parquet")
    file, bands = DATA[name]
    path = Path(root) / "photoz" / file
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; DEEPFIELD_DATA is {root}")
    table = pq.read_table(path)

    def block(prefix: str) -> np.ndarray:
        columns = [table[prefix + b].to_numpy().astype(np.float64) for b in bands]
        return np.stack(columns, axis=1)

    mag, err, z = block("mag_"), block("mag_err_"), table["z_spec"].to_numpy().astype(np.float64)
    undetected = np.abs(mag - 99) < 0.5
    mag[undetected], err[undetected] = np.inf, np.nan
    keep = np.ones(len(z), bool)
    if name == "zcosmos":
        keep = table["secure"].to_numpy(zero_copy_only=False).astype(bool) & (z > 0.01)
    return {"mag": mag[keep], "err": err[keep], "z": z[keep], "bands": tuple(bands)}


def split(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row numbers of training, validation and test: 60, 10 and 30 % of n shuffled rows.

    >>> [len(rows) for rows in split(100, seed=0)]
    [60, 10, 30]
    """
    order = np.random.default_rng(seed).permutation(n)
    n_test, n_val = round(0.3 * n), round(0.1 * n)
    return order[n_test + n_val :], order[n_test : n_test + n_val], order[:n_test]


def grid(name: str) -> np.ndarray:
    """Redshift grid on which the densities of one data set are compared, (G,), from 0."""
    return np.linspace(0.0, *GRIDS[name])


def weights(grid: np.ndarray) -> np.ndarray:
    """Trapezoid rule as weights (G,): the integrals of rows are their product with these."""
    half = np.diff(grid) / 2
    return np.append(half, 0.0) + np.append(0.0, half)


def normalise(pdf: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Densities (N, G) clipped at zero and scaled to unit trapezoid integral, empty rows uniform."""
    pdf = np.where(np.isfinite(pdf), np.maximum(pdf, 0.0), 0.0)
    area = pdf @ weights(grid)
    pdf[area <= 0], area[area <= 0] = 1.0, grid[-1] - grid[0]
    return pdf / area[:, None]


def at(values: np.ndarray, grid: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Linear interpolation of each row of values (N, G) on an even grid at its own z (N,)."""
    step = grid[1] - grid[0]
    x = np.clip((z - grid[0]) / step, 0.0, len(grid) - 1.0)
    low = np.minimum(x.astype(int), len(grid) - 2)
    rows = np.arange(len(z))
    return values[rows, low] * (low + 1 - x) + values[rows, low + 1] * (x - low)


def cde_loss(pdf: np.ndarray, grid: np.ndarray, z: np.ndarray) -> float:
    """CDE loss: mean integral of p^2 minus twice the mean p(z), p = 0 off the grid (Izbicki & Lee 2016)."""
    inside = (z >= grid[0]) & (z <= grid[-1])
    return float((pdf**2 @ weights(grid)).mean() - 2 * (at(pdf, grid, z) * inside).mean())


def scores(pdf: np.ndarray, grid: np.ndarray, z: np.ndarray) -> dict[str, float]:
    """Quick reference scores of densities (N, G) on an even grid against redshifts z (N,)."""
    step = grid[1] - grid[0]
    cdf = np.zeros_like(pdf)
    np.cumsum((pdf[:, 1:] + pdf[:, :-1]) * (step / 2), axis=1, out=cdf[:, 1:])
    pit = np.clip(np.where(z < grid[0], 0.0, np.where(z > grid[-1], 1.0, at(cdf, grid, z))), 0, 1)
    above = (grid[None, :] >= z[:, None]).astype(float)
    ordered, n = np.sort(pit), len(z)
    ranks = np.arange(n)
    out = {
        "cde": cde_loss(pdf, grid, z),
        "crps": float(np.trapezoid((cdf - above) ** 2, grid, axis=1).mean()),
        "pit_ks": float(np.maximum((ranks + 1) / n - ordered, ordered - ranks / n).max()),
        "cover68": float((np.abs(pit - 0.5) < 0.34).mean()),
        "cover95": float((np.abs(pit - 0.5) < 0.475).mean()),
    }
    high = np.clip((cdf < 0.5).sum(1), 1, len(grid) - 1)
    rows = np.arange(n)
    part = (0.5 - cdf[rows, high - 1]) / np.maximum(cdf[rows, high] - cdf[rows, high - 1], 1e-12)
    points = {"mode": grid[pdf.argmax(1)], "median": grid[high - 1] + step * part}
    for kind, point in points.items():
        dz = (point - z) / (1 + z)
        out[f"bias_{kind}"] = float(dz.mean())
        out[f"nmad_{kind}"] = float(1.4826 * np.median(np.abs(dz - np.median(dz))))
        out[f"outliers_{kind}"] = float((np.abs(dz) > 0.15).mean())
    return out
