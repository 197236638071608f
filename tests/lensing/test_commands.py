from deepfield.data.images.read import read
from deepfield.lensing.commands import app


def test_simulate_writes_a_set(tmp_path, capsys):
    out = tmp_path / "set.hdf5"
    app(
        ["simulate", "--survey", "des", "-n", "30", "--size", "32", "--out", str(out)],
        result_action="return_value",
    )
    assert "30 images, 15 of them lenses" in capsys.readouterr().err
    found = read(out)
    assert len(found) == 30 and {"is_lens", "theta_e", "kind", "lens_mag_r"} <= set(found.table.colnames)
