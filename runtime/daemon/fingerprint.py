"""What tells that a file or folder is still the one that was seen."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.daemon.item import ItemError, looking_at

_MAX_DEPTH = 32
_MAX_ENTRIES = 2000


@dataclass(frozen=True)
class Fingerprint:
    """Of a folder: its inode, the sizes of its files, and the newest times of all it holds."""

    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int = 0
    """Nobody can set it back, unlike `mtime_ns`."""
    device: int = 0

    def moved_to(self, path: Path) -> Fingerprint:
        """The fingerprint at `path`, to which the item was moved: that changes `ctime_ns` and nothing else. Where
        something else changed, or nothing can be seen, it stays what it was, and the next comparison tells."""
        try:
            with looking_at(path.name):
                found = fingerprint_of(path)
        except (FileNotFoundError, ItemError):
            return self
        return found if replace(found, ctime_ns=self.ctime_ns, device=self.device) == self else self


def fingerprint_of(path: Path) -> Fingerprint:
    """Of the file or folder itself, never of what a link points to.

    Raises FileNotFoundError; OSError for what may not be looked at; ValueError for a folder that is no product: deeper
    than 32 folders, or with more than 2,000 entries.
    """
    status = path.lstat()
    found = fingerprint_of_status(status)
    if not stat.S_ISDIR(status.st_mode):
        return found
    size_bytes, mtime_ns, ctime_ns, entries = 0, found.mtime_ns, found.ctime_ns, 0
    for parent, folders, files in os.walk(path, onerror=_refuse):
        entries += len(folders) + len(files)
        if os.path.relpath(parent, path).count(os.sep) >= _MAX_DEPTH:
            raise ValueError(f"folders more than {_MAX_DEPTH} deep; expected one product")
        if entries > _MAX_ENTRIES:
            raise ValueError(f"more than {_MAX_ENTRIES:,} entries; expected one product")
        for name in folders + files:
            with contextlib.suppress(FileNotFoundError):
                member = os.lstat(os.path.join(parent, name))
                size_bytes += 0 if stat.S_ISDIR(member.st_mode) else member.st_size
                mtime_ns, ctime_ns = max(mtime_ns, member.st_mtime_ns), max(ctime_ns, member.st_ctime_ns)
    return replace(found, size_bytes=size_bytes, mtime_ns=_signed(mtime_ns), ctime_ns=_signed(ctime_ns))


def fingerprint_of_status(status: os.stat_result) -> Fingerprint:
    """Of one file."""
    inode, mtime_ns, ctime_ns = map(_signed, (status.st_ino, status.st_mtime_ns, status.st_ctime_ns))
    return Fingerprint(inode, status.st_size, mtime_ns, ctime_ns, status.st_dev)


def _signed(number: int) -> int:
    """As the ledger holds it, in 64 bits with a sign: an inode may use all 64, and a time lie after the year 2262."""
    return (number + (1 << 63)) % (1 << 64) - (1 << 63)


def _refuse(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error
