"""What the nets see of the data: finite numbers of order one, heavy tails drawn in, constants left out.

The same fixed map of the data serves all three estimators. Its Jacobian does not depend on the parameters, so it
drops out of every posterior and of every ratio of likelihoods.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")

_HEAVY = 8.0
"""A column whose 99.9 % quantile lies this many half-widths out is heavy-tailed; a Gaussian's lies at 3.3."""


@dataclass(frozen=True)
class Encoding:
    """Shift, scale and asinh of each number of a vector, or of each channel of a sequence or a map.

    Parameters
    ----------
    shape : tuple of int
        Of the data of one simulation: (K,), (channels, length) or (channels, height, width).
    keep : Array
        The columns that vary.
    centre, width : Array
        Median and half-width of the simulations, in the data's unit.
    heavy : Array of bool
        Where asinh is taken.
    shift, scale : Array
        Mean and spread of what comes out.
    """

    shape: tuple[int, ...]
    keep: NDArray[np.intp]
    centre: Array
    width: Array
    heavy: NDArray[np.bool_]
    shift: Array
    scale: Array

    @classmethod
    def fit(cls, x: Array) -> Encoding:
        """Learn the scales from simulations (N, K), (N, channels, length) or (N, channels, height, width).

        Raises
        ------
        DeepfieldError
            If no number of the data varies, or their shape is another.
        """
        if x.ndim not in (2, 3, 4):
            raise DeepfieldError(
                "one simulation gives a vector, a sequence (channels, length) or a map (channels, height, width), "
                f"not the shape {x.shape[1:]}"
            )
        if x.ndim == 3 and x.shape[1] >= x.shape[2]:
            log.warning(
                "the data are read as sequences of %d channels and length %d; a map of one channel has the shape "
                "(1, %d, %d)", x.shape[1], x.shape[2], x.shape[1], x.shape[2]
            )  # fmt: skip
        flat = _columns(x)
        low, centre, high, far_low, far_high = np.quantile(flat, [0.1587, 0.5, 0.8413, 0.0005, 0.9995], axis=0)
        width, spread = 0.5 * (high - low), flat.std(0)
        width = np.where(width > 1e-9 * (np.abs(centre) + 1e-300), width, spread)
        varies = spread > 1e-9 * np.abs(centre)
        if not varies.any():
            raise DeepfieldError("the data are the same in every simulation: they say nothing of the parameters")
        if not varies.all():
            log.warning("%d of %d columns of the data are constant and are left out", (~varies).sum(), len(varies))
        keep = np.flatnonzero(varies)
        centre, width = centre[keep], width[keep]
        heavy = np.maximum(far_high[keep] - centre, centre - far_low[keep]) > _HEAVY * width
        first = cls(tuple(x.shape[1:]), keep, centre, width, heavy, np.zeros(len(keep)), np.ones(len(keep)))
        inner = _columns(first._apply(x))
        return cls(first.shape, keep, centre, width, heavy, inner.mean(0), inner.std(0))

    @property
    def kind(self) -> str:
        """What the data are: vectors, sequences or maps."""
        return {1: "vectors", 2: "sequences", 3: "maps"}[len(self.shape)]

    @property
    def dim(self) -> int:
        """Numbers of a vector, or channels of a sequence or a map, that come out."""
        return len(self.keep)

    def rows(self, x: ArrayLike) -> Array:
        """One observation or several, as (N, ...).

        Raises
        ------
        DeepfieldError
            If the shape is not that of the simulations, or a number is not finite.
        """
        data = np.asarray(x, dtype=np.float64)
        if self.shape == (1,) and data.ndim == 0:
            data = data[None]
        data = data[None] if data.shape == self.shape else data
        if data.shape[1:] != self.shape:
            raise DeepfieldError(f"an observation has the shape {self.shape} of the simulations, not {data.shape}")
        if not np.isfinite(data).all():
            raise DeepfieldError("the observation holds NaN or infinite numbers")
        return data

    def _apply(self, x: Array) -> Array:
        tail = (-1,) + (1,) * (len(self.shape) - 1)
        centre, width, shift, scale = (p.reshape(tail) for p in (self.centre, self.width, self.shift, self.scale))
        z = (x[:, self.keep] - centre) / width
        heavy = self.heavy.reshape(tail)
        return (np.where(heavy, np.arcsinh(np.where(heavy, z, 0.0)), z) - shift) / scale

    def __call__(self, x: ArrayLike) -> Tensor:
        """Float32 (N, dim, ...) of data (N, ...) or of one observation."""
        return torch.from_numpy(self._apply(self.rows(x)).astype(np.float32))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "shape": list(self.shape),
            "keep": self.keep.tolist(),
            "heavy": self.heavy.tolist(),
            **{name: getattr(self, name).tolist() for name in ("centre", "width", "shift", "scale")},
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Encoding:
        """The inverse of :meth:`to_dict`."""
        arrays = {name: np.asarray(content[name], dtype=float) for name in ("centre", "width", "shift", "scale")}
        keep, heavy = np.asarray(content["keep"], dtype=np.intp), np.asarray(content["heavy"], dtype=bool)
        shape = tuple(int(n) for n in content["shape"])
        lengths = {len(keep), len(heavy), *(a.size for a in arrays.values())}
        if (
            len(lengths) != 1
            or len(shape) not in (1, 2, 3)
            or not len(keep)
            or not 0 <= keep.min() <= keep.max() < shape[0]
        ):
            raise DeepfieldError("the description of the data is damaged")
        return cls(shape, keep, heavy=heavy, **arrays)


def _columns(x: Array) -> Array:
    """One column for each number of a vector, or for each channel (at most a million rows)."""
    if x.ndim == 2:
        return x
    flat = np.moveaxis(x, 1, -1).reshape(-1, x.shape[1])
    return flat[:: max(1, len(flat) // 1_000_000)]
