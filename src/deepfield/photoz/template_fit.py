"""Photometric redshifts from spectral templates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from deepfield.core.errors import DeepfieldError
from deepfield.data.photometry import bands_of
from deepfield.photoz.gridded import Photometry, chunks, log_score, normalise, redshift_grid
from deepfield.photoz.prior import MagnitudePrior, benitez_prior, fit_prior
from deepfield.photoz.read import redshifts
from deepfield.physics import photometry as ph
from deepfield.physics.filters import Filter, guess_survey, survey_filters
from deepfield.physics.templates import Templates, galaxy_templates, quasar_templates

if TYPE_CHECKING:
    from deepfield.core.prediction import Prediction

Array = NDArray[np.float64]

_FLOOR = 1e-4  # smallest share of the sample's own redshift distribution mixed into every density


class TemplateFit:
    """Chi-square over redshift and template with the amplitude free, times a prior of the magnitude.

    For fluxes f with errors s and template fluxes m(z, T), the best amplitude is analytic and
    chi^2 = sum f^2/s^2 - (sum f m / s^2)^2 / sum m^2 / s^2; p(z) = sum_T exp(-chi^2 / 2) p(z, T | m_0)
    (Benitez 2000). The errors include a share of the flux for what templates cannot be, `floor`.

    Parameters
    ----------
    bands
        Names of the bands; those of the training table by default.
    survey
        Whose filters they are (`deepfield.physics.filters.SURVEY_FILTERS`); guessed from the names by default.
    filters
        Instead: the filter of each band.
    templates
        The templates, in an order that neighbours can blend; `deepfield.physics.templates.galaxy_templates` by
        default, with quasars beside them where the training table has a ``class`` "QSO".
    steps
        Blends between neighbouring templates.
    prior
        "fit" to the training rows (default), "benitez" for the published one, or "flat".
    offsets
        Calibrate one factor for each band on the training redshifts, as is standard (Ilbert et al. 2006). Their
        mean is not identifiable, since amplitudes are free, and is one. Their slope from blue to red hardly is,
        since redder templates do the same: even with perfect templates it comes back to 0.05 mag only. It is
        left free all the same: fixed, it doubles the accuracy of the other offsets in simulations, but real
        redshifts get worse, because it mends the templates too. So do not take the offsets for the calibration
        of the photometry.
    floor
        Template error as a share of the flux; chosen on the validation rows by default.
    grid
        Redshifts of the densities, ascending; 401 to just beyond the training rows by default.

    Examples
    --------
    >>> from deepfield.photoz.simulate import simulate
    >>> train, val, test = (simulate(300, survey="sdss", seed=i) for i in range(3))
    >>> pz = TemplateFit().fit(train, val).predict(test)
    >>> bool(np.median(np.abs(pz.median - test["z_spec"])) < 0.04)
    True
    """

    def __init__(
        self,
        *,
        bands: Sequence[str] | None = None,
        survey: str | None = None,
        filters: Sequence[Filter] | None = None,
        templates: Templates | None = None,
        steps: int = 4,
        prior: str = "fit",
        offsets: bool = True,
        floor: float | None = None,
        grid: ArrayLike | None = None,
    ) -> None:
        if prior not in ("fit", "benitez", "flat"):
            raise DeepfieldError(f"prior is 'fit', 'benitez' or 'flat', not '{prior}'")
        self.bands = None if bands is None else tuple(bands)
        self.survey, self.filters, self.templates, self.steps = survey, filters, templates, steps
        self.prior, self.calibrate, self.floor = prior, offsets, floor or 0.05
        self._choose = floor is None
        self.grid = None if grid is None else np.asarray(grid, float)
        self.offsets: Array = np.ones(0)
        self.smoothing = 0.0
        self._magnitude_prior: MagnitudePrior | None = None

    def fit(self, train: Any, val: Any = None, *, target: str = "z_spec") -> TemplateFit:
        """Calibrate offsets and the prior on the training rows; choose floor and smoothing on the others.

        Without ``val`` the training rows serve for that too.
        """
        z = redshifts(train, target)
        self.bands = self.bands or tuple(bands_of(train))
        self._input = Photometry(self.bands, train)
        if self.grid is None:
            self.grid = redshift_grid(z[np.isfinite(z)])
        self._tabulate("class" in train.colnames and bool(np.any(np.asarray(train["class"]) == "QSO")))
        rows = np.flatnonzero(np.isfinite(z))[:8000]
        flux, error = self._input(train[rows])
        place = np.clip(np.searchsorted(self.grid, z[rows]), 1, self.grid.size - 1)
        self.offsets = np.ones(len(self.bands))
        if self.calibrate:
            self._calibrate(flux, error, place)
        if self.prior == "fit":
            self._magnitude_prior = fit_prior(self._magnitude(flux), z[rows], self._types(flux, error, place))
        elif self.prior == "benitez":
            self._magnitude_prior = benitez_prior()
        held = train if val is None else val
        held_z = redshifts(held, target)
        rows = np.flatnonzero(np.isfinite(held_z))[:2000]
        self._tune(*self._input(held[rows]), held_z[rows])
        return self

    def predict(self, table: Any) -> Prediction:
        """Densities of N rows on ``grid``, as a `deepfield.core.prediction.Prediction`."""
        from deepfield.core.prediction import Prediction

        return Prediction.tabulated(np.asarray(self.grid), self.pdf(table))

    def pdf(self, table: Any) -> Array:
        """Densities (N, G) on ``grid``."""
        if self.grid is None or not self.offsets.size:
            raise DeepfieldError("fit the template fit to a training table first")
        flux, error = self._input(table)
        parts = [self._pdf(flux[part], error[part]) for part in chunks(len(flux), 500)]
        return self._smooth(np.concatenate(parts), self.smoothing)

    def _tabulate(self, quasars: bool) -> None:
        assert self.bands is not None and self.grid is not None
        if self.filters is None:
            self.filters = survey_filters(self.survey or guess_survey(self.bands), self.bands)
        if len(self.filters) != len(self.bands):
            raise DeepfieldError(f"{len(self.bands)} bands need as many filters, not {len(self.filters)}")
        base = self.templates or galaxy_templates()
        fine = base.refine(self.steps)
        along = np.arange(len(fine)) / max(len(fine) - 1, 1)
        # Ellipticals, spirals and irregulars: the first fifth, the middle and the last quarter of the sequence.
        kinds = np.digitize(along, [0.2, 0.75])
        if quasars:
            fine = fine.join(quasar_templates())
            kinds = np.concatenate([kinds, np.full(len(fine) - kinds.size, 3)])
        self._kinds = kinds
        model = fine.photometry(self.filters, np.maximum(self.grid, 1e-3))
        self._model = model / np.exp(np.log(model + 1e-30).mean(-1, keepdims=True))

    def _magnitude(self, flux: Array) -> Array:
        """AB magnitude (N,) in the band nearest to 7500 Angstrom."""
        assert self.filters is not None
        return ph.magnitude(flux[:, int(np.argmin([abs(f.pivot - 7500) for f in self.filters]))])

    def _weighted(self, flux: Array, error: Array) -> tuple[Array, Array]:
        """Fluxes with the offsets taken out, zero where missing, and inverse variances."""
        good = np.isfinite(flux) & np.isfinite(error)
        value = np.where(good, flux / self.offsets, 0.0)
        variance = (np.where(good, error, 1.0) / self.offsets) ** 2 + (self.floor * value) ** 2
        return value, np.where(good, 1 / variance, 0.0)

    def _log_likelihood(self, value: Array, weight: Array, model: Array) -> Array:
        """-chi^2 / 2 for models (M, B) against each row: (N, M)."""
        cross = np.maximum((value * weight) @ model.T, 0.0)
        return 0.5 * (cross**2 / np.maximum(weight @ (model**2).T, 1e-300) - (value**2 * weight).sum(1)[:, None])

    def _pdf(self, flux: Array, error: Array) -> Array:
        assert self.grid is not None
        n_z, n_t, n_b = self._model.shape
        value, weight = self._weighted(flux, error)
        log_l = self._log_likelihood(value, weight, self._model.reshape(-1, n_b))
        log_l -= log_l.max(1, keepdims=True)
        likelihood = np.exp(log_l, out=log_l).reshape(-1, n_z, n_t)
        types = np.stack([likelihood[:, :, self._kinds == t].mean(2) for t in range(self._kinds.max() + 1)], 1)
        if self._magnitude_prior is not None:
            log_prior = self._magnitude_prior(self._magnitude(flux), self.grid)
            share = np.exp(log_prior - log_prior.max((1, 2), keepdims=True))
            types[:, : share.shape[1]] *= share[:, : types.shape[1]]
        return normalise(types.sum(1) + 1e-200, self.grid)

    def _smooth(self, pdf: Array, width: float) -> Array:
        assert self.grid is not None
        if width:
            pdf = gaussian_filter1d(pdf, width / (self.grid[1] - self.grid[0]), axis=1, mode="constant")
        return normalise(pdf + _FLOOR / self.grid[-1], self.grid)

    def _at_truth(self, flux: Array, error: Array, place: NDArray[np.intp]) -> tuple[Array, Array, Array]:
        """Log likelihood (N, T) at the grid point of the true redshift, with the fluxes and weights used."""
        value, weight = self._weighted(flux, error)
        model = self._model[place]
        cross = np.maximum(np.einsum("nb,ntb->nt", value * weight, model), 0.0)
        norm = np.maximum(np.einsum("nb,ntb->nt", weight, model**2), 1e-300)
        return 0.5 * (cross**2 / norm - (value**2 * weight).sum(1)[:, None]), cross / norm, weight

    def _calibrate(self, flux: Array, error: Array, place: NDArray[np.intp]) -> None:
        """Offsets (observed over model, geometric mean one) from the best template at the true redshift."""
        sharp = np.isfinite(flux) & (flux > 5 * error)
        for _ in range(10):
            log_l, amplitude, _ = self._at_truth(flux, error, place)
            rows = np.arange(len(flux))
            best = log_l.argmax(1)
            model = self._model[place, best] * amplitude[rows, best][:, None]
            ratio = np.where(
                sharp & (model > 0), np.log(np.maximum(flux, 1e-30) / np.maximum(model, 1e-30)), np.nan
            )
            enough = np.isfinite(ratio).sum(0) >= 30
            shift = np.array([np.nanmedian(r) if ok else 0.0 for r, ok in zip(ratio.T, enough)]) - np.log(
                self.offsets
            )
            self.offsets = self.offsets * np.exp(0.7 * np.where(enough, shift, 0.0))
            self.offsets = self.offsets / np.exp(np.log(self.offsets).mean())

    def _types(self, flux: Array, error: Array, place: NDArray[np.intp]) -> Array:
        """Probability of each kind of template at the true redshift, (N, C)."""
        log_l, _, _ = self._at_truth(flux, error, place)
        chance = np.exp(log_l - log_l.max(1, keepdims=True))
        types = np.stack([chance[:, self._kinds == t].mean(1) for t in range(self._kinds.max() + 1)], 1)
        return types / types.sum(1, keepdims=True)

    def _tune(self, flux: Array, error: Array, z: Array) -> None:
        """Choose floor and smoothing by the mean log density at the true redshifts."""
        assert self.grid is not None
        best = -np.inf
        for floor in (0.01, 0.02, 0.035, 0.05, 0.08, 0.12, 0.2) if self._choose else (self.floor,):
            self.floor = floor
            raw = np.concatenate([self._pdf(flux[part], error[part]) for part in chunks(len(flux), 500)])
            for width in (0.0, 0.004, 0.008, 0.015, 0.03, 0.06):
                score = log_score(self._smooth(raw, width), self.grid, z)
                if score > best:
                    best, chosen = score, (floor, width)
        self.floor, self.smoothing = chosen
