"""The metrics of photometric redshifts, as the field defines them, each with its bootstrap error.

With dz = (z_phot - z_spec) / (1 + z_spec), bias is the mean of dz, sigma_NMAD is 1.4826 median |dz - median|
and an outlier has |dz| > 0.15 (Brammer et al. 2008, ApJ 686; Hildebrandt et al. 2010, A&A 523). Densities
have CRPS, CDE loss (Izbicki & Lee 2017), log-likelihood, the Kolmogorov-Smirnov distance of the PIT, and the
coverage of their intervals (Schmidt et al. 2020, MNRAS 499).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.calibrators import CalibrationError
from deepfield.core.errors import DeepfieldError
from deepfield.photoz.read import read
from deepfield.trust import metrics
from deepfield.trust.metrics import Metric

Array = NDArray[np.float64]
OUTLIER = 0.15
POINTS = ("mode", "median", "mean")
LEVELS = {"coverage_683": 0.683, "coverage_955": 0.955}


def scaled_error(z_phot: ArrayLike, z_spec: ArrayLike) -> Array:
    """Error of a redshift, dz = (z_phot - z_spec) / (1 + z_spec).

    Examples
    --------
    >>> scaled_error([1.1], [1.0]).round(3).tolist()
    [0.05]
    """
    truth = np.asarray(z_spec, dtype=np.float64)
    return (np.asarray(z_phot, dtype=np.float64) - truth) / (1 + truth)


def sigma_nmad(dz: ArrayLike, axis: int = -1) -> Any:
    """Normalised median absolute deviation 1.4826 median |dz - median dz|.

    Examples
    --------
    >>> round(float(sigma_nmad([-0.01, 0.0, 0.01, 3.0])), 4)
    0.0148
    """
    values = np.asarray(dz, dtype=np.float64)
    centre = np.median(values, axis=axis, keepdims=True)
    return 1.4826 * np.median(np.abs(values - centre), axis=axis)


def outlier_fraction(dz: ArrayLike, axis: int = -1) -> Any:
    """Fraction of |dz| > 0.15."""
    return np.mean(np.abs(np.asarray(dz, dtype=np.float64)) > OUTLIER, axis=axis)


def _mean(values: Array) -> Any:
    return values.mean(axis=1)


_STATISTICS: dict[str, tuple[str, Callable[[Array], Any]]] = {
    "bias": ("dz", _mean),
    "sigma_nmad": ("dz", lambda v: sigma_nmad(v, axis=1)),
    "outlier_fraction": ("dz", lambda v: outlier_fraction(v, axis=1)),
    "std": ("dz", lambda v: v.std(axis=1)),
    "crps": ("crps", _mean),
    "cde_loss": ("cde", _mean),
    "log_likelihood": ("log_prob", _mean),
    "pit_ks": ("pit", lambda v: metrics.pit_ks(v, axis=1)),
    "coverage_683": ("coverage_683", _mean),
    "coverage_955": ("coverage_955", _mean),
}
NAMES = tuple(_STATISTICS)
BEST: dict[str, str | float] = {
    "bias": 0,
    "sigma_nmad": "min",
    "outlier_fraction": "min",
    "std": "min",
    "crps": "min",
    "cde_loss": "min",
    "log_likelihood": "max",
    "pit_ks": "min",
    **LEVELS,
}  # what is good, for tables that compare methods


@dataclass(frozen=True)
class Score:
    """What :func:`score` found. Metrics are attributes too: ``score.sigma_nmad`` is a float.

    Attributes
    ----------
    n : int
        Objects with a prediction and a truth: what the metrics are made of.
    n_missing : int
        Objects with a truth and without a prediction (NaN).
    n_without_truth : int
        Objects without a spectroscopic redshift.
    n_zero_density : int
        Objects whose density vanishes at the truth, so that the log-likelihood is minus infinity.
    point : str
        The point estimate of the first four metrics.
    metrics : dict of Metric
        By name; those that the input cannot give are absent.
    bins : dict of list of dict
        For each binning column, one row for each bin with ``low``, ``high``, ``n`` and ``metrics``.
    """

    n: int
    n_missing: int
    n_without_truth: int
    n_zero_density: int
    point: str
    metrics: dict[str, Metric]
    bins: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        if name not in self.metrics:
            raise DeepfieldError(f"no metric '{name}' here; there are {', '.join(self.metrics)}")
        return self.metrics[name].value

    def __getattr__(self, name: str) -> float:
        if name in NAMES and name in self.metrics:
            return self.metrics[name].value
        raise AttributeError(f"no '{name}' in this score; metrics: {', '.join(self.__dict__.get('metrics', ()))}")

    def error(self, name: str) -> float:
        """Bootstrap standard error of a metric."""
        self[name]
        return self.metrics[name].error

    def row(self, **first: Any) -> dict[str, Any]:
        """One flat row of values, after the columns given: a line of a comparison table."""
        return {**first, **{name: metric.value for name, metric in self.metrics.items()}}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; numbers that are not finite become None."""

        def plain(found: Mapping[str, Metric]) -> dict[str, dict[str, float | None]]:
            return {k: {"value": _json(m.value), "error": _json(m.error)} for k, m in found.items()}

        counts = {k: getattr(self, k) for k in ("n", "n_missing", "n_without_truth", "n_zero_density", "point")}
        bins = {
            column: [{**row, "metrics": plain(row["metrics"])} for row in rows]
            for column, rows in self.bins.items()
        }
        return {**counts, "metrics": plain(self.metrics), "bins": bins}

    def __str__(self) -> str:
        lines = [f"{self.n:,} galaxies, point estimate: {self.point}"]
        notes = {"without a prediction": self.n_missing, "without a truth": self.n_without_truth}
        notes["with no density at the truth"] = self.n_zero_density
        lines += [f"{count:,} {what}" for what, count in notes.items() if count]
        lines += [f"  {name:<17} {metric}" for name, metric in self.metrics.items()]
        names = [name for name in NAMES if name in self.metrics and name != "log_likelihood"]
        for column, rows in self.bins.items():
            lines.append(f"\n  {column:<19} {'n':>7} " + " ".join(f"{name[:12]:>12}" for name in names))
            for row in rows:
                values = " ".join(f"{_value(row['metrics'], name):>12}" for name in names)
                lines.append(f"  {row['low']:>8.3f} - {row['high']:<8.3f} {row['n']:>7,} {values}")
        return "\n".join(lines)


