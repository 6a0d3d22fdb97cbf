"""A map of footprints as plain SVG: longitude and latitude as they are, with a grid, and nothing from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from runtime.page.markup import text

_WIDTH_PX = 720.0
_MOST_PX = 420.0
_STEPS_DEG = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_LABEL_PX = 60.0
_LEAST_DEG = 0.05

Ring = list[tuple[float, float]]


def footprints_svg(scenes: Sequence[tuple[int, str, Any]]) -> str:
    """Of (job, name, GeoJSON geometry); scenes without a polygon are left out. Empty where none has one."""
    found = [(job, name, rings) for job, name, geometry in scenes if (rings := list(rings_of(geometry)))]
    points = [point for _, _, rings in found for ring in rings for point in ring]
    if not points:
        return ""
    west, east = _widened(min(x for x, _ in points), max(x for x, _ in points), -180, 180)
    south, north = _widened(min(y for _, y in points), max(y for _, y in points), -90, 90)
    shrink = max(0.1, math.cos(math.radians((south + north) / 2)))
    scale = min(_WIDTH_PX / ((east - west) * shrink), _MOST_PX / (north - south))

    def place(x: float, y: float) -> tuple[float, float]:
        return (x - west) * shrink * scale, (north - y) * scale

    width_px, height_px = place(east, south)
    shapes = [
        f'<a href="/scene/{job}"><title>{text(name)}</title>'
        + "".join(f'<polygon class="footprint" points="{_points(ring, place)}"></polygon>' for ring in rings)
        + "</a>"
        for job, name, rings in reversed(found)
    ]
    return (
        f'<h2>Where: the last 24 hours</h2><svg viewBox="0 0 {width_px:.1f} {height_px:.1f}" role="group" '
        f'aria-label="Footprints of {len(found)} scenes">{"".join(_grid(west, south, east, north, place))}'
        f"{''.join(shapes)}</svg>"
    )


def rings_of(geometry: Any) -> Iterator[Ring]:
    """The outer rings of a Polygon or MultiPolygon; nothing of what is none."""
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    coordinates = geometry.get("coordinates") if kind else None
    polygons = [coordinates] if kind == "Polygon" else coordinates if kind == "MultiPolygon" else []
    for polygon in polygons if isinstance(polygons, list) else []:
        try:
            ring = [(float(point[0]), float(point[1])) for point in polygon[0]]
        except (TypeError, ValueError, IndexError, KeyError):
            continue
        if ring and all(abs(x) <= 180 and abs(y) <= 90 for x, y in ring):  # no NaN either
            yield ring


def _widened(low: float, high: float, least: float, most: float) -> tuple[float, float]:
    room = max(0.1 * (high - low), _LEAST_DEG)
    return max(least, low - room), min(most, high + room)


def _points(ring: Ring, place: Any) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in ring))


def _grid(west: float, south: float, east: float, north: float, place: Any) -> Iterator[str]:
    width_px, height_px = place(east, south)
    step = _step(width_px / (east - west))
    for number in range(math.ceil(west / step), math.floor(east / step) + 1):
        x, _ = place(number * step, north)
        yield f'<line class="grid" x1="{x:.1f}" y1="0" x2="{x:.1f}" y2="{height_px:.1f}"></line>'
        yield f'<text x="{x + 3:.1f}" y="{height_px - 4:.1f}">{_degrees(number * step)}</text>'
    step = _step(height_px / (north - south))
    for number in range(math.ceil(south / step), math.floor(north / step) + 1):
        _, y = place(west, number * step)
        yield f'<line class="grid" x1="0" y1="{y:.1f}" x2="{width_px:.1f}" y2="{y:.1f}"></line>'
        if y < height_px - _LABEL_PX / 3:  # the longitudes' labels are below
            yield f'<text x="3" y="{y - 3:.1f}">{_degrees(number * step)}</text>'


def _step(px_per_deg: float) -> float:
    """Degrees between two lines, so that a label has room."""
    return next((step for step in _STEPS_DEG if step * px_per_deg >= _LABEL_PX), _STEPS_DEG[-1])


def _degrees(value_deg: float) -> str:
    return f"{round(value_deg, 2):g}°"
