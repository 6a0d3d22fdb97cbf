from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bootstrap import Counts, count
from sarwater.classes import LAND, NODATA, WATER
from sarwater.metrics import confusion
from train.scoring.scores import Scores, score_tile


def masks(height: int, width: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A mask and a truth that agree mostly; the truth has some nodata."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((height, width)) < 0.4).astype(np.uint8)
    mask = np.where(rng.random(truth.shape) < 0.1, 1 - truth, truth).astype(np.uint8)
    truth[rng.random(truth.shape) < 0.1] = NODATA
    return mask, truth


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 50), st.integers(0, 9))
def test_blocks_add_up_to_the_whole(height: int, width: int, block_px: int, seed: int) -> None:
    mask, truth = masks(height, width, seed)
    blocks = count(mask, truth, block_px)
    tile = score_tile("x", mask, truth, 3)
    whole = confusion(mask, truth)
    assert len(blocks) == -(-height // block_px) * -(-width // block_px)
    assert tile.boundary is not None
    expected = [whole.true_water, whole.false_water, whole.missed_water, whole.true_land, *vars(tile.boundary).values()]
    assert blocks.sum(axis=0).tolist() == expected


def test_figures_are_those_of_train_scores() -> None:
    pairs = [masks(64, 48, seed) for seed in range(3)]
    scores = Scores(tuple(score_tile(str(i), mask, truth, 3) for i, (mask, truth) in enumerate(pairs)))
    figures = Counts(tuple(count(mask, truth, 16) for mask, truth in pairs)).figures(50)
    assert figures["pooled_iou"].value == pytest.approx(scores.pooled_iou)
    assert figures["mean_tile_iou"].value == pytest.approx(scores.mean_tile_iou)
    assert figures["f1"].value == pytest.approx(scores.pooled.f1)
    assert figures["boundary_f"].value == pytest.approx(scores.boundary_f)


def test_an_interval_holds_its_value_and_narrows_with_more_blocks() -> None:
    few, many = (Counts((count(*masks(side, side, 0), 16),)).figures(400)["pooled_iou"] for side in (64, 256))
    for figure in (few, many):
        assert figure.low < figure.value < figure.high
    assert many.high - many.low < (few.high - few.low) / 2


def test_scenes_of_one_block_are_drawn_whole() -> None:
    right, wrong = np.array([[100, 0, 0, 100, 0, 0, 0, 0]]), np.array([[0, 100, 100, 0, 0, 0, 0, 0]])
    figure = Counts((right, wrong) * 4).figures(500)["mean_tile_iou"]
    assert (figure.value, figure.low < 0.3, figure.high > 0.7) == (0.5, True, True)


def test_a_change_is_measured_on_the_same_resamples() -> None:
    pairs = [masks(64, 64, seed) for seed in range(2)]
    counts = Counts(tuple(count(mask, truth, 16) for mask, truth in pairs))
    better = Counts(tuple(count(np.where(truth == 1, 1, 0).astype(np.uint8), truth, 16) for _, truth in pairs))
    same, change = counts.change_of_iou(counts, 100), counts.change_of_iou(better, 100)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert 0 < change.low < change.value < change.high


def test_dry_scenes_are_scored_on_land_and_by_the_share_called_water() -> None:
    figures = Counts((np.array([[0, 25, 0, 75, 0, 0, 0, 0]]),)).figures(10)
    assert figures["false_share"].value == 0.25
    assert figures["mean_tile_iou"].value == 0.75
    assert figures["pooled_iou"].value == 0
    scenes = Counts(
        (np.array([[0, 25, 0, 75, 0, 0, 0, 0]]), np.array([[9, 1, 9, 1, 0, 0, 0, 0], [0, 0, 0, 2, 0, 0, 0, 0]]))
    )
    assert scenes.false_shares().tolist() == [0.25, 0.25]


def test_dry_are_the_blocks_with_land_and_without_water() -> None:
    truth = np.full((32, 48), LAND, np.uint8)
    truth[:16, :16], truth[16:, :16], truth[20, 20] = NODATA, NODATA, WATER
    mask = np.full(truth.shape, LAND, np.uint8)
    mask[0, 40:48], mask[31, 16:] = WATER, WATER
    dry = Counts((count(mask, truth, 16), count(truth, np.full_like(truth, NODATA), 16))).dry()
    assert [len(tile) for tile in dry.tiles] == [3]
    assert dry.figures(10)["false_share"].value == (8 + 16) / (3 * 256)
