"""All polygons at once give what OGR gives of each."""

from __future__ import annotations

import numpy as np
import pytest
from osgeo import ogr

from runtime.products.outlines import Outlines
from runtime.products.polygons import polygonise


def geometries(seed: int, share: float) -> list[ogr.Geometry]:
    """Bodies of water with islands and, last, two of them as one multipolygon."""
    water = (np.random.default_rng(seed).random((40, 90)) < share).astype(np.uint8)
    water[:20, 5:70] = 1
    water[5:9, 20:60] = 0
    found = [polygon.Clone() for polygon in polygonise(water, 3)]
    several = ogr.Geometry(ogr.wkbMultiPolygon)
    for polygon in (found[0], found[-1]):
        several.AddGeometry(polygon)
    return [*found, several]


def wkb_of(found: list[ogr.Geometry]) -> list[bytes]:
    return [bytes(geometry.ExportToWkb(ogr.wkbNDR)) for geometry in found]


def length_of(geometry: ogr.Geometry) -> float:
    parts = list(geometry) if geometry.GetGeometryType() == ogr.wkbMultiPolygon else [geometry]
    return sum(ring.Length() for polygon in parts for ring in polygon)


@pytest.mark.parametrize(("seed", "share"), [(1, 0.1), (2, 0.6)])
def test_areas_and_lengths_are_those_of_each(seed: int, share: float) -> None:
    found = geometries(seed, share)
    outlines = Outlines.of(wkb_of(found))
    assert outlines.areas() == pytest.approx([geometry.Area() for geometry in found], rel=1e-12)
    assert outlines.lengths() == pytest.approx([length_of(geometry) for geometry in found], rel=1e-12)


def test_they_come_back_as_they_were() -> None:
    wkb = wkb_of(geometries(3, 0.5))
    assert list(Outlines.of(wkb).as_wkb()) == wkb


@pytest.mark.parametrize("longest", [1, 3, 16, 31.5, 1000])
def test_long_edges_get_the_points_that_ogr_gives_them(longest: float) -> None:
    found = geometries(4, 0.3)
    outlines = Outlines.of(wkb_of(found)).segmentised(longest)
    for geometry in found:
        geometry.Segmentize(longest)
    expected = Outlines.of(wkb_of(found))
    assert np.array_equal(outlines.starts, expected.starts)
    assert outlines.points == pytest.approx(expected.points, abs=1e-9)
