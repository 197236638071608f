"""Cosmologies: the box in which the emulators hold, and what is accepted as one."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError

log = logging.getLogger("deepfield")

BOX: dict[str, tuple[float, float]] = {
    "omega_m": (0.1, 0.5),
    "omega_b": (0.03, 0.07),
    "h": (0.5, 0.9),
    "n_s": (0.8, 1.2),
    "sigma_8": (0.6, 1.0),
}
"""Shares of matter and baryons, H0 / (100 km/s/Mpc), tilt, amplitude: the box of the Quijote simulations."""

MEANING = {
    "omega_m": "Omega_m",
    "omega_b": "Omega_b",
    "h": "H0 / (100 km/s/Mpc)",
    "n_s": "n_s",
    "sigma_8": "sigma_8",
}


def read_cosmology(given: Any, free: Collection[str] = ()) -> tuple[Any, bool, Any]:
    """Parameters in the order of :data:`BOX`.

    Parameters
    ----------
    given : mapping, array (5,) or (N, 5), torch tensor, table, or astropy cosmology
        A mapping or table has the names of :data:`BOX`, each a number or (N,) of them. An astropy cosmology is
        flat
        LCDM; it must know its baryons, and n_s and sigma_8 are read from its ``meta`` (keys ``n`` and ``sigma8``).
    free : names
        Of parameters that may be outside the box.

    Returns
    -------
    theta : array or tensor (N, 5)
    one : bool
        Whether a single cosmology was given.
    xp : module
        numpy, or torch where a tensor was given.

    Raises
    ------
    DeepfieldError
        If a parameter is missing, unknown, not finite or outside the box.

    Examples
    --------
    >>> read_cosmology({"omega_m": 0.3, "omega_b": 0.05, "h": 0.7, "n_s": 0.96, "sigma_8": [0.8, 0.9]})[0].shape
    (2, 5)
    """
    if hasattr(given, "luminosity_distance"):
        given = _astropy(given)
    if isinstance(given, Mapping) or hasattr(given, "colnames"):
        theta = _columns(given)
    else:
        theta = given if _is_tensor(given) else np.asarray(given, dtype=float)
    one = theta.ndim == 1
    theta = theta[None] if one else theta
    if theta.ndim != 2 or theta.shape[1] != len(BOX):
        raise DeepfieldError(f"cosmologies are (N, 5): {', '.join(BOX)}; got the shape {tuple(theta.shape)}")
    check_box(theta, free)
    if _is_tensor(theta):
        import torch

        return theta, one, torch
    return theta, one, np


def plain_values(given: Mapping[str, Any], units: Mapping[str, str] | None = None) -> list[NDArray[np.float64]]:
    """The values of a mapping as arrays of one shape; quantities where a unit is known, in which they are told.

    Raises
    ------
    DeepfieldError
        If there are none, they have a unit that they should not have, or as many values as no other has.

    Examples
    --------
    >>> import astropy.units as u
    >>> plain_values({"m_nu": 60 * u.meV, "h": [0.6, 0.7]}, {"m_nu": "eV"})[0].tolist()
    [0.06, 0.06]
    """
    if not given:
        raise DeepfieldError("no parameters are given")
    found = []
    for name, value in given.items():
        if hasattr(value, "to_value"):
            unit = (units or {}).get(name, "")
            try:
                value = value.to_value(unit)
            except ValueError as error:
                raise DeepfieldError(f"{name} is in {unit or 'no unit'}, not in {value.unit}") from error
        found.append(np.asarray(value, float))
    try:
        return list(np.broadcast_arrays(*found))
    except ValueError as error:
        lengths = ", ".join(f"{name} {v.shape}" for name, v in zip(given, found))
        raise DeepfieldError(f"parameters are one number each or as many as one another, got {lengths}") from error


def check_box(theta: Any, free: Collection[str] = ()) -> None:
    """Refuse what the emulators have not learnt; of ``free`` parameters, what is not positive.

    Raises
    ------
    DeepfieldError
        With the name, the value and the range of the first parameter that is outside.
    """
    values = theta.detach().cpu().numpy() if _is_tensor(theta) else theta
    ranges = BOX | dict.fromkeys(free, (1e-3, 10.0))
    for name, column, (low, high) in zip(BOX, values.T, ranges.values()):
        if column.min() >= low and column.max() <= high:  # False for NaN
            continue
        wrong = column[~((column >= low) & (column <= high))]
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise DeepfieldError(
            f"{name} = {wrong[0]:g}{more} is outside the emulator's range, {low:g} to {high:g}; "
            "there is no safe extrapolation: use a Boltzmann code there"
        )


def _is_tensor(value: Any) -> bool:
    return type(value).__module__.startswith("torch")


def _columns(given: Any) -> Any:
    names = list(given.keys() if isinstance(given, Mapping) else given.colnames)
    for name in BOX:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"; is '{near[0]}' meant?" if near else ""
            raise DeepfieldError(f"the cosmology lacks '{name}' ({MEANING[name]}){hint}")
    if isinstance(given, Mapping) and (unknown := [n for n in names if n not in BOX]):
        raise DeepfieldError(f"unknown parameter '{unknown[0]}'; an emulator of this box knows {', '.join(BOX)}")
    values = [given[name] for name in BOX]
    if any(_is_tensor(v) for v in values):
        import torch

        kind = next(v.dtype for v in values if _is_tensor(v))
        return torch.stack(torch.broadcast_tensors(*(torch.as_tensor(v, dtype=kind) for v in values)), -1)
    try:
        return np.stack(np.broadcast_arrays(*(np.asarray(v, dtype=float) for v in values)), -1)
    except ValueError:
        shapes = ", ".join(f"{n} {np.shape(v)}" for n, v in zip(BOX, values))
        raise DeepfieldError(f"parameters are numbers or arrays of one length, not {shapes}") from None


def _astropy(cosmo: Any) -> dict[str, float]:
    meta = dict(getattr(cosmo, "meta", None) or {})
    found = {
        "omega_m": cosmo.Om0,
        "omega_b": getattr(cosmo, "Ob0", None) or None,  # astropy takes what is not given as zero
        "h": cosmo.h,
        "n_s": meta.get("n", meta.get("n_s")),
        "sigma_8": meta.get("sigma8", meta.get("sigma_8")),
    }
    if missing := [name for name, value in found.items() if value is None]:
        raise DeepfieldError(
            f"the cosmology knows no {' and no '.join(missing)}: give Ob0, and meta={{'n': ..., 'sigma8': ...}}"
        )
    if "Flat" not in type(cosmo).__name__ or "Lambda" not in type(cosmo).__name__:
        raise DeepfieldError(f"the emulator is of flat LCDM, the cosmology is {type(cosmo).__name__}")
    if getattr(cosmo, "has_massive_nu", False):
        log.warning("%s has massive neutrinos: the emulator takes them as massless", cosmo.name or "the cosmology")
    return {name: float(value) for name, value in found.items()}
