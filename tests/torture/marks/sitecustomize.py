"""In every process of a recording: before each fsync, a write to /dev/null says which line of the code asks for it."""

from __future__ import annotations

import os
import sys

_fsync, _nowhere = os.fsync, os.open(os.devnull, os.O_WRONLY)


def fsync(descriptor: int) -> None:
    frame = sys._getframe(1)
    while frame.f_code.co_name in ("fsync_file", "fsync_folder") and frame.f_back:
        frame = frame.f_back
    os.write(_nowhere, f"{frame.f_code.co_filename}:{frame.f_lineno}".encode())
    _fsync(descriptor)


os.fsync = fsync
