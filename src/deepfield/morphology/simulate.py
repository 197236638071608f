"""Images of galaxies with known structure, and votes drawn from a known posterior.

A galaxy is a Sersic bulge, an exponential disc, a bar and logarithmic spiral arms in the disc's plane, inclined to
the sky; a merger has a second galaxy. They are painted by :class:`deepfield.physics.stamps.Painter`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.morphology.opinions import draw_votes, opinions
from deepfield.morphology.trees import Tree, tree
from deepfield.physics import photometry as ph
from deepfield.physics import stamps

Array = NDArray[np.float64]
KINDS = ("elliptical", "spiral", "edge-on", "lenticular", "merger")
_SHARES = (0.3, 0.35, 0.15, 0.1, 0.1)
_CHUNK = 32  # images at a time: their planes then stay in the processor's cache


@dataclass(frozen=True)
class Survey(stamps.Survey):
    """A telescope, and the AB magnitudes in r (``bright`` to ``faint``) between which galaxies are drawn."""

    bright: float
    faint: float


def surveys() -> dict[str, Survey]:
    """The surveys that are known: SDSS gri (median seeing of DR12) and LSST gri of one year.

    Examples
    --------
    >>> surveys()["sdss"].bands
    ('g', 'r', 'i')
    """
    sdss = Survey(("g", "r", "i"), 0.396, (1.44, 1.32, 1.26), 3.5, ph.sdss_noise(extended=False), 14.0, 17.0)
    lsst = Survey(("g", "r", "i"), 0.2, (0.87, 0.83, 0.80), 3.5, ph.lsst_noise(1.0), 17.0, 21.0)
    return {"sdss": sdss, "lsst": lsst}


@dataclass(frozen=True)
class Simulated:
    """Images and all that is true of them.

    Attributes
    ----------
    images : Tensor (N, B, S, S), float32
        nJy per pixel, sky subtracted; rows run from the top down, as in a picture.
    table : Table
        The parameters of each galaxy (see :func:`draw`) and its votes, ``<question>_<answer>``.
    tree : Tree
    concentrations : (N, A) array
        Of the Dirichlet law from which each galaxy's vote fractions were drawn: the true posterior.
    votes : (N, A) array
    survey : Survey
    """

    images: Tensor
    table: Table
    tree: Tree
    concentrations: Array
    votes: Array
    survey: Survey


def simulate(
    n: int,
    *,
    seed: int = 0,
    survey: str | Survey = "sdss",
    tree_name: str = "decals5",
    size: int = 64,
    voters: int = 40,
    noise: bool = True,
    device: str = "cpu",
) -> Simulated:
    """Draw galaxies, their images and their votes.

    Parameters
    ----------
    n : int
        Galaxies.
    seed : int
        The same seed and arguments give the same galaxies, votes and images on the same device.
    survey : str or Survey
        "sdss", "lsst", or one of your own.
    tree_name : str
        The tree that volunteers walk down.
    size : int
        Pixels on a side, even, at least 32.
    voters : int
        Volunteers who see each galaxy.
    noise : bool
        Whether sky and photons make noise.
    device : str
        Where images are painted.

    Raises
    ------
    DeepfieldError
        If an argument makes no sense, with what would.

    Examples
    --------
    >>> s = simulate(20, seed=1, size=32)
    >>> tuple(s.images.shape), s.votes.shape == s.concentrations.shape
    ((20, 3, 32, 32), True)
    >>> bool((s.votes[:, :3].sum(1) == 40).all())
    True
    """
    if n < 1 or voters < 1 or size < 32 or size % 2:
        raise DeepfieldError(
            f"n and voters are at least 1 and size is even and at least 32, got {n}, {voters} and {size}"
        )
    chosen = _survey(survey)
    rng = np.random.default_rng(seed)
    table = draw(n, rng, chosen, size=size)
    questions = tree(tree_name)
    concentrations = opinions(table, questions)
    votes = draw_votes(rng, concentrations, questions, voters)
    for name, column in zip(questions.columns, votes.T):
        table[name] = column
    table.meta.update(simulated=f"galaxies of five kinds in {''.join(chosen.bands)}", seed=seed, voters=voters)
    parts = list(paint(table, chosen, size=size, seed=seed, noise=noise, device=device))
    return Simulated(torch.cat(parts), table, questions, concentrations, votes, chosen)


def _survey(survey: str | Survey) -> Survey:
    if isinstance(survey, Survey):
        return survey
    if survey not in surveys():
        raise DeepfieldError(f"cannot simulate survey '{survey}': choose from {', '.join(surveys())}")
    return surveys()[survey]


def draw(n: int, rng: np.random.Generator, survey: Survey, *, size: int = 64) -> Table:
    """Parameters of ``n`` galaxies that fit into ``size`` pixels.

    Returns
    -------
    Table
        ``kind``; ``mag_<band>`` (AB, all of it); ``bulge_fraction``, ``bulge_n``, ``bulge_radius`` and
        ``disc_radius`` (half-light along the major axis, arcsec); ``bulge_q``, ``disc_q``, ``angle`` (of the
        major axis, degrees anticlockwise from the row); ``arms`` (number, 0 for none), ``arm_strength``
        (0 to 1), ``pitch`` (degrees), ``winding`` (+1: outward along an arm the angle grows anticlockwise as the
        picture is seen, the letter Z, called clockwise by Galaxy Zoo 1; -1: the letter S, anticlockwise; 0: no
        arms), ``arm_phase``; ``bar_strength`` (share of the disc's light), ``bar_angle`` (degrees in the disc's
        plane); ``companion`` (its share of the light, 0 for none), ``companion_x``, ``companion_y`` (arcsec),
        ``disturbance`` (0 to 1); ``x``, ``y`` (offset of the centre, pixels); ``seeing`` (factor on the PSF).
    """
    u = rng.uniform
    kind = rng.choice(len(KINDS), size=n, p=_SHARES)
    elliptical, spiral, edge, lens, merger = (kind == k for k in range(5))
    t = Table({"id": np.arange(n), "kind": np.array(KINDS)[kind]})
    mag = survey.faint - (survey.faint - survey.bright) * rng.power(2.0, n) * 0.999
    red = np.clip(rng.normal(0, 0.06, n) + np.where(spiral | merger, 0.6, 0.8), 0.3, 1.1)
    colour = {"u": 2.2 * red, "g": red, "r": 0 * red, "i": -0.45 * red, "z": -0.75 * red, "y": -0.9 * red}
    for band in survey.bands:
        t[f"mag_{band}"] = mag + colour[band]
    spread = np.select([elliptical, spiral, edge, lens], [u(0.7, 1.0, n), u(0.02, 0.45, n), u(0.02, 0.5, n),
                                                           u(0.3, 0.7, n)], u(0.05, 0.9, n))  # fmt: skip
    t["bulge_fraction"] = spread
    t["bulge_n"] = np.where(elliptical, u(2.5, 5.5, n), u(1.0, 4.0, n))
    disc = survey.pixel * size / 64 * np.exp(u(np.log(6.0), np.log(12.0), n))
    t["disc_radius"] = disc
    t["bulge_radius"] = disc * np.where(elliptical, u(0.5, 1.0, n), u(0.12, 0.35, n))
    cos_i = np.select([spiral, edge], [u(0.45, 1.0, n), u(0.08, 0.2, n)], u(0.3, 1.0, n))
    t["disc_q"] = cos_i
    t["bulge_q"] = np.where(elliptical, u(0.3, 1.0, n), np.clip(0.6 + 0.4 * cos_i, 0, 1))
    t["angle"] = u(0, 180, n)
    armed = spiral | (merger & (u(size=n) < 0.5))
    t["arms"] = np.where(armed, rng.choice([1, 2, 3, 4, 5], size=n, p=[0.08, 0.57, 0.17, 0.11, 0.07]), 0)
    t["arm_strength"] = np.where(armed, u(0.35, 0.85, n), 0.0)
    t["pitch"] = np.where(armed, u(8, 38, n), 0.0)
    t["winding"] = np.where(armed, rng.choice([-1, 1], size=n), 0)
    t["arm_phase"] = u(0, 360, n)
    barred = (spiral | lens) & (u(size=n) < 0.45)
    t["bar_strength"] = np.where(barred, u(0.05, 0.35, n), 0.0)
    t["bar_angle"] = t["arm_phase"]  # arms begin at the ends of the bar
    distance, where = disc * u(1.0, 2.4, n), u(0, 2 * np.pi, n)
    t["companion"] = np.where(merger, u(0.15, 0.5, n), 0.0)
    t["companion_x"] = np.where(merger, distance * np.cos(where), 0.0)
    t["companion_y"] = np.where(merger, distance * np.sin(where), 0.0)
    t["disturbance"] = np.where(merger, u(0.3, 1.0, n), u(0, 0.15, n))
    t["x"], t["y"] = u(-0.5, 0.5, n), u(-0.5, 0.5, n)
    t["seeing"] = np.exp(rng.normal(0, survey.scatter, n))
    t.meta.update(bands=survey.bands, pixel_scale=survey.pixel, psf_fwhm=survey.fwhm)
    return t


def paint(
    table: Table, survey: str | Survey, *, size: int = 64, seed: int = 0, noise: bool = True, device: str = "cpu"
) -> Iterator[Tensor]:
    """Images of the galaxies of a table, (n, B, S, S) in nJy per pixel, some at a time and in order.

    For more images than the memory holds. The noise depends on the seed and the row, not on what else is painted
    in the same call, as long as the table is the same.
    """
    chosen = _survey(survey)
    painter = stamps.Painter(chosen, size, torch.device(device))
    generator = torch.Generator(device).manual_seed(seed)
    names = [name for name in table.colnames if np.asarray(table[name]).dtype.kind in "fiu"]
    columns = {name: torch.as_tensor(np.asarray(table[name]), dtype=torch.float32) for name in names}
    for start in range(0, len(table), _CHUNK):
        part = {name: c[start : start + _CHUNK].to(device) for name, c in columns.items()}
        image = painter(part)
        yield painter.observe(image, generator) if noise else image
