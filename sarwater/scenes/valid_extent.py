"""The valid extent of a scene: where its rows and columns begin and end to hold measurements.

Beyond the valid extent many products are filled with zeros that their nodata value does not cover. A zero inside it may
be calm water that a stretch to 8 bits has cut off; one that is joined to the edge of the raster by nothing but zeros
and nodata is no measurement. GDAL's nearblack follows the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sarwater.request import Window

Bool = npt.NDArray[np.bool_]
Columns = npt.NDArray[np.intp]


def is_empty(pixels: npt.NDArray[np.generic], nodata: float | None) -> Bool:
    """(C, H, W) pixels of any type -> (H, W) True where no channel holds an echo: zero, nodata, or not finite, as zeros
    that a conversion has marked are."""
    empty = pixels == 0
    if nodata is not None:
        empty |= pixels == nodata
    if pixels.dtype.kind == "f":
        empty |= ~np.isfinite(pixels)
    return np.asarray(empty.all(axis=0))


def measured_columns(empty: Bool) -> tuple[Columns, Columns]:
    """(H, W) -> first column with an echo and the one after the last, (H,) each; (W, 0) for a row without any."""
    width = empty.shape[1]
    nothing = empty.all(axis=1)
    first = np.where(nothing, width, empty.argmin(axis=1))
    end = np.where(nothing, 0, width - empty[:, ::-1].argmin(axis=1))
    return first, end


def outside(first: Columns, end: Columns, columns: Columns) -> Bool:
    """(H, W) True where one of the `columns` (W,) is not among those of its row, `first` to `end` (H,) each."""
    return np.asarray((columns < first[:, None]) | (columns >= end[:, None]))


@dataclass(frozen=True, eq=False)
class ValidExtent:
    """Of a whole scene of (H, W): first measured column of each row and the one after the last, (H,) each, and the same
    of each column, (W,)."""

    columns: tuple[Columns, Columns]
    rows: tuple[Columns, Columns]

    def outside(self, window: Window) -> Bool:
        """(H, W) of `window`, True where nothing but zeros and nodata lies between a pixel and an edge."""
        across = slice(window.x_px, window.x_px + window.width_px)
        down = slice(window.y_px, window.y_px + window.height_px)
        by_row = outside(self.columns[0][down], self.columns[1][down], np.arange(across.start, across.stop))
        by_column = outside(self.rows[0][across], self.rows[1][across], np.arange(down.start, down.stop))
        return np.asarray(by_row | by_column.T)
