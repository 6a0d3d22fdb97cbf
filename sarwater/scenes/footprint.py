"""The outline of a scene in longitude and latitude, as GeoJSON has it: cut at the antimeridian, closed over a pole.

Source: RFC 7946, sections 3.1.6 (outer rings counter-clockwise), 3.1.9 and 5.2 (antimeridian), 5.3 (poles).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from sarwater.scenes.ground import Points
from sarwater.scenes.raster import ogr


@dataclass(frozen=True)
class Footprint:
    geometry: dict[str, Any]
    """GeoJSON: a Polygon, or a MultiPolygon in two parts where the scene crosses the antimeridian."""
    bbox: tuple[float, float, float, float]
    """West, south, east, north in degrees; west > east where the scene crosses the antimeridian."""


def footprint_of(outline: Points, tolerance_deg: float = 0.0) -> Footprint:
    """Of the (n, 2) longitudes and latitudes along the edge of a scene, not closed, neighbours less than half a turn
    apart. Corners that stray less than `tolerance_deg` from the line are left out."""
    longitude, latitude = np.unwrap(outline[:, 0], period=360), outline[:, 1]
    turns = _short_way(longitude[-1], longitude[0]) - longitude[0]
    south, north = float(latitude.min()), float(latitude.max())
    if abs(turns) > 180:
        ring, pole = _over_pole(longitude, latitude, turns)
        south, north = min(south, pole), max(north, pole)
        return Footprint(_geojson([_polygon(ring)], tolerance_deg), (-180.0, south, 180.0, north))
    if longitude.max() - longitude.min() >= 360 - 1e-9:
        box = [(-180, south), (180, south), (180, north), (-180, north)]
        return Footprint(_geojson([_polygon(np.array(box))], 0), (-180.0, south, 180.0, north))
    longitude = longitude - 360 * np.floor((longitude.min() + 180) / 360)  # the west end lies within -180..180
    west, east = float(longitude.min()), float(longitude.max())
    whole = _polygon(np.stack([longitude, latitude], axis=1))
    if east <= 180:
        return Footprint(_geojson([whole], tolerance_deg), (west, south, east, north))
    # Simplified before it is cut: of a narrow part, the tolerance would leave out corners.
    whole = whole.SimplifyPreserveTopology(tolerance_deg)
    parts = [*_part(whole, -180, 180, 0), *_part(whole, 180, 540, -360)]
    return Footprint(_geojson(parts, 0), (west, south, east - 360, north))


def _short_way(start: float, end: float) -> float:
    """`end`, a turn or more away if that is nearer to `start`."""
    return start + (end - start + 180) % 360 - 180


def _over_pole(longitude: Any, latitude: Any, turns: float) -> tuple[Points, float]:
    """(the ring, the latitude of the pole in it): the outline from -180 to 180, then along the edge of the map."""
    if turns < 0:
        longitude, latitude = longitude[::-1], latitude[::-1]
    pole = 90.0 if latitude.mean() > 0 else -90.0
    longitude = (longitude + 180) % 360 - 180
    first = int(np.argmin(longitude))
    longitude, latitude = np.roll(longitude, -first), np.roll(latitude, -first)
    gap = longitude[0] + 360 - longitude[-1]
    seam = latitude[-1] + (latitude[0] - latitude[-1]) * ((180 - longitude[-1]) / gap if gap else 0)
    edge = [(-180.0, seam), *zip(longitude, latitude, strict=True), (180.0, seam), (180.0, pole), (-180.0, pole)]
    return np.array(edge), pole


def _polygon(ring: Points) -> Any:
    line = ogr.Geometry(ogr.wkbLinearRing)
    for longitude, latitude in ring.tolist():
        line.AddPoint_2D(longitude, latitude)
    line.CloseRings()
    polygon = ogr.Geometry(ogr.wkbPolygon)
    polygon.AddGeometry(line)
    return polygon


def _part(polygon: Any, west: float, east: float, shift: float) -> list[Any]:
    """What of a polygon lies between two meridians, moved by `shift` degrees."""
    cut = polygon.Intersection(_polygon(np.array([(west, -90), (east, -90), (east, 90), (west, 90)], float)))
    pieces = [cut] if cut.GetGeometryName() == "POLYGON" else list(cut)
    rings = [np.array(piece.GetGeometryRef(0).GetPoints())[:-1, :2] for piece in pieces if piece.Area() > 0]
    return [_polygon(ring + np.array([shift, 0])) for ring in rings]


def _geojson(polygons: list[Any], tolerance_deg: float) -> dict[str, Any]:
    rings = []
    for polygon in polygons:
        points = json.loads(polygon.SimplifyPreserveTopology(tolerance_deg).ExportToJson())["coordinates"][0]
        x, y = np.array(points).T
        counter_clockwise = float(np.sum((x[:-1] - x[0]) * (y[1:] - y[0]) - (x[1:] - x[0]) * (y[:-1] - y[0]))) > 0
        rings.append(points if counter_clockwise else points[::-1])
    if len(rings) == 1:
        return {"type": "Polygon", "coordinates": rings}
    return {"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}
