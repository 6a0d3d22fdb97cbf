from __future__ import annotations

import gc
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from osgeo import gdal, ogr
from scipy.ndimage import label

import runtime.products.polygons
from runtime.backends.base import FinishedRows
from runtime.backends.fake import FAKE_MANIFEST
from runtime.latency import LatencyRecord
from runtime.products.base import Making
from runtime.products.polygons import WaterPolygons, polygonise
from sarwater.request import Request
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.shown import shown
from tests.support.rasters import TRANSFORM, UTM_52N, wkt

UTM = Georeference(wkt(UTM_52N), TRANSFORM)
PIXEL_M2 = 1.25**2
SCALE = 0.9996 * (1 + (200_000 / 0.9996) ** 2 / (2 * 6_381_000**2))
"""Of UTM at 300 km east, 37 degrees north (Snyder, Map Projections, 1987, eq. 8-4 with the mean radius)."""


def scene_of(height_px: int, width_px: int, georeference: Georeference, name: str = "a.tif") -> Any:
    acquired = SimpleNamespace(acquired="2024-07-26T09:15:30Z")
    return SimpleNamespace(height_px=height_px, width_px=width_px, georeference=georeference, name=name, scene=acquired)


def polygons_of(
    path: Path,
    water: np.ndarray,
    georeference: Georeference,
    rows: int,
    confidence: np.ndarray | None = None,
    name: str = "a.tif",
    **options: float,
) -> list[Any]:
    """Write `water` in strips of `rows`; (geometry, fields) of each polygon."""
    path.unlink(missing_ok=True)
    scene = scene_of(*water.shape, georeference, name)
    confidence = water if confidence is None else confidence
    product = WaterPolygons(path, scene, Request(**options))
    for row in range(0, len(water), rows):
        product.write(FinishedRows(row, water[row : row + rows], confidence[row : row + rows]))
    product.finish(Making({}, FAKE_MANIFEST, LatencyRecord(), ()))
    layer = (dataset := gdal.OpenEx(str(path))).GetLayer()
    found = [(feature.GetGeometryRef().Clone(), feature.items()) for feature in layer]
    del layer, dataset
    return found


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    rows=st.integers(1, 12),
    share=st.sampled_from([0.2, 0.5, 0.7, 0.95]),
    seed=st.integers(0, 99),
)
def test_strips_give_the_polygons_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, width: int, rows: int, share: float, seed: int
) -> None:
    monkeypatch.setattr(runtime.products.polygons, "STRIP_PIXELS", 1)
    water = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)
    found = polygons_of(tmp_path / "a.gpkg", water, Georeference(), rows)
    expected = [polygon.Clone() for polygon in polygonise(water)]
    assert len(found) == len(expected)
    by_corner = {(*polygon.GetEnvelope(), polygon.Area()): polygon for polygon in expected}
    for geometry, fields in found:
        west, east, south, north = geometry.GetEnvelope()
        whole = by_corner[(west, east, -north, -south, geometry.Area())]
        assert fields["pixels"] == whole.Area()
        assert fields["area_m2"] is None
        assert geometry.IsValid()
        points = sum(ring.GetPointCount() for ring in geometry)
        corners = sum(ring.GetPointCount() for ring in whole)
        assert points <= corners + whole.GetGeometryCount(), "at most the first point of a ring is left from joining"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 60),
    width=st.integers(1, 60),
    gap_px=st.integers(1, 8),
    share=st.sampled_from([0.0, 0.002, 0.01, 0.1, 0.6]),
    seed=st.integers(0, 99),
)
def test_leaving_out_dry_ground_changes_no_polygon(
    monkeypatch: pytest.MonkeyPatch, height: int, width: int, gap_px: int, share: float, seed: int
) -> None:
    water = (np.random.default_rng(seed).random((height, width)) < share).astype(np.uint8)

    def found(gap: int) -> set[str]:
        monkeypatch.setattr(runtime.products.polygons, "_GAP_PX", gap)
        return {polygon.ExportToWkt() for polygon in polygonise(water, 7)}

    assert found(gap_px) == found(10_000)


def test_area_is_in_square_metres_and_the_place_is_right(tmp_path: Path) -> None:
    water = np.zeros((50, 60), np.uint8)
    water[10:20, 30:50] = 1
    ((geometry, fields),) = polygons_of(tmp_path / "a.gpkg", water, UTM, 7)
    assert fields["area_m2"] == pytest.approx(200 * PIXEL_M2 / SCALE**2, rel=5e-6)
    x, _, _, y, _, _ = TRANSFORM
    assert geometry.GetEnvelope() == (x + 37.5, x + 62.5, y - 25, y - 12.5)


def test_the_perimeter_is_in_metres_and_counts_holes(tmp_path: Path) -> None:
    water = np.zeros((50, 60), np.uint8)
    water[10:20, 30:50] = 1
    water[14:16, 35:38] = 0
    ((_, fields),) = polygons_of(tmp_path / "a.gpkg", water, UTM, 7)
    assert fields["perimeter_m"] == pytest.approx((60 + 10) * 1.25 / SCALE, rel=5e-5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    rows=st.integers(1, 12),
    share=st.sampled_from([0.2, 0.5, 0.7, 0.95, 1.0]),
    seed=st.integers(0, 99),
)
def test_the_mean_confidence_is_that_of_the_bodys_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, height: int, width: int, rows: int, share: float, seed: int
) -> None:
    monkeypatch.setattr(runtime.products.polygons, "STRIP_PIXELS", 1)
    random = np.random.default_rng(seed)
    water = (random.random((height, width)) < share).astype(np.uint8)
    confidence = random.integers(0, 101, water.shape, np.uint8)
    bodies, _ = label(water)
    for geometry, fields in polygons_of(tmp_path / "a.gpkg", water, Georeference(), rows, confidence):
        inside = geometry.PointOnSurface()
        body = bodies[int(-inside.GetY()), int(inside.GetX())]
        assert fields["mean_confidence"] == pytest.approx(confidence[bodies == body].mean(), abs=0.0501)