def _value(found: Mapping[str, Metric], name: str) -> str:
    return f"{found[name].value:.4f}" if name in found and math.isfinite(found[name].value) else "-"


def _json(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def score(
    prediction: Any,
    truth: Any,
    *,
    target: str = "z_spec",
    point: str = "mode",
    bins: Mapping[str, int | ArrayLike] | None = None,
    repeats: int = 200,
    seed: int = 0,
) -> Score:
    """Compare predictions with spectroscopic redshifts, row by row.

    Parameters
    ----------
    prediction : Prediction, table or path
        Densities; or a table (or file) with ``zmode``, ``zmedian`` or ``zmean`` and perhaps ``z_lo68`` and
        ``z_hi68``; or a file of densities, Parquet or qp HDF5.
    truth : table, path or (N,) array
        Spectroscopic redshifts, or the catalogue with them. Rows are in the order of the prediction, or are
        brought into it where both have ids.
    target, point : str
        The column of the spectroscopic redshifts; the point estimate: 'mode', 'median' or 'mean'.
    bins : mapping of column to number or edges, optional
        Of the catalogue's columns, ``target`` or 'z_phot'; a number makes bins of equal count. Five in
        ``target`` and three in the reference magnitude unless told; {} for none.
    repeats, seed : int
        Of the bootstrap.

    Raises
    ------
    DeepfieldError
        If a column is missing, the lengths differ, ids do not match, or no row is left.
    """
    if point not in POINTS:
        raise DeepfieldError(f"the point estimate is one of {', '.join(POINTS)}, not '{point}'")
    density, columns = _load(prediction)
    if isinstance(truth, str | os.PathLike):
        truth = read(truth, target=None if target == "z_spec" else target)
    catalog = truth if hasattr(truth, "colnames") else None
    z = _column(catalog, target) if catalog is not None else np.asarray(truth, dtype=np.float64)
    n = len(density) if density is not None else len(next(iter(columns.values()), ()))
    order = _order(columns, catalog, n, len(z))
    z = z[order]
    terms = _terms(density, columns, z, point)
    served, known = ~np.isnan(terms["z_phot"]), np.isfinite(z)
    keep = served & known
    if not keep.any():
        raise DeepfieldError(f"none of the {n} rows has both a prediction and a finite '{target}'")
    own, binned = {target: z, "z_phot": terms["z_phot"]}, {}
    for column, wanted in (_usual_bins(target, catalog) if bins is None else bins).items():
        values = own[column] if column in own else _column(catalog, column)[order]
        binned[column] = _binned(values, wanted, terms, keep, repeats, seed)
    return Score(
        n=int(keep.sum()),
        n_missing=int((known & ~served).sum()),
        n_without_truth=int((~known).sum()),
        n_zero_density=int(np.isneginf(terms["log_prob"][keep]).sum()) if "log_prob" in terms else 0,
        point=point,
        metrics=_measure(terms, keep, repeats, seed),
        bins=binned,
    )


def _terms(density: Any, columns: Mapping[str, Any], z: Array, point: str) -> dict[str, Array]:
    """One number for each object and each sum that a metric is made of."""
    if density is None:
        name = f"z{point}"
        if name not in columns:
            raise DeepfieldError(f"the predictions have no column '{name}': {', '.join(columns)}")
        found = {"z_phot": np.asarray(columns[name], dtype=np.float64)}
        found["dz"] = scaled_error(found["z_phot"], z)
        return found | _stated(columns, z)
    found = {"z_phot": np.asarray(getattr(density, point), dtype=np.float64)}
    found["dz"] = scaled_error(found["z_phot"], z)
    found["crps"], found["pit"] = metrics.crps(density, z), metrics.pit(density, z)
    found["cde"], found["log_prob"] = metrics.cde_loss(density, z), np.asarray(density.log_prob(z))
    for name, level in LEVELS.items():
        try:
            low, high = density.interval(level)
            found[name] = _inside(low, high, z)
        except CalibrationError:  # too few calibration rows: there is no such interval to cover anything
            continue
    # a file's own interval is the calibrated one, which its density alone cannot tell
    return found if getattr(density, "conformal", None) is not None else found | _stated(columns, z)


def _stated(columns: Mapping[str, Any], z: Array) -> dict[str, Array]:
    """What the interval columns of a file say of the coverage."""
    found = {}
    for name, level in {"coverage_683": 68, "coverage_955": 95}.items():
        if f"z_lo{level}" in columns and f"z_hi{level}" in columns:
            low, high = (np.asarray(columns[f"z_{end}{level}"], dtype=np.float64) for end in ("lo", "hi"))
            found[name] = _inside(low, high, z)
    return found


def _inside(low: Array, high: Array, z: Array) -> Array:
    return np.where(np.isnan(low) | np.isnan(high), np.nan, (z >= low) & (z <= high))


def _measure(terms: Mapping[str, Array], keep: NDArray[np.bool_], repeats: int, seed: int) -> dict[str, Metric]:
    found = {}
    for name, (term, statistic) in _STATISTICS.items():
        if term not in terms:
            continue
        values = terms[term][keep]
        values = values[~np.isnan(values)]
        if not len(values):
            continue
        with np.errstate(invalid="ignore"):
            error = metrics.bootstrap_error(statistic, values, repeats=repeats, seed=seed)
        found[name] = Metric(float(statistic(values[None])[0]), float(error))
    return found


def _binned(
    values: Array, wanted: Any, terms: Mapping[str, Array], keep: NDArray[np.bool_], repeats: int, seed: int
) -> list[dict[str, Any]]:
    finite = keep & np.isfinite(values)
    if np.ndim(wanted) == 0:
        if not finite.any():
            return []
        edges = np.unique(np.quantile(values[finite], np.linspace(0, 1, int(wanted) + 1)))
    else:
        edges = np.asarray(wanted, dtype=np.float64)
    rows = []
    for i, (low, high) in enumerate(pairwise(edges)):
        last = np.ndim(wanted) == 0 and i == len(edges) - 2
        inside = finite & (values >= low) & ((values <= high) if last else (values < high))
        row = {"low": float(low), "high": float(high), "n": int(inside.sum())}
        rows.append({**row, "metrics": _measure(terms, inside, repeats, seed)})
    return rows


def _load(prediction: Any) -> tuple[Any, dict[str, Any]]:
    """The density, or None, and the columns beside it."""
    if isinstance(prediction, str | os.PathLike):
        return _load_file(Path(prediction))
    if hasattr(prediction, "cdf"):
        return prediction, {}
    if hasattr(prediction, "colnames"):
        return None, {name: np.asarray(prediction[name]) for name in prediction.colnames}
    if isinstance(prediction, Mapping):
        return None, dict(prediction)
    raise DeepfieldError(f"a Prediction, a table or a file is scored, not {type(prediction).__name__}")


def _load_file(path: Path) -> tuple[Any, dict[str, Any]]:
    from deepfield.core.prediction_files import read as read_prediction
    from deepfield.photoz.export_qp import is_qp, read_qp

    if not path.is_file():
        raise DeepfieldError(f"no predictions at {path}: the file does not exist")
    if is_qp(path):
        return read_qp(path)
    try:
        return read_prediction(path)
    except DeepfieldError:
        if path.suffix.lower() != ".parquet":
            raise
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DeepfieldError(f"{path} cannot be read as Parquet: {error}") from None
    return None, {name: table[name].to_numpy() for name in table.column_names}


def _column(catalog: Any, name: str) -> Array:
    if catalog is None or name not in catalog.colnames:
        there = "only redshifts were given" if catalog is None else f"there are {', '.join(catalog.colnames)}"
        raise DeepfieldError(f"the catalogue has no column '{name}'; {there}")
    if hasattr(catalog, "column"):
        return catalog.column(name)
    values = np.ma.asarray(catalog[name], dtype=np.float64)
    return np.asarray(values.filled(np.nan))


def _usual_bins(target: str, catalog: Any) -> dict[str, int]:
    names = () if catalog is None else catalog.colnames
    magnitudes = [f"mag_{band}" for band in ("i", "r", "vis", "z", "g") if f"mag_{band}" in names]
    return {target: 5, **dict.fromkeys(magnitudes[:1], 3)}


def _order(columns: Mapping[str, Any], catalog: Any, n: int, n_truth: int) -> Any:
    """Rows of the catalogue in the order of the predictions."""
    ids = next((np.asarray(columns[k]) for k in ("object_id", "id") if k in columns), None)
    if ids is not None and catalog is not None and "id" in catalog.colnames:
        own = np.asarray(catalog["id"])
        if ids.dtype.kind == "S":
            ids = np.char.decode(ids)
        if len(own) == n and (own.astype(str) == ids.astype(str)).all():
            return slice(None)
        place = {key: row for row, key in enumerate(own.astype(str))}
        rows = np.array([place.get(key, -1) for key in ids.astype(str)])
        if len(place) == len(own) and (rows >= 0).all():
            return rows
        lost = int((rows < 0).sum())
        raise DeepfieldError(
            f"ids do not match: {lost} of {n} predictions are not in the catalogue, or ids repeat"
        )
    if n != n_truth:
        raise DeepfieldError(f"{n} predictions for {n_truth} catalogue rows, and no ids to match them by")
    return slice(None)
