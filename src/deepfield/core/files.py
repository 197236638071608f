"""Files that are whole or absent, never half-written; folders that one process has for itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from deepfield.core.errors import DeepfieldError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "lock"


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its name when the block ends well.

    The temporary name keeps the ending (``.parquet``), which many writers look at.

    Examples
    --------
    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with atomic(target) as temporary:
    ...     _ = temporary.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def exclusive(folder: str | os.PathLike[str], what: str) -> Iterator[Path]:
    """Make ``folder`` and keep it to this process within the block.

    The lock is the operating system's own, on a file inside (``flock``): it ends with the process, however that
    ends. Where there is none (Windows, some network file systems) the folder is not locked.

    Parameters
    ----------
    folder : path
        May be removed within the block, with the lock inside.
    what : str
        What is being written, for the message.

    Raises
    ------
    DeepfieldError
        If another process, or another thread, has the folder.

    Examples
    --------
    >>> import tempfile
    >>> with exclusive(Path(tempfile.mkdtemp()) / "parts", "'pz.parquet'") as folder:
    ...     sorted(p.name for p in folder.iterdir())
    ['lock']
    """
    place = Path(folder)
    with _locked(place, what):
        yield place


def _locked(place: Path, what: str) -> IO[str]:
    """The lock file, open and locked; closing it unlocks."""
    while True:
        place.mkdir(parents=True, exist_ok=True)
        try:
            file = (place / LOCK).open("a+")
        except FileNotFoundError:
            continue  # its last owner has removed the folder just now
        try:
            if fcntl:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = f" (number {number})" if (number := file.read().strip()) else ""
            file.close()
            raise DeepfieldError(
                f"{what} is being written by another process{owner}: wait for it, or write to another place"
            ) from None
        except OSError:
            pass  # a file system without locks, as some Lustre mounts are
        if _is(file, place / LOCK):
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            return file
        file.close()  # locked what its last owner has removed


def _is(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
