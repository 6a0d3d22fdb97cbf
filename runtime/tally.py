"""What is in a mask: pixels of each class, and the water's area on the ground, counted while rows are finished."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.products.placement import Placement
from sarwater.classes import NODATA, SHADOW, WATER
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.raster import gdal

UInt8 = npt.NDArray[np.uint8]
_ROWS, _PARTS = 16, 8
"""The area of pixels is looked up for rectangles of so many rows and an eighth of the width."""
_BLOCK_ROWS = 512


class Tally:
    """Counts of a mask that comes in rows, from north to south. `water_km2` is None where the ground is unknown.

    Areas are those on the ellipsoid, whatever the CRS makes of them (`runtime.products.placement`).
    """

    def __init__(self, georeference: Georeference, width_px: int) -> None:
        self.land_px = self.water_px = self.shadow_px = self.nodata_px = 0
        self._placement = Placement(georeference, width_px, 1)
        self._water_m2: float | None = 0.0
        self._edges: list[int] = np.unique(np.linspace(0, width_px, _PARTS + 1).astype(int)).tolist()
        self._strip, self._strip_m2 = -1, np.zeros(0)

    def add(self, row: int, mask: UInt8) -> None:
        """(n, W) uint8 classes from `row` on."""
        wet = mask == WATER
        water, shadow, nodata = (int(np.count_nonzero(found)) for found in (wet, mask == SHADOW, mask == NODATA))
        self.water_px += water
        self.shadow_px += shadow
        self.nodata_px += nodata
        self.land_px += mask.size - water - shadow - nodata
        if water and self._placement.known:
            self._add_area(row, wet)

    @property
    def water_km2(self) -> float | None:
        return None if self._water_m2 is None or not self._placement.known else self._water_m2 / 1e6

    def _add_area(self, row: int, wet: npt.NDArray[np.bool_]) -> None:
        for first, last in _strips(row, len(wet)):
            lines = wet[first - row : last - row]
            # Part by part: adding them all up at once along an axis takes ten times as long.
            pixels = np.array(
                [np.count_nonzero(lines[:, left:right]) for left, right in itertools.pairwise(self._edges)]
            )
            if not pixels.any() or self._water_m2 is None:
                continue
            areas = self._areas(first // _ROWS)
            self._water_m2 = None if areas is None else self._water_m2 + float(pixels @ areas)

    def _areas(self, strip: int) -> npt.NDArray[np.float64] | None:
        """m2 of a pixel in each part of a strip of rows; None where it has no area on the ground."""
        if strip != self._strip:
            found = self._placement.pixel_m2(self._edges, strip * _ROWS, _ROWS)
            if found is None:
                return None
            self._strip, self._strip_m2 = strip, np.array(found)
        return self._strip_m2


def tally_of(mask: Path) -> Tally:
    """Of a mask that was written earlier. Raises RuntimeError where it cannot be decoded."""
    dataset = gdal.OpenEx(str(mask.resolve()), gdal.OF_RASTER | gdal.OF_READONLY, ["GTiff"])
    tally = Tally(Georeference.of(dataset), dataset.RasterXSize)
    for row in range(0, dataset.RasterYSize, _BLOCK_ROWS):
        tally.add(row, dataset.ReadAsArray(0, row, None, min(_BLOCK_ROWS, dataset.RasterYSize - row)))
    return tally


def _strips(row: int, count: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the rows [row, row + count) that lie in one strip."""
    first = row
    while first < row + count:
        last = min((first // _ROWS + 1) * _ROWS, row + count)
        yield first, last
        first = last
