"""What a scene may do to the process that opens it, by the name of its path: for the server of `sarwater.scenes.trial`.

SERVE is the code that starts the server with these instead of the readers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from osgeo import gdal

from sarwater.errors import SceneTruncated
from sarwater.request import Limits
from sarwater.scenes.trial_server import serve

SERVE = "from tests.support.on_trial import main; main()"
DECODE = "decode-"
"""Before what a path is called: it is opened, and does that when it is decoded."""


def never_end() -> None:
    while True:
        pass


def wait() -> None:
    os.read(os.pipe()[0], 1)


def fail(error: Exception) -> None:
    raise error


def where(path: Path) -> None:
    raise SceneTruncated(f"{os.fsencode(path)!r} {Path.cwd()}")


LOOKS: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "never-end": never_end,
    "wait": wait,
    "take-50-mib": lambda: bytearray(50 << 20),
    "take-200-mib": lambda: bytearray(200 << 20),
    "crash": lambda: ctypes.string_at(0),
    "cut": lambda: fail(SceneTruncated("x: cut\nshort")),
    "index": lambda: fail(IndexError(7)),
    "disk": lambda: fail(OSError(5, "Input/output error")),
    "print": lambda: os.write(1, b'{"memory": true}\n') + os.write(2, b"a library complains"),
    "kill-server": lambda: os.kill(os.getppid(), 9),
}


class Strange:
    """A dataset of one band, 8 x 8 bytes in one block, whose decoding does what `look` says."""

    RasterCount, DataType = 1, gdal.GDT_Byte

    def __init__(self, look: str) -> None:
        self._look = look

    def GetRasterBand(self, number: int) -> Strange:
        return self

    def GetBlockSize(self) -> tuple[int, int]:
        return 8, 8

    def ReadAsArray(self, *window: int, buf_obj: np.ndarray) -> np.ndarray:
        LOOKS[self._look]()
        buf_obj[...] = 7
        return buf_obj


def main() -> None:
    def look(path: Path, name: str, limits: Limits) -> Sequence[object]:
        if path.name.startswith(DECODE):
            return [Strange(path.name.removeprefix(DECODE))]
        LOOKS[path.name]() if path.name in LOOKS else where(path)
        return ()

    serve(look)
