"""Credible regions that hold what they say, whatever the posterior: split conformal prediction.

Each held-out simulation says at which level a region of its posterior would just have held its true parameters.
The ceil((n + 1) a)-th smallest of these levels is what to ask the posterior for so that regions hold a share a of
simulations (Lei et al. 2018; of amortised posteriors, Patel et al. 2023). For regions of highest density this is
HPD-split (Izbicki, Shimizu & Stern 2022). As of all calibration here, the share is that over the prior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.calibrators import Conformal
from deepfield.core.errors import DeepfieldError
from deepfield.inference.posterior import Posterior
from deepfield.inference.simulations import Simulations
from deepfield.trust.calibration import fit_conformal
from deepfield.trust.posteriors import calibration, highest_density_levels

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Regions:
    """The levels at which the regions of a posterior hold what is wanted.

    Parameters
    ----------
    names : tuple of str
        Of the parameters.
    joint : Conformal
        Of regions of highest density of all parameters together.
    each : tuple of Conformal
        Of the central interval of each parameter.
    """

    names: tuple[str, ...]
    joint: Conformal
    each: tuple[Conformal, ...]

    def level(self, level: float) -> float:
        """The nominal level of the highest-density region that holds a share ``level`` of simulations.

        Raises
        ------
        CalibrationError
            If the simulations are too few for the level, or too many lie beyond all draws of their posterior.
        """
        return float(self.joint.levels(level))

    def threshold(self, log_density: ArrayLike, level: float) -> float:
        """The log density above which that region lies, given :meth:`Posterior.log_prob` (n,) of draws.

        ``posterior.log_prob(theta, observation) >= threshold`` says whether theta is in it.
        """
        ordered = np.sort(np.asarray(log_density, dtype=float))[::-1]
        place = math.floor(self.level(level) * len(ordered) + 1e-9)
        return float(ordered[place]) if place < len(ordered) else -math.inf

    def intervals(self, draws: ArrayLike, level: float) -> Array:
        """Lower and upper ends (D, 2) of intervals that each hold a share ``level``, from draws (n, D).

        Raises
        ------
        DeepfieldError
            If the number of parameters is another.
        CalibrationError
            As of :meth:`level`.
        """
        theta = np.asarray(draws, dtype=float)
        if theta.ndim != 2 or theta.shape[1] != len(self.names):
            raise DeepfieldError(f"draws (n, {len(self.names)}) of {', '.join(self.names)}, not {theta.shape}")
        return np.array([np.quantile(t, [float(p) for p in c.tails(level)]) for t, c in zip(theta.T, self.each)])


def conformal_regions(
    posterior: Posterior, simulations: Simulations, *, most: int = 1000, draws: int = 400, seed: int = 0
) -> Regions:
    """Find the levels on simulations that the posterior was not fitted to.

    The guarantee is exact for regions made of as many draws as here, and of others as near as draws tell a level.

    Parameters
    ----------
    simulations : Simulations
        Drawn from the prior.
    most : int
        How many of them are used.
    draws : int
        From each posterior.

    Raises
    ------
    DeepfieldError
        If there are fewer than 20 simulations.

    Examples
    --------
    >>> from deepfield.inference import npe, simulate
    >>> posterior = npe({"mean": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> table = simulate({"mean": (0, 1)}, lambda theta: theta + 0.1, 50, seed=1)
    >>> found = conformal_regions(posterior, table)
    >>> 0 < found.level(0.68) < 1, found.intervals(posterior.sample([0.5]), 0.68).shape
    (True, (1, 2))
    """
    used = simulations[:most]
    theta = posterior.sample_many(used.x, draws, seed=seed)
    pit = calibration(theta, used.theta, seed=seed).pit
    density = np.stack(
        [posterior.log_prob(np.vstack([t, d]), x, evidence=0.0) for t, d, x in zip(used.theta, theta, used.x)]
    )
    joint = Conformal((highest_density_levels(density[:, 1:], density[:, 0]),))
    return Regions(posterior.prior.names, joint, tuple(fit_conformal(column) for column in pit.T))
