"""Designs, and simulations run over them: in several processes, resumable, to one table."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import qmc

from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic
from deepfield.core.table import Table
from deepfield.emulators.parameters import BOX

Array = NDArray[np.float64]
log = logging.getLogger("deepfield")


def design(ranges: Mapping[str, tuple[float, float]], n: int, *, kind: str = "sobol", seed: int = 0) -> Table:
    """Points that fill a box evenly.

    Parameters
    ----------
    ranges : mapping
        Lower and upper end of each parameter.
    kind : str
        "sobol" (scrambled; can be continued: the first points of a longer one are the same), or "latin" for a
        Latin hypercube.

    Examples
    --------
    >>> bool(design({"omega_m": (0.1, 0.5), "h": (0.5, 0.9)}, 16)["h"].min() > 0.5)
    True
    """
    if kind not in ("sobol", "latin"):
        raise DeepfieldError(f"a design is 'sobol' or 'latin', not '{kind}'")
    if n < 1:
        raise DeepfieldError(f"a design has at least one point, got {n}")
    for name, (low, high) in ranges.items():
        if not -np.inf < low < high < np.inf:
            raise DeepfieldError(f"the range of {name} is empty or infinite: {low} to {high}")
    rng = np.random.default_rng(seed)
    if kind == "sobol":
        unit = qmc.Sobol(len(ranges), rng=rng).random_base2(max(0, int(np.ceil(np.log2(n)))))[:n]
    else:
        unit = qmc.LatinHypercube(len(ranges), rng=rng).random(n)
    low, high = np.array(list(ranges.values()), dtype=float).T
    return Table(low + (high - low) * unit, names=list(ranges))


def simulate(
    simulator: Callable[[dict[str, float]], ArrayLike],
    points: Table,
    *,
    output: str = "y",
    folder: str | os.PathLike[str] | None = None,
    workers: int = 1,
) -> Table:
    """Run a simulator over a design.

    Parameters
    ----------
    simulator : callable
        One row of the design, as a dict, to a vector. With several workers it is a function of a module.
    points : Table
    output : str
        Column for the vectors.
    folder : path, optional
        One small file for each finished simulation: the same call goes on where it was stopped.
    workers : int
        Processes.

    Returns
    -------
    Table
        The design, and the vectors.

    Raises
    ------
    DeepfieldError
        If the folder holds simulations of another design, or vectors differ in length.

    Examples
    --------
    >>> simulate(lambda p: [p["h"], p["h"] ** 2], design({"h": (0.5, 0.9)}, 4))["y"].shape
    (4, 2)
    """
    rows = [{name: float(row[name]) for name in points.colnames} for row in points]
    place = None if folder is None else Path(folder)
    found: dict[int, Array] = {}
    if place is not None:
        place.mkdir(parents=True, exist_ok=True)
        found = _finished(place, points)
        if found:
            log.info("%d of %d simulations are there already", len(found), len(rows))
    todo = [i for i in range(len(rows)) if i not in found]
    if workers > 1 and len(todo) > 1:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            for i, value in zip(todo, pool.map(simulator, [rows[i] for i in todo])):
                found[i] = _keep(value, i, place)
    else:
        for i in todo:
            found[i] = _keep(simulator(rows[i]), i, place)
    if len({v.shape for v in found.values()}) > 1:
        raise DeepfieldError("the simulator gave vectors of different lengths")
    table = Table(points, copy=True)
    table[output] = np.stack([found[i] for i in range(len(rows))])
    return table


def _finished(place: Path, points: Table) -> dict[int, Array]:
    note, digest = place / "design.txt", points.digest()
    if note.exists() and note.read_text() != digest:
        raise DeepfieldError(f"{place} holds simulations of another design: choose another folder, or delete it")
    with atomic(note) as temporary:
        temporary.write_text(digest)
    return {int(p.stem): np.load(p, allow_pickle=False) for p in place.glob("[0-9]*.npy")}


def _keep(value: ArrayLike, i: int, place: Path | None) -> Array:
    vector = np.ravel(np.asarray(value, dtype=float))
    if place is not None:
        with atomic(place / f"{i:06d}.npy") as temporary:
            np.save(temporary, vector)
    return vector


def boltzmann_spectra(
    n: int, *, k: ArrayLike, z: ArrayLike, nonlinear: bool = False, seed: int = 0, **how: Any
) -> Table:
    """Spectra of CAMB over the box: ``pk`` holds P in (Mpc/h)^3, redshift by redshift.

    CAMB comes with the extra ``emulators``.

    Parameters
    ----------
    n : int
        Cosmologies, by a Sobol sequence.
    k : array (K,)
        h/Mpc.
    z : array (Z,)
    nonlinear : bool
        HMcode2020.
    **how
        ``folder`` and ``workers`` of :func:`simulate`.
    """
    job = _Spectra(tuple(np.atleast_1d(k).tolist()), tuple(np.atleast_1d(z).tolist()), nonlinear)
    return simulate(job, design(BOX, n, seed=seed), output="pk", **how)


class _Spectra:
    def __init__(self, k: tuple[float, ...], z: tuple[float, ...], nonlinear: bool) -> None:
        self.k, self.z, self.nonlinear = k, z, nonlinear

    def __call__(self, row: dict[str, float]) -> Array:
        from deepfield.emulators.boltzmann import spectrum

        return spectrum([row[name] for name in BOX], self.k, self.z, nonlinear=self.nonlinear).ravel()
