"""Votes out of the columns of catalogues: Zoobot's names, Hart et al. (2016), the Kaggle galaxy challenge.

Whatever the catalogue holds (counts, weights, fractions, debiased fractions, probabilities down the tree), the
result is votes (N, A) over a :class:`~deepfield.morphology.trees.Tree`; they may be fractions of votes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import TableError
from deepfield.core.table import Table, shorten
from deepfield.morphology.trees import Tree

Array = NDArray[np.float64]
FORMS = ("zoobot", "hart", "kaggle")
KINDS = ("count", "weight", "debiased", "weighted_fraction", "fraction")
_NO_VOTES = "nobody voted"


@dataclass(frozen=True)
class Labels:
    """Votes over a tree, and what is wrong with whom.

    Attributes
    ----------
    tree : Tree
    votes : (N, A) array
        Votes for each answer; zero for questions that nobody reached or that the catalogue does not have.
    reasons : (N,) array of str
        Why a row cannot be used as it stands; "" where it can. A row whose only fault is one question keeps
        its other votes.
    form, kind : str
        What was read.
    notes : tuple of str
        What was left out, for the log.
    """

    tree: Tree
    votes: Array
    reasons: NDArray[np.str_]
    form: str
    kind: str
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Rows (N,) with at least one vote."""
        return self.votes.sum(-1) > 0


def read_votes(
    table: Table,
    tree: Tree,
    *,
    form: str = "auto",
    kind: str = "auto",
    voters: float = 40.0,
    questions: Sequence[str] | None = None,
) -> Labels:
    """Votes over ``tree`` from the columns of a catalogue.

    Parameters
    ----------
    table : Table
    tree : Tree
    form : str
        "zoobot" (``smooth-or-featured_smooth``, with or without the campaign's suffix), "hart"
        (``t01_smooth_or_features_a01_smooth_count``), "kaggle" (``Class1.1``); the last two for Galaxy Zoo 2. By
        default the one whose columns are there.
    kind : str
        "count" (raw votes), "weight" (weighted by the voters' consistency), "debiased", "weighted_fraction" or
        "fraction". By default the first of these that is there. Fractions are brought to a sum of one
        within each question (debiased ones stray from it) and multiplied by its number of votes.
    voters : float
        Votes at the first question where the catalogue has fractions and no number of votes; the Kaggle
        challenge says 40 to 50.
    questions : sequence of str, optional
        Only these; all that are there by default.

    Raises
    ------
    TableError
        If no question of the tree has its columns in the table, or the form or kind is unknown.
    DeepfieldError
        If ``questions`` names one that the tree has not.

    Examples
    --------
    >>> from deepfield.morphology.trees import classes
    >>> table = Table({"bar_yes": [3, 0, -1], "bar_no": [1, 0, 2]})
    >>> found = read_votes(table, classes(["yes", "no"], "bar"))
    >>> found.votes.tolist(), found.reasons.tolist()[1:]
    ([[3.0, 1.0], [0.0, 0.0], [0.0, 0.0]], ['nobody voted', 'votes for bar are negative or not finite'])
    """
    if form not in (*FORMS, "auto") or kind not in (*KINDS, "auto"):
        raise TableError(
            f"the form is auto or {', '.join(FORMS)}, the kind auto or {', '.join(KINDS)}, "
            f"not '{form}' and '{kind}'"
        )
    wanted = [tree.index(q) for q in questions] if questions is not None else list(range(len(tree.questions)))
    found = _find(table, tree, form, kind)
    if absent := [tree.questions[i].name for i in wanted if questions is not None and i not in found.columns]:
        raise TableError(f"the table has no votes for {', '.join(absent)}: {'; '.join(found.notes)}")
    values, faults = np.zeros((len(table), len(tree.columns))), []
    for i in (i for i in wanted if i in found.columns):
        part = tree.slice(tree.questions[i].name)
        given = np.stack([table.column(name) for name in found.columns[i]], 1)
        empty = np.isnan(given).all(1)
        bad = ~empty & ~(np.isfinite(given) & (given >= 0)).all(1)
        values[:, part] = np.where((empty | bad)[:, None], 0.0, given)
        faults.append(np.where(bad, f"votes for {tree.questions[i].name} are negative or not finite", ""))
    votes, notes = values, list(found.notes)
    if found.kind not in ("count", "weight"):
        votes, more = _from_fractions(table, tree, found, values, voters)
        notes += more
    reasons = np.array([_first(row) for row in zip(*faults)], dtype=np.str_)
    nothing = (votes.sum(1) == 0) & (reasons == "")
    return Labels(tree, votes, np.where(nothing, _NO_VOTES, reasons), found.form, found.kind, tuple(notes))


def _first(faults: Sequence[str]) -> str:
    return next((f for f in faults if f), "")


