import contextlib
import functools
import json
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deepfield.core.calibrators import Conformal, PITMap
from deepfield.core.errors import DeepfieldError
from deepfield.core.flow import Flow
from deepfield.core.heads import Categorical, ClassMixture, Ensemble, GaussianMixture, GaussianVector
from deepfield.core.prediction import Prediction
from deepfield.core.prediction_files import KEY, describe, read, rebuild

ENDINGS = (".parquet", ".hdf5", ".h5")


def predictions() -> dict[str, Prediction]:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    heads = {
        "net": GaussianMixture(3).fit_target(torch.randn(50) * 3 + 7),
        "flow": Flow(1, context=4, transforms=1, hidden=8).fit_target(torch.randn(50) * 3 + 7),
        "ensemble": Ensemble([GaussianMixture(1, shared_width=True), GaussianMixture(2)]),
        "classes": ClassMixture(2, 2),
        "vector": GaussianVector(2, rank=1),
        "categories": Categorical(3),
    }
    found = {name: Prediction(head, torch.randn(6, head.n_features)) for name, head in heads.items()}
    found["table"] = Prediction.tabulated(np.linspace(0, 2, 9), rng.uniform(size=(6, 9)))
    conformal = Conformal([np.linspace(0, 0.9, 99)] * 2, np.array([21.0]), "mag_i")
    found["calibrated"] = Prediction(
        heads["net"], torch.randn(6, 9), pit_map=PITMap([0.0, 0.5, 1.0], [1.5, 0.5, 1.5]), conformal=conformal,
        group=np.arange(6) % 2,
    )  # fmt: skip
    return found


@functools.cache
def written(name: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "p.parquet"
        predictions()[name].write(path)
        return path.read_bytes()


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("name", list(predictions()))
def test_what_is_read_is_what_was_written(tmp_path, name, ending):
    p = predictions()[name]
    p.features[2] = torch.nan
    path = tmp_path / f"p{ending}"
    p.write(path)
    again = Prediction.read(path)
    torch.testing.assert_close(again.features, p.features, equal_nan=True, rtol=0, atol=0)
    assert again.head.config == p.head.config
    for key, value in p.head.state_dict().items():
        assert torch.equal(value, again.head.state_dict()[key])
    if name == "vector":
        np.testing.assert_array_equal(again.mean, p.mean)
    elif name != "categories":
        np.testing.assert_array_equal(again.quantile([0.1, 0.5]), p.quantile([0.1, 0.5]))
        np.testing.assert_array_equal(again.interval(0.7), p.interval(0.7))
    assert (again.group is None) == (p.group is None)
    assert [f.name for f in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_further_columns_come_back(tmp_path, ending):
    p, path = predictions()["net"], tmp_path / f"p{ending}"
    columns = {"id": np.arange(6), "name": np.array(list("abcdef")), "z": np.linspace(0, 1, 6, dtype=np.float32)}
    p.write(path, columns)
    _, found = read(path)
    assert found.keys() == columns.keys()
    for key, values in columns.items():
        assert list(found[key]) == list(values)


@pytest.mark.parametrize("ending", ENDINGS)
def test_no_objects_are_kept(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    predictions()["net"][:0].write(path)
    assert len(Prediction.read(path)) == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_failed_write_leaves_the_old_file(tmp_path, ending):
    p, path = predictions()["net"], tmp_path / f"p{ending}"
    p.write(path)
    before = path.read_bytes()
    with pytest.raises(Exception):  # noqa: B017  (whatever the library makes of it)
        p.write(path, {"odd": np.array([object()] * 6, dtype=object)})
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_prediction_that_cannot_be_written(tmp_path):
    p = predictions()["net"]
    with pytest.raises(DeepfieldError, match=r"is written to \.parquet or \.hdf5, not to '.*p\.csv'"):
        p.write(tmp_path / "p.csv")
    with pytest.raises(DeepfieldError, match="column 'features' is reserved or has not 6 rows"):
        p.write(tmp_path / "p.parquet", {"features": np.zeros(6)})
    with pytest.raises(DeepfieldError, match="column 'z' is reserved or has not 6 rows"):
        p.write(tmp_path / "p.parquet", {"z": np.zeros(5)})


def test_a_file_that_is_no_prediction(tmp_path):
    with pytest.raises(DeepfieldError, match=r"no prediction at .*: the file does not exist"):
        Prediction.read(tmp_path / "none.parquet")
    text = tmp_path / "p.csv"
    text.write_text("z\n1\n")
    with pytest.raises(DeepfieldError, match=r"is read from \.parquet or \.hdf5"):
        Prediction.read(text)
    for ending in ENDINGS:
        path = tmp_path / f"garbage{ending}"
        path.write_bytes(b"not at all")
        with pytest.raises(DeepfieldError, match="holds no deepfield prediction, or is damaged"):
            Prediction.read(path)
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"z": [1.0]}), other)
    with pytest.raises(DeepfieldError, match="holds no deepfield prediction"):
        Prediction.read(other)
    with h5py.File(tmp_path / "other.hdf5", "w") as file:
        file["z"] = [1.0]
    with pytest.raises(DeepfieldError, match="holds no deepfield prediction"):
        Prediction.read(tmp_path / "other.hdf5")


