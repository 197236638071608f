"""Lenses at several redshifts in front of one source."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.lensing._values import tensor
from deepfield.lensing.lens import Lens, determinant
from deepfield.lensing.profiles import Pair
from deepfield.physics.lensing import delay_unit, distances

Matrix = tuple[Tensor, Tensor, Tensor, Tensor]


class Planes:
    """Deflectors in several planes, each deflecting light that those in front of it have bent already.

    Schneider, Ehlers & Falco (1992), section 9.1: theta_j = theta - sum over i < j of beta_ij alpha_i(theta_i),
    with beta_ij = D_ij D_s / (D_j D_is). Parameters of every lens are those for the source: theta_E is the
    Einstein radius that the source would show if the lens stood alone.

    Parameters
    ----------
    lenses : sequence of Lens
    redshifts : sequence of float
        Of the lenses, growing.
    z_source : float
    cosmo : astropy cosmology or its name, optional

    Raises
    ------
    DeepfieldError
        If the redshifts do not grow from the first lens to the source.

    Examples
    --------
    >>> from deepfield.lensing.lens import sis
    >>> planes = Planes([Lens(sis(1.0)), Lens(sis(0.3, x=0.5))], [0.3, 0.7], 2.0)
    >>> x, y = torch.tensor(1.5), torch.tensor(0.2)
    >>> [round(float(v), 4) for v in planes.source(x, y)]
    [0.2246, -0.0282]
    """

    def __init__(self, lenses: Sequence[Lens], redshifts: Sequence[float], z_source: float, cosmo: Any = None):
        z = [float(v) for v in redshifts]
        if not lenses or len(lenses) != len(z) or any(a >= b for a, b in zip(z, [*z[1:], z_source])):
            raise DeepfieldError(
                f"as many redshifts as lenses, growing up to the source, are needed: got {len(lenses)} lenses at "
                f"{z} and a source at {z_source}"
            )
        self.lenses, self.redshifts, self.z_source, self.cosmo = tuple(lenses), tuple(z), float(z_source), cosmo
        self.ratios = np.ones((len(z), len(z) + 1))
        for i, near in enumerate(z):
            _, d_source, to_source = distances(near, z_source, cosmo)
            for j in range(i + 1, len(z)):
                _, d_far, between = distances(near, z[j], cosmo)
                self.ratios[i, j] = float(between * d_source / (d_far * to_source))

    @property
    def batch(self) -> int | None:
        """How many systems there are; None for one without an axis."""
        sizes = [lens.batch for lens in self.lenses if lens.batch is not None]
        return max(sizes) if sizes else None

    @property
    def centres(self) -> list[Pair]:
        """Where in their own planes the singular deflectors are."""
        return [centre for lens in self.lenses for centre in lens.centres]

    def __getitem__(self, index: Any) -> Planes:
        chosen = object.__new__(Planes)
        chosen.__dict__.update(self.__dict__, lenses=tuple(lens[index] for lens in self.lenses))
        return chosen

    def positions(self, x: Any, y: Any) -> list[Pair]:
        """Where light seen at (x, y) passes each plane, and last the source plane, arcsec."""
        return [place for place, _ in self._trace(tensor(x, "arcsec"), tensor(y, "arcsec"), slopes=False)]

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Arcsec to the nearest centre where a deflector is singular, seen from its own plane."""
        places = self.positions(x, y)
        return torch.stack([lens.distance(*place) for lens, place in zip(self.lenses, places)]).amin(0)

    def source(self, x: Any, y: Any) -> Pair:
        """Where in the source plane light seen at (x, y) comes from."""
        return self.positions(x, y)[-1]

    def jacobian(self, x: Any, y: Any) -> Matrix:
        """D beta / d theta by rows (xx, xy, yx, yy); it need not be symmetric."""
        return self._trace(tensor(x, "arcsec"), tensor(y, "arcsec"), slopes=True)[-1][1]

    def magnification(self, x: Any, y: Any) -> Tensor:
        """1 / det(d beta / d theta)."""
        return 1 / determinant(self.jacobian(x, y))

    def _trace(self, x: Tensor, y: Tensor, *, slopes: bool) -> list[tuple[Pair, Matrix]]:
        """Position, and its derivative by the position in the sky, in each plane and in the source plane."""
        x, y = torch.broadcast_tensors(x, y)
        one, zero = torch.ones_like(x), torch.zeros_like(x)
        here: list[tuple[Pair, Matrix]] = []
        bends: list[tuple[Pair, Matrix]] = []
        for j in range(len(self.lenses) + 1):
            place, turn = [x, y], [one, zero, zero, one]
            for i, (bend, change) in enumerate(bends):
                ratio = float(self.ratios[i, j])
                place = [p - ratio * b for p, b in zip(place, bend)]
                turn = [t - ratio * c for t, c in zip(turn, change)]
            here.append(((place[0], place[1]), (turn[0], turn[1], turn[2], turn[3])))
            if j < len(self.lenses):
                bend = self.lenses[j].deflection(*place)
                change = _product(self.lenses[j].hessian(*place), here[-1][1]) if slopes else here[-1][1]
                bends.append((bend, change))
        return here

    def time_delay(self, x: Any, y: Any, source_x: Any, source_y: Any) -> Tensor:
        """Arrival time in days, up to a constant.

        Sum over planes of D_dt / c (|theta_i - theta_(i+1)|^2 / 2 - beta_(i,i+1) psi_i), the distance being that
        from the plane to the next (Schneider, Ehlers & Falco 1992, eq. 9.11; McCully et al. 2014).
        """
        x, y = tensor(x, "arcsec"), tensor(y, "arcsec")
        places = self.positions(x, y)[:-1]
        places.append((tensor(source_x, "arcsec"), tensor(source_y, "arcsec")))
        steps = [*self.redshifts, self.z_source]
        total = torch.zeros_like(places[0][0])
        for i, lens in enumerate(self.lenses):
            along, across = (a - b for a, b in zip(places[i], places[i + 1]))
            path = 0.5 * (along**2 + across**2) - float(self.ratios[i, i + 1]) * lens.potential(*places[i])
            total = total + float(delay_unit(steps[i], steps[i + 1], self.cosmo)) * path
        return total


def _product(hessian: tuple[Tensor, Tensor, Tensor], m: Matrix) -> Matrix:
    xx, xy, yy = hessian
    return xx * m[0] + xy * m[2], xx * m[1] + xy * m[3], xy * m[0] + yy * m[2], xy * m[1] + yy * m[3]
