"""What tells that a file or folder is still the one that was seen."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fingerprint:
    """Of a folder: its inode, the sizes of its files, and the newest modification time of all it holds."""

    inode: int
    size_bytes: int
    mtime_ns: int


def fingerprint_of(path: Path) -> Fingerprint:
    """Of the file or folder itself, never of what a link points to. Raises FileNotFoundError."""
    status = path.lstat()
    is_folder = stat.S_ISDIR(status.st_mode)
    size_bytes, mtime_ns = 0 if is_folder else status.st_size, status.st_mtime_ns
    for parent, folders, files in os.walk(path) if is_folder else ():
        for name in folders + files:
            with contextlib.suppress(FileNotFoundError):
                member = os.lstat(os.path.join(parent, name))
                size_bytes += 0 if stat.S_ISDIR(member.st_mode) else member.st_size
                mtime_ns = max(mtime_ns, member.st_mtime_ns)
    return Fingerprint(status.st_ino, size_bytes, mtime_ns)
