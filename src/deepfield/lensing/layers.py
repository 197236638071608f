"""Light that is painted in real space: what a lens bends, and what looks as if it were.

All of it is written per row in the columns of :func:`deepfield.lensing.simulate.draw`. ``body`` has the colour
of the source, ``knots`` (arms, clumps) are bluer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from deepfield.lensing.profiles import sie_deflection
from deepfield.physics import galaxies as ga

Row = Mapping[str, Tensor]
LENSED, BLOBS, RING, SPIKES, TRAIL = range(1, 6)
"""Values of ``layer``: a source behind a lens, galaxies beside it, a ring, the rays of a star, a satellite."""

_WITHIN, _BESIDE = 2.5, 0.75  # half-light radii and pixels from a source's centre that are sampled finely
_CLUMPS = 5
_SPIRAL = 2.399963  # the golden angle: clumps and companions go round by it


def light(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Surface brightness of body and knots (n, m) per arcsec^2 at (x, y) from the lens, for unit flux.

    Parameters
    ----------
    p : mapping of Tensor (n,)
    x, y : Tensor (n, m)
        Arcsec from the lens's centre.

    Returns
    -------
    body, knots, distance : Tensor (n, m)
        The third in arcsec from the nearest centre of light, in the plane where the light is.
    """
    body, knots = torch.zeros_like(x), torch.zeros_like(x)
    distance = torch.full_like(x, math.inf)
    for kind, paint in ((LENSED, _lensed), (BLOBS, _blobs), (RING, _ring), (SPIKES, _spikes), (TRAIL, _trail)):
        rows = torch.nonzero(p["layer"] == kind)[:, 0]
        if len(rows) == len(body):
            return paint({name: c[:, None] for name, c in p.items()}, x, y)
        if len(rows):
            part = {name: c[rows, None] for name, c in p.items()}
            body[rows], knots[rows], distance[rows] = paint(part, x[rows], y[rows])
    return body, knots, distance


def painted(p: Row, x: Tensor, y: Tensor, pixel: float, fine: int) -> tuple[Tensor, Tensor]:
    """Light of body and knots (n, H, W) in each pixel, of unit flux, where it is steep as means of a finer grid.

    Parameters
    ----------
    p : mapping of Tensor (n,)
    x, y : Tensor (n, H, W)
        Middles of the pixels, arcsec from the lens's centre.
    pixel : float
        Arcsec.
    fine : int
        Points along a side of a pixel near the source; for light that is bent, those pixels whose rays come from
        near it.
    """
    body, knots, distance = (v.view_as(x) for v in light(p, x.flatten(1), y.flatten(1)))
    near = distance < (_WITHIN * p["source_r_e"] + _BESIDE * pixel)[:, None, None]
    row, down, along = torch.nonzero(near).T
    if fine > 1 and len(row):
        inner = ((torch.arange(fine, device=x.device) + 0.5) / fine - 0.5).to(x) * pixel
        dx, dy = inner.repeat(fine), inner.repeat_interleave(fine)
        px, py = x[row, down, along][:, None] + dx, y[row, down, along][:, None] + dy
        finer = light({name: c[row] for name, c in p.items()}, px, py)
        body, knots = (v.index_put((row, down, along), f.mean(1)) for v, f in zip((body, knots), finer))
    return body * pixel**2, knots * pixel**2


