"""Numbers of lenses and their light: units, ranges, shapes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deepfield.core.errors import DeepfieldError

# Unit, and lowest and highest value; an open end is one that cannot be reached.
RANGES: dict[str, tuple[str, float, float, str]] = {
    "theta_e": ("arcsec", 0.0, math.inf, "[)"),
    "q": ("", 0.0, 1.0, "(]"),
    "phi": ("rad", -math.inf, math.inf, "()"),
    "slope": ("", 1.0, 3.0, "()"),
    "kappa_s": ("", 0.0, math.inf, "[)"),
    "r_s": ("arcsec", 0.0, math.inf, "()"),
    "x": ("arcsec", -math.inf, math.inf, "()"),
    "y": ("arcsec", -math.inf, math.inf, "()"),
    "kappa": ("", -math.inf, math.inf, "()"),
    "gamma1": ("", -math.inf, math.inf, "()"),
    "gamma2": ("", -math.inf, math.inf, "()"),
    "flux": ("", -math.inf, math.inf, "()"),
    "r_e": ("arcsec", 0.0, math.inf, "()"),
    "n": ("", 0.3, 10.0, "[]"),
}


def tensor(given: Any, unit: str) -> Tensor:
    """A tensor in ``unit`` from a tensor, numbers, an array or an astropy quantity; numbers become float64.

    Raises
    ------
    DeepfieldError
        If the unit does not fit or these are no numbers.

    Examples
    --------
    >>> import astropy.units as u
    >>> tensor(0.5 * u.arcmin, "arcsec")
    tensor(30., dtype=torch.float64)
    """
    if isinstance(given, Tensor):
        return given if given.is_floating_point() else given.double()
    try:
        number = given.to_value(unit) if hasattr(given, "to_value") else given
        found = torch.as_tensor(np.asarray(number))
    except (TypeError, ValueError) as error:
        raise DeepfieldError(f"numbers in {unit or 'no unit'} are needed, not {given!r}") from error
    return found if found.is_floating_point() else found.double()


def in_range(name: str, value: Tensor) -> None:
    """Refuse what is not finite, out of this parameter's range, or neither one number nor one for each lens."""
    if value.dim() > 1:
        raise DeepfieldError(f"{name} is one number or one for each lens, not of shape {tuple(value.shape)}")
    unit, low, high, ends = RANGES[name]
    above = value > low if ends[0] == "(" else value >= low
    below = value < high if ends[1] == ")" else value <= high
    bad = ~(above & below & torch.isfinite(value))
    if bool(bad.any()):
        row = int(torch.nonzero(bad.reshape(-1))[0])
        given = value.detach().reshape(-1)[row].item()
        where = f" in row {row}" if value.dim() else ""
        allowed = f"{ends[0]}{low:g}, {high:g}{ends[1]}{' ' + unit if unit else ''}"
        raise DeepfieldError(f"{name} lies in {allowed}, got {given:g}{where}")


def lift(value: Tensor, x: Tensor) -> Tensor:
    """A parameter () or (B,) that broadcasts with positions (B, ...)."""
    return value.reshape(-1, *[1] * (x.dim() - 1)) if value.dim() else value


def batch_of(numbers: Iterable[Tensor]) -> int | None:
    """How many objects parameters () or (B,) are of; None where all are shared."""
    sizes = [len(value) for value in numbers if value.dim()]
    return max(sizes) if sizes else None


@functools.cache
def keep_memory() -> None:
    """Let the C library keep the memory of tensors of up to 30 MB for the next ones.

    glibc returns memory to the system whenever some is freed, until once a large block was; and getting it back,
    page by page, takes longer than the arithmetic on it.
    """
    torch.empty(30 * 2**20, dtype=torch.uint8)


def pick(value: Tensor, index: Any) -> Tensor:
    """Of a parameter (B,) those of some lenses; one that all share stays as it is."""
    return value[index] if value.dim() and len(value) > 1 else value.reshape(())
