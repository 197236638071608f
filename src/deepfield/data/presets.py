"""How the surveys name their columns: one declarative map for each, nothing but data.

In a pattern ``{b}`` is the band in lower case and ``{B}`` in upper case; where a survey calls a band
otherwise, ``tokens`` gives its name. Names are matched exactly first, then without regard to case.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Style:
    """One way of naming magnitudes or fluxes.

    Attributes
    ----------
    value
        Pattern of the column of the magnitude or flux.
    error
        Patterns of the column of its error, tried in turn.
    unit
        ``mag``, a flux unit (``nJy``, ``uJy``, ``nanomaggies``) or ``zp:<zero point>``.
    inverse_variance
        Whether the error column holds inverse variances.
    need_error
        Whether a band counts only if it has an error column.
    dereddened
        Whether the values are corrected for extinction by the Galaxy.
    tokens
        What the survey calls a band, where it is not the band's name.
    """

    value: str
    error: tuple[str, ...] = ()
    unit: str = "mag"
    inverse_variance: bool = False
    need_error: bool = False
    dereddened: bool = False
    tokens: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Preset:
    """A survey's bands and the ways it names its columns, the best one first."""

    name: str
    title: str
    bands: tuple[str, ...]
    styles: tuple[Style, ...]
    redshift: tuple[str, ...] = ()
    ebv: tuple[str, ...] = ()
    label: tuple[str, ...] = ()
    id: tuple[str, ...] = ()


REDSHIFT = (
    "z_spec", "zspec", "spec_z", "specz", "redshift", "spec_redshift", "redshift_true", "z_true", "ztrue",
    "true_redshift", "zsp", "z_specz", "specz_redshift", "zpec", "zs", "Z_BEST", "zbest", "z_cosmo", "Z", "z",
)  # fmt: skip
EBV = ("ebv", "EBV_SFD98", "e_bv", "ebv_sfd", "ebmv", "EBV", "gal_ebv", "mwebv")
LABEL = ("class", "spec_class", "spectype", "spec_type", "object_class", "objclass", "specClass")
ID = (
    "id", "object_id", "objectId", "objID", "coadd_object_id", "COADD_OBJECT_ID", "specObjID", "source_id",
    "galaxy_id", "targetid", "id_zcosmos", "number",
)  # fmt: skip

UGRIZ = ("u", "g", "r", "i", "z")
LSST = ("u", "g", "r", "i", "z", "y")
NEAR_INFRARED = ("b", "v", "y", "j", "h", "k", "ks")

_EUCLID = {
    "u": "U_EXT_MEGACAM", "g": "G_EXT_DECAM", "r": "R_EXT_DECAM", "i": "I_EXT_DECAM", "z": "Z_EXT_DECAM",
    "vis": "VIS", "y": "Y", "j": "J", "h": "H",
}  # fmt: skip
_EUCLID_TEMPLATE = {b: f"{t}_TEMPLFIT" if b != "vis" else "VIS_PSF" for b, t in _EUCLID.items()}

