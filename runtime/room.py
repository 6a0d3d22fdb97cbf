"""Is there room to work: free space with hysteresis, and an outgoing folder that takes files."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

_HYSTERESIS = 1.2
_FREE_INODES = 64


class Room:
    """`lack()` says why no scene may be claimed now, or nothing."""

    def __init__(self, free_fraction: float, *folders: Path) -> None:
        self._free_fraction = free_fraction
        self._folders = folders
        self._short = False

    def lack(self, output_bytes: int) -> str:
        """One line for people; empty where there is room for twice `output_bytes` and the share to keep free."""
        for folder in self._folders:
            status = os.statvfs(folder)
            free = status.f_bavail * status.f_frsize
            needed = max(self._free_fraction * status.f_blocks * status.f_frsize, 2 * output_bytes)
            needed *= _HYSTERESIS if self._short else 1
            if free < needed or (status.f_files > 0 and status.f_favail < _FREE_INODES):
                self._short = True
                if free < needed:
                    return f"{folder}: {free / 1e6:,.0f} MB free, {needed / 1e6:,.0f} MB needed"
                return f"{folder}: {status.f_favail} inodes free, {_FREE_INODES} needed"
        self._short = False
        return ""


def refuses_files(folder: Path) -> str:
    """Why `folder` takes no files now, found by making one; empty where it does."""
    probe = folder / f".sarwater-probe-{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("xb") as file:
            file.write(b"\0" * 4096)
            file.flush()
            os.fsync(file.fileno())
        probe.unlink()
    except OSError as error:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
        return f"{folder}: {error.strerror}"
    return ""
