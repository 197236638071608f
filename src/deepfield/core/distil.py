"""Distillation: one net that says what an ensemble says, at the cost of one member."""

from __future__ import annotations

import torch
from torch import Tensor

from deepfield.core.model import Model
