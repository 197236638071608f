"""The files that other codes of the field read, through their own library."""

import warnings

import h5py
import numpy as np
import pytest

from deepfield import photoz
from deepfield.core.calibrators import Conformal, PITMap
from deepfield.core.errors import DeepfieldError
from deepfield.core.prediction import Prediction
from deepfield.photoz.export_qp import is_qp, point_columns, qp_writer, read_qp, write_qp
from deepfield.photoz.prediction import RedshiftPrediction

qp = pytest.importorskip("qp")
RNG = np.random.default_rng(0)
N = 50
W, M, S = RNG.dirichlet(np.ones(3), N), RNG.uniform(0.5, 1.4, (N, 3)), RNG.uniform(0.02, 0.1, (N, 3))
P = Prediction.mixture(W, M, S)
GRID = np.linspace(0, 2, 101)


def test_a_mixture_keeps_its_parameters(tmp_path):
    path = tmp_path / "pz.hdf5"
    write_qp(P, path, ids=np.arange(N) + 1000, extra={"mag_i": np.linspace(18, 24, N), "reason": [""] * N})
    ensemble = qp.read(str(path))
    assert ensemble.gen_class.name == "mixmod" and ensemble.npdf == N
    np.testing.assert_allclose(ensemble.objdata["means"], M, rtol=1e-6)
    np.testing.assert_allclose(ensemble.pdf(GRID), P.pdf(GRID), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ensemble.cdf(GRID), P.cdf(GRID[None]), atol=1e-5)
    assert ensemble.ancil["object_id"].tolist() == list(range(1000, 1000 + N))
    for name, values in point_columns(P).items():
        np.testing.assert_allclose(ensemble.ancil[name], values)
    assert {"mag_i", "reason"} <= set(ensemble.ancil)
    again, columns = read_qp(path)
    np.testing.assert_allclose(again.pdf(GRID), P.pdf(GRID), rtol=1e-4, atol=1e-5)
    assert columns["reason"].tolist() == [""] * N


def test_the_columns_agree_with_qp(tmp_path):
    write_qp(P, tmp_path / "pz.hdf5")
    ensemble = qp.read(str(tmp_path / "pz.hdf5"))
    fine = np.linspace(0, 2, 4001)
    np.testing.assert_allclose(ensemble.mode(fine).ravel(), ensemble.ancil["zmode"], atol=1e-3)
    mean = np.trapezoid(fine * ensemble.pdf(fine), fine, axis=1)
    np.testing.assert_allclose(mean, ensemble.ancil["zmean"], atol=1e-3)
    np.testing.assert_allclose(ensemble.cdf(ensemble.ancil["zmedian"][:, None]).ravel(), 0.5, atol=1e-4)
    spread = ensemble.cdf(ensemble.ancil["z_hi68"][:, None]) - ensemble.cdf(ensemble.ancil["z_lo68"][:, None])
    np.testing.assert_allclose(spread, 0.6827, atol=1e-4)


