"""Folders of one process, which keeps a file in each of them locked while it lives.

The kernel lets go of a lock when its process is gone, whatever ended it, whatever its number, and whichever container
it ran in. So what a killed process left is told from what a living one works in, and removed by the next one that
comes there. Source: flock(2).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

MARK = ".sarwater-owner"
PREFIX = "sarwater-scratch-"


def make_owned_folder(parent: Path, prefix: str, suffix: str = "") -> tuple[Path, BinaryIO]:
    """A new folder in `parent`, and what keeps it from `drop_abandoned` while it is open. Raises OSError."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=suffix, dir=parent))
        with contextlib.suppress(FileNotFoundError):  # whoever drops took it for a leftover just now
            owner = (folder / MARK).open("xb")
            _share(owner)
            if (folder / MARK).exists():
                return folder, owner
            owner.close()


def owner_of(folder: Path) -> BinaryIO | None:
    """For a process that `folder` is handed to while the one before still has it; None where nobody can own it."""
    try:
        owner = (folder / MARK).open("rb+")
    except OSError:
        return None
    _share(owner)
    return owner


def drop_abandoned(folders: Iterable[Path], sole: bool = False) -> int:
    """Remove those that no living process has, and return how many that were. `sole` is for the one process that may
    work there: it also removes what has no mark, or lies where nothing can be locked."""
    return sum(_drop(path, sole) for path in folders if path.is_dir() and not path.is_symlink())


@contextlib.contextmanager
def scratch_folder(parent: Path | None = None) -> Iterator[Path]:
    """A folder in `parent`, by default where temporary files go (TMPDIR), that is gone afterwards; MARK is in it. What
    killed processes of this user left there goes first. Raises OSError where it cannot be made."""
    parent = parent or Path(tempfile.gettempdir())
    parent.mkdir(parents=True, exist_ok=True)
    drop_abandoned(path for path in parent.glob(f"{PREFIX}*") if path.lstat().st_uid == os.geteuid())
    folder, owner = make_owned_folder(parent, PREFIX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        owner.close()


def _share(owner: BinaryIO) -> None:
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(owner, fcntl.LOCK_SH)


def _drop(folder: Path, sole: bool) -> bool:
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(folder / MARK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError:
            if not sole:
                return False
        shutil.rmtree(folder, ignore_errors=True)
    return True
