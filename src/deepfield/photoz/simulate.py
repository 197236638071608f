"""Catalogues with known truth: galaxies and quasars of a magnitude-limited survey.

Redshifts and luminosities are drawn from evolving luminosity functions times the comoving volume, spectra from the
templates of `deepfield.physics.templates`, magnitudes through the survey's filter curves, noise in flux.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepfield.core.errors import DeepfieldError
from deepfield.core.table import Table
from deepfield.data.photometry import bands_of, photometry
from deepfield.physics import photometry as ph
from deepfield.physics.filters import survey_filters
from deepfield.physics.populations import BLUE, QUASAR, RED, Population, Sampler

Array = NDArray[np.float64]

SURVEYS: dict[str, tuple[str, float]] = {"lsst": ("i", 25.3), "sdss": ("r", 17.77)}
"""Selection band and default magnitude limit: the gold sample of LSST, the main galaxy sample of SDSS."""

_Z_MAX = {"lsst": 4.0, "sdss": 1.0}
_QUASAR_Z_MAX = 5.0


def simulate(
    n: int,
    *,
    survey: str = "lsst",
    seed: int = 0,
    quasars: float = 0.0,
    mag_limit: float | None = None,
    z_max: float | None = None,
    years: float = 10.0,
    noise: ph.NoiseModel | None = None,
    scatter: float = 0.03,
    cosmology: Any = None,
) -> Table:
    """Draw a magnitude-limited catalogue of ``n`` objects with noise, non-detections and true redshifts.

    Galaxies of a red and a blue population with evolving Schechter functions (parameters and sources in
    `deepfield.physics.populations`); an object is kept if its *observed* magnitude passes the limit.

    Parameters
    ----------
    n
        Number of rows.
    survey
        "lsst" (u g r i z y) or "sdss" (u g r i z).
    seed
        The same seed and arguments give the same table.
    quasars
        Share of quasars among the rows, 0 to 1.
    mag_limit
        AB limit in the selection band: i < 25.3 for LSST, r < 17.77 for SDSS by default.
    z_max
        Highest redshift of galaxies (quasars reach 5).
    years
        Years of LSST that are coadded.
    noise
        Another noise model than the survey's own, `deepfield.physics.photometry.NoiseModel`.
    scatter
        Standard deviation in magnitudes of each band about the templates, which are too few for nature.
    cosmology
        Any astropy cosmology or the name of one; flat LCDM with 70 and 0.3 by default.

    Returns
    -------
    Table
        ``id``, ``mag_<band>`` (``+inf`` where the flux is under its error), ``mag_err_<band>`` (NaN there),
        ``z_spec``, ``class`` ("GALAXY" or "QSO") and ``sed_type`` (place in the template sequence, 0 elliptical to
        7 starburst; NaN for quasars). ``meta["mag_lim"]`` has the 1-sigma limits.

    Raises
    ------
    DeepfieldError
        If an argument makes no sense, with what would.

    Examples
    --------
    >>> table = simulate(100, survey="sdss", seed=1)
    >>> len(table), bool((table["mag_r"] < 17.77).all())
    (100, True)
    """
    model, limit = _check(n, survey, quasars, mag_limit, years, noise)
    rng = np.random.default_rng(seed)
    bands = tuple(model.bands)
    n_quasars = round(n * quasars)
    top = float(z_max or _Z_MAX[survey])
    setup = (survey, model, limit, scatter, cosmology)
    parts = []
    if n > n_quasars:
        parts.append(_select(rng, (RED, BLUE), n - n_quasars, top, *setup))
    if n_quasars:
        parts.append(_select(rng, (QUASAR,), n_quasars, _QUASAR_Z_MAX, *setup))
    columns = [np.concatenate(pieces) for pieces in zip(*parts)]
    order = rng.permutation(n)
    z, kind, flux, error = (column[order] for column in columns)
    table = Table({"id": np.arange(n)})
    _store(table, bands, flux, error, model)
    table["z_spec"] = z
    is_quasar = np.arange(n)[order] >= n - n_quasars
    table["class"] = np.where(is_quasar, "QSO", "GALAXY")
    table["sed_type"] = np.where(is_quasar, np.nan, kind)
    table.meta.update(simulated=f"{survey}-like catalogue", seed=seed)
    return table


def _check(
    n: int, survey: str, quasars: float, mag_limit: float | None, years: float, noise: ph.NoiseModel | None
) -> tuple[ph.NoiseModel, float]:
    if survey not in SURVEYS:
        raise DeepfieldError(f"cannot simulate survey '{survey}': choose from {', '.join(SURVEYS)}")
    if n < 1:
        raise DeepfieldError(f"the number of objects must be at least 1, not {n}")
    if not 0 <= quasars <= 1:
        raise DeepfieldError(f"quasars is a share between 0 and 1, not {quasars}")
    model = noise or (ph.lsst_noise(years) if survey == "lsst" else ph.sdss_noise())
    needed = [f.name[-1] for f in survey_filters(survey)]
    if list(model.bands) != needed:
        raise DeepfieldError(f"the noise model needs the bands {', '.join(needed)}, in that order")
    band, default = SURVEYS[survey]
    limit = default if mag_limit is None else float(mag_limit)
    if limit > model.limit(band, 1.0):
        raise DeepfieldError(
            f"a limit of {band} < {limit:g} lies below the noise: 1 sigma is {model.limit(band, 1.0):.2f}"
        )
    return model, limit


def _select(
    rng: np.random.Generator,
    populations: tuple[Population, ...],
    n: int,
    z_max: float,
    survey: str,
    model: ph.NoiseModel,
    limit: float,
    scatter: float,
    cosmology: Any,
) -> tuple[Array, Array, Array, Array]:
    """Redshifts, template places, observed fluxes (n, B) and errors (n, B) of objects that pass the limit."""
    bands = tuple(model.bands)
    select = bands.index(SURVEYS[survey][0])
    # Generous: what scatter, dust and noise could lift over the limit.
    margin = 0.3 + 4 * scatter + 4 * float(model.magnitude_error(bands[select], limit))
    filters = survey_filters(survey)
    samplers = [Sampler(p, filters, select, limit + margin, z_max, cosmology) for p in populations]
    counts = np.array([sampler.count for sampler in samplers])
    if not counts.sum() > 0:
        raise DeepfieldError(
            f"no object of the simulated universe is as bright as {limit:g}: choose a fainter limit"
        )
    kept: list[list[Array]] = []
    found, passing = 0, 0.0
    while found < n:
        batch = min(int(1.05 * (n - found) / passing) + 100 if passing else 10_000, 500_000)
        numbers = rng.multinomial(batch, counts / counts.sum())
        drawn = [sampler.draw(rng, int(k)) for sampler, k in zip(samplers, numbers)]
        z, kind, mag = (np.concatenate(pieces) for pieces in zip(*drawn))
        shuffled = rng.permutation(batch)
        z, kind, mag = z[shuffled], kind[shuffled], mag[shuffled]
        flux, error = _observe(rng, mag + scatter * rng.normal(size=mag.shape), model)
        good = ph.magnitude(flux[:, select]) < limit
        kept.append([z[good], kind[good], flux[good], error[good]])
        found += int(good.sum())
        passing = max(float(good.mean()), 0.02)
    z, kind, flux, error = (np.concatenate(pieces)[:n] for pieces in zip(*kept))
    return z, kind, flux, error


def _observe(rng: np.random.Generator, mag: Array, model: ph.NoiseModel) -> tuple[Array, Array]:
    """Noisy fluxes and the errors a pipeline would quote, from the noisy flux; each (N, B) in nJy."""
    true = ph.flux(mag)
    noise = np.stack([model.flux_error(band, true[:, b]) for b, band in enumerate(model.bands)], 1)
    flux = true + noise * rng.normal(size=true.shape)
    return flux, np.stack([model.flux_error(band, flux[:, b]) for b, band in enumerate(model.bands)], 1)


def _store(table: Table, bands: tuple[str, ...], flux: Array, error: Array, model: ph.NoiseModel) -> None:
    """Write magnitudes and errors of fluxes and errors (N, B) in nJy into the table."""
    limits = dict(table.meta.get("mag_lim") or {})
    for b, band in enumerate(bands):
        seen = flux[:, b] > error[:, b]
        mag = np.where(seen, ph.magnitude(flux[:, b]), np.inf)
        table[f"mag_{band}"] = np.where(np.isnan(flux[:, b]), np.nan, mag)
        table[f"mag_err_{band}"] = np.where(seen, ph.magnitude_error(flux[:, b], error[:, b]), np.nan)
        limits[band] = model.limit(band, 1.0)
    table.meta["mag_lim"] = limits


def degrade(
    table: Table,
    *,
    survey: str | ph.NoiseModel | None = None,
    depth: Mapping[str, float] | None = None,
    dim: float | Array = 0.0,
    years: float = 10.0,
    seed: int,
) -> Table:
    """Add noise to bright photometry until it looks like a shallower survey, or like fainter objects.

    Each flux gets Gaussian noise of variance sigma_target^2(f) - sigma_own^2, nothing where its own noise is
    already the larger. With ``dim`` the objects are first moved to fainter magnitudes (colours kept, their own
    noise with them), so that a bright spectroscopic sample can teach what a deeper catalogue looks like.

    Parameters
    ----------
    table
        A standard table of magnitudes or fluxes.
    survey
        "lsst", "sdss" or a noise model to imitate.
    depth
        Instead of a survey: its 5-sigma depth for each band.
    dim
        Magnitudes to add, one number or one for each row (N,).
    years
        Of LSST.
    seed
        The same seed gives the same noise.

    Returns
    -------
    Table
        A copy with ``mag_`` and ``mag_err_`` columns of the bands that the target knows; others are unchanged.

    Raises
    ------
    DeepfieldError
        If the target is not given, unknown, or shares no band with the table.

    Examples
    --------
    >>> bright = simulate(50, survey="sdss", seed=0)
    >>> faint = degrade(bright, depth={"r": 19.0}, seed=1)
    >>> bool(np.median(faint["mag_err_r"]) > 3 * np.median(bright["mag_err_r"]))
    True
    """
    model = _target(survey, depth, years)
    bands = tuple(band for band in bands_of(table) if band in model.bands)
    if not bands:
        raise DeepfieldError(
            f"the noise model knows the bands {', '.join(model.bands)}; the table has {', '.join(bands_of(table))}"
        )
    shift = 10 ** (-0.4 * np.asarray(dim, float))
    if shift.ndim and shift.shape != (len(table),):
        raise DeepfieldError(f"dim is one number or one for each of the {len(table)} rows, not {shift.shape}")
    flux, own = (values * np.reshape(shift, (-1, 1)) for values in photometry(table, bands))
    rng = np.random.default_rng(seed)
    wanted = np.stack([model.flux_error(band, flux[:, b]) for b, band in enumerate(bands)], 1)
    known = np.where(np.isnan(own), 0.0, own)
    extra = np.sqrt(np.maximum(wanted**2 - known**2, 0.0))
    noisy = flux + extra * rng.normal(size=flux.shape)
    quoted = np.stack([model.flux_error(band, noisy[:, b]) for b, band in enumerate(bands)], 1)
    result = table.copy()
    result.remove_columns(
        [
            f"{kind}_{band}"
            for band in bands
            for kind in ("flux", "flux_err", "mag_lim")  # the limits are the target's now
            if f"{kind}_{band}" in result.colnames
        ]
    )
    _store(result, bands, noisy, np.maximum(quoted, known), model)
    return result


def _target(survey: str | ph.NoiseModel | None, depth: Mapping[str, float] | None, years: float) -> ph.NoiseModel:
    if (survey is None) == (depth is None):
        raise DeepfieldError(
            "give either survey= (a name or a noise model) or depth= (5-sigma depth of each band)"
        )
    if depth is not None:
        return ph.NoiseModel(dict(depth))
    if isinstance(survey, ph.NoiseModel):
        return survey
    if survey not in SURVEYS:
        raise DeepfieldError(f"no noise model for survey '{survey}': choose from {', '.join(SURVEYS)}")
    return ph.lsst_noise(years) if survey == "lsst" else ph.sdss_noise()
