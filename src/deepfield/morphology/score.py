"""The metrics of galaxy morphology: of classes, and of votes question by question, with bootstrap errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.distributions import Bernoulli, Categorical

from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.core.votes import DirichletMultinomial, Groups, log_rising
from deepfield.morphology.trees import Tree
from deepfield.trust import classification as cl
from deepfield.trust import metrics
from deepfield.trust.metrics import Metric, Named, plain

Array = NDArray[np.float64]
LEVELS = {"coverage_683": 0.683, "coverage_955": 0.955}
CONFIDENT = 0.8
"""Share of the votes from which volunteers count as confident (Walmsley et al. 2022, section 5)."""
_ROWS = 256  # rows whose vote probabilities are held at once


@dataclass(frozen=True)
class Score(Named):
    """What :func:`score` found. Metrics are attributes too: ``score.accuracy`` is a float.

    Attributes
    ----------
    n : int
        Objects with a prediction and a truth: what the metrics are made of.
    n_missing, n_without_truth : int
        Objects with a truth and no prediction (NaN); objects without a truth.
    metrics : dict of Metric
        Of classes: ``accuracy``, ``log_loss`` (nats), ``macro_f1``, ``calibration_error``, whose binned estimate
        is positive by chance alone: ``calibration_floor`` is what a perfectly calibrated model would have on
        these objects. Of votes: ``log_prob`` (nats per object, over all questions).
    classes : tuple of str
    confusion : (C, C) list
        True classes in rows; empty for votes.
    per_class : dict
        ``f1``, ``recall`` and ``precision`` of each class.
    questions : dict
        For votes, metrics of each question (see :func:`score_question`).
    reliability : dict
        Predicted against observed frequency for each class, or for each answer by ``<question>_<answer>``.
    """

    n: int
    n_missing: int
    n_without_truth: int
    metrics: dict[str, Metric]
    classes: tuple[str, ...] = ()
    confusion: list[list[float]] = field(default_factory=list)
    per_class: dict[str, dict[str, float]] = field(default_factory=dict)
    questions: dict[str, dict[str, Metric]] = field(default_factory=dict)
    reliability: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{self.n:,} objects"] + [f"{name:<20} {value}" for name, value in self.metrics.items()]
        for name, found in self.questions.items():
            lines.append(f"{name}: " + ", ".join(f"{k} {v}" for k, v in found.items()))
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "n": self.n, "n_missing": self.n_missing, "n_without_truth": self.n_without_truth,
            "metrics": plain(self.metrics), "classes": list(self.classes), "confusion": self.confusion,
            "per_class": self.per_class, "questions": {q: plain(found) for q, found in self.questions.items()},
            "reliability": self.reliability,
        }  # fmt: skip


def score(
    prediction: Any,
    truth: ArrayLike,
    *,
    tree: Tree | None = None,
    classes: Sequence[str] = (),
    least: float = 5.0,
    bins: int = 15,
    repeats: int = 200,
    seed: int = 0,
) -> Score:
    """Compare predictions with labels or votes, row by row.

    Parameters
    ----------
    prediction : Prediction or (N, C) array
        Of classes, or of votes.
    truth : array
        For classes their numbers (N,), -1 where unknown, or vote fractions or counts (N, C). For votes the counts
        (N, A) over ``tree``, fractions of votes allowed.
    tree : Tree
        The questions, for votes.
    classes : sequence of str
        Names of the classes; numbers by default.
    least : float
        Votes that a question needs to count for an object.
    bins : int
        Of the calibration error.
    repeats, seed : int
        Of the bootstrap, and of the draws that coverage needs.

    Raises
    ------
    DeepfieldError
        If the prediction is of another kind, shapes do not fit, or no object has both prediction and truth.

    Examples
    --------
    >>> s = score([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6]], [0, 1, 0], classes=("E", "S"))
    >>> round(s.accuracy, 3), s.confusion
    (0.667, [[1.0, 1.0], [0.0, 1.0]])
    """
    if isinstance(prediction, Prediction):
        kind = prediction.distribution(slice(0, 1))
        if isinstance(kind, DirichletMultinomial):
            if tree is None:
                raise DeepfieldError("the prediction is of votes: give tree=, whose questions they answer")
            return score_votes(concentrations(prediction), truth, tree, least=least, repeats=repeats, seed=seed)
        if not isinstance(kind, Categorical | Bernoulli):
            raise DeepfieldError("morphology scores classes or votes; this prediction is of something else")
        p = torch.cat([_probabilities(part) for part in _chunks(prediction)]).numpy()
    else:
        p = np.asarray(prediction, dtype=np.float64)
    return _score_classes(p, truth, tuple(classes), bins, repeats, seed)


def _chunks(prediction: Prediction) -> list[Any]:
    return [
        prediction.distribution(slice(i, i + prediction.chunk))
        for i in range(0, len(prediction), prediction.chunk)
    ]


def _probabilities(distribution: Any) -> torch.Tensor:
    p = distribution.probs
    return torch.stack([1 - p, p], -1) if isinstance(distribution, Bernoulli) else p


def concentrations(prediction: Prediction) -> Array:
    """Concentrations (M, N, A) of each member of a prediction of votes."""
    return torch.cat([d.stack for d in _chunks(prediction)], 1).numpy()


def _score_classes(
    p: Array, truth: ArrayLike, names: tuple[str, ...], bins: int, repeats: int, seed: int
) -> Score:
    p, share, known = cl.checked(p, truth)
    count = p.shape[1]
    names = names or tuple(str(i) for i in range(count))
    if len(names) != count:
        raise DeepfieldError(f"{len(names)} names for {count} classes: {', '.join(names)}")
    without = np.isnan(share).any(1)
    if not known.any():
        raise DeepfieldError(f"none of the {len(p)} objects has both a prediction and a label")
    p, share = p[known], share[known]
    label, chosen = share.argmax(1), p.argmax(1)
    loss = cl.log_loss(p, share)
    top = p.max(1)
    rows = np.stack([label, chosen, loss, top, label == chosen], 1)
    statistics: dict[str, Callable[[Array], Any]] = {
        "accuracy": lambda v: v[..., 4].mean(1),
        "log_loss": lambda v: v[..., 2].mean(1),
        "macro_f1": lambda v: cl.macro_f1(cl.confusion_matrix(v[..., 0], v[..., 1], count)),
        "calibration_error": lambda v: _calibration_error(v[..., 3], v[..., 4], bins),
    }
    found = {name: _metric(statistic, rows, repeats, seed) for name, statistic in statistics.items()}
    found["calibration_floor"] = Metric(*cl.calibration_floor(p, bins=bins, repeats=min(repeats, 100), seed=seed))
    confusion = cl.confusion_matrix(label, chosen, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.diagonal(confusion)
        per = {"f1": cl.f1(confusion), "recall": right / confusion.sum(1), "precision": right / confusion.sum(0)}
    return Score(
        n=int(known.sum()),
        n_missing=int((~known & ~without).sum()),
        n_without_truth=int(without.sum()),
        metrics=found,
        classes=names,
        confusion=confusion.tolist(),
        per_class={name: {k: float(v[c]) for k, v in per.items()} for c, name in enumerate(names)},
        reliability={name: cl.reliability(p[:, c], share[:, c]) for c, name in enumerate(names)},
    )


def _metric(statistic: Callable[[Array], Any], rows: Array, repeats: int, seed: int) -> Metric:
    error = metrics.bootstrap_error(statistic, rows, repeats=repeats, seed=seed)
    return Metric(float(statistic(rows[None])[0]), float(error))


def _calibration_error(top: Array, right: Array, bins: int) -> Array:
    """The binned calibration error of the winning class for each resample (B, M)."""
    which = np.minimum((top * bins).astype(int), bins - 1)
    place = which + bins * np.arange(len(top))[:, None]
    gap = np.bincount(place.ravel(), (right - top).ravel(), len(top) * bins)
    return np.abs(gap.reshape(len(top), bins)).sum(1) / top.shape[1]


def score_votes(
    a: ArrayLike, votes: ArrayLike, tree: Tree, *, least: float = 5.0, repeats: int = 200, seed: int = 0
) -> Score:
    """Score of a posterior of votes, given by its concentrations (N, A), or (M, N, A) of M members.

    Other parameters and errors as :func:`score`.
    """
    stack = np.asarray(a, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    k = np.asarray(votes, dtype=np.float64)
    if stack.ndim != 3 or k.shape != stack.shape[1:] or k.shape[1] != len(tree.columns):
        raise DeepfieldError(
            f"concentrations {stack.shape} and votes {k.shape} over the {len(tree.columns)} answers of tree "
            f"'{tree.name}' do not fit"
        )
    served, known = ~np.isnan(stack).any((0, 2)), (k.sum(1) > 0) & ~np.isnan(k).any(1)
    keep = served & known
    if not keep.any():
        raise DeepfieldError(f"none of the {len(k)} objects has both a prediction and a vote")
    stack, k = stack[:, keep], k[keep]
    law = DirichletMultinomial(torch.from_numpy(stack[0]), tree.groups)
    law = law.average_with([DirichletMultinomial(torch.from_numpy(s), tree.groups) for s in stack[1:]])
    mean, variance, asked = law.mean.numpy(), law.variance.numpy(), tree.voters(k)
    pit = vote_pit(stack, k, tree.groups, seed=seed)
    questions, curves = {}, {}
    for i, question in enumerate(tree.questions):
        part, rows = tree.slice(question.name), asked[:, i] >= least
        if not rows.any():
            continue
        questions[question.name] = score_question(
            mean[rows, part], variance[rows, part], k[rows, part], pit[rows, part], repeats=repeats, seed=seed
        )
        n, m, v = asked[rows, i], mean[rows, part], variance[rows, part]
        share, spread = k[rows, part] / n[:, None], _within(m, v) / n[:, None] + v  # beta-binomial
        for j, name in enumerate(tree.columns[part]):
            curves[name] = cl.reliability(m[:, j], share[:, j], n, spread[:, j])
    return Score(
        n=int(keep.sum()),
        n_missing=int((known & ~served).sum()),
        n_without_truth=int((~known).sum()),
        metrics={
            "log_prob": _metric(lambda v: v.mean(1), law.log_prob(torch.from_numpy(k)).numpy(), repeats, seed)
        },
        questions=questions,
        reliability=curves,
    )


def score_question(
    mean: Array, variance: Array, votes: Array, pit: Array, *, repeats: int = 200, seed: int = 0
) -> dict[str, Metric]:
    """Metrics of one question on the objects that count.

    Parameters
    ----------
    mean, variance : (N, K) arrays
        Of the fractions.
    votes : (N, K) array
    pit : (N, K) array
        From :func:`vote_pit`.

    Returns
    -------
    dict of Metric
        ``rmse`` of the vote fractions over objects and answers; ``rmse_floor``, what the exact fractions would
        have, since the votes themselves are draws; ``accuracy`` of the likeliest answer; ``confident_accuracy``
        where at least 80 % of the votes agree (absent if nowhere); ``coverage_683`` and ``coverage_955``
        of the votes given by central intervals of the posterior.
    """
    n = votes.sum(1, keepdims=True)
    share = votes / n
    right = (mean.argmax(1) == votes.argmax(1)).astype(float)
    sure = share.max(1) >= CONFIDENT
    noise = (_within(mean, variance) / n).mean(1)
    root = lambda v: np.sqrt(v.mean(1))  # noqa: E731
    plain = lambda v: v.mean(1)  # noqa: E731
    found = {
        "rmse": _metric(root, ((mean - share) ** 2).mean(1), repeats, seed),
        "rmse_floor": _metric(root, noise, repeats, seed),
        "accuracy": _metric(plain, right, repeats, seed),
    }
    if sure.any():
        found["confident_accuracy"] = _metric(plain, right[sure], repeats, seed)
    for name, level in LEVELS.items():
        inside = (np.abs(pit - 0.5) <= 0.5 * level).mean(1)
        found[name] = _metric(plain, inside, repeats, seed)
    return found


def _within(mean: Array, variance: Array) -> Array:
    """E[f (1 - f)] of fractions f: n times the variance of a share of n votes, were f known."""
    return np.maximum(mean * (1 - mean) - variance, 0.0)


def vote_pit(a: Array, votes: Array, groups: Sequence[int], *, seed: int = 0) -> Array:
    """Randomised probability integral transform of each answer's votes (N, A): uniform if the posterior is right.

    Given n voters an answer's votes follow a beta-binomial law; between its steps the transform is drawn at random
    (Czado, Gneiting & Held 2009, Biometrics 65, 1254). Fractions of votes are rounded. NaN where nobody voted.

    Parameters
    ----------
    a : (M, N, A) array
        Concentrations of each member.
    votes : (N, A) array
    groups : sequence of int
        Answers of each question.
    """
    sums = Groups(list(groups))
    k = torch.from_numpy(np.rint(np.asarray(votes, dtype=np.float64)))
    n = sums.spread(sums.sum(k))
    stack = torch.from_numpy(np.asarray(a, dtype=np.float64))
    rest = sums.spread(sums.sum(stack)) - stack
    draw = np.random.default_rng(seed).uniform(size=k.shape)
    parts = []
    for start in range(0, len(k), _ROWS):
        rows = slice(start, start + _ROWS)
        below, here = _betabinomial(stack[:, rows], rest[:, rows], k[rows], n[rows])
        parts.append((below + torch.from_numpy(draw[rows]) * here).numpy())
    pit = np.concatenate(parts)
    return np.where(n.numpy() > 0, np.clip(pit, 0, 1), np.nan)


def _betabinomial(a: torch.Tensor, b: torch.Tensor, k: torch.Tensor, n: torch.Tensor) -> tuple[Any, Any]:
    """P(votes < k) and P(votes = k), averaged over members: each (N, A)."""
    j = torch.arange(int(n.max()) + 1, dtype=a.dtype)
    a, b, n = a[..., None], b[..., None], n[..., None]
    left = (n - j).clamp_min(0)
    ways = torch.lgamma(n + 1) - torch.lgamma(j + 1) - torch.lgamma(left + 1)
    log_p = ways + log_rising(a, j.expand(*a.shape[:-1], -1)) + log_rising(b, left) - log_rising(a + b, n)
    p = torch.where(j <= n, log_p.exp(), 0.0).mean(0)
    return torch.where(j < k[..., None], p, 0.0).sum(-1), torch.where(j == k[..., None], p, 0.0).sum(-1)


def compare(scores: Mapping[str, Score]) -> str:
    """A table of several models' metrics, one line each.

    Examples
    --------
    >>> s = score([[0.9, 0.1], [0.2, 0.8]], [0, 1])
    >>> print(compare({"mine": s}).splitlines()[0].split()[:2])
    ['model', 'accuracy']
    """
    names = list(dict.fromkeys(name for s in scores.values() for name in s.metrics))
    lines = [f"{'model':<20}" + "".join(f"{name:>22}" for name in names)]
    missing = Metric(math.nan, math.nan)
    for label, s in scores.items():
        lines.append(f"{label:<20}" + "".join(f"{s.metrics.get(name, missing)!s:>22}" for name in names))
    return "\n".join(lines)
