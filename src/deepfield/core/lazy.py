"""Modules whose names load when they are first touched, so that the command line explains itself without torch."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any


class Room(ModuleType):
    """A package in which importing ``predict.py`` does not hide the function ``predict`` behind the file."""

    def __getattr__(self, name: str) -> Any:
        found = self.__dict__
        if name == "load":
            return getattr(self, found["_saved_model"]).load
        if name in found.get("_home", {}):
            home = found["_home"][name]
            return getattr(importlib.import_module(home if "." in home else f"{self.__name__}.{home}"), name)
        raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'")

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__dict__.get("_home", {}), "load"})

    def __setattr__(self, name: str, value: Any) -> None:
        if not (isinstance(value, ModuleType) and name in self.__dict__.get("_home", {})):
            super().__setattr__(name, value)


def lazy(package: str, homes: Mapping[str, tuple[str, ...]], *, saved_model: str) -> None:
    """Let a package load its public names when they are touched.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    homes : mapping
        For each of its files the names that are found there; a file of another package has its full name.
    saved_model : str
        The name among them whose ``load`` is the package's own.

    Examples
    --------
    >>> from deepfield import photoz
    >>> callable(photoz.predict), photoz.load == photoz.PhotozModel.load
    (True, True)
    """
    room = sys.modules[package]
    room.__dict__["_home"] = {name: home for home, names in homes.items() for name in names}
    room.__dict__["_saved_model"] = saved_model
    room.__class__ = Room
