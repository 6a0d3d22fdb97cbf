from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sarwater.upsampling import MAX_FACTOR, block_sums, upsampled, upsampling_factor


@pytest.mark.parametrize(
    ("pixel_m", "factor"), [(1.1, 1), (10, 1), (30, 1), (33, 1), (34, 2), (60, 2), (70, 3), (100, 4), (500, 4)]
)
def test_the_smallest_factor_that_brings_the_pixels_to_what_is_known(pixel_m: float, factor: int) -> None:
    assert upsampling_factor(pixel_m, 30.0) == factor


@pytest.mark.parametrize(
    ("pixel_m", "coarsest_m"), [(None, 30.0), (60.0, None), (60.0, 0.0), (math.nan, 30.0), (math.inf, 30.0)]
)
def test_what_is_not_known_is_left_as_it_is(pixel_m: float | None, coarsest_m: float | None) -> None:
    assert upsampling_factor(pixel_m, coarsest_m) == 1


@given(arrays.arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9))), st.integers(1, MAX_FACTOR))
def test_the_mean_over_the_block_is_the_pixel(pixels: np.ndarray, factor: int) -> None:
    larger = upsampled(pixels, factor)
    assert larger.shape == (pixels.shape[0] * factor, pixels.shape[1] * factor)
    assert larger.dtype == pixels.dtype
    assert np.array_equal(block_sums(larger, factor) / factor**2, pixels)
    row, column = (np.random.default_rng(0).integers(side) for side in larger.shape)
    assert larger[row, column] == pixels[row // factor, column // factor]
