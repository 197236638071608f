"""The field's metrics on densities whose scores are known."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from deepfield.core.calibrators import Conformal
from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.core.table import Table
from deepfield.photoz.export_qp import point_columns, write_qp
from deepfield.photoz.score import Metric, outlier_fraction, scaled_error, score, sigma_nmad


def toy(n=4000, sigma=0.02, seed=0):
    """Redshifts, and the densities from which their scatter was drawn."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(0.1, 0.9, n)
    mean = z + sigma * rng.standard_normal(n)
    one = np.ones((n, 1))
    table = Table({"z_spec": z, "mag_i": 18 + 4 * z, "id": np.arange(n)})
    return Prediction.mixture(one, mean[:, None], sigma * one), table


def test_definitions():
    z = np.array([0.0, 1.0, 3.0])
    np.testing.assert_allclose(scaled_error([0.1, 0.8, 3.4], z), [0.1, -0.1, 0.1])
    dz = np.random.default_rng(0).normal(0.01, 0.05, 100_000)
    assert sigma_nmad(dz) == pytest.approx(0.05, rel=0.01)
    assert outlier_fraction([0.1, -0.2, 0.15, 0.16]) == 0.5
    assert outlier_fraction(dz) == pytest.approx(stats.norm.sf(2.8) + stats.norm.sf(3.2), abs=5e-4)


def test_every_metric_of_a_well_specified_density():
    sigma = 0.02
    p, table = toy(sigma=sigma)
    found = score(p, table)
    dz = scaled_error(p.mean, table.column("z_spec"))
    assert found.n == len(table) and not found.n_missing and not found.n_without_truth
    assert found.bias == pytest.approx(dz.mean(), abs=1e-6)
    assert found.std == pytest.approx(dz.std(), rel=1e-4)
    assert found["sigma_nmad"] == pytest.approx(stats.median_abs_deviation(dz, scale="normal"), rel=1e-3)
    assert found.outlier_fraction == 0
    assert found.crps == pytest.approx(sigma / np.sqrt(np.pi), abs=4 * found.error("crps"))
    assert found.cde_loss == pytest.approx(-1 / (2 * np.sqrt(np.pi) * sigma), abs=4 * found.error("cde_loss"))
    entropy = 0.5 * np.log(2 * np.pi * np.e * sigma**2)
    assert found.log_likelihood == pytest.approx(-entropy, abs=4 * found.error("log_likelihood"))
    assert found.pit_ks < 1.63 / np.sqrt(len(table))
    for name, level in (("coverage_683", 0.683), ("coverage_955", 0.955)):
        assert found[name] == pytest.approx(level, abs=4 * found.error(name))
        assert found.error(name) == pytest.approx(np.sqrt(level * (1 - level) / len(table)), rel=0.2)


def test_bins_partition_the_sample():
    p, table = toy()
    found = score(p, table, bins={"z_spec": 4, "mag_i": [18, 20, 25], "z_phot": 3}, repeats=20)
    assert [row["n"] for row in found.bins["z_spec"]] == [1000] * 4
    assert sum(row["n"] for row in found.bins["mag_i"]) <= len(table)
    assert sum(row["n"] for row in found.bins["z_phot"]) == len(table)
    weights = [row["n"] for row in found.bins["z_spec"]]
    biases = [row["metrics"]["bias"].value for row in found.bins["z_spec"]]
    assert np.average(biases, weights=weights) == pytest.approx(found.bias, abs=1e-12)
    assert set(score(p, table, repeats=2).bins) == {"z_spec", "mag_i"}
    assert score(p, table, bins={}, repeats=2).bins == {}
    table["mag_i"][:100] = np.inf  # not detected: in no bin of finite edges, and no error
    assert sum(row["n"] for row in score(p, table, repeats=2).bins["mag_i"]) == len(table) - 100


def test_missing_rows_are_counted_and_hidden_nowhere():
    p, table = toy(n=300)
    features = p.features.clone()
    features[:7] = np.nan
    p = Prediction(p.head, features)
    table["z_spec"][5:10] = np.nan
    found = score(p, table, repeats=10)
    assert (found.n, found.n_missing, found.n_without_truth) == (290, 5, 5)
    assert "5 without a prediction" in str(found) and "5 without a truth" in str(found)
    features[:] = np.nan
    with pytest.raises(DeepfieldError, match="none of the 300 rows"):
        score(Prediction(p.head, features), table)


def test_densities_that_vanish_at_the_truth_are_counted():
    grid = np.linspace(0, 1, 11)
    p = Prediction.tabulated(grid, np.tile(stats.norm.pdf(grid, 0.5, 0.2), (3, 1)))
    found = score(p, np.array([0.5, 0.6, 1.4]), repeats=10)
    assert found.n_zero_density == 1 and found.log_likelihood == -np.inf
    assert found.to_dict()["metrics"]["log_likelihood"]["value"] is None
    json.dumps(found.to_dict(), allow_nan=False)
    assert "1 with no density at the truth" in str(found)


