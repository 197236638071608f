"""Aligning features of images from two places, so that what is learnt in the one holds in the other."""

from __future__ import annotations

from torch import Tensor

from deepfield.core.errors import ModelError


def coral(source: Tensor, target: Tensor) -> Tensor:
    """How far apart the first two moments of two sets of features (N, E), (M, E) are: 0 if they are the same.

    The squared difference of the covariances (CORAL; Sun & Saenko 2016, arXiv:1607.01719, eq. 1) and of the means,
    each feature in units of its standard deviation in the source, as means over entries; differentiable.

    Raises
    ------
    ModelError
        If the sets have different features, or less than two rows.

    Examples
    --------
    >>> import torch
    >>> x = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    >>> float(coral(x, x)), bool(coral(x, 2 * x + 1) > 1)
    (0.0, True)
    """
    if source.dim() != 2 or source.shape[1:] != target.shape[1:] or min(len(source), len(target)) < 2:
        shapes = f"{tuple(source.shape)} and {tuple(target.shape)}"
        raise ModelError(f"two sets (N, E), (M, E) of the same features, two rows or more each, not {shapes}")
    width = source.std(0).detach().clamp_min(1e-6)
    source, target = source / width, target / width
    gap = source.mean(0) - target.mean(0)
    return gap.square().mean() + (source.T.cov() - target.T.cov()).square().mean()
