"""What an image is trained on or scored against: a class, shares of classes, or votes over a tree."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.errors import DeepfieldError, TableError
from deepfield.core.table import Table, no_column, shorten, text
from deepfield.morphology.labels import read_votes
from deepfield.morphology.trees import Tree

log = logging.getLogger("deepfield")
LABEL_NAMES = ("label_name", "class", "label")
_MOST_CLASSES = 1000


@dataclass(frozen=True)
class Targets:
    """Labels or votes of N objects.

    Attributes
    ----------
    y : Tensor
        Class numbers (N,), shares of classes (N, C), or votes (N, A).
    known : (N,) array of bool
        Rows that have any.
    labels : tuple of str
        Class names; empty for votes.
    tree : Tree or None
    """

    y: Tensor
    known: NDArray[np.bool_]
    labels: tuple[str, ...] = ()
    tree: Tree | None = None

    @property
    def shares(self) -> NDArray[np.float64]:
        """Shares of the classes, or of each question's votes are left as counts, (N, A)."""
        if self.tree or self.y.dim() == 2:
            return self.y.double().numpy()
        return np.eye(len(self.labels))[np.maximum(self.y.numpy(), 0)] * self.known[:, None]


def targets(
    table: Table, labels: Sequence[str] = (), *, tree: Tree | None = None, classes: Sequence[str] = ()
) -> Targets:
    """Read what the columns of a table say.

    Parameters
    ----------
    table : Table
    labels : sequence of str
        One column of class names or numbers ("", -1 or masked where unknown), or one column of shares for each
        class. By default ``label_name``, ``class`` or ``label``.
    tree : Tree, optional
        Read votes in place of classes (:func:`deepfield.morphology.labels.read_votes`).
    classes : sequence of str, optional
        The classes there are, in order; by default those of the column.

    Raises
    ------
    TableError
        If there is no such column, or it holds what is no class.

    Examples
    --------
    >>> found = targets(Table({"label": ["spiral", "", "elliptical"]}))
    >>> found.labels, found.y.tolist(), found.known.tolist()
    (('elliptical', 'spiral'), [1, -1, 0], [True, False, True])
    """
    if tree is not None:
        votes = read_votes(table, tree)
        for note in votes.notes:
            log.info("%s", note)
        return Targets(torch.from_numpy(votes.votes).float(), votes.usable, tree=tree)
    names = _columns(table, labels)
    return _shared(table, names, classes) if len(names) > 1 else _single(table[names[0]], names[0], classes)


def _columns(table: Table, labels: Sequence[str]) -> list[str]:
    """The columns of classes: those that are named, or one of a usual name."""
    names = list(labels) or [name for name in LABEL_NAMES if name in table.colnames][:1]
    if not names:
        raise TableError(
            f"no column of classes ({', '.join(LABEL_NAMES)}): name it with labels=, or give a tree of votes; "
            f"columns: {shorten(table.colnames)}"
        )
    for name in names:
        if name not in table.colnames:
            raise TableError(no_column(name, table.colnames))
    return names


def _single(column: Any, name: str, classes: Sequence[str]) -> Targets:
    """One class for each row."""
    plain = np.ma.asarray(column)
    values, hidden = np.asarray(plain.data), np.ma.getmaskarray(plain).copy()
    if values.ndim != 1:
        raise TableError(f"column '{name}' has shape {values.shape}: one class for each image is needed")
    if values.dtype.kind in "fiub":
        hidden |= ~np.isfinite(values) | (values < 0)
        if (values[~hidden] != np.floor(values[~hidden])).any():
            raise TableError(f"column '{name}' holds fractions: for soft labels name one column for each class")
        texts = np.where(hidden, 0, values).astype(np.int64).astype(str)
    else:
        texts = np.array([text(v) for v in values.tolist()], dtype=np.str_)
        hidden |= texts == ""
    own = sorted(set(texts[~hidden].tolist()), key=lambda t: (len(t), t) if t.isdigit() else (0, t))
    known = list(classes) or own
    if not 2 <= len(known) <= _MOST_CLASSES:
        raise TableError(f"column '{name}' has {len(known)} classes ({shorten(known, 3)}): two or more are needed")
    if strange := [t for t in own if t not in known]:
        raise TableError(
            f"column '{name}' has the class '{strange[0]}', which is none of {', '.join(known)}; score has "
            "--rename for classes of other names"
        )
    number = {label: i for i, label in enumerate(known)}
    y = [-1 if gone else number[label] for label, gone in zip(texts.tolist(), hidden.tolist())]
    return Targets(torch.tensor(y, dtype=torch.long), ~hidden, tuple(known))


