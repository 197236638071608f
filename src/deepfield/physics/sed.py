"""Spectral energy distributions: the parts that galaxies and quasars are made of.

Wavelengths are in Angstrom and vacuum-to-air differences (1 Angstrom) are neglected. Spectra are f_lambda in
arbitrary units, normalised where said.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

LYMAN_LIMIT = 911.75


def planck(wavelength: ArrayLike, temperature: float) -> Array:
    """Blackbody f_lambda of the temperature in kelvin, one at 5500 Angstrom; same shape as the wavelengths.

    Examples
    --------
    >>> wave = np.arange(1000.0, 20000.0)
    >>> bool(abs(wave[planck(wave, 5000.0).argmax()] * 5000 - 2.8978e7) < 5000)   # Wien's law
    True
    """
    wave = np.asarray(wavelength, float)

    def value(x: Array) -> Array:
        return x**-5 / np.expm1(np.minimum(1.438777e8 / (x * temperature), 600.0))

    return value(wave) / value(np.array(5500.0))


def calzetti(wavelength: ArrayLike) -> Array:
    """Starburst attenuation k(lambda) = A(lambda) / E(B-V): Calzetti et al. (2000, ApJ 533, 682), equation 4.

    R_V = 4.05. Valid for 1200 to 22,000 Angstrom; below it the slope at 1200 is continued (as SPS codes do),
    above it k is held at zero or more.

    Examples
    --------
    >>> calzetti([5500.0]).round(2)
    array([4.05])
    """
    micron = np.asarray(wavelength, float) / 1e4
    inverse = 1 / np.maximum(micron, 0.12)
    blue = 2.659 * (-2.156 + 1.509 * inverse - 0.198 * inverse**2 + 0.011 * inverse**3) + 4.05
    red = 2.659 * (-1.857 + 1.040 * inverse) + 4.05
    slope = 2.659 * (1.509 - 0.396 / 0.12 + 0.033 / 0.12**2)
    far = slope * np.maximum(1 / np.maximum(micron, 0.01) - 1 / 0.12, 0)
    return np.maximum(np.where(micron < 0.63, blue, red) + far, 0.0)


def attenuate(wavelength: ArrayLike, spectrum: ArrayLike, ebv: ArrayLike) -> Array:
    """Spectra (..., W) dimmed by Calzetti dust of reddening E(B-V), 10^(-0.4 k E(B-V)).

    ``ebv`` of shape (E,) gives (E, ..., W); a number gives (..., W).

    Examples
    --------
    >>> float((-2.5 * np.log10(attenuate([5500.0], [1.0], 0.1)))[0].round(3))
    0.405
    """
    redden = np.asarray(ebv, float)
    spectra = np.asarray(spectrum, float)
    shape = redden.shape + (1,) * spectra.ndim
    return 10 ** (-0.4 * redden.reshape(shape) * calzetti(wavelength)) * spectra


_LYMAN_SERIES = ((1215.67, 0.0036), (1025.72, 0.0017), (972.54, 0.0012), (949.74, 0.00093))


def igm_transmission(wavelength: ArrayLike, z: float) -> Array:
    """Mean transmission of the intergalactic medium towards a source at redshift ``z``.

    Line blanketing by Lyman alpha to delta, tau = A_j (lambda / lambda_j)^3.46, and photoelectric absorption:
    Madau (1995, ApJ 441, 18), equations 12, 15 and footnote 3.

    Parameters
    ----------
    wavelength
        *Observed* Angstrom, any shape.
    z
        Redshift of the source.

    Examples
    --------
    >>> igm_transmission([3000.0, 5000.0, 6000.0], 3.5).round(2)    # Lyman continuum, forest, redward of it
    array([0.01, 0.62, 1.  ])
    """
    wave = np.asarray(wavelength, float)
    tau = np.zeros_like(wave)
    for line, strength in _LYMAN_SERIES:
        tau += np.where(wave < line * (1 + z), strength * (wave / line) ** 3.46, 0.0)
    xc = np.clip(wave / LYMAN_LIMIT, 1.0, None)
    xe = 1 + z
    continuum = (
        0.25 * xc**3 * (xe**0.46 - xc**0.46)
        + 9.4 * xc**1.5 * (xe**0.18 - xc**0.18)
        - 0.7 * xc**3 * (xc**-1.32 - xe**-1.32)
        - 0.023 * (xe**1.68 - xc**1.68)
    )
    return np.exp(-tau - np.where(xc < xe, np.maximum(continuum, 0.0), 0.0))


def add_lines(
    wavelength: ArrayLike,
    continuum: ArrayLike,
    centres: Sequence[float],
    widths: Sequence[float],
    equivalent_widths: Sequence[float],
) -> Array:
    """Continuum (W,) with Gaussian emission lines of rest-frame equivalent widths, all in Angstrom.

    ``widths`` are standard deviations; those narrower than the grid's step widen to it.

    Examples
    --------
    >>> wave = np.arange(6000.0, 7000.0)
    >>> line = add_lines(wave, np.full(1000, 2.0), [6563.0], [5.0], [50.0])
    >>> float(np.trapezoid(line / 2 - 1, wave).round(3))
    50.0
    """
    wave = np.asarray(wavelength, float)
    total = np.array(continuum, float)
    base = total.copy()
    for centre, width, strength in zip(centres, widths, equivalent_widths):
        if not wave[0] < centre < wave[-1]:
            continue
        step = np.interp(centre, wave, np.gradient(wave))
        sigma = max(width, step)
        profile = np.exp(-0.5 * ((wave - centre) / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
        total += strength * np.interp(centre, wave, base) * profile
    return total


# Lines of HII regions: name, Angstrom, flux relative to H alpha for metal-rich and metal-poor gas. Case B for
# the hydrogen lines (Osterbrock & Ferland 2006) with the mean reddening of spirals; the others follow the
# sequence of star-forming galaxies of Kewley et al. (2006) and [OII]/H alpha of Moustakas et al. (2006).
_NEBULAR = (
    (3727.4, 0.40, 0.90), (4101.7, 0.07, 0.09), (4340.5, 0.13, 0.16), (4861.3, 0.28, 0.35),
    (4958.9, 0.04, 0.45), (5006.8, 0.11, 1.35), (6548.1, 0.13, 0.02), (6562.8, 1.00, 1.00),
    (6583.5, 0.38, 0.06), (6717.0, 0.19, 0.10), (6731.0, 0.15, 0.08),
    (9068.6, 0.05, 0.12), (9530.6, 0.12, 0.30),
)  # fmt: skip


def nebular_lines(wavelength: ArrayLike, continuum: ArrayLike, halpha: float, poor: float) -> Array:
    """Continuum (W,) with the lines of star formation for a rest equivalent width of H alpha in Angstrom.

    ``poor`` runs from 0 (metal-rich gas, weak [OIII]) to 1 (metal-poor, strong [OIII]).

    Examples
    --------
    >>> wave = np.arange(3000.0, 9900.0)
    >>> float(np.interp(6562.8, wave, nebular_lines(wave, np.ones_like(wave), 30.0, 0.5)).round(1))
    2.8
    """
    wave, base = np.asarray(wavelength, float), np.asarray(continuum, float)
    centres = [line[0] for line in _NEBULAR]
    fluxes = np.array([(1 - poor) * rich + poor * weak for _, rich, weak in _NEBULAR])
    local = np.interp(centres, wave, base)
    widths = np.array(centres) * 300.0 / 299792.458
    strengths = halpha * fluxes * np.interp(6562.8, wave, base) / local
    return add_lines(wave, base, centres, list(widths), list(strengths))


def _step(wave: Array, edge: float, drop: float, width: float) -> Array:
    """One redward of ``edge``, ``1 / drop`` blueward, over a smooth ``width`` in Angstrom."""
    return 1 / drop + (1 - 1 / drop) / (1 + np.exp(-(wave - edge) / width))


def _absorb(wave: Array, bands: Sequence[tuple[float, float, float]]) -> Array:
    depth = sum(strength * np.exp(-0.5 * ((wave - centre) / sigma) ** 2) for centre, sigma, strength in bands)
    return 1 - np.asarray(depth)


def old_population(wavelength: ArrayLike) -> Array:
    """Stars of many Gyr: giants of 3900 K and turn-off stars of 5600 K under a blanket of metal lines.

    The break at 4000 Angstrom has D4000 near 2, with the next breaks at 2900 and 2640; absorption by
    CaII H K, the G band, Mg b, Na D and TiO, and the H- opacity minimum at 1.6 micron. One at 5500 Angstrom.

    Examples
    --------
    >>> wave = np.arange(3000.0, 7000.0)
    >>> old = old_population(wave) * wave**2                      # f_nu
    >>> d4000 = old[(wave > 4050) & (wave < 4250)].mean() / old[(wave > 3750) & (wave < 3950)].mean()
    >>> bool(1.7 < d4000 < 2.4)
    True
    """
    wave = np.asarray(wavelength, float)
    light = 0.5 * planck(wave, 3900.0) + 0.5 * planck(wave, 5600.0)
    light = (
        light * _step(wave, 3990.0, 1.25, 12.0) * _step(wave, 2900.0, 1.7, 40.0) * _step(wave, 2640.0, 1.5, 30.0)
    )
    bands = (
        (3951.0, 28.0, 0.30), (3835.0, 50.0, 0.25), (4304.0, 18.0, 0.18), (4383.0, 40.0, 0.10),
        (5176.0, 40.0, 0.14), (5269.0, 15.0, 0.05), (5893.0, 10.0, 0.08), (6190.0, 60.0, 0.03),
        (7100.0, 60.0, 0.05), (8542.0, 15.0, 0.05),
    )  # fmt: skip
    hydride = 1 + 0.22 * np.exp(-0.5 * (np.log(wave / 16000.0) / 0.16) ** 2)
    hot = 0.02 * (np.maximum(wave, 100.0) / 2500.0) ** -2.0 * (wave > LYMAN_LIMIT)  # the UV upturn
    total = light * _absorb(wave, bands) * hydride + hot * np.exp(-((wave / 4000.0) ** 4))
    return total / np.interp(5500.0, wave, total)


def middle_population(wavelength: ArrayLike) -> Array:
    """Stars of about one Gyr: 7800 K with a Balmer break of a factor two, and giants. One at 5500 Angstrom.

    Examples
    --------
    >>> bool(np.divide(*middle_population(np.array([3400.0, 4200.0, 5500.0]))[:2]) < 0.6)
    True
    """
    wave = np.asarray(wavelength, float)
    balmer = (
        (3889.0, 14.0, 0.25),
        (3970.0, 14.0, 0.28),
        (4102.0, 14.0, 0.25),
        (4340.0, 14.0, 0.2),
        (4861.0, 14.0, 0.15),
    )
    hot = (
        planck(wave, 7800.0)
        * _step(wave, 3730.0, 2.1, 35.0)
        * _step(wave, 1700.0, 4.0, 120.0)
        * _absorb(wave, balmer)
    )
    total = 0.72 * hot + 0.28 * planck(wave, 3700.0)
    return total / np.interp(5500.0, wave, total)


def young_population(wavelength: ArrayLike, slope: float = -2.2) -> Array:
    """Ongoing star formation: a UV power law f_lambda ~ lambda^slope, a small Balmer break, red supergiants.

    Flux below the Lyman limit is absorbed within the galaxy. One at 5500 Angstrom.

    Examples
    --------
    >>> young = young_population(np.array([800.0, 1500.0, 3000.0, 5500.0]))
    >>> bool(young[0] == 0), bool(abs(np.log2(young[1] / young[2]) - 2.2) < 0.1)
    (True, True)
    """
    wave = np.asarray(wavelength, float)
    power = (wave / 5500.0) ** slope * np.where(wave > 5500.0, (wave / 5500.0) ** -0.4, 1.0)
    hot = power * _step(wave, 3680.0, 1.25, 35.0) * (wave > LYMAN_LIMIT)
    total = 0.85 * hot + 0.15 * planck(wave, 3800.0) * (wave > 3000)
    return total / np.interp(5500.0, wave, total)


# Composite quasar of Vanden Berk et al. (2001, AJ 122, 549), Table 2: line, sigma, EW in Angstrom.
_QUASAR_LINES = (
    (1033.0, 10.0, 9.8), (1216.25, 19.46, 92.91), (1305.4, 5.42, 1.66), (1398.3, 14.26, 8.13),
    (1546.2, 14.33, 23.78), (1905.97, 23.58, 21.19), (2800.3, 34.95, 32.28),
    (3728.3, 3.32, 1.56), (4102.7, 18.62, 5.05), (4346.4, 20.32, 12.62), (4853.1, 40.44, 46.21),
    (4960.4, 3.85, 3.50), (5008.2, 6.04, 13.23), (6564.9, 47.39, 194.52),
)  # fmt: skip


def quasar(wavelength: ArrayLike, slope: float = -0.44) -> Array:
    """Quasar f_lambda: broken power law, iron and Balmer-continuum bump, broad lines, hot dust. One at 5500.

    f_nu ~ nu^slope from Lyman alpha to 5000 Angstrom and the lines of Vanden Berk et al. (2001); nu^-1.4 to the
    red, which has the i - z of SDSS quasars (the composite's -2.45 is that of its faint members' hosts);
    nu^-1.57 blueward of Lyman alpha (Telfer et al. 2002, ApJ 565, 773); the bump of Grandi (1982) between 2200
    and 4000 Angstrom; beyond one micron dust of 1260 K (Glikman et al. 2006, ApJ 640, 579).

    Examples
    --------
    >>> wave = np.array([1350.0, 1450.0, 2200.0, 5500.0])
    >>> value = quasar(wave)
    >>> bool((np.diff(value) < 0).all())
    True
    """
    wave = np.asarray(wavelength, float)
    optical = -2 - slope
    value = (wave / 5000.0) ** optical
    value = np.where(wave > 5000.0, (wave / 5000.0) ** -0.6, value)
    value = np.where(wave > 9000.0, 1.8**-0.6 * (wave / 9000.0) ** -1.6, value)
    lyman = (1216.0 / 5000.0) ** optical
    value = np.where(wave < 1216.0, lyman * (wave / 1216.0) ** (1.57 - 2.0), value)
    bump = 0.22 * np.exp(-0.5 * (np.log(wave / 2950.0) / 0.16) ** 2)
    dust = 0.9 * planck(wave, 1260.0) / planck(np.array([20000.0]), 1260.0)[0]
    value = value * (1 + bump) + dust
    value = add_lines(wave, value, *zip(*_QUASAR_LINES))
    return value / np.interp(5500.0, wave, value)