_STANDARD_ERROR = ("mag_err_{b}", "magerr_{b}", "mag_{b}_err", "err_{b}", "mag_error_{b}")

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "standard",
            "standard",
            (),  # any band
            (
                Style("mag_{b}", _STANDARD_ERROR),
                Style("flux_{b}", ("flux_err_{b}", "fluxerr_{b}", "flux_{b}_err"), "nJy", need_error=True),
            ),
        ),
        Preset(
            "sdss",
            "SDSS",
            UGRIZ,
            (
                Style("dered_{b}", ("modelMagErr_{b}", "err_{b}"), dereddened=True),
                Style("modelMag_{b}", ("modelMagErr_{b}",)),
                Style("cModelMag_{b}", ("cModelMagErr_{b}",)),
                Style("modelFlux_{b}", ("modelFluxIvar_{b}",), "nanomaggies", True, True),
                Style("cModelFlux_{b}", ("cModelFluxIvar_{b}",), "nanomaggies", True, True),
                Style("psfMag_{b}", ("psfMagErr_{b}",)),
                Style("petroMag_{b}", ("petroMagErr_{b}",)),
                Style("{b}", ("err_{b}", "{b}_err", "{b}err", "e_{b}", "e{b}", "sigma_{b}")),
            ),
        ),
        Preset(
            "des",
            "DES",
            ("u", "g", "r", "i", "z", "y"),
            (
                Style("SOF_CM_MAG_CORRECTED_{B}", ("SOF_CM_MAG_ERR_{B}",), dereddened=True),
                Style("MAG_AUTO_{B}_DERED", ("MAGERR_AUTO_{B}",), dereddened=True),
                Style("MAG_AUTO_{B}", ("MAGERR_AUTO_{B}",)),
                Style("SOF_CM_MAG_{B}", ("SOF_CM_MAG_ERR_{B}",)),
                Style("MAG_DETMODEL_{B}", ("MAGERR_DETMODEL_{B}",)),
                Style("WAVG_MAG_PSF_{B}", ("WAVG_MAGERR_PSF_{B}",)),
                Style("FLUX_AUTO_{B}", ("FLUXERR_AUTO_{B}",), "zp:30", need_error=True),
            ),
        ),
        Preset(
            "hsc",
            "HSC-SSP",
            ("g", "r", "i", "z", "y"),
            (
                Style("{b}_cmodel_flux", ("{b}_cmodel_fluxerr", "{b}_cmodel_fluxsigma"), "nJy"),
                Style("{b}_cmodel_mag", ("{b}_cmodel_magerr", "{b}_cmodel_magsigma")),
                Style("{b}cmodel_mag", ("{b}cmodel_mag_err",)),
                Style("{b}_psfflux_flux", ("{b}_psfflux_fluxerr", "{b}_psfflux_fluxsigma"), "nJy"),
                Style("{b}_psfflux_mag", ("{b}_psfflux_magerr", "{b}_psfflux_magsigma")),
            ),
        ),
        Preset(
            "lsst",
            "LSST",
            LSST,
            (
                Style("{b}_cModelFlux", ("{b}_cModelFluxErr",), "nJy"),
                Style("{b}_gaapOptimalFlux", ("{b}_gaapOptimalFluxErr",), "nJy"),
                Style("{b}_gaap1p0Flux", ("{b}_gaap1p0FluxErr",), "nJy"),
                Style("{b}_psfFlux", ("{b}_psfFluxErr",), "nJy"),
                Style("cModelFlux_{b}", ("cModelFluxErr_{b}",), "nJy"),
                Style("{b}_cModelMag", ("{b}_cModelMagErr",)),
                Style("mag_{b}_cModel", ("magerr_{b}_cModel",)),
                Style("mag_{b}_lsst", ("mag_err_{b}_lsst",)),
                Style("mag_true_{b}_lsst"),
            ),
        ),
        Preset(
            "euclid",
            "Euclid",
            tuple(_EUCLID),
            (
                Style("FLUX_{t}_UNIF", ("FLUXERR_{t}_UNIF",), "uJy", tokens=_EUCLID),
                Style("FLUX_{t}", ("FLUXERR_{t}",), "uJy", tokens=_EUCLID_TEMPLATE),
                Style("FLUX_{t}_2FWHM_APER", ("FLUXERR_{t}_2FWHM_APER",), "uJy", tokens=_EUCLID),
                Style("FLUX_{t}", ("FLUXERR_{t}",), "uJy", need_error=True, tokens=_EUCLID),
            ),
        ),
        Preset(
            "legacy",
            "DESI Legacy Surveys",
            ("g", "r", "i", "z", "w1", "w2", "w3", "w4"),
            (Style("FLUX_{B}", ("FLUX_IVAR_{B}",), "nanomaggies", True, True),),
        ),
        Preset(
            "plain",
            "bare band names",
            (*LSST, *NEAR_INFRARED),
            (
                Style("{b}", ("err_{b}", "{b}_err", "{b}err", "e_{b}", "e{b}", "sigma_{b}")),
                Style("{b}mag", ("e_{b}mag", "{b}mag_err")),
                Style("{b}_mag", ("{b}_mag_err", "{b}_magerr", "{b}_err")),
                Style("mag_{b}", _STANDARD_ERROR),
                Style("mag{b}", ("magerr{b}", "err{b}", "e{b}")),
            ),
        ),
    )
}
"""The presets by name, in the order in which a header is compared with them."""
