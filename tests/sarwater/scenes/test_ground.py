"""Footprints and areas, against closed formulas and the rules of RFC 7946, wherever on the earth a scene lies."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from osgeo import ogr, osr

from runtime.products.outlines import Outlines
from runtime.products.placement import Placement
from runtime.products.polygons import polygonise
from runtime.tally import Tally
from sarwater.scenes.footprint import Footprint, footprint_of
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from tests.support.rasters import wkt

SIZE = 64
RPC = (
    ("LINE_OFF", "31.5"), ("SAMP_OFF", "31.5"), ("LAT_OFF", "37"), ("LONG_OFF", "179.999"), ("HEIGHT_OFF", "100"),
    ("LINE_SCALE", "32"), ("SAMP_SCALE", "32"), ("LAT_SCALE", "0.0032"), ("LONG_SCALE", "0.0032"),
    ("HEIGHT_SCALE", "500"), ("LINE_NUM_COEFF", "0 0 -1 0" + " 0" * 16), ("LINE_DEN_COEFF", "1" + " 0" * 19),
    ("SAMP_NUM_COEFF", "0 1 0 0" + " 0" * 16), ("SAMP_DEN_COEFF", "1" + " 0" * 19),
)  # fmt: skip


def box_m2(south: float, north: float, width_deg: float) -> float:
    """Area of a box of longitude and latitude on WGS 84 (Snyder, Map Projections, 1987, eq. 3-11 and 3-12)."""
    semi_major_m, eccentricity = 6378137.0, 0.0818191908426

    def q(latitude_deg: float) -> float:
        sine = math.sin(math.radians(latitude_deg))
        logarithm = math.log((1 - eccentricity * sine) / (1 + eccentricity * sine)) / (2 * eccentricity)
        return (1 - eccentricity**2) * (sine / (1 - (eccentricity * sine) ** 2) - logarithm)

    return semi_major_m**2 / 2 * (q(north) - q(south)) * math.radians(width_deg)


def whole(size: int = SIZE) -> Outlines:
    """All of a raster as a polygon in its pixels."""
    return Outlines.of([bytes(found.ExportToWkb(ogr.wkbNDR)) for found in polygonise(np.ones((size, size), np.uint8))])


def areas(georeference: Georeference, size: int = SIZE) -> list[float]:
    """m2 of a raster that is all water: of its polygon, of the tally, by the pixel spacing."""
    water = np.ones((size, size), np.uint8)
    polygon = whole(size)
    tally = Tally(georeference, size)
    tally.add(0, water)
    (measured_m2,), _ = Placement(georeference, size, size).measure(polygon)
    pixel_m = georeference.pixel_m(size, size)
    assert tally.water_km2 is not None
    assert pixel_m is not None
    return [measured_m2, tally.water_km2 * 1e6, (pixel_m * size) ** 2]


def geometry_of(footprint: Footprint) -> ogr.Geometry:

    return ogr.CreateGeometryFromJson(json.dumps(footprint.geometry))


def footprint(georeference: Georeference, size: int = SIZE) -> Footprint:
    found = georeference.footprint(size, size)
    assert found is not None
    geometry = geometry_of(found)
    assert geometry.IsValid()
    west, east, south, north = geometry.GetEnvelope()
    assert -180 <= west <= east <= 180
    assert -90 <= south <= north <= 90
    parts = (
        found.geometry["coordinates"] if found.geometry["type"] == "MultiPolygon" else [found.geometry["coordinates"]]
    )
    for part in parts:
        x, y = np.array(part[0]).T
        assert np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) > 0, "counter-clockwise"
    return found


@settings(max_examples=60, deadline=None)
@given(
    west=st.floats(-180, 360),
    width_deg=st.floats(0.001, 20),
    south=st.floats(-89, 88),
    height_deg=st.floats(0.001, 20),
)
@example(west=170.5, width_deg=10.0, south=0.0, height_deg=2.0)
def test_a_box_of_longitude_and_latitude_has_its_area_and_footprint(
    west: float, width_deg: float, south: float, height_deg: float
) -> None:
    north = min(90.0, south + height_deg)
    transform = (west, width_deg / SIZE, 0, north, 0, (south - north) / SIZE)
    georeference = Georeference(wkt(4326), transform)
    expected = box_m2(south, north, width_deg)
    assert areas(georeference) == pytest.approx([expected] * 3, rel=2e-3)
    found = footprint(georeference)
    left, right = ((edge + 180) % 360 - 180 for edge in (west, west + width_deg))
    assert (found.bbox[1], found.bbox[3]) == pytest.approx((south, north), abs=1e-6)
    for bound, edge in ((found.bbox[0], left), (found.bbox[2], right)):
        assert abs((bound - edge + 180) % 360 - 180) < 1e-6
    assert geometry_of(found).GetArea() == pytest.approx(width_deg * (north - south), rel=1e-3)


@settings(max_examples=100, deadline=None)
@given(middle=st.floats(-180, 180), latitude=st.floats(-60, 60), radius=st.floats(0.01, 20), corners=st.integers(3, 60))
def test_what_is_cut_at_the_antimeridian_is_the_whole(
    middle: float, latitude: float, radius: float, corners: int
) -> None:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    longitude, y = middle + radius * np.cos(angle), latitude + radius * np.sin(angle)
    found = footprint_of(np.stack([(longitude + 180) % 360 - 180, y], axis=1))
    crosses = bool(longitude.max() > 180 or longitude.min() < -180)
    area = radius**2 * corners / 2 * math.sin(2 * math.pi / corners)
    assert geometry_of(found).GetArea() == pytest.approx(area, rel=1e-6)
    if crosses and min(longitude.max() - 180, 180 - longitude.min()) > 1e-6:
        assert found.geometry["type"] in ("MultiPolygon", "Polygon")
    assert (found.bbox[0] > found.bbox[2]) == (found.geometry["type"] == "MultiPolygon") or not crosses


@pytest.mark.parametrize(("epsg", "x"), [(32601, 304_000), (32660, 660_000), (32701, 210_000)])
def test_utm_across_the_antimeridian_is_two_parts(epsg: int, x: float) -> None:
    georeference = Georeference(wkt(epsg), (x - 20_000, 1000, 0, 7_000_000, 0, -1000))
    found = footprint(georeference)
    assert found.geometry["type"] == "MultiPolygon"
    assert found.bbox[0] > 170
    assert found.bbox[2] < -170
    assert areas(georeference) == pytest.approx([(SIZE * 1000) ** 2] * 3, rel=2e-3)


@pytest.mark.parametrize("epsg", [3413, 3031, 3995, 6931])
def test_a_scene_over_a_pole_holds_it(epsg: int) -> None:
    georeference = Georeference(wkt(epsg), (-32_000, 1000, 0, 32_000, 0, -1000))
    found = footprint(georeference)
    pole = -1 if epsg == 3031 else 1
    assert (found.bbox[0], found.bbox[2]) == (-180, 180)
    assert (found.bbox[1] if pole < 0 else found.bbox[3]) == 90 * pole
    geometry = geometry_of(found)
    for longitude in (-179, -60, 0, 120, 179):
        assert geometry.Contains(ogr.CreateGeometryFromWkt(f"POINT ({longitude} {89.9 * pole})"))
        assert not geometry.Contains(ogr.CreateGeometryFromWkt(f"POINT ({longitude} {89 * pole})"))
    scale = {3413: 0.97, 3031: 0.97, 3995: 0.973, 6931: 1.0}[epsg]
    assert areas(georeference) == pytest.approx([(SIZE * 1000 / scale) ** 2] * 3, rel=7e-3)


@pytest.mark.parametrize("north", [70.0, 45.0, -30.0])
def test_web_mercator_has_the_area_of_the_ground(north: float) -> None:
    y = 6378137 * math.log(math.tan(math.pi / 4 + math.radians(north) / 2))
    georeference = Georeference(wkt(3857), (1_000_000, 1000, 0, y, 0, -1000))
    south = math.degrees(2 * math.atan(math.exp((y - 1000 * SIZE) / 6378137)) - math.pi / 2)
    expected = box_m2(south, north, math.degrees(SIZE * 1000 / 6378137))
    assert areas(georeference) == pytest.approx([expected] * 3, rel=1e-3)


def grid(longitude: float, latitude: float, step: float = 0.0001) -> tuple[GroundControlPoint, ...]:
    return tuple(
        GroundControlPoint(x, y, (longitude + step * x + 180) % 360 - 180, latitude - step * y, 0)
        for x in (0, SIZE / 2, SIZE)
        for y in (0, SIZE / 2, SIZE)
    )


def test_control_points_on_both_sides_of_the_antimeridian() -> None:
    georeference = Georeference(gcps=grid(179.997, -16.0), gcp_crs_wkt=wkt(4326))
    found = footprint(georeference)
    assert found.geometry["type"] == "MultiPolygon"
    assert found.bbox == pytest.approx((179.997, -16.0064, -179.9966, -16.0), abs=1e-7)
    assert areas(georeference) == pytest.approx([box_m2(-16.0064, -16.0, 0.0064)] * 3, rel=1e-5)
    placed = Placement(georeference, SIZE, SIZE).place(whole())
    assert np.ptp(placed.points[:, 0]) == pytest.approx(0.0064, abs=1e-7)


def test_all_control_points_shape_the_footprint_not_four_of_them() -> None:
    bulge = [dataclasses.replace(gcp, x=gcp.x + 0.001 * (gcp.line == SIZE / 2)) for gcp in grid(10, 50)]
    found = footprint(Georeference(gcps=tuple(bulge), gcp_crs_wkt=wkt(4326)))
    assert found.bbox[2] == pytest.approx(10.0064 + 0.001, abs=2e-5)


def test_rpc_place_a_scene_and_follow_windows_and_scales() -> None:
    whole = Georeference(rpc=RPC)
    found = footprint(whole)
    assert found.bbox == pytest.approx((179.9958, 36.9968, -179.9978, 37.0032), abs=1e-5)
    assert areas(whole) == pytest.approx([box_m2(36.9968, 37.0032, 0.0064)] * 3, rel=1e-3)
    part = footprint(whole.shifted(16, 32), SIZE // 2)
    assert part.bbox[0] == pytest.approx(179.9958 + 0.0016, abs=1e-5)
    assert part.bbox[3] == pytest.approx(37.0, abs=1e-5)
    assert footprint(whole.scaled(4), SIZE // 4).bbox == pytest.approx(found.bbox, abs=1e-5)


@pytest.mark.parametrize(
    "georeference",
    [
        Georeference('LOCAL_CS["site",UNIT["metre",1]]', (0, 1, 0, 0, 0, -1)),
        Georeference(wkt(4978), (0, 5, 0, 0, 0, -5)),
        Georeference(wkt(32652), (1e300, 1e300, 0, 1e300, 0, -1e300)),
        Georeference(wkt(4326), (10, 0.1, 0, 500, 0, -0.1)),
        Georeference(gcps=tuple(dataclasses.replace(gcp, x=math.nan) for gcp in grid(10, 50)), gcp_crs_wkt=wkt(4326)),
        Georeference(gcps=grid(10, 50)[:2], gcp_crs_wkt=wkt(4326)),
        Georeference(rpc=(("LINE_OFF", "nonsense"),)),
        Georeference(rpc=tuple((key, "nan" if key == "HEIGHT_OFF" else value) for key, value in RPC)),
    ],
)  # fmt: skip
def test_nonsense_leads_to_no_ground_and_raises_nothing(georeference: Georeference) -> None:
    assert georeference.footprint(SIZE, SIZE) is None
    assert georeference.pixel_m(SIZE, SIZE) is None
    tally = Tally(georeference, SIZE)
    tally.add(0, np.ones((SIZE, SIZE), np.uint8))
    assert tally.water_km2 is None
    placement = Placement(georeference, SIZE, SIZE)
    polygon = whole()
    assert np.isnan(placement.measure(polygon)).all()
    assert len(placement.place(polygon).points) == 5


def test_a_crs_without_a_code_is_told_as_wkt2() -> None:
    for text, begins in (("ESRI:102025", "PROJCRS"), ("EPSG:32652+5773", "COMPOUNDCRS")):
        crs = osr.SpatialReference()
        crs.SetFromUserInput(text)
        georeference = Georeference(crs.ExportToWkt(), (300_000, 10, 0, 4_100_000, 0, -10))
        assert georeference.epsg is None
        assert (georeference.wkt2 or "").startswith(begins)
