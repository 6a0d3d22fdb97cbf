"""The valid extent of a scene: where its rows and columns begin and end to hold measurements, and what fill lies round
a corner.

Beyond the valid extent many products are filled with zeros that their nodata value does not cover. A zero inside it may
be calm water that a stretch to 8 bits has cut off; one that is joined to the edge of the raster by nothing but zeros
and nodata is no measurement. GDAL's nearblack follows the same rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sarwater.request import Window
from sarwater.scenes.joined_fill import CELL_PX, REACH_PX, CellRows, JoinedFill, grown

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
    joined: JoinedFill | None = None
    """Fill within these bounds that is joined to an edge all the same, or solid where that is fill."""

    def outside(self, window: Window) -> Bool:
        """(H, W) of `window`, True where nothing but zeros and nodata lies between a pixel and an edge, straight."""
        across = slice(window.x_px, window.x_px + window.width_px)
        down = slice(window.y_px, window.y_px + window.height_px)
        by_row = outside(self.columns[0][down], self.columns[1][down], np.arange(across.start, across.stop))
        by_column = outside(self.rows[0][across], self.rows[1][across], np.arange(down.start, down.stop))
        return np.asarray(by_row | by_column.T)

    def joined_outside(self, window: Window, look: Callable[[Window], Bool]) -> Bool:
        """As `outside`, and round corners; `look` tells which pixels of `window`, and of windows around it, are empty,
        (H, W)."""
        straight = self.outside(window)
        if self.joined is None:
            return straight
        wide = widened(window, len(self.rows[0]), len(self.columns[0]))
        hidden = self.joined.cells(wide) & ~self.outside(wide)
        if not hidden.any():
            return straight
        return np.asarray(straight | grown(hidden, with_borders(wide, window, look))[_place(window, wide)])


class ExtentLook:
    """Looks at a whole scene, from its first row to its last; `solid_is_fill` wherever it lies."""

    def __init__(self, width_px: int, height_px: int, solid_is_fill: bool = False) -> None:
        self._solid_is_fill = solid_is_fill
        self._rows = np.full(width_px, height_px), np.zeros(width_px, np.intp)
        self._columns: list[tuple[Columns, Columns]] = []
        self._cells = CellRows()
        self._row = 0

    def add(self, empty: Bool) -> None:
        """The next rows, (H, W) True where nothing is measured."""
        self._columns.append(measured_columns(empty))
        note_rows(empty, self._row, *self._rows)
        self._cells.add(empty)
        self._row += len(empty)

    def extent(self) -> ValidExtent:
        first, end = zip(*self._columns, strict=True)
        columns = np.concatenate(first), np.concatenate(end)
        return ValidExtent(columns, self._rows, self._cells.joined(columns, self._rows, self._solid_is_fill))


def note_rows(empty: Bool, row: int, first: Columns, end: Columns) -> None:
    """Take down in `first` and `end`, (W,) each, where the columns of `empty` (n, W), which begins at `row`, are
    measured."""
    here_first, here_end = measured_columns(empty.T)
    measured = here_end > 0
    first[measured] = np.minimum(first[measured], row + here_first[measured])
    end[measured] = np.maximum(end[measured], row + here_end[measured])


def widened(window: Window, width_px: int, height_px: int) -> Window:
    """To all sides, by what joined fill reaches and the cell that it reaches from, within a scene."""
    reach_px = REACH_PX + CELL_PX
    left, top = max(0, window.x_px - reach_px), max(0, window.y_px - reach_px)
    right = min(width_px, window.x_px + window.width_px + reach_px)
    bottom = min(height_px, window.y_px + window.height_px + reach_px)
    return Window(left, top, right - left, bottom - top)


def with_borders(wide: Window, window: Window, look: Callable[[Window], Bool]) -> Bool:
    """(H, W) of `wide`, put together of what `look` says of `window` and of the strips around it."""
    result = np.empty((wide.height_px, wide.width_px), bool)
    for part in (window, *_borders(window, wide)):
        result[_place(part, wide)] = look(part)
    return result


def _borders(window: Window, wide: Window) -> Iterator[Window]:
    """What `wide` has beside `window`."""
    right, bottom = window.x_px + window.width_px, window.y_px + window.height_px
    beside = wide.x_px + wide.width_px - right
    below = wide.y_px + wide.height_px - bottom
    for part in (
        Window(wide.x_px, wide.y_px, wide.width_px, window.y_px - wide.y_px),
        Window(wide.x_px, bottom, wide.width_px, below),
        Window(wide.x_px, window.y_px, window.x_px - wide.x_px, window.height_px),
        Window(right, window.y_px, beside, window.height_px),
    ):
        if part.width_px and part.height_px:
            yield part


def _place(part: Window, whole: Window) -> tuple[slice, slice]:
    top, left = part.y_px - whole.y_px, part.x_px - whole.x_px
    return np.s_[top : top + part.height_px, left : left + part.width_px]
