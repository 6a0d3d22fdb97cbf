from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from train.simulator.shapes import (
    distance_px,
    fill_polygons,
    fractal,
    meander,
    parcels,
    rectangle,
    remove_specks,
    ribbon,
)

SHAPE = (96, 128)
coordinates = st.floats(-40, 160, allow_nan=False)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=3))
def test_a_filled_triangle_holds_the_pixels_whose_centres_lie_inside(corners: list[tuple[float, float]]) -> None:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    (x0, y0), (x1, y1), (x2, y2) = corners
    sides = np.stack(
        [
            (x1 - x0) * (y - y0) - (y1 - y0) * (x - x0),
            (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1),
            (x0 - x2) * (y - y2) - (y0 - y2) * (x - x2),
        ]
    )
    inside = (sides > 1e-6).all(0) | (sides < -1e-6).all(0)
    outside = (sides > 1e-6).any(0) & (sides < -1e-6).any(0)
    filled = fill_polygons(SHAPE, [corners])
    assert filled[inside].all()
    assert not filled[outside].any()


def test_overlapping_polygons_are_united_whatever_their_orientation() -> None:
    square = rectangle((60, 40), 30, 30, 0.3)
    both = fill_polygons(SHAPE, [square, square[::-1] + 10])
    assert np.array_equal(both, fill_polygons(SHAPE, [square]) | fill_polygons(SHAPE, [square + 10]))


def test_a_ribbon_is_as_wide_as_asked() -> None:
    line = np.stack([np.linspace(-10, 140, 200), np.full(200, 48.3)], axis=1)
    assert ribbon(SHAPE, line, 9).sum(axis=0).tolist() == [9] * SHAPE[1]


def test_a_meander_crosses_the_scene_without_a_jump() -> None:
    line = meander(SHAPE, np.random.default_rng(1), 60, 1.0)
    steps = np.hypot(*np.diff(line, axis=0).T)
    assert steps == pytest.approx(3.0)
    assert ribbon(SHAPE, line, 5).any()


def test_parcels_cover_the_scene_and_their_borders_are_where_they_change() -> None:
    fields = parcels(SHAPE, np.random.default_rng(2), 30, 20, 0.4)
    assert 0 <= fields.index.min() <= fields.index.max() < fields.count
    changes = np.diff(fields.index, axis=1) != 0
    assert fields.border_px[:, 1:][changes].max() <= 1.5


def test_specks_and_holes_are_removed_and_the_rest_is_left() -> None:
    mask = np.zeros(SHAPE, bool)
    mask[20:60, 20:60] = True
    clean = mask.copy()
    mask[5, 5] = True
    mask[40, 40] = False
    assert np.array_equal(remove_specks(mask, 5), clean)


@pytest.mark.parametrize("coarse", [1, 3, 8])
def test_distance_is_right_to_a_coarse_pixel(coarse: int) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[:, 7] = True
    assert np.abs(distance_px(mask, coarse) - np.abs(np.arange(SHAPE[1]) - 7)).max() <= coarse


@pytest.mark.parametrize("coarse", [1, 4])
def test_a_fractal_field_is_standardised_and_smoother_the_steeper_its_spectrum(coarse: int) -> None:
    rough, smooth = (fractal((256, 256), np.random.default_rng(3), 100, slope, coarse) for slope in (2.0, 4.0))
    for field in (rough, smooth):
        assert abs(field.mean()) < 0.3
        assert field.std() == pytest.approx(1, abs=0.2)
    assert np.diff(smooth).std() < 0.5 * np.diff(rough).std()
