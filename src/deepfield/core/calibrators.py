"""What calibration leaves behind: a map of PIT values and the scores of conformal intervals.

Plain data and arithmetic, so that a prediction can apply them; fitting them is the work of
:mod:`deepfield.trust.calibration`. Both live on the unit interval of the probability integral transform
u = F(y | x), so they serve any scalar density whatever its form.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]


class CalibrationError(DeepfieldError):
    """A calibration that cannot give what was asked of it, or stored calibration that makes no sense."""


class CalibrationWarning(UserWarning):
    """An interval that had to become the whole support."""


def _finite(values: Any, name: str) -> Array:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"'{name}' of a stored calibration should be numbers: {error}") from None
    if array.ndim != 1 or not np.isfinite(array).all():
        raise CalibrationError(f"'{name}' of a stored calibration should be a list of finite numbers")
    return array


def _stored(state: Any, keys: Sequence[str]) -> list[Any]:
    missing = [key for key in keys if not isinstance(state, Mapping) or key not in state]
    if missing:
        raise CalibrationError(f"stored calibration lacks {missing}: fit and save it again")
    return [state[key] for key in keys]


@dataclass(frozen=True)
class PITMap:
    """A smooth monotone map g of [0, 1] onto itself: the calibrated cdf is g(F(y)).

    The derivative g' is linear between ``knots`` and takes the values ``slopes`` at them, so that g is
    piecewise quadratic, g and its inverse are exact, and the calibrated density is p(y) g'(F(y)).

    Parameters
    ----------
    knots : (K,) array
        Increasing, from 0 to 1.
    slopes : (K,) array
        Positive values of g'; scaled here so that g' integrates to one.

    Raises
    ------
    CalibrationError
        If the knots do not increase from 0 to 1 or a slope is not positive.

    Examples
    --------
    >>> g = PITMap([0.0, 0.5, 1.0], [1.5, 0.5, 1.5])
    >>> g.forward([0.0, 0.25, 0.5, 1.0]).tolist()
    [0.0, 0.3125, 0.5, 1.0]
    >>> g.inverse(g.forward([0.1, 0.7])).round(12).tolist()
    [0.1, 0.7]
    >>> PITMap.identity().density([0.3]).tolist()
    [1.0]
    """

    knots: Array
    slopes: Array
    _at_knots: Array = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        knots, slopes = _finite(self.knots, "knots"), _finite(self.slopes, "slopes")
        if len(knots) < 2 or knots[0] != 0 or knots[-1] != 1 or (np.diff(knots) <= 0).any():
            raise CalibrationError("the knots of a PIT map should increase from 0 to 1")
        if slopes.shape != knots.shape or (slopes <= 0).any():
            raise CalibrationError("a PIT map needs one positive slope per knot")
        areas = 0.5 * (slopes[1:] + slopes[:-1]) * np.diff(knots)
        at_knots = np.concatenate([[0.0], np.cumsum(areas)])
        object.__setattr__(self, "knots", knots)
        object.__setattr__(self, "slopes", slopes / at_knots[-1])
        object.__setattr__(self, "_at_knots", at_knots / at_knots[-1])

    @classmethod
    def identity(cls) -> PITMap:
        """The map that changes nothing."""
        return cls(np.array([0.0, 1.0]), np.array([1.0, 1.0]))

    @property
    def is_identity(self) -> bool:
        """Whether the map changes nothing."""
        return bool((self.slopes == 1).all())

    def _cell(self, points: Array, edges: Array) -> NDArray[np.intp]:
        return np.clip(np.searchsorted(edges, points, side="right") - 1, 0, len(edges) - 2)

    def forward(self, u: ArrayLike) -> Array:
        """g(u), any shape; u is clipped to [0, 1] and NaN stays NaN."""
        u = np.clip(np.asarray(u, dtype=np.float64), 0, 1)
        cell = self._cell(u, self.knots)
        step, width = u - self.knots[cell], np.diff(self.knots)[cell]
        rise = np.diff(self.slopes)[cell]
        v = self._at_knots[cell] + step * (self.slopes[cell] + 0.5 * rise * step / width)
        return np.clip(v, 0, 1)

    def inverse(self, v: ArrayLike) -> Array:
        """The u with g(u) = v, any shape; v is clipped to [0, 1] and NaN stays NaN."""
        v = np.clip(np.asarray(v, dtype=np.float64), 0, 1)
        cell = self._cell(v, self._at_knots)
        width, slope = np.diff(self.knots)[cell], self.slopes[cell]
        rise, rest = np.diff(self.slopes)[cell] / width, v - self._at_knots[cell]
        root = np.sqrt(np.maximum(slope**2 + 2 * rise * rest, 0))
        return np.clip(self.knots[cell] + np.clip(2 * rest / (slope + root), 0, width), 0, 1)

    def density(self, u: ArrayLike) -> Array:
        """g'(u) > 0, any shape; NaN stays NaN."""
        u = np.clip(np.asarray(u, dtype=np.float64), 0, 1)
        return np.where(np.isnan(u), np.nan, np.interp(u, self.knots, self.slopes))

    def log_density(self, u: ArrayLike) -> Array:
        """Log of g'(u): what recalibration adds to log p(y)."""
        return np.log(self.density(u))

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return {"knots": self.knots.tolist(), "slopes": self.slopes.tolist()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> PITMap:
        """The map that ``to_dict`` wrote; CalibrationError if it makes no sense."""
        knots, slopes = _stored(state, ("knots", "slopes"))
        return cls(_finite(knots, "knots"), _finite(slopes, "slopes"))


@dataclass(frozen=True)
class Conformal:
    """Split-conformal intervals in PIT space, with the finite-sample guarantee in each group.

    The score of a calibration row is s = 2 |u - 1/2|, the level of the narrowest central interval that
    holds its truth (distributional conformal prediction; Chernozhukov, Wuethrich & Zhu 2021, PNAS 118). The
    central interval at the ceil((n + 1) a)-th smallest score covers a new exchangeable row with a
    probability between a and a + 1/(n + 1), whatever the quality of the density. Groups are taken apart
    (Mondrian conformal; Vovk et al. 2005), and the guarantee holds in each.

    Parameters
    ----------
    scores : sequence of (n_g,) arrays
        The scores of each group's calibration rows, in [0, 1].
    edges : (G - 1,) array
        Increasing; group g holds edges[g-1] <= feature < edges[g]. Missing (NaN) and infinite features
        fall into the last group, as does the magnitude of an object too faint to be seen.
    feature : str
        The name of the feature that makes the groups, '' for none.

    Examples
    --------
    >>> conformal = Conformal([np.linspace(0, 0.98, 99)])
    >>> float(conformal.levels(0.9))
    0.89
    >>> [round(float(tail), 3) for tail in conformal.tails(0.9)]
    [0.055, 0.945]
    """

    scores: Sequence[Array]
    edges: Array = field(default_factory=lambda: np.empty(0))
    feature: str = ""

    def __post_init__(self) -> None:
        scores = tuple(np.sort(_finite(group, "scores")) for group in self.scores)
        edges = _finite(self.edges, "edges")
        if len(scores) != len(edges) + 1 or (np.diff(edges) <= 0).any():
            raise CalibrationError(f"{len(scores)} groups need {len(scores) - 1} increasing edges")
        if any(len(group) == 0 or group[0] < 0 or group[-1] > 1 for group in scores):
            raise CalibrationError("conformal scores should lie in [0, 1], at least one in each group")
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "edges", edges)
        object.__setattr__(self, "feature", str(self.feature))

    @property
    def counts(self) -> tuple[int, ...]:
        """Calibration rows of each group."""
        return tuple(len(group) for group in self.scores)

    def group(self, feature: ArrayLike) -> NDArray[np.intp]:
        """The group of each object, (N,) integers, from the values (N,) of the feature."""
        values = np.asarray(feature, dtype=np.float64)
        found = np.searchsorted(self.edges, values, side="right")
        return np.where(np.isnan(values), len(self.edges), found).astype(np.intp)

    def levels(
        self, level: float, group: ArrayLike | None = None, *, short: Literal["error", "whole"] = "error"
    ) -> Array:
        """The level of the central interval that covers with probability ``level`` at least.

        Parameters
        ----------
        level : float
            Nominal, inside (0, 1).
        group : (N,) integers, optional
            From :meth:`group`; may be left out where there is one group.
        short : 'error' or 'whole'
            What to do where the calibration rows are too few for the level (n + 1 < 1 / (1 - level)) or
            where too many truths lie off the density's support: raise, or return 1 (the whole support)
            with a CalibrationWarning.

        Returns
        -------
        (N,) array in (0, 1], or () where ``group`` is left out.

        Raises
        ------
        CalibrationError
            If the level is outside (0, 1), a group is unknown, or the rows are too few.
        """
        if not 0 < level < 1:
            raise CalibrationError(f"an interval's level should lie between 0 and 1, not {level}")
        if group is None and len(self.scores) > 1:
            raise CalibrationError(
                f"intervals differ between {len(self.scores)} groups of '{self.feature}': pass the group"
            )
        index = np.asarray(0 if group is None else group)
        if index.size and (index.min() < 0 or index.max() >= len(self.scores)):
            raise CalibrationError(f"groups run from 0 to {len(self.scores) - 1}, not to {index.max()}")
        table = np.full(len(self.scores), np.nan)
        for g in np.unique(index):
            table[g] = self._level(level, int(g), short)
        return table[index]

    def _level(self, level: float, group: int, short: str) -> float:
        scores = self.scores[group]
        n = len(scores)
        rank = math.ceil((n + 1) * level - 1e-9)  # a level such as 0.9 is not exact in binary
        where = f"group {group} of '{self.feature}'" if len(self.scores) > 1 else "the calibration"
        if rank > n:
            need = math.ceil(level / (1 - level) - 1e-9)
            reason = f"an interval at level {level:g} needs {need} calibration rows; {where} has {n}"
        elif scores[rank - 1] >= 1:
            off = float(np.mean(scores >= 1))
            reason = f"{off:.1%} of the truths of {where} lie off the density's support"
        else:
            return float(scores[rank - 1])
        if short == "whole":
            warnings.warn(f"{reason}: the interval is the whole support", CalibrationWarning, stacklevel=4)
            return 1.0
        raise CalibrationError(f"{reason}: ask for a lower level or calibrate on more rows")

    def tails(
        self, level: float, group: ArrayLike | None = None, *, short: Literal["error", "whole"] = "error"
    ) -> tuple[Array, Array]:
        """The two cdf values, (N,) each, whose quantiles bound the interval; arguments as for ``levels``."""
        half = 0.5 * self.levels(level, group, short=short)
        return 0.5 - half, 0.5 + half

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON."""
        return {
            "scores": [group.tolist() for group in self.scores],
            "edges": self.edges.tolist(),
            "feature": self.feature,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Conformal:
        """What ``to_dict`` wrote; CalibrationError if it makes no sense."""
        scores, edges, feature = _stored(state, ("scores", "edges", "feature"))
        if not isinstance(scores, list):
            raise CalibrationError("'scores' of a stored calibration should be a list of lists")
        return cls(tuple(_finite(group, "scores") for group in scores), _finite(edges, "edges"), feature)