def renamed(table: Table, names: Sequence[str], rename: str) -> Table:
    """A table in whose column of classes some have other names, ``old=new,older=new``; ``old=`` are not known.

    Raises
    ------
    DeepfieldError
        If there is no single column of names, or no class of an old name.

    Examples
    --------
    >>> renamed(Table({"class": ["cw", "acw", "?"]}), ["class"], "cw=spiral,acw=spiral,?=")["class"].tolist()
    ['spiral', 'spiral', '']
    """
    name = _columns(table, names)[0]
    values = np.array([text(v) for v in table[name]], dtype=object)
    found = values.copy()
    for part in rename.split(","):
        old, given, new = (piece.strip() for piece in part.partition("="))
        if not given or old not in values:
            raise DeepfieldError(f"rename is old=new, and '{old}' is no class of column '{name}'")
        found[values == old] = new
    table = table.copy(copy_data=False)
    table[name] = found.astype(str)
    return table


def _shared(table: Table, names: Sequence[str], classes: Sequence[str]) -> Targets:
    """A share of each class for each row, from one column each."""
    if classes and len(classes) != len(names):
        raise TableError(
            f"{len(names)} columns ({shorten(names, 4)}) for {len(classes)} classes: one each is needed"
        )
    given = np.stack([table.column(name) for name in names], 1)
    with np.errstate(invalid="ignore"):
        fine = (np.isfinite(given) & (given >= 0)).all(1) & (given.sum(1) > 0)
    shares = np.where(fine[:, None], given, 1.0)
    shares = shares / shares.sum(1, keepdims=True) * fine[:, None]
    return Targets(torch.from_numpy(shares).float(), fine, tuple(classes or (n.removeprefix("p_") for n in names)))


# What a name says of the way its arms wind, and of the other way, its words joined without or with a space.
_MIRRORED = (
    ("", "clockwise", "anticlockwise"),
    ("", "clockwise", "counterclockwise"),
    ("", "cw", "acw"),
    ("", "cw", "ccw"),
    ("", "left", "right"),
    (" ", r"\bz\b", "s"),
)


def handed(labels: Sequence[str]) -> tuple[str, ...]:
    """Two classes whose names say that a mirror exchanges them, or nothing.

    Capitals, spaces, ``-`` and ``_`` do not matter. Names that differ in nothing else are a pair by ``clockwise``
    and ``anticlockwise`` or ``counterclockwise``, ``cw`` and ``acw`` or ``ccw``, ``left`` and ``right``, or by the
    words ``z`` and ``s``, after the way the arms wind.

    Examples
    --------
    >>> handed(["elliptical", "spiral anti-clockwise", "Spiral_clockwise"])
    ('Spiral_clockwise', 'spiral anti-clockwise')
    >>> handed(["S-spiral", "Z-spiral"])
    ('Z-spiral', 'S-spiral')
    >>> handed(["elliptical", "spiral"])
    ()
    """
    for by, way, back in _MIRRORED:
        plain = {by.join(re.split(r"[-_\s]+", label.lower())): label for label in labels}
        for name, label in plain.items():
            for found in re.finditer(way, name):
                if other := plain.get(name[: found.start()] + back + name[found.end() :]):
                    return label, other
    return ()


def swapped(labels: Sequence[str], swap: Sequence[str]) -> tuple[str, ...]:
    """The two classes that a mirror exchanges: given, or found by their names.

    Raises
    ------
    DeepfieldError
        If they are no classes.
    """
    pair = tuple(swap) or handed(labels)
    if wrong := [name for name in pair if name not in labels]:
        raise DeepfieldError(f"swap names '{wrong[0]}', which is no class; classes: {', '.join(labels) or 'none'}")
    if pair:
        log.info("a mirrored image of class '%s' is taken for one of class '%s', and the other way round", *pair)
    return pair
