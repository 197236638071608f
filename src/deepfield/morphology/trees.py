"""Decision trees of questions as data: those of Galaxy Zoo, and any single question of one's own.

A tree is what volunteers were asked and where each answer led. The trees are in ``trees.json`` with their sources;
names of questions and answers are those of the Zoobot catalogues (Walmsley et al. 2023, JOSS 8, 5312), completed
where those leave a question out. Arrays over a tree have one column for each answer, question after question, in
the order of :attr:`Tree.columns`; that order is also the head's (:class:`deepfield.core.votes.Votes`).
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """An answer, the question it leads to (None: the end), and its name in Hart et al. (2016)."""

    name: str
    next: str | None = None
    hart: str = ""


@dataclass(frozen=True)
class Question:
    """A question with its answers."""

    name: str
    text: str
    answers: tuple[Answer, ...]
    hart: str = ""


@dataclass(frozen=True)
class Tree:
    """Questions and where their answers lead; the first question is asked of every object.

    Parameters
    ----------
    name, title, source : str
        How the tree is called, what it is, who published it.
    campaign : str
        The suffix of its questions in catalogues that mix campaigns ("dr5").
    questions : tuple of Question

    Raises
    ------
    DeepfieldError
        If names repeat, a question has less than two answers, is never asked, or leads back to itself.

    Examples
    --------
    >>> gz2 = tree("gz2")
    >>> len(gz2.questions), len(gz2.columns), gz2.columns[:2]
    (11, 37, ('smooth-or-featured_smooth', 'smooth-or-featured_featured-or-disk'))
    """

    name: str
    title: str
    source: str
    campaign: str
    questions: tuple[Question, ...]

    def __post_init__(self) -> None:
        names = [q.name for q in self.questions]
        if not names or len(set(names)) < len(names) or len(set(self.columns)) < len(self.columns):
            raise DeepfieldError(f"tree '{self.name}': it has no question, or a question or an answer twice")
        for q in self.questions:
            if len(q.answers) < 2:
                raise DeepfieldError(f"tree '{self.name}': question '{q.name}' has less than two answers")
            for answer in q.answers:
                if answer.next is not None and answer.next not in names:
                    raise DeepfieldError(f"tree '{self.name}': '{answer.next}' is led to and is no question of it")
        lost = [names[i] for i in range(1, len(names)) if not self.asked_after[i]]
        if lost or len(self.order) < len(names):
            stuck = lost or [n for i, n in enumerate(names) if i not in self.order]
            raise DeepfieldError(f"tree '{self.name}': no path from '{names[0]}' leads to {', '.join(stuck)}")

    @functools.cached_property
    def groups(self) -> tuple[int, ...]:
        """Number of answers of each question."""
        return tuple(len(q.answers) for q in self.questions)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """``<question>_<answer>`` for each answer."""
        return tuple(f"{q.name}_{a.name}" for q in self.questions for a in q.answers)

    @functools.cached_property
    def asked_after(self) -> tuple[tuple[int, ...], ...]:
        """For each question the columns of the answers that lead to it."""
        found: dict[str, list[int]] = {q.name: [] for q in self.questions}
        answers = [a for q in self.questions for a in q.answers]
        for column, answer in enumerate(answers):
            if answer.next is not None:
                found[answer.next].append(column)
        return tuple(tuple(found[q.name]) for q in self.questions)

    @functools.cached_property
    def order(self) -> tuple[int, ...]:
        """Questions in an order in which each comes after all that lead to it; shorter if there is a cycle."""
        owner = self.owner
        before = [{int(owner[c]) for c in columns} for columns in self.asked_after]
        done: list[int] = []
        while ready := [i for i, b in enumerate(before) if i not in done and b <= set(done)]:
            done.extend(ready)
        return tuple(done)

    @functools.cached_property
    def owner(self) -> NDArray[np.int64]:
        """The question of each column (A,)."""
        return np.repeat(np.arange(len(self.questions)), self.groups)

    @functools.cached_property
    def leaves(self) -> tuple[int, ...]:
        """Columns of the answers that end the questioning."""
        answers = [a for q in self.questions for a in q.answers]
        return tuple(i for i, a in enumerate(answers) if a.next is None)

    def slice(self, question: str) -> slice:
        """The columns of a question.

        Raises
        ------
        DeepfieldError
            If the tree has no such question.
        """
        return slice(*np.cumsum([0, *self.groups])[[(i := self.index(question)), i + 1]].tolist())

    def index(self, question: str) -> int:
        """The number of a question; errors as :meth:`slice`."""
        names = [q.name for q in self.questions]
        if question not in names:
            near = difflib.get_close_matches(question, names, n=1)
            hint = f"did you mean '{near[0]}'? " if near else ""
            raise DeepfieldError(
                f"tree '{self.name}' has no question '{question}'; {hint}it has {', '.join(names)}"
            )
        return names.index(question)

    # -- arrays over the tree -----------------------------------------------------------------------------

    def _rows(self, values: ArrayLike, what: str) -> Array:
        rows = np.asarray(values, dtype=np.float64)
        if rows.ndim < 1 or rows.shape[-1] != len(self.columns):
            raise DeepfieldError(
                f"{what} of tree '{self.name}' have one column for each of its {len(self.columns)} answers, "
                f"not shape {rows.shape}"
            )
        return rows

    def voters(self, votes: ArrayLike) -> Array:
        """Number of votes for each question (..., Q) from votes (..., A)."""
        starts = np.cumsum([0, *self.groups[:-1]])
        return np.add.reduceat(self._rows(votes, "votes"), starts, axis=-1)

    def fractions(self, votes: ArrayLike) -> Array:
        """Fractions of each question's votes (..., A); NaN where nobody was asked."""
        rows = self._rows(votes, "votes")
        with np.errstate(invalid="ignore"):
            return rows / self.voters(rows)[..., self.owner]

    def counted(self, votes: ArrayLike, least: float = 1.0) -> NDArray[np.bool_]:
        """Questions (..., Q) that at least so many voters reached."""
        return self.voters(votes) >= least

    def reached(self, fractions: ArrayLike) -> Array:
        """Probability that each question is asked (..., Q), given the fractions of all answers (..., A).

        A NaN counts as zero where the question cannot be reached, and stays NaN where it can.

        Examples
        --------
        >>> f = np.full(37, np.nan)
        >>> f[:3] = 0.6, 0.1, 0.3
        >>> f[tree("gz2").slice("how-rounded")] = 1.0, 0.0, 0.0
        >>> float(tree("gz2").reached(f)[tree("gz2").index("disk-edge-on")])
        0.1
        """
        rows = self._rows(fractions, "fractions")
        reach = np.zeros((*rows.shape[:-1], len(self.questions)))
        reach[..., 0] = 1.0
        for i in self.order:
            if columns := self.asked_after[i]:
                way = reach[..., self.owner[list(columns)]]
                reach[..., i] = np.where(way > 0, way * rows[..., list(columns)], way).sum(-1)
        return reach

    def path(self, fractions: ArrayLike) -> Array:
        """Probability that each answer is given (..., A): its question is reached, times its fraction.

        Over the :attr:`leaves` it sums to one.
        """
        rows = self._rows(fractions, "fractions")
        reach = self.reached(rows)[..., self.owner]
        return np.where(reach > 0, reach * rows, reach)

    def expected_votes(self, fractions: ArrayLike, voters: ArrayLike) -> Array:
        """Votes expected for each answer (..., A) of so many voters, a number or (...), who begin at the top."""
        return np.asarray(voters, dtype=np.float64)[..., None] * self.path(fractions)

    def one_vote(self, question: str, labels: ArrayLike) -> Array:
        """Hard labels as votes: one for the answer of each label, (N, A).

        Parameters
        ----------
        question : str
        labels : (N,) integers or strings
            Numbers or names of answers; -1 or "" for an object without a label, which gets no vote.

        Raises
        ------
        DeepfieldError
            If a label is no answer to the question.

        Examples
        --------
        >>> classes(["elliptical", "spiral"]).one_vote("class", ["spiral", "", "elliptical"]).tolist()
        [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
        """
        part = self.slice(question)
        names = [a.name for a in self.questions[self.index(question)].answers]
        given = np.asarray(labels)
        if given.dtype.kind in "USO":
            numbers = {"": -1} | {name: i for i, name in enumerate(names)}
            codes = np.array([numbers.get(str(v), -2) for v in given.ravel()], dtype=np.int64)
        else:
            codes = np.where(given == np.floor(given), given, -2).astype(np.int64).ravel()
        wrong = (codes < -1) | (codes >= len(names))
        if given.ndim != 1 or wrong.any():
            what = f"label {given.ravel()[wrong][0]!r}" if wrong.any() else f"an array of shape {given.shape}"
            raise DeepfieldError(f"{what} is no answer to '{question}', whose answers are {', '.join(names)}")
        votes = np.zeros((len(codes), len(self.columns)))
        rows = np.flatnonzero(codes >= 0)
        votes[rows, part.start + codes[rows]] = 1.0
        return votes


