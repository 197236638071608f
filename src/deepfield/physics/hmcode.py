"""HMcode2020: the nonlinear matter power spectrum from the linear one, by an augmented halo model.

Mead et al. (2021, MNRAS 502, 1401), in flat universes, with baryonic feedback if asked for. The formulas are
those of the paper's sections 4 and 6 and tables 2 and 4, and the details of the numbers those of CAMB: some per
cent from simulations, and here 0.1 % from CAMB in LCDM.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline
from scipy.special import sici

from deepfield.core.errors import DeepfieldError
from deepfield.physics.power import dark_share, growth_path, neutrino_growth, smooth_transfer

Array = NDArray[np.float64]

DENSITY = 2.775e11
"""Critical density today, h^2 Msun / Mpc^3."""

_K = np.geomspace(1e-4, 1e3, 1000)  # h/Mpc, of the linear spectrum in integrals
_STEP = np.log(_K[1] / _K[0])
_MASS = 10 ** (18 / 255 * np.arange(78, 240))  # Msun / h, in CAMB's steps, whose sum is 0.05 % off the integral
_RADII = np.geomspace(5e-4, 120.0, 96)  # Mpc/h, of the variance in spheres
_WIGGLE = np.geomspace(5e-3, 5.0, 512)
# h/Mpc. Of the linear spectrum on straight lines (in logarithms) between these oscillations are found, as in CAMB,
# which leaves a few 1e-4 of them undamped beyond 0.15 h/Mpc.
_TABLE = np.geomspace(1e-4, 1e2, 512)[144:402]
_ONE_HALO = np.geomspace(5e-3, 50.0, 64)  # h/Mpc, where the one-halo term is evaluated


def hmcode(
    k: ArrayLike,
    power: Callable[[Array], Array],
    omega_m: ArrayLike,
    omega_b: ArrayLike,
    h: ArrayLike,
    n_s: ArrayLike,
    z: ArrayLike,
    *,
    w0: ArrayLike = -1.0,
    wa: ArrayLike = 0.0,
    f_nu: ArrayLike = 0.0,
    log_t_agn: ArrayLike | None = None,
) -> Array:
    """Nonlinear spectra (N, K) in (Mpc/h)^3.

    Parameters
    ----------
    k : array (K,)
        h/Mpc, at most 50.
    power : callable
        Linear spectra (N, Q) in (Mpc/h)^3 at wavenumbers (Q,) of 1e-4 to 50 h/Mpc and the redshifts ``z``.
    omega_m, omega_b, h, n_s, z : array (N,) or scalar
        Shares of matter (neutrinos included) and baryons today, Hubble rate, tilt, redshift.
    w0, wa : array (N,) or scalar
        Equation of state of dark energy, w0 + wa (1 - a).
    f_nu : array (N,) or scalar
        Share of massive neutrinos, three alike, in the matter.
    log_t_agn : array (N,) or scalar, optional
        Feedback: log10 of the temperature in K to which active nuclei heat the gas, 7.3 to 8.3 in the simulations
        that it was fitted to; without it all matter is taken as dark.

    Raises
    ------
    DeepfieldError
        If k is not within its range.

    Examples
    --------
    >>> from deepfield.physics.power import transfer
    >>> k = np.array([0.01, 1.0, 5.0])
    >>> linear = lambda k: 2.3e6 * k**0.965 * transfer(0.68 * k, 0.143, 0.0227)[None] ** 2
    >>> boost = hmcode(k, linear, 0.31, 0.049, 0.68, 0.965, 0.0) / linear(k)
    >>> bool(abs(boost[0, 0] - 1) < 0.01), bool(3 < boost[0, 1] < boost[0, 2])
    (True, True)
    """
    wave = np.atleast_1d(np.asarray(k, float))
    if not (wave > 0).all() or wave.max() > 50:
        raise DeepfieldError("hmcode is known for k of 0 to 50 h/Mpc")
    given = (omega_m, omega_b, h, n_s, z, w0, wa, f_nu, np.nan if log_t_agn is None else log_t_agn)
    m, b, rate, tilt, redshift, *rest = np.broadcast_arrays(*(np.atleast_1d(np.asarray(v, float)) for v in given))
    split = np.cumsum([len(wave), len(_TABLE)])
    linear, rough, near = np.split(power(np.concatenate([wave, _TABLE, _K[_K <= 50]])), split, axis=1)
    rough = np.exp([np.interp(np.log(_WIGGLE), np.log(_TABLE), row) for row in np.log(rough)])
    delta = _beyond(near) * _K**3 / (2 * np.pi**2)
    growth = Growth(m, rest[0], rest[1], redshift)
    cold, whole = neutrino_growth(_K * rate[:, None], m * rate**2, rest[2], growth.value)
    halos = _Halos(delta, (cold / whole) ** 2, m, tilt, redshift, growth, rest[2])
    wiggle = _at(np.log(wave), np.log(_WIGGLE), rough - _smooth(rough, m, b, rate, tilt))
    wiggle[:, (wave < _WIGGLE[0]) | (wave > _WIGGLE[-1])] = 0
    unit = wave**3 / (2 * np.pi**2)
    two = halos.two(wave, linear + (np.exp(-((wave * halos.sigma_v[:, None]) ** 2)) - 1) * wiggle) * unit
    a = halos.alpha[:, None]
    found = (np.maximum(two, 0) ** a + halos.one(wave) ** a) ** (1 / a) / unit
    return found if log_t_agn is None else found * halos.response(wave, linear * unit, rest[3], b / m)


def _beyond(near: Array) -> Array:
    """Spectra on the whole grid, by a power law beyond 50 h/Mpc."""
    found = np.empty((len(near), len(_K)))
    known = near.shape[1]
    found[:, :known] = near
    steepness = np.log(near[:, -1:] / near[:, -2:-1])
    found[:, known:] = near[:, -1:] * np.exp(steepness * np.arange(1, len(_K) - known + 1))
    return found


class _Halos:
    """Halo masses, their abundance and profiles, and the fitted parameters of table 2, for each row."""

    def __init__(
        self, delta: Array, cold: Array, m: Array, tilt: Array, z: Array, growth: Growth, f_nu: Array
    ) -> None:
        self.m, self.f_nu, self.z = m, f_nu, z
        collapse, virial = _collapse(growth.share, growth.value * (1 + z), growth.total * (1 + z))
        collapse, virial = collapse * (1 - 0.041 * f_nu), virial * (1 + 0.763 * f_nu)
        in_spheres, slope = _spheres()
        self.sigma_v = np.sqrt((delta / _K**2).sum(1) * _STEP / 3)
        delta = delta * cold
        variance = delta @ in_spheres
        sigma = np.exp(0.5 * _at(np.log([8.0]), np.log(_RADII), np.log(variance))[:, 0])
        self.eta = 0.1281 * sigma**-0.3644
        self.k_star = 0.05618 * sigma**-1.013
        self.damping = np.clip(0.2696 * sigma**0.9403, 1e-3, 0.99)
        self.k_damp = 0.05699 * sigma**-1.089
        radii = np.cbrt(3 * _MASS / (4 * np.pi * DENSITY * m[:, None]))
        log_nu = np.log(collapse)[:, None] - 0.5 * np.log(variance)
        log_r = np.log(_RADII)
        self.nu = np.exp(_each(np.log(radii), log_r, log_nu))
        index = -3 - (delta @ slope) / variance
        scale = np.array([np.interp(0.0, row, log_r) for row in log_nu])
        scale = _newton(scale, log_r, log_nu)
        effective = np.clip(_each(scale[:, None], log_r, index)[:, 0], tilt - 4, tilt)
        self.alpha = np.clip(1.875 * 1.603**effective, 0.5, 2.0)
        self.virial = radii / np.cbrt(virial)[:, None]
        # A halo formed when a hundredth of its mass had collapsed (Bullock et al. 2001).
        early = np.exp(_each(np.log(radii * np.cbrt(0.01)), log_r, log_nu))
        formed = growth.inverse(growth.value[:, None] * np.minimum(early, 1))
        self.concentration = growth.dolag[:, None] / (formed * (1 + z)[:, None])  # in units of its amplitude

    def two(self, k: Array, power: Array) -> Array:
        x = (k / self.k_damp[:, None]) ** 2.85
        return power * (1 - self.damping[:, None] * x / (1 + x))

    def one(self, k: Array) -> Array:
        """The one-halo term of Delta^2."""
        return self._halo_term(k, self.eta, np.full(len(self.m), 5.196), 1 - self.f_nu)

    def response(self, k: Array, linear: Array, log_t_agn: Array, f_b: Array) -> Array:
        """What feedback makes of the spectrum (N, K): halos without gas beyond what they hold, and with stars.

        Section 6.2 of the paper, table 4; ``linear`` (N, K) is of Delta^2, ``f_b`` (N,) the share of baryons.
        """
        theta, none = log_t_agn - 7.8, np.zeros(len(self.m))
        amplitude = (3.44 - 0.496 * theta) * 10 ** (self.z * (-0.0671 - 0.0371 * theta))
        stars = np.minimum((0.0201 - 0.003 * theta) * 10 ** (self.z * (0.409 + 0.0224 * theta)), f_b)
        holding = 10 ** (13.87 + 1.81 * theta + self.z * (0.195 * theta - 0.108))  # Msun / h
        r = (_MASS / holding[:, None]) ** 2
        kept = (1 - f_b - self.f_nu)[:, None] + (f_b - stars)[:, None] * r / (1 + r)
        dark = self._halo_term(k, none, none + 4, 1 - self.f_nu)
        return (linear + self._halo_term(k, none, amplitude, kept, stars)) / (linear + dark)

    def _halo_term(self, k: Array, eta: Array, amplitude: Array, mass: Array, stars: Array | None = None) -> Array:
        """An integral over nu, smooth in k, so that few wavenumbers are enough.

        ``amplitude`` (N,) is that of the concentration, ``mass`` (N,) or (N, M) the share of a halo's mass that
        follows its profile, and ``stars`` (N,) one that sits in its centre.
        """
        nu = self.nu
        abundance = 0.21616 * (1 + (0.707 * nu**2) ** -0.3) * np.exp(-0.707 * nu**2 / 2)  # Sheth & Tormen 1999
        weight = abundance * _MASS * np.gradient(nu, axis=1)
        share = mass if mass.ndim == 2 else np.broadcast_to(mass[:, None], nu.shape)
        found = np.empty((len(nu), len(_ONE_HALO)))
        for i, row in enumerate(weight):
            used = row > 1e-7 * row.max()
            reach = (_ONE_HALO[:, None] * nu[i, used] ** eta[i]) * self.virial[i, used]
            window = np.clip(_nfw(reach, amplitude[i] * self.concentration[i, used]), 0, 1) * share[i, used]
            found[i] = (window if stars is None else window + stars[i]) ** 2 @ row[used]
        near = np.clip(np.log(k), np.log(_ONE_HALO[0]), np.log(_ONE_HALO[-1]))
        term = np.exp(_at(near, np.log(_ONE_HALO), np.log(found)))
        x = (k / self.k_star[:, None]) ** 4
        return term / (DENSITY * self.m)[:, None] * k**3 / (2 * np.pi**2) * x / (1 + x)


def _nfw(reach: Array, c: Array) -> Array:
    """Fourier transform of the profile of Navarro, Frenk & White (1997) at k r_v, one at k = 0."""
    x = reach / c
    s1, c1 = sici(x)
    s2, c2 = sici((1 + c) * x)
    whole = np.cos(x) * (c2 - c1) + np.sin(x) * (s2 - s1) - np.sin(c * x) / ((1 + c) * x)
    return whole / (np.log1p(c) - c / (1 + c))


@functools.cache
def _spheres() -> tuple[Array, Array]:
    """Matrices (K, R) from Delta^2 to the variance in spheres, and to its derivative in ln R."""
    x = _K[:, None] * _RADII
    window = np.where(x < 1e-2, 1 - x**2 / 10, 3 * (np.sin(x) - x * np.cos(x)) / x**3)
    slope = np.where(x < 1e-2, -(x**2) / 5, 3 * ((x**2 - 3) * np.sin(x) + 3 * x * np.cos(x)) / x**3)
    return _STEP * window**2, _STEP * 2 * window * slope


@functools.cache
def _smoothing() -> Array:
    """Gaussian smoothing in ln k with a width of 0.25, none within three widths of the ends."""
    log_k = np.log(_WIGGLE)
    kernel = np.exp(-((log_k[:, None] - log_k) ** 2) / (2 * 0.25**2))
    kernel /= kernel.sum(1, keepdims=True)
    near = np.minimum(log_k - log_k[0], log_k[-1] - log_k) < 3 * 0.25
    kernel[near] = np.eye(len(log_k))[near]
    return kernel


def _smooth(power: Array, m: Array, b: Array, h: Array, tilt: Array) -> Array:
    """The spectrum without oscillations on the grid of wiggles: its ratio to Eisenstein & Hu, smoothed."""
    square = (h * h)[:, None]
    known = (
        _WIGGLE ** tilt[:, None]
        * smooth_transfer(_WIGGLE * h[:, None], m[:, None] * square, b[:, None] * square) ** 2
    )
    return (power / known) @ _smoothing().T * known


def _at(log_k: ArrayLike, nodes: Array, rows: Array) -> Array:
    return np.asarray(CubicSpline(nodes, rows, axis=1)(log_k))


def _each(places: Array, nodes: Array, rows: Array) -> Array:
    """Rows (N, R) at places (N, M), by a cubic through the four nearest of the even nodes (R,)."""
    step = nodes[1] - nodes[0]
    i = np.clip(((places - nodes[0]) / step).astype(int) - 1, 0, len(nodes) - 4)
    t = (places - nodes[0]) / step - i
    y = [np.take_along_axis(rows, i + j, 1) for j in range(4)]
    a, b, c, d = t, t - 1, t - 2, t - 3
    return -y[0] * b * c * d / 6 + y[1] * a * c * d / 2 - y[2] * a * b * d / 2 + y[3] * a * b * c / 6


def _newton(start: Array, nodes: Array, rows: Array) -> Array:
    """Where rows that increase pass through zero, from a start that is nearly there."""
    at = np.clip(start, nodes[0], nodes[-1])
    for _ in range(3):
        value, more = _each(at[:, None], nodes, rows)[:, 0], _each(at[:, None] + 1e-3, nodes, rows)[:, 0]
        at = np.clip(at - value / ((more - value) / 1e-3), nodes[0], nodes[-1])
    return at


class Growth:
    """Growth without radiation, as HMcode has it, of each row: D = a at early times.

    ``share`` is that of matter at the redshift, ``value`` and ``total`` D and its integral over ln a there, and
    ``dolag`` the factor of the concentration for dark energy (Dolag et al. 2004): growth since z = 10 against
    that of LCDM by Linder's gamma of 0.55, which differs in LCDM too, by some thousandths.
    """

    log_a = np.linspace(np.log(1e-3), 0.0, 46)

    def __init__(self, m: Array, w0: Array, wa: Array, z: Array) -> None:
        table = (growth_path(self.log_a, m, w0, wa) * np.exp(self.log_a)[:, None]).T
        total = CubicSpline(self.log_a, table, axis=1).antiderivative()(self.log_a) + table[:, :1]
        at = -np.log1p(z)[:, None]
        self.share = 1 - dark_share(at[:, 0], m, w0, wa)
        self.table = CubicSpline(self.log_a, np.log(table), axis=1)
        self.value = np.exp(_each(at, self.log_a, np.log(table))[:, 0])
        self.total = np.exp(_each(at, self.log_a, np.log(total))[:, 0])
        early = np.exp(self.table(np.log(1 / 11)))
        nodes, weights = np.polynomial.legendre.leggauss(24)
        low = np.log(1 / 11)
        places = low + (at - low) * (nodes + 1) / 2
        share = 1 - dark_share(places, m[:, None], -1.0, 0.0)
        self.dolag = early / self.value * np.exp(((share**0.55) @ weights) * (at[:, 0] - low) / 2)

    def inverse(self, value: Array) -> Array:
        """Scale factors (N, M) at which D has the values (N, M)."""
        fine = np.linspace(self.log_a[0], 0.0, 600)
        return np.exp([np.interp(row, known, fine) for row, known in zip(np.log(value), self.table(fine))])


def _collapse(share: Array, growth: Array, total: Array) -> tuple[Array, Array]:
    """Linear collapse threshold and virial overdensity: Mead (2017), equations A1 to A3, of D / a and G / a."""
    x, y, log = 1 - growth, 1 - total, np.log10(share)

    def f(p0: float, p1: float, p2: float, p3: float) -> Array:
        return p0 + p1 * x + p2 * x**2 + p3 * y

    threshold = 1 + f(-0.0069, -0.0208, 0.0312, 0.0021) * log + f(0.0001, -0.0647, -0.0417, 0.0646)
    virial = 1 + f(-0.79, -10.17, 2.51, 6.51) * log + f(-1.89, 0.38, 18.8, -15.87) * log**2
    return threshold * 3 / 20 * (12 * np.pi) ** (2 / 3), virial * 18 * np.pi**2
