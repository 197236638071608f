r"""The matter power spectrum of wider universes: massive neutrinos, dark energy with w0 and wa, baryonic feedback.

The linear spectrum is that of massless neutrinos with the same cold matter and baryons
(:mod:`deepfield.emulators.linear`), since early on massive neutrinos are as massless ones; times the growth with
dark energy, an ordinary differential equation; times what Eisenstein & Hu (1999) say that free-streaming neutrinos
leave of it. CAMB differs from this by some tenths of a per cent, and by up to a seventh near the horizon, where
radiation and dark energy have perturbations of their own. That difference is emulated as any summary
statistic is (:mod:`deepfield.emulators.train`). The nonlinear spectrum is HMcode2020 on it, with nothing learnt.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.emulators.boltzmann import NEUTRINO_MASS
from deepfield.emulators.direct import NODES, sphere
from deepfield.emulators.model import Emulator, EmulatorConfig, rows_of
from deepfield.emulators.parameters import BOX, plain_values
from deepfield.emulators.power import K_RANGE, asked, check_k, check_z, shipped_direct
from deepfield.emulators.train import train
from deepfield.physics.cosmology import HUBBLE_DISTANCE
from deepfield.physics.hmcode import hmcode
from deepfield.physics.power import (
    OMEGA_RADIATION,
    dark_share,
    neutrino_growth,
    runge_kutta,
)

Array = NDArray[np.float64]

WIDE_BOX: dict[str, tuple[float, float]] = {
    **BOX,
    "omega_m": (0.15, 0.5),
    "m_nu": (0.0, 0.6),
    "w_0": (-1.5, -0.4),
    "w_a": (-2.0, 0.5),
}
"""The box of the narrow emulator, with Omega_m (neutrinos included) from 0.15; the sum of three equal neutrino
masses in eV; and the equation of state of dark energy, w_0 + w_a (1 - a)."""

EARLY = -0.3
"""Largest w_0 + w_a: with more of it dark energy matters at recombination."""

FEEDBACK = (7.3, 8.3)
"""Of log10(T_AGN / K)."""

USUAL = {"m_nu": 0.0, "w_0": -1.0, "w_a": 0.0}

SHIPPED = "matter-power-wide"

Z_NODES = (0.0, 0.3, 0.7, 1.2, 2.0, 3.0)
_SMALL = np.geomspace(0.4, 50, 30)[[0, *range(4, 30)]]
K_NODES = np.concatenate([np.geomspace(1e-4, 0.02, 24)[:-1], np.arange(0.02, 0.4, 0.006), _SMALL])
"""Where the difference is emulated: redshifts, and wavenumbers in h/Mpc."""

FEATURES = ("omega_m", "omega_b", "h", "m_nu", "w_0", "w_a")

_PHOTONS = 2.47282e-5
_TOGETHER = 32  # cosmologies at once
_LEVEL = (K_NODES > 0.05) & (K_NODES < 0.5)  # where differences are measured from: the amplitude is set by sigma_8


def growth(z: ArrayLike, theta: Array) -> Array:
    """D(z) (N, Z) of all matter inside the horizon, a at early times, of parameters (N, 6) as :data:`FEATURES`.

    Peebles (1980), equation 10.2, in ln a, from Meszaros' solution at a = 1/1000 by Runge-Kutta of fourth order;
    neutrinos slow the expansion by the kinetic part of their energy, and cluster as all matter does.

    Examples
    --------
    >>> lcdm, other = growth([0.0, 1.0], np.array([[0.3, 0.05, 0.7, 0, -1, 0], [0.3, 0.05, 0.7, 0, -0.8, 0]]))
    >>> (lcdm[1] / lcdm[0]).round(4).item(), bool(other[0] < lcdm[0])
    (0.6119, True)
    """
    m, _, h, m_nu, w0, wa = theta.T
    early = OMEGA_RADIATION / h**2

    def light(a: Any) -> Array:
        return np.asarray(_radiation(a, m_nu) / h**2 / a**4)

    dark = 1 - m - light(1.0)

    def slope(x: float, state: Array) -> Array:
        a = np.exp(x)
        matter, kinetic = m / a**3, light(a)
        rest = dark * np.exp(-3 * (1 + w0 + wa) * x - 3 * wa * (1 - a))
        square = matter + kinetic + rest
        slowing = (1.5 * matter + 2 * kinetic + 1.5 * (1 + w0 + wa * (1 - a)) * rest) / square
        d, v = state
        return np.stack([v, 1.5 * matter / square * d - (2 - slowing) * v])

    x = np.linspace(np.log(1e-3), 0.0, 121)
    ratio = m / early
    y = 1e-3 * ratio
    path = runge_kutta(slope, x, np.stack([1 + 1.5 * y, 1.5 * y]) / (1.5 * ratio))[:, 0]
    return np.asarray(np.exp(CubicSpline(x, np.log(path))(-np.log1p(np.atleast_1d(z)))).T)


def _radiation(a: Any, m_nu: Array) -> Array:
    """Omega h^2 a^4 of photons, and of neutrinos without their rest mass.

    Komatsu et al. (2011, ApJS 192, 18), equations 25 and 26, for three alike.
    """
    neutrinos = OMEGA_RADIATION - _PHOTONS
    y = m_nu / NEUTRINO_MASS / neutrinos * a  # rest energy over that of massless ones
    return np.asarray(_PHOTONS + neutrinos * ((1 + y**1.83) ** (1 / 1.83) - y))


def _horizon(cold: Array, b: Array, m_nu: Array) -> Array:
    """Sound horizon (N,) at z = 1060 in Mpc, of cold matter and baryons, and massive neutrinos."""
    nodes, weights = np.polynomial.legendre.leggauss(32)
    a = (nodes + 1) / 2 / 1061
    cold, b, m_nu = cold[:, None], b[:, None], m_nu[:, None]
    expansion = np.sqrt(_radiation(a, m_nu) + (cold + m_nu / NEUTRINO_MASS) * a)
    return np.asarray(HUBBLE_DISTANCE / (expansion * np.sqrt(3 * (1 + 31500 * b * a * (2.7 / 2.7255) ** 4)))) @ (
        weights / 2 / 1061
    )


def base(theta: Array, k: Array, z: ArrayLike) -> Array:
    """Transfer function (N, Z, K) at k in h/Mpc, up to an amplitude, by what is known in closed form.

    That of massless neutrinos beside the same cold matter, its oscillations moved with the sound horizon; growth;
    what free-streaming neutrinos leave of it (Eisenstein & Hu 1999); and a step at the scales that enter the
    horizon as neutrinos come to rest, above which they are matter like any other. ``theta`` (N, 6) is in the order
    of :data:`FEATURES`.
    """
    m, b, h, m_nu, *_ = theta.T
    matter, baryons = m * h**2, b * h**2
    light = m_nu / NEUTRINO_MASS
    cold = matter - light
    moved = _horizon(cold, baryons, m_nu) / _horizon(cold, baryons, 0 * m_nu)
    wave = k * h[:, None]
    shape = []
    for i, shift in enumerate(moved):
        own = slice(i, i + 1)
        shape.append(shipped_direct().smallest(cold[own], baryons[own], h[own], k * shift)[0])
    # Height, place and steepness of the step are fitted to the design; the regression sees what they leave.
    place = 0.0103 * np.maximum(m_nu / 3, 1e-6) ** 0.645 * matter**0.351
    height = 2.16 * (light / matter) - 2.12 * (light / matter) ** 2
    step = np.exp(-height[:, None] / (1 + (wave / place[:, None]) ** 2.43))
    grown = growth(z, theta)
    n = grown.shape[1]

    def each(values: Array) -> Array:
        return np.repeat(values, n, 0)

    whole = neutrino_growth(each(wave), each(matter), each(light / matter), grown.ravel())[1]
    return (shape * step)[:, None] * grown[..., None] * whole.reshape(len(theta), n, -1)


def features(theta: Array) -> Array:
    """What the regression sees (N, 7), of parameters (N, 6) in the order of :data:`FEATURES`.

    In place of w_a the share of dark energy at a = 0.5, and at a = 0.03 to a root, in which early dark energy is
    spread out.
    """
    m, b, h, m_nu, w0, wa = theta.T
    late, early = (dark_share(np.log(a), m, w0, wa) for a in (0.5, 0.03))
    return np.column_stack([m, b, h, m_nu, w0, early**0.25, late])


def differences(table: Table) -> Table:
    """The :func:`features` of a table with ``transfer`` (Z * K), and its ``difference`` from :func:`base`.

    It is that of ln P on the nodes, and zero on average where sigma_8 is made today.
    """
    theta = np.stack([table.column(name) for name in FEATURES], -1)
    found = np.asarray(table["transfer"], dtype=float).reshape(len(table), len(Z_NODES), -1)
    ratio = 2 * np.log(found / base(theta, K_NODES, Z_NODES))
    ratio -= ratio[:, :1, _LEVEL].mean(2, keepdims=True)
    columns = {f"feature_{i}": column for i, column in enumerate(features(theta).T)}
    return Table({**columns, "difference": ratio.reshape(len(table), -1)})


class WidePower:
    """P(k, z) of flat universes with massive neutrinos, dark energy and baryonic feedback, as CAMB would give it.

    N_eff = 3.046, T_CMB = 2.7255 K; three neutrinos of equal mass; dark energy with the perturbations of the PPF
    description. Wavenumbers are in h/Mpc, spectra of all matter in (Mpc/h)^3.

    Parameters
    ----------
    model : path or str
        A folder that :meth:`save` wrote; by default the model that comes with the package.
    nonlinear : bool
        Apply HMcode2020 (:mod:`deepfield.physics.hmcode`), with feedback where a cosmology has ``log_t_agn``.

    Examples
    --------
    >>> power = WidePower()
    >>> cosmology = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.68, "n_s": 0.965, "sigma_8": 0.81}
    >>> heavy = power({**cosmology, "m_nu": 0.3, "w_0": -0.9}, [0.01, 0.1, 1.0], z=[0.0, 1.0])
    >>> heavy.shape
    (2, 3)
    >>> strong = WidePower(nonlinear=True)({**cosmology, "log_t_agn": 8.0}, [1.0])
    >>> bool(strong[0] < WidePower(nonlinear=True)(cosmology, [1.0])[0])
    True
    """

    def __init__(self, model: str | os.PathLike[str] | Emulator = SHIPPED, *, nonlinear: bool = False) -> None:
        self.emulator = model if isinstance(model, Emulator) else Emulator.load(model)
        if self.emulator.outputs != ["difference"]:
            raise DeepfieldError(f"{model} is an emulator, but not of the wide power spectrum")
        self.nonlinear, self.card = nonlinear, self.emulator.card
        self.k_range = (K_RANGE[0], 10.0) if nonlinear else K_RANGE

    @classmethod
    def train(cls, table: Table, config: EmulatorConfig | None = None, **changes: Any) -> WidePower:
        """Train on a table of simulations: columns of :data:`FEATURES`, and ``transfer`` (Z * K).

        The transfer functions are those of ``boltzmann.wide_transfer`` at :data:`K_NODES` and :data:`Z_NODES`.
        """
        config = config or EmulatorConfig(**{"components": 24, "logarithm": False, **changes})
        return cls(train(differences(table), config, inputs="feature_*", outputs=["difference"]))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a model folder."""
        self.emulator.save(folder)

    def __call__(
        self, cosmology: Mapping[str, Any] | Table | ArrayLike, k: ArrayLike, z: ArrayLike = 0.0
    ) -> Array:
        """P in (Mpc/h)^3.

        Parameters
        ----------
        cosmology : mapping, table or array (8,) or (N, 8)
            With the names, or in the order, of :data:`WIDE_BOX`; without ``m_nu``, ``w_0`` or ``w_a`` they are
            0, -1 and 0. With ``log_t_agn``, log10 of a temperature in K, there is feedback in the nonlinear
            spectrum.
        k : array (K,)
            Increasing, 1e-4 to 50 h/Mpc, or to 10 where it is nonlinear.
        z : number or array (Z,)
            0 to 3.

        Returns
        -------
        Array ([N,] [Z,] K)

        Raises
        ------
        DeepfieldError
            If a parameter is missing, unknown or outside the box, or k or z beyond their ranges.
        """
        theta, heat, one = read_wide(cosmology, self.nonlinear)
        wave, redshift = check_k(k, self.k_range), check_z(z)
        parts = []
        for i in range(0, len(theta), _TOGETHER):
            part = slice(i, i + _TOGETHER)
            if self.nonlinear:
                parts.append(self._halo_model(theta[part], None if heat is None else heat[part], wave, redshift))
            else:
                parts.append(self._linear(theta[part], wave, redshift))
        return np.asarray(asked(np.concatenate(parts), z, one))

    def _linear(self, theta: Array, k: Array, z: Array) -> Array:
        """(N, Z, K)."""
        rows, (tilt, sigma_8) = theta[:, _OWN], theta[:, _SET].T
        both, epochs = np.concatenate([k, NODES]), np.append(z, 0.0)  # the last is today, for sigma_8
        found = self.emulator.expand(*self.emulator.components(features(rows)))
        ratio = np.exp(_laid_out(found.mean, both, epochs))
        spectra = both ** tilt[:, None, None] * base(rows, both, epochs) ** 2 * ratio
        level = sigma_8**2 / (spectra[:, -1, len(k) :] @ sphere())
        return np.asarray(spectra[:, :-1, : len(k)] * level[:, None, None])

    def _halo_model(self, theta: Array, heat: Array | None, k: Array, z: Array) -> Array:
        """HMcode2020 on the linear spectra: (N, Z, K)."""
        n = len(z)
        names = dict(zip(WIDE_BOX, np.repeat(theta, n, 0).T))
        h = names["h"]

        def linear(q: Array) -> Array:
            return self._linear(theta, q, z).reshape(-1, len(q))

        given = names["omega_m"], names["omega_b"], h, names["n_s"], np.tile(z, len(theta))
        more = {"w0": names["w_0"], "wa": names["w_a"]}
        more["f_nu"] = names["m_nu"] / NEUTRINO_MASS / (names["omega_m"] * h**2)
        found = hmcode(k, linear, *given, **more, log_t_agn=None if heat is None else np.repeat(heat, n))
        return found.reshape(len(theta), n, -1)

    def error(self, cosmology: Any, k: ArrayLike, z: ArrayLike = 0.0) -> Array:
        """Relative error of P, of one standard deviation: shapes and arguments as in a call.

        That of the linear spectrum is of the regression. That of the nonlinear one was measured on cosmologies
        held out of the training, and is the same for all.
        """
        theta, _, one = read_wide(cosmology, self.nonlinear)
        wave, redshift = check_k(k, self.k_range), check_z(z)
        if self.nonlinear:
            log_k, size = np.array(self.card["error_nonlinear"])
            line = np.exp(np.interp(np.log(wave), log_k, np.log(size)))
            found = np.broadcast_to(line, (len(theta), len(redshift), len(wave))).copy()
        else:
            spread = self.emulator.expand(*self.emulator.components(features(theta[:, _OWN]))).std
            found = np.abs(_laid_out(spread, wave, redshift))
        return np.asarray(asked(found, z, one))


