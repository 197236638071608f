"""A prediction is always a distribution: a few floats per object, and the head that reads them."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.distributions import Distribution

from deepfield.core.errors import DeepfieldError
from deepfield.core.heads import GivenMixture, GivenTable, Head

if TYPE_CHECKING:
    from deepfield.core.calibrators import Conformal, PITMap

Array = NDArray[np.float64]
# Levels u = s^2 (3 - 2s) for an even s, closer together in the tails, and their weights du: for integrals over u.
_S = (np.arange(256) + 0.5) / 256
_NODES, _WEIGHTS = _S**2 * (3 - 2 * _S), _S * (1 - _S) / np.sum(_S * (1 - _S))


class Prediction:
    """The densities of N objects. Everything asked of it comes back as numpy, computed chunk by chunk.

    Parameters
    ----------
    head : Head
        Turns features into a distribution.
    features : array (N, F)
        What the net said of each object; a row of NaN is an object that could not be served.
    pit_map : PITMap, optional
        Recalibration of the cdf, u -> g(u), fitted on a calibration split.
    conformal : Conformal, optional
        Widens or narrows ``interval`` so that it covers at its level.
    group : array of int (N,), optional
        The calibration group of each object.
    dtype : torch.dtype
        Of the arithmetic; float32 is twice as fast and good to 1e-6.

    Examples
    --------
    >>> p = Prediction.mixture([[1.0]], [[0.5]], [[0.1]])
    >>> len(p), p.mean.tolist(), [round(float(v[0]), 3) for v in p.interval(0.6827)]
    (1, [0.5], [0.4, 0.6])
    """

    chunk = 65_536

    def __init__(
        self,
        head: Head,
        features: ArrayLike | Tensor,
        *,
        pit_map: PITMap | None = None,
        conformal: Conformal | None = None,
        group: ArrayLike | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        values = torch.as_tensor(features)
        if values.dim() != 2 or values.shape[1] != head.n_features:
            raise DeepfieldError(f"features of shape (N, {head.n_features}) expected, got {tuple(values.shape)}")
        self.head, self.features = head, values.detach().cpu().float()
        self._dtype = dtype
        self._own = copy.deepcopy(head).cpu().to(dtype).requires_grad_(False)
        self.pit_map, self.conformal = pit_map, conformal
        self.group = None if group is None else np.asarray(group, dtype=np.int64)
        if self.group is not None and self.group.shape != (len(values),):
            raise DeepfieldError(f"one group for each of {len(values)} objects expected, got {self.group.shape}")

    @classmethod
    def mixture(cls, weights: ArrayLike, means: ArrayLike, stds: ArrayLike, **options: Any) -> Prediction:
        """Gaussian mixtures given by their parameters, each (N, K)."""
        parts = [np.asarray(a, dtype=np.float32) for a in (weights, means, stds)]
        if len({a.shape for a in parts}) > 1 or parts[0].ndim != 2:
            shapes = ", ".join(str(a.shape) for a in parts)
            raise DeepfieldError(f"weights, means and widths of one shape (N, K) expected, got {shapes}")
        if (parts[0] < 0).any() or (parts[2] < 0).any():
            raise DeepfieldError("the weights and widths of a mixture cannot be negative")
        return cls(GivenMixture(parts[0].shape[-1]), np.concatenate(parts, -1), **options)

    @classmethod
    def tabulated(cls, grid: ArrayLike, pdf: ArrayLike, **options: Any) -> Prediction:
        """Densities (N, G) on an increasing grid (G,), linear between its points; they are normalised here."""
        values = np.asarray(pdf, dtype=np.float32)
        if (values < 0).any():
            raise DeepfieldError("a density cannot be negative; clip it if a code's own numbers are")
        return cls(GivenTable(np.asarray(grid, dtype=np.float64).ravel().tolist()), values, **options)

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        kind = type(self.head).__name__
        return f"Prediction of {len(self):,} objects, {self.features.shape[1]} floats each ({kind})"

    def __getitem__(self, index: slice | ArrayLike) -> Self:
        if not isinstance(index, slice):
            index = np.atleast_1d(np.asarray(index))
            index = index if index.size and index.dtype.kind != "u" else index.astype(np.int64)
        return self._with(self.features[index], None if self.group is None else self.group[index])

    def _with(self, features: Tensor, group: NDArray[np.int64] | None) -> Self:
        return type(self)(
            self.head,
            features,
            pit_map=self.pit_map,
            conformal=self.conformal,
            group=group,
            dtype=self._dtype,
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Prediction]) -> Prediction:
        """Predictions of one model in a row.

        Raises
        ------
        DeepfieldError
            If there are none, or they come from different heads or calibrations.
        """
        from deepfield.core.prediction_files import describe

        if not parts:
            raise DeepfieldError("no predictions to concatenate")
        first = parts[0]
        made = (first.head, first.pit_map, first.conformal)
        for p in parts[1:]:
            same = all(a is b for a, b in zip(made, (p.head, p.pit_map, p.conformal)))
            if not same and describe(p) != describe(first):
                raise DeepfieldError("predictions of different models or calibrations cannot be concatenated")
            if (p.group is None) != (first.group is None):
                raise DeepfieldError("predictions with and without groups cannot be concatenated")
        group = None if first.group is None else np.concatenate([np.asarray(p.group) for p in parts])
        return first._with(torch.cat([p.features for p in parts]), group)

    # -- the distribution ---------------------------------------------------------------------------------

    def distribution(self, index: slice = slice(None)) -> Distribution:
        """The torch distribution of some objects, in float64, before recalibration."""
        return self._own(self.features[index].to(self._dtype))

    def _map(self, function: Callable[[Distribution, slice], Tensor], width: int = 1) -> Array:
        """Apply ``function`` to the distribution of each chunk of objects; results carry objects first."""
        size = max(1, self.chunk // width)
        starts = range(0, max(len(self), 1), size)
        with torch.no_grad():
            parts = [function(self.distribution(s), s).numpy() for s in (slice(a, a + size) for a in starts)]
        return np.concatenate(parts)

    def _scalar(self) -> None:
        density = self.distribution(slice(0, 1))
        if density.event_shape:
            raise DeepfieldError("this prediction is a density over vectors; quantiles and cdf need a scalar")
        if isinstance(density, torch.distributions.Categorical | torch.distributions.Bernoulli):
            raise DeepfieldError("this prediction is of classes, without quantiles: see distribution().probs")

    @property
    def mean(self) -> Array:
        """Expectation, (N,) or (N, D)."""
        if self.pit_map is not None:
            return self.quantile(_NODES) @ _WEIGHTS
        if isinstance(self.distribution(slice(0, 1)), torch.distributions.Categorical):
            self._scalar()
        return self._map(lambda d, _: d.mean)

    @property
    def std(self) -> Array:
        """Standard deviation, (N,) or (N, D)."""
        if self.pit_map is not None:
            nodes = self.quantile(_NODES)
            return np.sqrt((nodes - (nodes @ _WEIGHTS)[:, None]) ** 2 @ _WEIGHTS)
        if isinstance(self.distribution(slice(0, 1)), torch.distributions.Categorical):
            self._scalar()
        return self._map(lambda d, _: torch.where(torch.isnan(d.mean), torch.nan, d.variance.sqrt()))

    @property
    def median(self) -> Array:
        """The 0.5 quantile, (N,)."""
        return self.quantile(0.5)

    @property
    def mode(self) -> Array:
        """The place of the highest density, (N,), before recalibration."""
        return self._map(lambda d, _: d.mode, width=8)

    def quantile(self, q: ArrayLike) -> Array:
        """Quantiles at levels in [0, 1]: (N,) for a scalar, (N, Q) for a list; (N, 1) gives each row its own."""
        levels = np.asarray(q, dtype=float)
        if np.any((levels < 0) | (levels > 1)):
            raise DeepfieldError(f"quantile levels lie between 0 and 1, got {levels}")
        if levels.ndim > 2 or (levels.ndim == 2 and levels.shape != (len(self), 1)):
            raise DeepfieldError(f"levels of shape (), (Q,) or ({len(self)}, 1) expected, got {levels.shape}")
        self._scalar()
        levels = self._inward(levels)
        if levels.ndim == 2:
            return self._own_quantiles(levels)[:, 0]
        grid = torch.as_tensor(np.atleast_1d(levels))[:, None]
        values = self._map(lambda d, _: d.icdf(grid).movedim(0, -1), width=grid.numel())
        return values[:, 0] if levels.ndim == 0 else values

    def _own_quantiles(self, levels: Array) -> Array:
        """Quantiles (N, Q) of the densities before recalibration, at each object's own levels (N, Q)."""
        own = torch.as_tensor(levels)
        return self._map(lambda d, s: d.icdf(own[s].T).T, width=own.shape[1])

    def interval(self, level: float = 0.6827) -> tuple[Array, Array]:
        """Central interval: the one that covers at ``level`` if conformal, else the density's own."""
        low, high = self._tails(level).T[..., None]
        return self.quantile(low), self.quantile(high)

    def _tails(self, level: float) -> Array:
        """The two cdf values (N, 2) whose quantiles bound each object's interval."""
        if not 0 < level < 1:
            raise DeepfieldError(f"an interval's level lies between 0 and 1, got {level}")
        own = np.full(len(self), level)
        if self.conformal is not None:
            own = np.broadcast_to(self.conformal.levels(level, self.group), len(self))
        return 0.5 + 0.5 * np.stack([-own, own], 1)

    def _inward(self, levels: Array) -> Array:
        """Levels of the recalibrated cdf as levels of the density's own."""
        return levels if self.pit_map is None else self.pit_map.inverse(levels)

    def _per_object(self, y: ArrayLike) -> tuple[Tensor, bool]:
        """Values as (M, N) or (M, 1), and whether each object has its own single value."""
        values = torch.as_tensor(np.asarray(y, dtype=np.float64))
        if values.dim() <= 1 and values.numel() in (1, len(self)):
            return values.expand(len(self))[None], True
        if values.dim() == 2 and values.shape[0] in (1, len(self)):
            return values.T, False
        raise DeepfieldError(f"values of shape ({len(self)},) or (1, G) expected, got {tuple(values.shape)}")

    def _evaluate(self, y: ArrayLike, function: Callable[[Distribution, Tensor], Tensor]) -> Array:
        values, single = self._per_object(y)
        shared = values.shape[1] == 1
        out = self._map(
            lambda d, s: function(d, values if shared else values[:, s]).movedim(0, -1), width=len(values)
        )
        return out[:, 0] if single else out

    def cdf(self, y: ArrayLike) -> Array:
        """Probability of less than y: y (N,) gives (N,), y (1, G) gives (N, G)."""
        self._scalar()
        u = self._evaluate(y, lambda d, v: d.cdf(v))
        return u if self.pit_map is None else self.pit_map.forward(u)

    def log_prob(self, y: ArrayLike) -> Array:
        """Log density in the unit of y: y (N,) gives (N,), y (1, G) gives (N, G); vectors (N, D) give (N,)."""
        event = self.distribution(slice(0, 1)).event_shape if len(self) else ()
        if event:
            values = torch.as_tensor(np.asarray(y, dtype=np.float64))
            if values.shape != (len(self), *event):
                raise DeepfieldError(f"vectors of shape {(len(self), *event)} expected, got {tuple(values.shape)}")
            return self._map(lambda d, s: d.log_prob(values[s]))
        logp = self._evaluate(y, lambda d, v: d.log_prob(v))
        if self.pit_map is None:
            return logp
        u = self._evaluate(y, lambda d, v: d.cdf(v))
        return logp + np.log(self.pit_map.density(u))

    def pdf(self, grid: ArrayLike) -> Array:
        """Densities (N, G) on a grid (G,)."""
        return np.exp(self.log_prob(np.asarray(grid, dtype=float)[None]))

    def squared_norm(self) -> Array:
        """Integral of the squared density (N,), in closed form where there is one; for the CDE loss."""
        if self.pit_map is not None or not hasattr(self.distribution(slice(0, 1)), "squared_norm"):
            # The mean density over equal shares of probability: it finds the narrow peaks that a grid would miss.
            return np.exp(self.log_prob(self.quantile(_NODES))) @ _WEIGHTS
        return self._map(lambda d, _: d.squared_norm(), width=8)  # type: ignore[attr-defined]

    def sample(self, n: int, *, seed: int) -> Array:
        """N draws per object, (N, n) or (N, n, D)."""
        if self.pit_map is not None:
            u = np.random.default_rng(seed).uniform(size=(len(self), n))
            return self._own_quantiles(self._inward(u))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._map(lambda d, _: d.sample((n,)).movedim(0, 1), width=n)

    def parameters(self) -> tuple[Array, Array, Array] | None:
        """Weights, means and widths, each (N, K), where the density is a Gaussian mixture; else None."""
        if self.pit_map is not None or not hasattr(self.distribution(slice(0, 1)), "log_weights"):
            return None
        names = ("weights", "means", "stds")
        weights, means, stds = (self._map(lambda d, _, name=name: getattr(d, name)) for name in names)  # type: ignore[misc]
        return weights, means, stds

    def summary(self, level: float = 0.6827) -> dict[str, Array]:
        """mean, std, median, mode, low and high (the ``interval``), each (N,), in one pass over the densities."""
        self._scalar()
        edges = self._tails(level)
        tails = self._inward(np.concatenate([edges, np.full((len(self), 1), 0.5)], 1))
        levels = torch.as_tensor(tails)

        def one(d: Any, s: slice) -> Tensor:
            low, high, median = d.icdf(levels[s].T)
            return torch.stack([d.mean, d.variance.sqrt(), median, d.mode, low, high], -1)

        names = ("mean", "std", "median", "mode", "low", "high")
        found = dict(zip(names, self._map(one, width=1).T))
        return found if self.pit_map is None else {**found, "mean": self.mean, "std": self.std}

    # -- files --------------------------------------------------------------------------------------------

    def write(self, path: str | os.PathLike[str], columns: dict[str, ArrayLike] | None = None) -> None:
        """To Parquet or HDF5 by the ending of ``path``, with any further columns beside the density."""
        from deepfield.core.prediction_files import write

        write(self, path, columns or {})

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Prediction:
        """What :meth:`write` wrote; needs no model."""
        from deepfield.core.prediction_files import read

        return read(path)[0]
