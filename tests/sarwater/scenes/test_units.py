from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sarwater.scenes.units import AMPLITUDE_DN_AT_0_DB, unlike_amplitude


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@given(data=st.data())
def test_amplitudes_of_any_type_pass(dtype: type, data: st.DataObject) -> None:
    pixels = data.draw(arrays.arrays(dtype, (5, 7), elements=st.integers(0, 250)))
    assert unlike_amplitude(pixels) is None


@given(st.floats(-35, 15), st.floats(0, 3))
def test_backscatter_is_told_from_amplitude_in_either_scale(mean_db: float, spread_db: float) -> None:
    """Of any scene whose median is below 0 dB, as land and water are."""
    level_db = np.random.default_rng(0).normal(min(mean_db, -4), spread_db, (20, 30)).astype(np.float32)
    assert "decibels" in (unlike_amplitude(level_db) or "")
    linear = 10 ** (level_db / 10)
    assert "linear" in (unlike_amplitude(linear) or "")
    amplitude = AMPLITUDE_DN_AT_0_DB * np.sqrt(linear)
    assert unlike_amplitude(amplitude) is None


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_a_fill_value_that_is_not_declared_is_named(dtype: type) -> None:
    pixels = np.full((40, 50), 60, dtype)
    pixels[:2] = -9999
    assert "holds -9999 again and again" in (unlike_amplitude(pixels) or "")
    assert unlike_amplitude(pixels, -9999) is None
    assert unlike_amplitude(np.full_like(pixels, -9999), -9999) is None, "nothing was measured"


def test_what_resampling_leaves_beside_bright_targets_is_no_decibel() -> None:
    pixels = np.full((40, 50), 60, np.float32)
    pixels[::8, ::9] = -np.arange(1, 31).reshape(5, 6)
    assert unlike_amplitude(pixels) is None
