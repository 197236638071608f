"""Training sets: lenses, and what is no lens, as a survey would see them, with the truth of each.

The galaxy in the middle is painted by :class:`deepfield.physics.stamps.Painter`, exact in Fourier space; what is
bent (or looks so) in real space by :mod:`deepfield.lensing.layers`; the point-spread function and noise are the
survey's, and differ from image to image as those of coadds do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.core.table import Table
from deepfield.lensing import layers, negatives
from deepfield.lensing import population as pop
from deepfield.lensing._scene import CELL, LARGEST, PSF, Scene
from deepfield.lensing._values import keep_memory
from deepfield.lensing.defects import spoil
from deepfield.lensing.surveys import Survey
from deepfield.lensing.surveys import survey as survey_named
from deepfield.physics.stamps import COLUMNS

Array = NDArray[np.float64]
KINDS = ("lens", *negatives.SHARES)
TRUTH = (
    "theta_e",
    "q",
    "phi",
    "shear",
    "shear_phi",
    "sigma_v",
    "z_source",
    "magnification",
    "source_snr",
    "n_images",
)
"""Columns that are NaN where there is no lens."""

_CHUNK = 64  # images at a time: their planes then stay in the processor's cache
_ELLIPTICITY = 0.02  # of the PSF, standard deviation of each component
_RESAMPLED = 0.65  # largest width of the kernel that noise is smoothed by, pixels
_FIELD, _SATELLITES = 4, 4  # galaxies besides, at most


@dataclass(frozen=True, repr=False)
class Simulated:
    """Images and all that is true of them.

    Attributes
    ----------
    images : Tensor (N, B, S, S), float32
        nJy per pixel, sky subtracted; rows run from the top down, as in a picture.
    table : Table
        See :func:`draw`.
    survey : Survey
    """

    images: Tensor
    table: Table
    survey: Survey

    def __repr__(self) -> str:
        n, _, side, _ = self.images.shape
        return f"{n:,} simulated images of {side} x {side} pixels in {', '.join(self.survey.bands)}"

    def write(self, out: str | Path) -> None:
        """To an HDF5 file, as :func:`write` makes them."""
        _to_file(Path(out), self.table, self.survey, self.images.shape[-1], [self.images])


def simulate(
    n: int,
    *,
    survey: str | Survey = "lsst",
    seed: int = 0,
    lens_fraction: float = 0.5,
    size: int = 0,
    snr: float = 20.0,
    noise: bool = True,
    device: str = "cpu",
) -> Simulated:
    """Draw lenses and what is none, and paint them.

    Parameters
    ----------
    n : int
        Images.
    survey : str or Survey
        "lsst", "euclid", "des", "cfhtls", "hsc", "hst", or one of your own.
    seed : int
        The same seed and arguments give the same images on the same device.
    lens_fraction : float
        Share of lenses, 0 to 1.
    size : int
        Pixels on a side, even, at least 32; the survey's own by default.
    snr : float
        Least expected signal-to-noise ratio of the arcs, in the best band for them; 0 for lenses seen or not.
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
    >>> tuple(s.images.shape), int(s.table["is_lens"].sum())
    ((20, 3, 32, 32), 10)
    """
    chosen = survey_named(survey)
    table = draw(n, survey=chosen, seed=seed, lens_fraction=lens_fraction, size=size, snr=snr)
    parts = list(paint(table, chosen, size=size, seed=seed, noise=noise, device=device))
    return Simulated(torch.cat(parts), table, chosen)


def draw(
    n: int,
    *,
    survey: str | Survey = "lsst",
    seed: int = 0,
    lens_fraction: float = 0.5,
    size: int = 0,
    snr: float = 20.0,
) -> Table:
    """What is true of ``n`` images, before they are painted.

    Returns
    -------
    Table
        ``is_lens`` (0, 1) and ``kind`` (:data:`KINDS`). Of lenses, NaN elsewhere: ``theta_e`` (arcsec), ``q``,
        ``phi`` (degrees), ``shear``, ``shear_phi`` (degrees), ``sigma_v`` (km/s), ``z_source``, ``n_images``, and,
        measured when they are painted, ``magnification`` (flux of all images over the source's) and ``source_snr``
        (of the images' light in the best band, against all noise as if it were white); and ``arcs`` (N, S/4, S/4),
        that ratio in cells of 4 pixels a side, 0 where there is no lens. Of all: ``x``, ``y`` (centre, arcsec from
        the middle), ``z_lens``, ``lens_mag_<band>`` (AB, of the galaxy in the middle). Of what a second layer
        paints (:mod:`deepfield.lensing.layers`): ``source_mag_<band>`` (AB, unlensed), ``source_x``, ``source_y``
        (arcsec from the lens's centre), ``source_r_e`` (arcsec, along the major axis), ``source_q``,
        ``source_phi`` and so on. The rest says how the galaxy in the middle looks, as
        :class:`deepfield.physics.stamps.Painter` takes it (``lens_r_e`` is sqrt(major minor), arcsec), which
        defect it has (``defect_u``, NaN for none), its PSF in each band (``seeing_<band>``, a factor on the
        survey's width, ``wings_<band>``, ``psf_e1_<band>`` and ``psf_e2_<band>``, see
        :meth:`deepfield.physics.stamps.Painter.psf`), how its noise was smoothed (``resampled``, ``stated``, see
        :func:`deepfield.physics.stamps.resampled_noise`), and ``neighbours`` (N, 8, 5 + B) what else is on the
        image: x, y, r_e (arcsec), q, phi (degrees) and flux (nJy) in each band.
    """
    chosen = survey_named(survey)
    size = size or chosen.size
    if n < 1 or not 0 <= lens_fraction <= 1 or size < 32 or size % 2:
        raise DeepfieldError(
            "n is at least 1, lens_fraction between 0 and 1 and size even and at least 32, got "
            f"{n}, {lens_fraction} and {size}"
        )
    rng = np.random.default_rng(seed)
    lenses = round(n * lens_fraction)
    shares = np.array(list(negatives.SHARES.values()))
    others = rng.choice(list(negatives.SHARES), size=n - lenses, p=shares / shares.sum())
    kind = rng.permutation(np.concatenate([np.full(lenses, "lens"), others]))
    # What is no lens has a deflector of its own: a twin on the other side of a split would give it away.
    c = {name: column.astype(float) for name, column in pop.draw_lenses(n, rng, chosen, snr=snr).items()}
    c |= negatives.companions(n)
    c |= _galaxy(c, chosen, rng)
    c["magnification"] = pop.magnification(c["theta_e"], np.hypot(c["source_x"], c["source_y"]), c["source_r_e"])
    negatives.structure(c, np.arange(n), rng)
    c["layer"][kind == "lens"] = layers.LENSED
    negatives.draw(kind, c, chosen, rng)
    for name in TRUTH:
        c[name] = np.where(kind == "lens", c.get(name, np.nan), np.nan)
    t = Table({"id": np.arange(n), "is_lens": (kind == "lens").astype(np.int64), "kind": kind, **c})
    t["neighbours"] = _neighbours(c, kind, chosen, size, rng)
    t["resampled"], t["stated"] = _RESAMPLED * rng.random(n), rng.random(n)
    for name, column in _psf(n, chosen, rng).items():
        t[name] = column
    t.meta.update(
        simulated=f"lenses and what is none in {''.join(chosen.bands)}", seed=seed, bands=chosen.bands,
        pixel_scale=chosen.pixel, psf_fwhm=chosen.fwhm,
    )  # fmt: skip
    return t


def _galaxy(c: Mapping[str, Array], survey: Survey, rng: np.random.Generator) -> dict[str, Array]:
    """The galaxy in the middle: its magnitudes and, for the painter, an early type's shape."""
    n = c["z_lens"].size
    light = {name: c[name] for name in ("lens_r_e", *(f"lens_mag_{b}" for b in survey.bands))}
    found = {name: np.zeros(n) for name in COLUMNS} | light
    disc = np.where(rng.random(n) < 0.3, rng.uniform(0.05, 0.4, n), 0.0)  # some are lenticular
    found |= {"bulge_fraction": 1 - disc, **{f"bulge_fraction_{b}": 1 - disc for b in survey.bands}}
    found["bulge_n"] = np.clip(rng.normal(4.0, 0.8, n), 2.0, 6.4)
    found["bulge_q"], found["angle"] = c["lens_q"], c["lens_phi"]
    found["bulge_radius"] = light["lens_r_e"] / np.sqrt(c["lens_q"])
    found["disc_radius"], found["disc_q"] = 1.6 * found["bulge_radius"], np.clip(c["lens_q"] - 0.1, 0.15, 1.0)
    found["arm_phase"], found["pitch"] = rng.uniform(0, 360, n), np.full(n, 20.0)
    found["x"], found["y"] = rng.uniform(-0.5, 0.5, (2, n)) * survey.pixel
    return found


def _psf(n: int, survey: Survey, rng: np.random.Generator) -> dict[str, Array]:
    """Each image's own point-spread function in each band: its width, its wings and its ellipticity.

    Widths scatter as the survey's do, half as much again from band to band; wings are a mixture of Moffat profiles
    of a beta one below and one above the survey's, much alike in all bands, and so wider than the survey's in
    most images, above all in space; ellipticities are some hundredths (approximate).
    """
    night, wings, found = rng.normal(0, survey.scatter, n), rng.random(n), dict[str, Array]()
    for band in survey.bands:
        width = np.exp(night + 0.5 * survey.scatter * rng.normal(size=n))
        own = np.clip(wings + 0.1 * rng.normal(size=n), 0, 1)
        drawn = (width, own, *rng.normal(0, _ELLIPTICITY, (2, n)).clip(-0.2, 0.2))
        found |= {f"{name}_{band}": column for name, column in zip(PSF, drawn)}
    return found


def _neighbours(
    c: Mapping[str, Array], kind: NDArray[np.str_], survey: Survey, size: int, rng: np.random.Generator
) -> Array:
    """What else is on each image: field galaxies, as many as the counts say, and satellites of the deflector.

    Field galaxies are those from the depth to 7 magnitudes above it; rarer ones would be larger than a cutout.
    Satellites have its colour and gather around it: 0.6 on average, three in groups (approximate).
    """
    behind, n, side = pop.sources(survey), kind.size, size * survey.pixel
    field = np.minimum(rng.poisson(behind.density * side**2, n), _FIELD)
    alone = np.isin(kind, ("star", "blank"))
    satellites = np.where(alone, 0, np.minimum(rng.poisson(np.where(c["group"] > 1, 3.0, 0.6)), _SATELLITES))
    drawn, total = behind.draw(n * _FIELD, rng), n * (_FIELD + _SATELLITES)
    flux = np.zeros((n, _FIELD + _SATELLITES, len(survey.bands)))
    radius = np.zeros(flux.shape[:2])
    radius[:, :_FIELD] = np.clip(drawn["source_r_e"].reshape(n, _FIELD), 0.05, LARGEST)
    x, y = rng.uniform(-side / 2, side / 2, (2, *radius.shape))
    fainter = 1 + 4 * np.sqrt(rng.random((n, _SATELLITES)))
    radius[:, _FIELD:] = np.clip(c["lens_r_e"][:, None] * 10 ** (-0.25 * fainter), 0.1, LARGEST)
    distance, where = rng.uniform(1.0, 0.6 * side, fainter.shape), rng.uniform(0, 2 * np.pi, fainter.shape)
    x[:, _FIELD:], y[:, _FIELD:] = distance * np.cos(where), distance * np.sin(where)
    seen = drawn[f"source_mag_{survey.best}"].reshape(n, _FIELD)
    for k, band in enumerate(survey.bands):
        there = (np.arange(_FIELD) < field[:, None]) & (np.abs(seen - survey.depth + 3.5) < 3.5)
        flux[:, :_FIELD, k] = there * 3631e9 * 10 ** (-0.4 * drawn[f"source_mag_{band}"].reshape(n, _FIELD))
        there = np.arange(_SATELLITES) < satellites[:, None]
        flux[:, _FIELD:, k] = there * 3631e9 * 10 ** (-0.4 * (c[f"lens_mag_{band}"][:, None] + fainter))
    q, phi = rng.uniform(0.25, 1.0, total), rng.uniform(0, 180, total)
    shape = np.stack([x, y, radius, q.reshape(radius.shape), phi.reshape(radius.shape)], -1)
    return np.concatenate([shape, flux], -1)


def paint(
    table: Table, survey: str | Survey, *, size: int = 0, seed: int = 0, noise: bool = True, device: str = "cpu"
) -> Iterator[Tensor]:
    """Images of the rows of a table, (n, B, S, S) in nJy per pixel, some at a time and in order.

    For more images than the memory holds. What is measured on the noiseless images, ``magnification``,
    ``source_snr`` and ``arcs``, is written into the table. The noise depends on the seed and the row, not on what
    else is painted in the same call, as long as the table is the same.
    """
    chosen = survey_named(survey)
    keep_memory()
    painter = Scene(chosen, size or chosen.size, torch.device(device))
    generator = torch.Generator(device).manual_seed(seed)
    names = [name for name in table.colnames if np.asarray(table[name]).dtype.kind in "fiu"]
    columns = {name: torch.as_tensor(np.asarray(table[name]), dtype=torch.float32) for name in names}
    columns = {name: torch.zeros(len(table)) for name in ("resampled", "stated")} | columns  # white if not told
    table["arcs"] = np.zeros((len(table), *2 * (painter.painter.size // CELL,)), np.float32)
    for start in range(0, len(table), _CHUNK):
        rows = slice(start, start + _CHUNK)
        with torch.no_grad():
            image, measured = painter({name: c[rows].to(device) for name, c in columns.items()})
            for name, value in measured.items():
                table[name][rows] = value.cpu().numpy()
            if noise:
                grid = columns["resampled"][rows].to(device), columns["stated"][rows].to(device)
                image = painter.painter.observe(image, generator, grid)
            yield spoil(image, columns["defect_u"][rows], columns["defect_v"][rows])


def write(
    out: Path, n: int, *, survey: str | Survey = "lsst", size: int = 0, seed: int = 0, **options: Any
) -> int:
    """Simulate into an HDF5 file that :func:`deepfield.data.images.read.read` reads; see :func:`simulate`.

    ``images`` (N, B, S, S) and the columns of the table are data sets, bands, pixel scale and PSF attributes.
    Images go to the file as they are painted, so that any number fits into memory.

    Returns
    -------
    int
        The number of lenses.
    """
    _checked_name(out)
    chosen = survey_named(survey)
    painting = {k: options.pop(k) for k in ("noise", "device") if k in options}
    table = draw(n, survey=chosen, seed=seed, size=size, **options)
    side = size or chosen.size
    _to_file(out, table, chosen, side, paint(table, chosen, size=size, seed=seed, **painting))
    return int(np.sum(table["is_lens"]))


def _checked_name(out: Path) -> None:
    if out.suffix.lower() not in (".hdf5", ".h5"):
        raise DeepfieldError(f"cannot write '{out}': end it in .hdf5")


def _to_file(out: Path, table: Table, survey: Survey, side: int, parts: Iterable[Tensor]) -> None:
    """Images, the table when all are painted, and what a reader must know."""
    import h5py

    _checked_name(out)
    with atomic(out) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_dataset("images", (len(table), len(survey.bands), side, side), dtype="f4")
        start = 0
        for part in parts:
            images[start : start + len(part)] = part.cpu().numpy()
            start += len(part)
        for name in table.colnames:
            values = np.asarray(table[name])
            if values.ndim == 1 or name == "arcs":
                file.create_dataset(name, data=values.astype(bytes) if values.dtype.kind == "U" else values)
        about = {"pixel_scale": survey.pixel, "psf_fwhm": survey.fwhm, "seed": table.meta["seed"]}
        file.attrs.update(bands=list(survey.bands), **about)