_OWN = [list(WIDE_BOX).index(name) for name in FEATURES]
_SET = [list(WIDE_BOX).index(name) for name in ("n_s", "sigma_8")]


def _laid_out(rows: Array, k: Array, z: Array) -> Array:
    """Rows (N, Z * K) on the nodes at other wavenumbers and redshifts: (N, Z, K)."""
    grid = rows.reshape(len(rows), len(Z_NODES), -1)
    at = np.clip(np.log(k), np.log(K_NODES[0]), np.log(K_NODES[-1]))
    # In redshift first, since there are fewer.
    then = CubicSpline(np.log1p(Z_NODES), grid, axis=1)(np.log1p(z))
    return np.asarray(CubicSpline(np.log(K_NODES), then, axis=2)(at))


def read_wide(given: Any, nonlinear: bool) -> tuple[Array, Array | None, bool]:
    """Parameters (N, 8) in the order of :data:`WIDE_BOX`, log T_AGN (N,) if given, and whether it is one.

    Raises
    ------
    DeepfieldError
        If a parameter is missing, unknown or outside the box.

    Examples
    --------
    >>> read_wide({"omega_m": 0.3, "omega_b": 0.05, "h": 0.7, "n_s": 0.96, "sigma_8": [0.8, 0.9]}, False)[0].shape
    (2, 8)
    """
    heat = None
    if isinstance(given, Mapping) or hasattr(given, "colnames"):
        names = list(given.keys() if isinstance(given, Mapping) else given.colnames)
        if isinstance(given, Mapping) and (wrong := set(names) - {*WIDE_BOX, "log_t_agn"}):
            raise DeepfieldError(
                f"unknown parameter '{min(wrong)}'; known are {', '.join(WIDE_BOX)} and log_t_agn"
            )
        columns = USUAL | {name: given[name] for name in names if name in {*WIDE_BOX, "log_t_agn"}}
        values = plain_values(columns, {"m_nu": "eV"})
        one = values[0].ndim == 0
        table = dict(zip(columns, (np.atleast_1d(v) for v in values)))
        heat = table.pop("log_t_agn", None)
        given = table
    else:
        one = np.ndim(given) == 1
    theta = rows_of(given, list(WIDE_BOX), np.array(list(WIDE_BOX.values())))
    early = theta[:, -2] + theta[:, -1]
    if (early > EARLY + 1e-9).any():
        raise DeepfieldError(f"w_0 + w_a = {early.max():g} is above {EARLY:g}: dark energy would matter early on")
    if heat is not None:
        if not nonlinear:
            raise DeepfieldError("log_t_agn is of the nonlinear spectrum: WidePower(nonlinear=True)")
        rows_of({"log_t_agn": heat}, ["log_t_agn"], np.array([FEEDBACK]))
    return theta, heat, one
