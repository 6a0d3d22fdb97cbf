from __future__ import annotations

import numpy as np
import pytest

from sarwater.classes import LAND, NODATA, WATER
from sarwater.golden import FILE, golden_scene
from sarwater.manifest import Channel


def test_the_golden_scenes_are_small_and_hold_water_land_and_nodata() -> None:
    assert FILE.stat().st_size < 400_000
    pixels, truth = golden_scene([Channel("sar", "amplitude_dn")])
    assert pixels.dtype == np.uint16
    assert pixels.shape == (1, *truth.shape)
    assert set(np.unique(truth)) == {LAND, WATER, NODATA}
    assert 0.2 < (truth == WATER).mean() < 0.6
    assert not pixels[0, truth == NODATA].any()
    assert pixels[0, truth == WATER].mean() < pixels[0, truth == LAND].mean()


def test_they_are_mirrored_until_they_are_as_large_as_is_asked_for() -> None:
    small, small_truth = golden_scene([Channel("sar", "amplitude_dn")])
    pixels, truth = golden_scene([Channel("sar", "amplitude_dn")], 1000)
    height_px, width_px = small_truth.shape
    assert truth.shape == (1000, 1000)
    assert (pixels[:, :height_px, :width_px] == small).all()
    assert (truth[height_px : 2 * height_px, :width_px] == small_truth[::-1]).all()


@pytest.mark.parametrize("unit", ["sigma0_linear", "sigma0_db"])
def test_they_come_in_the_unit_of_each_channel(unit: str) -> None:
    pixels, truth = golden_scene([Channel("vv", unit), Channel("vh", unit), Channel("gim", "incidence_dn")])
    assert pixels.dtype == np.float32
    seen = pixels[:, truth != NODATA].astype(np.float64)
    co_db, cross_db = seen[:2] if unit == "sigma0_db" else 10 * np.log10(seen[:2])
    assert -40 < np.median(co_db) < 0
    assert np.median(co_db - cross_db) == pytest.approx(6, abs=0.5)
    assert 60 <= seen[2].min() < seen[2].max() <= 200
