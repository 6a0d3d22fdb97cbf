from __future__ import annotations

import numpy as np
import pytest

from sarwater.metrics import Confusion, confusion, mean_tile_iou, pooled_iou


def mask(*values: int) -> np.ndarray:
    return np.array(values, np.uint8)


def test_confusion_counts_each_pair_of_classes() -> None:
    counts = confusion(mask(1, 1, 1, 0, 0, 0, 0), mask(1, 1, 0, 1, 0, 0, 0))
    assert counts == Confusion(true_water=2, false_water=1, missed_water=1, true_land=3)
    assert counts.iou == pytest.approx(2 / 4)
    assert counts.f1 == pytest.approx(4 / 6)
    assert counts.precision == pytest.approx(2 / 3)
    assert counts.recall == pytest.approx(2 / 3)


def test_nodata_on_either_side_counts_for_nothing() -> None:
    assert confusion(mask(255, 1, 0), mask(1, 255, 0)) == Confusion(true_land=1)


def test_pooled_and_mean_tile_iou_differ_when_tiles_differ_in_water() -> None:
    large, small = Confusion(90, 10, 0, 0), Confusion(1, 1, 0, 98)
    assert pooled_iou([large, small]) == pytest.approx(91 / 102)
    assert mean_tile_iou([large, small]) == pytest.approx((0.9 + 0.5) / 2)


def test_a_tile_without_water_is_scored_on_the_inverted_masks() -> None:
    assert mean_tile_iou([Confusion(false_water=10, true_land=90)]) == pytest.approx(0.9)


def test_masks_of_different_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one shape"):
        confusion(mask(1, 0), mask(1))
