"""Light that is painted in real space: what a lens bends, and what looks as if it were.

All of it is written per row in the columns of :func:`deepfield.lensing.simulate.draw`. ``body`` has the colour
of the source, ``knots`` (arms, clumps) are bluer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from deepfield.lensing.profiles import sie_deflection
from deepfield.physics import galaxies as ga

Row = Mapping[str, Tensor]
LENSED, BLOBS, RING, SPIKES, TRAIL = range(1, 6)
"""Values of ``layer``: a source behind a lens, galaxies beside it, a ring, the rays of a star, a satellite."""

_FINE, _COARSE, _BESIDE = 2.5, 7.0, 0.75  # half-light radii, and pixels more, within which light is sampled so
_CLUMPS = 5
_SPIRAL = 2.399963  # the golden angle: clumps and companions go round by it
_NAMES = (
    "theta_e", "q", "phi", "shear", "shear_phi", "source_x", "source_y", "source_r_e", "source_q", "source_phi",
    "source_n", "source_arms", "source_winding", "source_pitch", "source_strength", "source_clumps",
    "source_phase", "source_bend", "source_number", "ring_radius",
)  # fmt: skip


def painted(t: Row, x: Tensor, y: Tensor, pixel: float, fine: int) -> tuple[Tensor, Tensor]:
    """Light of body and knots (n, H, W) in each pixel, for sources of unit flux.

    Parameters
    ----------
    t : mapping of Tensor (n,)
        ``layer`` and the columns of the source, and of the lens where there is one.
    x, y : Tensor (n, H, W)
        Middles of the pixels, arcsec from the lens's centre.
    pixel : float
        Arcsec.
    fine : int
        Points along a side of a pixel near the source; for light that is bent, those pixels whose rays come from
        near it. Further out the middle of a pixel is enough, and far out there is no light.
    """
    body, knots = torch.zeros_like(x), torch.zeros_like(x)
    inner = (((torch.arange(fine, device=x.device) + 0.5) / fine - 0.5) * pixel).to(x)
    dx, dy = inner.repeat(fine), inner.repeat_interleave(fine)
    for kind, (to_source, light) in _LIGHTS.items():
        rows = torch.nonzero(t["layer"] == kind)[:, 0]
        if not len(rows):
            continue
        n, r_e, q = (t[f"source_{name}"][rows] for name in ("n", "r_e", "q"))
        derived = ga.sersic_b(n), ga.sersic(0.0, n, r_e) / q
        p = _named(torch.stack([*(t[name][rows] for name in _NAMES), *derived], 1))
        flat_x, flat_y = x[rows].flatten(1), y[rows].flatten(1)
        row, place = torch.nonzero(flat_x**2 + flat_y**2 < (_reach(p, kind) + pixel) ** 2).T
        px, py, g = flat_x[row, place][:, None], flat_y[row, place][:, None], _rows(p, row)
        distance, size, margin = to_source(g, px, py)[2], g["source_r_e"], _BESIDE * pixel
        near = distance < _FINE * size + margin
        coarse = ~near & (distance < _COARSE * size + margin)
        for chosen, ox, oy in ((near, dx, dy), (coarse, 0 * dx[:1], 0 * dx[:1])):
            at = torch.nonzero(chosen[:, 0])[:, 0]
            h = _rows(g, at)
            parts = light(h, *to_source(h, px[at] + ox, py[at] + oy))
            for plane, part in zip((body, knots), parts):
                plane.view(len(plane), -1)[rows[row[at]], place[at]] = part.mean(1) * pixel**2
    return body, knots


def _named(table: Tensor) -> Row:
    """Columns (m, 1) of a table, and the table itself, from which rows are taken in one go."""
    return {"": table, **{name: table[:, k : k + 1] for k, name in enumerate((*_NAMES, "b", "centre"))}}


def _rows(p: Row, rows: Tensor) -> Row:
    return _named(p[""][rows])


def _reach(p: Row, kind: int) -> Tensor:
    """Arcsec from the lens beyond which it is dark (n, 1); an isothermal lens bends by 1.07 theta_E at most."""
    size, away = _COARSE * p["source_r_e"], torch.hypot(p["source_x"], p["source_y"])
    if kind == LENSED:
        return (1.1 * p["theta_e"] + away + size) / (1 - p["shear"])
    if kind == BLOBS:
        return away + size + 0.5 * p["source_bend"].abs() * size**2
    return p["ring_radius"] + size / p["source_q"] if kind == RING else torch.full_like(away, math.inf)


def _bent(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates along a source's axes, in half-light radii, behind an isothermal ellipsoid with shear."""
    alpha_x, alpha_y = sie_deflection(x, y, p["theta_e"], p["q"], torch.deg2rad(p["phi"]))
    turn = torch.deg2rad(2 * p["shear_phi"])
    g1, g2 = p["shear"] * torch.cos(turn), p["shear"] * torch.sin(turn)
    x, y = (1 - g1) * x - g2 * y - alpha_x, (1 + g1) * y - g2 * x - alpha_y
    return _along(p, x - p["source_x"], y - p["source_y"])


