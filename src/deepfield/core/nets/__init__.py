"""Encoders, chosen by the shape of their input."""

from deepfield.core.nets.mlp import ResidualMLP, Standardise

__all__ = ["ResidualMLP", "Standardise"]
