"""Cosmic shear in the box: a tomographic data vector of a survey such as LSST, exact likelihood and simulator.

Data are the E-mode spectra of all pairs of source bins in bands of l. Parameters are those of flat LCDM, the
amplitude of intrinsic alignments (NLA; Bridle & King 2007), and a shift of the redshifts of each bin. The matter
spectrum is whatever the caller gives, at a few hundred cosmologies of the prior; between them its logarithm is a
polynomial, so that a data vector costs half a millisecond. Noise is Gaussian, with the covariance of a Gaussian
field at one cosmology (Knox 1995; Hu & Jain 2004), so an exact posterior stands beside every learnt one.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline, RectBivariateSpline
from scipy.special import erf
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

Z = np.arange(1, 101) * 0.03
"""Where integrals along the line of sight are evaluated, up to redshift 3."""

_NODES, _WAVE = np.linspace(0, 3, 13), 160
_DEGREE, _DESIGN = 5, 1024
_ROWS = 256


@dataclass(frozen=True)
class Survey:
    """What is observed.

    Parameters
    ----------
    n_of_z : array (B, 100)
        Sources of each bin at the redshifts :data:`Z`, in any unit.
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
    """

    n_of_z: Array
    density: float = 10.0
    area: float = 12_300.0
    shape_noise: float = 0.26
    edges: Array = field(default_factory=lambda: np.geomspace(30, 1500, 13).round())
    z_error: float = 0.002

    def __post_init__(self) -> None:
        n = np.asarray(self.n_of_z, float)
        if n.ndim != 2 or n.shape[1] != len(Z) or not (np.isfinite(n) & (n >= 0)).all() or not n.any(1).all():
            raise DeepfieldError(f"n(z) is of numbers from 0 on, (bins, {len(Z)}), one bin a row; got {n.shape}")
        if not (np.diff(self.edges) >= 1).all() or self.edges[0] < 2:
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
        return self.n_of_z @ Z / self.n_of_z.sum(1)

    @property
    def noise(self) -> Array:
        """Spectra (B,) of the shape noise, sigma^2 over the sources per steradian."""
        share = self.n_of_z.sum(1) / self.n_of_z.sum()
        return self.shape_noise**2 / (self.density * share * (60 * 180 / np.pi) ** 2)


def lsst_y1(bins: int = 5) -> Survey:
    """The first year of LSST as the DESC Science Requirements Document has it (arXiv:1809.01669, appendix D).

    n(z) is z^2 exp(-(z / 0.13)^0.78), up to 3, in bins of equal numbers of estimated redshifts, which scatter by
    0.05 (1 + z). Bands of l end at 1500, where the document goes on to 3000 with less certain physics.

    Examples
    --------
    >>> lsst_y1().mean_z.round(1).tolist()
    [0.3, 0.5, 0.7, 1.0, 1.7]
    """
    fine = np.linspace(0, 3.5, 3501)
    total = fine**2 * np.exp(-((fine / 0.13) ** 0.78))
    scatter = 0.05 * (1 + Z[:, None])
    # Counts of estimated redshifts, for edges that share them evenly (Ma, Hu & Huterer 2006).
    edges = np.interp(np.linspace(0, 1, bins + 1), np.cumsum(total) / total.sum(), fine)
    edges[-1] = np.inf
    below = erf((edges - Z[:, None]) / (np.sqrt(2) * scatter))
    return Survey((np.interp(Z, fine, total)[:, None] * np.diff(below, axis=1)).T)


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
        Of the same parameters, bounded in those of cosmology; by default flat in :data:`BOUNDS`, and normal for the
        shifts, with ``survey.z_error``.
    data : array (P L,), optional
        Spectra as :meth:`mean` orders them; by default a mock observation at :data:`FIDUCIAL`.
    seed : int
        Of the mock's noise.

    Raises
    ------
    DeepfieldError
        If the prior is of other parameters or unbounded, or reaches where ``power`` is not known.

    Examples
    --------
    >>> from deepfield.emulators import MatterPower
    >>> world = CosmicShear(MatterPower(), lsst_y1(2))
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
        seed: int = 0,
    ) -> None:
        self.survey = survey = survey or lsst_y1()
        bins = range(len(survey.n_of_z))
        shifts = {f"shift_{i + 1}": {"normal": [0.0, survey.z_error * (1 + survey.mean_z[i])]} for i in bins}
        self.prior = self._checked(prior or Prior({**BOUNDS, **shifts}), (*BOUNDS, *shifts))
        self.pairs = np.array(list(combinations_with_replacement(bins, 2)))
        self._n = CubicSpline(Z, survey.n_of_z, axis=1, extrapolate=False)
        self._power = _PowerTable(power, survey.ell, self.prior.support()[: len(COSMOLOGY)])
        fiducial = np.array([[*FIDUCIAL.values(), *(0.0 for _ in bins)]])
        self.covariance = self._knox(fiducial)
        self._whitener = np.linalg.inv(np.linalg.cholesky(self.covariance))
        mock = self._whitened(fiducial)[0] + np.random.default_rng(seed).standard_normal(len(self.covariance))
        self._compress(mock if data is None else self._whitener @ np.asarray(data, float))

    @staticmethod
    def _checked(prior: Prior, names: tuple[str, ...]) -> Prior:
        if prior.names != names:
            raise DeepfieldError(f"the prior is one of {', '.join(names)}, not of {', '.join(prior.names)}")
        if not np.isfinite(prior.support()[: len(COSMOLOGY)]).all():
            raise DeepfieldError(f"the prior of {', '.join(COSMOLOGY)} needs bounds, in which the spectrum is laid out")
        return prior

    def within(self, prior: Prior) -> CosmicShear:
        """The same with a narrower prior, whose models differ along fewer axes: shorter data.

        Examples
        --------
        >>> from deepfield.emulators import MatterPower
        >>> world = CosmicShear(MatterPower(), lsst_y1(2))
        >>> len(world.within(world.prior.cut(world.prior.support() * 0.5 + [0.25])).observed)
        """
        near = copy.copy(self)
        near.prior = self._checked(prior, self.prior.names)
        near._compress(self._centre + self.observed @ self._axes)  # what is perpendicular is noise alone
        return near

    def _knox(self, theta: Array) -> Array:
        """Covariance (P L, P L) of Gaussian fields: (C_ik C_jl + C_il C_jk) over the number of modes."""
        survey, (i, j) = self.survey, self.pairs.T
        signal = np.zeros((len(survey.n_of_z), len(survey.n_of_z), len(survey.ell)))
        signal[i, j] = signal[j, i] = self.mean(theta).reshape(len(i), -1)
        signal += np.diag(survey.noise)[..., None]
        first, second = (signal[i][:, a] * signal[j][:, b] for a, b in ((i, j), (j, i)))
        modes = np.diff(survey.edges**2) * survey.area / FULL_SKY  # the sum of 2 l + 1
        blocks = (first + second) / modes
        size = blocks.shape[0] * blocks.shape[2]
        return np.einsum("pql,lm->plqm", blocks, np.eye(len(modes))).reshape(size, size)

    def mean(self, theta: ArrayLike) -> Array:
        """Spectra (N, P L) without noise: all l of the first of ``pairs``, then of the next.

        Raises
        ------
        DeepfieldError
            If a cosmology is outside the prior's bounds.
        """
        rows = self.prior.rows(theta)
        parts = [self._mean(rows[i : i + _ROWS]) for i in range(0, len(rows), _ROWS)]
        return np.concatenate(parts)

    def _mean(self, rows: Array) -> Array:
        spectrum = self._power(rows[:, : len(COSMOLOGY)])
        matter, amplitude, shifts = rows[:, 0], rows[:, len(COSMOLOGY)], rows[:, len(COSMOLOGY) + 1 :]
        chi, rate = HUBBLE_DISTANCE * flat_distance(Z, matter), expansion_rate(Z, matter) / HUBBLE_DISTANCE
        n = np.stack([self._n(Z - shift[:, None])[i] for i, shift in enumerate(shifts.T)], 1)
        n = np.clip(np.nan_to_num(n), 0, None)
        kernel = lensing_kernel(Z, chi, matter, n, chi)
        # Galaxies that point to the matter around them: n(chi) times -A C1 rho_c Omega_m / D.
        tidal = -C1_DENSITY * (amplitude * matter)[:, None] / growth(Z, matter) * rate
        kernel += n / (n @ trapezoidal(Z))[..., None] * tidal[:, None]
        found = limber(kernel, spectrum, trapezoidal(np.r_[0, Z])[1:] / (rate * chi**2))
        i, j = self.pairs.T
        return (found[:, i, j] * shear_factor(self.survey.ell)).reshape(len(rows), -1)

    def _whitened(self, theta: ArrayLike) -> Array:
        return self.mean(theta) @ self._whitener.T


class _PowerTable:
    """P at k = (l + 1/2) / chi(z), (N, L, Z): its logarithm as a polynomial in those of the parameters."""

    def __init__(self, power: Power, ell: Array, bounds: Array) -> None:
        self.bounds, self.shape = bounds, (len(ell), len(Z))
        unit = qmc.Sobol(len(bounds), seed=0).random(_DESIGN)
        theta = bounds[:, 0] + unit * (bounds[:, 1] - bounds[:, 0])
        low, high = getattr(power, "k_range", (1e-4, 50.0))
        wave = np.geomspace(max(low, 1e-3), high, _WAVE)
        given: Mapping[str, Array] = dict(zip(COSMOLOGY, theta.T))
        known = np.log(np.asarray(power(given, wave, _NODES), float))
        asked = np.log((ell[:, None] + 0.5) / (HUBBLE_DISTANCE * flat_distance(Z, theta[:, 0]))[:, None])
        near = np.clip(asked, np.log(wave[0]), np.log(wave[-1]))
        found = []
        for row, at, inside in zip(known, asked, near):
            line, z = RectBivariateSpline(_NODES, np.log(wave), row), np.broadcast_to(Z, self.shape)
            found.append(line.ev(z, inside) + line.ev(z, inside, dy=1) * (at - inside))
        terms = self._terms(theta)
        self.weights = np.linalg.lstsq(terms, np.reshape(found, (len(theta), -1)), rcond=None)[0]

    def _terms(self, theta: Array) -> Array:
        low, high = np.log(self.bounds).T
        x = 2 * (np.log(theta) - low) / (high - low) - 1
        series = np.polynomial.chebyshev.chebvander(x, _DEGREE)  # (N, D, degree + 1)
        orders = [o for o in np.ndindex(*[_DEGREE + 1] * x.shape[1]) if sum(o) <= _DEGREE]
        return np.prod([series[:, i, list(order)] for i, order in enumerate(zip(*orders))], axis=0)

    def __call__(self, theta: Array) -> Array:
        slack = 1e-6 * (self.bounds[:, 1] - self.bounds[:, 0])
        outside = (theta < self.bounds[:, 0] - slack) | (theta > self.bounds[:, 1] + slack) | np.isnan(theta)
        if outside.any():
            row, column = np.argwhere(outside)[0]
            raise DeepfieldError(
                f"{COSMOLOGY[column]} = {theta[row, column]:g} is outside the prior's bounds, "
                f"{self.bounds[column, 0]:g} to {self.bounds[column, 1]:g}, in which the spectrum was laid out"
            )
        return np.exp(self._terms(theta) @ self.weights).reshape(-1, *self.shape)