def classes(names: Sequence[str], question: str = "class") -> Tree:
    """A tree of one question: classes that exclude one another.

    Examples
    --------
    >>> classes(["FRI", "FRII"]).columns
    ('class_FRI', 'class_FRII')
    """
    answers = tuple(Answer(str(name)) for name in names)
    return Tree("classes", "one question", "", "", (Question(question, f"Which {question}?", answers),))


@functools.cache
def _known() -> dict[str, Tree]:
    text = resources.files("deepfield.morphology").joinpath("trees.json").read_text(encoding="utf-8")
    return {entry["name"]: from_dict(entry) for entry in json.loads(text)}


def from_dict(entry: dict[str, Any]) -> Tree:
    """The inverse of ``dataclasses.asdict``, and what ``trees.json`` is read with.

    Raises
    ------
    DeepfieldError
        If something is missing or unknown.
    """
    try:
        questions = tuple(
            Question(**{**q, "answers": tuple(Answer(**answer) for answer in q["answers"])})
            for q in entry["questions"]
        )
        return Tree(**{**entry, "questions": questions})
    except (KeyError, TypeError) as error:
        raise DeepfieldError(
            f"a tree is described by its name, title, source, campaign, questions: {error}"
        ) from None


def trees() -> tuple[str, ...]:
    """Names of the trees that are known.

    Examples
    --------
    >>> trees()
    ('gz2', 'decals12', 'decals5', 'desi')
    """
    return tuple(_known())


def tree(name: str) -> Tree:
    """A known tree.

    Raises
    ------
    DeepfieldError
        If there is none of that name.
    """
    known = _known()
    if name not in known:
        raise DeepfieldError(f"no tree '{name}'; trees: {', '.join(known)}")
    return known[name]
