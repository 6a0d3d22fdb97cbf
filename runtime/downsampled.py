"""The rows of a scene that was upsampled for the network (sarwater/upsampling.py), back in its own pixels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from sarwater.classes import LAND, NODATA, WATER
from sarwater.upsampling import block_sums

UInt8 = npt.NDArray[np.uint8]


class DownsampledRows:
    """Takes finished rows from north to south and gives those of the scene: a pixel's confidence is the mean over its
    block of `factor` by `factor`, and it is water where that reaches the threshold. A block is nodata as a whole."""

    def __init__(self, factor: int, threshold: float, width_px: int) -> None:
        self._factor = factor
        self._least_sum = np.float32(100 * threshold * factor**2)
        self._waiting: UInt8 = np.empty((0, width_px * factor), np.uint8)
        """Confidence of rows whose blocks are not complete, fewer than `factor`."""
        self._row = 0

    def push(self, finished: FinishedRows) -> FinishedRows:
        """The rows of the scene that are complete now, possibly none."""
        confidence = np.concatenate([self._waiting, finished.confidence])
        whole = len(confidence) // self._factor * self._factor
        self._waiting = confidence[whole:]
        sums = block_sums(confidence[:whole], self._factor)
        mask = np.where(sums >= self._least_sum, WATER, LAND).astype(np.uint8)
        percent = np.floor(sums / self._factor**2 + np.float32(0.5)).astype(np.uint8)
        nodata = confidence[: whole : self._factor, :: self._factor] == NODATA
        mask[nodata] = percent[nodata] = NODATA
        row, self._row = self._row, self._row + len(mask)
        return FinishedRows(row, mask, percent)
