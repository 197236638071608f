"""What surveys see: bands, pixels, point-spread functions and depths of six imaging surveys."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace

import numpy as np

from deepfield.core.errors import DeepfieldError
from deepfield.physics import photometry as ph
from deepfield.physics import stamps
from deepfield.physics.filters import Filter, survey_filters


@dataclass(frozen=True, eq=False)
class Survey(stamps.Survey):
    """A telescope (:class:`deepfield.physics.stamps.Survey`), its filters and the size of its cutouts.

    Parameters
    ----------
    filters : tuple of Filter
        One for each band.
    best : str
        The band in which the population is limited: the deepest for lens and source together.
    size : int
        Pixels on a side of a cutout: 8 to 17 arcsec.
    """

    filters: tuple[Filter, ...]
    best: str
    size: int

    @property
    def depth(self) -> float:
        """AB magnitude of a point source of five sigma in the best band."""
        return self.noise.limit(self.best, 5.0)

    @property
    def sharpest(self) -> float:
        """FWHM of the best band, arcsec."""
        return self.fwhm[self.bands.index(self.best)]


def point_depth(mag: float, *, snr: float, diameter: float, fwhm: float) -> float:
    """5-sigma depth of a point source, for surveys that state that of an aperture.

    Noise in an aperture is that of pi d^2 / 4 of sky; a point source is measured in 4 pi sigma^2 of it (Ivezic et
    al. 2019, eq. 7, for a Gaussian PSF). The light that the aperture misses is not counted.

    Parameters
    ----------
    mag, snr : float
        AB magnitude, and its signal-to-noise ratio.
    diameter, fwhm : float
        Of the aperture and of the PSF, arcsec.

    Examples
    --------
    >>> round(point_depth(24.0, snr=5.0, diameter=2.0, fwhm=0.7), 2)  # 2 arcsec hold 2.8 times the sky
    24.56
    """
    sigma = fwhm / math.sqrt(8 * math.log(2))
    ratio = (snr / 5) * math.sqrt((math.pi * diameter**2 / 4) / (4 * math.pi * sigma**2))
    return mag + 2.5 * math.log10(ratio)


def _aperture(
    bands: str, mags: tuple[float, ...], fwhm: tuple[float, ...], snr: float, diameter: float
) -> ph.NoiseModel:
    depth = {b: point_depth(m, snr=snr, diameter=diameter, fwhm=f) for b, m, f in zip(bands, mags, fwhm)}
    return ph.NoiseModel(depth, systematic=0.0)


def _acs() -> Filter:
    """F814W as a trapezium from 6950 to 9600 A: its pivot of 8045 A is met to 20 A; speclite has no ACS."""
    return Filter("acs-F814W", np.array([6900.0, 7200.0, 8600.0, 9600.0]), np.array([0.0, 1.0, 0.8, 0.0]))


@functools.cache
def surveys() -> dict[str, Survey]:
    """The surveys that are known.

    - ``lsst``: g, r, i of ten years: Ivezic et al. (2019, ApJ 873, 111), table 2; 0.2 arcsec pixels.
    - ``euclid``: VIS of the wide survey: 0.1 arcsec pixels, PSF of 0.16 arcsec (Cuillandre et al. 2024,
      arXiv:2405.13496), 26.2 mag at 5 sigma for a point source (Scaramella et al. 2022, A&A 662, A112).
    - ``des``: g, r, i of the coadds of DR2 (Abbott et al. 2021, ApJS 255, 20, table 1): 24.7, 24.4 and 23.8 mag at
      10 sigma in 1.95 arcsec; FWHM 1.11, 0.95 and 0.88 arcsec; 0.263 arcsec pixels.
    - ``cfhtls``: g, r, i of the wide fields (Erben et al. 2013, MNRAS 433, 2545, table 1): 25.58, 24.88 and 24.54
      mag at 5 sigma in 2 arcsec; FWHM 0.82, 0.72 and 0.68 +- 0.1 arcsec; 0.187 arcsec pixels.
    - ``hsc``: g, r, i of the wide survey (Aihara et al. 2019, PASJ 71, 114, table 2): 26.6, 26.2 and 26.2 mag at 5
      sigma for a point source; FWHM 0.77, 0.76 and 0.58 arcsec; 0.168 arcsec pixels.
    - ``hst``: ACS F814W of COSMOS (Koekemoer et al. 2007, ApJS 172, 196): 27.2 mag at 5 sigma in 0.24 arcsec, FWHM
      about 0.1 arcsec; 0.05 arcsec pixels.

    Approximate: the shape of the PSF (Moffat with beta 3.5 from the ground, 2.5 in space, in the images of
    :func:`deepfield.lensing.simulate` mixtures of one less and one more), the scatter of its width from coadd to
    coadd (10 % for LSST, 12 % for DES and HSC; CFHTLS as published; 3 and 2 % in space), the share of the noise
    that is the source's photons, and the filter of ACS.

    Examples
    --------
    >>> known = surveys()
    >>> [name for name in known], known["des"].bands
    (['lsst', 'euclid', 'des', 'cfhtls', 'hsc', 'hst'], ('g', 'r', 'i'))
    >>> round(known["cfhtls"].depth, 1), round(known["lsst"].depth, 1)
    (25.1, 26.7)
    """
    gri = ("g", "r", "i")
    lsst = replace(ph.lsst_noise(10.0), systematic=0.0)
    des, cfhtls, hsc = (1.11, 0.95, 0.88), (0.82, 0.72, 0.68), (0.77, 0.76, 0.58)
    vis, acs = ph.NoiseModel({"vis": 26.2}, systematic=0.0), ("f814w",)
    deep = {"g": 26.6, "r": 26.2, "i": 26.2}
    cosmos = {"f814w": point_depth(27.2, snr=5, diameter=0.24, fwhm=0.1)}

    def filters(name: str) -> tuple[Filter, ...]:
        return survey_filters(name, gri)

    return {
        "lsst": Survey(gri, 0.2, (0.87, 0.83, 0.80), 3.5, lsst, filters("lsst"), "i", 64),
        "euclid": Survey(
            ("vis",), 0.1, (0.16,), 2.5, vis, survey_filters("euclid", ("vis",)), "vis", 100, scatter=0.03
        ),
        "des": Survey(
            gri, 0.263, des, 3.5, _aperture("gri", (24.7, 24.4, 23.8), des, 10, 1.95), filters("des"), "i", 64,
            scatter=0.12,
        ),
        "cfhtls": Survey(
            gri, 0.187, cfhtls, 3.5, _aperture("gri", (25.58, 24.88, 24.54), cfhtls, 5, 2.0), filters("cfht"), "i",
            80, scatter=0.14,
        ),
        "hsc": Survey(
            gri, 0.168, hsc, 3.5, ph.NoiseModel(deep, systematic=0.0), filters("hsc"), "i", 72, scatter=0.12
        ),
        "hst": Survey(
            acs, 0.05, (0.1,), 2.5, ph.NoiseModel(cosmos, systematic=0.0), (_acs(),), "f814w", 160, scatter=0.02
        ),
    }  # fmt: skip


def survey(given: str | Survey) -> Survey:
    """One of :func:`surveys` by its name, or the survey that is given.

    Raises
    ------
    DeepfieldError
        If there is none of that name.
    """
    if isinstance(given, Survey):
        return given
    known = surveys()
    if given.lower() not in known:
        raise DeepfieldError(f"no survey '{given}' to simulate lenses in: choose from {', '.join(known)}")
    return known[given.lower()]
