import numpy as np
import pytest

from deepfield.core.errors import TableError
from deepfield.core.table import Table
from deepfield.data.columns import resolve
from deepfield.data.photometry import photometry
from deepfield.data.presets import PRESETS


def pairs(value, error, bands="ugriz"):
    return [p.format(b=b, B=b.upper()) for b in bands for p in (value, error) if p]


HEADERS = {
    "standard": (pairs("mag_{b}", "mag_err_{b}"), "standard", "ugriz", "mag"),
    "standard fluxes": (pairs("flux_{b}", "flux_err_{b}", "griz"), "standard", "griz", "nJy"),
    "sdss model": (pairs("modelMag_{b}", "modelMagErr_{b}"), "SDSS", "ugriz", "mag"),
    "sdss psf": (pairs("psfMag_{b}", "psfMagErr_{b}"), "SDSS", "ugriz", "mag"),
    "sdss dered": (pairs("dered_{b}", "modelMagErr_{b}"), "SDSS", "ugriz", "mag"),
    "sdss short": (pairs("{b}", "err_{b}"), "SDSS", "ugriz", "mag"),
    "sdss Err": (pairs("{b}", "Err_{b}"), "SDSS", "ugriz", "mag"),
    "sdss flux": (pairs("modelFlux_{b}", "modelFluxIvar_{b}"), "SDSS", "ugriz", "nanomaggies"),
    "des auto": (pairs("MAG_AUTO_{B}", "MAGERR_AUTO_{B}", "griz"), "DES", "griz", "mag"),
    "des lower": (pairs("mag_auto_{b}", "magerr_auto_{b}", "grizy"), "DES", "grizy", "mag"),
    "des gold": (pairs("SOF_CM_MAG_CORRECTED_{B}", "SOF_CM_MAG_ERR_{B}", "griz"), "DES", "griz", "mag"),
    "des flux": (pairs("FLUX_AUTO_{B}", "FLUXERR_AUTO_{B}", "grizy"), "DES", "grizy", "zp:30"),
    "hsc mag": (pairs("{b}_cmodel_mag", "{b}_cmodel_magerr", "grizy"), "HSC-SSP", "grizy", "mag"),
    "hsc mag pdr2": (pairs("{b}_cmodel_mag", "{b}_cmodel_magsigma", "grizy"), "HSC-SSP", "grizy", "mag"),
    "hsc flux": (pairs("{b}_cmodel_flux", "{b}_cmodel_fluxerr", "grizy"), "HSC-SSP", "grizy", "nJy"),
    "lsst cmodel": (pairs("{b}_cModelFlux", "{b}_cModelFluxErr", "ugrizy"), "LSST", "ugrizy", "nJy"),
    "lsst gaap": (pairs("{b}_gaap1p0Flux", "{b}_gaap1p0FluxErr", "ugrizy"), "LSST", "ugrizy", "nJy"),
    "rail": (pairs("mag_{b}_lsst", "mag_err_{b}_lsst", "ugrizy"), "LSST", "ugrizy", "mag"),
    "dc2": (pairs("mag_{b}_cModel", "magerr_{b}_cModel", "ugrizy"), "LSST", "ugrizy", "mag"),
    "legacy": (pairs("FLUX_{B}", "FLUX_IVAR_{B}", "grz"), "DESI Legacy Surveys", "grz", "nanomaggies"),
    "tractor": (pairs("flux_{b}", "flux_ivar_{b}", "grz"), "DESI Legacy Surveys", "grz", "nanomaggies"),
    "plain": (pairs("{b}", "", "ugrizyjhk"), "bare band names", "ugrizyjhk", "mag"),
    "vizier": (pairs("{b}mag", "e_{b}mag"), "bare band names", "ugriz", "mag"),
    "magerr": (pairs("MAG_{B}", "MAGERR_{B}"), "bare band names", "ugriz", "mag"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers_are_guessed(case):
    names, title, bands, unit = HEADERS[case]
    mapping = resolve([*names, "objID", "Z_SPEC", "EBV", "other"])
    assert mapping.title == title and mapping.message.startswith(f"guessed {title} columns, bands ")
    assert "".join(band.name for band in mapping.bands) == bands
    assert {band.unit for band in mapping.bands} == {unit}
    if len(names) == 2 * len(bands):
        assert all(band.error for band in mapping.bands)
    assert mapping.others == {"z_spec": "Z_SPEC", "ebv": "EBV", "id": "objID"}


def test_euclid_names_its_bands_by_instrument():
    tokens = {"u": "U_EXT_MEGACAM", "g": "G_EXT_DECAM", "vis": "VIS", "y": "Y", "j": "J", "h": "H"}
    for shape in ("FLUX_{}_UNIF", "flux_{}_2fwhm_aper", "FLUX_{}"):
        names = [shape.format(t if shape[0] == "F" else t.lower()) for t in tokens.values()]
        errors = [name.replace("FLUX_", "FLUXERR_").replace("flux_", "fluxerr_") for name in names]
        mapping = resolve([*names, *errors])
        assert mapping.title == "Euclid" and {b.unit for b in mapping.bands} == {"uJy"}
        assert [b.name for b in mapping.bands] == ["u", "g", "vis", "y", "j", "h"]
    mixed = ["flux_vis_psf", "flux_y_templfit", "flux_h_templfit"]
    mapping = resolve([*mixed, *(name.replace("flux_", "fluxerr_") for name in mixed)])
    assert [b.value for b in mapping.bands] == mixed


def test_z_is_a_band_and_z_a_redshift():
    names = pairs("{b}", "err_{b}")
    assert resolve([*names, "redshift"]).others["z_spec"] == "redshift"
    assert "z_spec" not in resolve(names).others
    assert resolve([*pairs("MAG_AUTO_{B}", ""), "Z"]).others["z_spec"] == "Z"
    assert resolve([*pairs("modelMag_{b}", ""), "z"]).others["z_spec"] == "z"


def test_better_photometry_is_preferred_and_extinction_remembered():
    names = [*pairs("psfMag_{b}", "psfMagErr_{b}"), *pairs("dered_{b}", "modelMagErr_{b}")]
    mapping = resolve(names)
    assert mapping.bands[0].value == "dered_u" and mapping.dereddened
    table = Table({name: [20.0] for name in names})
    assert mapping.apply(table).meta["dereddened"] is True
    assert "psfMag_u" in mapping.apply(table).colnames


def test_the_survey_is_remembered_where_there_is_one():
    def survey(*patterns, **options):
        names = pairs(*patterns)
        read = resolve(names, **options).apply(Table({name: [20.0] for name in names}))
        return resolve(read.colnames, "standard").apply(read).meta.get("survey")  # as the registry reads again

    assert survey("MAG_AUTO_{B}", "MAGERR_AUTO_{B}") == "des"
    assert survey("{b}_cmodel_mag", "{b}_cmodel_magerr", columns="hsc") == "hsc"
    assert survey("mag_{b}", "mag_err_{b}") is None
    assert survey("{b}mag", "e_{b}mag") is None
    assert survey("MAG_{b}", "ERR_{b}", columns={"mag_g": "MAG_g", "mag_r": "MAG_r"}) is None


def test_bands_and_target_can_be_told():
    names = [*pairs("mag_{b}", "mag_err_{b}"), "zbest", "z_spec"]
    mapping = resolve(names, bands=["r", "g"], target="zbest")
    assert [band.name for band in mapping.bands] == ["r", "g"]
    table = mapping.apply(Table({name: [1.0 + i] for i, name in enumerate(names)}))
    assert table["z_spec"][0] == 11.0 and table["z_spec_original"][0] == 12.0


def test_an_unusual_band_is_found_when_asked_for():
    mapping = resolve(["mag_n921", "mag_g", "mag_err_g"], bands=["g", "n921"])
    assert [band.error for band in mapping.bands] == ["mag_err_g", None]
    names = [f"{band}mag" for band in ("g", "q")]
    assert [band.name for band in resolve(names, bands=["q", "g"]).bands] == ["q", "g"]


def test_standard_leaves_selection_magnitudes_alone():
    mapping = resolve(["mag_sel", "mag_g", "mag_err_g", "mag_r", "mag_err_r", "mag_extra"])
    assert [band.name for band in mapping.bands] == ["g", "r"]


def test_explicit_map():
    mapping = resolve(
        ["G", "SG", "FR", "IVR", "ZSP", "who"],
        {
            "mag_g": "G",
            "mag_err_g": "SG",
            "flux_r": ("FR", "uJy"),
            "flux_ivar_r": "IVR",
            "z_spec": "ZSP",
            "id": "who",
        },
    )
    table = mapping.apply(
        Table({"G": [20.0], "SG": [0.1], "FR": [2.0], "IVR": [0.25], "ZSP": [0.5], "who": ["a"]})
    )
    assert table["flux_r"][0] == 2000 and table["flux_err_r"][0] == 2000
    assert table["id"][0] == "a" and table.meta["bands"] == ("g", "r")
    flux, _ = photometry(table)
    assert flux.shape == (1, 2)


def test_a_map_without_bands_is_laid_over_the_guess():
    names = [*pairs("{b}", "err_{b}", "ugri"), "z", "objID", "name"]
    mapping = resolve(names, {"z_spec": "z", "id": "name"}, target="z_spec")
    assert mapping.others == {"z_spec": "z", "id": "name"}
    assert [band.name for band in mapping.bands] == list("ugri"), "z is told to be the redshift"
    assert resolve(["mag_g", "z_spec", "Z"], {"z_spec": "Z"}, target="z_spec").others["z_spec"] == "Z"
    assert resolve(["mag_g", "z_spec", "Z"], {"z_spec": "Z"}, target="z_spec", bands=["g"]).others["z_spec"] == "Z"


def test_the_message_says_what_the_identifiers_are():
    assert resolve(["mag_g", "id"]).message.endswith(", id from 'id'")
    assert resolve(["mag_g", "who"], {"id": "who"}).message.endswith(", id from 'who'")
    assert resolve(["mag_g", "who"]).message.endswith(", no id column: row numbers")


def test_the_unit_in_the_file_wins():
    table = Table({"g_cModelFlux": [1.0], "r_cModelFlux": [1.0]})
    table["g_cModelFlux"].unit = "uJy"
    result = resolve(table.colnames).apply(table)
    assert result["flux_g"][0] == 1000 and result["flux_r"][0] == 1


def test_notes_count_what_was_changed():
    table = Table(
        {
            "mag_g": [20.0, 99.0, -99.0, 70.0],
            "mag_err_g": [0.1, 27.0, 99.0, 0.1],
            "z_spec": [0.1, -9.0, 0.2, 99.0],
        }
    )
    result = resolve(table.colnames).apply(table)
    assert result.meta["notes"] == [
        "g: 1 of 4 rows not detected",
        "g: 2 of 4 rows not observed",
        "g: 1 of 4 rows impossible, set to not observed",
        "z_spec: 2 of 4 rows unknown or impossible, set to NaN",
    ]
    assert len(result) == 4
    np.testing.assert_array_equal(result["mag_lim_g"], [np.nan, 27.0, np.nan, np.nan])


def test_a_map_leaves_its_input_alone():
    table = Table({"mag_g": [99.0], "mag_err_g": [99.0], "z_spec": [-9.0]})
    before = table.digest()
    resolve(table.colnames).apply(table)
    assert table.digest() == before


def test_standard_columns_map_to_themselves_again():
    table = Table({"mag_g": [20.0, 99.0], "mag_err_g": [0.1, 26.0], "z_spec": [0.1, 0.2], "id": [1, 2]})
    once = resolve(table.colnames).apply(table)
    twice = resolve(once.colnames).apply(once)
    assert once.digest() == twice.digest()


@pytest.mark.parametrize(
    ("names", "kwargs", "message"),
    [
        (
            ["a", "b"],
            {},
            "no magnitudes or fluxes among the columns a, b: name them on the command line, --columns mag_g=",
        ),
        (["a", "b"], {"columns": "des"}, "no DES magnitudes or fluxes among the columns a, b"),
        (
            ["u"],
            {"columns": "SDDS"},
            "unknown column preset 'SDDS': use one of standard, sdss, des, hsc, lsst",
        ),
        (["mag_g"], {"bands": ["g", "y"]}, "no column for band 'y' among standard columns; bands found: g"),
        (["mag_g"], {"bands": ["g", "g"]}, "a band is named twice in g, g"),
        (["mag_g", "zsp"], {"target": "zspe"}, r"no column 'zspe'; did you mean 'zsp'\?"),
        (
            ["mag_g", "Z"],
            {"target": "z_spec"},
            "no column 'z_spec'; .*; the redshift may be 'Z': give --target Z,",
        ),
        (["mag_g", "mag_z"], {"target": "z_spec"}, "no column 'z_spec'; columns: mag_g, mag_z$"),
        (["mag_g"], {"columns": {"mag_g": "MAG_X"}}, r"no column 'MAG_X'; did you mean 'mag_g'\?"),
        (["zz"], {"columns": {"z_spec": "zz"}}, "no magnitudes or fluxes among the columns none"),
        (["mag_g", "e"], {"columns": {"mag_err_g": "e"}}, "'mag_err_g' is given, and that of 'mag_g' is not"),
        (["f"], {"columns": {"flux_g": ("f", "ADU")}}, "unknown flux unit 'ADU'"),
        (["z"], {}, "no magnitudes or fluxes among the columns z"),
    ],
)
def test_what_cannot_be_resolved_is_said(names, kwargs, message):
    with pytest.raises(TableError, match=message):
        resolve(names, **kwargs)


def test_presets_name_themselves():
    assert all(preset.name == name and preset.styles for name, preset in PRESETS.items())
