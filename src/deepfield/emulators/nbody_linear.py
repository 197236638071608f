"""The linear spectrum of flat universes with w0, wa and massive neutrinos, in the box of Mira-Titan.

A closed form first: the transfer function of massless neutrinos, slowed by massive ones as Eisenstein & Hu (1999)
say, with the growth of dark energy that does not cluster. On large scales it is far off where dark energy was
early: there dark energy clusters, and up to twice the power is left. By what a Boltzmann code differs from the
closed form is emulated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from deepfield.core.table import Table
from deepfield.emulators.direct import NODES, sphere
from deepfield.emulators.model import Emulator, EmulatorConfig
from deepfield.emulators.power import shipped_direct
from deepfield.emulators.train import train
from deepfield.physics.hmcode import Growth
from deepfield.physics.power import dark_share, neutrino_growth

Array = NDArray[np.float64]

SIMULATED: dict[str, tuple[float, float]] = {
    "omega_m_h2": (0.12, 0.155),
    "omega_b_h2": (0.0215, 0.0235),
    "sigma_8": (0.7, 0.9),
    "h": (0.55, 0.85),
    "n_s": (0.85, 1.05),
    "w_0": (-1.3, -0.7),
    "w_root": (0.3, 1.29),
    "omega_nu_h2": (0.0, 0.01),
}
"""The box of the Mira-Titan design (Moran et al. 2023, equation 1)."""

INPUTS = tuple(SIMULATED)
"""Parameters of the Mira-Titan design; ``w_root`` is the fourth root of -w_0 - w_a."""

EPOCHS = (0.03, 0.1, 0.3)
"""Scale factors at which the share of dark energy is what the regression sees, in place of ``w_root``."""

SHIPPED = "matter-power-miratitan-linear"


class LinearPower:
    """P(k, z), linear.

    Parameters
    ----------
    emulator : Emulator, optional
        Of the ratio (Z * K) to the closed form; without it that is all there is.

    Examples
    --------
    >>> theta = np.array([[0.14, 0.0225, 0.8, 0.68, 0.965, -1.0, 1.0, 0.0]])
    >>> bool(abs(LinearPower.load().sigma(theta, [0.0])[0, 0] - 0.8) < 1e-3)
    True
    """

    def __init__(self, emulator: Emulator | None = None) -> None:
        self.emulator = emulator
        if emulator is not None:
            self._k, self._z = (np.array(emulator.card["grid"][name]) for name in ("k", "z"))

    @classmethod
    def train(cls, theta: Array, k: Array, z: Array, spectra: Array, config: EmulatorConfig) -> LinearPower:
        """Train on spectra (N, Z, K) in Mpc^3 of a Boltzmann code, at k in 1/Mpc, of parameters (N, 8)."""
        plain = cls().on(theta, z)
        known = np.stack([plain(k / h)[i] / h**3 for i, h in enumerate(theta[:, 3])])
        rows = Table({"theta": _features(theta), "ratio": (spectra / known).reshape(len(theta), -1)})
        columns = {f"f{i}": column for i, column in enumerate(rows["theta"].T)}
        table = Table({**columns, "ratio": rows["ratio"]})
        found = train(table, config, inputs=list(columns), outputs=["ratio"])
        found.card["grid"] = {"k": k.tolist(), "z": z.tolist()}
        return cls(found)

    @classmethod
    @functools.cache
    def load(cls) -> LinearPower:
        """The one that comes with the package."""
        return cls(Emulator.load(SHIPPED))

    def on(self, theta: Array, z: Array) -> Callable[[Array], Array]:
        """A function from wavenumbers q (Q,) in h/Mpc to spectra (N, Z, Q) in (Mpc/h)^3.

        Parameters
        ----------
        theta : Array (N, 8)
            In the order of :data:`INPUTS`.
        z : Array (Z,)
        """
        m, b, sigma_8, h, tilt, w0, root, light = theta.T
        epochs, wa = np.append(z, 0.0), -(root**4) - w0  # the last is today, for sigma_8
        n = len(epochs)

        def each(values: Array) -> Array:
            return np.repeat(values, n)

        growth = Growth(each(m / h**2), each(w0), each(wa), np.tile(epochs, len(m))).value
        lines = self._ratios(theta, epochs)

        def linear(q: Array) -> Array:
            both = np.concatenate([q, NODES])
            shape = both ** tilt[:, None] * shipped_direct().smallest(m, b, h, both) ** 2
            inverse = np.repeat(both * h[:, None], n, 0)
            whole = neutrino_growth(inverse, each(m), each(light / m), growth)[1]
            spectra = shape[:, None] * ((growth[:, None] * whole) ** 2).reshape(len(m), n, -1)
            for one, line, rate in zip(spectra, lines, h):
                one *= np.exp(line(np.clip(np.log(both * rate), line.x[0], line.x[-1])))
            level = sigma_8**2 / (spectra[:, -1, len(q) :] @ sphere())
            return np.asarray(spectra[:, :-1, : len(q)] * level[:, None, None])

        return linear

    def _ratios(self, theta: Array, z: Array) -> list[CubicSpline]:
        """For each row, of ln k (k in 1/Mpc), the logarithms of the ratio to the closed form at z (Z,)."""
        if self.emulator is None:
            return [CubicSpline([0.0, 1.0], np.zeros((len(z), 2)), axis=1) for _ in theta]
        found = np.log(self.emulator.expand(*self.emulator.components(_features(theta))).mean)
        order = np.argsort(self._z)
        nodes = np.log1p(self._z[order])
        values = found.reshape(len(theta), len(nodes), -1)[:, order]
        at = CubicSpline(nodes, values, axis=1)(np.clip(np.log1p(z), nodes[0], nodes[-1]))
        return [CubicSpline(np.log(self._k), row, axis=1) for row in at]

    def sigma(self, theta: Array, z: ArrayLike) -> Array:
        """Root of the variance in spheres of 8 Mpc/h, (N, Z)."""
        return np.asarray(np.sqrt(self.on(theta, np.atleast_1d(np.asarray(z, float)))(NODES) @ sphere()))


def _features(theta: Array) -> Array:
    """What the regression of the ratio sees (N, 9)."""
    m, b, _, h, tilt, w0, root, light = theta.T
    shares = [dark_share(np.log(a), m / h**2, w0, -(root**4) - w0) for a in EPOCHS]
    return np.column_stack([m, b, h, tilt, w0, light, *shares])
