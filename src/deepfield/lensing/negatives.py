"""What is no lens: plain galaxies of the same population, and what fools finders."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from deepfield.lensing import layers
from deepfield.lensing.surveys import Survey

Array = NDArray[np.float64]
Columns = dict[str, Array]

SHARES = {
    "early": 0.25, "spiral": 0.2, "ring": 0.08, "merger": 0.1, "edge-on": 0.1, "companion": 0.12, "arc": 0.06,
    "star": 0.03, "trail": 0.02, "blank": 0.02, "corrupted": 0.02,
}  # fmt: skip
"""Kinds of non-lenses and their shares.

``early``: a galaxy of the deflectors' population with nothing behind it. ``spiral``: nearly face-on, red bulge
and blue arms. ``ring``: a blue ring about a red galaxy. ``merger``: two galaxies and a tail. ``edge-on``: a disc
seen from its side. ``companion``: one to three blue galaxies where images of a source would be. ``arc``: a thin
blue galaxy across the radius, straight or bent, with no counter-image. ``star``: a bright star with diffraction
spikes. ``trail``: a satellite over a galaxy, in one band. ``blank``: sky. ``corrupted``: a galaxy in a cutout
with a defect.
"""


SPOILT = 0.03
"""Share of all cutouts, lenses among them, that have a defect besides."""


def companions(n: int) -> Columns:
    """Columns of the second layer of light, empty."""
    zeros = (
        "layer",
        "source_arms",
        "source_winding",
        "source_strength",
        "source_clumps",
        "source_phase",
        "source_bend",
    )
    ones = ("source_q", "source_n", "source_number", "ring_radius")
    empty: Columns = {**{name: np.zeros(n) for name in zeros}, **{name: np.ones(n) for name in ones}}
    return {**empty, "source_pitch": np.full(n, 20.0), "source_phi": np.zeros(n)}


def structure(c: Columns, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
    """Give the sources in some rows a shape: plain discs, spirals and clumpy galaxies."""
    n = rows.size
    u = rng.uniform
    c["source_n"][rows] = u(0.7, 1.6, n)
    c["source_q"][rows] = 1 - 0.3 * np.sqrt(-2 * np.log1p(-rng.random(n) * 0.97))  # to 0.2, Collett (2015)
    c["source_phi"][rows], c["source_phase"][rows] = u(0, 180, n), u(0, 360, n)
    what = rng.random(n)
    spiral, clumpy = what < 0.25, (what > 0.25) & (what < 0.65)
    c["source_arms"][rows] = np.where(spiral, 2, 0)
    c["source_pitch"][rows] = u(12, 35, n)
    c["source_winding"][rows] = rng.choice([-1, 1], size=n)
    c["source_clumps"][rows] = np.where(clumpy, rng.integers(2, 6, n), 0)
    c["source_strength"][rows] = np.where(spiral, u(0.4, 0.9, n), np.where(clumpy, u(0.15, 0.5, n), 0.0))


def draw(kind: NDArray[np.str_], c: Columns, survey: Survey, rng: np.random.Generator) -> None:
    """Turn rows that are drawn as lenses into what their kind says; ``c`` is changed in place.

    Brightness, size and distance of what is painted stay those of the lens and its arcs, so that only shapes and
    colours tell the kinds apart.
    """
    n = kind.size
    u = rng.uniform
    bands = survey.bands
    for name in ("early", "spiral", "merger", "edge-on", "blank", "corrupted"):
        c["layer"][kind == name] = 0
    _disc(c, np.flatnonzero(np.isin(kind, ("spiral", "edge-on", "merger"))), kind, survey, rng)
    beside = np.flatnonzero(np.isin(kind, ("companion", "arc")))
    c["layer"][beside] = layers.BLOBS
    # As bright as the arcs would be.
    mu = c["magnification"]
    shown = np.isin(kind, ("companion", "arc", "ring"))
    mu = mu * np.where(kind == "ring", 10 ** u(0.0, 0.5, n), 1.0)
    for band in bands:
        c[f"source_mag_{band}"] = np.where(
            shown, c[f"source_mag_{band}"] - 2.5 * np.log10(mu), c[f"source_mag_{band}"]
        )
    away = c["theta_e"] * u(0.8, 1.9, n) + 0.3 * survey.sharpest
    where = u(0, 2 * np.pi, n)
    for name, part in (("source_x", np.cos(where)), ("source_y", np.sin(where))):
        c[name] = np.where(np.isin(kind, ("companion", "arc")), away * part, c[name])
    number = rng.choice([1, 2, 3], size=n, p=[0.55, 0.3, 0.15])
    c["source_number"] = np.where(kind == "companion", number, c["source_number"])
    thin = kind == "arc"
    across = np.degrees(where) + 90 + rng.normal(0, 25, n)
    c["source_phi"] = np.where(thin, across % 180, c["source_phi"])
    c["source_q"] = np.where(thin, u(0.12, 0.3, n), c["source_q"])
    c["source_r_e"] = np.where(thin, np.clip(c["source_r_e"] * u(1.5, 3, n), 0.3, 1.2), c["source_r_e"])
    bend = rng.normal(0, 0.35, n) / np.maximum(c["theta_e"], 0.5)
    c["source_bend"] = np.where(thin, bend, c["source_bend"])
    _rings(c, np.flatnonzero(kind == "ring"), rng)
    _artefacts(c, kind, survey, rng)
    _tails(c, np.flatnonzero((kind == "merger") & (u(size=n) < 0.6)), survey, rng)
    hidden = c["layer"] == 0
    for band in bands:
        c[f"source_mag_{band}"] = np.where(hidden, np.inf, c[f"source_mag_{band}"])


def _disc(
    c: Columns, rows: NDArray[np.int64], kind: NDArray[np.str_], survey: Survey, rng: np.random.Generator
) -> None:
    """Discs about bulges, bluer than these."""
    n = rows.size
    u = rng.uniform
    k = kind[rows]
    edge, spiral, merger = k == "edge-on", k == "spiral", k == "merger"
    c["disc_q"][rows] = np.select([edge, spiral], [u(0.08, 0.22, n), u(0.55, 1.0, n)], u(0.3, 1.0, n))
    size = np.maximum(c["theta_e"][rows], 0.6 * survey.sharpest)
    c["disc_radius"][rows] = size * np.where(edge, u(1.0, 2.5, n), u(0.9, 2.4, n))
    c["bulge_radius"][rows] = c["disc_radius"][rows] * u(0.15, 0.4, n)
    c["bulge_q"][rows] = np.clip(0.6 + 0.4 * c["disc_q"][rows], 0, 1)
    c["bulge_n"][rows] = u(1.5, 4.0, n)
    share = np.where(merger, u(0.2, 0.8, n), u(0.15, 0.6, n))
    armed = spiral | (merger & (rng.random(n) < 0.4))
    c["arms"][rows] = np.where(armed, rng.choice([1, 2, 3, 4], size=n, p=[0.1, 0.6, 0.18, 0.12]), 0)
    c["arm_strength"][rows] = np.where(armed, u(0.4, 0.95, n), 0.0)
    c["pitch"][rows], c["winding"][rows] = u(8, 32, n), rng.choice([-1, 1], size=n)
    c["bar_strength"][rows] = np.where(spiral & (rng.random(n) < 0.35), u(0.05, 0.3, n), 0.0)
    c["bar_angle"][rows] = c["arm_phase"][rows]
    # The disc is bluer than the bulge: most in g - r, least from r to redder bands.
    blue = u(0.5, 1.6, n)
    change = {"u": 1.6, "g": 1.0, "r": 0.35, "i": 0.0, "z": -0.1, "y": -0.1}
    for band in survey.bands:
        bulge = share * 10 ** (-0.4 * c[f"lens_mag_{band}"][rows])
        disc = (1 - share) * 10 ** (-0.4 * (c[f"lens_mag_{band}"][rows] - blue * change.get(band, 0.0)))
        c[f"bulge_fraction_{band}"][rows] = bulge / (bulge + disc)
        c[f"lens_mag_{band}"][rows] = -2.5 * np.log10(bulge + disc)
    c["bulge_fraction"][rows] = share
    distance, where = c["disc_radius"][rows] * u(0.8, 2.2, n), u(0, 2 * np.pi, n)
    c["companion"][rows] = np.where(merger, u(0.1, 0.5, n), 0.0)
    c["companion_x"][rows], c["companion_y"][rows] = distance * np.cos(where), distance * np.sin(where)


def _tails(c: Columns, rows: NDArray[np.int64], survey: Survey, rng: np.random.Generator) -> None:
    """Stars that a merger throws out: a bent band in the colours of the galaxy."""
    n = rows.size
    u = rng.uniform
    c["layer"][rows] = layers.BLOBS
    fainter = u(2.0, 3.2, n)
    for band in survey.bands:
        c[f"source_mag_{band}"][rows] = c[f"lens_mag_{band}"][rows] + fainter
    size, where = c["disc_radius"][rows], u(0, 2 * np.pi, n)
    away = size * u(0.8, 1.6, n)
    c["source_x"][rows], c["source_y"][rows] = away * np.cos(where), away * np.sin(where)
    c["source_phi"][rows] = (np.degrees(where) + 90 + rng.normal(0, 30, n)) % 180
    c["source_r_e"][rows], c["source_q"][rows] = size * u(0.5, 1.0, n), u(0.12, 0.3, n)
    c["source_bend"][rows] = rng.choice([-1, 1], size=n) * u(0.2, 0.7, n) / size
    c["source_arms"][rows], c["source_clumps"][rows], c["source_number"][rows] = 0, 0, 1


def _rings(c: Columns, rows: NDArray[np.int64], rng: np.random.Generator) -> None:
    n = rows.size
    u = rng.uniform
    c["layer"][rows] = layers.RING
    c["ring_radius"][rows] = np.maximum(c["theta_e"][rows] * u(0.8, 1.7, n), 0.5)
    c["source_r_e"][rows] = c["ring_radius"][rows] * u(0.1, 0.25, n)
    c["source_q"][rows], c["source_x"][rows], c["source_y"][rows] = u(0.55, 1.0, n), 0.0, 0.0
    c["source_clumps"][rows], c["source_strength"][rows] = rng.integers(2, 7, n), u(0.0, 0.7, n)


def _artefacts(c: Columns, kind: NDArray[np.str_], survey: Survey, rng: np.random.Generator) -> None:
    """Stars, satellites, empty sky, and where defects lie."""
    n = kind.size
    u = rng.uniform
    star, trail, blank = (kind == name for name in ("star", "trail", "blank"))
    c["layer"] = np.select([star, trail], [layers.SPIKES, layers.TRAIL], c["layer"])
    bright = u(14.5, 20.0, n) + survey.depth - 25.5
    colour = rng.normal(0.4, 0.35, n)
    sky, _ = survey.pixel_noise()
    struck = rng.integers(0, len(survey.bands), n)
    for k, band in enumerate(survey.bands):
        mag = bright + colour * {"u": 2.0, "g": 1.0, "r": 0.0, "i": -0.4}.get(band, 0.0)
        c[f"lens_mag_{band}"] = np.select([star, blank], [mag, np.full(n, 40.0)], c[f"lens_mag_{band}"])
        spikes = mag + 3.0 + u(-0.7, 0.7, n)
        line = 31.4 - 2.5 * np.log10(math.sqrt(sky[k]) / survey.pixel**2 * np.exp(u(np.log(1.0), np.log(15.0), n)))
        line = np.where(struck == k, line, np.inf)
        c[f"source_mag_{band}"] = np.select([star, trail], [spikes, line], c[f"source_mag_{band}"])
        c[f"bulge_fraction_{band}"][star] = 0.0
    c["bulge_fraction"][star], c["disc_radius"][star] = 0.0, 1e-3
    c["source_r_e"] = np.select(
        [star, trail], [0.5 * survey.pixel * u(0.6, 1.2, n), survey.sharpest * u(0.3, 0.9, n)], c["source_r_e"]
    )
    c["source_number"] = np.where(star, rng.choice([2, 3], size=n, p=[0.8, 0.2]), c["source_number"])
    c["source_phi"] = np.where(star | trail, u(0, 180, n), c["source_phi"])
    half = 0.25 * survey.size * survey.pixel
    c["source_x"] = np.select([star, trail], [np.zeros(n), u(-half, half, n)], c["source_x"])
    c["source_y"] = np.select([star, trail], [np.zeros(n), u(-half, half, n)], c["source_y"])
    # A camera errs on lenses as on all else: a defect must not tell what is none.
    spoilt = (kind == "corrupted") | (rng.random(n) < SPOILT)
    c["defect_u"] = np.where(spoilt, rng.random(n), np.nan)
    c["defect_v"] = np.where(spoilt, rng.random(n), np.nan)
