"""The photometric-redshift model: q(z | fluxes and errors), its configuration and its raw input."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepfield.core.calibrators import Conformal, PITMap
from deepfield.core.errors import DeepfieldError, ModelError
from deepfield.core.flow import Flow
from deepfield.core.heads import ClassMixture, GaussianMixture, Head
from deepfield.core.model import Model, ensemble
from deepfield.core.nets import ResidualMLP
from deepfield.core.store import Saved, revive, save, settings
from deepfield.core.table import Table
from deepfield.core.warp import Warped
from deepfield.photoz.features import CORRECTED, PhotometryFeatures, encode, uncorrectable
from deepfield.photoz.prediction import RedshiftPrediction
from deepfield.physics.photometry import magnitude

ESTIMATORS = ("mixture", "flow", "point")
_RANGES = (
    ("members", 1, 100), ("components", 1, 1000), ("width", 1, 4096), ("blocks", 0, 100), ("epochs", 0, 1e6),
    ("batch", 1, 1e9), ("learning_rate", 1e-9, 1), ("weight_decay", 0, 100), ("dropout", 0, 0.99),
    ("noise", 0, 100), ("seed", 0, 2**32 - 1),
)  # fmt: skip
_MOST_WEIGHTS = 5e8
ALWAYS = "is missing, and the training data always had it"


@dataclass(frozen=True)
class PhotozConfig:
    """What a photo-z model is, and how it is trained.

    Parameters
    ----------
    bands : tuple of str
        Bands from blue to red, ``u,g,r`` on the command line; empty takes all that the catalogue has.
    target : str
        Column with the spectroscopic redshift.
    estimator : str
        "mixture" (a mixture density network), "flow" (a normalising flow) or "point" (regression with one
        width for all objects).
    members : int
        Networks trained together and averaged as densities.
    distil : bool
        Whether the ensemble is distilled into one net, which is then the model that is saved.
    components : int
        Gaussians in each member's mixture.
    width, blocks : int
        Size of each member.
    epochs : int
        Most passes over the training rows; 0 chooses by their number. Training stops earlier if held-out
        rows say so.
    batch : int
        Rows in a step.
    learning_rate, weight_decay, dropout : float
        Of the optimiser and the network.
    noise : float
        Photometric noise added afresh in every step, in units of each flux's own error.
    validation, calibration : float
        Shares of the rows kept from training: to stop in time, and to calibrate.
    recalibrate : bool
        Whether 40 % of the calibration rows fit a map of the PIT that mends the density itself, if it needs it;
        the others make the intervals in any case.
    structure : str
        "auto" looks for narrow structure in the training redshifts (the walls and clusters of one small field)
        and, where held-out redshifts are likelier for it, lets every density have it: right for objects of the
        same field, wrong for those of another. "off" does not, and says what would be gained.
    classes : str
        Column with a class (GALAXY, QSO); each class then has its probability and its own density.
    extinction : str
        Survey whose coefficients turn E(B-V), column ``ebv``, into a correction of the photometry ("sdss",
        "lsst", ...); "none"; or "auto": corrected if the catalogue has the column and is not corrected yet. What
        "auto" came to is stored with the model: "corrected" where it was, and no coefficients fit the bands.
    seed : int
        Of everything random.
    """

    bands: tuple[str, ...] = ()
    target: str = "z_spec"
    estimator: str = "mixture"
    members: int = 5
    distil: bool = True
    components: int = 6
    width: int = 96
    blocks: int = 1
    epochs: int = 0
    batch: int = 256
    learning_rate: float = 5e-3
    weight_decay: float = 0.15
    dropout: float = 0.0
    noise: float = 0.0
    validation: float = 0.1
    calibration: float = 0.15
    recalibrate: bool = False
    structure: str = "off"
    classes: str = ""
    extinction: str = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        # "u,g,r" is how a command line says it.
        object.__setattr__(self, "bands", tuple(b for part in self.bands for b in part.split(",") if b))
        if self.estimator not in ESTIMATORS:
            raise DeepfieldError(f"estimator '{self.estimator}' is not one of {', '.join(ESTIMATORS)}")
        if self.structure not in ("auto", "off"):
            raise DeepfieldError(f"structure is 'auto' or 'off', not '{self.structure}'")
        if len(set(self.bands)) < len(self.bands):
            raise DeepfieldError(f"a band is named twice: {', '.join(self.bands)}")
        for name, least, most in _RANGES:
            if not least <= getattr(self, name) <= most:
                raise DeepfieldError(f"{name} lies between {least} and {most:g}, got {getattr(self, name)}")
        if not (
            0 < self.validation < 1 and 0 <= self.calibration < 1 and self.validation + self.calibration < 0.9
        ):
            raise DeepfieldError(
                f"validation ({self.validation}) and calibration ({self.calibration}) are shares of the rows "
                "and must leave some to train on"
            )
        if self.classes and self.estimator != "mixture":
            raise DeepfieldError("classes need the estimator 'mixture': each class has its own mixture")


def _head(config: PhotozConfig, n_classes: int) -> Head:
    if config.estimator == "point":
        return GaussianMixture(1, shared_width=True)
    if config.estimator == "flow":
        return Flow(1, context=32)
    return ClassMixture(n_classes, config.components) if n_classes else GaussianMixture(config.components)


def build(
    config: PhotozConfig, *, members: int | None = None, n_classes: int = 0, gaps: bool = True, knots: int = 0
) -> Model:
    """The untrained model: ``members`` nets (the configured number by default) on shared features.

    Without ``gaps`` in the training data the nets carry no masks; ``knots`` are those of a map of the redshift.
    """
    features = PhotometryFeatures(len(config.bands))

    def member(k: int) -> Model:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed * 1009 + k)
            head = _head(config, n_classes)
            net = ResidualMLP(
                features.n_features,
                head.n_features,
                width=config.width,
                blocks=config.blocks,
                dropout=config.dropout,
                masked=len(config.bands) if gaps else 0,
            )
            return Model(net, head)

    core = ensemble([member(k) for k in range(members or config.members)])
    return on_photometry(features, Model(core.net, Warped(core.head, knots)) if knots else core)


def _check_size(config: PhotozConfig, members: int, n_classes: int) -> None:
    """Refuse a description that would fill the memory before its weights are looked at."""
    bands, outputs = len(config.bands), 3 * config.components * max(n_classes, 1) + 64
    per_member = config.width * (bands * (bands + 5) + 2 * config.blocks * config.width + outputs)
    if not (1 <= members <= 100 and 1 <= bands <= 60 and members * per_member <= _MOST_WEIGHTS):
        raise ModelError("the model asks for a net of absurd size")


def on_photometry(features: PhotometryFeatures, core: Model) -> Model:
    """``core``, a model of features, as a model of fluxes and errors; weights are shared."""
    return Model(nn.Sequential(features, core.net), core.head)


def parts(model: Model) -> tuple[PhotometryFeatures, Model]:
    """The inverse of :func:`on_photometry`."""
    stages: Any = model.net
    return stages[0], Model(stages[1], model.head)


@dataclass(repr=False)
class PhotozModel:
    """A trained model with its calibration: what is saved, loaded and asked.

    Parameters
    ----------
    config : PhotozConfig
    model : Model
    members : int
        Nets inside ``model`` (1 after distillation).
    labels : tuple of str
        Class names, where the model tells classes apart.
    missing : tuple of str
        Bands whose flux or error was missing in some training rows, hence may be missing later.
    reference : str
        Band whose magnitude makes the calibration groups.
    card : dict
        Training data, metrics, versions.
    """

    config: PhotozConfig
    model: Model
    members: int
    labels: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    reference: str = ""
    pit_map: PITMap | None = None
    conformal: Conformal | None = None
    card: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        rows = self.card.get("split", {}).get("train", "?")
        return f"PhotozModel of bands {', '.join(self.bands)}: {self.config.estimator}, trained on {rows} rows"

    @property
    def bands(self) -> tuple[str, ...]:
        """From blue to red."""
        return self.config.bands

    def encode(self, table: Table) -> Tensor:
        """Raw input (N, 2B) of a catalogue, corrected for extinction if the training was and it can be."""
        extinction = self.config.extinction if "ebv" in table.colnames else "none"
        return encode(table, self.bands, extinction, gaps=self.missing)

    @property
    def structured(self) -> bool:
        """Whether densities follow the structure of the training field."""
        return bool(self.card.get("structure"))

    def strange(self, x: Tensor) -> str:
        """What makes most rows of raw input (N, 2B) unlike the training rows, in words; empty if nothing does."""
        worst, words = 0.5, ""
        for band, (bright, faint) in self.card.get("magnitudes", {}).items():
            mag = magnitude(x[:, self.bands.index(band)].double().numpy())
            mag = mag[np.isfinite(mag)]
            if len(mag) < 20:
                continue
            for kind, far, edge in (("fainter", mag > faint, faint), ("brighter", mag < bright, bright)):
                if far.mean() > worst:
                    worst = far.mean()
                    words = (
                        f"{worst:.0%} of the rows are {kind} in {band} than 99 % of the training rows ({edge:.2f})"
                    )
        return words

    def describe(self) -> dict[str, Any]:
        """All but the weights, as plain JSON."""
        return {
            "photoz": asdict(self.config),
            "members": self.members,
            "labels": list(self.labels),
            "missing": list(self.missing),
            "reference": self.reference,
            "knots": self.model.head.config["knots"] if isinstance(self.model.head, Warped) else 0,
            "pit_map": None if self.pit_map is None else self.pit_map.to_dict(),
            "conformal": None if self.conformal is None else self.conformal.to_dict(),
        }

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model folder."""
        save(folder, Saved("photoz", self.describe(), self.model.state_dict(), self.card))

    @classmethod
    def rebuild(cls, described: dict[str, Any], card: dict[str, Any], *, model: Any = None) -> PhotozModel:
        """The inverse of :meth:`describe`; ``model`` stands in for the net that would be built.

        Raises
        ------
        ModelError
            If the description is damaged, absurd or from a newer version.
        """
        try:
            raw = settings(described["photoz"], PhotozConfig)
            config = PhotozConfig(**{**raw, "bands": tuple(raw["bands"])})
            members, labels = int(described["members"]), tuple(described["labels"])
            _check_size(config, members, len(labels))
            pit_map, conformal = described["pit_map"], described["conformal"]
            rebuilt = cls(
                config,
                model
                or build(
                    config,
                    members=members,
                    n_classes=len(labels),
                    gaps=bool(described["missing"]),
                    knots=int(described.get("knots", 0)),
                ),
                members,
                labels,
                tuple(described["missing"]),
                str(described["reference"]),
                None if pit_map is None else PITMap.from_dict(pit_map),
                None if conformal is None else Conformal.from_dict(conformal),
                card,
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"the model's configuration is damaged: {error}") from None
        if rebuilt.reference not in rebuilt.bands:
            raise ModelError(f"the model's reference band '{rebuilt.reference}' is none of its bands")
        return rebuilt

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> PhotozModel:
        """Read a model folder; ModelError with a clear message if it is not whole."""
        found: PhotozModel = revive(folder, "photoz", cls.rebuild)
        return found

    @property
    def reason_texts(self) -> list[str]:
        """What the codes of :meth:`reasons` mean."""
        missing = [f"{b} or its error {ALWAYS}" for b in self.bands]
        absurd = [f"flux or error of {b} is absurd" for b in self.bands]
        return ["", "no band is measured", *missing, *absurd, "E(B-V) is missing, negative or absurd"]

    def reasons(self, x: Tensor) -> NDArray[np.int8]:
        """Why each row of raw input (N, 2B) cannot be served, as codes; 0 where it can."""
        n = len(self.bands)
        flux, error = x[:, :n], x[:, n:]
        gap = torch.isnan(flux) | (torch.isnan(error) & (flux != 0))
        absurd = torch.isinf(flux) | torch.isinf(error) | (error <= 0)
        why = torch.zeros(len(x), dtype=torch.int8)
        if bool((gap | absurd).any()):
            for b, band in enumerate(self.bands):
                if band not in self.missing:
                    why[gap[:, b]] = 2 + b
                why[absurd[:, b]] = 2 + n + b
            why[torch.isnan(flux).all(1)] = 1
            if self.config.extinction not in ("none", CORRECTED):
                why[uncorrectable(x)] = 2 + 2 * n
        return why.numpy()

    def predict_raw(
        self, x: Tensor, *, dtype: torch.dtype = torch.float64
    ) -> tuple[RedshiftPrediction, NDArray[np.int8]]:
        """Densities of raw input (N, 2B), and a code from :meth:`reasons` for each row, NaN where it is not 0."""
        why = self.reasons(x)
        prediction = self.model.predict(x)
        prediction.features[torch.from_numpy(why != 0)] = torch.nan
        group = None if self.conformal is None else self.conformal.group(self.reference_magnitude(x))
        served = RedshiftPrediction(
            prediction.head,
            prediction.features,
            pit_map=self.pit_map,
            conformal=self.conformal,
            group=group,
            dtype=dtype,
        )
        return served, why

    def reference_magnitude(self, x: Tensor) -> NDArray[np.float64]:
        """AB magnitude in the reference band, +inf below zero flux, NaN if missing."""
        flux = x[:, self.bands.index(self.reference)].double().numpy()
        return magnitude(flux)
