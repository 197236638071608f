"""Model folders: whole or refused with a clear message, and nothing in them runs."""

import hashlib
import json
import os
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save as save_tensors
from torch import nn

from deepfield.core import store
from deepfield.core.errors import ModelError
from deepfield.core.store import META, WEIGHTS, Saved, load, restore, save, seal


def saved(shift: float = 0.0) -> Saved:
    weights = {"weight": torch.ones(3, 2) + shift, "bias": torch.arange(3.0)}
    return Saved("photoz", {"bands": ["g", "r"], "width": 3}, weights, {"nll": float("nan"), "rows": 10})


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "model", saved())


def rewrite(folder, **changes) -> None:
    """Change model.json and seal it again, as one who knows the format would."""
    meta = json.loads((folder / META).read_text()) | changes
    meta = {k: v for k, v in meta.items() if v is not ...}
    meta["sha256"] = seal(meta)
    (folder / META).write_text(json.dumps(meta))


def reweigh(folder, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    rewrite(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def test_what_is_loaded_is_what_was_saved(folder):
    found = load(folder, domain="photoz")
    assert found.domain == "photoz" and found.config == saved().config
    assert found.card == {"nll": None, "rows": 10}, "a number that is none becomes null"
    assert all(torch.equal(v, saved().weights[k]) for k, v in found.weights.items())
    assert sorted(p.name for p in folder.iterdir()) == [META, WEIGHTS]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model"]
    module = nn.Linear(2, 3)
    restore(module, found.weights)
    assert torch.equal(module.bias, torch.arange(3.0))


def test_saving_again_replaces_the_model_at_once(folder, monkeypatch):
    save(folder, saved(1.0))
    assert float(load(folder).weights["weight"][0, 0]) == 2.0
    # A write that fails before, or at, the exchange leaves the older model whole.
    with monkeypatch.context() as patch:
        patch.setattr(store.json, "dumps", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(OSError, match="disk full"):
            save(folder, saved(2.0))
    assert float(load(folder).weights["weight"][0, 0]) == 2.0
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("no such luck")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", replace)
        with pytest.raises(OSError, match="no such luck"):
            save(folder, saved(2.0))
    assert float(load(folder).weights["weight"][0, 0]) == 2.0
    assert [p.name for p in folder.parent.iterdir()] == ["model"]


def test_other_things_are_not_overwritten(tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("...")
    (tmp_path / "file").write_text("...")
    for target in (precious, tmp_path / "file"):
        with pytest.raises(
            ModelError, match="exists and is not a deepfield model; choose another --out or remove it"
        ):
            save(target, saved())
    assert (precious / "chapter1.tex").exists()
    (tmp_path / "empty").mkdir()
    save(tmp_path / "empty", saved())
    save(tmp_path / "deep" / "below" / "model", saved())


def test_what_is_not_plain_json_is_not_saved(tmp_path):
    with pytest.raises(TypeError):
        save(tmp_path / "model", Saved("photoz", {"function": print}, {}))
    assert list(tmp_path.iterdir()) == []


# -- folders that are not whole -----------------------------------------------------------------------------


def test_missing_folder(tmp_path):
    with pytest.raises(ModelError, match=r"no model at .*none: the folder does not exist"):
        load(tmp_path / "none")


def test_file_instead_of_a_folder(tmp_path):
    (tmp_path / "model").write_text("x")
    with pytest.raises(
        ModelError, match=r"is a file; a model is a folder with model\.json and weights\.safetensors"
    ):
        load(tmp_path / "model")


def test_missing_files(folder):
    (folder / WEIGHTS).unlink()
    with pytest.raises(ModelError, match=r"has no weights\.safetensors: the model is incomplete"):
        load(folder)
    (folder / META).unlink()
    with pytest.raises(ModelError, match=r"has no model\.json: it is not a deepfield model"):
        load(folder)


@pytest.mark.parametrize("length", [0, 1, 8, 100, -1])
def test_truncated_weights(folder, length):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[:length])
    with pytest.raises(ModelError, match=r"not what model\.json says it is: truncated or changed"):
        load(folder)
    reweigh(folder, content[:length])
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load(folder)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_any_flipped_byte_is_found(tmp_path_factory, data):
    folder = save(tmp_path_factory.mktemp("flip") / "model", saved())
    path = folder / data.draw(st.sampled_from([META, WEIGHTS]))
    content = bytearray(path.read_bytes())
    place, flip = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    before = load(folder)
    content[place] ^= flip
    path.write_bytes(content)
    try:
        after = load(folder)
    except ModelError:
        return
    # Only white space, or an escape for the same character, may differ.
    assert path.name == META and (after.config, after.card, after.domain) == (
        before.config,
        before.card,
        before.domain,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"is not JSON \(.*\): truncated or changed; copy the model again"),
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 10_000, "is not JSON"),
        ("[1, 2]", "holds a list, not an object; it is not a deepfield model"),
        ("null", "holds a NoneType, not an object"),
        ("{}", "names no format; it is not a deepfield model"),
        ('{"format": true}', "names no format"),
        ('{"format": "1"}', "names no format"),
        ('{"format": -3}', "names no format"),
        ('{"format": 1}', "lacks 'domain' or has it wrong"),
        ('{"format": 1, "domain": "photoz"}', "lacks 'config' or has it wrong"),
        ('{"format": 2}', "has format 2, this deepfield reads up to 1: upgrade deepfield"),
    ],
)
def test_model_json_that_is_none(folder, text, message):
    (folder / META).write_text(text)
    with pytest.raises(ModelError, match=message):
        load(folder)


