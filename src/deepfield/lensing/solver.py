"""All images of a source: the lens equation solved by subdivision, then by Newton's method.

The sky is cut into squares. A square is kept while the source could be seen in it: while the source lies within
the parallelogram to which the square is mapped, widened by what the map's derivative changes within the square.
What is kept is cut in four, until squares are small against the lens and against their distance from any
deflector. Newton's method starts in each that is left; two images that merge at a critical curve are reached from
its two sides. Nothing is sampled along lines, so sources on an axis of symmetry are like any other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.lensing._values import keep_memory, tensor
from deepfield.lensing.lens import determinant
from deepfield.lensing.profiles import Pair

_FIRST = 16  # squares along the first grid
_DEEPEST = 26  # halvings, near the centre of a deflector
_FINE = 1 / 400  # half side of the last squares, of the half side of the sky
_NEAR = 0.3  # of the distance from a deflector
_MARGIN = 1.5  # on the change of the derivative, which is known at the corners only
_MOST = 2_000_000  # squares and sources at a time
_STEPS, _FLAT = 60, 0.03
_RADII, _ANGLES, _FAR = 48, 32, 1e5  # circles that tell how far out images can be, arcsec


class Mapping(Protocol):
    """A :class:`~deepfield.lensing.lens.Lens` or :class:`~deepfield.lensing.planes.Planes`."""

    @property
    def batch(self) -> int | None: ...
    @property
    def centres(self) -> list[Pair]: ...
    def __getitem__(self, index: Any) -> Mapping: ...
    def distance(self, x: Any, y: Any) -> Tensor: ...
    def source(self, x: Any, y: Any) -> Pair: ...
    def jacobian(self, x: Any, y: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]: ...


@dataclass(frozen=True)
class Images:
    """The images of each source, brightest first.

    Attributes
    ----------
    x, y : Tensor (..., M)
        Arcsec; NaN beyond the source's last image. They carry the derivatives by lens and source.
    magnification : Tensor (..., M)
        Negative for images of odd parity.
    count : Tensor (...)
        Images of each source; -1 where it lies behind a point to which a whole ring is mapped (an Einstein ring).
    """

    x: Tensor
    y: Tensor
    magnification: Tensor
    count: Tensor


def images(
    lens: Mapping, source_x: Any, source_y: Any, *, window: float | None = None, faintest: float = 1e-6
) -> Images:
    """Find every image of every source.

    Parameters
    ----------
    lens : Lens or Planes
        One lens, or a batch of B.
    source_x, source_y : Tensor, float, array or Quantity
        Arcsec. Of any shape for one lens; (B, ...) for a batch.
    window : float, optional
        Half side of the square of sky that is searched, arcsec, about the deflectors' mean centre. By default one
        that holds all images.
    faintest : float
        Images of smaller magnification are left out: those in the very centre of a steep or compact deflector.

    Returns
    -------
    Images
        With float64 accuracy whatever the precision of the lens, except for its parameters' own rounding.

    Raises
    ------
    DeepfieldError
        If the sources do not fit the batch, are not finite, or the lens lets no ray out of its middle.

    Examples
    --------
    >>> from deepfield.lensing.lens import Lens, sie
    >>> found = images(Lens(sie(1.0, 0.7, 0.0)), [0.0, 0.3, 1.5], [0.0, 0.0, 0.0])
    >>> found.count
    tensor([4, 2, 1])
    >>> round(float(found.x[2, 0]), 4)
    2.4319
    """
    sx, sy = torch.broadcast_tensors(tensor(source_x, "arcsec"), tensor(source_y, "arcsec"))
    if not bool((torch.isfinite(sx) & torch.isfinite(sy)).all()):
        raise DeepfieldError("a position of a source is not finite: leave such sources out")
    if lens.batch not in (None, 1) and (not sx.dim() or len(sx) != lens.batch):
        raise DeepfieldError(
            f"{lens.batch} lenses need sources of shape ({lens.batch}, ...), got {tuple(sx.shape)}"
        )
    shape = sx.shape
    if not sx.numel():
        none = sx.new_zeros(*shape, 0)
        return Images(none, none, none, torch.zeros(shape, dtype=torch.long, device=sx.device))
    owner = torch.arange(sx.numel(), device=sx.device) // max(math.prod(shape[1:]), 1)
    flat = lens[owner] if lens.batch is not None else lens
    sources = torch.stack([sx.reshape(-1), sy.reshape(-1)], -1)
    keep_memory()
    with torch.no_grad():
        search = _Search(flat, sources.detach().double(), window)
        row, place, rings = search.run(faintest)
    return _polished(flat, sources, row, place, rings, shape)


def half_side(lens: Mapping) -> tuple[Tensor, float]:
    """The mean centre (2,) of one lens, and the half side of a square about it that holds all images of it."""
    search = _Search(lens, torch.zeros(1, 2, dtype=torch.float64), 1.0)
    centred = _Search(lens, search.middle, None)
    return centred.middle[0], float(centred.radius)


class _Search:
    """Squares of sky for many sources at once, each of a lens of its own."""

    def __init__(self, lens: Mapping, sources: Tensor, window: float | None) -> None:
        self.lens, self.sources = lens, sources
        n = len(sources)
        centres = [torch.stack([x.double().expand(n), y.double().expand(n)], -1) for x, y in lens.centres]
        self.centres = torch.stack(centres, 1) if centres else torch.zeros(n, 0, 2, dtype=sources.dtype)
        self.middle = self.centres.mean(1) if centres else torch.zeros_like(sources)
        self.radius = torch.full_like(sources[:, 0], window) if window else self._window()

    def at(self, row: Tensor) -> Mapping:
        return self.lens[row] if self.lens.batch is not None else self.lens

    def beta(self, row: Tensor, place: Tensor) -> Tensor:
        """Source positions (n, 2) of places (n, 2) for the sources with these numbers."""
        return torch.stack(self.at(row).source(place[:, 0], place[:, 1]), -1)

    def slope(self, row: Tensor, place: Tensor) -> Tensor:
        """(n, 2, 2)."""
        parts = self.at(row).jacobian(place[:, 0], place[:, 1])
        return torch.stack(parts, -1).unflatten(-1, (2, 2))

    def _window(self) -> Tensor:
        """For each source a half side beyond which all is mapped too far from the middle to be its image."""
        offset = self.sources - self.middle
        rows = torch.arange(len(offset) if self.lens.batch is not None else 1, device=offset.device)
        least = torch.cat([self._least(part) for part in rows.split(_MOST // (_RADII * _ANGLES))])
        radii = _circles(offset)
        inside = ~(least > offset.norm(dim=-1, keepdim=True))
        last = (inside * torch.arange(1, _RADII + 1, device=offset.device)).amax(-1)
        if bool((last == _RADII).any()):
            raise DeepfieldError(
                "no square of sky holds all images: far out rays do not leave the middle, as with convergence and "
                "shear of together about one; give window="
            )
        spread = torch.zeros_like(offset[:, 0])
        if self.centres.shape[1]:
            spread = (self.centres - self.middle[:, None]).norm(dim=-1).amax(-1)
        return torch.maximum(radii[last], 1.2 * spread)

    def _least(self, rows: Tensor) -> Tensor:
        """How near the middle circles on the sky are mapped, along the directions that they would be mapped to by
        external shear and convergence alone (n, radii).
        """
        angle = torch.arange(_ANGLES, dtype=self.middle.dtype, device=rows.device) * (2 * math.pi / _ANGLES) + 0.1
        circle = torch.stack([torch.cos(angle), torch.sin(angle)], -1)
        middle = self.middle[rows]
        far = self.slope(rows, middle + _FAR * circle[0]) + self.slope(rows, middle - _FAR * circle[_ANGLES // 4])
        outward = circle @ (0.5 * far).mT
        radii = _circles(middle)
        place = middle[:, None, None] + radii[:, None, None] * circle
        beta = self.beta(rows.repeat_interleave(_RADII * _ANGLES), place.reshape(-1, 2)).view(place.shape)
        size = outward.norm(dim=-1)
        along = ((beta - middle[:, None, None]) * outward[:, None]).sum(-1) / size[:, None].clamp_min(1e-300)
        return (along - 0.02 * radii[:, None] * size[:, None]).amin(-1)

    def run(self, faintest: float) -> tuple[Tensor, Tensor, Tensor]:
        """Numbers of sources (n,) and the places (n, 2) of their images, each once; and sources with a ring."""
        parts = torch.arange(len(self.sources), device=self.sources.device).split(_MOST // (_FIRST**2 * 8))
        found = [self._distinct(*self._newton(*self._subdivide(rows)), faintest) for rows in parts]
        rows_found, places, rings = zip(*found)
        return torch.cat(rows_found), torch.cat(places), torch.cat(rings)

    def _subdivide(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The middles of the small squares that may hold an image, and the numbers of their sources."""
        line = (torch.arange(_FIRST, dtype=self.radius.dtype, device=rows.device) + 0.5) * (2 / _FIRST) - 1
        grid = torch.cartesian_prod(line, line)
        row = rows.repeat_interleave(len(grid))
        half = self.radius[row] / _FIRST
        place = self.middle[row] + self.radius[row, None] * grid.repeat(len(rows), 1)
        quarters = torch.tensor([[-0.5, -0.5], [-0.5, 0.5], [0.5, -0.5], [0.5, 0.5]]).to(place)
        done: list[tuple[Tensor, Tensor]] = []
        for _ in range(_DEEPEST):
            keep = self._possible(row, place, half)
            row, place, half = row[keep], place[keep], half[keep]
            near = self.at(row).distance(place[:, 0], place[:, 1])
            fine = half <= torch.minimum(_FINE * self.radius[row], _NEAR * near)
            done.append((row[fine], place[fine]))
            row, place, half = row[~fine], place[~fine], half[~fine]
            if not len(row):
                break
            place = (place[:, None] + half[:, None, None] * quarters).reshape(-1, 2)
            row, half = row.repeat_interleave(4), 0.5 * half.repeat_interleave(4)
        rows_done, places = zip(*done)
        return torch.cat(rows_done), torch.cat(places)

    def _possible(self, row: Tensor, place: Tensor, half: Tensor) -> Tensor:
        """Whether the source can be seen within a square, to first order and a bound on the second.

        That bound means nothing close to a deflector's centre: there all squares are kept and cut again.
        """
        off = self.sources[row] - self.beta(row, place)
        slope = self.slope(row, place)
        change = torch.zeros_like(half)
        for sign in ((-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)):
            corner = place + half[:, None] * torch.tensor(sign).to(place)
            change = torch.maximum(change, (self.slope(row, corner) - slope).flatten(1).norm(dim=-1))
        wide = _MARGIN * 0.5 * math.sqrt(2) * half * change
        ex, ey = slope[..., 0], slope[..., 1]  # the square's sides, mapped
        keep = torch.ones_like(half, dtype=torch.bool)
        for normal in (_across(ex), _across(ey)):
            reach = half * ((normal * ex).sum(-1).abs() + (normal * ey).sum(-1).abs())
            keep &= ~((normal * off).sum(-1).abs() > reach + wide)
        reach = half[:, None] * slope.abs().sum(-1)
        keep &= ~((off.abs() > reach + wide[:, None]).any(-1))
        return keep | (self.at(row).distance(place[:, 0], place[:, 1]) < 2 * half)

    def _newton(self, row: Tensor, place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Newton's method from each place, its steps halved until they help; and what it has still to go.

        A step helps if it makes the next one, with the derivative as it is, shorter (Deuflhard 2004, Newton
        Methods for Nonlinear Problems, section 3.3). Residuals would not do: along a nearly complete ring they say
        nothing.
        """
        target, size = self.sources[row], self.radius[row]
        for _ in range(3):
            # Where the map is nearly singular, its derivative in the square's middle says too little about the
            # flat direction; first the other one.
            place = self._closer(row, place)
        togo = torch.full_like(size, math.inf)
        active = torch.arange(len(row), device=row.device)
        for _ in range(_STEPS):
            r, here = row[active], place[active]
            slope = self.slope(r, here)
            step = _solve(slope, target[active] - self.beta(r, here))
            length = step.norm(dim=-1)
            togo = togo.index_copy(0, active, length)
            going = (length > 1e-14 * size[active]) & torch.isfinite(length)
            active, r, here, slope, step, length = (v[going] for v in (active, r, here, slope, step, length))
            if not len(active):
                break
            trial = (0.1 * size[active] / length).clamp_max(1.0)
            moved, best = torch.zeros_like(active, dtype=torch.bool), here
            for _ in range(8):
                new = self._closer(r, here + trial[:, None] * step)
                better = _solve(slope, target[active] - self.beta(r, new)).norm(dim=-1) < length
                best = torch.where((better & ~moved)[:, None], new, best)
                moved |= better
                trial = torch.where(moved, trial, 0.5 * trial)
                if bool(moved.all()):
                    break
            place = place.index_copy(0, active, best)
            active = active[moved]
        return row, place, togo

    def _closer(self, row: Tensor, place: Tensor) -> Tensor:
        """A step that leaves the flat direction of a nearly singular map alone."""
        step = _damped(self.slope(row, place), self.sources[row] - self.beta(row, place))
        limit = 0.1 * self.radius[row] / step.norm(dim=-1).clamp_min(1e-300)
        return place + step * limit.clamp_max(1.0)[:, None]

    def _distinct(
        self, row: Tensor, place: Tensor, togo: Tensor, faintest: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Each image once: of those of the same parity that rounding cannot tell apart, the first."""
        det = torch.linalg.det(self.slope(row, place))
        solved = (self.sources[row] - self.beta(row, place)).norm(dim=-1) < 1e-11 * self.radius[row]
        sure = solved & (togo < 1e-6 * self.radius[row]) & (det.abs() > 1e-11)
        loose = torch.bincount(row[solved & ~sure], minlength=len(self.sources))
        row, place, det = row[sure], place[sure], det[sure]
        order = torch.argsort(row, stable=True)
        row, place, det = row[order], place[order], det[order]
        ring = (loose > 8) & (torch.bincount(row[det.abs() < 1e-3], minlength=len(loose)) == 0)
        count = torch.bincount(row, minlength=len(self.sources))
        number = torch.arange(len(row), device=row.device) - (torch.cumsum(count, 0) - count)[row]
        keep = det.abs() * faintest < 1
        blur = self.radius[row] * (1e-9 + 1e-13 / det.abs().clamp_min(1e-7))  # the error of a position
        for back in range(1, int(count.max()) if len(row) else 0):
            here = torch.nonzero(number >= back)[:, 0]
            other = here - back
            same = torch.sign(det[here]) == torch.sign(det[other])
            close = (place[here] - place[other]).norm(dim=-1) < torch.where(same, 1e3, 1.0) * blur[here]
            keep[here[close & keep[other]]] = False
        return row[keep], place[keep], torch.nonzero(ring)[:, 0]


def _polished(
    lens: Mapping, sources: Tensor, row: Tensor, place: Tensor, rings: Tensor, shape: torch.Size
) -> Images:
    """Images by source, padded with NaN; a last Newton step of length zero carries the derivatives."""
    ring = torch.zeros(len(sources), dtype=torch.bool, device=row.device)
    ring[rings] = True
    row, place = row[~ring[row]], place[~ring[row]]
    here = lens[row] if lens.batch is not None else lens
    with torch.no_grad():
        slope = torch.stack(here.jacobian(place[:, 0], place[:, 1]), -1).unflatten(-1, (2, 2))
    off = sources[row] - torch.stack(here.source(place[:, 0], place[:, 1]), -1)
    moved = place + _solve(slope, off - off.detach())
    magnification = 1 / determinant(here.jacobian(moved[:, 0], moved[:, 1]))
    order = torch.argsort(magnification.detach().abs(), descending=True)
    order = order[torch.argsort(row[order], stable=True)]
    row, moved, magnification = row[order], moved[order], magnification[order]
    count = torch.bincount(row, minlength=len(sources))
    number = torch.arange(len(row), device=row.device) - (torch.cumsum(count, 0) - count)[row]
    most = int(count.max())
    out = []
    for value in (moved[:, 0], moved[:, 1], magnification):
        empty = torch.full((len(sources), most), math.nan, dtype=value.dtype, device=value.device)
        out.append(empty.index_put((row, number), value).reshape(*shape, most))
    return Images(out[0], out[1], out[2], torch.where(ring, -1, count).reshape(shape))


def _circles(like: Tensor) -> Tensor:
    return torch.logspace(-3, 3.5, _RADII, dtype=like.dtype, device=like.device)


def _across(v: Tensor) -> Tensor:
    normal = torch.stack([-v[:, 1], v[:, 0]], -1)
    return normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-300)


def _damped(slope: Tensor, off: Tensor) -> Tensor:
    """Least squares with a penalty on directions that the map shrinks more than ``_FLAT`` times."""
    square = slope @ slope.mT + _FLAT**2 * torch.eye(2, dtype=slope.dtype, device=slope.device)
    return (slope.mT @ _solve(square, off)[..., None])[..., 0]


def _solve(slope: Tensor, off: Tensor) -> Tensor:
    """Solution of 2 x 2 systems; a singular one gives a long step."""
    a, b, c, d = slope[:, 0, 0], slope[:, 0, 1], slope[:, 1, 0], slope[:, 1, 1]
    det = a * d - b * c
    det = torch.where(det.abs() < 1e-300, 1e-300, det)
    return torch.stack([d * off[:, 0] - b * off[:, 1], a * off[:, 1] - c * off[:, 0]], -1) / det[:, None]
