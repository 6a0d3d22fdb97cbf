from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export.accuracy import Accuracy, compare
from export.samples import Sample
from sarwater.classes import LAND, NODATA, WATER

SIDE = 8


def tile(truth: np.ndarray) -> Sample:
    return Sample("t", np.zeros((1, SIDE, SIDE), np.float32), truth.astype(np.uint8))


def half_water() -> np.ndarray:
    truth = np.full((SIDE, SIDE), LAND)
    truth[:, : SIDE // 2] = WATER
    return truth


def test_the_reference_itself_has_no_error() -> None:
    answer = np.where(half_water() == WATER, 0.9, 0.1).astype(np.float32)
    accuracy = compare([answer], [answer], [tile(half_water())], 0.5)
    assert accuracy == Accuracy(0, 0, 0, iou=1, f1=1, iou_loss=0, f1_loss=0)
    assert accuracy.passes("fp16")


def test_one_lost_pixel_of_water_shows_everywhere() -> None:
    reference = np.where(half_water() == WATER, 0.9, 0.1).astype(np.float32)
    found = reference.copy()
    found[0, 0] = 0.4
    accuracy = compare([found], [reference], [tile(half_water())], 0.5)
    assert accuracy.changed_share == 1 / SIDE**2
    assert accuracy.max_error == pytest.approx(0.5)
    assert accuracy.mean_error == pytest.approx(0.5 / SIDE**2)
    assert accuracy.iou_loss == pytest.approx(1 / (SIDE**2 / 2))
    assert not accuracy.passes("int8")


def test_nodata_counts_for_nothing() -> None:
    truth = half_water()
    truth[0] = NODATA
    reference = np.full((SIDE, SIDE), 0.9, np.float32)
    found = reference.copy()
    found[0] = 0.0
    assert compare([found], [reference], [tile(truth)], 0.5).changed_share == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_answer_that_is_no_number_never_passes(bad: float) -> None:
    reference = np.full((SIDE, SIDE), 0.1, np.float32)
    found = reference.copy()
    found[3, 3] = bad
    accuracy = compare([found], [reference], [tile(np.full((SIDE, SIDE), LAND))], 0.5)
    assert not accuracy.passes("int8")


@given(st.integers(0, 2**32 - 1), st.integers(1, 3))
def test_tiles_are_pooled_not_averaged(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    found, reference = random.random((2, count, SIDE, SIDE)).astype(np.float32)
    truth = random.integers(0, 2, (count, SIDE, SIDE))
    apart = compare(list(found), list(reference), [tile(item) for item in truth], 0.5)
    wide = Sample("all", np.zeros((1, count * SIDE, SIDE), np.float32), truth.reshape(-1, SIDE).astype(np.uint8))
    together = compare([found.reshape(-1, SIDE)], [reference.reshape(-1, SIDE)], [wide], 0.5)
    assert apart.iou == together.iou
    assert apart.mean_error == pytest.approx(together.mean_error)
