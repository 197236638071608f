"""The one training loop. It knows a loss, batches and a clock, and nothing of what is learned."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from deepfield.core.devices import Runtime, runtime
from deepfield.core.errors import ModelError
from deepfield.core.files import atomic
from deepfield.core.soap import SOAP

log = logging.getLogger("deepfield")


@dataclass(frozen=True)
class FitConfig:
    """How to fit.

    Parameters
    ----------
    epochs : int
        Passes over the training batches; the learning rate follows one cycle over all of them.
    learning_rate, weight_decay : float
        Peak rate and decay of the optimiser; biases do not decay.
    warmup : float
        Share of the training in which the rate rises; it falls as a cosine over the rest.
    clip : float
        Largest norm of the gradient.
    average : float
        Decay of the exponential moving average of the weights, whose value is validated and kept.
    patience : int
        Epochs without a better validation loss before the fit stops.
    tolerance : float
        The last epoch is kept where an earlier one was better by no more than this, and is no reason to stop: on
        few held-out rows the best of many epochs is the luckiest.
    optimizer : str
        "adamw" (Loshchilov & Hutter 2019), or "soap" (:class:`deepfield.core.soap.SOAP`), which gets closer to
        a smooth function in the same time.
    seed : int
        Of the dropout and of nothing else; batches have their own.
    device : str
        "auto", "cpu", "cuda" or "mps".
    precision : str
        "32" or "bf16" (autocast).
    processes : int
        More than one trains data-parallel through lightning-fabric.
    """

    epochs: int = 60
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.1
    clip: float = 5.0
    average: float = 0.99
    patience: int = 20
    tolerance: float = 0.0
    optimizer: str = "adamw"
    seed: int = 0
    device: str = "auto"
    precision: str = "32"
    processes: int = 1

    def __post_init__(self) -> None:
        for name in ("epochs", "processes"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ModelError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if self.optimizer not in ("adamw", "soap"):
            raise ModelError(f"optimizer is 'adamw' or 'soap', not '{self.optimizer}'")
        if not self.tolerance >= 0:
            raise ModelError(f"tolerance is a difference of losses, 0 or more, got {self.tolerance}")
        if not 0 <= self.average < 1:
            raise ModelError(f"average is the decay of a moving average, 0 <= average < 1, got {self.average}")


@dataclass
class History:
    """What happened: a loss per epoch, the best epoch, seconds."""

    train: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    best_epoch: int = -1
    seconds: float = 0.0


class _Objective(nn.Module):
    """The loss as a forward pass, which is where data-parallel wrappers look for gradients."""

    def __init__(self, model: Any, loss: Callable[..., Tensor] | None) -> None:
        super().__init__()
        self.model: Any = model
        self.loss = loss

    def forward(self, *batch: Tensor) -> Tensor:
        return self.model.loss(*batch) if self.loss is None else self.loss(self.model, *batch)


def fit(
    model: nn.Module,
    train: Iterable[tuple[Tensor, ...]],
    validation: Iterable[tuple[Tensor, ...]],
    config: FitConfig | None = None,
    *,
    loss: Callable[..., Tensor] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | str = True,
    on_epoch: Callable[[int, History], None] | None = None,
) -> History:
    """Fit ``model`` in place; its weights afterwards are the averaged ones of the best validation epoch.

    Or of the last one, if that is as good within ``tolerance``.

    Parameters
    ----------
    model : Model
        Anything with ``loss(*batch)``; parameters with ``requires_grad=False`` stay as they are.
    train, validation : re-iterables of tuples of tensors
        Gone over once an epoch, so they may stream from disk. ``set_epoch(epoch, rank, world)`` is called where
        it exists; without it the order must not matter to you, and each process must bring its own share.
    loss : callable, optional
        ``loss(model, *batch)`` in place of ``model.loss(*batch)``: the one escape hatch.
    checkpoint : path, optional
        Written after each epoch. If it exists the fit goes on from there and ends where an unbroken one would,
        given the same data: only settings, shapes and buffers (the scalings learnt from data) are compared.
    progress : bool or str
        A progress bar, with this label if it is a string.

    Raises
    ------
    ModelError
        If the loss becomes NaN, there are no batches, or the checkpoint belongs to another fit.
    KeyboardInterrupt
        As Python raises it; its message says after which epoch the same fit would go on, if it would.
    """
    config = config or FitConfig()
    run = runtime(config.device, config.precision, config.processes)
    state = _State(model, loss, config, run)
    path = Path(checkpoint) if checkpoint else None
    label = progress if isinstance(progress, str) else "fit"
    if path and path.exists():
        state.restore(path)
        log.info("%s %s", label.strip(), state.place(path))
    bar = tqdm(
        total=config.epochs,
        initial=state.epoch,
        desc=label,
        unit="epoch",
        disable=not progress or run.rank > 0,
        leave=False,
    )
    try:
        with bar:
            while state.epoch < config.epochs and not state.stopped:
                began = time.perf_counter()
                state.run_epoch(train, validation)
                state.history.seconds += time.perf_counter() - began
                bar.update()
                losses = state.history.train[-1], state.history.validation[-1]
                bar.set_postfix_str("loss {:.4f}, held out {:.4f}".format(*losses))
                if path and run.rank == 0:
                    state.save(path)
                if on_epoch:
                    on_epoch(state.epoch, state.history)
    except KeyboardInterrupt as stop:
        if path and state.saved:
            stop.args = (state.place(path),)
        raise
    state.finish(model)
    return state.history


class _State:
    """All that an epoch changes, hence all that a checkpoint holds."""

    def __init__(self, model: nn.Module, loss: Any, config: FitConfig, run: Runtime) -> None:
        self.config, self.run = config, run
        self.objective = _Objective(model, loss)
        # Buffers hold what the model learnt of its data before the fit (scalings): whose fit this is.
        self.identity = _digest(model.buffers())
        self.parameters = parameters = [p for p in model.parameters() if p.requires_grad]
        if not parameters:
            raise ModelError("the model has no parameter to fit: all are frozen, or it has none")
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups, rate = [g for g in groups if g["params"]], config.learning_rate
        if config.optimizer == "soap":
            optimizer: torch.optim.Optimizer = SOAP(groups, lr=rate)
        else:
            optimizer = torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.99), fused=True)
        self.module, self.optimizer = run.setup(self.objective, optimizer)
        # Buffers too: the running statistics of a batch norm belong to the weights they were gathered with.
        self.averaged = AveragedModel(model, use_buffers=True)
        # Listed once: to look for them in every step takes longer than a small net does.
        pairs = list(zip(_tensors(self.averaged.module), _tensors(model)))
        moving = [pair for pair in pairs if pair[0].is_floating_point()]
        self.moving = [a for a, _ in moving], [b for _, b in moving]
        self.counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        self.epoch, self.saved, self.stopped = 0, 0, False
        self.best = math.inf
        self.best_weights: dict[str, Tensor] = {}
        self.history = History()

    @torch.no_grad()
    def _average(self) -> None:
        count = int(self.averaged.n_averaged)
        # The average starts as the plain mean and forgets only once it has a past worth keeping.
        decay = min(self.config.average, (1 + count) / (10 + count)) if count else 0.0
        torch._foreach_lerp_(*self.moving, 1 - decay)
        for averaged, current in self.counters:
            averaged.copy_(current)
        self.averaged.n_averaged += 1

    def rate(self, progress: float) -> float:
        """One cycle: linear rise, cosine fall (Smith & Topin 2019)."""
        peak, warm = self.config.learning_rate, max(self.config.warmup, 1e-9)
        if progress < warm:
            return peak * (0.04 + 0.96 * progress / warm)
        return peak * (1e-3 + 0.999 * 0.5 * (1 + math.cos(math.pi * (progress - warm) / max(1 - warm, 1e-9))))

    def run_epoch(self, train: Iterable[tuple[Tensor, ...]], validation: Iterable[tuple[Tensor, ...]]) -> None:
        config, run = self.config, self.run
        for batches in (train, validation):
            if hasattr(batches, "set_epoch"):
                batches.set_epoch(self.epoch, run.rank, run.world)
        length = len(train) if isinstance(train, Sized) else None
        self.module.train()
        total, count = torch.zeros((), device=run.device), 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed((config.seed * 1_000_003 + self.epoch) * 64 + run.rank)
            for i, batch in enumerate(train):
                within = i / length if length else 0.0
                for group in self.optimizer.param_groups:
                    group["lr"] = self.rate((self.epoch + within) / config.epochs)
                self.optimizer.zero_grad()
                with run.autocast():
                    loss = self.module(*(t.to(run.device) for t in batch))
                run.backward(loss)
                nn.utils.clip_grad_norm_(self.parameters, config.clip)
                self.optimizer.step()
                self._average()
                total, count = total + loss.detach(), count + 1
        if not count:
            raise ModelError("the training batches are empty: fewer rows than one batch, or an exhausted iterator")
        self.history.train.append(float(run.mean(total / count)))
        self.history.validation.append(self._validate(validation))
        self._judge()
        self.epoch += 1

    @torch.no_grad()
    def _validate(self, validation: Iterable[tuple[Tensor, ...]]) -> float:
        averaged = self.averaged.module.eval()
        objective = _Objective(averaged, self.objective.loss)
        sums = torch.zeros(2, dtype=torch.float64)
        # Epochs are compared, and a fit resumed, on the same draws where the loss draws (distillation).
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed * 64 + self.run.rank)
            for batch in validation:
                value, rows = float(objective(*(t.to(self.run.device) for t in batch))), len(batch[0])
                sums += torch.tensor([value * rows, rows], dtype=torch.float64)
        total, rows = self.run.mean(sums).tolist()
        if not rows:
            raise ModelError("the validation batches are empty; early stopping needs held-out rows")
        return total / rows

    def _judge(self) -> None:
        value = self.history.validation[-1]
        if not math.isfinite(self.history.train[-1]) or not math.isfinite(value):
            raise ModelError(
                f"the loss is not finite after epoch {self.epoch + 1} (train {self.history.train[-1]}, held out "
                f"{value}): look for infinite or absurd values in the data, or lower the learning rate"
            )
        if value < self.best:
            self.best, self.history.best_epoch = value, self.epoch
            self.best_weights = copy.deepcopy(self.averaged.module.state_dict())
        worse = value > self.best + self.config.tolerance
        self.stopped = worse and self.epoch - self.history.best_epoch >= self.config.patience

    def finish(self, model: nn.Module) -> None:
        if self.history.validation[-1] <= self.best + self.config.tolerance:
            self.history.best_epoch = self.epoch - 1
            self.best_weights = self.averaged.module.state_dict()
        model.load_state_dict(self.best_weights)
        model.to("cpu").eval()

    # -- checkpoints: tensors and plain numbers only, so that reading one can run no code --------------------

    def _fingerprint(self) -> dict[str, Any]:
        shapes = {name: list(t.shape) for name, t in self.objective.model.state_dict().items()}
        settings = {k: v for k, v in asdict(self.config).items() if k not in ("device", "processes")}
        return {"config": settings, "shapes": shapes, "buffers": self.identity}

    def save(self, path: Path) -> None:
        content = {
            "fingerprint": self._fingerprint(),
            "model": self.objective.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best_weights": self.best_weights,
            "numbers": {"epoch": self.epoch, "best": self.best, "stopped": self.stopped},
            "history": asdict(self.history),
        }
        with atomic(path) as temporary:
            torch.save(content, temporary)
        self.saved = self.epoch

    def place(self, path: Path) -> str:
        """Where the fit stands on disk, in words."""
        return f"goes on after epoch {self.saved} of {self.config.epochs} (checkpoint in {path.parent})"

    def restore(self, path: Path) -> None:
        try:
            content = torch.load(path, weights_only=True, map_location=self.run.device)
            fingerprint = content["fingerprint"]
        except Exception:  # whatever a damaged file can cause; torch's own message advises unsafe loading
            raise ModelError(f"checkpoint {path} cannot be read, it is damaged; delete it to start anew") from None
        if fingerprint != self._fingerprint():
            raise ModelError(
                f"checkpoint {path} belongs to a fit with other settings or data; delete it to start anew"
            )
        try:
            self.objective.model.load_state_dict(content["model"])
            self.averaged.load_state_dict(content["averaged"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.best_weights = content["best_weights"]
            numbers = content["numbers"]
            self.epoch, self.best, self.stopped = numbers["epoch"], numbers["best"], numbers["stopped"]
            self.history = History(**content["history"])
            self.saved = self.epoch
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError):
            raise ModelError(f"checkpoint {path} is damaged; delete it to start anew") from None


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def _digest(tensors: Iterable[Tensor]) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()
