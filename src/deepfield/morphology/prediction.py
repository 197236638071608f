"""A prediction of classes or votes: core's prediction with the names of its answers and the broken images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core import prediction_files
from deepfield.core.errors import DeepfieldError
from deepfield.core.heads import Categorical, Head
from deepfield.core.prediction import Prediction
from deepfield.core.votes import summarise

Array = NDArray[np.float64]
LEVEL = 0.6827


class MorphologyPrediction(Prediction):
    """What ``morphology.predict`` returns: class probabilities, or posteriors of vote fractions, of N images.

    Parameters
    ----------
    head, features
        As for :class:`deepfield.core.prediction.Prediction`.
    answers : sequence of str
        ``p_<class>`` or ``<question>_<answer>``.
    reasons : (N,) array of str
        Why an image could not be served; "" where it could.

    Examples
    --------
    >>> p = MorphologyPrediction(Categorical(2), [[0.0, np.log(3)]], answers=["p_elliptical", "p_spiral"])
    >>> p.probabilities.round(3).tolist(), p.labels, p.chosen.tolist()
    ([[0.25, 0.75]], ('elliptical', 'spiral'), ['spiral'])
    """

    def __init__(
        self,
        head: Head,
        features: ArrayLike | Tensor,
        *,
        answers: Sequence[str] = (),
        reasons: ArrayLike | None = None,
        **options: Any,
    ) -> None:
        super().__init__(head, features, **options)
        self.answers = tuple(answers)
        self.reasons: NDArray[np.str_] = np.asarray(
            [""] * len(self) if reasons is None else reasons, dtype=np.str_
        )

    def __getitem__(self, index: slice | ArrayLike) -> Self:
        part = super().__getitem__(index)
        part.answers = self.answers
        part.reasons = self.reasons[index if isinstance(index, slice) else np.atleast_1d(np.asarray(index))]
        return part

    @property
    def is_classes(self) -> bool:
        """Classes that exclude one another; else votes over questions."""
        return isinstance(self.head, Categorical)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; empty for votes."""
        return tuple(name.removeprefix("p_") for name in self.answers) if self.is_classes else ()

    @property
    def probabilities(self) -> Array:
        """Class probabilities (N, C), or expected vote fractions (N, A); NaN where there is none."""
        if self.is_classes:
            return self._map(lambda d, _: d.probs, width=self.features.shape[1])  # type: ignore[attr-defined]
        return summarise(self)["mean"]

    @property
    def chosen(self) -> NDArray[np.str_]:
        """The likeliest class (N,), "" where there is none."""
        if not self.is_classes:
            raise DeepfieldError("this prediction is of votes: each question has its own answer")
        p = self.probabilities
        best = np.argmax(np.nan_to_num(p), 1)
        return np.where(np.isnan(p).any(1), "", np.asarray(self.labels)[best])

    def columns(self, level: float = LEVEL) -> dict[str, NDArray[Any]]:
        """Columns of a file: class probabilities, or vote fractions and their intervals, _lo68 and _hi68."""
        if self.is_classes:
            return {name: self.probabilities[:, i].astype(np.float32) for i, name in enumerate(self.answers)}
        found, marks = summarise(self, level), {"mean": "", "low": "_lo68", "high": "_hi68"}
        return {
            f"{name}{mark}": found[kind][:, i].astype(np.float32)
            for i, name in enumerate(self.answers)
            for kind, mark in marks.items()
        }


def read_prediction(path: str | os.PathLike[str]) -> tuple[MorphologyPrediction, dict[str, NDArray[Any]]]:
    """A prediction file and the columns in it; needs no model.

    Raises
    ------
    DeepfieldError
        If the file is missing, damaged, or holds no prediction of morphology.
    """
    found, columns = prediction_files.read(path)
    names = [n for n in columns if n not in ("object_id", "reason", "reason_code") and _is_answer(n, columns)]
    if len(names) != _count(found):
        raise DeepfieldError(
            f"{path} holds a prediction, but not of morphology: its columns are {', '.join(columns)}"
        )
    reasons = columns.get("reason", np.full(len(found), ""))
    return MorphologyPrediction(found.head, found.features, answers=names, reasons=reasons), columns


def _is_answer(name: str, columns: dict[str, Any]) -> bool:
    return not (name.endswith(("_lo68", "_hi68")) and name[:-5] in columns) and columns[name].dtype.kind == "f"


def _count(prediction: Prediction) -> int:
    """Answers that a prediction's distribution is over."""
    law = prediction.distribution(slice(0, 0))
    return int(law.probs.shape[-1]) if hasattr(law, "probs") else int(np.prod(law.event_shape))
