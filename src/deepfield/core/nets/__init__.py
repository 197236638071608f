"""Encoders, chosen by the shape of their input."""

from deepfield.core.nets.convnet import ConvNet, parameters_of, width_for
from deepfield.core.nets.group import Group, GroupConv
from deepfield.core.nets.mlp import Dropout, ResidualMLP, Standardise
from deepfield.core.nets.sequence import SequenceNet

__all__ = [
    "ConvNet",
    "Dropout",
    "Group",
    "GroupConv",
    "ResidualMLP",
    "SequenceNet",
    "Standardise",
    "parameters_of",
    "width_for",
]
