from __future__ import annotations

import numpy as np
import pytest

from benchmarks.water_width import WIDTHS, width_classes


@pytest.mark.parametrize(
    ("width_px", "expected"),
    [(1, 0), (3, 0), (5, 1), (6, 1), (7, 2), (12, 2), (13, 3), (25, 3), (27, 4), (60, 4)],
)
def test_a_river_is_as_wide_as_it_is_in_all_of_its_pixels(width_px: int, expected: int) -> None:
    water = np.zeros((100, 40), bool)
    water[20 : 20 + width_px] = True
    assert np.unique(width_classes(water, ~water)).tolist() == [0, 1 + expected]


def test_a_brook_that_runs_into_a_lake_stays_narrow() -> None:
    water = np.zeros((120, 120), bool)
    water[30:90, 10:70] = True
    water[59:62, 70:110] = True
    classes = width_classes(water, ~water)
    assert (classes[59:62, 76:110] == 1).all()
    assert (classes[45:75, 25:55] == len(WIDTHS)).all()


def test_where_no_land_is_water_is_wide() -> None:
    sea = np.ones((50, 50), bool)
    assert (width_classes(sea, ~sea) == len(WIDTHS)).all()


def test_what_is_not_known_bounds_no_water() -> None:
    water = np.ones((80, 80), bool)
    water[:, 40:45] = False  # a ship, say
    land = np.zeros_like(water)
    land[0] = True
    assert (width_classes(water, land)[30, :40] == len(WIDTHS)).all()