@pytest.mark.parametrize("form", ["prediction.parquet", "prediction.hdf5", "qp.hdf5", "plain.parquet", "table"])
def test_files_and_tables_give_the_same_numbers(tmp_path, form):
    p, table = toy(n=400)
    expected = score(p, table, repeats=10)
    columns = {"object_id": np.arange(400), **point_columns(p)}
    if form.startswith("prediction"):
        given = tmp_path / form
        p.write(given, columns)
    elif form == "qp.hdf5":
        given = tmp_path / form
        write_qp(p, given, ids=np.arange(400))
    elif form == "plain.parquet":
        given = tmp_path / form
        pq.write_table(pa.table(columns), given)
    else:
        given = Table(columns)
    found = score(given, table, repeats=10)
    for name, metric in found.metrics.items():
        assert metric.value == pytest.approx(expected[name], rel=1e-4, abs=1e-6)
    if form.startswith(("prediction", "qp")):
        assert set(found.metrics) == set(expected.metrics)
    else:
        assert list(found.metrics) == ["bias", "sigma_nmad", "outlier_fraction", "std", "coverage_683"]


def test_rows_are_matched_by_id():
    p, table = toy(n=200)
    columns = Table({"object_id": np.arange(200), **point_columns(p)})
    expected = score(columns, table, repeats=5)
    shuffled = table[np.random.default_rng(1).permutation(200)]
    assert score(columns, shuffled, repeats=5).to_dict() == expected.to_dict()
    assert score(columns[:50], table, repeats=5).n == 50
    with pytest.raises(DeepfieldError, match="10 of 200 predictions are not in the catalogue"):
        score(columns, table[10:])
    with pytest.raises(DeepfieldError, match="200 predictions for 190 catalogue rows"):
        score(columns[["zmode"]], table[10:])


def test_points_and_columns():
    p, table = toy(n=100)
    skewed = Prediction.mixture(
        np.tile([0.7, 0.3], (100, 1)), np.stack([p.mean, p.mean + 0.3], 1), np.full((100, 2), 0.03)
    )
    biases = [score(skewed, table, point=point, repeats=2, bins={}).bias for point in ("mode", "median", "mean")]
    assert biases[0] < biases[1] < biases[2]
    assert score(p, table.column("z_spec"), repeats=2).bins.keys() == {"z_spec"}
    with pytest.raises(DeepfieldError, match="mode, median, mean"):
        score(p, table, point="best")
    with pytest.raises(DeepfieldError, match="no column 'redshift'; there are z_spec, mag_i, id"):
        score(p, table, target="redshift")
    with pytest.raises(DeepfieldError, match="no column 'mag_r'"):
        score(p, table, bins={"mag_r": 3})
    with pytest.raises(DeepfieldError, match="only redshifts were given"):
        score(p, table.column("z_spec"), bins={"mag_r": 3})
    with pytest.raises(DeepfieldError, match="no column 'zmode': a"):
        score({"a": np.zeros(100)}, table)
    with pytest.raises(DeepfieldError, match="is scored, not int"):
        score(3, table)


def test_files_that_are_none(tmp_path):
    _, table = toy(n=10)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    (tmp_path / "a.hdf5").write_bytes(b"no")
    for name in ("a.parquet", "a.hdf5", "absent.parquet"):
        with pytest.raises(DeepfieldError, match=name):
            score(tmp_path / name, table)


def test_conformal_intervals_are_what_coverage_measures(tmp_path):
    p, table = toy(n=1000, seed=1)
    wide = Prediction(p.head, p.features, conformal=Conformal([np.linspace(0.9, 0.99, 50)]))
    found = score(wide, table, repeats=5)
    assert found.coverage_683 > 0.85 and found.coverage_955 > 0.96
    write_qp(wide, tmp_path / "pz.hdf5", ids=np.arange(1000))
    again = score(tmp_path / "pz.hdf5", table, repeats=5)
    assert again.coverage_683 == pytest.approx(found.coverage_683, abs=0.01)  # from the columns of the file
    few = Prediction(p.head, p.features, conformal=Conformal([np.linspace(0.1, 0.9, 9)]))
    assert "coverage_955" not in score(few, table, repeats=5).metrics


def test_it_reads_well():
    p, table = toy(n=500)
    found = score(p, table, repeats=20)
    text = str(found)
    assert text.startswith("500 galaxies, point estimate: mode") and "±" in text and "z_spec" in text
    assert str(Metric(0.017934, 0.00031)) == "0.01793 ± 0.00031"
    assert str(Metric(float("nan"), 1.0)) == "-"
    assert found.row(method="mixture")["method"] == "mixture"
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(AttributeError, match="no 'nmad'"):
        _ = found.nmad
    with pytest.raises(DeepfieldError, match="no metric 'nmad'"):
        found["nmad"]
    import copy
    import pickle

    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
