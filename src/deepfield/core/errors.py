"""Errors a user can act on: each message says what was given and how to fix it."""

from __future__ import annotations


class DeepfieldError(ValueError):
    """The root of every error that bad input can cause; the command line prints it in one line."""


class TableError(DeepfieldError):
    """A catalogue that cannot be read or lacks what was asked of it."""


class ModelError(DeepfieldError):
    """A model folder that is missing, truncated, tampered with or from a newer format."""


class DataError(DeepfieldError):
    """A registered data set that cannot be found, fetched or verified."""


class MissingExtraError(DeepfieldError, ImportError):
    """An optional library is needed and is not installed."""
