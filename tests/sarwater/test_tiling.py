from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarwater.tiling import STRIP_PX, WORTH_SHARE, WORTH_TILES, TilePlan, reflect_indices


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    tile = draw(st.integers(4, 70))
    overlap = 2 * draw(st.integers(0, tile // 6))
    return TilePlan(draw(st.integers(1, 400)), draw(st.integers(1, 400)), tile, overlap)


@given(plans() | plans().map(TilePlan.with_wide_fades))
def test_every_pixel_is_answered_by_at_most_two_windows_per_axis(plan: TilePlan) -> None:
    answers = np.zeros(plan.width_px, int)
    for span in plan.columns:
        answers[span.lo : span.hi] += 1
    assert answers.min() >= 1
    assert answers.max() <= 2


@given(plans() | plans().map(TilePlan.with_wide_fades))
def test_a_window_answers_only_for_pixels_that_it_sees(plan: TilePlan) -> None:
    for span in plan.rows:
        assert span.start <= span.lo < span.hi <= span.start + plan.tile_px
        assert span.hi <= plan.height_px


@given(plans())
def test_a_window_leaves_the_scene_only_where_the_scene_is_smaller_than_a_tile(plan: TilePlan) -> None:
    for span in plan.columns:
        assert span.start + plan.tile_px <= max(plan.width_px, plan.tile_px)


@given(plans() | plans().map(TilePlan.with_wide_fades), st.data())
def test_windows_between_the_ends_of_a_swath_answer_for_every_measured_column(
    plan: TilePlan, data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, plan.width_px - 1))
    end = data.draw(st.integers(first + 1, plan.width_px))
    columns = plan.columns_between(first, end)
    assert 1 <= len(columns) <= len(plan.columns)
    for span in columns:
        assert 0 <= span.start <= span.lo < span.hi <= span.start + plan.tile_px
        assert span.start + plan.tile_px <= max(plan.width_px, plan.tile_px)
    assert columns[0].lo <= first
    assert columns[-1].hi >= end
    assert all(west.hi == east.lo + plan.overlap_px for west, east in itertools.pairwise(columns))


@given(plans() | plans().map(TilePlan.with_wide_fades), st.data())
def test_what_is_balanced_at_one_border_is_not_reached_from_another(plan: TilePlan, data: st.DataObject) -> None:
    first = data.draw(st.integers(0, plan.width_px - 1))
    end = data.draw(st.integers(first + 1, plan.width_px))
    for spans in (plan.rows, plan.columns, plan.columns_between(first, end)):
        fades = [span.lo for span in spans[1:]]
        if not fades:
            continue
        reached_px = plan.balance_px
        assert fades[0] - spans[0].lo >= reached_px
        assert spans[-1].hi - fades[-1] >= plan.overlap_px + reached_px
        assert all(after - before >= plan.overlap_px + 2 * reached_px for before, after in itertools.pairwise(fades))


def test_windows_of_the_default_tile_are_balanced_over_two_hundred_pixels() -> None:
    plan = TilePlan(27_000, 27_000, 1024, 48).with_wide_fades()
    assert 200 <= plan.balance_px <= plan.tile_px // 4
    assert plan.decline[0] > 0.99
    assert plan.decline[-1] < 0.01


@pytest.mark.parametrize(("tile_px", "overlap_px"), [(1024, 0), (128, 40), (32, 10)])
def test_windows_without_fades_or_with_wide_ones_are_not_balanced(tile_px: int, overlap_px: int) -> None:
    assert TilePlan(3000, 3000, tile_px, overlap_px).balance_px == 0


def test_a_tile_row_without_nodata_has_the_columns_of_the_plan() -> None:
    plan = TilePlan(100, 1000, 128, 16)
    assert plan.columns_between(0, 1000) == plan.columns


def test_a_27000_px_scene_costs_at_most_15_percent_more_than_its_pixels() -> None:
    assert TilePlan(27_000, 27_000, 1024, 48).waste <= 1.15


@given(
    st.integers(1, 9000),
    st.integers(1, 40_000),
    st.sampled_from([64, 128, 512, 1024]),
    st.sampled_from([0, 16, 20]),
    st.sampled_from([32, 128]),
)
def test_a_fitted_plan_costs_hardly_more_and_a_smaller_tile_pays_for_itself(
    height: int, width: int, tile: int, overlap: int, step: int
) -> None:
    full, fitted = TilePlan(height, width, tile, overlap), TilePlan.fitted(height, width, tile, overlap, step)
    assert fitted.overlap_px == overlap
    assert fitted.computed_px <= (1 + WORTH_SHARE) * full.computed_px
    assert (tile - fitted.tile_px) % step == 0
    assert tile * 3 / 4 <= fitted.tile_px <= tile * 5 / 4
    assert fitted.tile_px <= tile or fitted.tile_px * width <= STRIP_PX
    if fitted.tile_px < tile:
        assert full.computed_px - fitted.computed_px >= WORTH_TILES * tile**2


@pytest.mark.parametrize(
    ("side_px", "tile_px"),
    [(300, 1024), (1024, 1024), (1100, 1120), (2048, 1056), (4096, 864), (5000, 1056), (8192, 1216), (27_000, 1024)],
)
def test_the_tile_fits_the_scene(side_px: int, tile_px: int) -> None:
    plan = TilePlan.fitted(side_px, side_px, 1024, 48, 32)
    assert plan.tile_px == tile_px
    assert side_px <= 1024 or plan.waste < 1.13


def test_scenes_from_4096_px_on_cost_at_most_15_percent_more_than_their_pixels() -> None:
    """One in twenty, where both sides are just too long for a tile more, a little more than that."""
    sides = np.random.default_rng(3).integers(4096, 27_000, (200, 2)).tolist()
    waste = np.array([TilePlan.fitted(height, width, 1024, 48, 32).waste for height, width in sides])
    assert np.median(waste) < 1.12
    assert np.quantile(waste, 0.95) <= 1.15
    assert waste.max() < 1.18


@given(plans())
def test_wide_fades_leave_the_windows_where_they_are_and_use_all_that_they_share(plan: TilePlan) -> None:
    wide = plan.with_wide_fades()
    for spans, wide_spans in ((plan.rows, wide.rows), (plan.columns, wide.columns)):
        assert [span.start for span in wide_spans] == [span.start for span in spans]
    assert wide.overlap_px >= plan.overlap_px
    assert wide.computed_px == plan.computed_px
    if wide.tiles > 1 and wide.overlap_px + 2 <= plan.tile_px // 3:
        assert replace(wide, overlap_px=wide.overlap_px + 2).tiles > plan.tiles


def test_a_scene_of_one_tile_has_no_fades_to_widen() -> None:
    plan = TilePlan(100, 100, 128, 16)
    assert plan.with_wide_fades() == plan


def test_a_fitted_tile_leaves_room_for_a_wide_overlap() -> None:
    assert TilePlan.fitted(3000, 3000, 1024, 340, 32).tile_px >= 3 * 340


@pytest.mark.parametrize("overlap", [-2, 3, 24])
def test_an_overlap_that_leaves_no_core_is_refused(overlap: int) -> None:
    with pytest.raises(ValueError, match="overlap"):
        TilePlan(100, 100, 64, overlap)


@given(st.integers(1, 50), st.integers(0, 120), st.integers(-60, 60))
def test_reflection_agrees_with_numpy(length: int, after: int, start: int) -> None:
    line = np.arange(length)
    before = max(0, -start)
    padded = np.pad(line, (before, after + max(0, start)), mode="reflect") if length > 1 else np.zeros(10_000, int)
    begin = start + before
    count = min(after + 1, len(padded) - begin)
    assert reflect_indices(start, count, length).tolist() == padded[begin : begin + count].tolist()