def test_model_json_in_no_encoding(folder):
    (folder / META).write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(ModelError, match="is not JSON"):
        load(folder)


def test_huge_model_json(folder, monkeypatch):
    with (folder / META).open("r+b") as file:
        file.truncate(65 * 2**20)  # sparse: a size, no disk
    with pytest.raises(ModelError, match=r"has 68157440 bytes; no model\.json is that large"):
        load(folder)


@pytest.mark.parametrize("key", ["domain", "config", "card", "weights_sha256"])
@pytest.mark.parametrize("value", [..., None, 7])
def test_missing_and_wrong_keys(folder, key, value):
    rewrite(folder, **{key: value})
    with pytest.raises(ModelError, match=f"lacks '{key}' or has it wrong"):
        load(folder)


@pytest.mark.parametrize(
    "change", [{"config": {"width": 4}}, {"card": {"conformal": [0.1]}}, {"domain": "lensing"}]
)
def test_an_edited_model_json_is_found(folder, change):
    meta = json.loads((folder / META).read_text()) | change
    (folder / META).write_text(json.dumps(meta))
    with pytest.raises(ModelError, match=r"model\.json was changed after it was written"):
        load(folder)


def test_format_of_the_layout_does_not_matter(folder):
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps(meta, sort_keys=True, indent=7))
    load(folder)


def test_model_of_another_science(folder):
    with pytest.raises(ModelError, match="is a model of 'photoz', not of 'lensing'"):
        load(folder, domain="lensing")


# -- nothing runs -------------------------------------------------------------------------------------------


class Evil:
    def __init__(self, flag) -> None:
        self.flag = str(flag)

    def __reduce__(self):
        return (os.mkdir, (self.flag,))


@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_pickles_in_place_of_weights_do_not_run(folder, tmp_path, kind):
    flag = tmp_path / "ran"
    if kind == "pickle":
        content = pickle.dumps(Evil(flag))
    else:
        torch.save(Evil(flag), tmp_path / "evil.pt")
        content = (tmp_path / "evil.pt").read_bytes()
    reweigh(folder, content)
    with pytest.raises(ModelError, match="is not a safetensors file"):
        load(folder)
    assert not flag.exists()


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300) | st.binary(max_size=100).map(lambda b: len(b).to_bytes(8, "little") + b))
def test_garbage_weights(tmp_path_factory, content):
    folder = save(tmp_path_factory.mktemp("garbage") / "model", saved())
    reweigh(folder, content)
    try:
        weights = load(folder).weights
    except ModelError:
        return
    with pytest.raises(ModelError):
        restore(nn.Linear(2, 3), weights)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["format", "domain", "config", "card", "weights_sha256", "sha256"]), inner
        )
    ),
    max_leaves=15,
)


@settings(max_examples=80, deadline=None)
@given(
    content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(json.dumps).map(str.encode)
)
def test_garbage_model_json(tmp_path_factory, content):
    folder = save(tmp_path_factory.mktemp("garbage") / "model", saved())
    (folder / META).write_bytes(content)
    with pytest.raises(ModelError):
        load(folder)


# -- weights that do not fit --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.ones(3, 2)}, "the weights lack 1 tensors, first 'bias'"),
        (
            {"weight": torch.ones(3, 2), "bias": torch.ones(3), "extra": torch.ones(1)},
            "have 1 tensors that the model",
        ),
        (
            {"weight": torch.ones(2, 3), "bias": torch.ones(3)},
            r"'weight' has shape \(2, 3\), the configuration asks for \(3, 2\)",
        ),
        (
            {"weight": torch.full((3, 2), torch.nan), "bias": torch.ones(3)},
            "'weight' holds NaN or infinite values",
        ),
        ({"weight": torch.ones(3, 2), "bias": torch.full((3,), torch.inf)}, "'bias' holds NaN or infinite values"),
        ({}, "the weights lack 2 tensors"),
    ],
)
def test_weights_that_do_not_fit(folder, weights, message):
    reweigh(folder, save_tensors(weights))
    module = nn.Linear(2, 3)
    before = module.weight.clone()
    with pytest.raises(ModelError, match=message):
        restore(module, load(folder).weights)
    assert torch.equal(module.weight, before)


def test_a_model_that_comes_with_the_package_is_known_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "_PACKAGE", tmp_path)
    store.save(
        tmp_path / "anything" / "weights" / "first", store.Saved("anything", {"a": 1}, {"w": torch.ones(2)})
    )
    assert store.shipped() == {"first": tmp_path / "anything" / "weights" / "first"}
    assert store.load("first").config == {"a": 1}
    with pytest.raises(ModelError, match=r"no model at second: .*; models that come with deepfield: first"):
        store.load("second")
    monkeypatch.chdir(tmp_path)
    store.save("first", store.Saved("anything", {"a": 2}, {"w": torch.ones(2)}))
    assert store.load("first").config == {"a": 2}, "what lies in the user's folder goes before"