def test_rows_that_were_not_served_stay_in_their_place_and_spoil_no_other(tmp_path):
    w = W.copy()
    w[[3, 17]] = np.nan
    path = tmp_path / "pz.hdf5"
    write_qp(Prediction.mixture(w, M, S), path, ids=[f"galaxy {i}" for i in range(N)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # qp warns of NaN
        ensemble = qp.read(str(path))
        lost = np.isnan(ensemble.pdf(GRID)).all(1)
        medians = ensemble.median().ravel()
    assert np.flatnonzero(lost).tolist() == [3, 17]
    assert np.flatnonzero(np.isnan(ensemble.ancil["zmode"])).tolist() == [3, 17]
    assert ensemble.ancil["object_id"][17] == "galaxy 17"
    np.testing.assert_allclose(medians[~lost], P.median[~lost], atol=0.02)
    again, columns = read_qp(path)
    for values in (again.mean, again.median, again.interval(0.9)[0]):
        assert np.flatnonzero(np.isnan(values)).tolist() == [3, 17]
    assert columns["object_id"][3] == "galaxy 3"


def test_other_densities_are_given_on_their_own_points(tmp_path):
    recalibrated = Prediction.mixture(W, M, S, pit_map=PITMap([0, 0.3, 1], [2, 1, 0.5]))
    lost = Prediction.mixture(*(part[:1] * np.nan for part in (W, M, S)), pit_map=recalibrated.pit_map)
    write_qp(recalibrated, tmp_path / "pz.hdf5")
    ensemble = qp.read(str(tmp_path / "pz.hdf5"))
    assert ensemble.gen_class.name == "interp_irregular"
    points, density = ensemble.objdata["xvals"], ensemble.objdata["yvals"]
    np.testing.assert_allclose(density, np.exp(recalibrated.log_prob(points)), rtol=5e-3)
    # qp integrates and normalises by a one-sided rule, hence the loose tolerances
    np.testing.assert_allclose(ensemble.cdf(GRID), recalibrated.cdf(GRID[None]), atol=1e-2)
    again, _ = read_qp(tmp_path / "pz.hdf5")
    np.testing.assert_allclose(again.cdf(GRID[None]), recalibrated.cdf(GRID[None]), atol=3e-3)
    write_qp(Prediction.concatenate([recalibrated[:2], lost, recalibrated[:2]]), tmp_path / "lost.hdf5")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pdf = qp.read(str(tmp_path / "lost.hdf5")).pdf(GRID)
    assert np.isnan(pdf).any(1).tolist() == [False, False, True, False, False]
    np.testing.assert_allclose(pdf[:2], pdf[3:])


def test_files_of_other_codes_are_read(tmp_path):
    grid = np.linspace(0, 2, 301)
    data = {"xvals": grid, "yvals": P.pdf(grid)}
    qp.Ensemble(qp.interp, data=data, ancil={"zmode": P.mode[:, None]}).write_to(str(tmp_path / "a.hdf5"))
    prediction, columns = read_qp(tmp_path / "a.hdf5")
    np.testing.assert_allclose(prediction.mean, P.mean, atol=0.02)
    assert columns["zmode"].shape == (N,)
    bins = np.linspace(0, 2, 101)
    histogram = {"bins": bins, "pdfs": P.pdf(0.5 * (bins[1:] + bins[:-1]))}
    qp.Ensemble(qp.hist, data=histogram).write_to(str(tmp_path / "b.hdf5"))
    np.testing.assert_allclose(read_qp(tmp_path / "b.hdf5")[0].mean, P.mean, atol=0.03)


@pytest.mark.parametrize("pit_map", [None, PITMap([0, 0.3, 1], [2, 1, 0.5])], ids=["mixture", "on points"])
def test_the_ensemble_in_memory_is_the_one_of_the_file(tmp_path, pit_map):
    w = W.copy()
    w[4] = np.nan
    pz = RedshiftPrediction.mixture(w, M, S, pit_map=pit_map)
    beside = {"ids": [f"galaxy {i}" for i in range(N)], "extra": {"mag_i": np.linspace(18, 24, N)}}
    write_qp(pz, tmp_path / "pz.hdf5", **beside)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # qp warns of NaN
        written, made = qp.read(str(tmp_path / "pz.hdf5")), pz.to_qp(**beside)
        assert made.gen_class is written.gen_class and made.npdf == written.npdf == N
        np.testing.assert_array_equal(made.pdf(GRID), written.pdf(GRID))
        np.testing.assert_array_equal(made.cdf(GRID), written.cdf(GRID))
    assert set(made.ancil) == set(written.ancil)
    made.ancil["object_id"] = np.char.decode(made.ancil["object_id"])  # as qp does when it reads
    for name, values in written.ancil.items():
        np.testing.assert_array_equal(made.ancil[name], values)


def test_predictions_and_their_slices_go_to_qp(toy, model):
    pz = photoz.predict(model, toy(30, 5))
    for part in (pz, pz[10:20], RedshiftPrediction.concatenate([pz[:3], pz[7:9]])):
        made = part.to_qp()
        # qp tabulates nothing of a mixture: what it says is the density to single precision
        np.testing.assert_allclose(made.pdf(GRID), part.pdf(GRID), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(made.cdf(GRID), part.cdf(GRID[None]), atol=1e-5)
        np.testing.assert_array_equal(made.ancil["z_lo68"], part.interval(0.6827)[0])
        assert made.ancil["object_id"].tolist() == list(range(len(part)))
    np.testing.assert_allclose(photoz.to_qp(P).pdf(GRID), P.pdf(GRID), rtol=1e-4, atol=1e-5)


def test_chunks_make_the_same_file(tmp_path):
    names = np.array([f"g{10**i}" for i in range(5)] * 10)
    write_qp(P, tmp_path / "whole.hdf5", ids=names)
    with qp_writer(tmp_path / "parts.hdf5") as writer:
        for start in range(0, N, 3):
            writer.append(P[start : start + 3], ids=names[start : start + 3])
    assert writer.rows == N
    whole, parts = (qp.read(str(tmp_path / name)) for name in ("whole.hdf5", "parts.hdf5"))
    np.testing.assert_array_equal(whole.pdf(GRID), parts.pdf(GRID))
    for name in whole.ancil:
        np.testing.assert_array_equal(whole.ancil[name], parts.ancil[name])


def test_intervals_are_the_calibrated_ones(tmp_path):
    wide = Prediction.mixture(W, M, S, conformal=Conformal([np.linspace(0.001, 0.95, 500) ** 0.5]))
    columns = point_columns(wide)
    low, high = wide.interval(0.6827)
    np.testing.assert_array_equal(columns["z_lo68"], low)
    assert (columns["z_hi68"] - columns["z_lo68"] > point_columns(P)["z_hi68"] - point_columns(P)["z_lo68"]).all()
    assert (high > low).all()


def test_bad_calls_and_bad_files_say_what_is_wrong(tmp_path):
    with pytest.raises(DeepfieldError, match=r"should end in \.hdf5"):
        write_qp(P, tmp_path / "pz.fits")
    with pytest.raises(DeepfieldError, match="column 'x' has shape"):
        write_qp(P, tmp_path / "pz.hdf5", extra={"x": [1, 2]})
    with pytest.raises(DeepfieldError, match="neither numbers nor text"):
        write_qp(P, tmp_path / "pz.hdf5", extra={"x": np.zeros(N, dtype=complex)})
    assert not (tmp_path / "pz.hdf5").exists()
    with (
        pytest.raises(DeepfieldError, match=r"the same columns; .* and columns differ in x"),
        qp_writer(tmp_path / "pz.hdf5") as writer,
    ):
        writer.append(P)
        writer.append(P, extra={"x": np.zeros(N)})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "text.hdf5").write_text("no")
    assert not is_qp(tmp_path / "text.hdf5")
    for name in ("text.hdf5", "absent.hdf5"):
        with pytest.raises(DeepfieldError, match="not a qp ensemble"):
            read_qp(tmp_path / name)
    with h5py.File(tmp_path / "half.hdf5", "w") as file:
        file["meta/pdf_name"] = np.array([b"mixmod"])
        file["data/weights"] = W
    with pytest.raises(DeepfieldError, match="damaged qp ensemble"):
        read_qp(tmp_path / "half.hdf5")


def test_no_rows_at_all(tmp_path):
    write_qp(P[:0], tmp_path / "pz.hdf5")
    with h5py.File(tmp_path / "pz.hdf5") as file:
        assert file["data/means"].shape == (0, 3) and file["ancil/zmode"].shape == (0,)


def test_the_qp_form_is_named_where_it_cannot_be_read(tmp_path):
    pz = RedshiftPrediction.mixture([[1.0]], [[0.5]], [[0.1]])
    write_qp(pz, tmp_path / "pz.hdf5")
    with pytest.raises(DeepfieldError, match=r"pz\.hdf5 is the qp form .*: read it with qp\.read, score"):
        RedshiftPrediction.read(tmp_path / "pz.hdf5")
