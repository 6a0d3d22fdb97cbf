"""Hints from the kernel that something happened in a folder (inotify(7)); directory scans stay the truth.

A folder on NFS or an overlay gives no events, and a burst overflows the queue: callers must live with both.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
import sys
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

# <sys/inotify.h>
_CLOSE_WRITE = 0x00000008
_MOVED_FROM = 0x00000040
_MOVED_TO = 0x00000080
_CREATE = 0x00000100
_OVERFLOW = 0x00004000
_ONLYDIR = 0x01000000
_HEADER = struct.Struct("iIII")


@dataclass(frozen=True)
class Hint:
    """`name` changed; `renamed_from` is None unless it arrived by rename: then the old name, or `""` for a name
    outside of the folder. `name` is None where events were lost."""

    name: str | None
    renamed_from: str | None = None


class Hints:
    """Non-blocking events of one folder; a context manager. Raises OSError where there is no inotify."""

    def __init__(self, folder: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _ONLYDIR
        if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask) < 0:
            code = ctypes.get_errno()
            if self._descriptor >= 0:
                self.close()
            raise OSError(code, os.strerror(code), str(folder))
        self._moved_from: dict[int, str] = {}

    def fileno(self) -> int:
        return self._descriptor

    def read(self) -> Iterator[Hint]:
        """The hints that wait now, and none of those that come meanwhile: they might never end. A rename within the
        folder comes as one hint, for its new name."""
        waiting = fcntl.ioctl(self._descriptor, termios.FIONREAD, bytes(4))
        left_bytes = int.from_bytes(waiting, sys.byteorder)
        while left_bytes > 0:
            try:
                buffer = os.read(self._descriptor, 1 << 16)
            except BlockingIOError:
                return
            left_bytes -= len(buffer)
            yield from self._parse(buffer)

    def _parse(self, buffer: bytes) -> Iterator[Hint]:
        offset = 0
        while offset < len(buffer):
            _, mask, cookie, length = _HEADER.unpack_from(buffer, offset)
            offset += _HEADER.size
            name = os.fsdecode(buffer[offset : offset + length].rstrip(b"\0"))
            offset += length
            if mask & _OVERFLOW:
                self._moved_from.clear()
                yield Hint(None)
            elif mask & _MOVED_FROM:
                # A cookie that stays without its partner left the folder: forget it after a while.
                self._moved_from[cookie] = name
                if len(self._moved_from) > 64:
                    self._moved_from.pop(next(iter(self._moved_from)))
            elif mask & _MOVED_TO:
                yield Hint(name, self._moved_from.pop(cookie, ""))
            elif name:
                yield Hint(name)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Hints:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
