from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bootstrap import FALSE_SHARE, MEAN_SCENE_IOU, POOLED_IOU, RECALL, REFUSED, Counts, count
from benchmarks.water_width import WIDTHS
from sarwater.classes import LAND, NODATA, WATER
from sarwater.metrics import confusion, mean_tile_iou

COLUMNS = 5 + 2 * len(WIDTHS)


def masks(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask and a truth that agree mostly; the truth has some nodata."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((height, width)) < 0.4).astype(np.uint8)
    mask = np.where(rng.random(truth.shape) < 0.1, 1 - truth, truth).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = NODATA
    return mask, truth


def counted(true_water: int, false_water: int, missed_water: int, true_land: int) -> np.ndarray:
    return np.array([[true_water, false_water, missed_water, true_land] + [0] * (COLUMNS - 4)])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 9))
def test_blocks_add_up_to_the_whole(height: int, width: int, block_px: int, seed: int) -> None:
    mask, truth = masks(height, width, seed)
    blocks = count(mask, truth, block_px=block_px)
    assert len(blocks) == -(-height // block_px) * -(-width // block_px)
    assert blocks.sum(axis=0)[:4].tolist() == list(vars(confusion(mask, truth)).values())


def test_figures_are_those_of_the_metrics() -> None:
    pairs = [masks(64, 48, seed) for seed in range(3)]
    whole = [confusion(mask, truth) for mask, truth in pairs]
    figures = Counts(tuple(count(mask, truth, block_px=16) for mask, truth in pairs)).figures(50)
    pooled = sum(whole[1:], whole[0])
    assert figures[POOLED_IOU].value == pytest.approx(pooled.iou)
    assert figures[MEAN_SCENE_IOU].value == pytest.approx(mean_tile_iou(whole))
    assert figures[RECALL].value == pytest.approx(pooled.recall)


def test_water_that_the_mask_has_as_nodata_is_missed() -> None:
    counts = count(np.full((4, 4), NODATA, np.uint8), np.full((4, 4), WATER, np.uint8))
    assert counts[0, :4].tolist() == [0, 0, 16, 0]


def test_a_refused_scene_counts_as_land_and_is_counted() -> None:
    truth = np.array([[WATER, LAND, NODATA]], np.uint8)
    refused, answered = count(None, truth), count(truth, truth)
    assert refused[0, : REFUSED + 1].tolist() == [0, 0, 1, 1, 2]
    assert Counts((refused, answered)).refused == 1


def test_recall_is_told_by_width() -> None:
    truth = np.full((2, 4), WATER, np.uint8)
    mask, widths = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], np.uint8), np.array([[1] * 4, [5] * 4], np.uint8)
    figures = Counts((count(mask, truth, widths),)).figures(10)
    assert [figures[width].value for width in (WIDTHS[0], WIDTHS[4])] == [0.75, 0.25]
    assert WIDTHS[2] not in figures


def test_an_interval_holds_its_value_and_narrows_with_more_blocks() -> None:
    few, many = (Counts((count(*masks(side, side, 0), block_px=16),)).figures(400)[POOLED_IOU] for side in (64, 256))
    for figure in (few, many):
        assert figure.low < figure.value < figure.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_scenes_are_drawn_whole_where_they_are_many_or_small_or_independent_and_by_their_blocks_else() -> None:
    right, wrong = counted(50, 0, 0, 50).repeat(2, axis=0), counted(0, 50, 50, 0).repeat(2, axis=0)
    small = Counts((right[:1], wrong[:1]))
    for counts in (Counts((right, wrong) * 5), Counts((right, wrong), independent=True), small):
        figure = counts.figures(500)[MEAN_SCENE_IOU]
        assert figure.low < figure.value == 0.5 < figure.high
    figure = Counts((right, wrong)).figures(500)[MEAN_SCENE_IOU]
    assert figure.low == figure.value == figure.high == 0.5


def test_a_change_is_measured_on_the_same_resamples() -> None:
    pairs = [masks(64, 64, seed) for seed in range(2)]
    counts = Counts(tuple(count(mask, truth, block_px=16) for mask, truth in pairs))
    better = Counts(tuple(count(np.where(truth == 1, 1, 0).astype(np.uint8), truth, block_px=16) for _, truth in pairs))
    same, change = (counts.change(other, POOLED_IOU, 100) for other in (counts, better))
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert 0 < change.low < change.value < change.high


def test_scenes_without_water_have_false_water_and_no_pooled_iou() -> None:
    figures = Counts((counted(0, 25, 0, 75),)).figures(10)
    assert (figures[FALSE_SHARE].value, figures[MEAN_SCENE_IOU].value) == (0.25, 0.75)
    assert not figures.keys() & {POOLED_IOU, RECALL}
