from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sarwater.errors import UsageError
from sarwater.scenes.array import array_sha256, listed_names, scene_of_array

PIXELS = np.ones((2, 8, 9), np.uint16)


@pytest.mark.parametrize("channels", ["vv,vh", "VV, VH", "vv vh", ("vv", "vh"), ["VV", "VH"]])
def test_channels_are_names_in_a_sequence_or_in_a_text(channels: str | Sequence[str]) -> None:
    assert [band.polarisation for band in scene_of_array(PIXELS, channels=channels).bands] == ["vv", "vh"]


def test_a_text_of_one_name_is_that_name() -> None:
    assert [band.polarisation for band in scene_of_array(PIXELS[0], channels="vv").bands] == ["vv"]
    assert array_sha256(PIXELS, listed_names("vv,vh")) == array_sha256(PIXELS, listed_names(("vv", "vh")))


def test_a_text_of_too_few_names_says_so() -> None:
    with pytest.raises(UsageError, match="channels vv: 1 names for 2 planes"):
        scene_of_array(PIXELS, channels="vv")