def test_features_of_another_kind_are_refused(tmp_path):
    note = {KEY: describe(predictions()["net"])}
    for number, column in enumerate((pa.array([1.0, 2.0]), pa.array(["a", "b"]), pa.array([[1.0], [2.0, 3.0]]))):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"features": column}).replace_schema_metadata(note), path)
        with pytest.raises(DeepfieldError):
            Prediction.read(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_truncated_files(tmp_path, ending):
    path = tmp_path / f"p{ending}"
    predictions()["flow"].write(path)
    content = path.read_bytes()
    for share in (0.0, 0.3, 0.9, 0.999):
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DeepfieldError):
            Prediction.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "format 2, newer than this deepfield: upgrade"),
        ({"format": "x"}, "description is damaged"),
        ({"head": {"head": "Evil"}}, "unknown head 'Evil'"),
        ({"head": {"head": "GaussianMixture", "components": 10**9}}, "absurd"),
        ({"head": {"head": "GaussianMixture", "components": 4}}, "description is damaged"),
        ({"head": None}, "described by an object"),
        ({"state": ""}, "description is damaged"),
        ({"state": 3}, "description is damaged"),
        ({"pit_map": {"knots": [0, 1]}}, "damaged"),
        ({"conformal": [1]}, "damaged"),
    ],
)
def test_tampered_descriptions(change, message):
    p = predictions()["net"]
    content = json.loads(describe(p)) | change
    with pytest.raises(DeepfieldError, match=message):
        rebuild(json.dumps(content), p.features, None)
    for key in content:
        with pytest.raises(DeepfieldError):
            rebuild(json.dumps({k: v for k, v in content.items() if k != key} | {"format": 1}), None, None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                ["format", "head", "state", "pit_map", "conformal", "components", "members", "grid"]), inner),
            max_leaves=12,
        ).map(json.dumps),
    )
)  # fmt: skip
def test_no_description_does_worse_than_a_clear_error(content):
    with pytest.raises(DeepfieldError):
        rebuild(content, np.zeros((1, 3)), None)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.floats(0, 1, width=32), byte=st.integers(0, 255))
def test_a_changed_byte_is_an_answer_or_a_clear_error(tmp_path_factory, place, byte):
    path = tmp_path_factory.mktemp("byte") / "p.parquet"
    content = bytearray(written("net"))
    content[int(place * (len(content) - 1))] = byte
    path.write_bytes(content)
    with contextlib.suppress(DeepfieldError):
        Prediction.read(path)
