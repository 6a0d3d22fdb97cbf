from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sarwater.classes import NODATA
from sarwater.otsu import otsu
from train.scoring.baseline import box_otsu
from train.scoring.scores import Boundary, Scores, score_tile

masks = arrays(np.uint8, (12, 12), elements=st.sampled_from([0, 0, 1, 1, NODATA]))


def square(top: int, size: int = 40) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + 20, 10:30] = 1
    return mask


def boundary_f(mask: np.ndarray, truth: np.ndarray, tolerance_px: int) -> float:
    boundary = score_tile("a", mask, truth, tolerance_px).boundary
    assert boundary is not None
    return boundary.f_score


def test_a_shoreline_within_the_tolerance_is_right_and_beyond_it_is_not() -> None:
    assert boundary_f(square(12), square(10), tolerance_px=2) == 1
    assert boundary_f(square(13), square(10), tolerance_px=2) < 1


def test_the_tolerance_is_a_disc() -> None:
    one, diagonal = np.zeros((2, 9, 9), np.uint8)
    one[3, 3], diagonal[5, 5] = 1, 1
    assert boundary_f(one, diagonal, tolerance_px=2) == 0
    assert boundary_f(one, diagonal, tolerance_px=3) == 1


def test_neither_the_edge_nor_nodata_is_a_shore() -> None:
    lake = np.ones((10, 10), np.uint8)
    lake[:, 7:] = NODATA
    assert score_tile("a", lake, lake, 1).boundary == Boundary(0, 0, 0, 0)


def test_a_missed_shore_scores_zero_and_no_shore_at_all_one() -> None:
    dry = np.zeros((40, 40), np.uint8)
    assert boundary_f(dry, square(10), 2) == 0
    assert boundary_f(dry, dry, 2) == 1


@settings(max_examples=40, deadline=None)
@given(masks, masks, st.integers(0, 4))
def test_the_boundary_score_lies_between_0_and_1_and_is_1_for_equal_masks(
    a: np.ndarray, b: np.ndarray, px: int
) -> None:
    assert 0 <= boundary_f(a, b, px) <= 1
    assert boundary_f(a, a, px) == 1


def test_the_averages_are_named_and_differ() -> None:
    large, small = np.zeros((2, 64, 64), np.uint8)
    large[:32] = 1
    small[0, :10] = 1
    scores = Scores((score_tile("l", large, large, 1), score_tile("s", np.zeros_like(small), small, 1)))
    figures = scores.to_dict()
    assert figures["mean_tile_iou"] == 0.5
    assert figures["pooled_iou"] == pytest.approx(2048 / 2058)
    assert figures["recall"] == pytest.approx(2048 / 2058)
    assert [tile["name"] for tile in figures["tiles"]] == ["l", "s"]


def test_otsu_separates_two_modes() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(20, 1, 500), rng.normal(35, 1, 2000)])
    assert 23 < otsu(values) < 32


def test_the_baseline_finds_a_lake_in_speckle_and_survives_an_empty_tile() -> None:
    from tests.support.lakes import lake

    amplitude, label = lake(96, 0)
    assert score_tile("a", box_otsu(amplitude.astype(np.float32), 5), label // 255).confusion.iou > 0.9
    assert box_otsu(np.zeros((8, 8), np.float32)).max() == 0


def test_a_strip_narrower_than_the_tolerance_has_a_shoreline() -> None:
    strip = np.array([[1, 0]], np.uint8)
    assert score_tile("strip", strip, strip, 3).boundary == Boundary(1, 1, 1, 1)
