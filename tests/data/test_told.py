"""Column names on the command line."""

import json

import pytest

from deepfield.core.errors import TableError
from deepfield.data._told import told


def test_pairs_and_a_file_say_the_same(tmp_path):
    pairs = {
        "mag_g": "G = MAG",
        "mag_err_g": "G ERR",
        "flux_r": ("F:r", "uJy"),
        "flux_i": ("F", "zp:27.5"),
        "id": "N",
    }
    path = tmp_path / "map.json"
    path.write_text(json.dumps(pairs))
    text = "mag_g=G = MAG, mag_err_g=G ERR,flux_r=F:r:uJy,flux_i=F:zp:27.5,id=N,"
    assert told(text) == told(str(path)) == pairs
    assert told("mag_g=G:uJy") == {"mag_g": "G:uJy"}, "a magnitude has no unit"


def test_nothing_and_presets_stay():
    assert told("") is None and told("des") == "des"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mag_g=G,sdss", "'sdss' among the column names is no pair such as mag_g=G_MAG"),
        ("mag_g=", "'mag_g=' among the column names is no pair"),
        ("redshift=Z", "'redshift' is not a standard name of a column: it is mag_<band>"),
        ("id=A,id=B", "the column of 'id' is given twice"),
        ("nowhere.json", "cannot read the column names in 'nowhere.json': no such file"),
    ],
)
def test_what_is_not_understood(text, message):
    with pytest.raises(TableError, match=message):
        told(text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds no object of column names"),
        ('{"mag_g": 3}', "mag_g needs a column name, or .name, unit., not 3"),
        ('{"flux_g": ["a", "uJy", "b"]}', "flux_g needs a column name"),
    ],
)
def test_a_file_that_holds_anything_else(tmp_path, content, message):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(TableError, match=message):
        told(f"{tmp_path}/m.json")
