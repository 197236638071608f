"""Deflectors in closed form: potential, deflection and second derivatives.

Plain functions of torch tensors that broadcast, differentiable in every argument, in the precision they are given.
``x`` and ``y`` are arcsec from the deflector's centre, x to the right and y up. Each profile has

- ``*_potential``: psi in arcsec^2, whose gradient is the deflection,
- ``*_deflection``: (alpha_x, alpha_y) in arcsec, so that a source is seen at beta = theta - alpha(theta),
- ``*_hessian``: (psi_xx, psi_xy, psi_yy), whose half trace is kappa = Sigma / Sigma_cr.

Ellipses have the axis ratio ``q`` = minor / major in (0, 1] of the surface density, and ``phi``, radians from the
x axis anticlockwise to the major axis. Radii of ellipses are sqrt(major * minor): the Einstein radius is that of
the circle of the same area, within which the mean kappa is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Value = Tensor | float
Pair = tuple[Tensor, Tensor]
Hessian = tuple[Tensor, Tensor, Tensor]

_NEAR, _TERMS = 0.01, 8  # 0.01^8 is the precision of float64
_ARCTAN, _ARTANH = math.atan(math.sqrt(_NEAR)) / math.sqrt(_NEAR), math.atanh(math.sqrt(_NEAR)) / math.sqrt(_NEAR)


def point_potential(x: Tensor, y: Tensor, theta_e: Value) -> Tensor:
    """theta_E^2 ln r of a point mass (Schneider, Ehlers & Falco 1992, eq. 8.25)."""
    return 0.5 * theta_e**2 * torch.log(_square(x, y))


def point_deflection(x: Tensor, y: Tensor, theta_e: Value) -> Pair:
    """theta_E^2 / r away from a point mass.

    Examples
    --------
    >>> point_deflection(torch.tensor(2.0), torch.tensor(0.0), 1.0)[0]
    tensor(0.5000)
    """
    factor = theta_e**2 / _square(x, y)
    return factor * x, factor * y


def point_hessian(x: Tensor, y: Tensor, theta_e: Value) -> Hessian:
    """Second derivatives of theta_E^2 ln r; kappa is zero but at the mass itself."""
    r2 = _square(x, y)
    factor = theta_e**2 / r2
    first, second = factor * (y * y - x * x) / r2, -2 * factor * x * y / r2
    return first, second, -first


def sie_potential(x: Tensor, y: Tensor, theta_e: Value, q: Value, phi: Value) -> Tensor:
    """Singular isothermal ellipsoid: x alpha_x + y alpha_y, as the deflection does not depend on the radius."""
    along, across = sie_deflection(x, y, theta_e, q, phi)
    return x * along + y * across


def sie_deflection(x: Tensor, y: Tensor, theta_e: Value, q: Value, phi: Value) -> Pair:
    """Deflection of kappa = theta_E / (2 sqrt(q x^2 + y^2 / q)), x along the major axis.

    theta_E sqrt(q) / s (arctan(s x / R), artanh(s y / R)) with s^2 = 1 - q^2 and R^2 = q^2 x^2 + y^2 (Kormann,
    Schneider & Bartelmann 1994, A&A 284, 285, eq. 27), written so that q = 1 is no special case: values and
    derivatives pass through it smoothly.

    Examples
    --------
    >>> x, y = torch.tensor(3.0), torch.tensor(4.0)
    >>> torch.stack(sie_deflection(x, y, 1.0, 1.0, 0.0))
    tensor([0.6000, 0.8000])
    """
    q = _tensor(q, x)
    major, minor, cos, sin = _turned(x, y, phi)
    inverse = torch.rsqrt(_square(q * major, minor))
    u, v = major * inverse, minor * inverse
    flat2, scale = (1 - q) * (1 + q), theta_e * torch.sqrt(q)
    along = scale * u * _arctan_ratio(flat2 * u * u)
    across = scale * v * _artanh_ratio(flat2 * v * v, _rest(q, u, v))
    return cos * along - sin * across, sin * along + cos * across


def sie_numbers(theta_e: Tensor, q: Tensor, phi: Tensor) -> tuple[Tensor, ...]:
    """What all pixels share of :func:`sie_deflection`: cos, sin, q, s and theta_E sqrt(q) / s.

    For values alone: where q = 1, s has no derivative.
    """
    s = torch.sqrt(((1 - q) * (1 + q)).clamp_min(_tiny(q)))
    return torch.cos(phi), torch.sin(phi), q, s, theta_e * torch.sqrt(q) / s


def bent_by_sie(x: Tensor, y: Tensor, cos: Tensor, sin: Tensor, q: Tensor, s: Tensor, scale: Tensor) -> Pair:
    """:func:`sie_deflection` from :func:`sie_numbers`."""
    major, minor = cos * x + sin * y, cos * y - sin * x
    inverse = torch.rsqrt(_square(q * major, minor))
    u, v = major * inverse, minor * inverse
    along = scale * _arctan(s * u)
    across = scale * torch.copysign(_artanh((s * v).abs(), _rest(q, u, v)), v)
    return cos * along - sin * across, sin * along + cos * across


def _rest(q: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """1 - s^2 v^2 = q^2 r^2 / R^2, without a difference, as r^2 / R^2 = u^2 + v^2."""
    return q * q * (u * u + v * v)


def sie_hessian(x: Tensor, y: Tensor, theta_e: Value, q: Value, phi: Value) -> Hessian:
    """Second derivatives of the isothermal ellipsoid, whose shear is kappa along each circle: no trigonometry."""
    q = _tensor(q, x)
    major, minor, _, _ = _turned(x, y, phi)
    double = theta_e * torch.sqrt(q) * torch.rsqrt(_square(q * major, minor)) / _square(x, y)
    return double * y * y, -double * x * y, double * x * x


def epl_potential(x: Tensor, y: Tensor, theta_e: Value, q: Value, phi: Value, slope: Value) -> Tensor:
    """Elliptical power law: (x alpha_x + y alpha_y) / (3 - slope) (Tessore & Metcalf 2015, eq. 15)."""
    along, across = epl_deflection(x, y, theta_e, q, phi, slope)
    return (x * along + y * across) / (3 - slope)


def epl_deflection(x: Tensor, y: Tensor, theta_e: Value, q: Value, phi: Value, slope: Value) -> Pair:
    """Deflection of kappa = (3 - slope) / 2 (theta_E / sqrt(q x^2 + y^2 / q))^(slope - 1), slope in (1, 3).

    Tessore & Metcalf (2015, A&A 580, A79, arXiv:1507.01819), eq. 13 with t = slope - 1, R^2 = q^2 x^2 + y^2 and
    b = theta_E sqrt(q): alpha = 2 b / (1 + q) (b / R)^(t - 1) e^(i phi) 2F1(1, t/2; 2 - t/2; -f e^(2 i phi)),
    f = (1 - q) / (1 + q). The series is summed from its small end; its length is that which the flattest lens
    needs for full precision (91 terms at q = 0.2, 15 at 0.8 in float64).

    Examples
    --------
    >>> x, y = torch.tensor(0.3), torch.tensor(-1.1)
    >>> isothermal, power_law = sie_deflection(x, y, 1.2, 0.6, 0.4), epl_deflection(x, y, 1.2, 0.6, 0.4, 2.0)
    >>> torch.allclose(torch.stack(isothermal), torch.stack(power_law))
    True
    """
    q, t = _tensor(q, x), _tensor(slope, x) - 1
    major, minor, cos, sin = _turned(x, y, phi)
    radius2 = _square(q * major, minor)
    inverse = torch.rsqrt(radius2)
    c, s = q * major * inverse, minor * inverse
    flat = (1 - q) / (1 + q)
    real, imaginary = _series(-flat * (c * c - s * s), -2 * flat * c * s, t, _length(flat, x.dtype))
    b = theta_e * torch.sqrt(q)
    scale = 2 * b / (1 + q) * (b * inverse) ** (t - 1)
    along, across = scale * (c * real - s * imaginary), scale * (c * imaginary + s * real)
    return cos * along - sin * across, sin * along + cos * across


def epl_hessian(x: Tensor, y: Tensor, theta_e: Value, q: Value, phi: Value, slope: Value) -> Hessian:
    """Second derivatives of the power law; gamma = ((1 - t) alpha z - kappa z^2) / |z|^2 (the same, eq. 17)."""
    q, t = _tensor(q, x), _tensor(slope, x) - 1
    along, across = epl_deflection(x, y, theta_e, q, phi, slope)
    major, minor, _, _ = _turned(x, y, phi)
    kappa = (2 - t) / 2 * (theta_e * torch.sqrt(q) * torch.rsqrt(_square(q * major, minor))) ** t
    r2 = _square(x, y)
    gamma1 = ((1 - t) * (along * x - across * y) - kappa * (x * x - y * y)) / r2
    gamma2 = ((1 - t) * (along * y + across * x) - 2 * kappa * x * y) / r2
    return kappa + gamma1, gamma2, kappa - gamma1


def nfw_potential(x: Tensor, y: Tensor, kappa_s: Value, r_s: Value) -> Tensor:
    """2 kappa_s r_s^2 (ln^2(u/2) - arcosh^2(1/u)), u = r / r_s (Meneghetti et al. 2003, eq. 14)."""
    u2, far = _radius2(x, y, r_s)
    log = 0.5 * torch.log(u2) - math.log(2)
    ratio = arctan_ratio(u2 - 1, u2)
    inner = torch.where(far, 0.25, u2)
    root = torch.sqrt(1 - inner)
    near = (log - ratio * root) * torch.log1p(-0.5 * inner / (1 + root))  # the same without a difference
    return 2 * kappa_s * r_s**2 * torch.where(far, log * log + (u2 - 1) * ratio * ratio, near)


def nfw_deflection(x: Tensor, y: Tensor, kappa_s: Value, r_s: Value) -> Pair:
    """4 kappa_s r_s (ln(u/2) + arcosh(1/u) / sqrt(1 - u^2)) / u away from the halo's centre.

    Of rho = rho_s / (u (1 + u)^2) with kappa_s = rho_s r_s / Sigma_cr (Bartelmann 1996, A&A 313, 697;
    :func:`deepfield.physics.lensing.nfw_halo` gives it for a mass).

    Examples
    --------
    >>> nfw_deflection(torch.tensor(5.0), torch.tensor(0.0), 0.1, 5.0)[0]  # 4 kappa_s r_s (1 - ln 2)
    tensor(0.6137)
    """
    mean = _nfw_mean(*_radius2(x, y, r_s), kappa_s)
    return mean * x, mean * y


def nfw_hessian(x: Tensor, y: Tensor, kappa_s: Value, r_s: Value) -> Hessian:
    """Kappa = 2 kappa_s (1 - arcosh(1/u) / sqrt(1 - u^2)) / (u^2 - 1) and its shear (Wright & Brainerd 2000)."""
    u2, far = _radius2(x, y, r_s)
    mean = _nfw_mean(u2, far, kappa_s)
    kappa = 2 * kappa_s * _arctan_fall(u2 - 1, u2)
    excess = (kappa - mean) / _square(x, y)
    gamma1, gamma2 = excess * (x * x - y * y), 2 * excess * x * y
    return kappa + gamma1, gamma2, kappa - gamma1


def sheet_potential(x: Tensor, y: Tensor, kappa: Value, gamma1: Value, gamma2: Value) -> Tensor:
    """External convergence and shear: kappa (x^2 + y^2) / 2 + gamma1 (x^2 - y^2) / 2 + gamma2 x y."""
    along, across = sheet_deflection(x, y, kappa, gamma1, gamma2)
    return 0.5 * (x * along + y * across)


def sheet_deflection(x: Tensor, y: Tensor, kappa: Value, gamma1: Value, gamma2: Value) -> Pair:
    """Linear deflection; a positive gamma1 stretches images along x, a positive gamma2 along x = y."""
    return (kappa + gamma1) * x + gamma2 * y, gamma2 * x + (kappa - gamma1) * y


def sheet_hessian(x: Tensor, y: Tensor, kappa: Value, gamma1: Value, gamma2: Value) -> Hessian:
    """The same everywhere."""
    one = torch.ones_like(x * y)
    return (kappa + gamma1) * one, gamma2 * one, (kappa - gamma1) * one


def arctan_ratio(w: Tensor, one_plus_w: Tensor) -> Tensor:
    """arctan(sqrt w) / sqrt w, which for w < 0 is artanh(sqrt -w) / sqrt -w: one smooth function of w > -1.

    ``one_plus_w`` is given by the caller, who knows it without a difference where w is close to -1.

    Examples
    --------
    >>> w = torch.tensor([3.0, 0.0, -0.75])
    >>> arctan_ratio(w, 1 + w)  # (pi / 3) / sqrt 3, 1, artanh(sqrt 0.75) / sqrt 0.75
    tensor([0.6046, 1.0000, 1.5207])
    """
    positive = _arctan_ratio(w.clamp_min(0))
    below = w < 0
    negative = _artanh_ratio(torch.where(below, -w, 0.0), torch.where(below, one_plus_w, 1.0))
    return positive + negative - 1  # the other one is 1


def _arctan_ratio(w: Tensor) -> Tensor:
    """arctan(sqrt w) / sqrt w for w >= 0."""
    far, near = _parted(w)
    root = torch.sqrt(far)
    ratio = _arctan(root) / root
    return ratio if near is None else ratio + _even_series(-near, 1) - _ARCTAN


def _artanh_ratio(w: Tensor, one_less_w: Tensor) -> Tensor:
    """artanh(sqrt w) / sqrt w for 0 <= w < 1, with 1 - w as the caller knows it."""
    far, near = _parted(w)
    root = torch.sqrt(far)
    ratio = _artanh(root, one_less_w if near is None else one_less_w.clamp_max(1 - _NEAR)) / root
    return ratio if near is None else ratio + _even_series(near, 1) - _ARTANH


def _arctan(x: Tensor) -> Tensor:
    """Of two ways the faster."""
    return torch.atan(x) if torch.compiler.is_compiling() else torch.atan2(x, x.new_ones(()))


def _artanh(x: Tensor, one_less_x2: Tensor) -> Tensor:
    """Of 0 <= x < 1, with 1 - x^2 as the caller knows it."""
    return 0.5 * torch.log1p(2 * x * (1 + x) / one_less_x2.clamp_min(8 * _tiny(x)))


def _parted(w: Tensor) -> tuple[Tensor, Tensor | None]:
    """What of w >= 0 is above ``_NEAR``, and below: f(w) = f(max(w, N)) + f(min(w, N)) - f(N), the second by a
    series.

    Near zero the closed forms are precise but their derivatives are not; where none are asked for there is one
    part.
    """
    if torch.is_grad_enabled():
        return w.clamp_min(_NEAR), w.clamp_max(_NEAR)
    return w.clamp_min(_tiny(w)), None


def _arctan_fall(w: Tensor, one_plus_w: Tensor) -> Tensor:
    """(1 - arctan_ratio(w)) / w, through w = 0."""
    small = w.abs() < _NEAR
    direct = (1 - arctan_ratio(w, one_plus_w)) / torch.where(small, 1.0, w)
    return torch.where(small, _even_series(torch.where(small, -w, 0.0), 3), direct)


def _even_series(w: Tensor, first: int) -> Tensor:
    """1 / first + w / (first + 2) + w^2 / (first + 4) + ..., for |w| up to ``_NEAR``."""
    terms = _TERMS if w.dtype == torch.float64 else _TERMS // 2
    total = w / (first + 2 * terms)
    for k in range(terms - 1, 0, -1):
        total = (total + 1 / (first + 2 * k)) * w
    return total + 1 / first


def _series(real: Tensor, imaginary: Tensor, t: Tensor, terms: int) -> Pair:
    """2F1(1, t/2; 2 - t/2; z) by Horner's rule: term n is (2n - 2 + t) / (2n + 2 - t) z times the one before."""
    total_r, total_i = torch.ones_like(real), torch.zeros_like(real)
    for n in range(terms, 0, -1):
        c = (2 * n - 2 + t) / (2 * n + 2 - t)
        product = real * total_r - imaginary * total_i
        total_i = c * (real * total_i + imaginary * total_r)
        total_r = 1 + c * product
    return total_r, total_i


