"""The method to beat: structure measured from pixels, and a logistic regression on it.

Concentration, asymmetry and smoothness (Conselice 2003, ApJS 147, 1), Gini and M20 (Lotz, Primack & Madau 2004, AJ
128, 163), ellipticity, size and colours: what morphologists measured before they had nets. None of these numbers
changes much as the image turns.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from torch import Tensor
from torch.nn import functional as F

from deepfield.core.errors import DeepfieldError

Array = NDArray[np.float64]
NAMES = ("concentration", "asymmetry", "smoothness", "gini", "m20", "ellipticity", "size")
_CHUNK = 256


@torch.no_grad()
def structure(images: ArrayLike | Tensor) -> Array:
    """Structural parameters of images (N, B, S, S), bytes or fluxes: (N, 7 + 2 (B - 1)).

    Of the mean of all bands above the sky (median of the border), about its light-weighted centre:

    - concentration: 5 log10(r80 / r20), radii of circles with 80 and 20 per cent of the light;
    - asymmetry: sum of |I - I turned by 180 degrees| over twice the sum of I, the sky's own share taken off;
    - smoothness: sum of the positive part of I minus I smoothed by a fifth of r80, over the sum of I;
    - gini: of the pixels within 1.5 r80, from 0 (all alike) to 1 (one has all);
    - m20: log10 of the second moment of the brightest pixels with a fifth of the light, over that of all;
    - ellipticity: 1 - b/a from second moments within 1.5 r80;
    - size: log10 of r80 over the side;

    then log10 of the flux of each band over the next, within r80 and outside it. NaN for an image without light.

    Examples
    --------
    >>> y, x = np.mgrid[-16:16, -16:16] + 0.5
    >>> disc = np.exp(-np.hypot(x, y) / 3)[None, None]
    >>> dict(zip(NAMES, structure(disc)[0].round(2).tolist()))["asymmetry"]
    0.0
    """
    x = torch.as_tensor(np.asarray(images) if not isinstance(images, Tensor) else images).float()
    if x.dim() != 4 or min(x.shape[2:]) < 16 or x.shape[2] != x.shape[3]:
        raise DeepfieldError(f"square images (N, B, S, S) of 16 pixels or more expected, got {tuple(x.shape)}")
    found = [_measure(part) for part in x.split(_CHUNK)]
    return torch.cat(found).double().numpy() if found else np.zeros((0, len(NAMES) + 2 * (x.shape[1] - 1)))


def _measure(x: Tensor) -> Tensor:
    side = x.shape[-1]
    edge = torch.cat([x[..., :2, :].flatten(2), x[..., -2:, :].flatten(2), x[..., :2].flatten(2),
                      x[..., -2:].flatten(2)], -1)  # fmt: skip
    x = x - edge.median(-1).values[..., None, None]
    grey = x.mean(1)
    axis = torch.arange(side, dtype=x.dtype) - (side - 1) / 2
    light = grey.clamp_min(0)
    total = light.sum((1, 2)).clamp_min(1e-30)
    cx, cy = (light.sum(1) * axis).sum(1) / total, (light.sum(2) * axis).sum(1) / total
    dx, dy = axis[None, None, :] - cx[:, None, None], axis[None, :, None] - cy[:, None, None]
    r2 = (dx**2 + dy**2).flatten(1)
    r20, r80 = _radii(grey.flatten(1), r2, 0.2), _radii(grey.flatten(1), r2, 0.8)
    inside = r2 < (1.5 * r80[:, None]) ** 2
    flux = torch.where(inside, grey.flatten(1), 0.0)
    sums = flux.sum(1).clamp_min(1e-30)
    turned = _turned(grey, cx, cy)
    gap = (grey - turned).abs().flatten(1)
    sky = torch.where(inside, torch.nan, gap).nanmedian(1).values.nan_to_num(0.0)
    asymmetry = ((gap - sky[:, None]) * inside).sum(1) / (2 * sums)
    window = 2 * round(0.1 * float(r80.median())) + 1
    smooth = F.avg_pool2d(grey[:, None], window, 1, window // 2, count_include_pad=False)[:, 0]
    clumps = ((grey - smooth).flatten(1).clamp_min(0) * inside).sum(1) / sums
    columns = [
        5 * torch.log10(r80 / r20), asymmetry, clumps, _gini(grey.flatten(1), inside), _m20(flux, r2),
        _ellipticity(flux.clamp_min(0), dx.expand_as(grey).flatten(1), dy.expand_as(grey).flatten(1)),
        torch.log10(r80 / side),
    ]  # fmt: skip
    within = r2 < r80[:, None] ** 2
    for area in (within, inside & ~within):
        bands = (x.flatten(2) * area[:, None]).sum(-1).clamp_min(1e-6 * sums[:, None]).log10()
        columns += list((bands[:, 1:] - bands[:, :-1]).T)
    result = torch.stack(columns, 1)
    result[light.sum((1, 2)) <= 0] = torch.nan
    return result


def _radii(flux: Tensor, r2: Tensor, share: float) -> Tensor:
    """Radius (N,) within which lies a share of the light, pixels not resolved."""
    order = r2.argsort(1)
    growth = flux.gather(1, order).cumsum(1)
    growth = growth / growth.amax(1, keepdim=True).clamp_min(1e-30)
    place = (growth < share).sum(1, keepdim=True).clamp_max(flux.shape[1] - 1)
    return r2.gather(1, order).gather(1, place)[:, 0].sqrt().clamp_min(0.5)


def _turned(grey: Tensor, cx: Tensor, cy: Tensor) -> Tensor:
    """Images (N, S, S) turned by 180 degrees about their centres (pixels from the middle)."""
    half = grey.shape[-1] / 2
    matrix = torch.zeros(len(grey), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = -1.0
    matrix[:, 0, 2], matrix[:, 1, 2] = 2 * cx / half, 2 * cy / half
    grid = F.affine_grid(matrix, [len(grey), 1, *grey.shape[1:]], align_corners=False)
    return F.grid_sample(grey[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _gini(flux: Tensor, inside: Tensor) -> Tensor:
    """Lotz et al. 2004, eq. 6, of |flux| inside."""
    ordered = torch.where(inside, flux.abs(), 0.0).sort(1).values
    n = inside.sum(1)
    rank = torch.arange(1, flux.shape[1] + 1) - (flux.shape[1] - n)[:, None]
    weight = torch.where(rank > 0, 2 * rank - n[:, None] - 1, 0)
    mean = ordered.sum(1) / n.clamp_min(1)
    return (weight * ordered).sum(1) / (mean * n * (n - 1).clamp_min(1)).clamp_min(1e-30)


def _m20(flux: Tensor, r2: Tensor) -> Tensor:
    """Lotz et al. 2004, eq. 8."""
    bright, order = flux.clamp_min(0).sort(1, descending=True)
    moment = bright * r2.gather(1, order)
    before = bright.cumsum(1) - bright
    chosen = before < 0.2 * bright.sum(1, keepdim=True)
    return torch.log10(((moment * chosen).sum(1) / moment.sum(1).clamp_min(1e-30)).clamp_min(1e-4))


def _ellipticity(flux: Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    total = flux.sum(1).clamp_min(1e-30)
    xx, yy, xy = ((flux * a * b).sum(1) / total for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    middle, spread = 0.5 * (xx + yy), torch.sqrt(0.25 * (xx - yy) ** 2 + xy**2)
    return 1 - torch.sqrt(((middle - spread) / (middle + spread).clamp_min(1e-30)).clamp(0, 1))


class StructureRegression:
    """Class probabilities from structural parameters: logistic regression on them, their squares and products.

    Parameters
    ----------
    penalties : sequence of float
        Ridge penalties on the coefficients, of which held-out log-loss chooses.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y, x = np.mgrid[-16:16, -16:16] + 0.5
    >>> label = rng.integers(0, 2, 200)
    >>> images = np.stack([np.exp(-np.hypot(x, y / (1 - 0.6 * k)) / 4) for k in label])[:, None]
    >>> p = StructureRegression().fit(images[:150], label[:150], classes=2).predict(images[150:])
    >>> bool((p.argmax(1) == label[150:]).mean() > 0.95)
    True
    """

    def __init__(self, penalties: tuple[float, ...] = (1e-4, 1e-3, 1e-2, 1e-1)) -> None:
        self.penalties = penalties

    def fit(self, images: ArrayLike | Tensor, labels: ArrayLike, *, classes: int) -> StructureRegression:
        """Learn from images (N, B, S, S) and class numbers (N,), or shares of classes (N, C)."""
        raw, y = structure(images), np.asarray(labels)
        share = np.eye(classes)[y.astype(np.int64)] if y.ndim == 1 else y.astype(np.float64)
        good: NDArray[np.bool_] = np.asarray(np.isfinite(raw).all(1))
        if good.sum() < 10:
            raise DeepfieldError(f"{good.sum()} images have structural parameters; 10 are needed")
        self.shift, self.scale = raw[good].mean(0), raw[good].std(0) + 1e-9
        x, share = self._expand(raw[good]), share[good]
        held = np.arange(len(x)) % 5 == 4
        losses = []
        for penalty in self.penalties:
            w = _logistic(x[~held], share[~held], penalty)
            losses.append(-(share[held] * log_softmax(x[held] @ w, axis=1)).sum(1).mean())
        self.weights = _logistic(x, share, self.penalties[int(np.argmin(losses))])
        return self

    def _expand(self, raw: Array) -> Array:
        z = np.clip((raw - self.shift) / self.scale, -5, 5)
        first, second = np.triu_indices(z.shape[1])
        return np.concatenate([np.ones((len(z), 1)), z, z[:, first] * z[:, second] / 2], 1)

    def predict(self, images: ArrayLike | Tensor) -> Array:
        """Class probabilities (N, C); NaN for an image without light."""
        raw = structure(images)
        p = softmax(self._expand(np.nan_to_num(raw)) @ self.weights, axis=1)
        return np.where(np.asarray(np.isfinite(raw).all(1))[:, None], p, np.nan)


def _logistic(x: Array, share: Array, penalty: float) -> Array:
    """Coefficients (F, C) of the least mean cross-entropy plus a ridge; the constant is free of it."""
    free = np.ones((x.shape[1], 1))
    free[0] = 0.0

    def loss(flat: Array) -> tuple[float, Array]:
        w = flat.reshape(x.shape[1], share.shape[1])
        log_p = log_softmax(x @ w, axis=1)
        gradient = x.T @ (np.exp(log_p) * share.sum(1, keepdims=True) - share) / len(x) + penalty * free * w
        return float(-(share * log_p).sum(1).mean() + 0.5 * penalty * (free * w**2).sum()), gradient.ravel()

    start = np.zeros(x.shape[1] * share.shape[1])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 300})
    return found.x.reshape(x.shape[1], share.shape[1])
