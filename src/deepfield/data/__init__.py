"""The registry of data sets and the readers of file formats."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deepfield.data.files import header, iter_batches, read, write
    from deepfield.data.registry import Dataset, available, cite, dataset, get, list_datasets, load

_HOMES = {
    "files": ("header", "iter_batches", "read", "write"),
    "registry": ("Dataset", "available", "cite", "dataset", "get", "list_datasets", "load"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Dataset",
    "available",
    "cite",
    "dataset",
    "get",
    "header",
    "iter_batches",
    "list_datasets",
    "load",
    "read",
    "write",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"deepfield.data.{_HOME[name]}"), name)
    raise AttributeError(f"module 'deepfield.data' has no attribute '{name}'")
