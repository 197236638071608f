"""Files that are whole or absent, folders that have one owner."""

import os
import shutil

import pytest

from deepfield.core import files
from deepfield.core.errors import DeepfieldError
from deepfield.core.files import atomic, exclusive


def test_atomic_leaves_the_old_file_if_the_block_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic(path) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    place = tmp_path / "deep" / "parts"
    with exclusive(place, "'pz'"):
        with pytest.raises(DeepfieldError) as refused, exclusive(place, "'pz'"):
            pass
        said = f"'pz' is being written by another process (number {os.getpid()}): wait for it, or write to another"
        assert str(refused.value).startswith(said)
    with exclusive(place, "'pz'"):  # free again
        assert (place / "lock").read_text() == str(os.getpid())


def test_an_owner_that_fails_lets_go(tmp_path):
    with pytest.raises(KeyboardInterrupt), exclusive(tmp_path / "parts", "'pz'"):
        raise KeyboardInterrupt
    with exclusive(tmp_path / "parts", "'pz'"):
        pass


def test_a_lock_on_what_was_removed_meanwhile_does_not_count(tmp_path, monkeypatch):
    # The last owner removes the folder between our opening the lock file and our locking it.
    place, whole, calls = tmp_path / "parts", files.fcntl.flock, []

    def flock(file, how):
        calls.append(how)
        if len(calls) == 1:
            shutil.rmtree(place)
        whole(file, how)

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with exclusive(place, "'pz'"):
        assert len(calls) == 2 and (place / "lock").read_text() == str(os.getpid())


def test_without_locks_the_folder_is_made_all_the_same(tmp_path, monkeypatch):
    def flock(file, how):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(files.fcntl, "flock", flock)
    with exclusive(tmp_path / "lustre", "'pz'") as folder:
        assert folder.is_dir()
    monkeypatch.setattr(files, "fcntl", None)
    with exclusive(tmp_path / "windows", "'pz'") as folder:
        assert folder.is_dir()
