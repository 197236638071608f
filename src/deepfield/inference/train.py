"""Training: simulations in, a posterior out. Three estimators, one loop."""

from __future__ import annotations

import copy
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

import deepfield
from deepfield.core.batches import Batches
from deepfield.core.devices import one_thread
from deepfield.core.errors import DeepfieldError
from deepfield.core.fit import FitConfig, History, fit
from deepfield.core.model import Model, members
from deepfield.inference.encoding import Encoding
from deepfield.inference.model import InferenceConfig, build
from deepfield.inference.posterior import Posterior
from deepfield.inference.priors import Prior
from deepfield.inference.ratio import contrastive
from deepfield.inference.regression import WithInput
from deepfield.inference.simulate import simulate
from deepfield.inference.simulations import Simulations, add_noise, noise_root
from deepfield.trust.outliers import OutlierTest

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")

FEWEST = 100
_UNLIKELY = 1e-6
_STEPS = 2000
_CYCLES, _FALLING, _PATIENCE = 2, 0.75, 1 / 3
"""A cycle whose best epoch lies beyond the second share of it is followed by another; the first one stops after
the third without a better epoch. A later one begins by a rise, from which it only comes back at its end."""


def train(
    simulations: Simulations,
    prior: Any,
    config: InferenceConfig | None = None,
    *,
    noise: ArrayLike | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = False,
    **changes: Any,
) -> Posterior:
    """Fit an estimator to finished simulations.

    Parameters
    ----------
    simulations : Simulations
        Drawn from the prior.
    prior : Prior, or whatever :meth:`Prior.of` takes
    config : InferenceConfig, optional
    noise : array (K,) or (K, K), optional
        Standard deviations or covariance of Gaussian noise that the simulations lack. It is added here, anew in
        each epoch, so that no noise is ever learnt by heart: as good as many more simulations.
    checkpoint : path, optional
        A killed training goes on from there.
    **changes
        Fields of the configuration.

    Raises
    ------
    DeepfieldError
        If there are fewer than 100 simulations, or the prior or the noise is none of theirs.

    Examples
    --------
    >>> prior = Prior({"a": (0, 1)})
    >>> table = simulate(prior, lambda theta: theta + 0.1, 200, seed=0)
    >>> train(table, prior, epochs=2, members=1).sample([0.5], 10).shape
    (10, 1)
    """
    own = Prior.of(prior, simulations.names)
    _check(simulations, own)
    config = replace(config or InferenceConfig(), **changes)
    began = time.process_time()
    held_out, clean = simulations.split(config.validation, seed=config.seed)
    fitted, root = clean, None if noise is None else noise_root(noise, clean.x)
    if root is not None:
        held_out, fitted = (
            add_noise(part, root, seed=config.seed + k) for k, part in enumerate((held_out, clean))
        )
    encoding = Encoding.fit(fitted.x)
    model = build(encoding, own.dim, config)
    pairs = [(encoding(part.x), torch.from_numpy(own.to_line(part.theta)).float()) for part in (fitted, held_out)]
    x, u = pairs[0]
    _standardise(model, config, x, u)
    batch = min(config.batch, max(16, len(fitted) // 8))
    epochs = config.epochs or int(np.clip(round(_STEPS * batch / len(fitted)), 20, 300))
    flip = config.method == "nle"  # the arguments exchanged
    train_pair, held_pair = [pair[::-1] if flip else pair for pair in pairs]
    batches = (
        Batches(*train_pair, size=batch, seed=config.seed)
        if root is None
        else Batches(
            torch.from_numpy(clean.x), u, size=batch, seed=config.seed, augment=_fresh(encoding, root, flip)
        )
    )
    held = _held_out(held_pair, batch if config.method == "nre" else None)
    history = _cycles(model, batches, held, config, epochs, checkpoint, progress)
    posterior = Posterior(config, own, encoding, model.eval())
    if len(held_out) >= 20:
        posterior.outliers = OutlierTest.fit(posterior.summary(fitted.x), posterior.summary(held_out.x))
    posterior.card = {
        "simulations": len(simulations),
        "lost": simulations.lost,
        "sha256": simulations.digest(),
        "columns": list(simulations.columns),
        "validation_loss": history.validation[history.best_epoch],
        "best_epoch": history.best_epoch,
        "history": {"train": history.train, "validation": history.validation},
        "cpu_seconds": round(time.process_time() - began, 2),
        "versions": {"deepfield": deepfield.__version__, "torch": torch.__version__},
    }
    return posterior


def _check(simulations: Simulations, prior: Prior) -> None:
    """Refuse other parameters and too few rows; warn where they were not drawn from the prior."""
    if prior.names != simulations.names:
        raise DeepfieldError(
            f"the prior is one of {', '.join(prior.names)}, the simulations are of {', '.join(simulations.names)}"
        )
    if len(simulations) < FEWEST:
        raise DeepfieldError(f"{len(simulations)} simulations are too few to learn from: {FEWEST} at the least")
    # On its line the prior is a standard normal.
    for name, values, column in zip(prior.names, simulations.theta.T, prior.to_line(simulations.theta).T):
        if scipy.stats.kstest(column, "norm").pvalue < _UNLIKELY:
            log.warning(
                "the simulations' '%s', from %.4g to %.4g, does not follow the prior: give the prior they were "
                "drawn from, or the posterior will be that of another one", name, values.min(), values.max(),
            )  # fmt: skip


def _held_out(pair: tuple[Tensor, ...], batch: int | None) -> Batches:
    """In batches like those of the training where a loss compares the pairs of a batch."""
    count = len(pair[0])
    # One pair alone has no other to be compared with.
    most = count - (batch is not None and count % batch == 1)
    return Batches(*(t[:most] for t in pair), size=batch or 4096, seed=None)


def _cycles(
    model: Model,
    batches: Batches,
    held: Batches,
    config: InferenceConfig,
    epochs: int,
    checkpoint: str | os.PathLike[str] | None,
    progress: bool | str,
) -> History:
    """Fit, and once more from there as long as the held-out loss was still falling at the end (SGDR)."""
    whole = History(seconds=0.0)
    for cycle in range(1 if config.epochs else _CYCLES):
        before = copy.deepcopy(model.state_dict()) if cycle else {}  # the first is better than nothing
        best = min(whole.validation, default=math.inf)
        settings = FitConfig(
            epochs=epochs,
            learning_rate=config.learning_rate / 2**cycle,
            seed=config.seed + cycle,
            patience=epochs if cycle else max(10, round(_PATIENCE * epochs)),
            device="cpu",
        )
        path = Path(f"{os.fspath(checkpoint)}{f'.{cycle}' if cycle else ''}") if checkpoint else None
        with one_thread():
            found = fit(model, batches, held, settings, loss=_loss(config), checkpoint=path, progress=progress)
        better = found.validation[found.best_epoch] < best
        if better:
            whole.best_epoch = len(whole.train) + found.best_epoch
        else:
            model.load_state_dict(before)
        whole.train += found.train
        whole.validation += found.validation
        whole.seconds += found.seconds
        if not better or found.best_epoch < _FALLING * epochs:
            break
    return whole


def _fresh(encoding: Encoding, root: Array, flip: bool) -> Callable[..., tuple[Tensor, ...]]:
    """Batches of data without noise to encoded ones with new noise."""
    factor = torch.from_numpy(root)

    def augment(x: Tensor, u: Tensor, *, generator: torch.Generator) -> tuple[Tensor, ...]:
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype) @ factor.T
        pair = encoding((x + noise).numpy()), u
        return pair[::-1] if flip else pair

    return augment


def _standardise(model: Model, config: InferenceConfig, x: Tensor, u: Tensor) -> None:
    """Tell the nets the scale of what they get, and the heads that of what they give, with its linear part."""
    target, given = (x, u) if config.method == "nle" else (u, x)
    for member in members(model):
        net: Any = member.net
        head: Any = member.head
        if config.method == "nre":
            if hasattr(net.embed, "standardise"):
                net.embed.standardise.fit(x)
            net.inner.standardise.fit(u)
            net.linear.fit(x, u)
            continue
        if isinstance(net, WithInput):
            net.net.standardise.fit(given)
        head.regress(given, target)


def _loss(config: InferenceConfig) -> Callable[..., Tensor] | None:
    if config.method != "nre":
        return None
    one = partial(contrastive, contrasts=config.contrasts)
    return lambda model, x, u: torch.stack([one(member, x, u) for member in members(model)]).mean()


def npe(
    prior: Any,
    simulator: Callable[..., Any] | None = None,
    *,
    n: int = 10_000,
    simulations: Simulations | None = None,
    seed: int = 0,
    batched: bool = True,
    workers: int = 1,
    folder: str | os.PathLike[str] | None = None,
    method: str = "npe",
    **settings: Any,
) -> Posterior:
    """Neural posterior estimation: q(theta | x) by minimising -log q(theta_i | x_i) (Papamakarios & Murray 2016).

    Amortised: one pass per observation, any number of observations at once.

    Parameters
    ----------
    prior : Prior, or whatever :meth:`Prior.of` takes
    simulator : callable, optional
        As for :func:`simulate`; or give finished ``simulations``.
    n : int
        Simulations to run.
    batched, workers, folder
        As for :func:`simulate`.
    method : str
        The other two by name: what :func:`nle` and :func:`nre` set.
    **settings
        ``noise`` of :func:`train`, and fields of :class:`InferenceConfig`.

    Examples
    --------
    >>> posterior = npe({"mean": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> posterior.sample([0.5], 100).shape, posterior.log_prob([[0.4], [2.0]], [0.5]).shape
    ((100, 1), (2,))
    """
    if (simulator is None) == (simulations is None):
        raise DeepfieldError("give a simulator, or simulations=... that are finished, one of the two")
    if simulations is None:
        assert simulator is not None
        simulations = simulate(
            prior, simulator, n, seed=seed, batched=batched, workers=workers, folder=folder, progress=False
        )
    return train(simulations, prior, method=method, seed=seed, **settings)


def nle(prior: Any, simulator: Callable[..., Any] | None = None, **settings: Any) -> Posterior:
    """Neural likelihood estimation: q(x | theta), then chains (Papamakarios et al. 2019); as :func:`npe`.

    Examples
    --------
    >>> posterior = nle({"mean": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> posterior.log_likelihood([[0.4], [0.5]], [0.5]).shape
    (2,)
    """
    return npe(prior, simulator, method="nle", **settings)


def nre(prior: Any, simulator: Callable[..., Any] | None = None, **settings: Any) -> Posterior:
    """Neural ratio estimation: p(x | theta) / p(x) by classification, then chains; as :func:`npe`.

    NRE-C (Miller, Weniger & Forre 2022) with all of a batch as contrasts; ``contrasts=1`` is the plain classifier
    (Hermans, Begy & Louppe 2020).

    Examples
    --------
    >>> posterior = nre({"mean": (0, 1)}, lambda theta: theta + 0.1, n=200, epochs=2, members=1)
    >>> posterior.log_likelihood([[0.4], [0.5]], [0.5]).shape
    (2,)
    """
    return npe(prior, simulator, method="nre", **settings)
