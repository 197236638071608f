"""Cosmic shear in the box: a tomographic data vector of a survey such as LSST, exact likelihood and simulator.

Data are the E-mode spectra of all pairs of source bins in bands of l. Parameters are those of flat LCDM, the
amplitude of intrinsic alignments (NLA; Bridle & King 2007), and a shift of the redshifts of each bin. The matter
spectrum is whatever the caller gives, at some hundred cosmologies of the prior; between them its logarithm is a
polynomial, so that a data vector costs a fraction of a millisecond. Noise is Gaussian, with the covariance of
Gaussian fields at one cosmology (Knox 1995; Hu & Jain 2004), so an exact posterior stands beside every learnt one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.special import ndtr
from scipy.stats import qmc

from deepfield.core.errors import DeepfieldError
from deepfield.inference.compression import Compressed
from deepfield.inference.priors import Prior
from deepfield.physics.cosmology import FULL_SKY, HUBBLE_DISTANCE, expansion_rate, flat_distance
from deepfield.physics.limber import lensing_kernel, limber, shear_factor, trapezoidal
from deepfield.physics.power import growth

Array = NDArray[np.float64]
Power = Callable[[Any, Any, Any], Any]

BOUNDS: dict[str, tuple[float, float]] = {
    "omega_m": (0.1, 0.5),
    "omega_b": (0.03, 0.07),
    "h": (0.55, 0.9),
    "n_s": (0.87, 1.07),
    "sigma_8": (0.6, 1.0),
    "a_ia": (-5.0, 5.0),
}
"""Flat priors: those of DES Y3 (arXiv:2105.13543, table I) where they lie in the box of the emulators."""

FIDUCIAL = {"omega_m": 0.3156, "omega_b": 0.0492, "h": 0.6727, "n_s": 0.9645, "sigma_8": 0.831, "a_ia": 0.0}
"""Where the noise and the mock observation are made: the cosmology of the DESC Science Requirements Document."""

COSMOLOGY = tuple(BOUNDS)[:5]
C1_DENSITY = 0.0134
"""C1 times the critical density, of intrinsic alignments (Joachimi et al. 2011, A&A 527, A26)."""

_Z = 3 * (np.arange(1, 151) / 150) ** 2  # along the line of sight, densest near us
_NEAR = trapezoidal(np.r_[0, _Z])[1:]  # weights there; what is integrated is zero at zero
_NODES, _WAVES = np.linspace(0, 3, 13), 160  # of the spectra that are asked for
_ROWS = 256  # cosmologies at once


@dataclass(frozen=True, eq=False)
class Survey:
    """What is observed.

    Parameters
    ----------
    z : array (S,)
        Increasing, from 0 to 3 at most: sources beyond are left out.
    n_of_z : array (B, S)
        Sources of each bin, in one unit for all.
    density : float
        Of all sources, per square arcminute; the bins share it by their n(z).
    area : float
        Square degrees.
    shape_noise : float
        Standard deviation of each component of the ellipticity.
    edges : array (L + 1,)
        Of the bands in l, whole numbers.
    z_error : float
        Of the mean redshift of each bin, over (1 + z).

    Examples
    --------
    >>> z = np.linspace(0, 2, 50)
    >>> Survey(z, [np.exp(-0.5 * ((z - 0.7) / 0.1) ** 2)], area=5000).mean_z.round(3).tolist()
    [0.7]
    """

    z: Array
    n_of_z: Array
    density: float = 10.0
    area: float = 12_300.0
    shape_noise: float = 0.26
    edges: Array = field(default_factory=lambda: np.geomspace(30, 1500, 13).round())
    z_error: float = 0.002

    def __post_init__(self) -> None:
        for name in ("z", "n_of_z", "edges"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), float))
        z, n = self.z, self.n_of_z
        if z.ndim != 1 or n.shape[1:] != z.shape or not (np.diff(z) > 0).all() or z[0] < 0 or z[-1] > 3:
            raise DeepfieldError(f"n(z) is (bins, S) at redshifts (S,) that increase from 0 to 3, got {n.shape}")
        if not (np.isfinite(n) & (n >= 0)).all() or not n.any(1).all():
            raise DeepfieldError("n(z) is finite and not negative, and each bin has sources")
        if (self.edges != self.edges.round()).any() or not (np.diff(self.edges) >= 1).all() or self.edges[0] < 2:
            raise DeepfieldError("the edges of the bands in l are whole numbers from 2 on that increase")
        if not min(self.density, self.shape_noise, self.z_error) > 0 or not 0 < self.area <= FULL_SKY:
            raise DeepfieldError("density, shape noise and z_error are above 0, the area is at most the sky's")

    @property
    def ell(self) -> Array:
        """Geometric centres (L,) of the bands."""
        return np.sqrt(self.edges[1:] * self.edges[:-1])

    @property
    def mean_z(self) -> Array:
        """Mean redshifts (B,) of the bins."""
        return np.asarray(np.trapezoid(self.n_of_z * self.z, self.z)) / np.trapezoid(self.n_of_z, self.z)

    @property
    def noise(self) -> Array:
        """Spectra (B,) of the shape noise, sigma^2 over the sources per steradian."""
        counts = np.trapezoid(self.n_of_z, self.z)
        return self.shape_noise**2 / (self.density * counts / counts.sum() * (60 * 180 / np.pi) ** 2)


def lsst_y1(bins: int = 5) -> Survey:
    """The first year of LSST as the DESC Science Requirements Document has it (arXiv:1809.01669, appendix D).

    n(z) is z^2 exp(-(z / 0.13)^0.78), up to 3, in bins of equal numbers of estimated redshifts, which scatter by
    0.05 (1 + z). Bands of l end at 1500, where the document goes on to 3000 with less certain physics.

    Examples
    --------
    >>> lsst_y1().mean_z.round(1).tolist()
    [0.2, 0.5, 0.7, 0.9, 1.5]
    """
    z = np.linspace(0, 3, 601)
    total = z**2 * np.exp(-((z / 0.13) ** 0.78))
    edges = np.interp(np.linspace(0, 1, bins + 1), np.cumsum(total) / total.sum(), z)
    edges[[0, -1]] = -np.inf, np.inf
    # Of the sources at z the share whose estimate lies between two edges (Ma, Hu & Huterer 2006).
    below = ndtr((edges[:, None] - z) / (0.05 * (1 + z)))
    return Survey(z, total * np.diff(below, axis=0))


class CosmicShear(Compressed):
    """A survey and a matter spectrum: prior, simulator, mock observation and exact likelihood.

    Parameters
    ----------
    power : callable
        ``power(cosmology, k, z)``, P (N, Z, K) in (Mpc/h)^3 of a mapping of arrays (N,) with the names of
        :data:`COSMOLOGY`, k (K,) in h/Mpc and z (Z,), such as ``emulators.MatterPower(nonlinear=True)``; if it has
        a ``k_range``, not beyond it, where the spectrum goes on as a power of k.
    survey : Survey, optional
        By default :func:`lsst_y1`.
    prior : Prior, optional
        Of the same parameters, bounded in those of cosmology; by default flat in :data:`BOUNDS`, and normal for
        the shifts, with ``survey.z_error``.
    data : array (P L,), optional
        Spectra as :meth:`mean` orders them; by default a mock observation at :data:`FIDUCIAL`.
    runs : int
        Cosmologies at which ``power`` is asked: 1024 carry a polynomial of degree 5.
    seed : int
        Of the mock's noise.

    Attributes
    ----------
    covariance, whitener : array (P L, P L)
        Of the spectra, and the inverse of its Cholesky factor.
    pairs : array (P, 2)
        Bins of each spectrum.
    data : array (P L,)
        What is observed, before compression.

    Raises
    ------
    DeepfieldError
        If the prior is of other parameters or unbounded, or reaches where ``power`` is not known.

    Examples
    --------
    >>> from deepfield.emulators import MatterPower
    >>> world = CosmicShear(MatterPower(), lsst_y1(2), runs=64)
    >>> world.prior.names
    ('omega_m', 'omega_b', 'h', 'n_s', 'sigma_8', 'a_ia', 'shift_1', 'shift_2')
    >>> world.mean(world.prior.sample(3, seed=0)).shape
    (3, 36)
    """

    def __init__(
        self,
        power: Power,
        survey: Survey | None = None,
        *,
        prior: Prior | None = None,
        data: ArrayLike | None = None,
        runs: int = 1024,
        seed: int = 0,
    ) -> None:
        self.survey = survey = survey or lsst_y1()
        bins = range(len(survey.n_of_z))
        shifts = {f"shift_{i + 1}": {"normal": [0.0, survey.z_error * (1 + survey.mean_z[i])]} for i in bins}
        self.prior = self._checked(prior or Prior({**BOUNDS, **shifts}), (*BOUNDS, *shifts))
        self.pairs = np.array(list(combinations_with_replacement(bins, 2)))
        self._n = [CubicSpline(survey.z, row, extrapolate=False) for row in survey.n_of_z]
        self._power = _PowerTable(power, survey.ell, self.prior.support()[: len(COSMOLOGY)], runs)
        mean = self.mean([[*FIDUCIAL.values(), *(0.0 for _ in bins)]], direct=True)[0]
        self.covariance = self._knox(mean)
        root = np.linalg.cholesky(self.covariance)
        noise = root @ np.random.default_rng(seed).standard_normal(len(mean))
        self.data = mean + noise if data is None else np.asarray(data, float)
        if self.data.shape != mean.shape:
            raise DeepfieldError(f"data are {len(mean)} spectra, of pairs by bands of l, not {self.data.shape}")
        self.whitener = np.linalg.inv(root)
        self._compress(self.whitener @ self.data)

    @staticmethod
    def _checked(prior: Prior, names: tuple[str, ...]) -> Prior:
        if prior.names != names:
            raise DeepfieldError(f"the prior is one of {', '.join(names)}, not of {', '.join(prior.names)}")
        if not np.isfinite(prior.support()[: len(COSMOLOGY)]).all():
            raise DeepfieldError(
                f"the prior of {', '.join(COSMOLOGY)} needs bounds, in which the spectrum is laid out"
            )
        return prior

    def within(self, prior: Prior) -> CosmicShear:
        """The same with a narrower prior, whose models differ along fewer axes: shorter data."""
        near = copy.copy(self)
        near.prior = self._checked(prior, self.prior.names)
        near._compress(self.whitener @ self.data)
        return near

    def _knox(self, mean: Array) -> Array:
        """Covariance (P L, P L) of Gaussian fields: (C_ik C_jl + C_il C_jk) over the number of modes."""
        survey, (i, j) = self.survey, self.pairs.T
        signal = np.zeros((len(survey.n_of_z), len(survey.n_of_z), len(survey.ell)))
        signal[i, j] = signal[j, i] = mean.reshape(len(i), -1)
        signal += np.diag(survey.noise)[..., None]
        first, second = (signal[i][:, a] * signal[j][:, b] for a, b in ((i, j), (j, i)))
        modes = np.diff(survey.edges**2) * survey.area / FULL_SKY  # the sum of 2 l + 1
        blocks = (first + second) / modes
        size = blocks.shape[0] * blocks.shape[2]
        return np.einsum("pql,lm->plqm", blocks, np.eye(len(modes))).reshape(size, size)

    def compress(self, spectra: ArrayLike) -> Array:
        """Compressed data (..., K) of spectra (..., P L) with noise."""
        return self._project(np.asarray(spectra, float) @ self.whitener.T)

    def mean(self, theta: ArrayLike, *, direct: bool = False) -> Array:
        """Spectra (N, P L) without noise: all l of the first of ``pairs``, then of the next.

        ``direct`` asks ``power`` itself, instead of the polynomials.

        Raises
        ------
        DeepfieldError
            If a cosmology is outside the prior's bounds.
        """
        rows = self.prior.rows(theta)
        spectrum = self._power.direct if direct else self._power
        return np.concatenate([self._mean(rows[i : i + _ROWS], spectrum) for i in range(0, len(rows), _ROWS)])

    def _mean(self, rows: Array, spectrum: Callable[[Array], Array]) -> Array:
        matter, amplitude, shifts = rows[:, 0], rows[:, len(COSMOLOGY)], rows[:, len(COSMOLOGY) + 1 :]
        chi, rate = HUBBLE_DISTANCE * flat_distance(_Z, matter), expansion_rate(_Z, matter) / HUBBLE_DISTANCE
        n = np.stack([line(_Z - shift[:, None]) for line, shift in zip(self._n, shifts.T)], 1)
        n = np.clip(np.nan_to_num(n), 0, None)
        kernel = lensing_kernel(_Z, chi, matter, n * _NEAR, chi)
        # Galaxies that point to the matter around them: n(chi) times -A C1 rho_c Omega_m / D.
        tidal = -C1_DENSITY * (amplitude * matter)[:, None] / growth(_Z, matter) * rate
        kernel += n / (n @ _NEAR)[..., None] * tidal[:, None]
        found = limber(kernel, spectrum(rows[:, : len(COSMOLOGY)]), _NEAR / (rate * chi**2))
        i, j = self.pairs.T
        return (found[:, i, j] * shear_factor(self.survey.ell)).reshape(len(rows), -1)

    def _whitened(self, theta: ArrayLike) -> Array:
        return self.mean(theta) @ self.whitener.T


class _PowerTable:
    """P at k = (l + 1/2) / chi(z), (N, L, Z): its logarithm as a polynomial in those of the parameters."""

    def __init__(self, power: Power, ell: Array, bounds: Array, runs: int) -> None:
        self.power, self.ell, self.bounds = power, ell, bounds
        most = max((d for d in range(1, 6) if 3 * math.comb(len(bounds) + d, d) <= runs), default=0)
        if not most:
            raise DeepfieldError(f"{runs} runs are too few for a polynomial in {len(bounds)} parameters")
        self.orders = [o for o in np.ndindex(*[most + 1] * len(bounds)) if sum(o) <= most]
        design = qmc.scale(qmc.Sobol(len(bounds), seed=0).random_base2(math.ceil(math.log2(runs))), *bounds.T)
        logs = np.log(self.direct(design)).reshape(len(design), -1)
        self.weights = np.linalg.lstsq(self._terms(design), logs, rcond=None)[0]

    def direct(self, theta: Array) -> Array:
        """The spectrum as it is given, interpolated in ln k and z."""
        low, high = getattr(self.power, "k_range", (1e-4, 50.0))
        wave = np.geomspace(max(low, 1e-3), high, _WAVES)
        known = np.log(np.asarray(self.power(dict(zip(COSMOLOGY, theta.T)), wave, _NODES), float))
        asked = np.log((self.ell[:, None] + 0.5) / (HUBBLE_DISTANCE * flat_distance(_Z, theta[:, 0]))[:, None])
        near = np.clip(asked, np.log(wave[0]), np.log(wave[-1]))
        found = np.empty_like(asked)
        for i, row in enumerate(known):
            line = RectBivariateSpline(_NODES, np.log(wave), row)
            z = np.broadcast_to(_Z, near[i].shape)
            found[i] = line.ev(z, near[i]) + line.ev(z, near[i], dy=1) * (asked[i] - near[i])
        return np.exp(found)

    def _terms(self, theta: Array) -> Array:
        low, high = np.log(self.bounds).T
        x = 2 * (np.log(theta) - low) / (high - low) - 1
        series = np.polynomial.chebyshev.chebvander(x, max(map(max, self.orders)))  # (N, D, degree + 1)
        return np.prod([series[:, i, list(order)] for i, order in enumerate(zip(*self.orders))], axis=0)

    def __call__(self, theta: Array) -> Array:
        low, high = self.bounds.T
        slack = 1e-6 * (high - low)
        outside = ~((theta >= low - slack) & (theta <= high + slack))  # NaN too
        if outside.any():
            row, i = np.argwhere(outside)[0]
            raise DeepfieldError(
                f"{COSMOLOGY[i]} = {theta[row, i]:g} is outside the prior's bounds, {low[i]:g} to {high[i]:g}, in "
                "which the spectrum was laid out"
            )
        return np.exp(self._terms(theta) @ self.weights).reshape(-1, len(self.ell), len(_Z))
