"""Lenses and what is none from another simulator, in the format of ``deepfield lensing simulate``.

    python3.11 -m venv venv-lens && venv-lens/bin/pip install -c constraints.txt -e . speclite lenstronomy==1.14.2
    venv-lens/bin/python benchmarks/lensing_lenstronomy_sets.py --survey lsst -n 2000 --out SET.hdf5

For finder and measurer, which are trained on deepfield's own images: what do they lose on another code's?
Everything is painted by lenstronomy, and its settings differ from deepfield's where a telescope's or nature's may:

- mass: an elliptical power law with slope 2.08 +- 0.16 (SLACS, Auger et al. 2010, ApJ 724, 511) instead of an
  isothermal one;
- light of lens and source: Sersic profiles with lenstronomy's b_n and its radius sqrt(major minor); the lens has a
  second component, half of the sources a companion; no arms or clumps, no neighbours;
- PSF: a Moffat profile of beta 2.8 with an ellipticity of up to 0.05, sampled at the pixels, instead of a round
  one of beta 3.5 (2.5 in space) in Fourier space;
- noise: Gaussian of sky and photons, then smoothed over neighbours as resampling ("drizzle") does, at the same
  variance in a pixel;
- populations: Einstein radii, redshifts and magnitudes are drawn by deepfield (so that the prior is the same and
  the images are what differs), light's positions and shapes are not.

The table has the truth under the same names: theta_e, q, phi, shear, shear_phi, source_x, source_y, x, y,
source_snr, magnification, is_lens, kind (lens, early, companion, edge-on, spiral; a spiral is a face-on disc with
two thin bands), and the slope.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from lenstronomy.Data.pixel_grid import PixelGrid
from lenstronomy.Data.psf import PSF
from lenstronomy.ImSim.image_model import ImageModel
from lenstronomy.LensModel.lens_model import LensModel
from lenstronomy.LightModel.light_model import LightModel
from lenstronomy.Util.param_util import phi_q2_ellipticity
from numpy.typing import NDArray

from deepfield.core.files import atomic
from deepfield.lensing.population import draw_lenses
from deepfield.lensing.surveys import Survey, surveys

Array = NDArray[np.float64]
KINDS, SHARES = ("early", "companion", "edge-on", "spiral"), (0.45, 0.25, 0.12, 0.18)
BETA, SLOPE, DRIZZLE = 2.8, (2.08, 0.16), 0.35
Light = dict[str, float]


def kernel(fwhm: float, rng: np.random.Generator) -> Array:
    """An elliptical Moffat PSF (K, K), fwhm in pixels."""
    half = max(int(3 * fwhm), 4)
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(float)
    e, angle = 0.05 * rng.random(), np.pi * rng.random()
    along, across = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
    alpha = fwhm / (2 * np.sqrt(2 ** (1 / BETA) - 1))
    psf = (1 + ((along / (1 + e)) ** 2 + (across * (1 + e)) ** 2) / alpha**2) ** -BETA
    return psf / psf.sum()


def sersic(r_e: float, n: float, q: float, phi: float, x: float, y: float) -> Light:
    """Lenstronomy's keywords; r_e (arcsec) is sqrt(major minor), phi is in degrees. Its rows run up, as y does."""
    e1, e2 = phi_q2_ellipticity(np.radians(phi), q)
    return {"amp": 1.0, "R_sersic": r_e, "n_sersic": n, "e1": e1, "e2": e2, "center_x": x, "center_y": y}


