from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarwater.blending import BLOCK_PX, Mosaic, TileRow, join, odds_factors
from sarwater.tiling import TilePlan

PLAN = TilePlan(900, 1000, 256, 12)
"""Balanced over 53 px."""


def multiplied(probability: np.ndarray, factor: float) -> np.ndarray:
    """In double precision: the odds times `factor`."""
    odds = probability.astype(float) / (1 - probability.astype(float)) * factor
    return odds / (1 + odds)


def mosaic(plan: TilePlan, answers, valid: np.ndarray | None = None) -> np.ndarray:
    """A whole scene; `answers(row, column)` gives a window's (tile, tile) probability."""
    joined, finished = Mosaic(plan), []
    for number, row in enumerate(plan.rows):
        tile_row = TileRow(plan, row, None if valid is None else valid[row.lo : row.hi])
        for column in plan.columns:
            tile_row.add(column, answers(row, column))
        finished += joined.push(tile_row)
        held_back = row.hi - finished[-1].row - len(finished[-1].probability)
        assert held_back == (plan.overlap_px + plan.balance_px if number + 1 < len(plan.rows) else 0)
    ends = [0, *np.cumsum([len(part.probability) for part in finished])]
    assert [part.row for part in finished] == ends[:-1]
    return np.concatenate([part.probability for part in finished])


def windows_of(plan: TilePlan, scene: np.ndarray):
    side = plan.tile_px
    padded = np.pad(scene, ((0, side), (0, side)))
    return lambda row, column: padded[row.start : row.start + side, column.start : column.start + side]


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    tile = draw(st.integers(4, 60))
    overlap = 2 * draw(st.integers(0, tile // 6))
    return TilePlan(draw(st.integers(1, 200)), draw(st.integers(1, 200)), tile, overlap)


@settings(deadline=None)
@given(plans(), st.integers(0, 99))
def test_windows_that_agree_give_the_scene_back(plan: TilePlan, seed: int) -> None:
    scene = np.random.default_rng(seed).random((plan.height_px, plan.width_px), np.float32)
    found = mosaic(plan, windows_of(plan, scene))
    assert np.abs(found - scene).max() < 1e-6
    faded = np.zeros(scene.shape, bool)
    for span in plan.rows[1:]:
        faded[span.lo : span.lo + plan.overlap_px] = True
    for span in plan.columns[1:]:
        faded[:, span.lo : span.lo + plan.overlap_px] = True
    assert np.array_equal(found[~faded], scene[~faded])


@settings(deadline=None)
@given(plans(), st.integers(0, 99))
def test_a_blend_of_probabilities_is_a_probability(plan: TilePlan, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = mosaic(plan, lambda row, column: rng.beta(0.1, 0.1, (plan.tile_px, plan.tile_px)).astype(np.float32))
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-6


def leaning(plan: TilePlan, scene: np.ndarray, factor: float, axis: int):
    """Every other window along the axis takes the odds of water to be so much higher, those between so much lower."""
    inside = windows_of(plan, scene)

    def answers(row, column):
        higher = (plan.rows.index(row), plan.columns.index(column))[axis] % 2
        return multiplied(inside(row, column), factor if higher else 1 / factor).astype(np.float32)

    return answers


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("factor", [1.5, 3])
def test_windows_that_disagree_meet_halfway_and_leave_no_step(factor: float, axis: int) -> None:
    scene = np.full((PLAN.height_px, PLAN.width_px), 0.4, np.float32)
    low, high = multiplied(np.full(2, 0.4), np.array([1 / factor, factor]))
    found = mosaic(PLAN, leaning(PLAN, scene, factor, axis))
    # Spread over the fade alone, the steepest step would be pi / 2 / 12 px of what they are apart.
    assert np.abs(np.diff(found, axis=axis)).max() < 0.03 * (high - low)
    # The last block of a border is shorter, so its odds ratio has less weight.
    assert np.abs(np.diff(found, axis=1 - axis)).max() < 0.01 * (high - low)
    line = found[:, 0] if axis == 0 else found[0]
    spans = PLAN.rows if axis == 0 else PLAN.columns
    for span in spans[1:]:
        assert line[span.lo : span.lo + PLAN.overlap_px] == pytest.approx(0.4, abs=0.03)
    assert line[(spans[1].lo + spans[1].hi) // 2] == pytest.approx(high, abs=1e-5)
    assert line[(spans[2].lo + spans[2].hi) // 2] == pytest.approx(low, abs=1e-5)


def test_what_both_are_sure_of_stays_as_it_is() -> None:
    """A lake and its shore in the dispute of two windows over the fields beside it."""
    scene = np.full((PLAN.height_px, PLAN.width_px), 0.5, np.float32)
    scene[:, 100:140], scene[:, 140:180] = 1, 0
    found = mosaic(PLAN, leaning(PLAN, np.clip(scene, 1e-6, 1 - 1e-6), 4, 0))
    assert found[:, 100:140].min() > 0.999
    assert found[:, 140:180].max() < 0.001


def test_land_that_one_of_them_doubts_a_little_is_left_alone() -> None:
    land = np.zeros((200, 20), np.float32)
    assert (odds_factors(land, land) == 1).all()
    assert (odds_factors(land, land + np.float32(0.0004)) == 1).all()
    assert (odds_factors(land, land + np.float32(0.2)) > 1.5).all()


def test_a_dispute_reaches_no_further_than_its_blocks() -> None:
    first = np.full((10 * BLOCK_PX, 20), 0.3, np.float32)
    second = first.copy()
    second[: 2 * BLOCK_PX] = 0.7
    factors = odds_factors(first, second)
    assert (factors[:2] > 1.5).all()
    assert (factors[2:] == 1).all()
    before, after = np.full((10 * BLOCK_PX, 30), 0.3, np.float32), np.full((10 * BLOCK_PX, 30), 0.3, np.float32)
    join(TilePlan(100, 1000, 200, 20), before, first, second, after)
    assert (before[: 2 * BLOCK_PX] > 0.3).any()
    assert (before[3 * BLOCK_PX :] == np.float32(0.3)).all()


def test_the_factor_is_the_root_of_the_odds_ratio() -> None:
    rng = np.random.default_rng(0)
    first = rng.uniform(0.2, 0.6, (BLOCK_PX, 74)).astype(np.float32)
    second = multiplied(first, 4).astype(np.float32)
    assert odds_factors(first, second)[0] == pytest.approx(2, rel=0.05)  # a little less, for what is taken as given
    assert odds_factors(second, first)[0] == pytest.approx(1 / 2, rel=0.05)
    assert (odds_factors(first * 0, first * 0 + 1) == 8).all()


def test_nodata_has_no_say() -> None:
    rng = np.random.default_rng(1)
    first = rng.random((300, 20), np.float32)
    valid = rng.random((300, 20)) < 0.5
    second = np.where(valid, first, 1 - first)
    assert (odds_factors(first, second, valid) == 1).all()


def test_an_answer_that_is_no_number_stays_none() -> None:
    scene = np.full((PLAN.height_px, PLAN.width_px), 0.5, np.float32)
    scene[300, 400] = np.nan
    assert np.isnan(mosaic(PLAN, windows_of(PLAN, scene))).sum() == 1


def test_a_tile_row_that_is_finished_is_not_kept() -> None:
    """A scene of 27,000 px would hold 120 MB more."""
    joined = Mosaic(PLAN)
    tile_row = TileRow(PLAN, PLAN.rows[0], None)
    joined.push(tile_row)
    assert joined._left is not None
    assert joined._left.probability.base is None
    assert len(joined._left.probability) == PLAN.overlap_px + PLAN.balance_px
