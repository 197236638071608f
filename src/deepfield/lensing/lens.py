"""A lens: deflectors in one plane, and all that follows from their sum."""

from __future__ import annotations

import copy
import functools
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.lensing._values import RANGES, batch_of, in_range, lift, pick, tensor
from deepfield.lensing.profiles import PROFILES, Hessian, Pair, bent_by_sie, sie_numbers
from deepfield.physics.lensing import delay_unit


@dataclass(frozen=True)
class Deflector:
    """One deflector of a kind in :data:`deepfield.lensing.profiles.PROFILES`, with its parameters.

    Made by :func:`sie` and its like. Parameters are tensors () or (B,), one for each lens of a batch.
    """

    kind: str
    parameters: Mapping[str, Tensor]

    def __post_init__(self) -> None:
        for name, value in self.parameters.items():
            in_range(name, value)

    def at(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Positions from the centre, and the profile's parameters, ready to broadcast."""
        lifted = {name: lift(value, x) for name, value in self.parameters.items()}
        names = PROFILES[self.kind][0]
        return x - lifted["x"], y - lifted["y"], [lifted[name] for name in names]

    def ready(self) -> tuple[Callable[..., Pair], tuple[Tensor, ...]]:
        """A function of position and numbers that gives the deflection, and these numbers, the centre first."""
        p = self.parameters
        if self.kind == "sie" and not torch.is_grad_enabled():
            return bent_by_sie, (p["x"], p["y"], *sie_numbers(p["theta_e"], p["q"], p["phi"]))
        names, _, bend, _ = PROFILES[self.kind]
        return bend, (p["x"], p["y"], *(p[name] for name in names))


def _deflector(kind: str, **given: Any) -> Deflector:
    return Deflector(kind, {name: tensor(value, RANGES[name][0]) for name, value in given.items()})


def point_mass(theta_e: Any, *, x: Any = 0.0, y: Any = 0.0) -> Deflector:
    """A point mass with Einstein radius ``theta_e`` (arcsec) at (x, y).

    Raises
    ------
    DeepfieldError
        Here and below, if a parameter is not finite or out of its range.
    """
    return _deflector("point", theta_e=theta_e, x=x, y=y)


def sis(theta_e: Any, *, x: Any = 0.0, y: Any = 0.0) -> Deflector:
    """A singular isothermal sphere: :func:`sie` with q = 1."""
    return sie(theta_e, 1.0, 0.0, x=x, y=y)


def sie(theta_e: Any, q: Any, phi: Any, *, x: Any = 0.0, y: Any = 0.0) -> Deflector:
    """A singular isothermal ellipsoid: see :func:`deepfield.lensing.profiles.sie_deflection`.

    Parameters
    ----------
    theta_e : float, Tensor (B,) or Quantity
        Einstein radius, arcsec, at least 0.
    q : float or Tensor (B,)
        Axis ratio, in (0, 1].
    phi : float, Tensor (B,) or Quantity
        Radians from the x axis anticlockwise to the major axis.
    x, y : float, Tensor (B,) or Quantity
        Centre, arcsec.

    Examples
    --------
    >>> import astropy.units as u
    >>> float(sie(1000 * u.mas, 0.7, 90 * u.deg).parameters["theta_e"])
    1.0
    >>> sie(1.0, 1.3, 0.0)
    Traceback (most recent call last):
    deepfield.core.errors.DeepfieldError: q lies in (0, 1], got 1.3
    """
    return _deflector("sie", theta_e=theta_e, q=q, phi=phi, x=x, y=y)


def epl(theta_e: Any, q: Any, phi: Any, slope: Any, *, x: Any = 0.0, y: Any = 0.0) -> Deflector:
    """An elliptical power law with the three-dimensional ``slope`` in (1, 3); 2 is isothermal."""
    return _deflector("epl", theta_e=theta_e, q=q, phi=phi, slope=slope, x=x, y=y)


def nfw(kappa_s: Any, r_s: Any, *, x: Any = 0.0, y: Any = 0.0) -> Deflector:
    """A halo of Navarro, Frenk & White: see :func:`deepfield.physics.lensing.nfw_halo` for kappa_s and r_s."""
    return _deflector("nfw", kappa_s=kappa_s, r_s=r_s, x=x, y=y)


def sheet(*, kappa: Any = 0.0, gamma1: Any = 0.0, gamma2: Any = 0.0, x: Any = 0.0, y: Any = 0.0) -> Deflector:
    """External convergence and shear, which deflect nothing at (x, y)."""
    return _deflector("sheet", kappa=kappa, gamma1=gamma1, gamma2=gamma2, x=x, y=y)


def shear(gamma: Any, phi: Any) -> Deflector:
    """External shear of strength ``gamma`` that stretches images along ``phi`` (radians)."""
    size, angle = tensor(gamma, ""), tensor(phi, "rad")
    return sheet(gamma1=size * torch.cos(2 * angle), gamma2=size * torch.sin(2 * angle))


@dataclass(frozen=True, init=False)
class Lens:
    """The sum of deflectors in one plane.

    Parameters
    ----------
    *deflectors : Deflector
        Each of one lens, or of a batch of B lenses.

    Notes
    -----
    Every method takes positions ``x``, ``y`` in arcsec: tensors, numbers, arrays or quantities. For one lens they
    have any shape; for a batch their first axis is that of the lenses, or of length one.

    Examples
    --------
    >>> lens = Lens(sie(1.0, 0.8, 0.3), shear(0.05, 1.1))
    >>> x, y = torch.tensor([0.9, -0.2]), torch.tensor([0.5, 1.0])
    >>> lens.magnification(x, y)
    tensor([-17.9887,   7.7528])
    """

    deflectors: tuple[Deflector, ...]

    def __init__(self, *deflectors: Deflector) -> None:
        if wrong := [d for d in deflectors if not isinstance(d, Deflector)]:
            raise DeepfieldError(f"a lens is made of deflectors, such as sie(1.0, 0.8, 0.3), not of {wrong[0]!r}")
        sizes = {len(p) for d in deflectors for p in d.parameters.values() if p.dim()} - {1}
        if not deflectors or len(sizes) > 1:
            raise DeepfieldError(
                f"a lens has one deflector or more, for as many lenses each, got {len(deflectors)} deflectors for "
                f"{sorted(sizes)} lenses"
            )
        object.__setattr__(self, "deflectors", deflectors)

    @property
    def batch(self) -> int | None:
        """How many lenses there are; None for one lens without an axis of lenses."""
        return batch_of(p for d in self.deflectors for p in d.parameters.values())

    @property
    def centres(self) -> list[Pair]:
        """Where the deflectors are that are singular at their centre."""
        return [(d.parameters["x"], d.parameters["y"]) for d in self.deflectors if d.kind != "sheet"]

    def __getitem__(self, index: Any) -> Lens:
        """The lenses of a batch with these numbers, as an index of tensors takes them."""
        return self._changed(lambda value: pick(value, index))

    def to(self, like: Tensor) -> Lens:
        """In the precision and on the device of another tensor."""
        return self._changed(lambda value: value.to(like))

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Lens:
        chosen = []
        for d in self.deflectors:
            one = copy.copy(d)  # its numbers have been looked at already
            object.__setattr__(one, "parameters", {name: change(v) for name, v in d.parameters.items()})
            chosen.append(one)
        return Lens(*chosen)

    def ready(self, like: Tensor) -> _Ready:
        """What :func:`deepfield.lensing.render.render` bends light by, in the precision and on the device of a
        tensor.
        """
        parts = (d.ready() for d in self.deflectors)
        return _Ready(tuple((bend, tuple(value.to(like) for value in numbers)) for bend, numbers in parts))

    def distance(self, x: Tensor, y: Tensor) -> Tensor:
        """Arcsec from (x, y) to the nearest centre where a deflector is singular."""
        parts = [torch.hypot(x - lift(a, x), y - lift(b, y)) for a, b in self.centres]
        return torch.stack(parts).amin(0) if parts else torch.full_like(x, math.inf)

    def _each(self, what: int, x: Any, y: Any) -> Iterator[Any]:
        """What one function of its profile (0 potential, 1 deflection, 2 Hessian) gives for each deflector."""
        x, y = tensor(x, "arcsec"), tensor(y, "arcsec")
        for d in self.deflectors:
            along, across, parameters = d.at(x, y)
            functions: tuple[Callable[..., Any], ...] = PROFILES[d.kind][1:]
            yield functions[what](along, across, *parameters)

    def potential(self, x: Any, y: Any) -> Tensor:
        """Psi in arcsec^2."""
        return functools.reduce(operator.add, self._each(0, x, y))

    def deflection(self, x: Any, y: Any) -> Pair:
        """(alpha_x, alpha_y) in arcsec."""
        along_x, along_y = zip(*self._each(1, x, y))
        return functools.reduce(operator.add, along_x), functools.reduce(operator.add, along_y)

    def hessian(self, x: Any, y: Any) -> Hessian:
        """(psi_xx, psi_xy, psi_yy)."""
        xx, xy, yy = (functools.reduce(operator.add, part) for part in zip(*self._each(2, x, y)))
        return xx, xy, yy

    def source(self, x: Any, y: Any) -> Pair:
        """Where in the source plane light seen at (x, y) comes from: beta = theta - alpha(theta)."""
        x, y = tensor(x, "arcsec"), tensor(y, "arcsec")
        along, across = self.deflection(x, y)
        return x - along, y - across

    def jacobian(self, x: Any, y: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """D beta / d theta by rows: (xx, xy, yx, yy)."""
        xx, xy, yy = self.hessian(x, y)
        return 1 - xx, -xy, -xy, 1 - yy

    def convergence(self, x: Any, y: Any) -> Tensor:
        """Kappa = Sigma / Sigma_cr, half the trace of the second derivatives."""
        xx, _, yy = self.hessian(x, y)
        return 0.5 * (xx + yy)

    def shear(self, x: Any, y: Any) -> Pair:
        """(gamma1, gamma2) = ((psi_xx - psi_yy) / 2, psi_xy)."""
        xx, xy, yy = self.hessian(x, y)
        return 0.5 * (xx - yy), xy

    def magnification(self, x: Any, y: Any) -> Tensor:
        """Area of an image over that of its source, negative where it is mirrored: 1 / det(d beta / d theta)."""
        return 1 / determinant(self.jacobian(x, y))

    def fermat(self, x: Any, y: Any, source_x: Any, source_y: Any) -> Tensor:
        """Fermat potential |theta - beta|^2 / 2 - psi in arcsec^2, of which images are the stationary points."""
        x, y = tensor(x, "arcsec"), tensor(y, "arcsec")
        along, across = x - tensor(source_x, "arcsec"), y - tensor(source_y, "arcsec")
        return 0.5 * (along**2 + across**2) - self.potential(x, y)

    def time_delay(
        self, x: Any, y: Any, source_x: Any, source_y: Any, *, z_lens: float, z_source: float, cosmo: Any = None
    ) -> Tensor:
        """Arrival time in days, up to a constant: D_dt / c times the Fermat potential."""
        return float(delay_unit(z_lens, z_source, cosmo)) * self.fermat(x, y, source_x, source_y)


@dataclass(frozen=True)
class _Ready:
    """Deflectors as many pixels need them: what they share is worked out, once."""

    parts: tuple[tuple[Callable[..., Pair], tuple[Tensor, ...]], ...]

    def __getitem__(self, index: Any) -> _Ready:
        return _Ready(
            tuple((bend, tuple(pick(value, index) for value in numbers)) for bend, numbers in self.parts)
        )

    @property
    def batch(self) -> int | None:
        return batch_of(value for _, numbers in self.parts for value in numbers)

    def source(self, x: Tensor, y: Tensor) -> Pair:
        """Where in the source plane light seen at (x, y) comes from."""
        along, across = x, y
        for bend, numbers in self.parts:
            x0, y0, *others = (lift(value, x) for value in numbers)
            bent = bend(x - x0, y - y0, *others)
            along, across = along - bent[0], across - bent[1]
        return along, across


def determinant(jacobian: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """Of 2 x 2 matrices given by rows."""
    xx, xy, yx, yy = jacobian
    return xx * yy - xy * yx


def point_mass_images(beta: Any, theta_e: Any) -> tuple[Pair, Pair]:
    """Both images of a source at distance ``beta`` (arcsec) from a point mass, and their magnifications.

    theta = (beta +- sqrt(beta^2 + 4 theta_E^2)) / 2, on the source's side and opposite; magnification
    1 / (1 - (theta_E / theta)^4) (Schneider, Ehlers & Falco 1992, eq. 2.17 and 2.24). Without a difference of like
    numbers, so that the faint image of a distant source is precise too.

    Examples
    --------
    >>> (outer, inner), (bright, faint) = point_mass_images(1.5, 1.0)
    >>> float(outer), float(inner), round(float(bright + faint), 12)
    (2.0, -0.5, 1.0)
    """
    beta, radius = tensor(beta, "arcsec"), tensor(theta_e, "arcsec")
    in_range("theta_e", radius)
    outer = 0.5 * (beta.abs() + torch.sqrt(beta**2 + 4 * radius**2))
    inner = -(radius**2) / outer
    ratio = (radius / outer) ** 4
    side = torch.where(beta < 0, -1.0, 1.0)
    gap = beta.abs() * outer * (outer**2 + radius**2) / outer**4  # 1 - ratio, as outer^2 - radius^2 = beta outer
    return (side * outer, side * inner), (1 / gap, -ratio / gap)
