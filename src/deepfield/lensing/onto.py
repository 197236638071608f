"""Lensed sources painted onto images of real galaxies, so that a survey's own galaxies are the training set.

Neighbours, blends, spirals that fool, the survey's own PSF wings and sky: all that a simulator lacks is in the
cutouts already; only what is bent is painted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import j1
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.data.images.collection import Images
from deepfield.lensing import layers, negatives
from deepfield.lensing import population as pop
from deepfield.lensing._scene import Scene
from deepfield.lensing._values import keep_memory
from deepfield.lensing.simulate import TRUTH, Simulated
from deepfield.lensing.surveys import Survey
from deepfield.lensing.surveys import survey as survey_named
from deepfield.physics import galaxies as ga

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")
_CHUNK = 32
_ALIKE = 5  # deflectors among which one is chosen for a galaxy
_MAG, _Z = 0.3, 0.05  # what counts as alike
_UNLIKE = 5.0  # of these away from the nearest


def paint_onto(
    cutouts: Any,
    *,
    survey: str | Survey = "lsst",
    zero_point: float | Sequence[float] = 31.4,
    pixel: float = 0.0,
    psf_fwhm: Sequence[float] = (),
    magnitude: Any = None,
    redshift: Any = None,
    lens_fraction: float = 1.0,
    snr: float = 20.0,
    seed: int = 0,
) -> Simulated:
    """Give the galaxies in the middle of cutouts a lensed source behind them.

    Parameters
    ----------
    cutouts : Images, Tensor or array (N, B, S, S)
        In any unit of flux; rows from the top down. They stay as they are, and those with pixels that are not
        finite become no lenses. :func:`deepfield.lensing.read` gives Images of files.
    survey : str or Survey
        Whose bands, PSF and depth the cutouts have; the depth says which sources can be seen.
    zero_point : float or one for each band
        AB magnitude of a flux of one; 31.4 for nJy.
    pixel, psf_fwhm
        Arcsec, where they are not what Images say of themselves or else the survey's own.
    magnitude, redshift : array (N,), optional
        Of the galaxies, in the survey's best band. The deflector is then drawn among those of the population that
        are alike in both. Without a magnitude (of all the light) that within two FWHM is taken, of both.
    lens_fraction : float
        Share of the cutouts that become lenses; the others stay as they are.
    snr : float
        Least expected signal-to-noise ratio of the arcs.
    seed : int

    Returns
    -------
    Simulated
        Images in the unit given, and a table with the columns of a lens in
        :func:`deepfield.lensing.simulate.draw`, without those of the galaxy's own light; ``kind`` is ``lens`` or
        ``cutout``. ``phi`` follows the light's major axis within 10 degrees, and ``x``, ``y`` its middle. Its
        method ``write`` makes a file of them.

    Raises
    ------
    DeepfieldError
        If the cutouts do not fit the survey, or magnitudes and redshifts the cutouts, or the share is none. A
        warning counts galaxies that are unlike any deflector, as where the zero point is wrong.

    Notes
    -----
    Photons of the arcs make noise of their own; the sky's and the galaxy's is in the cutouts, and counts in
    ``source_snr``.

    Examples
    --------
    >>> from deepfield.lensing.simulate import simulate
    >>> real = simulate(4, size=32, lens_fraction=0.0).images
    >>> made = paint_onto(real, seed=1)
    >>> made.images.shape == real.shape, made.table["kind"].tolist()
    (True, ['lens', 'lens', 'lens', 'lens'])
    """
    if not 0 <= lens_fraction <= 1:
        raise DeepfieldError(f"lens_fraction is a share between 0 and 1, got {lens_fraction}")
    chosen = survey_named(survey)
    if isinstance(cutouts, Images):
        pixel, psf_fwhm = pixel or cutouts.meta["pixel_scale"], psf_fwhm or cutouts.meta["psf_fwhm"]
    given = _pixels(cutouts, chosen)
    if pixel or len(psf_fwhm):
        chosen = replace(chosen, pixel=pixel or chosen.pixel, fwhm=tuple(psf_fwhm) or chosen.fwhm)
    n, size = _checked(given, chosen)
    chosen = replace(chosen, size=size)
    unit = np.broadcast_to(3631e9 * 10 ** (-0.4 * np.asarray(zero_point, float)), len(chosen.bands))  # nJy
    found = _measured(given.double() * torch.tensor(unit.copy())[:, None, None], chosen)
    rng = np.random.default_rng(seed)
    whole = torch.isfinite(given).flatten(1).all(1).numpy()
    if not whole.all():
        log.warning("%s of %s cutouts have pixels that are not finite: they become no lenses", n - whole.sum(), n)
    lens = (rng.permutation(n) < round(lens_fraction * n)) & whole
    c = _alike(found, magnitude, redshift, n, chosen, snr, rng)
    c["layer"] = np.where(lens, layers.LENSED, 0.0)
    c |= {"x": found["x"], "y": found["y"], "phi": (found["phi"] + rng.normal(0, 10, n)) % 180}
    c |= {"magnification": np.full(n, np.nan), "source_snr": np.full(n, np.nan)}
    images, measured = _painted(given, c, found, unit, chosen, seed)
    for name in TRUTH:
        c[name] = np.where(lens, measured.get(name, c[name]), np.nan)
    for name in [name for name in c if name.startswith(("lens_", "layer"))]:
        del c[name]  # those of the galaxy that this one is like, not its own
    kind = np.where(lens, "lens", "cutout")
    table = Table({"id": np.arange(n), "is_lens": lens.astype(np.int64), "kind": kind, **c})
    table.meta.update(
        simulated="sources painted onto cutouts", seed=seed, bands=chosen.bands, pixel_scale=chosen.pixel,
        psf_fwhm=chosen.fwhm,
    )  # fmt: skip
    return Simulated(images, table, chosen)


def _pixels(cutouts: Any, survey: Survey) -> Tensor:
    """Pixels of what was given, if it is what can be painted onto."""
    if isinstance(cutouts, str) or hasattr(cutouts, "to_value"):
        raise DeepfieldError(
            "cutouts are numbers in the unit that zero_point names, not a Quantity (give .value), or what "
            f"deepfield.lensing.read has read, not the name of a file; got {type(cutouts).__name__}"
        )
    if not isinstance(cutouts, Images):
        return torch.as_tensor(cutouts)
    if cutouts.meta["named"] and cutouts.bands != survey.bands:
        raise DeepfieldError(
            f"the cutouts are in {', '.join(cutouts.bands)}, the survey in {', '.join(survey.bands)}: give those"
        )
    if cutouts.dtype == "uint8":
        raise DeepfieldError("the cutouts are pictures; light can be added to fluxes only")
    return cutouts.load()[0]


def _checked(given: Tensor, survey: Survey) -> tuple[int, int]:
    bands = len(survey.bands)
    if given.dim() != 4 or given.shape[1] != bands or given.shape[2] != given.shape[3] or given.shape[3] < 32:
        raise DeepfieldError(
            f"cutouts are (N, {bands}, S, S) with S at least 32 for the bands {', '.join(survey.bands)}, got "
            f"{tuple(given.shape)}"
        )
    if len(survey.fwhm) != bands:
        raise DeepfieldError(f"psf_fwhm is one number for each of {bands} bands, got {len(survey.fwhm)}")
    return len(given), given.shape[-1]


def _measured(image: Tensor, survey: Survey) -> dict[str, Any]:
    """Of the galaxies in the middle: magnitude, place and angle; level and noise of the sky in each band, nJy."""
    best, size = survey.bands.index(survey.best), image.shape[-1]
    rim = max(size // 10, 2)
    edge = torch.ones(size, size, dtype=torch.bool)
    edge[rim:-rim, rim:-rim] = False
    sky = torch.nan_to_num(image)[..., edge]
    level = sky.median(-1, keepdim=True)[0]
    noise = 1.4826 * (sky - level).abs().median(-1)[0]
    line = (torch.arange(size, dtype=torch.float64) - 0.5 * (size - 1)) * survey.pixel
    x, y = line.expand(size, size), -line[:, None].expand(size, size)
    within = torch.hypot(x, y) < _aperture(survey)
    light = torch.nan_to_num(image[:, best]).clamp_min(0) * within
    total = light.sum((1, 2)).clamp_min(1e-30)
    cx, cy = (light * x).sum((1, 2)) / total, (light * y).sum((1, 2)) / total
    dx, dy = x - cx[:, None, None], y - cy[:, None, None]
    xx, yy, xy = ((light * part).sum((1, 2)) for part in (dx * dx, dy * dy, dx * dy))
    return {
        "mag": 31.4 - 2.5 * np.log10(total.numpy()), "x": cx.numpy(), "y": cy.numpy(), "noise": noise,
        "level": level[..., 0], "phi": np.degrees(0.5 * torch.atan2(2 * xy, xx - yy).numpy()) % 180,
    }  # fmt: skip


def _aperture(survey: Survey) -> float:
    """Arcsec, the radius within which galaxies are measured."""
    return 2 * survey.sharpest


def _within(radius: float, r_e: Array, survey: Survey) -> Array:
    """Share of the light of round de Vaucouleurs profiles (arcsec) that is seen within a radius in the best band.

    From the transform T of the seen profile: 2 pi R times the integral of T(k) J_1(2 pi k R) over k.
    """
    fwhm = survey.fwhm[survey.bands.index(survey.best)]
    k = torch.linspace(0, 4 / fwhm, 1024)
    psf = ga.moffat_transfer(k, fwhm, survey.beta) if survey.beta else ga.gaussian_transfer(k, fwhm)
    light = psf * ga.sersic_transfer(k.expand(len(r_e), -1), 4.0, torch.as_tensor(r_e, dtype=torch.float32))
    edge = 2 * math.pi * radius * torch.from_numpy(j1(2 * math.pi * radius * k.numpy()))
    return torch.trapezoid(light * edge, k, dim=1).clamp(0.01, 1).double().numpy()


def _alike(
    found: dict[str, Any],
    magnitude: Any,
    redshift: Any,
    n: int,
    survey: Survey,
    snr: float,
    rng: np.random.Generator,
) -> dict[str, Array]:
    """For each galaxy a lens of the population whose deflector is like it."""
    population = pop.draw_lenses(max(3 * n, 3000), rng, survey, snr=snr)
    wanted = [np.asarray(found["mag"] if magnitude is None else magnitude, float) / _MAG]
    have = [population[f"lens_mag_{survey.best}"] / _MAG]
    if magnitude is None:
        have[0] -= 2.5 / _MAG * np.log10(_within(_aperture(survey), population["lens_r_e"], survey))
    if redshift is not None:
        wanted.append(np.asarray(redshift, float) / _Z)
        have.append(population["z_lens"] / _Z)
    if any(w.shape != (n,) or not np.isfinite(w).all() for w in wanted):
        raise DeepfieldError(f"magnitude and redshift are finite, one for each of {n} cutouts")
    if redshift is not None and np.min(redshift) <= 0:
        raise DeepfieldError(f"redshifts are positive, got {np.min(redshift):g}")
    far, near = cKDTree(np.stack(have, -1)).query(np.stack(wanted, -1), k=_ALIKE)
    if odd := np.count_nonzero(far[:, 0] > _UNLIKE):
        log.warning(
            "%s of %s cutouts are unlike any deflector of the population in magnitude or redshift: are "
            "zero_point, magnitude and redshift right?", odd, n,
        )  # fmt: skip
    rows = near[np.arange(n), rng.integers(0, _ALIKE, n)]
    c = {name: column[rows].astype(float) for name, column in population.items()} | negatives.companions(n)
    negatives.structure(c, np.arange(n), rng)
    return c


def _painted(
    given: Tensor, c: dict[str, Array], found: dict[str, Any], unit: Array, survey: Survey, seed: int
) -> tuple[Tensor, dict[str, Array]]:
    """The cutouts with their arcs, and what is measured of these."""
    keep_memory()
    scene = Scene(survey, given.shape[-1], torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    columns = {name: torch.as_tensor(column, dtype=torch.float32) for name, column in c.items()}
    images = given.clone().float() if not given.is_floating_point() else given.clone()
    snr, mu = np.full(len(given), np.nan), np.full(len(given), np.nan)
    for start in range(0, len(given), _CHUNK):
        part = {name: column[start : start + _CHUNK] for name, column in columns.items()}
        if not bool((part["layer"] > 0).any()):
            continue
        with torch.no_grad():
            rows, arcs, share = scene.arcs(part)
            seeing, place = torch.ones(len(rows)), rows + start
            for b in range(len(survey.bands)):
                seen = scene.painter.seen(torch.fft.rfft2(arcs[b]), b, seeing)
                photons = scene.painter.source[b] * seen.clamp_min(0)
                if b == scene.best:
                    galaxy = given[place, b].double() * float(unit[b]) - found["level"][place, b, None, None]
                    light = (galaxy.float() + seen).clamp_min(0)
                    variance = found["noise"][place, b, None, None].float() ** 2 + scene.painter.source[b] * light
                    snr[place.numpy()] = (seen * seen / variance).sum((1, 2)).sqrt().numpy()
                draw = torch.randn(seen.shape, generator=generator)
                images[place, b] += ((seen + draw * photons.sqrt()) / float(unit[b])).to(images.dtype)
            mu[place.numpy()] = share.numpy()
    return images, {"source_snr": snr, "magnification": mu}
