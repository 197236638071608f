"""Template spectra learnt from galaxies of known redshift.

The continuum of each template is multiplied by a smooth curve so that its photometry matches the galaxies
that resemble it (Budavari et al. 2000, AJ 120, 1588; Crenshaw & Connolly 2020, AJ 160, 191). Galaxies at many
redshifts move the rest-frame spectrum through the filters, which is how a few bands resolve it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepfield.physics.filters import Filter, ab_flux
from deepfield.physics.sed import igm_transmission
from deepfield.physics.templates import Templates, corrected

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Sample:
    """Galaxies of known redshift in the bands of one survey.

    Parameters
    ----------
    filters
        B filters.
    z
        Redshifts, shape (N,).
    flux, error
        Fluxes and errors in any one unit, shape (N, B); NaN where a band is missing.
    """

    filters: Sequence[Filter]
    z: Array
    flux: Array
    error: Array


def _hats(templates: Templates, knots: Array) -> Array:
    place, at = np.log(templates.wavelength), np.log(knots)
    return np.stack([np.interp(place, at, row) for row in np.eye(knots.size)])


def _responses(templates: Templates, sample: Sample, grid: Array, hats: Array) -> tuple[Array, Array]:
    """Photometry (Z, T, B) and the share of it that falls to each knot (Z, T, K, B)."""
    model, shares = [], []
    for z in grid:
        rest = templates.flux * igm_transmission(templates.wavelength * (1 + z), float(z))
        pieces = rest[:, None, :] * hats
        part = ab_flux(templates.wavelength, pieces, sample.filters, 1 + z)
        total = ab_flux(templates.wavelength, rest, sample.filters, 1 + z)
        model.append(total)
        shares.append(part / total[:, None, :])
    return np.stack(model), np.stack(shares)


def _assign(
    model: Array, sample: Sample, bins: NDArray[np.int64], floor: float
) -> tuple[NDArray[np.int64], Array, Array]:
    """Best template of each galaxy, log(flux / model) less the amplitude (N, B), and weights (N, B)."""
    good = np.isfinite(sample.flux) & np.isfinite(sample.error) & (sample.flux > 2 * sample.error)
    ratio = np.log(np.where(good, sample.flux, 1.0))[:, None, :] - np.log(model[bins])
    weight = np.where(good, 1 / ((sample.error / np.where(good, sample.flux, 1.0)) ** 2 + floor**2), 0.0)
    norm = np.maximum(weight.sum(1), 1e-30)
    residual = ratio - ((ratio * weight[:, None, :]).sum(2) / norm[:, None])[:, :, None]
    chi2 = (residual**2 * weight[:, None, :]).sum(2)
    best = chi2.argmin(1)
    return best, residual[np.arange(best.size), best], weight


def learn_corrections(
    templates: Templates,
    samples: Sequence[Sample],
    knots: ArrayLike,
    *,
    iterations: int = 10,
    smoothness: float = 0.02,
    floor: float = 0.05,
    offsets: bool | Sequence[bool] = True,
    z_step: float = 0.01,
) -> tuple[Array, list[Array]]:
    """Corrections (T, K) for `deepfield.physics.templates.corrected`, and zero-point offsets of each sample.

    Alternates between giving each galaxy its best template and a ridge regression of the residual log fluxes
    on the knots. A galaxy's vote is capped at one over ``floor`` squared for each band.

    Parameters
    ----------
    templates
        T starting templates.
    samples
        Galaxies of known redshift.
    knots
        K rest-frame wavelengths in Angstrom.
    iterations
        Rounds of assignment and regression.
    smoothness
        Prior standard deviation of the change of slope of a correction from knot to knot, in natural log,
        that one hundred galaxies can overrule; ten times as much is allowed for the correction itself.
    floor
        Model error in relative flux.
    offsets
        Also fit one multiplicative offset for each band (mean zero over the bands): of every sample, or
        of those marked.
    z_step
        Spacing of the redshift grid that galaxies are rounded to.

    Returns
    -------
    corrections of shape (T, K), and for each sample the natural log of (observed / model) for each band
    """
    at = np.asarray(knots, float)
    hats = _hats(templates, at)
    total = np.zeros((len(templates), at.size))
    fit_offsets = [offsets] * len(samples) if isinstance(offsets, bool) else list(offsets)
    zero = [np.zeros(len(sample.filters)) for sample in samples]
    grids = [np.unique(np.round(sample.z / z_step).astype(int)) for sample in samples]
    bins = [np.searchsorted(grid, np.round(sample.z / z_step).astype(int)) for grid, sample in zip(grids, samples)]
    bend = np.diff(np.eye(at.size), 2, axis=0)
    prior = 100 * (bend.T @ bend / smoothness**2 + np.eye(at.size) / (10 * smoothness) ** 2)
    for _ in range(iterations):
        current = corrected(templates, at, total)
        normal = np.stack([prior] * len(templates))
        right = -total @ prior
        for i, sample in enumerate(samples):
            model, shares = _responses(current, sample, grids[i] * z_step, hats)
            best, residual, weight = _assign(model * np.exp(zero[i]), sample, bins[i], floor)
            if fit_offsets[i]:
                shift = np.array([np.median(residual[weight[:, b] > 0, b]) for b in range(len(zero[i]))])
                zero[i] = zero[i] + 0.5 * (shift - shift.mean())
            for t in range(len(templates)):
                own = best == t
                design = np.swapaxes(shares[bins[i][own], t], 1, 2)
                kind = weight[own][:, :, None]
                norm = np.maximum(kind.sum(1, keepdims=True), 1e-30)
                design = design - (design * kind).sum(1, keepdims=True) / norm
                clipped = np.clip(residual[own], -0.5, 0.5)
                normal[t] += np.einsum("nbk,nb,nbl->kl", design, weight[own], design, optimize=True)
                right[t] += np.einsum("nbk,nb,nb->k", design, weight[own], clipped, optimize=True)
        total = total + 0.7 * np.linalg.solve(normal, right[:, :, None])[:, :, 0]
    return total, zero
