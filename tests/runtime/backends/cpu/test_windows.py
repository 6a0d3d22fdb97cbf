"""Which windows of a tile row are answered: those that lie over measurements, spread between the swath's ends."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.backends.cpu.windows import windows_with_data
from sarwater.tiling import TilePlan

PLAN = TilePlan(64, 2000, 64, 8)
(ROW,) = PLAN.rows


def pixels(*measured: slice, channels: int = 1) -> np.ndarray:
    """(C, 64, 2000) uint16, measured in one row of the given columns, and there in the last channel alone."""
    found = np.full((channels, 64, 2000), 7, np.uint16)
    for columns in measured:
        found[-1, 33, columns] = 100
    return found


@pytest.mark.parametrize("channels", [1, 2])
def test_windows_begin_and_end_with_the_swath(channels: int) -> None:
    rows = pixels(slice(701, 1203), channels=channels)
    windows = windows_with_data(PLAN, ROW, rows, None, np.uint16(7))
    assert windows[0].lo == 701 - PLAN.overlap_px
    assert windows[-1].hi == 1203 + PLAN.overlap_px
    assert windows == windows_with_data(PLAN, ROW, rows, (rows != 7).any(axis=0), np.uint16(7))


def test_a_window_in_the_midst_that_holds_nothing_is_left_out() -> None:
    windows = windows_with_data(PLAN, ROW, pixels(slice(0, 3), slice(1900, 1903)), None, np.uint16(7))
    assert len(windows) == 2
    assert all(window.lo <= column < window.hi for window, column in zip(windows, (1, 1901), strict=True))


def test_one_measured_pixel_lies_in_the_middle_of_its_window() -> None:
    (window,) = windows_with_data(PLAN, ROW, pixels(slice(1000, 1001)), None, np.uint16(7))
    assert 28 <= 1000 - window.start <= 36


def test_nothing_measured_needs_no_window() -> None:
    assert windows_with_data(PLAN, ROW, pixels(), None, np.uint16(7)) == []


def test_without_nodata_the_plan_stands() -> None:
    assert windows_with_data(PLAN, ROW, pixels(), None, None) == list(PLAN.columns)


def test_rows_that_another_tile_row_answers_for_do_not_count() -> None:
    plan = TilePlan(120, 200, 64, 8)
    north = plan.rows[0]
    rows = np.zeros((1, 64, 200), np.uint8)
    rows[:, north.hi :] = 1
    assert windows_with_data(plan, north, rows, None, np.uint8(0)) == []


def test_a_slanting_swath_costs_fewer_windows_and_each_sees_more_of_it() -> None:
    """A footprint turned by 10 degrees, as geocoded scenes have."""
    side = 2000
    y, x = np.ogrid[-side // 2 : side // 2, -side // 2 : side // 2]
    turn = np.deg2rad(10)
    half = side / 2 / (np.cos(turn) + np.sin(turn))
    valid = np.abs(x * np.cos(turn) + y * np.sin(turn)) < half
    valid &= np.abs(y * np.cos(turn) - x * np.sin(turn)) < half
    plan = TilePlan(side, side, 160, 16)
    seen: dict[str, list[float]] = {"plan": [], "swath": []}
    for span in plan.rows:
        rows = valid[span.start : span.start + 160]
        answered = rows[span.lo - span.start : span.hi - span.start]
        fixed = [column for column in plan.columns if answered[:, column.lo : column.hi].any()]
        moved = windows_with_data(plan, span, rows[None].view(np.uint8), rows, np.uint8(0))
        assert len(moved) <= len(fixed) + 1
        for name, columns in (("plan", fixed), ("swath", moved)):
            seen[name] += [float(rows[:, column.start : column.start + 160].mean()) for column in columns]
    assert len(seen["swath"]) < len(seen["plan"])
    mostly_nodata = {name: sum(share < 0.3 for share in shares) for name, shares in seen.items()}
    assert mostly_nodata["swath"] <= mostly_nodata["plan"] / 2
