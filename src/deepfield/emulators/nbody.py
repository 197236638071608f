"""The nonlinear spectrum of N-body simulations: Mira-Titan, with w0, wa and massive neutrinos.

What is emulated is the ratio of the simulations to HMcode2020 on the emulated linear spectrum, all redshifts at
once: amplitude, growth, acoustic oscillations and the transition to nonlinearity are in the reference, and what
is left is a few per cent.
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
from deepfield.emulators.model import Emulation, Emulator, EmulatorConfig, rows_of
from deepfield.emulators.nbody_linear import INPUTS, LinearPower
from deepfield.emulators.train import train
from deepfield.physics.hmcode import hmcode
from deepfield.physics.power import dark_share

Array = NDArray[np.float64]

FEATURES = ("omega_m_h2", "sigma_8", "sigma_8_early", "h", "n_s", "w_0", "omega_nu_h2", "early")
"""What the regression sees: in place of ``w_root`` the amplitude at z = 2 and the share of dark energy at
a = 0.03; and no baryons, on which the ratio hardly depends in the design's narrow range."""

SHIPPED = "matter-power-miratitan"

_K = np.unique(
    np.concatenate([np.geomspace(1e-3, 0.05, 60), np.linspace(0.05, 0.5, 120), np.geomspace(0.5, 20, 60)])
)
"""h/Mpc."""


def reference(theta: ArrayLike, k: ArrayLike, z: ArrayLike) -> Array:
    """HMcode2020 on the emulated linear spectrum: (N, Z, K), Mpc^3.

    Parameters
    ----------
    theta : array (N, 8)
        In the order of :data:`INPUTS`.
    k : array (K,)
        1/Mpc, 0.001 to 10.
    z : array (Z,)
    """
    rows, redshift = np.atleast_2d(np.asarray(theta, float)), np.atleast_1d(np.asarray(z, float))
    parts = [_reference(rows[i : i + 32], np.asarray(k, float), redshift) for i in range(0, len(rows), 32)]
    return np.concatenate(parts)


def _reference(theta: Array, wave: Array, z: Array) -> Array:
    m, b, _, h, tilt, w0, root, light = theta.T
    spectra = LinearPower.load().on(theta, z)

    def each(values: Array) -> Array:
        return np.repeat(values, len(z))

    def linear(q: Array) -> Array:
        return spectra(q).reshape(len(m) * len(z), -1)

    shares = each(m / h**2), each(b / h**2)
    more = {"w0": each(w0), "wa": each(-(root**4) - w0), "f_nu": each(light / m)}
    curved = hmcode(_K, linear, *shares, each(h), each(tilt), np.tile(z, len(m)), **more)
    curved = curved.reshape(len(m), len(z), -1)
    lines = (CubicSpline(np.log(_K * one), np.log(row / one**3), axis=1) for one, row in zip(h, curved))
    return np.exp([line(np.log(wave)) for line in lines])


def features(theta: ArrayLike) -> Array:
    """:data:`FEATURES` (N, 8) of parameters (N, 8) in the order of :data:`INPUTS`."""
    rows = np.atleast_2d(np.asarray(theta, float))
    m, _, sigma_8, h, tilt, w0, root, light = rows.T
    early = dark_share(np.log(0.03), m / h**2, w0, -(root**4) - w0)
    return np.column_stack([m, sigma_8, LinearPower.load().sigma(rows, 2.0), h, tilt, w0, light, early])


def ratios(table: Table) -> Table:
    """The :func:`features` of a table of spectra, and ``ratio`` (Z * K) of ``pk`` to :func:`reference`.

    Raises
    ------
    DeepfieldError
        If the table is not as the registered set ``miratitan4``.
    """
    if "pk" not in table.colnames or not {"k", "z"} <= set(table.meta):
        raise DeepfieldError("spectra are a column pk (Z, K) in Mpc^3, with k (1/Mpc) and z in the table's meta")
    theta = np.stack([table.column(name) for name in INPUTS], -1)
    found = np.asarray(table["pk"], dtype=float) / reference(theta, table.meta["k"], table.meta["z"])
    columns = dict(zip(FEATURES, features(theta).T))
    return Table({**columns, "ratio": found.reshape(len(table), -1)}, meta=table.meta)


class SimulatedPower:
    """P(k, z) of N-body simulations, with its error.

    Parameters
    ----------
    emulator : Emulator
        Of the ratios.
    k, z : Array
        The grid of the simulations: 1/Mpc, and redshift.
    ranges : dict
        Of each of :data:`INPUTS` in the simulations.

    Examples
    --------
    >>> power = SimulatedPower.load()
    >>> theta = dict(zip(INPUTS, (0.14, 0.0225, 0.8, 0.68, 0.965, -1.0, 1.0, 0.0)))
    >>> found = power.predict(theta)
    >>> found.mean.shape
    (1, 8, 351)
    """

    def __init__(self, emulator: Emulator, k: Array, z: Array, ranges: Mapping[str, tuple[float, float]]) -> None:
        self.emulator, self.k, self.z, self.ranges = emulator, k, z, dict(ranges)

    @classmethod
    def train(cls, table: Table, config: EmulatorConfig | None = None, **changes: Any) -> SimulatedPower:
        """Train on a table as the registered set ``miratitan4``."""
        found = train(ratios(table), config, inputs=list(FEATURES), outputs=["ratio"], **changes)
        ranges = {name: (float(table.column(name).min()), float(table.column(name).max())) for name in INPUTS}
        return cls(found, np.asarray(table.meta["k"]), np.asarray(table.meta["z"]), ranges)

    @classmethod
    def load(cls, folder: str | os.PathLike[str] = SHIPPED) -> SimulatedPower:
        """Read a folder that :meth:`save` wrote; by default the one that comes with the package."""
        emulator = Emulator.load(folder)
        grid = emulator.card.get("grid")
        if not grid:
            raise DeepfieldError(f"{folder} is an emulator, but not of spectra of simulations")
        ranges = {name: (float(low), float(high)) for name, (low, high) in grid["ranges"].items()}
        return cls(emulator, np.array(grid["k"]), np.array(grid["z"]), ranges)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a model folder."""
        self.emulator.card["grid"] = {"k": self.k.tolist(), "z": self.z.tolist(), "ranges": self.ranges}
        self.emulator.save(folder)

    def predict(self, given: Mapping[str, Any] | Table | ArrayLike) -> Emulation:
        """Spectra (N, Z, K) in Mpc^3, and their errors, on the grid of the simulations.

        Raises
        ------
        DeepfieldError
            If a parameter is missing or outside the design.
        """
        theta = rows_of(given, INPUTS, np.array([self.ranges[name] for name in INPUTS]))
        found = self.emulator.expand(*self.emulator.components(features(theta)))
        shape = (len(theta), len(self.z), len(self.k))
        base = reference(theta, self.k, self.z)
        return Emulation(base * found.mean.reshape(shape), base * found.std.reshape(shape))
