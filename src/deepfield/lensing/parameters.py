"""What is to be known of a lens, as numbers that a density can be put on, and how they turn with their image.

A position angle is the same after half a turn, and says nothing of a round lens: in its place stand the two
components of the ellipticity (1 - q) / (1 + q) along the axes and along the diagonals, and of the shear.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepfield.core.errors import TableError

Array = NDArray[np.float64]

NAMES = ("log_theta_e", "e1", "e2", "g1", "g2", "source_x", "source_y")
"""Coordinates of the density; see :func:`encode`."""
UNITS = {
    "theta_e": "arcsec", "q": "", "phi": "deg", "shear": "", "shear_phi": "deg", "source_x": "arcsec",
    "source_y": "arcsec",
}  # fmt: skip
"""Parameters of a lens in tables, and their units."""
ANGLES = ("phi", "shear_phi")
_PERIOD = 180.0


def encode(table: Any) -> Tensor:
    """Coordinates (N, 7) of the lenses in a table with the columns of ``UNITS``; NaN where one is missing.

    log theta_E (arcsec); ellipticity (1 - q) / (1 + q) times the cosine and the sine of 2 phi; shear times
    those of 2 shear_phi; the source's place (arcsec), x to the right and y up.

    Raises
    ------
    TableError
        If a column is missing, or a lens is none: theta_E not positive, q not in (0, 1], a shear below 0 or of 1
        and above, or a source in front of its lens.

    Examples
    --------
    >>> from deepfield.core.table import Table
    >>> lens = Table({"theta_e": [1.0], "q": [0.5], "phi": [45.0], "shear": [0.1], "shear_phi": [0.0],
    ...               "source_x": [0.2], "source_y": [0.0]})
    >>> encode(lens).double().numpy().round(3).tolist()
    [[0.0, 0.0, 0.333, 0.1, 0.0, 0.2, 0.0]]
    """
    columns = {name: np.asarray(table.column(name), dtype=np.float64) for name in UNITS}
    bad = {
        "theta_e": columns["theta_e"] <= 0,
        "q": (columns["q"] <= 0) | (columns["q"] > 1),
        "shear": (columns["shear"] < 0) | (columns["shear"] >= 1),
    }
    for name, wrong in bad.items():
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            rule = {"theta_e": "positive", "q": "above 0 and 1 at most", "shear": "0 or more and below 1"}[name]
            raise TableError(f"{name} is {rule}, got {columns[name][row]:g} in row {row}")
    if {"z_lens", "z_source"} <= set(table.colnames):
        near, far = (np.asarray(table.column(n), dtype=np.float64) for n in ("z_lens", "z_source"))
        if (wrong := far <= near).any():
            row = int(np.flatnonzero(wrong)[0])
            raise TableError(
                f"a source lies behind its lens, got z_lens {near[row]:g} and z_source {far[row]:g} in row {row}"
            )
    e, g = (1 - columns["q"]) / (1 + columns["q"]), columns["shear"]
    turn, along = (np.deg2rad(2 * columns[name]) for name in ANGLES)
    rows = [
        np.log(columns["theta_e"]), e * np.cos(turn), e * np.sin(turn), g * np.cos(along), g * np.sin(along),
        columns["source_x"], columns["source_y"],
    ]  # fmt: skip
    return torch.from_numpy(np.stack(rows, -1)).float()


def decode(coordinates: Tensor) -> dict[str, Array]:
    """Parameters as in ``UNITS`` (...) of coordinates (..., 7); angles from 0 to 180 degrees.

    An ellipticity of one or more, which a density may reach in its tail, is a q of a thousandth.

    Examples
    --------
    >>> found = decode(torch.tensor([0.0, 0.0, 1 / 3, 0.1, 0.0, 0.2, 0.0]))
    >>> {name: round(float(v), 3) for name, v in found.items()}["phi"]
    45.0
    """
    log_r, e1, e2, g1, g2, x, y = np.moveaxis(coordinates.double().numpy(), -1, 0)
    e = np.minimum(np.hypot(e1, e2), 0.998)
    return {
        "theta_e": np.exp(log_r),
        "q": (1 - e) / (1 + e),
        "phi": np.rad2deg(0.5 * np.arctan2(e2, e1)) % _PERIOD,
        "shear": np.hypot(g1, g2),
        "shear_phi": np.rad2deg(0.5 * np.arctan2(g2, g1)) % _PERIOD,
        "source_x": x,
        "source_y": y,
    }


def carry(y: Tensor, angle: Tensor, mirrored: Tensor) -> Tensor:
    """Coordinates (N, 7) of lenses whose images are turned (radians, anticlockwise), then mirrored left to right.

    Exact: sizes stay, what has a direction turns by the angle, what has an axis by twice as much.

    Examples
    --------
    >>> y = torch.tensor([[0.0, 0.3, 0.0, 0.0, 0.1, 1.0, 0.0]])
    >>> turned = carry(y, torch.tensor([torch.pi / 2]), torch.tensor([False]))[0]
    >>> [round(float(v), 3) + 0.0 for v in turned]
    [0.0, -0.3, 0.0, 0.0, -0.1, 0.0, 1.0]
    """
    moved = torch.cat(
        [y[:, :1], _turned(y[:, 1:3], 2 * angle), _turned(y[:, 3:5], 2 * angle), _turned(y[:, 5:], angle)], 1
    )
    sign = torch.ones(len(NAMES)).index_fill(0, torch.tensor([2, 4, 5]), -1.0).to(y)
    return torch.where(mirrored[:, None], moved * sign, moved)


def _turned(pair: Tensor, angle: Tensor) -> Tensor:
    c, s = angle.cos(), angle.sin()
    return torch.stack([c * pair[:, 0] - s * pair[:, 1], s * pair[:, 0] + c * pair[:, 1]], -1)


def centred(angles: Array) -> Array:
    """Angles (S, N) of axes in degrees, each object's S samples moved by half turns to lie around their mean.

    Quantiles of them make sense; they may lie below 0 or above 180.

    Examples
    --------
    >>> centred(np.array([[179.0], [1.0]])).round(6).tolist()
    [[-1.0], [1.0]]
    """
    twice = np.deg2rad(2 * angles)
    middle = np.rad2deg(0.5 * np.arctan2(np.sin(twice).mean(0), np.cos(twice).mean(0))) % _PERIOD
    return middle + (angles - middle + _PERIOD / 2) % _PERIOD - _PERIOD / 2
