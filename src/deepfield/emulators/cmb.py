r"""Spectra of the cosmic microwave background: temperature, E polarisation, their correlation, lensing potential.

They are emulated as any summary statistic is (:mod:`deepfield.emulators.train`), in variables in which they change
little. The amplitude A_s exp(-2 tau) and the tilt are divided out. Acoustic peaks of all cosmologies are in phase
where multipoles are counted in acoustic scales: spectra are learnt on x, with l = x theta_0 / theta for the peaks
and l = x on the largest scales, where polarisation has a bump of reionisation that is moved with tau. TE passes
through zero: in its place is the correlation TE / sqrt(TT EE). All is in units of cosmic variance, in which a
likelihood sees it.
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
from deepfield.emulators.parameters import plain_values
from deepfield.emulators.train import train

Array = NDArray[np.float64]

CMB_BOX: dict[str, tuple[float, float]] = {
    "omega_b_h2": (0.020, 0.025),
    "omega_c_h2": (0.10, 0.14),
    "h": (0.60, 0.76),
    "tau": (0.02, 0.12),
    "n_s": (0.90, 1.03),
    "ln_a_s": (2.8, 3.3),
}
"""Omega_b h^2, Omega_c h^2, H0 / (100 km/s/Mpc), optical depth, tilt and ln(10^10 A_s)."""

FEATURES = ("omega_b_h2", "omega_c_h2", "acoustic_scale", "tau", "n_s", "ln_a_s")
"""What the regression sees: in place of h the scale that the spectra show directly."""

SPECTRA = ("tt", "te", "ee", "pp")

ELL = np.arange(2, 2501)
"""Multipoles of the emulator."""

SHIPPED = "cmb-spectra"

LARGEST = 2800
"""Multipole that simulations have to reach: 2500 in cosmologies of the largest acoustic scale."""

_THETA, _TILTED = 0.0104, 550.0  # reference of the acoustic scale, and a multipole of the pivot 0.05/Mpc
_PEAKS = np.unique(
    np.concatenate([np.arange(2.0, 30), np.arange(30.0, 100, 5), np.arange(100.0, 2640, 10), [2640.0]])
)
_SMOOTH = np.unique(np.concatenate([np.arange(2.0, 12), np.geomspace(12, 2500, 110)]))  # of the lensing potential
_PARTS = np.cumsum([len(_PEAKS)] * 3)


def acoustic_scale(omega_b_h2: ArrayLike, omega_c_h2: ArrayLike, h: ArrayLike) -> Array:
    """Sound horizon at recombination over the distance to it, in radians: theta_MC of CosmoMC.

    Lewis & Bridle (2002), with the redshift of recombination of Hu & Sugiyama (1996, ApJ 471, 542), equation E1;
    flat LCDM with N_eff = 3.044, of which one neutrino has 0.06 eV.

    Examples
    --------
    >>> acoustic_scale(0.0224, 0.12, 0.674).round(5).item()  # CAMB: 0.010410
    0.01041
    """
    b, c, rate = (np.asarray(v, float) for v in np.broadcast_arrays(omega_b_h2, omega_c_h2, h))
    neutrinos, photons = 0.000645, 2.4728e-5  # of the massive one, today
    g1 = 0.0783 * b**-0.238 / (1 + 39.5 * b**0.763)
    g2 = 0.560 / (1 + 21.1 * b**1.81)
    early = 1 / (1 + 1048 * (1 + 0.00124 * b**-0.738) * (1 + g1 * (b + c + neutrinos) ** g2))
    a_neutrino = 7 / 8 * (4 / 11) ** (4 / 3) * 3.044 / 3 * photons
    light, cold = photons + 2 * a_neutrino, b + c
    dark = rate**2 - light - cold - neutrinos

    def expansion(a: Array) -> Array:
        """H a^2 in units of 100 km/s/Mpc; the massive neutrino is light early, matter late."""
        massive = np.sqrt(a_neutrino**2 + (neutrinos * a) ** 2)
        return np.sqrt(light + massive + cold[..., None] * a + dark[..., None] * a**4)

    nodes, weights = np.polynomial.legendre.leggauss(64)
    a = early[..., None] * (nodes + 1) / 2
    sound = 1 / (expansion(a) * np.sqrt(3 * (1 + 3e4 * b[..., None] * a)))
    horizon = (sound @ weights) * early / 2
    # The distance in steps of the root of a, where its integrand is smooth.
    low = np.sqrt(early)[..., None]
    root = low + (1 - low) * (nodes + 1) / 2
    distance = (2 * root / expansion(root**2)) @ weights * (1 - low[..., 0]) / 2
    return np.asarray(horizon / distance)


def stretched(theta: Array, tau: Array | None = None) -> Array:
    """Multipoles (N, X) at which spectra are known, of cosmologies with acoustic scales (N,).

    With optical depths (N,) those of polarisation: its bump is at l as the root of 1 + z of reionisation, which is
    as tau to the power of 2/3.
    """
    part = _PEAKS**2 / (_PEAKS**2 + 60.0**2)
    found = _PEAKS * (_THETA / theta[:, None]) ** part
    if tau is None:
        return found
    return found * (tau[:, None] / 0.06) ** ((1 - (2 / _PEAKS) ** 2) / (1 + (_PEAKS / 30) ** 4) / 3)


def _features(theta: Array) -> tuple[Array, Array, Array]:
    """:data:`FEATURES` (N, 6) of parameters (N, 6) in the order of the box; amplitude (N,) and tilt (N,)."""
    b, c, h, tau, tilt, ln_a = theta.T
    inputs = np.column_stack([b, c, acoustic_scale(b, c, h), tau, tilt, ln_a])
    return inputs, ln_a, tilt


def _vectors(theta: Array, spectra: Array) -> Array:
    """What is emulated, (N, X), of spectra (N, 4, L) from l = 0 on."""
    inputs, ln_a, tilt = _features(theta)
    wave, polarised = stretched(inputs[:, 2]), stretched(inputs[:, 2], theta[:, 3])
    ell = np.arange(spectra.shape[-1])
    if wave.max() > ell[-1]:
        raise DeepfieldError(f"spectra to l = {wave.max():.0f} are needed; these end at {ell[-1]}")
    found = []
    for row, at, other, level, damping, lean in zip(spectra, wave, polarised, ln_a, theta[:, 3], tilt - 1):
        line = CubicSpline(ell[2:], row[:, 2:], axis=1)
        tt, (beside, te, ee, _), pp = line(at)[0], line(other), line(_SMOOTH)[3]
        # Noise of the Boltzmann code apart, |TE| is below sqrt(TT EE).
        usual = level - 2 * damping + lean * np.log(_PEAKS / _TILTED)
        parts = [np.log(tt) - usual, te / np.sqrt(beside * ee), np.log(ee) - usual]
        found.append(np.concatenate([*parts, np.log(pp) - level - lean * np.log(_SMOOTH / _TILTED)]))
    return np.array(found) * _UNITS


_UNITS = np.sqrt(np.concatenate([*([_PEAKS] * 3), _SMOOTH]) + 0.5)  # in which cosmic variance is one


class CMBSpectra:
    """Lensed spectra of l = 2 to 2500 as CAMB gives them, with their errors.

    Flat LCDM; one neutrino has 0.06 eV, N_eff = 3.044, T_CMB = 2.7255 K; the lensing is nonlinear by HMcode2020.
    TT, TE and EE are l (l + 1) C_l / 2 pi in muK^2, PP is that of the lensing potential, (l (l + 1))^2 C_l / 2 pi.

    Parameters
    ----------
    model : path or str
        A folder that :meth:`save` wrote; by default the model that comes with the package.

    Examples
    --------
    >>> spectra = CMBSpectra()
    >>> planck = {"omega_b_h2": 0.0224, "omega_c_h2": 0.12, "h": 0.674, "tau": 0.054}
    >>> found = spectra(planck | {"n_s": 0.965, "ln_a_s": 3.044})
    >>> sorted(found), found["tt"].shape
    (['ee', 'pp', 'te', 'tt'], (2499,))
    >>> int(spectra.ell[found["tt"].argmax()])
    220
    """

    ell = ELL

    def __init__(self, model: str | os.PathLike[str] | Emulator = SHIPPED) -> None:
        self.emulator = model if isinstance(model, Emulator) else Emulator.load(model)
        if tuple(self.emulator.inputs) != FEATURES:
            raise DeepfieldError(f"{model} is an emulator, but not of the spectra of the microwave background")
        self.card = self.emulator.card

    @classmethod
    def train(cls, table: Table, config: EmulatorConfig | None = None, **changes: Any) -> CMBSpectra:
        """Train on a table of simulations: columns of :data:`CMB_BOX`, and ``cl`` (4 * L) from l = 0 on.

        The table is as ``emulators.simulate(boltzmann.cmb_spectra, design(CMB_BOX, n), output="cl")`` gives it.
        """
        config = config or EmulatorConfig(**{"components": 48, "logarithm": False, **changes})
        theta = np.stack([table.column(name) for name in CMB_BOX], -1)
        vectors = _vectors(theta, np.asarray(table["cl"], dtype=float).reshape(len(table), len(SPECTRA), -1))
        rows = Table({**dict(zip(FEATURES, _features(theta)[0].T)), "cl": vectors})
        return cls(train(rows, config, inputs=list(FEATURES), outputs=["cl"]))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a model folder."""
        self.emulator.save(folder)

    def __call__(self, cosmology: Mapping[str, Any] | Table | ArrayLike) -> dict[str, Array]:
        """Spectra by the names of :data:`SPECTRA`, each ([N,] 2499); see :meth:`predict`."""
        return {name: found.mean for name, found in self.predict(cosmology).items()}

    def predict(self, cosmology: Mapping[str, Any] | Table | ArrayLike) -> dict[str, Emulation]:
        """Spectra with their errors of one standard deviation.

        Parameters
        ----------
        cosmology : mapping, table or array (6,) or (N, 6)
            With the names, or in the order, of :data:`CMB_BOX`; the values of a mapping are numbers or (N,).

        Returns
        -------
        dict
            ``tt``, ``te``, ``ee`` and ``pp``: ``mean`` and ``std`` ([N,] 2499).

        Raises
        ------
        DeepfieldError
            If a parameter is missing or outside the box, which it names with the range.
        """
        theta, one = _read(cosmology)
        inputs, ln_a, tilt = _features(theta)
        found = self.emulator.expand(*self.emulator.components(inputs))
        where = np.stack([stretched(inputs[:, 2]), *[stretched(inputs[:, 2], theta[:, 3])] * 2], 1)
        mean, std = found.mean / _UNITS, found.std / _UNITS
        size = {name: np.empty((2, len(theta), len(ELL))) for name in SPECTRA}
        for i, own in enumerate(where):
            pairs = zip(np.split(mean[i], _PARTS), np.split(std[i], _PARTS))
            tt, te, ee, pp = (
                np.array([CubicSpline(x, row)(ELL) for row in pair]) for x, pair in zip([*own, _SMOOTH], pairs)
            )
            lean = tilt[i] - 1
            level = ln_a[i] - 2 * theta[i, 3]
            for name, pair, at in (("tt", tt, own[0]), ("ee", ee, own[2])):
                size[name][:, i] = _exponential(pair, level + lean * np.log(np.interp(ELL, at, _PEAKS) / _TILTED))
            size["te"][:, i] = _product(te, size["tt"][:, i], size["ee"][:, i])
            size["pp"][:, i] = _exponential(pp, ln_a[i] + lean * np.log(ELL / _TILTED))
        return {name: Emulation(*(pair[:, 0] if one else pair)) for name, pair in size.items()}


