"""What a net makes of images, used as a map: neighbours, oddities, and what to label next."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError
from deepfield.core.votes import DirichletMultinomial
from deepfield.data.images.collection import Images
from deepfield.data.images.serve import check, features_of, serve
from deepfield.morphology.model import MorphologyModel
from deepfield.morphology.predict import answer

log = logging.getLogger("deepfield")
Array = NDArray[np.float64]
_CHUNK = 1024  # queries whose distances are held at once


def embed(model: MorphologyModel, images: Images) -> Array:
    """What the net makes of each image before its last layer (N, E); NaN for a broken image.

    For an equivariant net these numbers do not depend on how the image was turned.
    """
    check(model, images)
    return serve(images, model.embed)[0].double().numpy()


class Index:
    """A set of embedded images to look into.

    Distances are Euclidean, each feature in units of its spread over the set; the search is exact, in blocks.

    Parameters
    ----------
    embedding : (N, E) array
        Rows with NaN are never found.

    Raises
    ------
    DeepfieldError
        If it is no matrix, or no row is finite.

    Examples
    --------
    >>> index = Index([[0.0, 0.0], [1.0, 0.0], [9.0, 5.0]])
    >>> index.nearest([[0.8, 0.1]], 2)[0].tolist()
    [[1, 0]]
    """

    def __init__(self, embedding: ArrayLike) -> None:
        points = np.asarray(embedding, dtype=np.float64)
        if points.ndim != 2:
            raise DeepfieldError(f"an embedding is a matrix (images, features), not of shape {points.shape}")
        self.rows = np.flatnonzero(np.isfinite(points).all(1))
        if not len(self.rows):
            raise DeepfieldError("no image of the embedding is finite: there is nothing to look into")
        self.features = points.shape[1]
        self.shift = points[self.rows].mean(0)
        spread = points[self.rows].std(0)
        self.scale = np.where(spread > 1e-12, spread, 1.0)
        self._points = self._scaled(points[self.rows])

    def __len__(self) -> int:
        return len(self.rows)

    def _scaled(self, points: ArrayLike) -> Tensor:
        x = np.atleast_2d(np.asarray(points, dtype=np.float64))
        if x.shape[1] != self.features:
            raise DeepfieldError(f"the index has {self.features} features, the query {x.shape[1]}")
        return torch.from_numpy((x - self.shift) / self.scale).float()

    def nearest(self, query: ArrayLike, n: int = 10) -> tuple[NDArray[np.int64], Array]:
        """Rows of the embedding (Q, n) that are nearest to each query (Q, E), and their distances (Q, n).

        A query that is itself in the set finds itself first. For a NaN query rows are -1 and distances NaN.
        """
        if not 1 <= n <= len(self):
            raise DeepfieldError(f"between 1 and {len(self)} neighbours can be found, not {n}")
        x, found = self._scaled(query), []
        for part in x.split(_CHUNK):
            # Differences, not the expansion of the square: a point is at distance zero from itself.
            distance = torch.cdist(part, self._points, compute_mode="donot_use_mm_for_euclid_dist")
            found.append(distance.topk(n, largest=False))
        near, which = torch.cat([f.values for f in found]).double().numpy(), torch.cat([f.indices for f in found])
        bad = ~torch.isfinite(x).all(1).numpy()
        rows = self.rows[which.numpy()]
        rows[bad], near[bad] = -1, np.nan
        return rows, near

    def anomaly(self, query: ArrayLike, k: int = 10) -> Array:
        """Log mean distance of each query (Q,) to its k nearest: the larger, the emptier its surroundings.

        An image that is in the set itself does not count as its own neighbour. Up to a factor and a constant this
        is the log of a k-nearest-neighbour density (Loftsgaarden & Quesenberry 1965, Ann. Math. Stat. 36, 1049).
        """
        k = min(k, len(self) - 1)
        if k < 1:
            raise DeepfieldError("an anomaly is one among others: the index has a single image")
        near = self.nearest(query, k + 1)[1]
        itself = near[:, 0] < 1e-6
        mean = np.where(itself, near[:, 1:].mean(1), near[:, :k].mean(1))
        return np.log(np.maximum(mean, 1e-12))


def similar(embedding: ArrayLike, query: ArrayLike, *, n: int = 10) -> tuple[NDArray[np.int64], Array]:
    """The n rows of an embedding (N, E) most like each query (Q, E), or like each row given by its number.

    Parameters
    ----------
    embedding : (N, E) array
    query : (Q, E) array, or (Q,) integers
        Embedded images, or rows of ``embedding``, which are then not found themselves.
    n : int

    Returns
    -------
    rows, distances : (Q, n) arrays
        Nearest first.

    Examples
    --------
    >>> similar([[0.0, 0.0], [1.0, 0.0], [9.0, 5.0]], [0], n=1)[0].tolist()
    [[1]]
    """
    index, wanted = Index(embedding), np.asarray(query)
    if wanted.ndim == 2:
        return index.nearest(wanted, n)
    points = np.asarray(embedding, dtype=np.float64)
    numbers = np.atleast_1d(wanted)
    if numbers.dtype.kind not in "iu" or ((numbers < 0) | (numbers >= len(points))).any():
        raise DeepfieldError(f"rows are numbers from 0 to {len(points) - 1}, not {numbers.tolist()[:5]}")
    rows, distance = index.nearest(points[numbers], n + 1)
    keep = rows != numbers[:, None]
    keep[keep.all(1), -1] = False  # one of several identical images pushed it out
    shape = (len(numbers), n)
    return rows[keep].reshape(shape), distance[keep].reshape(shape)


def anomaly(embedding: ArrayLike, query: ArrayLike | None = None, *, k: int = 10) -> Array:
    """How empty an embedding (N, E) is around each query (Q, E), or around each of its own rows.

    Examples
    --------
    >>> score = anomaly([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [9.0, 5.0]], k=2)
    >>> int(score.argmax())
    3
    """
    return Index(embedding).anomaly(embedding if query is None else query, k)


def rank(model: MorphologyModel, images: Images) -> dict[str, Array]:
    """How much a label of each image would teach: for active learning.

    Parameters
    ----------
    model : MorphologyModel
        An ensemble: members that agree know, members that disagree would learn.
    images : Images

    Returns
    -------
    dict of (N,) arrays
        ``information``, in nats: the mutual information of the next label and the choice of the member (Houlsby et
        al. 2011, arXiv:1112.5745; for galaxies Walmsley et al. 2020, MNRAS 491, 1554), summed over the questions
        that the image is likely to reach. ``entropy``: of the answer itself. One member alone cannot tell what it
        does not know from what is ambiguous; then information is the entropy of classes, or what one more vote
        would tell of the fractions. NaN for a broken image.
    """
    features, reasons = features_of(model, images)
    if features.shape[1] == 1:
        log.warning("the model is one net: images are ranked by what one answer would tell, not by disagreement")
    if model.tree is None:
        p = (features.double() / model.temperature).softmax(-1)
        mixed = p.mean(1)
        entropy, within = _entropy(mixed), _entropy(p).mean(1)
        information = entropy if p.shape[1] == 1 else (entropy - within).clamp_min(0)
        return {"information": information.numpy(), "entropy": entropy.numpy()}
    found: dict[str, Any] = {"information": [], "entropy": []}
    for part in features.split(4096):
        law = answer(model, part, reasons[: len(part)]).distribution()
        assert isinstance(law, DirichletMultinomial)
        reach = torch.from_numpy(model.tree.reached(law.mean.numpy()))
        told = law.disagreement if part.shape[1] > 1 else law.mutual_information
        found["information"].append((reach * told).sum(-1))
        found["entropy"].append((reach * law.entropy_of_mean).sum(-1))
    return {name: torch.cat(values).numpy() for name, values in found.items()}


def _entropy(p: Tensor) -> Tensor:
    return -torch.special.xlogy(p, p).sum(-1)
