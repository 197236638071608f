"""A posterior that was learnt: draws, densities, and whether the data are like the simulations."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.heads import Ensemble
from deepfield.core.model import Model, members
from deepfield.core.store import Saved, load, restore, save, settings
from deepfield.inference.encoding import Encoding
from deepfield.inference.model import InferenceConfig, build
from deepfield.inference.priors import Prior
from deepfield.inference.sampling import Chains, sample, sample_many
from deepfield.trust.outliers import OutlierTest

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")

ALARM = 0.01
"""Level of the test whether the data are like the simulations: its rate of false alarms."""
_CHUNK = 20_000


@dataclass
class Posterior:
    """p(theta | x) for any x like those of the simulations; what :func:`npe`, :func:`nle` and :func:`nre` return.

    Parameters
    ----------
    config : InferenceConfig
    prior : Prior
    encoding : Encoding
    model : Model
    outliers : OutlierTest or None
        Knows what simulated data look like.
    card : dict
        What it was trained on, and how well it did.
    """

    config: InferenceConfig
    prior: Prior
    encoding: Encoding
    model: Model
    outliers: OutlierTest | None = None
    card: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        names, count = ", ".join(self.prior.names), self.card.get("simulations", 0)
        return f"Posterior({self.method} of {names}; data {self.encoding.shape}; {count:,} simulations)"

    @property
    def method(self) -> str:
        """One of npe, nle and nre."""
        return self.config.method

    # -- draws ------------------------------------------------------------------------------------------------

    def sample(self, observation: ArrayLike, n: int = 4000, *, seed: int = 0) -> Array:
        """Draws (n, D) from the posterior of one observation, or (M, n, D) for M of them (M, ...).

        Warns where an observation is unlike the simulations, and where chains have not mixed.

        Raises
        ------
        DeepfieldError
            If the observation has another shape than the simulations.
        """
        if n < 1:
            raise DeepfieldError(f"at least one draw, not n={n}")
        rows = self.encoding.rows(observation)
        self.check(rows)
        if self.method == "npe":
            draws = self._draw(rows, n, seed)
        else:
            found = [self.chains(row, n, seed=seed + i).u for i, row in enumerate(rows)]
            draws = np.stack([u.reshape(-1, self.prior.dim)[:n] for u in found])
        theta = self.prior.from_line(draws.reshape(-1, self.prior.dim)).reshape(draws.shape)
        return theta if np.ndim(observation) > len(self.encoding.shape) else theta[0]

    @torch.no_grad()
    def _draw(self, rows: Array, n: int, seed: int) -> Array:
        features = self._features(rows)
        step = max(1, _CHUNK // n)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = [self._draw_each(features[i : i + step], n) for i in range(0, len(features), step)]
        return torch.cat(parts).double().numpy()

    def _draw_each(self, features: Tensor, n: int) -> Tensor:
        """Draws (M, n, D); each from one member, so that the others need not be asked."""
        head: Any = self.model.head
        heads, shares = (
            (head.members, head.split(features)) if isinstance(head, Ensemble) else ([head], [features])
        )
        member = torch.randint(len(heads), (n,))
        draws = features.new_empty(n, len(features), self.prior.dim)
        for k, (one, share) in enumerate(zip(heads, shares)):
            own = torch.nonzero(member == k)[:, 0]
            if len(own):
                draws[own] = one(share).sample(torch.Size((len(own),)))
        return draws.movedim(0, 1)

    def _features(self, rows: Array) -> Tensor:
        return self.model.predict(self.encoding(rows)).features

    def chains(self, observation: ArrayLike, n: int = 4000, *, seed: int = 0, **options: Any) -> Chains:
        """Draws on the line with R-hat, effective number and evidence, for NLE and NRE.

        Raises
        ------
        DeepfieldError
            For NPE, whose draws are independent.
        """
        if self.method == "npe":
            raise DeepfieldError("npe draws directly, it has no chains: use sample")
        found = sample(self.likelihood_on_line(self._one(observation)), self.prior.dim, n, seed=seed, **options)
        if not found.mixed:
            log.warning(
                "the chains have not mixed: R-hat %.3f, %.0f effective draws of %d; draw more, or use npe",
                found.rhat.max(), found.ess.min(), found.u[..., 0].size,
            )  # fmt: skip
        return found

    def sample_many(self, observations: ArrayLike, n: int = 200, *, seed: int = 0) -> Array:
        """Draws (M, n, D) for M observations at once, for tests over many: quick, without their diagnostics."""
        rows = self.encoding.rows(observations)
        if self.method == "npe":
            draws = self._draw(rows, n, seed)
        else:
            function, dim = self.likelihood_on_line(rows), self.prior.dim

            def each(u: Tensor) -> Tensor:
                return function(u.transpose(0, 1).reshape(-1, dim)).reshape(u.shape[1], u.shape[0]).T

            draws = sample_many(each, dim, len(rows), n, seed=seed)
        return self.prior.from_line(draws.reshape(-1, self.prior.dim)).reshape(draws.shape)

    # -- densities --------------------------------------------------------------------------------------------

    def log_prob(self, theta: ArrayLike, observation: ArrayLike, *, evidence: float | None = None) -> Array:
        """Log posterior density (N,) of parameters (N, D) given one observation, in their own units.

        NPE and NRE give it directly. NLE needs the ``evidence`` of :meth:`chains` to be normalised, and finds it
        by a short run if it is not given.
        """
        rows = self.prior.rows(theta)
        inside = self.prior.inside(rows)
        u = self.prior.to_line(rows)
        if self.method == "npe":
            value = self._log_posterior_on_line(u, observation) + self.prior.log_jacobian(rows, u)
        else:
            value = self._in_chunks(self.likelihood_on_line(self._one(observation)), u) + self.prior.log_prob(rows)
            if self.method == "nle":
                value = value - (self.chains(observation, 1).log_evidence if evidence is None else evidence)
        return np.where(inside, value, -np.inf)

    def log_likelihood(self, theta: ArrayLike, observation: ArrayLike) -> Array:
        """Log likelihood (N,) of parameters (N, D), up to a number that does not depend on them.

        NLE and NRE only: that of NPE has the prior in it.
        """
        return self._in_chunks(self.likelihood_on_line(self._one(observation)), self.prior.to_line(theta))

    def _one(self, observation: ArrayLike) -> Array:
        rows = self.encoding.rows(observation)
        if len(rows) != 1:
            raise DeepfieldError(f"one observation is asked for, not {len(rows)}")
        return rows

    def _log_posterior_on_line(self, u: Array, observation: ArrayLike) -> Array:
        density = self.model.head(self._features(self._one(observation)))
        return self._in_chunks(lambda part: density.log_prob(part[:, None])[:, 0], u)

    def likelihood_on_line(self, observations: ArrayLike) -> Callable[[Tensor], Tensor]:
        """The learnt log-likelihood as a function of u on the line, differentiable.

        It takes u (k M, D) for M data sets, which stand beside them over and over: row i with data set i mod M.
        """
        x = self.encoding(observations)
        self.model.eval()
        if self.method == "nle":
            return lambda u: self.model(u).log_prob(_over_and_over(x, u))
        if self.method == "npe":
            raise DeepfieldError("npe learns no likelihood: use nle or nre")
        parts: list[Any] = [m.net for m in members(self.model)]
        with torch.no_grad():
            features = [net.features(x) for net in parts]

        def ratio(u: Tensor) -> Tensor:
            each = [net.ratio(f, u) for net, f in zip(parts, features)]
            return torch.logsumexp(torch.stack(each), 0) - float(np.log(len(parts)))

        return ratio

    @staticmethod
    def _in_chunks(function: Callable[[Tensor], Tensor], u: Array) -> Array:
        with torch.no_grad():
            values = torch.from_numpy(u).float().split(_CHUNK)
            return torch.cat([function(part) for part in values]).double().numpy()

    # -- trust ------------------------------------------------------------------------------------------------

    def summary(self, rows: Array) -> Array:
        """What the outlier test looks at: the encoded data of a vector, the learnt features of other data."""
        if self.encoding.kind == "vectors":
            return self.encoding(rows).double().numpy()
        nets: Any = [getattr(m.net, "embed", m.net) for m in members(self.model)]
        with torch.no_grad():
            return torch.cat([net.eval()(self.encoding(rows)) for net in nets], -1).double().numpy()

    def p_value(self, observation: ArrayLike) -> Array:
        """How likely simulated data are to lie as far out (or as near the middle) as each observation (M,)."""
        if self.outliers is None:
            raise DeepfieldError("this model knows no simulations to compare with")
        return self.outliers.p_value(self.summary(self.encoding.rows(observation)))

    def check(self, observation: ArrayLike) -> Array:
        """Warn of observations that are unlike the simulations; returns their p-values."""
        if self.outliers is None:
            return np.ones(len(self.encoding.rows(observation)))
        rows = self.encoding.rows(observation)
        p, far = self.p_value(rows), self.outliers.distance(self.summary(rows))
        # The p-value cannot fall below 2 / (n + 1): few held-out simulations must not silence the absurd.
        odd = np.flatnonzero((p < ALARM) | (far > 2 * self.outliers.distances.max()))
        usual = self.outliers.distances[[0, len(self.outliers.distances) // 2, -1]]
        if len(odd) > 2 * ALARM * len(p) or (len(odd) and len(p) == 1):
            log.warning(
                "THE DATA ARE UNLIKE THE SIMULATIONS (p = %.4f, alarm at %g): they are %.1f deviations "
                "from their mean, simulated data %.1f to %.1f (median %.1f). The posterior may be far off",
                p[odd].min(), ALARM, far[odd[p[odd].argmin()]], usual[0], usual[2], usual[1],
            )  # fmt: skip
        return p

    # -- files ------------------------------------------------------------------------------------------------

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder."""
        described = {
            "inference": asdict(self.config),
            "prior": self.prior.to_dict(),
            "encoding": self.encoding.to_dict(),
            "outliers": None if self.outliers is None else self.outliers.to_dict(),
        }
        save(folder, Saved("inference", described, self.model.state_dict(), self.card))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Posterior:
        """Read a model folder; ModelError with a clear message if it is not whole."""
        saved = load(folder, domain="inference")
        try:
            config = InferenceConfig(**settings(saved.config["inference"], InferenceConfig))
            prior, encoding = Prior.from_dict(saved.config["prior"]), Encoding.from_dict(saved.config["encoding"])
            test = saved.config["outliers"]
            outliers = None if test is None else OutlierTest.from_dict(test)
            model = build(encoding, prior.dim, config)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"the model's configuration is damaged: {error}") from None
        restore(model, saved.weights)
        return cls(config, prior, encoding, model.eval(), outliers, saved.card)


def _over_and_over(x: Tensor, u: Tensor) -> Tensor:
    return x.expand(len(u), -1) if len(x) == 1 else x.repeat(len(u) // len(x), 1)


def export(model: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Posteriors are drawn from, step by step; there is no single function to write as ONNX.

    Raises
    ------
    DeepfieldError
        Always.
    """
    raise DeepfieldError(
        f"{model} is a posterior: draw from it with 'deepfield inference sample'; it has no ONNX form"
    )