def _read(given: Any) -> tuple[Array, bool]:
    """Parameters (N, 6), and whether they are of one cosmology."""
    if isinstance(given, Mapping):
        values = plain_values(given)
        one, given = values[0].ndim == 0, {name: np.atleast_1d(v) for name, v in zip(given, values)}
        if unknown := [name for name in given if name not in CMB_BOX]:
            raise DeepfieldError(f"unknown parameter '{unknown[0]}'; this emulator knows {', '.join(CMB_BOX)}")
    else:
        one = not hasattr(given, "colnames") and np.ndim(given) == 1
    return rows_of(given, list(CMB_BOX), np.array(list(CMB_BOX.values()))), one


def _exponential(pair: Array, shift: Array) -> Array:
    """Mean and error (2, L) of the exponential of a sum, one part of which is known."""
    value = np.exp(pair[0] + shift)
    return np.stack([value, value * np.abs(pair[1])])


def _product(rho: Array, tt: Array, ee: Array) -> Array:
    """Mean and error (2, L) of TE from the correlation and the two spectra, with errors taken as independent."""
    root = np.sqrt(tt[0] * ee[0])
    value = rho[0] * root
    spread = np.hypot(root * rho[1], 0.5 * value * np.hypot(tt[1] / tt[0], ee[1] / ee[0]))
    return np.stack([value, spread])