def scene(c: dict[str, float], kind: str, rng: np.random.Generator) -> dict[str, list[Any]]:
    """What is in front and what is behind: parts with the share of light that each has of its magnitude."""
    u = rng.uniform
    x, y = c["x"], c["y"]
    q, phi, r_e = c["lens_q"], c["lens_phi"], c["lens_r_e"]
    if kind == "edge-on":
        front = [sersic(0.8 * r_e, 1.0, u(0.12, 0.25), phi, x, y), sersic(0.3 * r_e, 3.0, 0.8, phi, x, y)]
        shares = [u(0.5, 0.8), 0.0]
    elif kind == "spiral":
        q = u(0.6, 1.0)
        front = [sersic(1.3 * r_e, 1.0, q, phi, x, y), sersic(0.4 * r_e, 3.0, 0.9, phi, x, y)]
        shares = [u(0.4, 0.6), 0.0]
    else:
        front = [sersic(r_e, u(3, 5), q, phi, x, y), sersic(2 * r_e, 1.0, min(q + 0.1, 1.0), phi, x, y)]
        shares = [u(0.75, 1.0), 0.0]
    shares[1] = 1 - shares[0]
    if kind == "spiral":  # two bands, from either end of the disc
        for side in (0, 180):
            angle = np.radians(phi + side)
            place = (x + 1.2 * r_e * np.cos(angle), y + 1.2 * r_e * np.sin(angle))
            front.append(sersic(0.8 * r_e, 0.8, 0.3, phi + side + 70, *place))
            shares.append(u(0.05, 0.12))
    behind, extra = [], []
    size, index = c["source_r_e"] * np.sqrt(c["source_q"]), u(0.8, 1.8)
    if kind == "lens":
        place = (x + c["source_x"], y + c["source_y"])
        behind = [sersic(size, index, c["source_q"], c["source_phi"], *place)]
        extra = [1.0]
        if rng.random() < 0.5:
            away = c["source_r_e"] * u(1.5, 3) * np.array([np.cos(a := 2 * np.pi * rng.random()), np.sin(a)])
            behind.append(sersic(0.6 * size, 1.0, 0.8, 0.0, place[0] + away[0], place[1] + away[1]))
            extra.append(u(0.05, 0.3))
    elif kind == "companion":
        count = rng.integers(1, 4)
        for _ in range(count):
            angle, away = 2 * np.pi * rng.random(), c["theta_e"] * u(0.9, 2.0)
            place = (x + away * np.cos(angle), y + away * np.sin(angle))
            front.append(sersic(size * u(1, 2), 1.0, u(0.3, 1.0), u(0, 180), *place))
        extra = [c["magnification"] / count] * count
    return {"front": front, "behind": behind, "shares": shares, "extra": extra}


class Camera:
    """lenstronomy's image of a scene in each band."""

    def __init__(self, survey: Survey, size: int) -> None:
        first = -0.5 * (size - 1) * survey.pixel
        self.survey, self.size = survey, size
        self.grid = PixelGrid(size, size, np.diag([survey.pixel, survey.pixel]), first, first)

    def __call__(self, c: dict[str, float], kind: str, rng: np.random.Generator) -> tuple[Array, float, float]:
        """Noiseless image (B, S, S) in nJy, the signal-to-noise ratio of the arcs and their magnification."""
        survey, parts = self.survey, scene(c, kind, rng)
        e1, e2 = phi_q2_ellipticity(np.radians(c["phi"]), c["q"])
        turn = 2 * np.radians(c["shear_phi"])
        place = {"center_x": c["x"], "center_y": c["y"]}
        shear = {"gamma1": c["shear"] * np.cos(turn), "gamma2": c["shear"] * np.sin(turn)}
        mass = [
            {"theta_E": c["theta_e"], "gamma": c["slope"], "e1": e1, "e2": e2, **place},
            {**shear, "ra_0": c["x"], "dec_0": c["y"]},
        ]
        lens = LensModel(["EPL", "SHEAR"]) if kind == "lens" else LensModel([])
        mass = mass if kind == "lens" else []
        images, snr, mu = [], np.nan, np.nan
        sky, gain = survey.pixel_noise()
        light = LightModel(["SERSIC_ELLIPSE"])
        own = len(parts["shares"])
        unscaled = [*parts["front"], *parts["behind"]]
        flux_of = [light.total_flux([one])[0] for one in unscaled]
        for b, band in enumerate(survey.bands):
            psf = PSF("PIXEL", kernel_point_source=kernel(survey.fwhm[b] / survey.pixel * c["seeing"], rng))
            total = [3631e9 * 10 ** (-0.4 * c[f"{what}_mag_{band}"]) for what in ("lens", "source")]
            factors = [total[0] * s for s in parts["shares"]] + [total[1] * s for s in parts["extra"]]
            scaled = [{**one, "amp": f / whole} for one, f, whole in zip(unscaled, factors, flux_of)]
            front, behind = scaled[: len(parts["front"])], scaled[len(parts["front"]) :]
            model = ImageModel(
                self.grid, psf, lens, LightModel(["SERSIC_ELLIPSE"] * len(behind)),
                LightModel(["SERSIC_ELLIPSE"] * len(front)), kwargs_numerics={"supersampling_factor": 2},
            )  # fmt: skip
            image = np.asarray(model.image(mass or None, behind or None, front or None))
            if kind == "lens" and band == survey.best:
                arcs = np.asarray(model.source_surface_brightness(behind, mass))
                snr = float(np.sqrt((arcs**2 / (sky[b] + gain[b] * np.maximum(image, 0))).sum()))
                mu = float(arcs.sum() / sum(factors[own:]))
            images.append(image[::-1])  # rows from the top down
        return np.stack(images), snr, mu


