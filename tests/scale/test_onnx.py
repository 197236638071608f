import copy
import sys

import numpy as np
import pytest
import torch
from torch import nn

from deepfield.core.errors import DeepfieldError, MissingExtraError, ModelError
from deepfield.core.flow import Flow
from deepfield.core.heads import ClassMixture, GaussianMixture
from deepfield.core.model import Model, ensemble
from deepfield.core.nets import ResidualMLP
from deepfield.scale import onnx as exporter
from deepfield.scale.onnx import MixtureParameters, OnnxMixture, export

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


def build(head, seed: int = 0) -> Model:
    torch.manual_seed(seed)
    rows = torch.randn(100) * 0.3 + 1
    head.fit_target(torch.stack([rows, torch.arange(100) % 2], 1) if isinstance(head, ClassMixture) else rows)
    return Model(ResidualMLP(4, head.n_features, width=16, blocks=1), head).eval()


MODELS = {
    "mixture": lambda: build(GaussianMixture(3)),
    "regression": lambda: build(GaussianMixture(1, shared_width=True)),
    "classes": lambda: build(ClassMixture(2, 2)),
    "ensemble": lambda: ensemble([build(GaussianMixture(2), s) for s in range(3)]),
}


def inputs(n: int = 257) -> torch.Tensor:
    x = torch.randn(n, 4, generator=torch.Generator().manual_seed(1))
    x[::5, 1] = torch.nan  # missing bands
    x[3] = torch.nan
    return x


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("onnx")
    for name, make in MODELS.items():
        export(make(), folder / f"{name}.onnx", n_inputs=4, card={"name": name})
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_export_says_what_torch_says(exported, name):
    model, runtime, x = MODELS[name](), OnnxMixture(exported / f"{name}.onnx"), inputs()
    with torch.no_grad():
        wanted = MixtureParameters(model)(x).numpy()
    np.testing.assert_allclose(runtime(x.numpy()), wanted, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(wanted.reshape(len(x), 3, -1)[:, 0].sum(1), 1, rtol=1e-5)
    here, there = model.predict(x), runtime.predict(x)
    for ask in (
        lambda p: p.mean,
        lambda p: p.std,
        lambda p: p.quantile([0.16, 0.84]),
        lambda p: p.log_prob([1.0]),
    ):
        np.testing.assert_allclose(ask(there), ask(here), atol=1e-4)
    assert runtime.card == {"name": name}


@pytest.mark.parametrize("block", [4096, 100, 257])
def test_any_number_of_rows(exported, monkeypatch, block):
    runtime, x = OnnxMixture(exported / "mixture.onnx"), inputs()
    whole = runtime(x.numpy())
    monkeypatch.setattr(exporter, "BLOCK", block)
    for n in (0, 1, 2, 100, 257):
        found = runtime(x[:n].numpy())
        assert found.shape == (n, 9)
        np.testing.assert_allclose(found, whole[:n], atol=1e-6)


def test_export_does_not_change_the_model(tmp_path):
    model = build(GaussianMixture(2))
    before = copy.deepcopy(model.state_dict())
    export(model, tmp_path / "m.onnx", n_inputs=4)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert OnnxMixture(tmp_path / "m.onnx").card == {}


def test_only_mixtures_are_exported(tmp_path):
    model = Model(nn.Linear(4, 4), Flow(1, context=4, transforms=1, hidden=8))
    with pytest.raises(DeepfieldError, match="only Gaussian mixtures are exported; this model's head is a Flow"):
        export(model, tmp_path / "m.onnx", n_inputs=4)
    assert list(tmp_path.iterdir()) == []


def test_missing_libraries_are_named(tmp_path, monkeypatch, exported):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepfield\[onnx\]'"):
        OnnxMixture(exported / "mixture.onnx")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingExtraError, match=r"this needs 'onnxscript'"):
        export(build(GaussianMixture(2)), tmp_path / "m.onnx", n_inputs=4)


def test_files_that_are_no_model(tmp_path, exported):
    with pytest.raises(ModelError, match=r"no ONNX model at .*none\.onnx: the file does not exist"):
        OnnxMixture(tmp_path / "none.onnx")
    content = (exported / "mixture.onnx").read_bytes()
    for garbage in (b"", b"garbage", content[: len(content) // 2]):
        (tmp_path / "g.onnx").write_bytes(garbage)
        with pytest.raises(ModelError, match=r"is not an ONNX model|was not written by deepfield export"):
            OnnxMixture(tmp_path / "g.onnx")


@pytest.mark.parametrize("card", [None, "not json", "[1, 2]", "null"])
def test_models_of_others(tmp_path, exported, card):
    graph = onnx.load(exported / "mixture.onnx")
    del graph.metadata_props[:]
    if card is not None:
        entry = graph.metadata_props.add()
        entry.key, entry.value = exporter.CARD, card
    onnx.save(graph, tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="was not written by deepfield export, or its card is damaged"):
        OnnxMixture(tmp_path / "m.onnx")


def test_rows_of_another_width(exported):
    runtime = OnnxMixture(exported / "mixture.onnx")
    for shape in ((5, 3), (5,), (2, 4, 1)):
        with pytest.raises(ModelError, match="takes rows of 4 numbers, got an array of shape"):
            runtime(np.zeros(shape, np.float32))