def _along(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates along the axes of an ellipse, in units of its size, and arcsec from its middle."""
    phi = torch.deg2rad(p["source_phi"])
    cos, sin = torch.cos(phi), torch.sin(phi)
    along, across = cos * x + sin * y, cos * y - sin * x
    across = across - 0.5 * p["source_bend"] * along * along
    major, minor = along / p["source_r_e"], across / (p["source_r_e"] * p["source_q"])
    return major, minor, torch.hypot(major, minor) * p["source_r_e"]


def _galaxy(p: Row, major: Tensor, minor: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """A Sersic disc, with arms or clumps that have part of its light; per arcsec^2."""
    radius = (distance / p["source_r_e"]).clamp_min(1e-3)
    body = p["centre"] * torch.exp(-p["b"] * radius ** (1 / p["source_n"]))
    knots = torch.zeros_like(body)
    rows = torch.nonzero(p["source_arms"][:, 0] > 0)[:, 0]
    if len(rows):
        g = _rows(p, rows)
        turns = g["source_winding"] / torch.tan(torch.deg2rad(g["source_pitch"]))
        knots[rows] = g["source_strength"] * ga.spiral_arms(
            body[rows], major[rows], minor[rows], radius[rows] ** 2, arms=g["source_arms"],
            phase=torch.deg2rad(g["source_phase"]), turn=turns,
        )  # fmt: skip
    rows = torch.nonzero(p["source_clumps"][:, 0] > 0)[:, 0]
    if len(rows):
        g = _rows(p, rows)
        knots[rows] = _clumps(g, major[rows], minor[rows])
        body[rows] = body[rows] * (1 - g["source_strength"])
    return body, knots


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


def _beside(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`_bent`, of the nearest of one to three galaxies that go round the middle by the golden angle.

    Bent ones (``source_bend``, 1/arcsec) look like arcs.
    """
    best: tuple[Tensor, Tensor, Tensor] | None = None
    for k in range(3):
        if not bool((p["source_number"] > k).any()):
            break
        cos, sin = math.cos(_SPIRAL * k), math.sin(_SPIRAL * k)
        found = _along(p, cos * x + sin * y - p["source_x"], cos * y - sin * x - p["source_y"])
        if best is None:
            best = found
        else:
            nearer = (found[2] < best[2]) & (p["source_number"] > k)
            best = tuple(torch.where(nearer, new, old) for new, old in zip(found, best))  # type: ignore[assignment]
    assert best is not None
    return best


def _companions(p: Row, major: Tensor, minor: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """The light of the nearest one, of which each has its share."""
    body, knots = _galaxy(p, major, minor, distance)
    return body / p["source_number"], knots / p["source_number"]


def _round(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Radius and angle on an ellipse, and arcsec from a ring on it."""
    phi = torch.deg2rad(p["source_phi"])
    major, minor = (
        torch.cos(phi) * x + torch.sin(phi) * y,
        (torch.cos(phi) * y - torch.sin(phi) * x) / p["source_q"],
    )
    radius = torch.hypot(major, minor)
    return radius, torch.atan2(minor, major), (radius - p["ring_radius"]).abs() * p["source_q"]


def _ring(p: Row, radius: Tensor, angle: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """A Gaussian ring with knots along it."""
    width, size = p["source_r_e"], p["ring_radius"]
    ring = torch.exp(-0.5 * ((radius - size) / width) ** 2)
    ring = ring / (2 * math.pi * math.sqrt(2 * math.pi) * size * width * p["source_q"])
    angle = angle - torch.deg2rad(p["source_phase"])
    wave = torch.cos(angle) + torch.cos(p["source_clumps"] * angle + 1.0)
    return ring, ring * (0.5 * p["source_strength"] * wave)


def _rays(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Along and across the nearest of the lines through a star."""
    best: tuple[Tensor, Tensor] | None = None
    for k in range(3):
        angle = torch.deg2rad(p["source_phi"]) + math.pi * k / p["source_number"]
        along, across = torch.cos(angle) * x + torch.sin(angle) * y, torch.cos(angle) * y - torch.sin(angle) * x
        if best is None:
            best = along, across
        else:
            nearer = (across.abs() < best[1].abs()) & (p["source_number"] > k)
            best = torch.where(nearer, along, best[0]), torch.where(nearer, across, best[1])
    assert best is not None
    return best[0], best[1], best[1].abs()


def _spikes(p: Row, along: Tensor, across: Tensor, _: Tensor) -> tuple[Tensor, Tensor]:
    """Diffraction spikes, falling off as a power of the distance."""
    ray = torch.exp(-0.5 * (across / p["source_r_e"]) ** 2) / (1 + along * along / 0.36) ** 0.75
    return ray, torch.zeros_like(ray)


def _line(p: Row, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Arcsec across a line past the source's place."""
    phi = torch.deg2rad(p["source_phi"])
    across = torch.cos(phi) * (y - p["source_y"]) - torch.sin(phi) * (x - p["source_x"])
    return across, across, across.abs()


def _trail(p: Row, across: Tensor, _: Tensor, __: Tensor) -> tuple[Tensor, Tensor]:
    """A satellite, of even brightness."""
    line = torch.exp(-0.5 * (across / p["source_r_e"]) ** 2)
    return line, torch.zeros_like(line)


_LIGHTS: dict[int, tuple[Callable[..., tuple[Tensor, Tensor, Tensor]], Callable[..., tuple[Tensor, Tensor]]]] = {
    LENSED: (_bent, _galaxy),
    BLOBS: (_beside, _companions),
    RING: (_round, _ring),
    SPIKES: (_rays, _spikes),
    TRAIL: (_line, _trail),
}