def drizzled(image: Array, survey: Survey, rng: np.random.Generator) -> Array:
    """With noise that neighbours share, of the survey's variance in each pixel."""
    sky, gain = survey.pixel_noise()
    white = rng.normal(size=(len(image), *(s + 2 for s in image.shape[1:])))
    line = np.array([DRIZZLE / 2, 1.0, DRIZZLE / 2])
    line /= np.sqrt((line**2).sum())
    rows = sum(w * white[:, k : k + image.shape[1]] for k, w in enumerate(line))
    both = sum(w * rows[:, :, k : k + image.shape[2]] for k, w in enumerate(line))
    return image + both * np.sqrt(sky[:, None, None] + gain[:, None, None] * np.maximum(image, 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--survey", default="lsst", choices=list(surveys()))
    parser.add_argument("-n", type=int, default=2000)
    parser.add_argument("--lens-fraction", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    o = parser.parse_args()
    survey, rng = surveys()[o.survey], np.random.default_rng(o.seed)
    columns = draw_lenses(o.n, rng, survey)
    lenses = round(o.n * o.lens_fraction)
    kinds = rng.permutation([*["lens"] * lenses, *rng.choice(KINDS, o.n - lenses, p=SHARES)])
    columns |= {
        "slope": np.clip(rng.normal(*SLOPE, o.n), 1.6, 2.5), "seeing": np.exp(rng.normal(0, survey.scatter, o.n)),
        "x": rng.uniform(-0.5, 0.5, o.n) * survey.pixel, "y": rng.uniform(-0.5, 0.5, o.n) * survey.pixel,
        "source_q": rng.uniform(0.35, 1.0, o.n), "source_phi": rng.uniform(0, 180, o.n),
        "magnification": np.full(o.n, 5.0), "source_snr": np.full(o.n, np.nan),
    }  # fmt: skip
    camera = Camera(survey, survey.size)
    with atomic(o.out) as temporary, h5py.File(temporary, "w") as file:
        images = file.create_dataset("images", (o.n, len(survey.bands), survey.size, survey.size), dtype="f4")
        for k, kind in enumerate(kinds):
            c = {name: float(column[k]) for name, column in columns.items()}
            image, columns["source_snr"][k], columns["magnification"][k] = camera(c, str(kind), rng)
            images[k] = drizzled(image, survey, rng)
        lens = kinds == "lens"
        for name in ("theta_e", "q", "phi", "shear", "shear_phi", "sigma_v", "z_source", "n_images", "slope"):
            columns[name] = np.where(lens, columns[name], np.nan)
        file["is_lens"], file["kind"], file["id"] = lens.astype(int), kinds.astype(bytes), np.arange(o.n)
        for name, column in columns.items():
            file[name] = column
        file.attrs.update(bands=list(survey.bands), pixel_scale=survey.pixel, psf_fwhm=survey.fwhm, seed=o.seed)
    print(f"{o.n:,} images, {int(lens.sum()):,} of them lenses, to {o.out}")


if __name__ == "__main__":
    main()
