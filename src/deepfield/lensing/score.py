"""The metrics of the search for lenses and of their measurement, with bootstrap errors.

Of finding: those of the lens-finding challenge (Metcalf et al. 2019, A&A 625, A119, section 4), which look at
the few images that a person will see; calibration; completeness. Of measuring: bias, scatter, coverage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from scipy.stats import kendalltau, rankdata, spearmanr

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.lensing.measurement import Measurement
from deepfield.lensing.parameters import ANGLES, UNITS, encode
from deepfield.trust import classification as cl
from deepfield.trust import metrics
from deepfield.trust.metrics import Metric, Named, plain

Array = NDArray[np.float64]
COVERED = {"coverage_683": 0.683, "coverage_955": 0.955}


@dataclass(frozen=True)
class Score(Named):
    """What :func:`score` or :func:`score_measurement` found. Metrics are attributes too: ``score.auroc``.

    Attributes
    ----------
    n : int
        Images with an answer and a truth.
    n_missing : int
        Images with a truth and no answer (NaN).
    metrics : dict of Metric
    curves : dict
        Of finding: ``roc`` (false and true positive rate), ``reliability``, ``completeness``. Of measuring: the
        PIT values of each parameter, and the binomial band of each coverage.
    """

    n: int
    n_missing: int
    metrics: dict[str, Metric]
    curves: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.n:,} images"] + [f"{name:<24} {value}" for name, value in self.metrics.items()]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        metrics = plain(self.metrics)
        return {"n": self.n, "n_missing": self.n_missing, "metrics": metrics, "curves": self.curves}


def auroc(scores: ArrayLike, label: ArrayLike) -> float:
    """Area under the ROC curve: how often a lens has a higher score than what is none, ties counting half.

    Examples
    --------
    >>> auroc([0.9, 0.8, 0.3, 0.3], [1, 0, 1, 0])
    0.625
    """
    s, y = _checked(scores, label)
    lenses = int(y.sum())
    return float((rankdata(s)[y].sum() - lenses * (lenses + 1) / 2) / (lenses * (len(y) - lenses)))


def tpr_at(scores: ArrayLike, label: ArrayLike, false_positives: int) -> float:
    """Share of the lenses found at the lowest threshold with at most so many false positives.

    TPR0 and TPR10 of Metcalf et al. (2019), which they define at 10^5 images: it depends on how many there are.

    Examples
    --------
    >>> tpr_at([0.9, 0.8, 0.7, 0.3], [1, 0, 1, 0], 0), tpr_at([0.9, 0.8, 0.7, 0.3], [1, 0, 1, 0], 1)
    (0.5, 1.0)
    """
    s, y = _checked(scores, label)
    wrong = np.sort(s[~y])[::-1]
    threshold = wrong[false_positives] if false_positives < len(wrong) else -np.inf
    return float((s[y] > threshold).mean())


def recall_at(scores: ArrayLike, label: ArrayLike, rate: float) -> float:
    """Share of the lenses found at a false-positive rate.

    Examples
    --------
    >>> recall_at([0.9, 0.8, 0.7, 0.3], [1, 0, 1, 0], 0.5)
    1.0
    """
    s, y = _checked(scores, label)
    return tpr_at(s, y, math.floor(rate * int((~y).sum()) + 1e-9))


def roc(scores: ArrayLike, label: ArrayLike) -> tuple[Array, Array]:
    """False- and true-positive rates (K,) from the strictest to the laxest threshold, one point for each score."""
    s, y = _checked(scores, label)
    order = np.argsort(-s, kind="stable")
    last = np.append(np.diff(s[order]) != 0, True)
    true, false = np.cumsum(y[order])[last], np.cumsum(~y[order])[last]
    return np.append(0, false) / (~y).sum(), np.append(0, true) / y.sum()


def _checked(scores: ArrayLike, label: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    s, y = np.asarray(scores, dtype=np.float64), np.asarray(label)
    if s.ndim != 1 or s.shape != y.shape:
        raise DeepfieldError(f"a score and a label for each image are needed, got {s.shape} and {y.shape}")
    if np.isnan(s).any() or not np.isin(y, (0, 1)).all():
        raise DeepfieldError("scores are numbers and labels 0 or 1: leave out images that have none")
    y = y.astype(bool)
    if y.all() or not y.any():
        raise DeepfieldError("the images are all lenses, or none is: there is nothing to tell apart")
    return s, y


def false_positives(scores: ArrayLike, label: ArrayLike, threshold: float, *, galaxies: float) -> Metric:
    """False positives expected among so many galaxies at a threshold, by their rate among what is no lens.

    With a binomial error; of none seen, the value is 0 and the error that of one.

    Examples
    --------
    >>> str(false_positives([0.9, 0.1, 0.2, 0.8], [1, 0, 0, 0], 0.5, galaxies=300))
    '100 ± 82'
    """
    s, y = _checked(scores, label)
    n, seen = int((~y).sum()), int((s[~y] >= threshold).sum())
    rate = seen / n
    return Metric(galaxies * rate, galaxies * (math.sqrt(seen * (1 - rate)) or 1.0) / n)


def completeness(found: ArrayLike, along: ArrayLike, edges: Sequence[float] | int = 8) -> dict[str, list[float]]:
    """Share of lenses found in bins of a property, with the 68 per cent Wilson interval of each.

    Parameters
    ----------
    found : (N,) array of bool
        Whether each lens was.
    along : (N,) array
        Einstein radius, or signal-to-noise ratio.
    edges : sequence or int
        Of the bins, or the number of bins with as many lenses each.

    Examples
    --------
    >>> c = completeness([True, False, True, True], [1.0, 1.1, 2.0, 2.1], [0.5, 1.5, 2.5])
    >>> c["share"], c["n"]
    ([0.5, 1.0], [2, 2])
    """
    hit, x = np.asarray(found, dtype=bool), np.asarray(along, dtype=np.float64)
    known = np.isfinite(x)
    hit, x = hit[known], x[known]
    if not len(x):
        raise DeepfieldError("no lens has a number to bin it by")
    ends = [float(e) for e in (np.quantile(x, np.linspace(0, 1, edges + 1)) if isinstance(edges, int) else edges)]
    if isinstance(edges, int):
        ends[-1] += 1e-9 * max(1.0, abs(ends[-1]))  # the last lens lies inside
    which = np.digitize(x, ends) - 1
    told: dict[str, list[float]] = {name: [] for name in ("low", "high", "middle", "share", "lo68", "hi68", "n")}
    for k in range(len(ends) - 1):
        inside = which == k
        if not (n := int(inside.sum())):
            continue
        p = float(hit[inside].mean())
        centre, half = (p + 0.5 / n) / (1 + 1 / n), math.sqrt(p * (1 - p) / n + 0.25 / n**2) / (1 + 1 / n)
        row = (ends[k], ends[k + 1], float(np.median(x[inside])), p, centre - half, centre + half, n)
        for name, value in zip(told, row):
            told[name].append(value)
    return told


def agreement(scores: ArrayLike, grade: ArrayLike, *, repeats: int = 200, seed: int = 0) -> dict[str, Metric]:
    """Rank correlation of a score with the grades of experts: Spearman's rho and Kendall's tau, with their errors.

    Examples
    --------
    >>> round(float(agreement([0.1, 0.5, 0.4, 0.9], [0.3, 1.0, 2.0, 3.0])["spearman"]), 3)
    0.8
    """
    pairs = np.stack([np.asarray(scores, dtype=np.float64), np.asarray(grade, dtype=np.float64)], -1)
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < 3:
        raise DeepfieldError(f"{len(pairs)} images have both a score and a grade: too few for a correlation")
    rules = {"spearman": spearmanr, "kendall": kendalltau}
    return {
        name: _metric(lambda v, r=rule: np.array([r(*s.T).statistic for s in v]), pairs, repeats, seed)
        for name, rule in rules.items()
    }


def _metric(statistic: Any, rows: Array, repeats: int, seed: int) -> Metric:
    error = metrics.bootstrap_error(statistic, rows, repeats=repeats, seed=seed)
    return Metric(float(statistic(rows[None])[0]), float(error))


def score(
    probability: ArrayLike,
    label: ArrayLike,
    *,
    theta_e: ArrayLike | None = None,
    snr: ArrayLike | None = None,
    bins: int = 15,
    repeats: int = 100,
    seed: int = 0,
) -> Score:
    """Compare a finder's probabilities with the truth.

    Parameters
    ----------
    probability : (N,) array
        At the share of lenses among these images; NaN where there is no answer.
    label : (N,) array
        1 for a lens, 0 for none.
    theta_e, snr : (N,) arrays, optional
        Einstein radius (arcsec) and signal-to-noise ratio of the lenses: for the completeness at TPR10's
        threshold.
    bins : int
        Of the calibration error.
    repeats, seed : int
        Of the bootstrap.

    Returns
    -------
    Score
        ``auroc``, ``tpr0``, ``tpr10``, ``log_loss`` (nats), ``calibration_error`` in bins of p(lens) and what
        of it is chance, the ``calibration_floor``; ``excess``, the mean probability less the share of lenses.

    Raises
    ------
    DeepfieldError
        If shapes do not fit, or there are no lenses or nothing else.

    Examples
    --------
    >>> s = score([0.9, 0.8, 0.1, 0.2], [1, 1, 0, 0])
    >>> s.auroc, s.tpr0
    (1.0, 1.0)
    """
    p, y = np.asarray(probability, dtype=np.float64), np.asarray(label)
    served = ~np.isnan(p)
    s, flag = _checked(p[served], y[served] if y.shape == p.shape else y)
    if s.min() < 0 or s.max() > 1:
        raise DeepfieldError(f"probabilities lie between 0 and 1, got {s.min():g} to {s.max():g}")
    loss = cl.log_loss(np.stack([1 - s, s], -1), np.stack([~flag, flag], -1).astype(float))
    rows = np.stack([s, flag, loss], 1)

    def each(rule: Any) -> Any:
        return lambda v: np.array([rule(w[:, 0], w[:, 1]) if 0 < w[:, 1].sum() < len(w) else np.nan for w in v])

    rules: dict[str, Any] = {
        "auroc": each(auroc),
        "tpr0": each(lambda a, b: tpr_at(a, b, 0)),
        "tpr10": each(lambda a, b: tpr_at(a, b, 10)),
        "log_loss": lambda v: v[..., 2].mean(1),
        "calibration_error": each(lambda a, b: metrics.classification_calibration_error(a, b, bins=bins)),
        "excess": lambda v: (v[..., 0] - v[..., 1]).mean(1),
    }
    found = {name: _metric(rule, rows, repeats, seed) for name, rule in rules.items()}
    floor = cl.calibration_floor(s, bins=bins, repeats=min(repeats, 100), seed=seed)
    found["calibration_floor"] = Metric(*floor)
    false, true = roc(s, flag)
    curves: dict[str, Any] = {
        "roc": {"false": false.tolist(), "true": true.tolist()},
        "reliability": cl.reliability(s, flag.astype(float)),
        "negatives": int((~flag).sum()),
    }
    wrong = np.sort(s[~flag])[::-1]
    hit = s[flag] > wrong[min(10, len(wrong) - 1)]
    for name, values in {"theta_e": theta_e, "snr": snr}.items():
        if values is not None:
            curves.setdefault("completeness", {})[name] = completeness(hit, np.asarray(values)[served][flag])
    return Score(int(served.sum()), int((~served).sum()), found, curves)


def score_measurement(found: Any, truth: Any, *, repeats: int = 200, seed: int = 0) -> Score:
    """Compare posteriors of lenses with the truth.

    Parameters
    ----------
    found : Measurement or mapping
        Or the columns of a file that :func:`deepfield.lensing.measure_file` wrote.
    truth : Table
        With the columns of :data:`deepfield.lensing.parameters.UNITS`.

    Returns
    -------
    Score
        Of ``theta_e`` the relative errors of the medians: their median is the ``theta_e_bias``, 1.4826 times the
        median of what they differ from it the ``theta_e_scatter``; of other parameters the same of plain errors,
        of angles modulo half a turn. ``<name>_coverage_683`` and ``_955`` with binomial errors; of a Measurement
        ``<name>_pit_ks`` too.

    Raises
    ------
    DeepfieldError
        If there are no lenses with both, or the truth is none.
    """
    encode(truth)  # tells of what no lens has
    columns = found.columns() if isinstance(found, Measurement) else found
    right = {name: np.asarray(truth.column(name), dtype=np.float64) for name in UNITS}
    served, known = ~np.isnan(columns["theta_e_median"]), np.isfinite(right["theta_e"])
    keep = served & known
    if not (n := int(keep.sum())):
        raise DeepfieldError("no lens has both a measurement and a truth")
    told: dict[str, Metric] = {}
    for name in UNITS:
        middle = np.asarray(columns[f"{name}_median"], dtype=np.float64)[keep]
        error = middle - right[name][keep]
        error = (error + 90) % 180 - 90 if name in ANGLES else error
        scaled = error / right[name][keep] if name == "theta_e" else error
        told[f"{name}_bias"] = _metric(lambda v: np.median(v, 1), scaled, repeats, seed)
        told[f"{name}_scatter"] = _metric(_spread, scaled, repeats, seed)
        for (key, level), suffix in zip(COVERED.items(), ("68", "95")):
            low, high = (np.asarray(columns[f"{name}_{end}{suffix}"])[keep] - middle for end in ("lo", "hi"))
            share = float(((low <= -error) & (-error <= high)).mean())
            told[f"{name}_{key}"] = Metric(share, math.sqrt(level * (1 - level) / n))
    curves: dict[str, Any] = {"bands": {key: list(metrics.coverage_band(v, n)) for key, v in COVERED.items()}}
    if isinstance(found, Measurement):
        curves["pit"] = {name: v[keep].tolist() for name, v in found.pit(truth).items()}
        told |= {f"{n}_pit_ks": Metric(float(metrics.pit_ks(v)), 0.0) for n, v in curves["pit"].items()}
    return Score(n, int((known & ~served).sum()), told, curves)


def score_file(found: Any, truth: Any) -> dict[str, Score]:
    """The scores of a file that ``find`` or ``measure`` wrote: "finding", "grades" and "measuring", what applies.

    Raises
    ------
    DeepfieldError
        If rows do not fit, or the truth says nothing of what was found.
    """
    from deepfield.data import files
    from deepfield.data.images.read import read
    from deepfield.data.images.serve import check_same

    table = files.read(found)
    try:
        right = read(truth).table
    except TableError:
        right = files.read(truth)
    if len(right) != len(table):
        raise DeepfieldError(f"{found} has {len(table)} rows, {truth} {len(right)}: give the same images")
    check_same(table["object_id"] if "object_id" in table.colnames else None, right, found)
    has, told = set(right.colnames), {}
    p = table.column("probability") if "probability" in table.colnames else None
    if p is not None and "log_odds" in table.colnames:
        p = expit(table.column("log_odds").astype(np.float64))  # in float32 a probability beyond odds of 17 is one
    if p is not None and "is_lens" in has:
        more: dict[str, Any] = {
            k: right.column(c) for k, c in {"theta_e": "theta_e", "snr": "source_snr"}.items() if c in has
        }
        told["finding"] = score(p, right.column("is_lens"), **more)
    if p is not None and "grade" in has:
        own = agreement(p, right.column("grade"))
        told["grades"] = Score(int(np.isfinite(p).sum()), int(np.isnan(p).sum()), own)
    if "theta_e_median" in table.colnames and set(UNITS) <= has:
        columns = {c: table.column(c) for c in table.colnames if c.rsplit("_", 1)[0] in UNITS}
        told["measuring"] = score_measurement(columns, right)
    if not told:
        raise DeepfieldError(
            f"{truth} says nothing of what is in {found}: is_lens, a grade, or lenses' parameters"
        )
    return told


def _spread(v: Array) -> Any:
    return 1.4826 * np.median(np.abs(v - np.median(v, 1, keepdims=True)), 1)


def compare(scores: Mapping[str, Score], names: Sequence[str] = ()) -> str:
    """A table of several scores' metrics, one line each."""
    names = list(names) or list(dict.fromkeys(name for s in scores.values() for name in s.metrics))
    lines = [f"{'':<20}" + "".join(f"{name:>24}" for name in names)]
    missing = Metric(math.nan, math.nan)
    for label, s in scores.items():
        lines.append(f"{label:<20}" + "".join(f"{s.metrics.get(name, missing)!s:>24}" for name in names))
    return "\n".join(lines)