@pytest.mark.parametrize("name", ["a.tif", "K5 'quoted' \"scene\".h5", "\udcb0\udcad.tif"])
def test_each_body_says_of_which_scene_and_time_it_is(tmp_path: Path, name: str) -> None:
    ((_, fields),) = polygons_of(tmp_path / "a.gpkg", np.ones((4, 4), np.uint8), UTM, 4, name=name)
    assert fields["scene"] == shown(name)
    assert fields["acquired"].startswith("2024/07/26 09:15:30")


def test_area_in_longitude_and_latitude_is_true(tmp_path: Path) -> None:
    georeference = Georeference(wkt(4326), (127.0, 0.01, 0, 60.0, 0, -0.01))
    ((_, fields),) = polygons_of(tmp_path / "a.gpkg", np.ones((100, 100), np.uint8), georeference, 30)
    # One degree by one degree from 59 to 60 north on WGS 84, by the authalic formula of Snyder 1987, p. 16.
    assert fields["area_m2"] == pytest.approx(6_306e6, rel=2e-3)


def test_polygons_follow_ground_control_points(tmp_path: Path) -> None:
    corners = [(0, 0), (50, 0), (0, 50), (50, 50)]
    gcps = tuple(GroundControlPoint(px, py, 127 + px * 1e-4, 36 - py * 1e-4, 0) for px, py in corners)
    water = np.zeros((50, 50), np.uint8)
    water[10:20, 30:40] = 1
    georeference = Georeference(gcps=gcps, gcp_crs_wkt=wkt(4326))
    ((geometry, fields),) = polygons_of(tmp_path / "a.gpkg", water, georeference, 50)
    west, east, south, north = geometry.GetEnvelope()
    assert (west, east, south, north) == pytest.approx((127.003, 127.004, 35.998, 35.999), abs=1e-7)
    assert fields["area_m2"] == pytest.approx(90.1 * 110.97, rel=0.01)


def test_bodies_below_the_minimum_area_are_left_out(tmp_path: Path) -> None:
    water = np.zeros((50, 60), np.uint8)
    water[10:20, 30:50] = 1
    water[30, 5] = 1
    assert len(polygons_of(tmp_path / "a.gpkg", water, UTM, 10)) == 2
    assert len(polygons_of(tmp_path / "a.gpkg", water, UTM, 10, minimum_area_m2=2.0)) == 1


def test_simplification_takes_corners_away(tmp_path: Path) -> None:
    y, x = np.mgrid[:200, :200]
    disc = ((x - 100) ** 2 + (y - 100) ** 2 < 80**2).astype(np.uint8)
    ((round_, _),) = polygons_of(tmp_path / "a.gpkg", disc, UTM, 50)
    ((plain, _),) = polygons_of(tmp_path / "a.gpkg", disc, UTM, 50, simplify_m=2.5)
    assert plain.GetGeometryRef(0).GetPointCount() < round_.GetGeometryRef(0).GetPointCount() / 3
    assert plain.Area() == pytest.approx(round_.Area(), rel=0.02)


def test_a_body_too_large_to_hold_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.products.polygons, "MAX_POINTS", 8)
    monkeypatch.setattr(runtime.products.polygons, "STRIP_PIXELS", 1)
    water = np.zeros((40, 40), np.uint8)
    water[:, ::2] = 1
    water[5:35, 1] = 1
    found = polygons_of(tmp_path / "a.gpkg", water, UTM, 4)
    assert any(fields["cut"] for _, fields in found)
    assert sum(fields["pixels"] for _, fields in found) == np.count_nonzero(water)


@pytest.mark.parametrize("limit", ["STRIP_RUNS", "LARGEST_STRIP_PIXELS"])
def test_a_speckled_or_wide_strip_is_split_and_still_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(runtime.products.polygons, limit, 500)
    water = (np.random.default_rng(3).random((64, 64)) < 0.4).astype(np.uint8)
    found = polygons_of(tmp_path / "a.gpkg", water, Georeference(), 64)
    assert len(found) == sum(1 for _ in polygonise(water))


def test_the_layer_has_the_scenes_crs(tmp_path: Path) -> None:
    polygons_of(tmp_path / "a.gpkg", np.ones((4, 4), np.uint8), UTM, 4)
    layer = (dataset := ogr.Open(str(tmp_path / "a.gpkg"))).GetLayer("water")
    assert layer.GetSpatialRef().GetAuthorityCode(None) == str(UTM_52N)
    del dataset


def test_ctrl_c_while_the_file_is_made_closes_it_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """GDAL writes when it closes, and by the time that the error is forgotten the folder is gone."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime.products.polygons.ogr, "FieldDefn", interrupt)
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    folder = tmp_path / "staging"
    folder.mkdir()
    try:
        WaterPolygons(folder / "a.gpkg", scene_of(8, 8, UTM), Request())
    except KeyboardInterrupt:
        shutil.rmtree(folder)
    gc.collect()
    assert unraisable == []
    assert not folder.exists()
