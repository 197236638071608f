"""What a measurer says: samples of the posterior of each lens, and quantiles that cover."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.calibrators import PITMap
from deepfield.core.errors import DeepfieldError
from deepfield.lensing.lens import Lens, sheet, sie
from deepfield.lensing.model import LensingModel
from deepfield.lensing.parameters import ANGLES, NAMES, UNITS, centred, decode, encode
from deepfield.physics.lensing import einstein_mass

Array = NDArray[np.float64]
LEVELS = {"lo95": 0.02275, "lo68": 0.15866, "median": 0.5, "hi68": 0.84134, "hi95": 0.97725}
"""Suffixes of columns, and the quantiles that they hold."""
SAMPLES = 256
_AT_ONCE = 128  # images whose samples are drawn together


class Measurement:
    """Posteriors of lenses: samples of their parameters, and quantiles that cover.

    Parameters
    ----------
    model : LensingModel
        Trained to measure.
    features : Tensor (N, F)
        From :meth:`LensingModel.features`; rows of NaN have no answer.
    reasons : (N,) array of str
    samples : int
        For each lens.
    seed : int
        Of the samples.
    """

    def __init__(
        self,
        model: LensingModel,
        features: Tensor,
        reasons: NDArray[np.str_],
        *,
        samples: int = SAMPLES,
        seed: int = 0,
    ) -> None:
        if samples < 2:
            raise DeepfieldError(f"a posterior needs two samples at least, got {samples}")
        self.model, self.features, self.reasons = model, features, reasons
        self.count, self.seed = samples, seed

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        return f"<Measurement of {len(self):,} lenses: {', '.join(UNITS)}>"

    @functools.cached_property
    def coordinates(self) -> Tensor:
        """Samples (S, N, 7) in the coordinates of :data:`deepfield.lensing.parameters.NAMES`."""
        broken = torch.isnan(self.features).any(1)
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            parts = self.features.nan_to_num(0.0).split(_AT_ONCE)
            found = [self.model.model.head(part).sample(torch.Size((self.count,))) for part in parts]
        empty = torch.zeros(self.count, 0, len(NAMES))
        drawn = torch.cat(found, 1) if len(self) else empty
        drawn[:, broken] = torch.nan
        return drawn

    @functools.cached_property
    def samples(self) -> dict[str, Array]:
        """Samples (S, N) of each parameter; angles lie around the mean of each lens, beyond 0 and 180 if need be.

        As the flow draws them: the calibration is of quantiles.
        """
        found = decode(self.coordinates)
        return found | {name: centred(found[name]) for name in ANGLES}

    @functools.cached_property
    def _sorted(self) -> dict[str, Array]:
        return {name: np.sort(values, 0) for name, values in self.samples.items()}

    def _map(self, name: str) -> PITMap:
        return self.model.pit_maps.get(name) or PITMap.identity()

    def quantile(self, name: str, level: ArrayLike) -> Array:
        """Calibrated quantiles (..., N) of a parameter.

        Raises
        ------
        DeepfieldError
            If there is no such parameter, or a level is none between 0 and 1.
        """
        if name not in UNITS:
            raise DeepfieldError(f"a lens has no '{name}'; its parameters are {', '.join(UNITS)}")
        given = np.asarray(level, dtype=np.float64)
        if not ((given >= 0) & (given <= 1)).all():
            raise DeepfieldError(f"the level of a quantile lies between 0 and 1, got {given}")
        levels = self._map(name).inverse(given)
        # A further draw lies below the k-th of n samples in k / (n + 1) of all cases.
        place = np.clip(levels * (self.count + 1) - 1, 0, self.count - 1)
        low = np.floor(place).astype(int)
        high, share = np.minimum(low + 1, self.count - 1), (place - low)[..., None]
        return (1 - share) * self._sorted[name][low] + share * self._sorted[name][high]

    def interval(self, name: str, level: float) -> tuple[Array, Array]:
        """Central interval (N,), (N,) of a parameter."""
        low, high = self.quantile(name, [0.5 - 0.5 * level, 0.5 + 0.5 * level])
        return low, high

    def pit(self, truth: Any) -> dict[str, Array]:
        """Calibrated probability integral transform (N,) of each parameter.

        Parameters
        ----------
        truth : Table or Tensor (N, 7)
            With the columns of ``UNITS``, or coordinates.
        """
        y = truth if isinstance(truth, Tensor) else encode(truth)
        if y.shape != (len(self), len(NAMES)):
            raise DeepfieldError(f"{len(self)} measurements need as many truths, not {tuple(y.shape)}")
        right, found = decode(y), {}
        for name, values in self._sorted.items():
            value = right[name]
            if name in ANGLES:
                middle = np.median(values, 0)
                value = middle + (value - middle + 90) % 180 - 90
            below = ((values < value).sum(0) + 0.5) / (self.count + 1)
            found[name] = self._map(name).forward(np.where(np.isnan(values[0] + value), np.nan, below))
        return found

    def einstein_mass(
        self, z_lens: ArrayLike, z_source: ArrayLike, level: ArrayLike = 0.5, cosmo: Any = None
    ) -> Array:
        """Quantiles (..., N) of the mass within the Einstein radius, in solar masses, at given redshifts (N,).

        NaN where an image is broken or a redshift is missing.

        Raises
        ------
        DeepfieldError
            If a source is not behind its lens, with the row.
        """
        radius = self.quantile("theta_e", level)
        near, far = (self._redshifts(z) for z in (z_lens, z_source))
        if (wrong := (near <= 0) | (far <= near)).any():
            row = int(np.flatnonzero(wrong)[0])
            raise DeepfieldError(
                f"the source must lie behind the lens, and the lens at a redshift above 0: got z_lens "
                f"{near[row]:g} and z_source {far[row]:g} in row {row}"
            )
        known = np.isfinite(near + far) & np.isfinite(self._sorted["theta_e"][0])
        mass = np.full_like(radius, np.nan)
        mass[..., known] = einstein_mass(radius[..., known], near[known], far[known], cosmo)
        return mass

    def _redshifts(self, given: ArrayLike) -> Array:
        """One (N,) for each lens, NaN where it is missing."""
        masked: Any = np.ma.asarray(given).astype(np.float64)
        z = masked.filled(np.nan)
        if z.shape not in ((), (1,), (len(self),)):
            raise DeepfieldError(f"{len(self)} measurements need as many redshifts, or one, not {z.shape}")
        return np.broadcast_to(z, len(self))

    def lens(self, row: int) -> Lens:
        """The mass and the shear of one posterior, about the middle of its lens: a draw that hangs together.

        The draw nearest the median of all in :data:`deepfield.lensing.parameters.NAMES`, each coordinate in units
        of its spread; the medians of single parameters need not go together. As the flow draws it.

        Raises
        ------
        DeepfieldError
            If there is no such row, or its image is broken.
        """
        if not -len(self) <= row < len(self):
            raise DeepfieldError(f"there is no row {row} among {len(self)} lenses")
        if bool(torch.isnan(self.features[row]).any()):
            raise DeepfieldError(f"no lens is measured in row {row}: {self.reasons[row] or 'the image is broken'}")
        drawn = self.coordinates[:, row].double()
        off = (drawn - drawn.median(0)[0]) / drawn.std(0).clamp_min(1e-30)
        one = decode(drawn[off.square().sum(1).argmin()])
        value = {name: torch.as_tensor(v, dtype=torch.float64) for name, v in one.items()}
        turn = 2 * torch.deg2rad(value["shear_phi"])
        mass = sie(value["theta_e"], value["q"], torch.deg2rad(value["phi"]))
        return Lens(mass, sheet(gamma1=value["shear"] * turn.cos(), gamma2=value["shear"] * turn.sin()))

    def columns(self) -> dict[str, Array]:
        """Columns of a results file, such as ``theta_e_lo68`` and ``theta_e_median``.

        Arcsec and degrees; NaN for broken images.
        """
        levels = list(LEVELS.values())
        return {
            f"{name}_{suffix}": values
            for name in UNITS
            for suffix, values in zip(LEVELS, self.quantile(name, levels))
        }
