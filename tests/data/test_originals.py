"""The readers of originals, on small files in the same formats."""

import gzip
import json

import h5py
import numpy as np
import pytest

from deepfield.core.errors import TableError
from deepfield.data import originals
from deepfield.data.originals import GZ2_FRACTIONS, READERS

MLZ = """#zs u g r i z u-g g-r r-i i-z eg er ei ez eu-g eg-r er-i ei-z
0.1 20.1 18.2 17.3 16.4 15.5 1.9 0.9 0.9 0.9 0.051 0.012 0.013 0.014 0.015 0.06 0.02 0.02 0.02
0.2 20.2 18.3 17.4 16.5 15.6 1.9 0.9 0.9 -0.9 0.061 0.022 0.023 0.024 0.025 0.06 0.02 0.02 0.02
"""

ANNZ = """#F:MAG_U;F:MAGERR_U;F:MAG_G;F:MAGERR_G;F:MAG_R;F:MAGERR_R;F:MAG_I;F:MAGERR_I;F:MAG_Z;F:MAGERR_Z;D:Z
22.7,0.93,23.9,1.32,22.5,0.48,21.3,0.20,20.8,0.21,0.65
21.8,0.39,20.0,0.03,18.6,0.01,18.1,0.01,17.7,0.01,-0.00001
"""

ZCOSMOS = """id_zcosmos,zpec,cc,alpha,delta,mag_sel,id_photzi25,fuv_photzi25,nuv_photzi25,u_photzi25,eu_photzi25,\
b_photzi25,eb_photzi25,v_photzi25,ev_photzi25,g_photzi25,eg_photzi25,r_photzi25,er_photzi25,i_photzi25,\
ei_photzi25,z_photzi25,ez_photzi25,j_photzi25,ej_photzi25,k_photzi25,ek_photzi25,ic_photzi25,efuv_photzi25,\
enuv_photzi25,eic_photzi25,flag_maskb_photzi25,flag_maskv_photzi25,flag_maski_photzi25,flag_maskz_photzi25,\
flag_maskd_photzi25
700137,0.88,1.5,150.5,1.88,22.27,507130,-99,-99,26.8,0.25,25.5,0.11,24.6,0.06,25.5,0.12,23.8,0.04,-99.9,-99.9,\
21.8,0.02,21.3,0.01,20.5,0.01,22.6,-99,-99,0.1,0,0,0,0,0
700178,0.91,9.5,150.3,1.88,22.24,531803,-99,24.1,23.9,0.04,23.7,0.04,23.7,0.03,23.9,0.04,23.6,0.03,22.9,0.02,\
22.6,0.03,22.5,0.03,22.3,0.06,22.9,-99,0.12,0.15,0,0,0,0,0
700276,0.0,4.4,149.9,1.94,22.47,9999999,,,,,,,,,,,,,,,,,,,,,,,,,,,,,
"""


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


def test_mlz_counts_columns_instead_of_trusting_the_header(tmp_path):
    paths = [
        write(tmp_path, "SDSS_MGS.train", MLZ),
        write(tmp_path, "SDSS_MGS.test", MLZ.replace("20.1", "20.9")),
    ]
    table = originals.mlz(paths)
    assert list(table["mag_u"]) == [20.1, 20.2, 20.9, 20.2]
    assert table["mag_z"][0] == 15.5 and table["z_spec"][1] == 0.2
    assert [table[f"mag_err_{b}"][0] for b in "ugriz"] == [0.051, 0.012, 0.013, 0.014, 0.015]


def test_annz_joins_files_and_keeps_a_galaxy_once(tmp_path):
    other = ANNZ.replace("22.7,", "22.8,")
    table = originals.annz([write(tmp_path, "a.csv", ANNZ), write(tmp_path, "b.csv", other)])
    assert list(table["mag_u"]) == [22.7, 21.8, 22.8]
    assert table["mag_err_g"][0] == 1.32 and table["z_spec"][1] == -0.00001


def test_zcosmos_maps_its_sentinels_and_marks_secure_redshifts(tmp_path):
    table = originals.zcosmos([write(tmp_path, "zcosmos.csv", ZCOSMOS)])
    assert list(table["id"]) == [700137, 700178, 700276]
    assert np.isnan(table["mag_i"][0]) and np.isnan(table["mag_err_i"][0]) and table["mag_u"][0] == 26.8
    assert np.isnan(table["mag_u"][2]) and table["mag_ic"][1] == 22.9
    assert list(table["secure"]) == [False, True, False]


def test_rail_reads_its_group(tmp_path):
    path = tmp_path / "test.hdf5"
    with h5py.File(path, "w") as file:
        for band in "ugrizy":
            file[f"photometry/mag_{band}_lsst"] = np.array([25.0, 99.0], dtype="f4")
            file[f"photometry/mag_err_{band}_lsst"] = np.array([0.1, 26.6], dtype="f4")
        file["photometry/redshift"] = np.array([0.5, 1.0])
        file["photometry/id"] = np.array([1, 2])
    table = originals.rail([path])
    assert table["mag_y"][1] == 99 and list(table["z_spec"]) == [0.5, 1.0]


