"""Expansion histories in the box: real distances, flat LCDM and flat wCDM, exact likelihood and simulator.

Parameters are omega_m, w (wCDM only), h r_d in Mpc (with BAO) and h (with chronometers). All likelihoods are
Gaussian with known covariance, so an exact posterior stands beside every learnt one.

Data are compressed without loss (:mod:`deepfield.inference.compression`). The unknown zero point of supernova
magnitudes is projected out first, which equals marginalising it over a flat prior.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.data import registry
from deepfield.inference.compression import Compressed
from deepfield.inference.priors import Prior
from deepfield.physics.cosmology import HUBBLE_DISTANCE, expansion_rate, flat_distance

Array = NDArray[np.float64]

BOUNDS: dict[str, tuple[float, float]] = {
    "omega_m": (0.01, 0.8),
    "w": (-2.5, -0.2),
    "h_r_d": (70.0, 130.0),
    "h": (0.4, 1.0),
}
"""Flat priors; h r_d in Mpc."""

IN_PACKAGE = ("desi_dr2", "chronometers")
REGISTERED = ("union3", "pantheon_binned")


@dataclass(frozen=True)
class Measurement:
    """Distances or rates with a Gaussian likelihood.

    Parameters
    ----------
    name, citation : str
    z : Array (K,)
    kind : tuple of str
        "DM", "DH", "DV" (over r_d), "H" (km/s/Mpc) or "mu" (mag, up to a common number).
    value : Array (K,)
    covariance : Array (K, K)
    z_hel : Array (K,)
        Heliocentric redshifts, which supernova magnitudes are dimmed by.
    """

    name: str
    citation: str
    z: Array
    kind: tuple[str, ...]
    value: Array
    covariance: Array
    z_hel: Array

    def expected(self, parameters: dict[str, Array]) -> Array:
        """What a universe would show (N, K); arrays of shape (N,) by name, as in :data:`BOUNDS`."""
        matter, dark = parameters["omega_m"], parameters.get("w", np.array(-1.0))
        if self.kind[0] == "mu":
            return 5 * np.log10((1 + self.z_hel) * flat_distance(self.z, matter, dark))
        rate = expansion_rate(self.z, matter, dark)
        if self.kind[0] == "H":
            return 100 * parameters["h"][:, None] * rate
        transverse, radial = flat_distance(self.z, matter, dark), 1 / rate
        spherical = np.cbrt(self.z * transverse**2 * radial)  # D_V = (z D_M^2 D_H)^(1/3)
        kinds = np.array(self.kind)
        chosen = np.where(kinds == "DM", transverse, np.where(kinds == "DH", radial, spherical))
        return chosen * HUBBLE_DISTANCE / parameters["h_r_d"][:, None]

    def whitener(self) -> Array:
        """A matrix (R, K) that takes the data to uncorrelated numbers of unit noise, free of any zero point."""
        inverse = np.linalg.inv(np.linalg.cholesky(self.covariance))
        if self.kind[0] != "mu":
            return inverse
        ones = inverse.sum(1)  # where a common shift of all magnitudes goes
        basis = np.linalg.svd(ones[None])[2][1:]  # all that is perpendicular to it
        return basis @ inverse


def measurement(name: str) -> Measurement:
    """One of ``desi_dr2`` and ``chronometers`` (in the package), ``union3`` and ``pantheon_binned`` (registered).

    Raises
    ------
    DeepfieldError
        If the name is unknown, or a registered set cannot be had.

    Examples
    --------
    >>> measurement("desi_dr2").value.shape
    (13,)
    """
    if name in REGISTERED:
        table = registry.load(name, progress=False)
        z, hel = table.column("z"), table.column("z_hel")
        covariance = np.asarray(table["covariance"], dtype=float)
        citation = registry.dataset(name).citation
        return Measurement(name, citation, z, ("mu",) * len(z), table.column("mu"), covariance, hel)
    text = resources.files("deepfield.inference").joinpath("measurements.json").read_text(encoding="utf-8")
    known: dict[str, Any] = json.loads(text)
    if name not in known:
        raise DeepfieldError(f"no measurement '{name}'; there are: {', '.join([*known, *REGISTERED])}")
    entry = known[name]
    covariance = np.diag(np.array(entry["variance"]))
    for i, j, value in entry["covariance"]:
        covariance[i, j] = covariance[j, i] = value
    z = np.array(entry["z"])
    return Measurement(name, entry["citation"], z, tuple(entry["kind"]), np.array(entry["value"]), covariance, z)


class Expansion(Compressed):
    """A cosmology and data: prior, simulator, observation and exact likelihood.

    Parameters
    ----------
    model : str
        "lcdm" or "wcdm", both flat.
    data : sequence of str or Measurement
    prior : Prior, optional
        Of the same parameters; by default flat in :data:`BOUNDS`.

    Examples
    --------
    >>> toy = Expansion("lcdm", ["desi_dr2"])
    >>> toy.prior.names, toy.simulate(toy.prior.sample(5, seed=0), seed=1).shape == (5, len(toy.observed))
    (('omega_m', 'h_r_d'), True)
    """

    def __init__(
        self,
        model: str = "lcdm",
        data: Sequence[str | Measurement] = ("desi_dr2",),
        *,
        prior: Prior | None = None,
    ) -> None:
        if model not in ("lcdm", "wcdm") or not data:
            raise DeepfieldError(f"model is 'lcdm' or 'wcdm' with some data, not '{model}' with {list(data)}")
        self.model = model
        self.measurements = [m if isinstance(m, Measurement) else measurement(m) for m in data]
        kinds = {m.kind[0] for m in self.measurements}
        names = ["omega_m"] + (["w"] if model == "wcdm" else [])
        names += (["h_r_d"] if kinds & {"DM", "DH", "DV"} else []) + (["h"] if "H" in kinds else [])
        self.prior = prior or Prior({name: BOUNDS[name] for name in names})
        if list(self.prior.names) != names:
            raise DeepfieldError(f"the prior is one of {', '.join(names)}, not of {', '.join(self.prior.names)}")
        self._whiteners = [m.whitener() for m in self.measurements]
        raw = [w @ m.value for w, m in zip(self._whiteners, self.measurements)]
        self._compress(np.concatenate(raw))

    def within(self, prior: Prior) -> Expansion:
        """The same with a narrower prior, whose models differ along fewer axes: shorter data.

        Examples
        --------
        >>> toy = Expansion("lcdm", ["desi_dr2"])
        >>> near = toy.within(Prior({"omega_m": (0.25, 0.35), "h_r_d": (98, 105)}))
        >>> len(near.observed) < len(toy.observed)
        True
        """
        return Expansion(self.model, self.measurements, prior=prior)

    def _whitened(self, theta: ArrayLike) -> Array:
        rows = self.prior.rows(theta)
        parameters = dict(zip(self.prior.names, rows.T))
        parts = [m.expected(parameters) @ w.T for m, w in zip(self.measurements, self._whiteners)]
        return np.concatenate(parts, 1)
