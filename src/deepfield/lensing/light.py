"""Light of lenses and sources."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from deepfield.lensing._values import batch_of, in_range, lift, pick, tensor
from deepfield.physics import galaxies as ga


@dataclass(frozen=True)
class Sersic:
    """An elliptical Sersic profile.

    Parameters
    ----------
    flux : float or Tensor (B,)
        All of it, in any unit.
    r_e : float, Tensor (B,) or Quantity
        Half-light radius along the major axis, arcsec, as in :func:`deepfield.physics.galaxies.sersic` and in
        caustics. lenstronomy and COOLEST have sqrt(major minor), which is sqrt(q) times this.
    n : float or Tensor (B,)
        Sersic index, 0.3 to 10.
    q : float or Tensor (B,)
        Axis ratio in (0, 1].
    phi : float, Tensor (B,) or Quantity
        Radians from the x axis anticlockwise to the major axis.
    x, y : float, Tensor (B,) or Quantity
        Centre, arcsec.

    Raises
    ------
    DeepfieldError
        If a parameter is not finite or out of its range.

    Examples
    --------
    >>> light = Sersic(flux=10.0, r_e=0.5, n=1.0, q=0.5)
    >>> x = torch.tensor([0.5, 0.0], dtype=torch.float64)
    >>> light.brightness(x, x.flip(0) / 2)  # the same along the ellipse
    tensor([6.6955, 6.6955], dtype=torch.float64)
    """

    flux: Any
    r_e: Any
    n: Any = 1.0
    q: Any = 1.0
    phi: Any = 0.0
    x: Any = 0.0
    y: Any = 0.0

    def __post_init__(self) -> None:
        units = {"r_e": "arcsec", "x": "arcsec", "y": "arcsec", "phi": "rad"}
        for field in fields(self):
            value = tensor(getattr(self, field.name), units.get(field.name, ""))
            in_range(field.name, value)
            object.__setattr__(self, field.name, value)

    def __getitem__(self, index: Any) -> Sersic:
        """The objects of a batch with these numbers."""
        return self._changed(lambda value: pick(value, index))

    def to(self, like: Tensor) -> Sersic:
        """In the precision and on the device of another tensor."""
        return self._changed(lambda value: value.to(like))

    def ready(self, like: Tensor) -> _Ready:
        """What :func:`deepfield.lensing.render.render` paints, in the precision and on the device of a tensor."""
        flux, r_e, n, q = self.flux, self.r_e, self.n, self.q
        cos, sin, b = torch.cos(self.phi) / r_e, torch.sin(self.phi) / r_e, ga.sersic_b(n)
        central = flux / q * ga.sersic(r_e, n, r_e) * torch.exp(b)
        # Powers of two take less time than exponentials.
        found = (self.x, self.y, cos, sin, cos / q, sin / q, 0.5 / n, b / math.log(2), central)
        return _Ready(tuple(value.to(like) for value in found))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Sersic:
        one = copy.copy(self)  # its numbers have been looked at already
        for field in fields(self):
            object.__setattr__(one, field.name, change(getattr(self, field.name)))
        return one

    @property
    def batch(self) -> int | None:
        """How many objects there are; None for one that all lenses share."""
        return batch_of(getattr(self, field.name) for field in fields(self))

    def brightness(self, x: Any, y: Any) -> Tensor:
        """Surface brightness at (x, y) arcsec, in units of flux per arcsec^2; positions as for a lens."""
        x, y = tensor(x, "arcsec"), tensor(y, "arcsec")
        return self.ready(x).brightness(x, y)


@dataclass(frozen=True)
class _Ready:
    """A Sersic profile as pixels need it: what they share is worked out, once."""

    numbers: tuple[Tensor, ...]

    def __getitem__(self, index: Any) -> _Ready:
        return _Ready(tuple(pick(value, index) for value in self.numbers))

    def ready(self, like: Tensor) -> _Ready:
        return _Ready(tuple(value.to(like) for value in self.numbers))

    @property
    def batch(self) -> int | None:
        return batch_of(self.numbers)

    def brightness(self, x: Tensor, y: Tensor) -> Tensor:
        x0, y0, cos, sin, cos_q, sin_q, power, steep, central = (lift(value, x) for value in self.numbers)
        x, y = x - x0, y - y0
        major, minor = cos * x + sin * y, cos_q * y - sin_q * x
        # Not quite the centre, where n above 1 has an infinite slope.
        radius2 = torch.addcmul(torch.addcmul(x.new_tensor(1e-12), major, major), minor, minor)
        return central * torch.exp2(-steep * torch.exp2(torch.log2(radius2) * power))
