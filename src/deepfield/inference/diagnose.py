"""Does the posterior keep its word? Simulation-based calibration, TARP, coverage, predictive and local checks.

On simulations that it was not fitted to; all but the local test in the mean over the prior. That a posterior
passes says that it is not over-confident, not that it is as narrow as the data allow (the prior passes too).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.inference.posterior import Posterior
from deepfield.inference.simulate import simulate_at
from deepfield.inference.simulations import Simulations
from deepfield.trust.outliers import OutlierTest
from deepfield.trust.posteriors import Calibration, calibration
from deepfield.trust.two_samples import LocalTest, local_c2st

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")

LEVELS = (0.5, 0.68, 0.95)


@dataclass(frozen=True)
class Diagnostics:
    """What the tests found.

    Parameters
    ----------
    names : tuple of str
        Of the parameters.
    calibration : Calibration
    shrinkage : Array (D,)
        1 - (width of the posterior / width of the prior)^2, in the mean over the simulations: 0 learns nothing.
    """

    names: tuple[str, ...]
    calibration: Calibration
    shrinkage: Array

    @property
    def passed(self) -> bool:
        """Whether no test rejects at 1 %, shared among them."""
        return self.calibration.passes()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        covered = self.calibration.coverage(LEVELS)
        return {
            "simulations": len(self.calibration.pit),
            "passed": self.passed,
            "sbc_p_value": dict(zip(self.names, self.calibration.p_value.tolist())),
            "tarp_p_value": self.calibration.tarp_p_value,
            "coverage": {f"{level:g}": dict(zip(self.names, row.tolist())) for level, row in zip(LEVELS, covered)},
            "tarp_coverage": dict(zip(map(str, LEVELS), self.calibration.tarp_coverage(LEVELS).tolist())),
            "shrinkage": dict(zip(self.names, self.shrinkage.tolist())),
        }

    def __str__(self) -> str:
        content = self.to_dict()
        lines = [
            f"{'parameter':<16} {'SBC p':>8}"
            + "".join(f"{f'in {level:.0%}':>9}" for level in LEVELS)
            + "  shrinkage"
        ]
        for name, shrunk in content["shrinkage"].items():
            inside = "".join(f"{content['coverage'][f'{level:g}'][name]:>9.3f}" for level in LEVELS)
            lines.append(f"{name:<16} {content['sbc_p_value'][name]:>8.3f}{inside} {shrunk:>10.3f}")
        inside = "".join(f"{value:>9.3f}" for value in content["tarp_coverage"].values())
        lines.append(f"{'all (TARP)':<16} {self.calibration.tarp_p_value:>8.3f}{inside}")
        verdict = "passed" if self.passed else "FAILED: the credible regions do not hold what they say"
        return "\n".join([*lines, f"{content['simulations']} simulations: {verdict}"])


def diagnose(
    posterior: Posterior, simulations: Simulations, *, most: int = 1000, draws: int = 100, seed: int = 0
) -> Diagnostics:
    """Test a posterior on simulations it was not fitted to.

    Parameters
    ----------
    simulations : Simulations
        Drawn from the prior.
    most : int
        How many of them are used.
    draws : int
        From each posterior.

    Examples
    --------
    >>> from deepfield.inference import npe, simulate
    >>> posterior = npe({"mean": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> table = simulate({"mean": (0, 1)}, lambda theta: theta + 0.1, 50, seed=1)
    >>> diagnose(posterior, table).to_dict()["simulations"]
    50
    """
    if simulations.names != posterior.prior.names:
        raise DeepfieldError(
            f"the simulations have the parameters {', '.join(simulations.names)}, the posterior "
            f"{', '.join(posterior.prior.names)}: name them alike and in this order"
        )
    used = simulations[:most]
    found = posterior.sample_many(used.x, draws, seed=seed)
    tested = calibration(found, used.theta, seed=seed)
    spread = posterior.prior.sample(4000, seed=seed).var(0)
    result = Diagnostics(posterior.prior.names, tested, 1 - found.var(1).mean(0) / spread)
    if not result.passed:
        log.warning("the posterior fails its calibration test on %d simulations", len(used))
    return result


def local_test(
    posterior: Posterior,
    simulations: Simulations,
    observation: ArrayLike,
    *,
    most: int = 2000,
    draws: int = 100,
    permutations: int = 100,
    seed: int = 0,
) -> LocalTest:
    """Is the posterior right at this observation? :func:`deepfield.trust.two_samples.local_c2st`.

    Where :func:`diagnose` averages over the prior, a classifier that has seen many simulations is asked about this
    observation; of maps and sequences it sees the features that were learnt of them.

    Parameters
    ----------
    simulations : Simulations
        Drawn from the prior, that the posterior was not fitted to; some near the observation.
    observation : array
    most : int
        How many of the simulations are used.
    draws : int
        From each of their posteriors.
    permutations : int
        Of the null distribution.

    Raises
    ------
    DeepfieldError
        If there are fewer than 100 simulations, or several observations.

    Examples
    --------
    >>> from deepfield.inference import npe, simulate
    >>> posterior = npe({"mean": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> table = simulate({"mean": (0, 1)}, lambda theta: theta + 0.1, 200, seed=1)
    >>> 0 < local_test(posterior, table, [0.5], permutations=20).p_value <= 1
    True
    """
    used = simulations[:most]
    here = posterior.encoding.rows(observation)
    if len(here) != 1:
        raise DeepfieldError(f"one observation is asked for, not {len(here)}")
    to_line, dim = posterior.prior.to_line, posterior.prior.dim
    own = posterior.sample_many(used.x, draws, seed=seed)
    return local_c2st(
        to_line(own.reshape(-1, dim)).reshape(own.shape),
        to_line(used.theta),
        posterior.summary(used.x),
        to_line(posterior.sample_many(here, max(draws, 1000), seed=seed + 1)[0]),
        posterior.summary(here)[0],
        permutations=permutations,
        seed=seed,
    )


def predictive_check(
    posterior: Posterior,
    simulator: Callable[..., Any],
    observation: ArrayLike,
    *,
    n: int = 1000,
    tensors: bool = False,
    seed: int = 0,
) -> float:
    """Posterior predictive p-value: how usual the observation is among data simulated from its posterior.

    Sharper than :meth:`Posterior.check`, which compares with all of the prior: one bad point among many, or noise
    of another size, shows here. The data have been used twice, so the p-value is conservative.

    Raises
    ------
    DeepfieldError
        If the data are no vectors.
    """
    if posterior.encoding.kind != "vectors":
        raise DeepfieldError(f"the predictive check is for vectors; of {posterior.encoding.kind}, check summaries")
    theta = posterior.sample(observation, n, seed=seed)
    data = posterior.encoding(simulate_at(simulator, theta, seed=seed, tensors=tensors)).double().numpy()
    test = OutlierTest.fit(data[: n // 2], data[n // 2 :])
    return float(test.p_value(posterior.encoding(observation).double().numpy())[0])
