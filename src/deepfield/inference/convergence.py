"""Convergence maps in the box: a lognormal sky as LSST would see it, beside its published full-field posterior.

The simulator of sbi_lens (Zeghal et al. 2022; Lanzieri et al. 2025) for one bin of sources: a map of 128 x 128
pixels, 5 degrees wide, whose logarithm (kappa / lambda + 1) is a Gaussian field, with white noise of the shapes of
30 galaxies per square arcminute. Parameters are omega_c and sigma_8; the rest is that of Planck 2015. Because
such a field has a known likelihood, its posterior was found once by a Hamiltonian chain over all pixels, which
learnt posteriors can be held against.
"""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import map_coordinates
from torch import Tensor

from deepfield.data import registry
from deepfield.inference.priors import Prior
from deepfield.physics.cosmology import HUBBLE_DISTANCE, expansion_rate, flat_distance
from deepfield.physics.halofit import halofit
from deepfield.physics.limber import lensing_kernel, limber, shear_factor
from deepfield.physics.power import growth, transfer, variance

Array = NDArray[np.float64]

SIZE, WIDTH = 128, math.radians(5.0)
"""Pixels along a side, and the side in radians."""

NOISE = 0.2 / math.sqrt(30 * (300 / SIZE) ** 2)
"""Of a pixel: shapes of 0.2 over the root of the galaxies in it."""

H, OMEGA_B, N_S = 0.6774, 0.0486, 0.9667


def sources(z: ArrayLike) -> Array:
    """Number of sources at each redshift, z^0.5 exp(-z^2), not normalised.

    Examples
    --------
    >>> bool(sources(0.5) > sources(2.0))
    True
    """
    redshift = np.asarray(z, float)
    return np.sqrt(redshift) * np.exp(-(redshift**2))


def convergence_power(ell: ArrayLike, omega_c: float, sigma_8: ArrayLike) -> Array:
    """Angular power spectra (S, L) of the convergence of :func:`sources` at multipoles (L,), for sigma_8 (S,).

    By Limber's integral (LoVerde & Afshordi 2008) over halofit of the spectrum of Eisenstein & Hu (1998), in a
    flat universe with a cosmological constant.

    Examples
    --------
    >>> weak, strong = convergence_power([1000.0], 0.25, [0.7, 0.9])[:, 0]
    >>> bool(2 < strong / weak < 4)
    True
    """
    multipole, amplitude = np.asarray(ell, float), np.atleast_1d(np.asarray(sigma_8, float))
    matter = omega_c + OMEGA_B
    nodes, steps = np.polynomial.legendre.leggauss(40)
    z = 1.5 * (1 + nodes)
    distance = HUBBLE_DISTANCE * flat_distance(z, matter)[0]
    rate = expansion_rate(z, matter)[0]
    behind = np.linspace(1e-3, 4.0, 2000)  # a finer grid, of the sources
    far = HUBBLE_DISTANCE * flat_distance(behind, matter)[0]
    kernel = lensing_kernel(z, distance, matter, sources(behind)[None], far)
    wave = np.geomspace(1e-4, 60.0, 320)  # h/Mpc
    shape = wave**N_S * transfer(wave * H, matter * H**2, OMEGA_B * H**2) ** 2
    linear = shape[None] / variance(wave, shape) * amplitude[:, None] ** 2
    falling = growth(z, matter)[0] ** 2
    share_then = matter * (1 + z) ** 3 / rate**2
    found = np.zeros((len(amplitude), len(multipole), len(z)))
    for i, chi in enumerate(distance):
        spectra = np.log(halofit(wave, linear * falling[i], share_then[i]))
        asked = np.log(np.clip((multipole + 0.5) / chi, wave[0], wave[-1]))
        found[..., i] = np.exp([np.interp(asked, np.log(wave), row) for row in spectra])
    steps = 1.5 * steps * HUBBLE_DISTANCE / rate  # of distance
    return limber(kernel, found, steps / distance**2)[:, 0, 0] * shear_factor(multipole)


