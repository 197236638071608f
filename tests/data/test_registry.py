import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepfield import data
from deepfield.core.errors import DataError
from deepfield.core.table import Table
from deepfield.data import files, registry
from deepfield.data.originals import READERS
from deepfield.data.registry import Compact, RemoteFile

MLZ = "".join(
    f"0.{i} 20.{i} 18.2 17.3 16.4 15.5 1 1 1 1 0.05 0.01 0.01 0.01 0.01 0.1 0.1 0.1 0.1\n" for i in range(1, 10)
)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture
def world(tmp_path, monkeypatch):
    """One registered data set in a world of its own: an empty cache, an empty DEEPFIELD_DATA, no network."""
    local, cache, web = (tmp_path / name for name in ("local", "cache", "web"))
    for folder in (local, cache, web):
        folder.mkdir()
    (web / "s.train").write_text(MLZ)
    table = READERS["mlz"]([web / "s.train"])
    files.write(table[::2], web / "toy.parquet")
    entry = replace(
        data.dataset("sdss_mgs"),
        name="toy",
        files=(RemoteFile("https://example.org/abc/s.train"),),
        compact=Compact("photoz/toy.parquet", sha256(web / "toy.parquet"), 0, 5, subset=True),
        fingerprint=tuple(registry.fingerprint(table, "ugriz", [0, 4, 8])),
    )
    known = {"toy": entry}
    monkeypatch.setattr(registry, "_registry", lambda: known)
    monkeypatch.setattr(registry, "cache_folder", lambda name: cache / name)
    monkeypatch.setenv("DEEPFIELD_DATA", str(local))
    fetched = []

    def retrieve(url, known_hash, fname, path, progressbar):
        fetched.append(url)
        source = web / fname
        if not source.exists():
            raise ConnectionError("no network")
        if known_hash and known_hash != f"sha256:{sha256(source)}":
            raise ValueError("hash mismatch")
        target = Path(path) / fname
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(source.read_bytes())
        return str(target)

    monkeypatch.setattr("pooch.retrieve", retrieve)

    class World:
        pass

    World.local, World.cache, World.web, World.known, World.fetched = local, cache, web, known, fetched
    return World


def place(world, name="photoz/toy.parquet"):
    target = world.local / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((world.web / Path(name).name).read_bytes())
    return target


def test_every_entry_is_complete():
    names = [entry.name for entry in data.list_datasets()]
    assert len(set(names)) == len(names) >= 5
    for entry in data.list_datasets():
        assert entry.content in ("photometry", "images", "votes", "measurements", "spectra", "maps")
        assert entry.citation and entry.licence and entry.home
        assert entry.files or entry.content in ("images", "spectra")
        assert entry.reader in READERS or (not entry.files and entry.compact.path.endswith(".parquet"))
        assert re.fullmatch("[0-9a-f]{7,40}", entry.commit)
        assert entry.rows > 0 and (entry.files if entry.compact is None else entry.compact.rows == entry.rows)
        assert entry.compact is None or re.fullmatch("[0-9a-f]{64}", entry.compact.sha256)
        assert all(f.url.startswith("https://raw.githubusercontent.com/") for f in entry.files)
        assert all(f"/{entry.commit}/" in f.url for f in entry.files)
        assert all(file.sha256 for file in entry.files) or len(entry.fingerprint) > 10
        assert entry.citation in data.cite(entry.name) and entry.home in data.cite(entry.name)


def test_unknown_name():
    with pytest.raises(DataError, match=r"no data set 'sdss_mgz'; did you mean 'sdss_mgs'\? data sets: "):
        data.get("sdss_mgz")


def test_the_local_folder_comes_first(world):
    path = place(world)
    assert data.available("toy")
    assert data.get("toy") == (path,)
    table = data.load("toy")
    assert len(table) == 5 and table.meta["form"] == "compact" and table.meta["dataset"] == "toy"
    assert table.meta["bands"] == ("u", "g", "r", "i", "z") and not world.fetched


def test_an_original_of_many_files_is_not_fetched_one_by_one(world):
    world.known["toy"] = replace(world.known["toy"], files=())
    assert not data.available("toy")
    with pytest.raises(DataError, match="its original is many files at https:"):
        data.get("toy")
    place(world)
    assert len(data.load("toy")) == 5 and not world.fetched


