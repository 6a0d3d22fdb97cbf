"""How much memory a process and those that it started have; Linux tells it in /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """In memory now, of the process and all below it; what they share is counted in each. 0 where nobody tells."""
    total, waiting = 0, [pid]
    while waiting:
        process = Path("/proc", str(waiting.pop()))
        with suppress(OSError, ValueError, IndexError):  # it has ended
            total += int((process / "statm").read_text().split()[1]) * _PAGE_BYTES
            for thread in (process / "task").iterdir():
                waiting += map(int, (thread / "children").read_text().split())
    return total
