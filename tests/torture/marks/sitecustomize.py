"""In every process of a recording: before each fsync, a write to /dev/null says which line of the code asks for it.

At the line that TORTURE_KILL_AT names, the process is killed instead.
"""

from __future__ import annotations

import os
import signal
import sys

_fsync, _nowhere = os.fsync, os.open(os.devnull, os.O_WRONLY)


def fsync(descriptor: int) -> None:
    frame = sys._getframe(1)
    while frame.f_code.co_name in ("fsync_file", "fsync_folder") and frame.f_back:
        frame = frame.f_back
    where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
    if where == os.environ.get("TORTURE_KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
    os.write(_nowhere, where.encode())
    _fsync(descriptor)


os.fsync = fsync
