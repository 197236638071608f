"""Rows of a table of lenses and what is none, painted."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from deepfield.lensing import layers
from deepfield.lensing.surveys import Survey
from deepfield.physics import galaxies as ga
from deepfield.physics.stamps import ARM_COLOUR, Painter, scaled

CELL = 4
"""Pixels along a side of a cell of the map of a lens's arcs."""
LARGEST = 0.6
"""Arcsec: the half-light radius up to which neighbours are painted whole."""
PSF = ("seeing", "wings", "psf_e1", "psf_e2")
"""Columns for each band: the PSF's width over the survey's, and its shape."""


class Scene:
    """Paints rows of a table."""

    def __init__(self, survey: Survey, size: int, device: torch.device) -> None:
        self.survey, self.painter = survey, Painter(survey, size, device)
        side = self.painter.side
        line = (torch.arange(side, device=device) - 0.5 * (side - 1)) * survey.pixel
        self.x, self.y = line.expand(1, side, side), -line[:, None].expand(1, side, side)
        self.patch = min(math.ceil(4 * LARGEST / survey.pixel), size // 3)
        self.fine = max(2, round(survey.pixel / 0.05))
        self.best = survey.bands.index(survey.best)
        self.knots = [ARM_COLOUR.get(b, 1.0) for b in survey.bands]

    def __call__(self, t: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Noiseless images (n, B, S, S), and what is measured on them."""
        painter, survey = self.painter, self.survey
        pixels = {"x": t["x"] / survey.pixel, "y": t["y"] / survey.pixel}
        galaxy = {**t, **{f"mag_{b}": t[f"lens_mag_{b}"] for b in survey.bands}, **pixels}
        flux = painter.flux(galaxy)
        rows, arcs, share = self.arcs(t)
        beside = self._field(t)
        bent = torch.nonzero(t["is_lens"][rows] > 0)[:, 0]  # measured on its own
        beside[:, rows] += arcs
        beside[self.best, rows[bent]] -= arcs[self.best, bent]
        magnification, snr = (torch.full_like(t["x"], torch.nan) for _ in range(2))
        cells = snr.new_zeros(len(snr), *2 * (self.painter.size // CELL,))
        odd = self.painter.size % CELL // 2  # of sizes that are no whole number of cells the rim is left out
        inside = slice(odd, self.painter.size - odd)
        magnification[rows[bent]] = share[bent]
        images = []
        for b, light in enumerate(painter.bands(galaxy)):
            whole = torch.fft.rfft2(beside[b]).add_(light * flux[:, b, None, None])
            image = painter.seen(whole, b, *_psf(t, survey.bands[b]))
            if b == self.best and len(bent):
                own = (c[rows[bent]] for c in _psf(t, survey.bands[b]))
                seen = painter.seen(torch.fft.rfft2(arcs[b, bent]), b, *own)
                image[rows[bent]] += seen
                variance = painter.sky[b] + painter.source[b] * image[rows[bent]].clamp_min(0)
                snr[rows[bent]] = (seen * seen / variance).sum((1, 2)).sqrt()
                light, noise = (F.avg_pool2d(v[:, inside, inside], CELL) for v in (seen, variance))
                cells[rows[bent]] = CELL * light / noise.sqrt()
            images.append(image)
        return torch.stack(images, 1), {"magnification": magnification, "source_snr": snr, "arcs": cells}

    def arcs(self, t: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Rows (m,) with a second layer of light, that light (B, m, P, P) before the PSF (nJy), and its total (m,)
        over that of the source.
        """
        rows = torch.nonzero(t["layer"] > 0)[:, 0]
        p = {name: c[rows] for name, c in t.items() if c.dim() == 1}
        x, y = self.x - p["x"][:, None, None], self.y - p["y"][:, None, None]
        body, knots = layers.painted(p, x, y, self.survey.pixel, self.fine)
        flux = [3631e9 * 10 ** (-0.4 * p[f"source_mag_{band}"]) for band in self.survey.bands]
        light = torch.stack([scaled(body + k * knots, own) for k, own in zip(self.knots, flux)])
        return rows, light, (body + knots).sum((1, 2))

    def _field(self, t: Mapping[str, Tensor]) -> Tensor:
        """The neighbours (B, n, P, P) as exponential discs, each on a patch to whose edge it fades; nJy."""
        side, half = self.painter.side, self.patch
        row, k = torch.nonzero(t["neighbours"][..., 5:].sum(-1) > 0).T
        x, y, r_e, q, phi, *flux = t["neighbours"][row, k].T
        x, y = x / self.survey.pixel + 0.5 * side - 0.5, 0.5 * side - 0.5 - y / self.survey.pixel  # column and row
        step = torch.arange(-half, half + 1, device=x.device)
        column, down = x.round().long()[:, None] + step, y.round().long()[:, None] + step
        major, minor = self.painter.axes(
            column[:, None] - x[:, None, None], y[:, None, None] - down[..., None], phi
        )
        r2 = major.square_() + (minor / q[:, None, None]).square_()
        steep = (ga.EXPONENTIAL * self.survey.pixel / r_e)[:, None, None]
        light = torch.exp(-steep * torch.sqrt(r2 + 0.1))
        light = (light - torch.exp(-steep * half)).clamp_min_(0)  # no step at the patch's edge
        light = scaled(light, 1 / light.sum((1, 2)))  # whatever the middle of a pixel misses of a small galaxy
        inside = ((column >= 0) & (column < side))[:, None] & ((down >= 0) & (down < side))[..., None]
        place = ((row[:, None] * side + down)[..., None] * side + column[:, None])[inside]
        total = torch.zeros(len(flux), len(t["x"]) * side * side, device=x.device)
        for plane, own in zip(total, flux):
            plane.index_add_(0, place, scaled(light, own)[inside])
        return total.view(len(flux), -1, side, side)


def _psf(t: Mapping[str, Tensor], band: str) -> tuple[Tensor, ...]:
    """Width and shape of each image's PSF in a band, see :meth:`deepfield.physics.stamps.Painter.psf`.

    That of the survey, where the table does not tell.
    """
    names = [f"{name}_{band}" for name in PSF]
    if not any(name in t for name in names):
        return (torch.ones_like(t["x"]),)
    return t[names[0]], torch.stack([t[name] for name in names[1:]], 1)