@pytest.mark.parametrize("kind", ["U6", "S6"])
def test_sdss_colors_reads_the_structured_array(tmp_path, kind):
    names = ["u", "g", "r", "i", "z"]
    dtype = [(n, "f8") for n in names] + [("spec_class", kind), ("redshift", "f8"), ("redshift_err", "f8")]
    path = tmp_path / "colors.npy"
    np.save(path, np.array([(19.8, 19.5, 19.4, 19.1, 19.1, "QSO", 0.54, 1e-5)], dtype=dtype))
    table = originals.sdss_colors([path])
    assert table["spec_class"][0] == "QSO" and table["mag_z"][0] == 19.1 and table["z_spec"][0] == 0.54


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("mlz", "# a b\n1 2\n", "has 2 columns and 1 rows: 19 columns and some rows were expected"),
        ("mlz", "1 2\n3\n", "cannot read '.*': the number of columns changed from 2 to 1 at row 2"),
        ("annz", "u,g\n1,2\n", "does not start with a header such as"),
        ("annz", "#F:MAG_U;D:Z\n1,2\n", "no column 'MAG_G'"),
        ("zcosmos", "a,b\n1,2\n", "no column 'id_zcosmos'; columns: a, b"),
        ("sdss_colors", "u,g\n1,2\n", "no column 'r'"),
        ("rail", "u,g\n1,2\n", "no column 'mag_u_lsst'"),
    ],
)
def test_other_files_are_refused(tmp_path, reader, text, message):
    with pytest.raises(TableError, match=message):
        originals.READERS[reader]([write(tmp_path, "file.txt", text)])


def test_galaxy_zoo_2_fractions_plain_and_gzipped(tmp_path):
    metrics = {name: 0.1 * i for i, name in enumerate(GZ2_FRACTIONS)}
    rows = [{"objid": 587734948058431657, "classification": "spiral", "metrics": metrics}]
    plain, packed = tmp_path / "a.json", tmp_path / "a.json.gz"
    plain.write_text(json.dumps(rows))
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        table = READERS["gz2_fractions"]([path])
        assert table["id"][0] == 587734948058431657 and table["class"][0] == "spiral"
        assert table["t02_edgeon_a04_yes_debiased"][0] == pytest.approx(0.3)
    for damaged in ("[", "[1]", '[{"objid": 1}]'):
        plain.write_text(damaged)
        with pytest.raises(TableError, match="no list of galaxies with their fractions"):
            READERS["gz2_fractions"]([plain])


def test_spacewarps_from_npz(tmp_path):
    path = tmp_path / "s.npz"
    np.savez(path, images=np.zeros((3, 5, 5, 3), np.uint8), grade=[0.3, 1.0, 3.0], name=["a"] * 3, zooid=["b"] * 3)
    table = READERS["spacewarps"]([path])
    assert table["image"].shape == (3, 5, 5, 3) and list(table["grade"]) == [0.3, 1.0, 3.0]
    np.savez(path, grade=[0])
    with pytest.raises(TableError, match="does not hold images, name, zooid and grade"):
        READERS["spacewarps"]([path])


def test_mirabest_from_npz(tmp_path):
    path = tmp_path / "m.npz"
    np.savez(path, images=np.zeros((3, 5, 5), np.uint8), label=[0, 1, 1], code=[100, 200, 201])
    table = READERS["mirabest"]([path])
    assert table["image"].shape == (3, 5, 5) and list(table["label"]) == [0, 1, 1]
    np.savez(path, label=[0])
    with pytest.raises(TableError, match="does not hold images, label and code"):
        READERS["mirabest"]([path])
    path.write_bytes(b"PK nothing")
    with pytest.raises(TableError, match="does not hold images"):
        READERS["mirabest"]([path])


def test_miratitan_from_npz(tmp_path):
    path = tmp_path / "m.npz"
    spectra = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    np.savez(path, params=np.ones((2, 8)), k_invMpc=np.arange(1.0, 4.0), z=np.array([1.0, 0.0]), P_Mpc3=spectra)
    table = READERS["miratitan"]([path])
    assert table.colnames[0] == "omega_m_h2" and table["pk"].shape == (2, 2, 3)
    assert table.meta["z"].tolist() == [1.0, 0.0] and table.meta["k"].tolist() == [1.0, 2.0, 3.0]
    np.savez(path, params=np.ones((2, 8)))
    with pytest.raises(TableError, match="does not hold params, k_invMpc, z and P_Mpc3"):
        READERS["miratitan"]([path])


def test_convergence_map_with_its_chain_and_shifts(tmp_path):
    paths = [tmp_path / name for name in ("map.npy", "chain.npy", "shift.csv")]
    np.save(paths[0], np.ones((4, 4), np.float32))
    np.save(paths[1], np.ones((10, 2), np.float32))
    lines = [f"{i},{j},{10 * i + j}" for i in range(8) for j in range(8)]
    paths[2].write_text("\n".join(["a,b,c", *lines]))
    table = READERS["convergence_map"](paths)
    assert table["kappa"].shape == (1, 1, 4, 4) and table["chain"].shape == (1, 10, 2)
    assert table["shift"][0, 2, 5] == 25
    paths[2].write_text("a,b,c\n1,2,3\n")
    with pytest.raises(TableError, match="cannot read the map"):
        READERS["convergence_map"](paths)
