"""Fill that nobody declared: a constant other than 0 that reaches in from a corner of the raster, such as -9999, -99,
-32768 or 1e-30.

Backscatter is speckled: that tens of neighbours are equal to the last bit is no chance. They are either fill or values
that were clipped, at the bottom calm water, at the top a city. What was clipped has neighbours of nearly the same
level; fill lies where nothing was measured: below the noise of any sensor, above any target, or apart from all else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.request import Window
from sarwater.scenes.band import Band
from sarwater.scenes.units import CALIBRATED_UNITS, DARKEST_DB, FARTHEST_DB

_CORNER_PX = 64
_PLACES = ((0.5, 0.5), *((x / 8, y / 8) for y in (3, 5, 1, 7) for x in (3, 5, 1, 7)))
"""Where else to look for something to compare with, as shares of width and height: in the middle first."""
_LEAST_PX = 32
"""Equal pixels that reach in from a corner."""
_NEXT_TO_0 = 1e-6
"""Instead of 0, so that logarithms are finite."""
_BRIGHTEST_TARGET_DB = 30.0
_SOLID_PX = 256
"""Equal pixels of the brightest that 8 bits hold: in a city that was clipped, some of so many are darker."""
_APART_DB = 3.0
_APART_DN = 8.0
"""The levels that 8 bits leave of dark water are whole numbers, and decibels apart."""
_BEYOND_PX = 8
"""Pixels beyond a level at which nothing was clipped."""
_ENOUGH_PX = 256
"""Others to compare with."""
_FEWEST_VALUES = 8
"""That they have, if they are backscatter: a drawing of two levels has no fill."""


def fills_at_corners(band: Band, width_px: int, height_px: int, nodata: float | None) -> tuple[float, ...]:
    """The stored values that fill corners of a scene of `width_px` x `height_px`; not 0, `nodata` and what is not
    finite, which need no telling. Some 20 thousand pixels are read. Raises SceneUnreadable."""
    stored = replace(band, wanted_unit=None, fills=(), trusted=True)
    across, down = min(_CORNER_PX, width_px), min(_CORNER_PX, height_px)
    corners = [
        stored.read(Window(x, y, across, down))[:: -1 if y else 1, :: -1 if x else 1]
        for y in (0, height_px - down)
        for x in (0, width_px - across)
    ]
    known = tuple(value for value in (0.0, nodata) if value is not None)
    candidates: dict[float, int] = {}
    for block in corners:
        candidates |= {value: max(count, candidates.get(value, 0)) for value, count in _reaching_in(block, known)}
    if not candidates:
        return ()
    parts = [_measured(block, (*known, *candidates)) for block in corners]
    for share_across, share_down in _PLACES:
        x, y = int((width_px - across) * share_across), int((height_px - down) * share_down)
        parts.append(_measured(stored.read(Window(x, y, across, down)), (*known, *candidates)))
        if sum(part.size for part in parts) >= _ENOUGH_PX:
            break
    measured = np.concatenate(parts)
    return tuple(
        value
        for value, count in sorted(candidates.items())
        if measured.size and (_is_no_level(value, band) or _stands_out(value, count, measured, band))
    )


def _measured(block: npt.NDArray[Any], empty: tuple[float, ...]) -> npt.NDArray[np.float64]:
    pixels = block.ravel().astype(np.float64)
    return np.asarray(pixels[np.isfinite(pixels) & ~np.isin(pixels, empty)])


def _reaching_in(block: npt.NDArray[Any], known: tuple[float, ...]) -> Iterator[tuple[float, int]]:
    """Values that are joined to the first row or column of (H, W) by nothing but their like and what is `known` to be
    empty, and how many pixels are."""
    empty = np.isin(block, known) | ~np.isfinite(block)
    if empty.all():
        return
    values, counts = np.unique(block[~empty], return_counts=True)
    heads = (line[~empty_line][:1] for line, empty_line in ((block[0], empty[0]), (block[:, 0], empty[:, 0])))
    for value in {float(values[counts.argmax()]), *(float(value) for head in heads for value in head)}:
        equal = block == value
        along = [np.logical_and.accumulate(equal | empty, axis=axis) for axis in (0, 1)]
        count = int(np.count_nonzero(equal & (along[0] | along[1])))
        if count >= _LEAST_PX:
            yield value, count


def _is_no_level(value: float, band: Band) -> bool:
    """Whether no pixel of `band` can have measured the stored `value`."""
    if abs(value) < _NEXT_TO_0:
        return True
    (level_db,) = _levels_db(np.array([value]), band)
    if band.unit in CALIBRATED_UNITS and not band.unit.startswith("intensity"):
        return not DARKEST_DB <= level_db <= _BRIGHTEST_TARGET_DB
    return not DARKEST_DB <= level_db <= FARTHEST_DB


def _stands_out(value: float, count: int, measured: npt.NDArray[np.float64], band: Band) -> bool:
    """Whether the constant `value` of `count` neighbours is apart from what was `measured`; or solid and the
    largest that there is; or in the midst of it, where nothing is clipped and no two floats are equal."""
    if measured.size < _ENOUGH_PX or np.unique(measured).size < _FEWEST_VALUES:
        return False
    levels_db, (level_db,) = _levels_db(measured, band), _levels_db(np.array([value]), band)
    near = np.abs(levels_db - level_db) < _APART_DB
    if band.stored_dtype.kind in "iu":
        solid = count >= _SOLID_PX and value == np.iinfo(band.stored_dtype).max  # type: ignore[type-var]
        if not band.scaled:
            near |= np.abs(measured - value) < _APART_DN
        return solid or not near.any()
    fewest = min(np.count_nonzero(levels_db < level_db), np.count_nonzero(levels_db > level_db))
    return bool(fewest >= _BEYOND_PX or not near.any())


def _levels_db(stored: npt.NDArray[np.float64], band: Band) -> npt.NDArray[Any]:
    """Stored values of `band` in decibels; nothing that has no level is finite."""
    values = stored * band.scale + band.offset
    if band.unit.endswith("_db"):
        return values
    with np.errstate(divide="ignore", invalid="ignore"):
        levels_db: npt.NDArray[Any] = (10 if band.unit.endswith("_linear") else 20) * np.log10(values)
    return levels_db
