from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarwater.errors import SceneUnreadable
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from tests.support.rasters import wkt

UTM = wkt(32652)
SIX = st.lists(st.floats(), min_size=6, max_size=6)
HUGE_UNIT = UTM.replace('UNIT["metre",1', 'UNIT["metre",1e300')
NUMBERS = st.floats()


@pytest.mark.parametrize("epsg", [32652, 4326, 3857, 3413, 5186, 27700, 2263, 4978])
def test_sound_systems_pass(epsg: int) -> None:
    Georeference(wkt(epsg), (300000.0, 10.0, 0.0, 4e6, 0.0, -10.0)).refuse_nonsense("a.tif")


@pytest.mark.parametrize(
    ("georeference", "message"),
    [
        (Georeference(HUGE_UNIT, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)), "beyond all bounds"),
        (Georeference("x" * 100_000, (0.0, 5.0, 0.0, 0.0, 0.0, -5.0)), "100,000 characters"),
        (Georeference(gcps=(GroundControlPoint(0, 0, math.nan, 1, 0),), gcp_crs_wkt=UTM), "no numbers"),
    ],
)
def test_a_damaged_header_is_told_by_its_georeference(georeference: Georeference, message: str) -> None:
    with pytest.raises(SceneUnreadable, match=rf"^a\.tif: .*{message}.*send it again"):
        georeference.refuse_nonsense("a.tif")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(NUMBERS, min_size=6, max_size=6), st.sampled_from(["", UTM, "GEOGCS[", HUGE_UNIT]), st.integers(1, 10**6)
)
def test_no_numbers_end_in_another_error(numbers: list[float], crs: str, side_px: int) -> None:
    found = Georeference(crs, tuple(numbers))
    for georeference in (found, found.shifted(3, 5), found.scaled(2)):
        spacing = georeference.pixel_m(side_px, 7)
        assert spacing is None or spacing > 0
        georeference.footprint(side_px, 7)
    _ = found.epsg, found.wkt2, found.is_north_up, found.crs


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=7), st.sampled_from(["", UTM, wkt(4326)]))
def test_no_control_points_end_in_another_error(points: list[tuple[float, ...]], crs: str) -> None:
    gcps = tuple(GroundControlPoint(*point, 0.0) for point in points)
    found = Georeference(gcps=gcps, gcp_crs_wkt=crs)
    spacing = found.pixel_m(100, 100)
    assert spacing is None or spacing > 0
    found.footprint(100, 100)