class Convergence:
    """Prior, simulator, observation and published posterior.

    Parameters
    ----------
    pixels : int
        Along a side of the maps that are given: 128, or less where neighbours are averaged.

    Examples
    --------
    >>> world = Convergence()  # doctest: +SKIP
    >>> world.simulate(world.prior.sample(10, seed=0), seed=1).shape  # doctest: +SKIP
    (10, 1, 128, 128)
    """

    def __init__(self, pixels: int = SIZE) -> None:
        table = registry.load("sbi_lens", progress=False)
        self.pixels = pixels
        self.prior = Prior({"omega_c": {"normal": [0.3, 0.05]}, "sigma_8": {"normal": [0.8, 0.05]}})
        self.reference = np.asarray(table["chain"][0], float)
        self._shifts = np.asarray(table["shift"][0], float)
        self.observed = self._coarse(torch.from_numpy(np.array(table["kappa"])).float())[0].double().numpy()

    def shift(self, theta: ArrayLike) -> Array:
        """The lowest convergence that is possible, lambda (N,), from its table in omega_m and sigma_8."""
        rows = np.atleast_2d(np.asarray(theta, float))
        # The places of sbi_lens, half a cell off its own table: the published posterior assumes them.
        places = np.stack([(rows[:, 0] + OMEGA_B - 0.2) / 0.2 * 8 - 0.5, (rows[:, 1] - 0.6) / 0.4 * 8 - 0.5])
        return map_coordinates(self._shifts, places, order=1, mode="nearest")

    def simulate(self, theta: ArrayLike, seed: int) -> Array:
        """Noisy maps (N, 1, pixels, pixels)."""
        rows = np.atleast_2d(np.asarray(theta, float))
        generator = torch.Generator().manual_seed(seed)
        parts = [self._maps(rows[i : i + 50], generator) for i in range(0, len(rows), 50)]
        return torch.cat(parts).double().numpy()

    @torch.no_grad()
    def _maps(self, theta: Array, generator: torch.Generator) -> Tensor:
        radius, place = _radii()
        power = torch.from_numpy(np.exp(_table()(theta, radius))).float()[:, place] * (SIZE / WIDTH) ** 2
        power[:, 0, 0] = 0.0
        shift = torch.from_numpy(self.shift(theta)).float()[:, None, None]
        # The Gaussian field whose exponential has that spectrum: xi_g = ln(1 + xi / lambda^2).
        xi = torch.fft.irfft2(power, s=(SIZE, SIZE))
        gaussian = torch.fft.rfft2(torch.log1p(xi / shift**2)).abs()
        gaussian[:, 0, 0] = 0.0
        white = torch.randn(len(theta), SIZE, SIZE, generator=generator)
        field = torch.fft.irfft2(torch.fft.rfft2(white) * gaussian.sqrt(), s=(SIZE, SIZE))
        field = shift * torch.expm1(field - 0.5 * field.var((1, 2), correction=0, keepdim=True))
        noise = torch.randn(field.shape, generator=generator)
        return self._coarse((field + NOISE * noise)[:, None])

    def _coarse(self, maps: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(maps, SIZE // self.pixels)


class _Table:
    """log C(l) as a polynomial of (omega_c, log sigma_8) at each of some multipoles, linear in l between."""

    def __init__(self) -> None:
        self.ell = np.geomspace(30, 10**3.9, 90)
        matter = 0.3 + 0.26 * np.cos(np.pi * (np.arange(8) + 0.5) / 8)  # Chebyshev
        amplitude = 0.8 + 0.28 * np.cos(np.pi * (np.arange(6) + 0.5) / 6)
        logs = [np.log(convergence_power(self.ell, m, amplitude)) for m in matter]
        grid = np.stack(np.meshgrid(matter, amplitude, indexing="ij"), -1).reshape(-1, 2)
        self.weights = np.linalg.lstsq(self._terms(grid), np.concatenate(logs), rcond=None)[0]

    @staticmethod
    def _terms(theta: Array) -> Array:
        x, y = (theta[:, 0] - 0.3) / 0.26, (theta[:, 1] - 0.8) / 0.28
        terms = np.polynomial.chebyshev.chebvander2d(np.clip(x, -1, 1), np.clip(y, -1, 1), [6, 4])
        return np.asarray(terms, float)

    def __call__(self, theta: Array, ell: Array) -> Array:
        """The log of C (N, L)."""
        logs = self._terms(theta) @ self.weights
        right = np.clip(np.searchsorted(self.ell, ell), 1, len(self.ell) - 1)
        share = (ell - self.ell[right - 1]) / (self.ell[right] - self.ell[right - 1])
        return np.log((1 - share) * np.exp(logs[:, right - 1]) + share * np.exp(logs[:, right]))


@functools.cache
def _table() -> _Table:
    return _Table()


@functools.cache
def _radii() -> tuple[Array, Tensor]:
    """The multipoles of a map's waves, each once, and which one each wave of a real transform has."""
    along = 2 * np.pi / WIDTH * SIZE * np.fft.fftfreq(SIZE)
    ell = np.hypot(along[:, None], np.abs(along[: SIZE // 2 + 1]))
    once, place = np.unique(ell.round(6), return_inverse=True)
    return np.maximum(once, 30.0), torch.from_numpy(place.reshape(ell.shape))


def power_spectrum(maps: ArrayLike, *, bins: int = 20) -> Array:
    """Log of the mean power of maps (N, 1, P, P) in rings of equal steps in log l; rings without a wave fall out.

    Examples
    --------
    >>> power_spectrum(np.random.default_rng(0).normal(size=(3, 1, 32, 32)), bins=5).shape
    (3, 5)
    """
    data = torch.from_numpy(np.asarray(maps)).float()[:, 0]
    size = data.shape[-1]
    k = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)) * size
    edges = np.unique(np.geomspace(1, size / 2, bins + 1).round(6))
    ring = torch.from_numpy(np.clip(np.searchsorted(edges, k, side="right"), 0, len(edges)))
    power = torch.fft.rfft2(data).abs() ** 2
    total = power.new_zeros(len(power), len(edges) + 1)
    total.index_add_(1, ring.reshape(-1), power.reshape(len(power), -1))
    count = np.bincount(ring.reshape(-1).numpy(), minlength=len(edges) + 1)
    used = [i for i in range(1, len(edges)) if count[i]]
    found = total[:, used].double().numpy() / count[used]
    return np.log(found)


def wavelet_counts(maps: ArrayLike, *, scales: int = 5, bins: int = 14) -> Array:
    """Histograms (N, scales * bins) of the wavelet coefficients of maps (N, 1, P, P), as shares of the pixels.

    The starlet (Starck, Murtagh & Bijaoui 1998): differences of maps smoothed by a cubic spline of doubling width,
    edges taken as periodic; counts of its coefficients at each scale hold most of what a convergence map tells
    beyond its power (Ajani, Starck & Pettorino 2021). Coefficients are in units of those of pure noise.

    Examples
    --------
    >>> wavelet_counts(np.zeros((2, 1, 32, 32)), scales=2, bins=4).shape
    (2, 8)
    """
    data = torch.from_numpy(np.asarray(maps)).float()
    noise = NOISE / (SIZE / data.shape[-1])
    parts = []
    for scale, spread in zip(range(scales), _NOISE_OF_SCALE):
        smooth = data
        for axis in (2, 3):
            moved = [torch.roll(smooth, step * 2**scale, axis) for step in (-2, -1, 1, 2)]
            smooth = 0.0625 * (moved[0] + moved[3]) + 0.25 * (moved[1] + moved[2]) + 0.375 * smooth
        detail = ((data - smooth) / (noise * spread)).flatten(1)
        reach = 3.0 + 1.5 * scale
        place = ((detail / reach + 1) * (bins / 2)).long().clamp(0, bins - 1)
        counts = torch.zeros(len(data), bins).scatter_add_(1, place, torch.ones_like(detail))
        parts.append(counts / detail.shape[1])
        data = smooth
    return torch.cat(parts, 1).double().numpy()


_NOISE_OF_SCALE = (0.889, 0.200, 0.086, 0.041, 0.020, 0.010)
"""Standard deviations of the starlet's coefficients of white noise of unit deviation."""
