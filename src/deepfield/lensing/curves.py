"""Critical curves, where images are magnified without limit, and the caustics they are mapped to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.lensing.lens import Lens, determinant
from deepfield.lensing.solver import Mapping, half_side

_HALVINGS, _ZERO = 50, 1e-3
_CUT_POINTS, _CUT_RADIUS = 720, 1e-9


@dataclass(frozen=True)
class Curves:
    """Curves of one lens, each a closed polygon (n, 2) in arcsec whose last point is its first.

    Attributes
    ----------
    critical : list of Tensor (n, 2)
        On the sky, the longest first.
    caustics : list of Tensor (n, 2)
        What each is mapped to: a source that crosses one gains or loses two images.
    cuts : list of Tensor (n, 2)
        What the neighbourhood of each isothermal deflector's centre is mapped to: a source that crosses it gains
        or loses one image, which vanishes in that centre.
    """

    critical: list[Tensor]
    caustics: list[Tensor]
    cuts: list[Tensor]


def curves(lens: Mapping, *, window: float | None = None, resolution: int = 400) -> Curves:
    """Critical curves and caustics by marching squares.

    Where the determinant of the map changes its sign between neighbours on a grid, the zero between them is found
    by halving, so that points are exact whatever the resolution; only curves smaller than a cell are missed. Where
    the sign changes through infinity, at a singular deflector seen through another plane, there is no curve.

    Parameters
    ----------
    lens : Lens or Planes
        One lens; of a batch take one, ``lens[0]``.
    window : float, optional
        Half side of the sky that is looked at, arcsec, about the deflectors' mean centre.
    resolution : int
        Cells along it.

    Raises
    ------
    DeepfieldError
        If the lens is a batch, or the resolution below 8.

    Examples
    --------
    >>> from deepfield.lensing.lens import sie
    >>> found = curves(Lens(sie(1.0, 0.7, 0.0)))
    >>> len(found.critical), len(found.cuts), bool((found.critical[0][0] == found.critical[0][-1]).all())
    (1, 1, True)
    """
    if lens.batch is not None:
        raise DeepfieldError("curves are those of one lens: of a batch take one by its number, lens[0]")
    if resolution < 8:
        raise DeepfieldError(f"resolution is at least 8, got {resolution}")
    with torch.no_grad():
        middle, side = half_side(lens)
        side = window or 1.5 * side
        line = torch.linspace(-side, side, resolution + 1, dtype=torch.float64)
        x, y = middle[0] + line + 1e-4 * side / resolution, middle[1] + line  # no centre on a node
        critical = _zeros(lens, x, y)
        critical.sort(key=_length, reverse=True)
        caustics = [torch.stack(lens.source(c[:, 0], c[:, 1]), -1) for c in critical]
        return Curves(critical, caustics, _cuts(lens) if isinstance(lens, Lens) else [])


def _length(curve: Tensor) -> float:
    return float((curve[1:] - curve[:-1]).norm(dim=-1).sum())


def _det(lens: Mapping, x: Tensor, y: Tensor) -> Tensor:
    return determinant(lens.jacobian(x, y))


def _zeros(lens: Mapping, x: Tensor, y: Tensor) -> list[Tensor]:
    """Closed curves of zero determinant; those that leave the grid are closed by its border's chord."""
    n = len(x)
    sign = _det(lens, x[:, None].expand(n, n), y[None].expand(n, n)) > 0
    # An edge has the number of its first node, doubled, and one more if it goes along y.
    number = torch.arange(n * n).view(n, n)
    across = torch.nonzero(sign[1:] != sign[:-1])
    along = torch.nonzero(sign[:, 1:] != sign[:, :-1])
    edges = torch.cat([2 * number[across[:, 0], across[:, 1]], 2 * number[along[:, 0], along[:, 1]] + 1])
    first = torch.cat([across, along])
    second = torch.cat([across + torch.tensor([1, 0]), along + torch.tensor([0, 1])])
    a, b = (torch.stack([x[c[:, 0]], y[c[:, 1]]], -1) for c in (first, second))
    positive = sign[first[:, 0], first[:, 1]]
    for _ in range(_HALVINGS):
        middle = 0.5 * (a + b)
        same = (_det(lens, middle[:, 0], middle[:, 1]) > 0) == positive
        a, b = torch.where(same[:, None], middle, a), torch.where(same[:, None], b, middle)
    middle = 0.5 * (a + b)
    real = _det(lens, middle[:, 0], middle[:, 1]).abs() < _ZERO
    point = dict(zip(edges[real].tolist(), middle[real]))
    loops = _loops(_links(lens, x, y, sign))
    return [torch.stack([point[e] for e in loop]) for loop in loops if all(e in point for e in loop)]


def _links(lens: Mapping, x: Tensor, y: Tensor, sign: Tensor) -> list[tuple[int, int]]:
    """Pairs of crossed edges that a curve joins within a cell."""
    n = len(x)
    a, b, c, d = sign[:-1, :-1], sign[1:, :-1], sign[1:, 1:], sign[:-1, 1:]
    cells = torch.nonzero(~((a == b) & (b == c) & (c == d)))
    links = []
    for i, j in cells.tolist():
        node = i * n + j
        # The cell's edges in turn: low y, high x, high y, low x.
        edges = (2 * node, 2 * (node + n) + 1, 2 * (node + 1), 2 * node + 1)
        corners = [bool(v[i, j]) for v in (a, b, c, d)]
        crossed = [edges[k] for k in range(4) if corners[k] != corners[(k + 1) % 4]]
        if len(crossed) == 4:  # a saddle: the middle says which corners belong together
            inside = bool(_det(lens, 0.5 * (x[i] + x[i + 1]), 0.5 * (y[j] + y[j + 1])) > 0)
            if inside == corners[1]:
                crossed = crossed[3:] + crossed[:3]
        links += list(zip(crossed[::2], crossed[1::2]))
    return links


def _loops(links: list[tuple[int, int]]) -> list[list[int]]:
    """Chains of linked edges, closed."""
    beside: dict[int, list[int]] = {}
    for one, other in links:
        beside.setdefault(one, []).append(other)
        beside.setdefault(other, []).append(one)
    loops = []
    ends = [e for e, others in beside.items() if len(others) == 1]
    for start in [*ends, *list(beside)]:
        if start not in beside:
            continue
        loop, here = [start], start
        while here in beside:
            nexts = [e for e in beside.pop(here) if e in beside]
            if not nexts:
                break
            here = nexts[0]
            loop.append(here)
        if len(loop) > 2:
            loops.append([*loop, start])
    return loops


def _cuts(lens: Lens) -> list[Tensor]:
    angle = torch.arange(_CUT_POINTS + 1, dtype=torch.float64) * (2 * math.pi / _CUT_POINTS)
    found = []
    for d in lens.deflectors:
        if d.kind == "sie":
            size = _CUT_RADIUS * d.parameters["theta_e"].double()
            x = d.parameters["x"] + size * torch.cos(angle)
            y = d.parameters["y"] + size * torch.sin(angle)
            found.append(torch.stack(lens.source(x, y), -1))
    return found
