"""The rows of a finished mask, kept to be looked at and to be made into products later."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from runtime.pipeline import Sink
from sarwater.errors import OutputError
from sarwater.scenes.model_input import Bool, Pixels

UInt8 = npt.NDArray[np.uint8]

IN_MEMORY_BYTES = 64 << 20
"""Larger masks lie in a temporary file without a name, which goes when nobody looks at it any more."""
_ROWS = 512


class KeptRows:
    """A sink that keeps mask and confidence, (H, W) uint8 each. Raises OutputError where the disk is full."""

    sees = False

    def __init__(self, height_px: int, width_px: int) -> None:
        self.mask = _array(height_px, width_px)
        self.confidence = _array(height_px, width_px)

    def see(self, row: int, rows: Pixels, valid: Bool | None) -> None:
        """Pixels are not kept."""

    def write(self, finished: FinishedRows) -> None:
        rows = slice(finished.row, finished.row + len(finished.mask))
        self.mask[rows], self.confidence[rows] = finished.mask, finished.confidence

    def freeze(self) -> None:
        """Nobody may change what products are made of."""
        self.mask.flags.writeable = self.confidence.flags.writeable = False

    def replay(self, sinks: Sequence[Sink]) -> None:
        """Write all rows to the sinks, from north to south."""
        for row in range(0, len(self.mask), _ROWS):
            part = slice(row, row + _ROWS)
            for sink in sinks:
                sink.write(FinishedRows(row, np.asarray(self.mask[part]), np.asarray(self.confidence[part])))


def _array(height_px: int, width_px: int) -> UInt8:
    if height_px * width_px <= IN_MEMORY_BYTES:
        return np.empty((height_px, width_px), np.uint8)
    try:
        with tempfile.TemporaryFile(prefix="sarwater-") as file:
            # All of it now: a memory map of a full disk ends the process.
            os.posix_fallocate(file.fileno(), 0, height_px * width_px)
            return np.memmap(file, np.uint8, "r+", shape=(height_px, width_px))
    except OSError as error:
        raise OutputError(
            f"{tempfile.gettempdir()}: no room for a mask of {height_px * width_px:,} bytes ({error.strerror}); free "
            "space, or name another folder in TMPDIR"
        ) from error
