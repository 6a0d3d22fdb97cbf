"""Is there room to work: free space with hysteresis, and an outgoing folder that takes files."""

from __future__ import annotations

import contextlib
import errno
import os
import uuid
from pathlib import Path

_HYSTERESIS = 1.2
_FREE_INODES = 64
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)


class Room:
    """`paused` says why no scene may be claimed or started now; it is empty where there is room."""

    def __init__(self, outgoing: Path, state: Path) -> None:
        self._outgoing = outgoing
        self._folders = (outgoing, state)
        self._refused = False
        self.paused = ""

    @property
    def reason(self) -> str:
        """Of `paused`, in a word: `space` or `outgoing`; empty where there is room."""
        return "" if not self.paused else "outgoing" if self._refused else "space"

    def check(self, free_fraction: float, output_bytes: int) -> str:
        """Room for twice `output_bytes`, with `free_fraction` of each file system left free? Returns `paused`."""
        if self._refused:
            refusal = refuses_files(self._outgoing)
            self._refused = refusal is not None
        needed_more = _HYSTERESIS if self.paused else 1
        short = self.shortage(free_fraction, output_bytes, needed_more)
        self.paused = _why(refusal) if self._refused and refusal else short
        return self.paused

    def refuses(self) -> bool:
        """After a failed write: is it the folder's fault rather than the scene's? Then it pauses until that is over.

        Raises OSError for an input/output error, which no waiting mends.
        """
        refusal = refuses_files(self._outgoing)
        if refusal is not None and refusal.errno == errno.EIO:
            raise refusal
        self._refused = refusal is not None
        self.paused = _why(refusal) if refusal else self.paused
        return self._refused

    def shortage(self, free_fraction: float, output_bytes: int, factor: float = 1) -> str:
        """As `check`, for one scene: nothing pauses. Empty where there is room, `factor` times."""
        for folder in self._folders:
            status = os.statvfs(folder)
            free = status.f_bavail * status.f_frsize
            needed = max(free_fraction * status.f_blocks * status.f_frsize, 2 * output_bytes)
            needed *= factor
            if free < needed:
                return f"{folder}: {free / 1e6:,.1f} MB free, {needed / 1e6:,.1f} MB needed"
            if status.f_files > 0 and status.f_favail < _FREE_INODES:
                return f"{folder}: {status.f_favail} inodes free, {_FREE_INODES} needed"
        return ""


def refuses_files(folder: Path) -> OSError | None:
    """Why `folder` takes no files now, found by writing one; None where it does."""
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
        return error
    return None


def is_no_space(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in _NO_SPACE


def _why(error: OSError) -> str:
    return f"{(error.filename and Path(error.filename).parent) or 'the disk'}: {error.strerror}"
