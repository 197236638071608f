"""What simulated volunteers would say: a Dirichlet law for each question as a known function of the galaxy.

The laws are made up, smooth and ordered as one would expect (a tighter spiral is called tight more often, small
faint galaxies divide opinion more), and exactly known: they are the truth that a trained posterior is tested
against. They hold for every tree of :mod:`~deepfield.morphology.trees`, question by question and answer by answer.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.morphology.trees import Tree

Array = NDArray[np.float64]
Scores = dict[str, Array]


def _near(x: Array, width: float, **places: float) -> Scores:
    """A score for each answer that falls with the distance of x from the answer's place."""
    return {name.replace("_", "-"): -(((x - place) / width) ** 2) for name, place in places.items()}


def _smooth(t: Table) -> Scores:
    c = t.column
    seen = 5 * c("arm_strength") + 4 * c("bar_strength") + 6 * np.clip(0.35 - c("disc_q"), 0, 1)
    lean = seen + 3 * (0.5 - c("bulge_fraction")) + c("companion")
    return {"smooth": -lean, "featured-or-disk": lean - 1.0, "artifact": np.full(len(t), -2.5)}


def _yes(score: Array) -> Scores:
    return {"yes": score, "no": -score}


def _bar(t: Table) -> Scores:
    bar = t.column("bar_strength")
    return _yes(12 * (bar - 0.12)) | _near(bar, 0.12, strong=0.3, weak=0.12) | {"no": -12 * (bar - 0.12)}


def _bulge(t: Table) -> Scores:
    places = {"no": 0.0, "none": 0.0, "just_noticeable": 0.15, "small": 0.12, "moderate": 0.3, "obvious": 0.45}
    return _near(t.column("bulge_fraction"), 0.22, **places, large=0.55, dominant=0.85)


def _rounded(t: Table) -> Scores:
    q = np.where(t.column("bulge_fraction") > 0.5, t.column("bulge_q"), t.column("disc_q"))
    return _near(q, 0.25, round=0.95, completely=0.95, in_between=0.6, cigar=0.25, cigar_shaped=0.25)


def _edge_bulge(t: Table) -> Scores:
    b = t.column("bulge_fraction")
    return _near(b, 0.25, round=0.45, rounded=0.45, no_bulge=0.03, none=0.03) | {"boxy": np.full(len(b), -2.0)}


def _arm_count(t: Table) -> Scores:
    m = t.column("arms")
    found = _near(m, 0.8, **{"1": 1.0, "2": 2.0, "3": 3.0, "4": 4.0, "more_than_4": 5.5})
    return found | {"cant-tell": 1.0 - 4 * t.column("arm_strength")}


def _odd_feature(t: Table) -> Scores:
    d, two = t.column("disturbance"), t.column("companion")
    flat = np.full(len(d), -1.0)
    quiet = {"ring": flat, "lens-or-arc": flat - 1, "other": flat + 0.5, "dust-lane": flat}
    return quiet | {"disturbed": 3 * d - 1, "irregular": 2 * d - 1, "merger": 8 * two - 1}


def _merging(t: Table) -> Scores:
    d, two = t.column("disturbance"), t.column("companion")
    none = 3 - 6 * d - 4 * two
    return {"none": none, "neither": none, "minor-disturbance": -(((d - 0.4) / 0.25) ** 2) + 1,
            "major-disturbance": 4 * d - 2, "tidal-debris": 3 * d - 2, "merger": 8 * two - 1,
            "both": 3 * d + 4 * two - 3}  # fmt: skip


_QUESTIONS: dict[str, Callable[[Table], Scores]] = {
    "smooth-or-featured": _smooth,
    "disk-edge-on": lambda t: _yes(14 * (0.27 - t.column("disc_q"))),
    "bar": _bar,
    "has-spiral-arms": lambda t: _yes(7 * (t.column("arm_strength") - 0.35)),
    "bulge-size": _bulge,
    "something-odd": lambda t: _yes(4 * (t.column("disturbance") - 0.45)),
    "how-rounded": _rounded,
    "odd-feature": _odd_feature,
    "bulge-shape": _edge_bulge,
    "edge-on-bulge": _edge_bulge,
    "spiral-winding": lambda t: _near(t.column("pitch"), 9.0, tight=9.0, medium=20.0, loose=33.0),
    "spiral-arm-count": _arm_count,
    "merging": _merging,
}


def opinions(table: Table, tree: Tree) -> Array:
    """Concentrations (N, A) of the Dirichlet law of each question's vote fractions.

    Parameters
    ----------
    table : Table
        Parameters of galaxies, as :func:`deepfield.morphology.simulate.draw` gives them.
    tree : Tree

    Raises
    ------
    DeepfieldError
        If the tree asks what simulated volunteers have no opinion of.
    """
    large = np.clip(table.column("disc_radius") / np.median(table.column("disc_radius")), 0.3, 3)
    agreement = 4.0 + 12.0 * large / (1 + large)  # the sum of a question's concentrations
    columns = []
    for question in tree.questions:
        scores = _QUESTIONS[question.name](table) if question.name in _QUESTIONS else {}
        if unknown := [a.name for a in question.answers if a.name not in scores]:
            raise DeepfieldError(
                f"simulated volunteers have no opinion on '{question.name}': {', '.join(unknown)}; "
                "choose a tree of Galaxy Zoo"
            )
        score = np.stack([scores[a.name] for a in question.answers], 1)
        share = np.exp(score - score.max(1, keepdims=True))
        share = (share / share.sum(1, keepdims=True) + 0.02) / (1 + 0.02 * score.shape[1])
        columns.append(agreement[:, None] * share)
    return np.concatenate(columns, 1)


def draw_votes(rng: np.random.Generator, concentrations: Array, tree: Tree, voters: int) -> Array:
    """Votes (N, A) of volunteers who walk down the tree.

    Each galaxy has its own fractions, drawn from the Dirichlet laws once; each volunteer answers by them. How many
    reach a question is what the questions before it decided, so that given these numbers the votes follow the
    Dirichlet-multinomial of :mod:`deepfield.core.votes` with these concentrations.
    """
    gamma = np.maximum(rng.gamma(concentrations), 1e-300)
    votes = np.zeros(concentrations.shape, dtype=np.int64)
    for i in tree.order:
        part = tree.slice(tree.questions[i].name)
        before = list(tree.asked_after[i])
        asked = votes[:, before].sum(1) if i else np.full(len(votes), voters)
        share = gamma[:, part] / gamma[:, part].sum(1, keepdims=True)
        votes[:, part] = rng.multinomial(asked, share)
    return votes.astype(np.float64)
