"""Zeros that reach in from the edges of a scene are no measurement; those inside it are, but for solid ones where zero
would be brighter than land. Straight rows and columns of zeros are followed where the scene is read; all of it is
looked at only where solid fill lies beyond them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sarwater.request import Window
from sarwater.scenes.band import Band
from sarwater.scenes.joined_fill import holds_empty_cell
from sarwater.scenes.units import FILLED
from sarwater.scenes.valid_extent import (
    Columns,
    ExtentLook,
    ValidExtent,
    is_empty,
    measured_columns,
    note_rows,
    outside,
    widened,
    with_borders,
)

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

_LOOK_ROWS = 256
"""Rows that are looked at together."""


@dataclass(eq=False)
class EdgeZeros:
    """Of one scene, which remembers what was seen of it."""

    bands: tuple[Band, ...]
    """Those of backscatter."""
    width_px: int
    height_px: int
    nodata: float | None
    """What `bands` give where nothing was measured; None where it is NaN."""
    extent: ValidExtent | None = None
    """Where somebody has looked at all of the scene, and found zeros at its edges."""
    cleared: bool = False
    """Whether some were taken for nodata."""
    _seen: ValidExtent | None = None
    """What this has looked for itself."""
    _measured_rows: tuple[Columns, Columns] | None = None
    """First measured row of each column of the scene and the one after the last, once they were needed."""

    def beyond(self, rows: Pixels, window: Window) -> Bool:
        """(H, W) True where the channels of backscatter, (C, H, W) `rows` of `window`, hold what is no measurement.
        Raises SceneUnreadable."""
        beyond = self._empty_beyond(rows, window)
        if beyond.any():
            filled = int(np.count_nonzero(_are_zero(rows[0][beyond])))
            if self.zero_is_level and self.extent is None and not self.cleared and filled <= FILLED:
                return np.asarray(beyond & ~_are_zero(rows[0]))  # 0 dB by chance, at an edge
            self.cleared = self.cleared or filled > 0
        return beyond

    def empty(self, window: Window) -> Bool:
        """(H, W) True where no band holds an echo. Raises SceneUnreadable."""
        if all(band.tells_empty for band in self.bands):
            return np.asarray(np.logical_and.reduce([band.read_empty(window) for band in self.bands]))
        return is_empty(np.stack([replace(band, trusted=True).read(window) for band in self.bands]), self.nodata)

    @property
    def zero_is_level(self) -> bool:
        return self.bands[0].unit.endswith("_db")

    @property
    def solid_is_fill(self) -> bool:
        """Whether zeros are no measurement wherever they are solid: no area is flat that is as bright as 0 dB."""
        return self.zero_is_level and self.bands[0].calibrated and self.bands[0].offset == 0

    def _empty_beyond(self, rows: Pixels, window: Window) -> Bool:
        known = self.extent or self._seen
        if known is None:
            edges = (rows[:, :, [0, -1]], rows[:, [0, -1]])
            begun = any(is_empty(edge, self.nodata).any() for edge in edges)
            if not begun and not (self.solid_is_fill and _are_zero(rows[0]).any()):
                return np.zeros(rows.shape[1:], bool)
            empty = is_empty(rows, self.nodata)
            beyond = self._straight(empty, window)
            if not self._may_hide(empty, beyond, window):
                return beyond
            known = self._seen = self._look()
        return known.joined_outside(
            window, lambda part: is_empty(rows, self.nodata) if part == window else self.empty(part)
        )

    def _straight(self, empty: Bool, window: Window) -> Bool:
        """(H, W) True where a straight row or column of what is `empty` leads to an edge."""
        return self._beyond_columns(empty, window) | self._beyond_rows(empty, window)

    def _may_hide(self, empty: Bool, beyond: Bool, window: Window) -> bool:
        """Whether solid fill that no straight way leads to lies in `window`, or so near that some of it reaches in."""
        rest = empty & ~beyond
        if not rest.any():
            return False
        edges = (rest[0], rest[-1], rest[:, 0], rest[:, -1])
        wide = widened(window, self.width_px, self.height_px) if any(edge.any() for edge in edges) else window
        if wide != window:
            around = with_borders(wide, window, lambda part: empty if part == window else self.empty(part))
            if not holds_empty_cell(around, wide):
                return False
            rest = around & ~self._straight(around, wide)
        return holds_empty_cell(rest, wide)

    def _look(self) -> ValidExtent:
        look = ExtentLook(self.width_px, self.height_px, self.solid_is_fill)
        for row in range(0, self.height_px, _LOOK_ROWS):
            look.add(self.empty(Window(0, row, self.width_px, min(_LOOK_ROWS, self.height_px - row))))
        return look.extent()

    def _beyond_columns(self, empty: Bool, window: Window) -> Bool:
        """(H, W) True where a row of `empty` (H, W) holds nothing from there to the left or right edge."""
        beyond = np.zeros(empty.shape, bool)
        cut = np.flatnonzero(empty[:, 0] | empty[:, -1])
        if cut.size:
            first, end = measured_columns(empty[cut])
            right_px = window.x_px + window.width_px
            # The edge of a window is not that of the extent: zeros have to go on to the edge of the scene.
            first[~self._empty_to(0, window.x_px, window)[cut]] = 0
            end[~self._empty_to(right_px, self.width_px, window)[cut]] = window.width_px
            beyond[cut] = outside(first, end, np.arange(window.width_px))
        return beyond

    def _beyond_rows(self, empty: Bool, window: Window) -> Bool:
        """The same for columns, and the upper and lower edge."""
        beyond = np.zeros(empty.shape, bool)
        cut = np.flatnonzero(empty[0] | empty[-1])
        if cut.size:
            first, end = measured_columns(empty[:, cut].T)
            bottom_px = window.y_px + window.height_px
            if window.y_px > 0 or bottom_px < self.height_px:
                scene_first, scene_end = (edge[window.x_px + cut] for edge in self._rows_of_columns())
                first[scene_first < window.y_px] = 0
                end[scene_end > bottom_px] = window.height_px
            beyond[:, cut] = outside(first, end, np.arange(window.height_px)).T
        return beyond

    def _rows_of_columns(self) -> tuple[Columns, Columns]:
        """First measured row of each column of the scene and the one after the last, (W,) each. Read once, from above
        and from below, no further than it takes."""
        if self._measured_rows is None:
            starts = range(0, self.height_px, _LOOK_ROWS)
            first, _ = self._look_for_rows(starts)
            _, end = self._look_for_rows(starts[::-1])
            self._measured_rows = first, end
        return self._measured_rows

    def _look_for_rows(self, starts: range) -> tuple[Columns, Columns]:
        """Where columns are measured, in the first blocks of rows from `starts` that hold something of them."""
        first, end = np.full(self.width_px, self.height_px), np.zeros(self.width_px, np.intp)
        for row in starts:
            waiting = np.flatnonzero(end == 0)
            if not waiting.size:
                break
            left, right = int(waiting[0]), int(waiting[-1]) + 1
            part = Window(left, row, right - left, min(_LOOK_ROWS, self.height_px - row))
            note_rows(self.empty(part), row, first[left:right], end[left:right])
        return first, end

    def _empty_to(self, left_px: int, right_px: int, window: Window) -> Bool:
        """(height of the window,) True where its rows hold nothing from column `left_px` of the scene to `right_px`."""
        if left_px == right_px:
            return np.ones(window.height_px, bool)
        beside = Window(left_px, window.y_px, right_px - left_px, window.height_px)
        return np.asarray(self.empty(beside).all(axis=1))


def _are_zero(pixels: Pixels) -> Bool:
    """Which of `pixels` of one channel are zeros, or those that a conversion has marked."""
    zero = pixels == 0
    return np.asarray(zero | (pixels == -np.inf) if pixels.dtype.kind == "f" else zero)
