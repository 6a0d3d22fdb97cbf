from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.backends.cpu.host import HostRun, as_factors, as_pixel, gather
from sarwater.classes import NODATA
from sarwater.errors import ModelError
from sarwater.tiling import TilePlan

TILE_PX = 32


class Echo:
    """A TileNetwork whose probability is the pixel itself over 256, so that a blended scene must equal its input."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._tiles = [np.zeros((1, TILE_PX, TILE_PX), np.float32) for _ in range(depth)]
        self.started = 0

    def input(self, slot: int) -> np.ndarray:
        return self._tiles[slot]

    def start(self, slot: int) -> None:
        self.started += 1

    def result(self, slot: int) -> np.ndarray:
        return self._tiles[slot][0] / np.float32(256)


def run(pixels: np.ndarray, overlap_px: int, nodata: float | None, depth: int = 3, threshold: float = 0.5):
    """Push a whole (C, H, W) scene; (mask, confidence, counters)."""
    _, height, width = pixels.shape
    plan = TilePlan(height, width, TILE_PX, overlap_px)
    scene = HostRun(plan, Echo(depth), nodata, threshold)
    parts = [scene.push(pixels[:, span.start : span.start + TILE_PX]) for span in plan.rows]
    parts = [part for part in parts if part.mask.size]
    rows = [part.row for part in parts]
    assert rows == list(np.cumsum([0, *(len(part.mask) for part in parts[:-1])]))
    mask = np.concatenate([part.mask for part in parts])
    return mask, np.concatenate([part.confidence for part in parts]), scene.counters


def test_each_channel_reaches_the_network_times_its_gain_and_nodata_stays_0() -> None:
    rows = np.random.default_rng(1).integers(0, 5, (2, 64, 90)).astype(np.uint16)
    plain, levelled = np.empty((2, 64, 64), np.float32), np.empty((2, 64, 64), np.float32)
    gather(rows, None, np.uint16(3), 10, plain)
    gather(rows, None, np.uint16(3), 10, levelled, as_factors([0.3, 2.5]))
    assert np.array_equal(levelled, plain * np.array([0.3, 2.5], np.float32)[:, None, None])
    assert levelled.any()


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    overlap_px=st.sampled_from([0, 2, 10]),
    depth=st.integers(1, 5),
    dtype=st.sampled_from([np.uint8, np.uint16, np.int16, np.float32]),
    seed=st.integers(0, 9),
)
def test_a_network_that_echoes_its_input_gives_the_scene_back(height, width, overlap_px, depth, dtype, seed) -> None:
    pixels = np.random.default_rng(seed).integers(1, 255, (1, height, width)).astype(dtype)
    mask, confidence, counters = run(pixels, overlap_px, 0, depth)
    expected = pixels[0].astype(np.float64) / 256
    clear = np.abs(expected - 0.5) > 1e-3
    assert mask.shape == (height, width)
    assert np.array_equal(mask[clear], (expected >= 0.5).astype(np.uint8)[clear])
    assert np.abs(confidence - expected * 100).max() <= 0.51
    assert counters.tiles + counters.tiles_skipped == TilePlan(height, width, TILE_PX, overlap_px).tiles


def test_nodata_stays_nodata_and_its_tiles_are_never_inferred() -> None:
    pixels = np.full((1, 96, 96), 200, np.uint16)
    pixels[:, :, 40:] = 0
    mask, confidence, counters = run(pixels, 0, 0)
    assert np.array_equal(mask == NODATA, pixels[0] == 0)
    assert np.array_equal(confidence == NODATA, pixels[0] == 0)
    assert counters.tiles_skipped == 3  # the eastern of three columns


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(20, 150),
    width=st.integers(20, 200),
    overlap_px=st.sampled_from([0, 2, 10]),
    slant=st.floats(-1, 1),
    share=st.floats(0.05, 1.2),
    depth=st.integers(1, 5),
)
def test_a_slanting_swath_is_given_back_whole(height, width, overlap_px, slant, share, depth) -> None:
    pixels = np.random.default_rng(height).integers(1, 255, (1, height, width)).astype(np.uint8)
    y, x = np.ogrid[:height, :width]
    beyond = np.abs(x - width / 2 - slant * (y - height / 2)) > share * width / 2
    pixels[0, beyond] = 0
    mask, confidence, counters = run(pixels, overlap_px, 0, depth)
    assert np.array_equal(mask == NODATA, pixels[0] == 0)
    assert np.abs(confidence - pixels[0].astype(np.float64) / 2.56)[~beyond].max(initial=0) <= 0.51
    assert counters.tiles + counters.tiles_skipped == TilePlan(height, width, TILE_PX, overlap_px).tiles


def test_rows_keep_coming_over_nodata() -> None:
    """A tile that nobody waits for must not hold back the bands behind it: memory would grow with the scene."""
    pixels = np.zeros((1, 640, 96), np.uint16)
    pixels[:, :40] = 200
    plan = TilePlan(640, 96, TILE_PX, 0)
    scene = HostRun(plan, Echo(2), 0, 0.5)
    done = 0
    for number, span in enumerate(plan.rows):
        done += len(scene.push(pixels[:, span.start : span.start + TILE_PX]).mask)
        assert done >= plan.rows[max(0, number - 1)].lo
    assert done == 640


def test_the_same_scene_gives_the_same_bytes_whatever_the_number_of_slots() -> None:
    pixels = np.random.default_rng(1).integers(1, 255, (1, 100, 130)).astype(np.uint8)
    results = [run(pixels, 10, 0, depth)[1].tobytes() for depth in (1, 2, 7)]
    assert results[0] == results[1] == results[2]


def test_a_pixel_measured_in_one_channel_is_no_nodata() -> None:
    pixels = np.zeros((2, 4, 4), np.uint8)
    pixels[1, 0, 0] = 7
    tile = np.empty((2, TILE_PX, TILE_PX), np.float32)
    gather(pixels, None, np.uint8(0), 0, tile)
    assert tile[1, 0, 0] == 7


def test_nodata_enters_the_network_as_zero() -> None:
    pixels = np.full((1, TILE_PX, TILE_PX), 9, np.uint8)
    pixels[0, 3, 4] = 255
    tile = np.empty((1, TILE_PX, TILE_PX), np.float32)
    gather(pixels, pixels[0] != 255, np.uint8(255), 0, tile)
    assert tile[0, 3, 4] == 0
    assert tile[0, 3, 5] == 9


@pytest.mark.parametrize("value", [-1.0, 256.0, 0.5])
def test_a_value_no_pixel_can_have_marks_nothing(value: float) -> None:
    assert as_pixel(value, np.dtype(np.uint8)) is None


def test_nan_from_the_network_is_an_error_and_not_land() -> None:
    pixels = np.full((1, TILE_PX, TILE_PX), np.nan, np.float32)
    with pytest.raises(ModelError, match="NaN"):
        run(pixels, 0, None)
