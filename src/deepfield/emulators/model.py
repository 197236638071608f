"""An emulator of any summary statistic: parameters in, a vector with its error out.

The vector (its logarithm, where all of it is positive) is compressed to principal components; each is regressed on
the parameters by a Gaussian process, or all of them by a net with a Gaussian-vector head. The error of a
prediction
is that of the regression, brought back to the vector, and that of the compression; a factor learnt on rows
that the regression has not seen makes it cover.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.heads import GaussianVector
from deepfield.core.model import Model
from deepfield.core.nets import ResidualMLP
from deepfield.core.store import Saved, load, restore, save, settings
from deepfield.core.table import Table
from deepfield.emulators.process import GaussianProcesses

Array = NDArray[np.float64]

METHODS = ("process", "net")


@dataclass(frozen=True)
class EmulatorConfig:
    """What an emulator is, and how it is trained.

    Parameters
    ----------
    method : str
        "process" for smooth simulations and up to some thousand of them, "net" for more.
    components : int
        Principal components; 0 takes as many as leave a millionth of the variance, at most 40.
    logarithm : bool
        Emulate the logarithm of outputs that are all positive.
    width, epochs : int
        Of the net.
    seed : int
    """

    method: str = "process"
    components: int = 0
    logarithm: bool = True
    width: int = 128
    epochs: int = 400
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise DeepfieldError(f"method is one of {', '.join(METHODS)}, not '{self.method}'")
        for name, least in (("components", 0), ("width", 1), ("epochs", 1)):
            if getattr(self, name) < least:
                raise DeepfieldError(f"{name} is at least {least}, got {getattr(self, name)}")


@dataclass(frozen=True)
class Emulation:
    """What an emulator says: ``mean`` and ``std`` (N, K) of the vector, in its own unit."""

    mean: Array
    std: Array

    def __len__(self) -> int:
        return len(self.mean)


class Emulator:
    """A trained emulator.

    Parameters
    ----------
    config : EmulatorConfig
    inputs, outputs : list of str
        Columns of the tables it was trained on.
    ranges : Array (D, 2)
        Of the inputs, in training.
    basis : dict of Array
        ``centre`` (K,), ``axes`` (C, K), ``scale`` (C,) and ``rest`` (K,): the mean, the components and their
        spreads, and what the compression leaves.
    logarithm : bool
        Whether it is the logarithm that is compressed.
    model : GaussianProcesses or Model
    card : dict
    """

    def __init__(
        self,
        config: EmulatorConfig,
        inputs: list[str],
        outputs: list[str],
        ranges: Array,
        basis: dict[str, Array],
        logarithm: bool,
        model: nn.Module,
        card: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.inputs, self.outputs, self.ranges = config, inputs, outputs, ranges
        self.basis, self.logarithm, self.model = basis, logarithm, model
        self.card: dict[str, Any] = card or {}
        self.inflation = 1.0

    def unit(self, theta: Array) -> Array:
        """Inputs (N, D) on (-1, 1)."""
        low, high = self.ranges.T
        return (theta - 0.5 * (low + high)) * (2 / (high - low))

    def rows(self, given: Any) -> Array:
        """Inputs (N, D) of a table, a mapping or an array.

        Raises
        ------
        DeepfieldError
            If a column is missing, or a value is no number or outside the ranges of the training.
        """
        return rows_of(given, self.inputs, self.ranges)

    @torch.no_grad()
    def components(self, theta: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (N, C) of the scaled components at inputs (N, D)."""
        x = torch.from_numpy(self.unit(theta))
        if isinstance(self.model, GaussianProcesses):
            mean, std = self.model(x)
        else:
            found = self.model(x.float())
            mean, std = found.mean, found.stddev
        return mean.double().numpy(), std.double().numpy()

    def predict(self, given: Any) -> Emulation:
        """Vectors and their errors for the inputs of a table, a mapping or an array (N, D)."""
        mean, std = self.components(self.rows(given))
        return self.expand(mean, std)

    def expand(self, mean: Array, std: Array) -> Emulation:
        """Components (N, C) back to vectors (N, K)."""
        scaled = self.basis["axes"] * self.basis["scale"][:, None]
        value = self.basis["centre"] + mean @ scaled
        spread = self.inflation * np.sqrt(std**2 @ scaled**2 + self.basis["rest"] ** 2)
        if self.logarithm:
            value = np.exp(value)
            spread = value * spread
        return Emulation(value, spread)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the emulator as a model folder."""
        config = {
            "kind": "summary",
            **asdict(self.config),
            "inputs": self.inputs,
            "outputs": self.outputs,
            "log": self.logarithm,
            "inflation": self.inflation,
        }
        weights = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        weights |= {f"basis.{k}": torch.from_numpy(v).float() for k, v in self.basis.items()}
        weights["ranges"] = torch.from_numpy(self.ranges)
        save(folder, Saved("emulators", config, weights, self.card))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Emulator:
        """Read an emulator that :meth:`save` wrote, or one that comes with the package.

        Raises
        ------
        ModelError
            If the folder is not whole, or holds something else.
        """
        saved = load(folder, domain="emulators")
        stored = dict(saved.config)
        if stored.pop("kind", None) != "summary":
            raise ModelError(f"{folder} is no emulator of a summary statistic: MatterPower reads it")
        inputs, outputs = list(stored.pop("inputs")), list(stored.pop("outputs"))
        logarithm, inflation = bool(stored.pop("log")), float(stored.pop("inflation"))
        config = EmulatorConfig(**settings(stored, EmulatorConfig))
        parts = saved.weights
        basis = {k.removeprefix("basis."): v.double().numpy() for k, v in parts.items() if k.startswith("basis.")}
        state = {k.removeprefix("model."): v for k, v in parts.items() if k.startswith("model.")}
        if "design" in state:
            model: nn.Module = GaussianProcesses(state["design"], len(basis["axes"]))
        else:
            model = build_net(config, len(inputs), len(basis["axes"]))
        restore(model, state)
        if isinstance(model, GaussianProcesses):
            model.condition(model.target)
        found = cls(config, inputs, outputs, parts["ranges"].numpy(), basis, logarithm, model.eval(), saved.card)
        found.inflation = inflation
        return found


def rows_of(given: Any, names: Sequence[str], ranges: Array) -> Array:
    """Parameters (N, D) of a table, a mapping or an array, in the order of ``names``.

    Raises
    ------
    DeepfieldError
        If a column is missing, or a value is no number or outside the ranges (D, 2).
    """
    if hasattr(given, "colnames") or isinstance(given, Mapping):
        table = given if isinstance(given, Table) else Table({k: np.atleast_1d(v) for k, v in given.items()})
        theta = np.stack([table.column(name) for name in names], -1)
    else:
        theta = np.atleast_2d(np.asarray(given, dtype=float))
    if theta.ndim != 2 or theta.shape[1] != len(names):
        raise DeepfieldError(f"inputs are (N, {len(names)}): {', '.join(names)}")
    for name, column, (low, high) in zip(names, theta.T, ranges):
        room = 1e-9 * (high - low)
        wrong = column[~((column >= low - room) & (column <= high + room))]
        if len(wrong):
            raise DeepfieldError(f"{name} = {wrong[0]:g} is outside the training's range, {low:g} to {high:g}")
    return theta


def build_net(config: EmulatorConfig, inputs: int, components: int) -> Model:
    """The untrained net with its head."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        head = GaussianVector(components, floor=1e-3)
        return Model(ResidualMLP(inputs, head.n_features, width=config.width, blocks=3, masked=0), head)


def compress(rows: Array, components: int) -> tuple[dict[str, Array], Array]:
    """Principal components of rows (N, K): the basis of an :class:`Emulator`, and scaled coefficients (N, C)."""
    centre = rows.mean(0)
    left, strength, axes = np.linalg.svd(rows - centre, full_matrices=False)
    if not components:
        kept = np.cumsum(strength**2) / max(float((strength**2).sum()), 1e-300)
        components = min(int(np.searchsorted(kept, 1 - 1e-6)) + 1, 40)
    components = min(components, len(strength))
    coefficients = left[:, :components] * strength[:components]
    scale = coefficients.std(0).clip(1e-12)
    rest = (rows - centre - coefficients @ axes[:components]).std(0)
    return {"centre": centre, "axes": axes[:components], "scale": scale, "rest": rest}, coefficients / scale