def _lensed(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A source seen through an isothermal ellipsoid with shear."""
    alpha_x, alpha_y = sie_deflection(x, y, p["theta_e"], p["q"], torch.deg2rad(p["phi"]))
    turn = torch.deg2rad(2 * p["shear_phi"])
    g1, g2 = p["shear"] * torch.cos(turn), p["shear"] * torch.sin(turn)
    return _galaxy(p, (1 - g1) * x - g2 * y - alpha_x, (1 + g1) * y - g2 * x - alpha_y)


def _galaxy(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A Sersic disc, with arms or clumps that have part of its light."""
    x, y = x - p["source_x"], y - p["source_y"]
    turn, r_e = torch.deg2rad(p["source_phi"]), p["source_r_e"]
    cos, sin = torch.cos(turn), torch.sin(turn)
    major, minor = (cos * x + sin * y) / r_e, (cos * y - sin * x) / (r_e * p["source_q"])
    r2 = (major * major + minor * minor).clamp_min(1e-6)
    n = p["source_n"]
    centre = ga.sersic(r_e, n, r_e) / p["source_q"]
    body = centre * torch.exp(-ga.sersic_b(n) * (r2 ** (0.5 / n) - 1))
    knots = torch.zeros_like(body)
    rows = torch.nonzero(p["source_arms"][:, 0] > 0)[:, 0]
    if len(rows):
        g = {name: c[rows] for name, c in p.items()}
        turns = g["source_winding"] / torch.tan(torch.deg2rad(g["source_pitch"]))
        knots[rows] = g["source_strength"] * ga.spiral_arms(
            body[rows], major[rows], minor[rows], r2[rows], arms=g["source_arms"],
            phase=torch.deg2rad(g["source_phase"]), turn=turns,
        )  # fmt: skip
    rows = torch.nonzero(p["source_clumps"][:, 0] > 0)[:, 0]
    if len(rows):
        g = {name: c[rows] for name, c in p.items()}
        knots[rows] = _clumps(g, major[rows], minor[rows])
        body[rows] = body[rows] * (1 - g["source_strength"])
    return body, knots, torch.sqrt(r2) * r_e


def _clumps(p: Row, major: Tensor, minor: Tensor) -> Tensor:
    """Star-forming clumps along a spiral, each fainter and smaller than the one before."""
    total, count = torch.zeros_like(major), p["source_clumps"]
    weights = [(0.75**k) * (count > k) for k in range(_CLUMPS)]
    norm = sum(weights, torch.zeros_like(count))
    for k, weight in enumerate(weights):
        angle, radius = torch.deg2rad(p["source_phase"]) + _SPIRAL * k, 0.35 + 0.25 * k
        width = 0.22 - 0.02 * k
        off = (major - radius * torch.cos(angle)) ** 2 + (minor - radius * torch.sin(angle)) ** 2
        total = total + weight / width**2 * torch.exp(-off / (2 * width**2))
    area = 2 * math.pi * p["source_r_e"] ** 2 * p["source_q"]
    return p["source_strength"] * total / (norm * area)


def _blobs(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One to three galaxies at one distance; bent ones (``source_bend``, 1/arcsec) look like arcs."""
    total, knots = torch.zeros_like(x), torch.zeros_like(x)
    nearest = torch.full_like(x, math.inf)
    for k in range(3):
        turn, share = _SPIRAL * k, (p["source_number"] > k) / p["source_number"]
        if not bool((share > 0).any()):
            break
        # The k-th one is the first, turned about the lens.
        cos, sin = math.cos(turn), math.sin(turn)
        bx, by = cos * x + sin * y - p["source_x"], cos * y - sin * x - p["source_y"]
        phi = torch.deg2rad(p["source_phi"])
        along, across = torch.cos(phi) * bx + torch.sin(phi) * by, torch.cos(phi) * by - torch.sin(phi) * bx
        across = across - 0.5 * p["source_bend"] * along * along
        zero = torch.zeros_like(p["source_x"])
        straight = {**p, "source_x": zero, "source_y": zero, "source_phi": zero}
        body, own, distance = _galaxy(straight, along, across)
        total, knots = total + share * body, knots + share * own
        nearest = torch.minimum(nearest, torch.where(share > 0, distance, math.inf))
    return total, knots, nearest


def _ring(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A Gaussian ring of radius ``theta_ring`` with knots along it."""
    phi = torch.deg2rad(p["source_phi"])
    major, minor = (
        torch.cos(phi) * x + torch.sin(phi) * y,
        (torch.cos(phi) * y - torch.sin(phi) * x) / p["source_q"],
    )
    radius = torch.hypot(major, minor).clamp_min(1e-3)
    width, size = p["source_r_e"], p["ring_radius"]
    ring = torch.exp(-0.5 * ((radius - size) / width) ** 2)
    ring = ring / (2 * math.pi * math.sqrt(2 * math.pi) * size * width * p["source_q"])
    angle = torch.atan2(minor, major) - torch.deg2rad(p["source_phase"])
    wave = torch.cos(angle) + torch.cos(p["source_clumps"] * angle + 1.0)
    return ring, ring * (0.5 * p["source_strength"] * wave), (radius - size).abs() * p["source_q"]


def _spikes(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Diffraction spikes through a star in the middle, falling off as a power of the distance."""
    total, nearest = torch.zeros_like(x), torch.full_like(x, math.inf)
    width = p["source_r_e"]
    for k in range(3):
        angle = torch.deg2rad(p["source_phi"]) + math.pi * k / p["source_number"]
        along, across = torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x
        ray = torch.exp(-0.5 * (across / width) ** 2) / (1 + along * along / 0.36) ** 0.75
        total = total + (p["source_number"] > k) * ray
        nearest = torch.minimum(nearest, across.abs())
    return total, torch.zeros_like(x), nearest


def _trail(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A straight line of even brightness, past the source's place."""
    phi = torch.deg2rad(p["source_phi"])
    across = torch.cos(phi) * (y - p["source_y"]) - torch.sin(phi) * (x - p["source_x"])
    line = torch.exp(-0.5 * (across / p["source_r_e"]) ** 2)
    return line, torch.zeros_like(x), across.abs()
