"""Footprints as SVG: wherever on the earth, whatever the item says."""

from __future__ import annotations

import re
from typing import Any

import pytest

from runtime.page.footprints import footprints_svg, rings_of


def box(west: float, south: float, east: float, north: float) -> dict[str, Any]:
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize(
    "where", [(127, 36, 128, 37), (-180, -1, 180, 1), (10, 89, 20, 90), (0, 0, 0, 0), (-179.9, -80, -179.8, -79.9)]
)
def test_every_footprint_lies_in_the_picture(where: tuple[float, float, float, float]) -> None:
    svg = footprints_svg([(7, "a & b", box(*where))])
    width_px, height_px = map(float, re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    (points,) = re.findall(r'points="([^"]+)"', svg)
    for x, y in (map(float, point.split(",")) for point in points.split()):
        assert 0 <= x <= width_px + 0.1
        assert 0 <= y <= height_px + 0.1
    assert '<a href="/scene/7"><title>a &amp; b</title>' in svg
    assert svg.count("<line") < 40


@pytest.mark.parametrize("latitude", [0, 37, 60, 80])
@pytest.mark.parametrize("side", [0.01, 0.3, 7])
def test_no_two_labels_of_the_grid_overlap(latitude: float, side: float) -> None:
    svg = footprints_svg([(7, "a", box(127, latitude, 127 + side, latitude + side))])
    labels = [
        (float(x), float(y), 7 * len(label))
        for x, y, label in re.findall(r'<text x="([\d.]+)" y="([\d.]+)">([^<]+)</text>', svg)
    ]
    assert len(labels) >= 4
    for number, (x, y, width) in enumerate(labels):
        for other_x, other_y, other_width in labels[number + 1 :]:
            apart = x + width < other_x or other_x + other_width < x or abs(y - other_y) > 12
            assert apart, (labels[number], (other_x, other_y))


def test_the_parts_of_a_scene_across_the_antimeridian_are_both_there() -> None:
    parts = [box(179, 0, 180, 1)["coordinates"], box(-180, 0, -179, 1)["coordinates"]]
    assert footprints_svg([(1, "a", {"type": "MultiPolygon", "coordinates": parts})]).count("<polygon") == 2


@pytest.mark.parametrize(
    "geometry",
    [
        *(None, [], "x", {}, {"type": "Point", "coordinates": [1, 2]}, {"type": "Polygon"}),
        *({"type": "Polygon", "coordinates": [[["a", 1]]]}, {"type": "Polygon", "coordinates": [[[float("nan"), 1]]]}),
        *({"type": "Polygon", "coordinates": [[[1e9, 1]]]}, {"type": "MultiPolygon", "coordinates": 5}),
    ],
)
def test_what_is_no_footprint_is_left_out(geometry: Any) -> None:
    assert list(rings_of(geometry)) == []
    assert footprints_svg([(1, "a", geometry)]) == ""
