from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from sarwater.scenes.valid_extent import is_empty, measured_columns


def beyond(row: list[int], nodata: float | None = 255) -> str:
    """`row` with a dot for every pixel that is no measurement."""
    empty = is_empty(np.array([[row]], np.uint8), nodata)
    (first,), (end,) = measured_columns(empty)
    return "".join("x" if first <= column < end else "." for column in range(len(row)))


@pytest.mark.parametrize(
    ("row", "shown"),
    [
        ([7, 7, 7, 7], "xxxx"),
        ([0, 0, 7, 7], "..xx"),
        ([255, 0, 7, 0], "..x."),
        ([7, 0, 0, 7], "xxxx"),
        ([7, 255, 0, 7], "xxxx"),
        ([0, 255, 0, 0], "...."),
    ],
)
def test_zeros_joined_to_an_edge_are_beyond_the_valid_extent(row: list[int], shown: str) -> None:
    assert beyond(row) == shown


def test_a_pixel_with_an_echo_in_one_channel_is_measured() -> None:
    pixels = np.array([[[0, 0, 5]], [[0, 3, 0]]], np.uint16)
    assert measured_columns(is_empty(pixels, None)) == (1, 3)


def test_nan_and_infinity_are_no_echo() -> None:
    assert is_empty(np.array([[[np.nan, np.inf, 0, 1]]], np.float32), None).tolist() == [[True, True, True, False]]


@given(st_numpy.arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 12))))
def test_first_and_end_enclose_exactly_what_is_measured(empty: npt.NDArray[np.bool_]) -> None:
    first, end = measured_columns(empty)
    for row, start, stop in zip(empty, first, end, strict=True):
        measured = np.flatnonzero(~row)
        assert (start, stop) == ((measured[0], measured[-1] + 1) if measured.size else (len(row), 0))
