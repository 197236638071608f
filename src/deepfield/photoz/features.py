"""From a catalogue's photometry to the features of a network."""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor, nn

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.data.photometry import absent, bands_of, photometry
from deepfield.physics.photometry import EXTINCTION, POGSON
from deepfield.physics.photometry import extinction as galactic_extinction

log = logging.getLogger("deepfield")
CORRECTED = "corrected"  # the setting of a model whose training photometry came corrected, nobody knows how
_EBV = (0.0, 10.0)  # dust without light, or so much that nothing would be seen behind it, is a fault of the map


class PhotometryFeatures(nn.Module):
    """Fluxes and errors (N, 2B) to asinh magnitudes, all colours and their log errors; NaN where missing.

    asinh magnitudes (Lupton, Gunn & Szalay 1999) stay finite and well-behaved at zero and negative flux:
    m = -2.5/ln 10 [asinh(f / 2b) + ln b], with the softening b of each band learned from its errors. The order
    of features is magnitudes (B), colours of all pairs (B (B - 1) / 2), log errors (B).

    Examples
    --------
    >>> PhotometryFeatures(3)(torch.ones(2, 6)).shape
    torch.Size([2, 9])
    """

    softening: Tensor
    limit: Tensor

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.n_bands = n_bands
        self.n_features = 2 * n_bands + n_bands * (n_bands - 1) // 2
        self.register_buffer("softening", torch.ones(n_bands))
        self.register_buffer("limit", torch.ones(n_bands))

    @torch.no_grad()
    def fit(self, x: Tensor) -> PhotometryFeatures:
        """Learn softenings and limiting errors from training photometry (N, 2B)."""
        flux, error = x.double().chunk(2, -1)
        known = torch.where(error > 0, error, torch.nan)
        # Without errors, a thousandth of the median flux: the magnitudes are then Pogson's, but for zero flux.
        instead = 1e-3 * torch.nanmedian(flux.abs().where(flux != 0, torch.nan), 0).values
        faint = torch.stack([torch.nanquantile(c[:: max(1, len(c) // 1_000_000)], 0.25) for c in known.T])
        largest = torch.stack([torch.nanquantile(c[:: max(1, len(c) // 1_000_000)], 0.75) for c in known.T])
        self.softening.copy_((1.042 * faint).where(faint.isfinite(), instead).nan_to_num(1.0).clamp_min(1e-30))
        self.limit.copy_(largest.where(largest.isfinite(), instead).nan_to_num(1.0).clamp_min(1e-30))
        return self

    def forward(self, x: Tensor) -> Tensor:
        flux, error = x.chunk(2, -1)
        # A non-detection whose limit nobody gave takes the survey's usual one.
        error = torch.where(torch.isnan(error) & (flux == 0), self.limit, error)
        magnitude = -POGSON * (torch.asinh(flux * (0.5 / self.softening)) + torch.log(self.softening))
        # Band minus all redder bands; slices are several times faster than an index, and export as such.
        bands = range(self.n_bands - 1)
        colours = [magnitude[..., b : b + 1] - magnitude[..., b + 1 :] for b in bands]
        return torch.cat(
            [magnitude, *colours, 0.5 * torch.log(error * error / (flux * flux + 4 * self.softening**2))], -1
        )


def encode(
    table: Table, bands: tuple[str, ...], extinction: str = "none", *, gaps: tuple[str, ...] = ()
) -> Tensor:
    """Raw model input (N, 2B), float32: fluxes then their errors in nJy, NaN where a band is missing.

    A band in ``gaps`` that has no column is missing in every row.

    With the name of a survey in ``extinction``, both are corrected for the Galaxy's dust by the table's ``ebv``,
    unless the table is marked as corrected. Rows whose ``ebv`` cannot be right have fluxes of NaN with infinite
    errors in the bands that were observed, which :func:`uncorrectable` finds again.

    Raises
    ------
    TableError
        If another band has no column, or ``ebv`` is and the correction needs it.
    """
    flux, error = photometry(table, bands, gaps=gaps)
    if extinction not in ("none", CORRECTED) and not table.meta.get("dereddened"):
        ebv = table.column("ebv")
        fails = ~((ebv >= _EBV[0]) & (ebv <= _EBV[1]))
        magnitudes = [galactic_extinction(b, np.where(fails, 0, ebv), survey=extinction) for b in bands]
        correction = 10 ** (0.4 * np.stack(magnitudes, 1))
        flux, error = flux * correction, error * correction
        lost = fails[:, None] & ~np.isnan(flux)
        flux[lost], error[lost] = np.nan, np.inf
    return torch.from_numpy(np.concatenate([flux, error], 1).astype(np.float32))


def uncorrectable(x: Tensor) -> Tensor:
    """Which rows of raw input (N, 2B) could not be corrected for extinction, bool (N,); see :func:`encode`."""
    flux, error = x.chunk(2, -1)
    return (torch.isnan(flux) & torch.isinf(error)).any(1)


def warn_uncorrected(table: Table, extinction: str) -> None:
    """Warn if a model of corrected photometry is to serve a catalogue that looks raw and cannot be corrected."""
    if extinction == "none" or table.meta.get("dereddened"):
        return
    if extinction == CORRECTED:
        why = f"no coefficients are known for the bands {', '.join(bands_of(table))}"
    elif "ebv" not in table.colnames:
        why = "it has no E(B-V), column ebv"
    else:
        return
    log.warning(
        "the model was trained on photometry corrected for Galactic extinction, and this catalogue is neither "
        "marked as corrected (table.meta['dereddened'] = True) nor can it be corrected: %s. It is served as it "
        "is; if it is raw, its redshifts are biased",
        why,
    )


def warn_absent(table: Table, bands: tuple[str, ...]) -> None:
    """Warn of bands without a column that are served as missing in every row."""
    if gone := absent(table, bands):
        log.warning(
            "no column for band %s: served as not observed in every row, which the model knows of some rows only; "
            "calibration is that of the training data",
            ", ".join(gone),
        )


def settle_extinction(table: Table, bands: tuple[str, ...], wanted: str) -> str:
    """What "auto" means for this catalogue; another setting stands, if it is one.

    The survey that the reader has recognised is taken if it has coefficients for the bands; else the first that
    has them, with a warning where there are several.

    A catalogue that came corrected settles it too: the raw ones that its model serves are then corrected by
    their own ``ebv``.

    Raises
    ------
    DeepfieldError
        If there are no coefficients for the survey and the bands.
    """
    if wanted == "auto":
        corrected = bool(table.meta.get("dereddened"))
        if "ebv" not in table.colnames and not corrected:
            return "none"
        fitting = [s for s, known in EXTINCTION.items() if set(bands) <= set(known)]
        if not fitting and corrected:
            return CORRECTED
        if not fitting:
            log.warning("the column ebv is not used: no survey with extinction coefficients for %s", bands)
            return "none"
        own = str(table.meta.get("survey", ""))
        wanted = own if own in fitting else "lsst" if "lsst" in fitting and "y" in bands else fitting[0]
        if own not in fitting and len(fitting) > 1:
            log.warning(
                "the survey of the bands %s is not known: extinction is that of %s, and could be that of %s; "
                "choose with the setting extinction",
                ",".join(bands),
                wanted,
                ", ".join(survey for survey in fitting if survey != wanted),
            )
        which = "the photometry of raw catalogues" if corrected else "photometry"
        log.info("%s is corrected for extinction with ebv and the coefficients of %s", which, wanted)
    if wanted not in ("none", CORRECTED):
        try:
            for band in bands:
                galactic_extinction(band, 0.0, survey=wanted)
        except ValueError as error:
            raise DeepfieldError(str(error)) from None
    return wanted
