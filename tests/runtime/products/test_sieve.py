from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import runtime.products.sieve
from runtime.backends.base import FinishedRows
from runtime.products.polygons import polygonise
from runtime.products.sieve import Sieve
from sarwater.classes import NODATA


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.products.sieve, "_LEAST_STEP", 1)


def sieved(mask: np.ndarray, minimum_px: int, rows: int) -> np.ndarray:
    sieve = Sieve(minimum_px, len(mask))
    parts = [
        part
        for row in range(0, len(mask), rows)
        for part in sieve.push(FinishedRows(row, mask[row : row + rows], mask[row : row + rows]))
    ]
    assert [part.row for part in parts] == list(np.cumsum([0, *(len(part.mask) for part in parts[:-1])]))
    return np.concatenate([part.mask for part in parts])


def sizes(region: np.ndarray) -> list[float]:
    return [polygon.Area() for polygon in polygonise(region.astype(np.uint8))]


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 30),
    rows=st.integers(1, 20),
    minimum_px=st.integers(2, 9),
    seed=st.integers(0, 99),
)
def test_specks_on_land_vanish_wherever_they_lie_and_bodies_stay(
    height: int, width: int, rows: int, minimum_px: int, seed: int
) -> None:
    """Sparse water: every speck lies on large land, so each must go, and each large body must stay."""
    water = np.random.default_rng(seed).random((height, width)) < 0.15
    land = sizes(~water)
    if not land or min(land) < minimum_px:
        return
    result = sieved(water.astype(np.uint8), minimum_px, rows)
    assert all(size >= minimum_px for size in sizes(result == 1))
    assert sorted(sizes(result == 1)) == sorted(size for size in sizes(water) if size >= minimum_px)


@settings(max_examples=20, deadline=None)
@given(rows=st.integers(1, 20), other=st.integers(1, 20), seed=st.integers(0, 99))
def test_the_result_does_not_depend_on_how_rows_arrive(rows: int, other: int, seed: int) -> None:
    mask = (np.random.default_rng(seed).random((50, 20)) < 0.5).astype(np.uint8)
    assert np.array_equal(sieved(mask, 6, rows), sieved(mask, 6, other))


def test_small_islands_are_filled_and_nodata_is_left_alone() -> None:
    mask = np.ones((40, 40), np.uint8)
    mask[20, 20:23] = 0
    mask[5, 5:7] = NODATA
    result = sieved(mask, 10, 7)
    assert np.all(result[mask != NODATA] == 1)
    assert np.array_equal(result == NODATA, mask == NODATA)
