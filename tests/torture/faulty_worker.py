"""A worker that fails as the name of the scene says: `segfault`, `hang`, `bug`, `gpu`, `memory`, `hungry`, `slow`."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from runtime import pipeline
from runtime.daemon import worker
from runtime.products.publish import StagedProducts
from sarwater.errors import DeviceLost

_process_scene = pipeline.process_scene


def process_scene(*arguments: Any, **keywords: Any) -> StagedProducts:
    name = keywords["name"]
    if name.startswith("segfault"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("hang"):
        time.sleep(10_000)
    if name.startswith("memory"):
        raise MemoryError
    if name.startswith("hungry"):
        eaten = bytearray(os.urandom(1 << 20)) * 800
        time.sleep(len(eaten))
    if name.startswith("bug"):
        raise RuntimeError("a bug on purpose")
    if name.startswith("gpu"):
        driver_error = type("LaunchError", (Exception,), {"__module__": "pycuda._driver"})
        raise DeviceLost("the GPU was lost") from driver_error("an illegal memory access (700)")
    if name.startswith("slow"):
        for done in range(100_000):
            keywords["progress"](done, 100_000)
            time.sleep(0.05)
    return _process_scene(*arguments, **keywords)


def shift_clock() -> None:
    """Add to the wall clock what the file TORTURE_CLOCK says, in seconds, at each look."""
    if file := os.environ.get("TORTURE_CLOCK"):
        real = time.time
        time.time = lambda: real() + float(Path(file).read_text() or 0)


if __name__ == "__main__":
    shift_clock()
    pipeline.process_scene = process_scene
    sys.exit(worker.main())