def test_images_and_votes_keep_their_own_columns(world):
    world.known["toy"] = replace(world.known["toy"], content="votes", bands=())
    place(world)
    table = data.load("toy")
    assert table.meta["bands"] == () and "reading" not in table.meta and "mag_u" in table.colnames


def test_originals_in_the_local_folder(world):
    place(world, "toy/s.train")
    table = data.load("toy")
    assert len(table) == 9 and table.meta["form"] == "original" and not world.fetched


def test_a_download_is_verified_by_its_contents_and_remembered(world):
    assert not data.available("toy")
    paths = data.get("toy", progress=False)
    assert paths == (world.cache / "toy" / "s.train",) and len(world.fetched) == 1
    note = world.cache / "toy" / "s.train.sha256"
    assert note.read_text().strip() == sha256(paths[0])
    assert data.available("toy") and len(data.load("toy")) == 9 and len(world.fetched) == 1
    paths[0].write_text(MLZ + MLZ)
    with pytest.raises(DataError, match=r"is not the registered file .*: delete it and fetch it again"):
        data.load("toy")


def test_a_download_with_other_contents_is_refused(world):
    (world.web / "s.train").write_text(MLZ.replace("20.5", "21.5"))
    with pytest.raises(DataError, match="1 of 3 known rows are not in it: the files are not the registered"):
        data.get("toy")
    (world.web / "s.train").write_text(MLZ[: len(MLZ) // 3])
    (world.cache / "toy" / "s.train").unlink()
    with pytest.raises(DataError, match="3 rows were read, at least 5 are in it"):
        data.get("toy")


def test_a_download_is_checked_against_a_registered_sha256(world):
    entry = world.known["toy"]
    world.known["toy"] = replace(entry, files=(replace(entry.files[0], sha256="0" * 64),))
    with pytest.raises(DataError, match=r"https://example.org/abc/s.train is not the registered file"):
        data.get("toy")
    world.known["toy"] = replace(entry, files=(replace(entry.files[0], sha256=sha256(world.web / "s.train")),))
    assert len(data.load("toy")) == 9


def test_a_damaged_compact_file_is_refused(world):
    path = place(world)
    path.write_bytes(path.read_bytes()[:-10] + bytes(10))
    with pytest.raises(DataError, match=r"'.*toy\.parquet' is not the registered file"):
        data.load("toy")


def test_a_web_page_in_place_of_the_file_is_refused(world):
    (world.web / "s.train").write_text("<!DOCTYPE html>\n")
    with pytest.raises(DataError, match="data set 'toy': "):
        data.get("toy")


def test_offline_with_neither_says_what_to_do(world):
    (world.web / "s.train").unlink()
    message = (
        r"data set 'toy' is not at hand and https://example\.org/abc/s\.train cannot be fetched "
        r"\(ConnectionError\): with a network try again, without one set DEEPFIELD_DATA to a folder that holds "
        r"photoz/toy\.parquet"
    )
    with pytest.raises(DataError, match=message):
        data.load("toy")


def test_a_wrong_folder_is_named(world, monkeypatch):
    monkeypatch.setenv("DEEPFIELD_DATA", "/no/such/folder")
    with pytest.raises(DataError, match="DEEPFIELD_DATA names '/no/such/folder', which is not a folder"):
        data.get("toy")


def test_fingerprint_does_not_depend_on_the_precision_of_the_columns():
    single = Table({"mag_r": np.array([20.25], dtype="f4"), "z_spec": [0.1]})
    double = Table({"mag_r": [20.25], "z_spec": [0.1]})
    assert registry.fingerprint(single, "r") == registry.fingerprint(double, "r")


@pytest.mark.parametrize("name", [entry.name for entry in data.list_datasets()])
def test_the_real_compact_form_is_what_is_registered(name):
    """Runs where the data are at hand."""
    try:
        at_hand = data.available(name)
    except DataError:
        at_hand = False
    if not at_hand:
        pytest.skip("not at hand")
    entry, table = data.dataset(name), data.load(name)
    assert len(table) >= entry.rows and table.meta["bands"] == entry.bands
    if entry.content != "photometry":
        return
    assert all(f"mag_{band}" in table.colnames for band in entry.bands)
    assert np.isfinite(table.column("z_spec")).all()
    if table.meta["form"] == "compact":
        assert len(table) == entry.rows
        assert set(entry.fingerprint) <= set(registry.fingerprint(table, entry.bands))
