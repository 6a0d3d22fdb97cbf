"""Clean-up of the mask by minimum mapping unit: bodies of water, and islands in water, below it are filled in.

GDAL's sieve needs the whole raster to know how large a region is. But a region of fewer than n pixels reaches over
fewer than n rows, so windows of 2n rows every n rows see each such region whole at least once. In each window only
regions that do not touch its northern or southern edge are judged. Nodata and radar shadow are never changed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows
from sarwater.classes import LAND, WATER
from sarwater.scenes.raster import gdal, gdal_array

UInt8 = npt.NDArray[np.uint8]

_LEAST_STEP = 512


class Sieve:
    """Takes finished rows and gives them back cleaned, some rows later. Confidence is passed on as it is."""

    def __init__(self, minimum_px: int, height_px: int) -> None:
        self._minimum = minimum_px
        self._height = height_px
        self._step = max(minimum_px, _LEAST_STEP)
        self._row = 0
        """Scene row of the first row held."""
        self._mask: UInt8 | None = None
        self._confidence: UInt8 | None = None

    def push(self, finished: FinishedRows) -> list[FinishedRows]:
        """The rows that are final now, from north to south."""
        if self._mask is None or self._confidence is None:
            self._mask, self._confidence = finished.mask.copy(), finished.confidence
        else:
            self._mask = np.concatenate([self._mask, finished.mask])
            self._confidence = np.concatenate([self._confidence, finished.confidence])
        done: list[FinishedRows] = []
        while len(self._mask):
            last = self._row + len(self._mask) == self._height
            if len(self._mask) < 2 * self._step and not last:
                break
            window = self._mask[: 2 * self._step]
            at_end = last and len(self._mask) <= 2 * self._step
            self._clean(window, open_above=self._row > 0, open_below=not at_end)
            count = len(window) if at_end else self._step
            done.append(FinishedRows(self._row, self._mask[:count], self._confidence[:count]))
            self._mask, self._confidence = self._mask[count:], self._confidence[count:]
            self._row += count
        return done

    def _clean(self, window: UInt8, *, open_above: bool, open_below: bool) -> None:
        """Fill small regions of each class in place."""
        count, width = window.shape
        # Rows of the class itself beyond an open edge, large enough that what touches them is never small.
        guard = -(-self._minimum // width)
        above, below = guard * open_above, guard * open_below
        classified = window <= WATER
        for inside, outside in ((WATER, LAND), (LAND, WATER)):
            padded = np.full((above + count + below, width), inside, np.uint8)
            valid = np.ones_like(padded)
            padded[above : above + count] = window
            valid[above : above + count] = classified
            sieved = np.empty_like(padded)
            rasters = [gdal_array.OpenArray(array) for array in (padded, valid, sieved)]
            source, mask, target = (raster.GetRasterBand(1) for raster in rasters)
            gdal.SieveFilter(source, mask, target, self._minimum, 4)
            rasters[2].FlushCache()
            changed = classified & (window == inside) & (sieved[above : above + count] == outside)
            window[changed] = outside