@dataclass(frozen=True)
class _Found:
    """The columns of each question that is there (by its number), and the columns of its number of votes."""

    form: str
    kind: str
    columns: dict[int, list[str]]
    totals: dict[int, list[str]]
    notes: tuple[str, ...]


def _names(tree: Tree, form: str, kind: str) -> dict[int, list[str]]:
    """How a form names the answers of each question, for one kind of number."""
    questions = list(enumerate(tree.questions))
    if form == "kaggle":
        return {i: [f"Class{i + 1}.{k + 1}" for k in range(len(q.answers))] for i, q in questions if q.hart}
    if form == "hart":
        return {i: [f"{q.hart}_{a.hart}_{kind}" for a in q.answers] for i, q in questions if q.hart}
    suffix = "" if kind == "count" else f"_{kind}"
    return {i: [f"{q.name}_{a.name}{suffix}" for a in q.answers] for i, q in questions}


def _find(table: Table, tree: Tree, form: str, kind: str) -> _Found:
    there = set(table.colnames)
    looked: list[str] = []
    for f in FORMS if form == "auto" else (form,):
        for k in (("fraction",) if f == "kaggle" else KINDS) if kind == "auto" else (kind,):
            for names in _spellings(tree, f, k):
                columns = {i: answers for i, answers in names.items() if set(answers) <= there}
                looked.extend(a for answers in list(names.values())[:1] for a in answers[:1])
                if columns:
                    notes = [
                        f"question {tree.questions[i].name} is left out: no column {_missing(answers, there)}"
                        for i, answers in names.items()
                        if i not in columns
                    ]
                    return _Found(f, k, columns, _totals(tree, f, columns, there), tuple(notes))
    raise TableError(
        f"no question of the tree '{tree.name}' is in the table: looked for {shorten(dict.fromkeys(looked), 6)}; "
        f"columns: {shorten(table.colnames)}"
    )


def _missing(answers: Sequence[str], there: set[str]) -> str:
    return f"'{next(a for a in answers if a not in there)}'"


def _spellings(tree: Tree, form: str, kind: str) -> list[dict[int, list[str]]]:
    """The names of a form, and with the campaign's suffix (``bar-dr5_strong``) where it has one."""
    names = _names(tree, form, kind)
    if form != "zoobot" or not tree.campaign:
        return [names]
    within = {
        i: [f"{q.name}-{tree.campaign}{name.removeprefix(q.name)}" for name in names[i]]
        for i, q in enumerate(tree.questions)
    }
    return [names, within]


def _totals(tree: Tree, form: str, columns: dict[int, list[str]], there: set[str]) -> dict[int, list[str]]:
    """Columns whose sum is the number of votes of each question, where there are such."""
    found = {}
    for i, answers in columns.items():
        question = tree.questions[i]
        if form == "hart":
            candidates = [[f"{question.hart}_{a.hart}_count" for a in question.answers]]
        elif form == "zoobot":
            head = answers[0].split("_", 1)[0]
            candidates = [[f"{head}_total-votes"], [f"{head}_{a.name}" for a in question.answers]]
        else:
            candidates = []
        if usable := [names for names in candidates if set(names) <= there]:
            found[i] = usable[0]
    return found


def _from_fractions(
    table: Table, tree: Tree, found: _Found, values: Array, voters: float
) -> tuple[Array, list[str]]:
    """Fractions, or the challenge's probabilities down the tree, as votes; and what had to be left out."""
    total = tree.voters(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        fractions = np.nan_to_num(values / total[:, tree.owner])
    passed = fractions.copy()
    passed[:, [i not in found.columns for i in tree.owner]] = np.nan  # nobody knows how many went through these
    asked = voters * tree.reached(passed)
    for i, names in found.totals.items():
        counted = np.sum([np.nan_to_num(table.column(name)) for name in names], axis=0)
        asked[:, i] = np.maximum(counted, 0)
    unknown = [tree.questions[i].name for i in found.columns if np.isnan(asked[:, i]).any()]
    notes = [f"question {name} is left out where it is not known how many reached it" for name in unknown]
    return fractions * np.nan_to_num(asked)[:, tree.owner], notes


def rename(name: str, tree: Tree) -> str:
    """The plain name ``<question>_<answer>`` behind a catalogue's name of an answer, or the name itself.

    Examples
    --------
    >>> from deepfield.morphology.trees import tree
    >>> rename("Class1.2", tree("gz2")), rename("t03_bar_a06_bar_debiased", tree("gz2"))
    ('smooth-or-featured_featured-or-disk', 'bar_yes')
    """
    known: dict[str, Any] = {}
    for form in FORMS:
        for kind in KINDS:
            for names in _spellings(tree, form, kind):
                for i, answers in names.items():
                    plain = tree.columns[tree.slice(tree.questions[i].name)]
                    known |= dict(zip(answers, plain))
    return str(known.get(name, name))