def _length(flat: Tensor, dtype: torch.dtype) -> int:
    worst = float(flat.detach().max())
    if worst < 1e-12:
        return 1
    return math.ceil(math.log(torch.finfo(dtype).eps) / math.log(min(worst, 0.999)))


def _nfw_mean(u2: Tensor, far: Tensor, kappa_s: Value) -> Tensor:
    """Mean kappa within the radius."""
    ratio = arctan_ratio(u2 - 1, u2)
    inner = torch.where(far, 0.25, u2)
    root = torch.sqrt(1 - inner)
    near = ratio / (1 + root) + torch.log1p(-0.5 * inner / (1 + root)) / inner  # the same without a difference
    return 4 * kappa_s * torch.where(far, (0.5 * torch.log(u2) - math.log(2) + ratio) / u2, near)


def _radius2(x: Tensor, y: Tensor, r_s: Value) -> tuple[Tensor, Tensor]:
    u2 = _square(x / r_s, y / r_s)
    return u2, u2 > 0.25


def _turned(x: Tensor, y: Tensor, phi: Value) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coordinates along the axes of an ellipse, and the cosine and sine of its angle."""
    phi = _tensor(phi, x)
    cos, sin = torch.cos(phi), torch.sin(phi)
    return cos * x + sin * y, cos * y - sin * x, cos, sin


def _square(x: Tensor, y: Tensor) -> Tensor:
    """x^2 + y^2, never quite zero: at the centre itself deflections are zero and kappa is huge."""
    return (x * x + y * y).clamp_min(_tiny(x))


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


def _tensor(value: Value, like: Tensor) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=like.dtype, device=like.device)


PROFILES: dict[str, tuple[tuple[str, ...], Callable[..., Tensor], Callable[..., Pair], Callable[..., Hessian]]] = {
    "point": (("theta_e",), point_potential, point_deflection, point_hessian),
    "sie": (("theta_e", "q", "phi"), sie_potential, sie_deflection, sie_hessian),
    "epl": (("theta_e", "q", "phi", "slope"), epl_potential, epl_deflection, epl_hessian),
    "nfw": (("kappa_s", "r_s"), nfw_potential, nfw_deflection, nfw_hessian),
    "sheet": (("kappa", "gamma1", "gamma2"), sheet_potential, sheet_deflection, sheet_hessian),
}
"""For each kind of deflector its parameters and its three functions."""
