"""Files that are there whole or not at all: written aside in the same folder, fsynced, renamed.

Source of the order (file fsync, rename, folder fsync): measured power cuts on ext4, see docs/reliability.md.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


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


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, so that it survives a power cut, also where somebody made it just before."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
    with contextlib.suppress(PermissionError):  # above one's own folders one may be allowed to pass only
        fsync_folder(path.parent)


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
