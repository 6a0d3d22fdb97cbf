"""Files that are there whole or not at all: written aside in the same folder, fsynced, renamed.

Source of the order (file fsync, rename, folder fsync): measured power cuts on ext4, see docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # <fcntl.h>, <stdio.h>


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it replaces `path`, on any error it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The real suffix stays last: GDAL, safetensors and others look at it.
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}.tmp{path.suffix}")
    try:
        yield temporary
        fsync_file(temporary)
        os.replace(temporary, path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def name_once(source: Path, target: Path) -> None:
    """Give the file `source` the name `target`, never over what has it: raises FileExistsError then.

    By a hard link or, on a file system that has none (FAT, some network folders), by a rename that refuses to replace.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_refusing(source, target)


def _rename_refusing(source: Path, target: Path) -> None:
    """Source: renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE):
        code = ctypes.get_errno()
        text = "neither hard links nor a rename that refuses to replace" if code == errno.EINVAL else os.strerror(code)
        raise OSError(code, text, str(target))


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that it survives a power cut, also where somebody made it just before."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    try:
        fsync_folder(path.parent)
    except PermissionError:
        pass  # above one's own folders one may be allowed to pass only
    except OSError as error:
        if error.errno != errno.EROFS:  # where nothing can be written, nothing is left to sync
            raise


def fsync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
