"""The nonlinear spectrum of N-body simulations: Mira-Titan, with w0, wa and massive neutrinos.

What is emulated is the ratio of the simulations to halofit on the linear spectrum of Eisenstein & Hu, all
redshifts
at once: amplitude, growth, acoustic scale and the transition to nonlinearity are in the reference, and what is
left is a few per cent.
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
from deepfield.emulators.model import Emulation, Emulator, EmulatorConfig
from deepfield.emulators.train import train
from deepfield.physics.halofit import halofit
from deepfield.physics.power import growth, transfer, variance

Array = NDArray[np.float64]

INPUTS = ("omega_m_h2", "omega_b_h2", "sigma_8", "h", "n_s", "w_0", "w_root", "omega_nu_h2")
"""Parameters of the Mira-Titan design; ``w_root`` is the fourth root of -w_0 - w_a."""

SHIPPED = "matter-power-miratitan"

_K = np.geomspace(1e-4, 30.0, 260)  # 1/Mpc


def reference(theta: ArrayLike, k: ArrayLike, z: ArrayLike) -> Array:
    """Halofit on Eisenstein & Hu, (N, Z, K) in Mpc^3; neutrinos count as cold matter.

    Parameters
    ----------
    theta : array (N, 8)
        In the order of :data:`INPUTS`.
    k : array (K,)
        1/Mpc, 0.001 to 10.
    z : array (Z,)
    """
    m, b, sigma_8, h, tilt, w0, root, _ = np.atleast_2d(np.asarray(theta, float)).T
    wa = -(root**4) - w0
    wave, redshift = np.asarray(k, float), np.atleast_1d(np.asarray(z, float))
    share = m / h**2
    linear = _K ** tilt[:, None] * transfer(_K, m[:, None], b[:, None]) ** 2
    norm = np.array([variance(_K, row, 8 / one) for row, one in zip(linear, h)])
    linear *= (sigma_8**2 / norm)[:, None]
    grown = growth(redshift, share, w0, wa)
    found = np.empty((len(m), len(redshift), len(wave)))
    for j, one in enumerate(redshift):
        a = 1 / (1 + one)
        dark = (1 - share) * np.exp(-3 * (1 + w0 + wa) * np.log(a) - 3 * wa * (1 - a))
        now = share / a**3 / (share / a**3 + dark)
        for i in range(len(m)):
            spectrum = linear[i] * grown[i, j] ** 2 * h[i] ** 3
            curved = halofit(_K / h[i], spectrum[None], now[i], w0[i] + wa[i] * (1 - a))[0] / h[i] ** 3
            found[i, j] = np.exp(CubicSpline(np.log(_K), np.log(curved))(np.log(wave)))
    return found


def ratios(table: Table) -> Table:
    """The parameters of a table of spectra, and ``ratio`` (Z * K) of ``pk`` to :func:`reference`.

    Raises
    ------
    DeepfieldError
        If the table is not as the registered set ``miratitan4``.
    """
    if "pk" not in table.colnames or not {"k", "z"} <= set(table.meta):
        raise DeepfieldError("spectra are a column pk (Z, K) in Mpc^3, with k (1/Mpc) and z in the table's meta")
    theta = np.stack([table.column(name) for name in INPUTS], -1)
    found = np.asarray(table["pk"], dtype=float) / reference(theta, table.meta["k"], table.meta["z"])
    return Table({**dict(zip(INPUTS, theta.T)), "ratio": found.reshape(len(table), -1)}, meta=table.meta)


class SimulatedPower:
    """P(k, z) of N-body simulations, with its error.

    Parameters
    ----------
    emulator : Emulator
        Of the ratios.
    k, z : Array
        The grid of the simulations: 1/Mpc, and redshift.

    Examples
    --------
    >>> power = SimulatedPower.load()
    >>> theta = dict(zip(INPUTS, (0.14, 0.0225, 0.8, 0.68, 0.965, -1.0, 1.0, 0.0)))
    >>> found = power.predict(theta)
    >>> found.mean.shape
    (1, 8, 351)
    """

    def __init__(self, emulator: Emulator, k: Array, z: Array) -> None:
        self.emulator, self.k, self.z = emulator, k, z

    @classmethod
    def train(cls, table: Table, config: EmulatorConfig | None = None, **changes: Any) -> SimulatedPower:
        """Train on a table as the registered set ``miratitan4``."""
        found = train(ratios(table), config, inputs=list(INPUTS), outputs=["ratio"], **changes)
        return cls(found, np.asarray(table.meta["k"]), np.asarray(table.meta["z"]))

    @classmethod
    def load(cls, folder: str | os.PathLike[str] = SHIPPED) -> SimulatedPower:
        """Read a folder that :meth:`save` wrote; by default the one that comes with the package."""
        emulator = Emulator.load(folder)
        grid = emulator.card.get("grid")
        if not grid:
            raise DeepfieldError(f"{folder} is an emulator, but not of spectra of simulations")
        return cls(emulator, np.array(grid["k"]), np.array(grid["z"]))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a model folder."""
        self.emulator.card["grid"] = {"k": self.k.tolist(), "z": self.z.tolist()}
        self.emulator.save(folder)

    def predict(self, given: Mapping[str, Any] | Table | ArrayLike) -> Emulation:
        """Spectra (N, Z, K) in Mpc^3, and their errors, on the grid of the simulations.

        Raises
        ------
        DeepfieldError
            If a parameter is missing or outside the design.
        """
        theta = self.emulator.rows(given)
        found = self.emulator.predict(theta)
        shape = (len(theta), len(self.z), len(self.k))
        base = reference(theta, self.k, self.z)
        return Emulation(base * found.mean.reshape(shape), base * found.std.reshape(shape))
