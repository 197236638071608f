"""Optional libraries, imported where they are needed."""

from __future__ import annotations

import importlib
from types import ModuleType

from deepfield.core.errors import MissingExtraError


def require(name: str, *, extra: str) -> ModuleType:
    """Import the module ``name`` or say which extra of deepfield brings it.

    Raises
    ------
    MissingExtraError
        If the module is not installed.

    Examples
    --------
    >>> require("math", extra="none").pi > 3
    True
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"this needs '{name}', which is not installed: pip install 'deepfield[{extra}]'"
        ) from error
