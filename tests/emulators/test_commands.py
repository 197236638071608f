"""The verbs on the command line."""

import json

import numpy as np
import pytest

from deepfield import data
from deepfield.cli import main
from deepfield.core.table import Table
from deepfield.data import files
from deepfield.emulators import WidePower

COSMOLOGY = ["--omega-m", ".31", "--omega-b", ".049", "--h", ".67", "--n-s", ".965", "--sigma-8", ".81"]


def test_power_writes_a_table(tmp_path, power, capsys):
    out = tmp_path / "pk.csv"
    assert main(["emulators", "power", *COSMOLOGY, "--z", "0,1", "--nk", "50", "--out", str(out)]) == 0
    table = files.read(out)
    assert table.colnames == ["z", "k", "power", "relative_error"] and len(table) == 100
    cosmology = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.67, "n_s": 0.965, "sigma_8": 0.81}
    k = table.column("k")[:50]
    assert table.column("power")[50:] == pytest.approx(power(cosmology, k, 1.0), rel=1e-6)
    assert "100 values of P(k, z)" in capsys.readouterr().out


def test_power_is_nonlinear_if_asked(tmp_path, power):
    out = tmp_path / "pk.csv"
    assert main(["emulators", "power", *COSMOLOGY, "--nk", "20", "--nonlinear", "--out", str(out)]) == 0
    table = files.read(out)
    cosmology = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.67, "n_s": 0.965, "sigma_8": 0.81}
    boost = table.column("power") / power(cosmology, table.column("k"))
    assert boost[0] == pytest.approx(1, abs=1e-3) and boost[-1] > 5


@pytest.mark.parametrize(
    "change, message",
    [
        (["--z", "0,x"], "--z takes numbers with commas"),
        (["--z", "5"], "z = 5.0 is outside"),
        (["--kmin", "2", "--kmax", "1"], "wavenumbers go from kmin up to kmax"),
        (["--h", "1.5"], "h = 1.5 is outside the emulator's range, 0.5 to 0.9"),
    ],
)
def test_power_says_what_is_wrong(change, message, tmp_path, capsys):
    words = ["emulators", "power", *COSMOLOGY, "--out", str(tmp_path / "pk.csv")]
    if change[0] in words:
        words[words.index(change[0]) + 1] = change[1]
    else:
        words += change
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_power_of_a_wide_cosmology(tmp_path):
    out, extra = tmp_path / "pk.csv", ["--m-nu", ".1", "--w-0", "-.9", "--nonlinear", "--log-t-agn", "7.8"]
    assert main(["emulators", "power", *COSMOLOGY, *extra, "--z", "0,1", "--nk", "20", "--out", str(out)]) == 0
    table = files.read(out)
    cosmology = {"omega_m": 0.31, "omega_b": 0.049, "h": 0.67, "n_s": 0.965, "sigma_8": 0.81}
    wide = WidePower(nonlinear=True)(
        {**cosmology, "m_nu": 0.1, "w_0": -0.9, "log_t_agn": 7.8}, table["k"][:20], [0, 1]
    )
    assert table.column("power") == pytest.approx(wide.ravel(), rel=1e-6)
    assert (table.column("relative_error") > 0).all()


def test_cmb_writes_a_table(tmp_path, capsys):
    words = ["--omega-b-h2", ".0224", "--omega-c-h2", ".12", "--h", ".674", "--tau", ".054", "--n-s", ".965"]
    out = tmp_path / "cl.csv"
    assert main(["emulators", "cmb", *words, "--ln-a-s", "3.044", "--out", str(out)]) == 0
    table = files.read(out)
    assert table.colnames == ["l", "tt", "te", "ee", "pp", "tt_std", "te_std", "ee_std", "pp_std"]
    assert len(table) == 2499 and table.column("l")[table.column("tt").argmax()] == pytest.approx(220, abs=2)
    assert (table.column("tt_std") > 0).all()
    assert main(["emulators", "cmb", *words, "--ln-a-s", "4", "--out", str(out)]) == 2
    assert "ln_a_s = 4 is outside" in capsys.readouterr().err


def test_train_predict_score(tmp_path, capsys):
    x = np.random.default_rng(0).uniform(0.5, 1, (40, 2))
    y = np.exp(-x[:, :1] * np.linspace(0, 2, 10)) * (1 + x[:, 1:])
    table = Table({"a": x[:, 0], "b": x[:, 1], **{f"y{i}": c for i, c in enumerate(y.T)}})
    data.write(table, tmp_path / "sims.parquet")
    words = ["emulators", "train", str(tmp_path / "sims.parquet"), "--inputs", "a,b", "--outputs", "y*"]
    assert main([*words, "--out", str(tmp_path / "model"), "--components", "3"]) == 0
    assert "error on simulations left out" in capsys.readouterr().out
    assert main(["emulators", "score", str(tmp_path / "model"), str(tmp_path / "sims.parquet"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["median"] < 0.01 and "it was trained on" in said.err
    out = tmp_path / "out.hdf5"
    assert (
        main(["emulators", "predict", str(tmp_path / "model"), str(tmp_path / "sims.parquet"), "--out", str(out)])
        == 0
    )
    assert main([*words[:3], "--inputs", "a,z", "--outputs", "y*", "--out", str(tmp_path / "m2")]) == 2
    assert "no column fits 'z'" in capsys.readouterr().err
