"""From pixels to the ground, on the ellipsoid, for every kind of georeference: affine, control points, RPC.

Every scene has an equal-area plane of its own, Lambert's azimuthal one about the scene (Snyder, Map Projections, 1987,
chapter 24). It is true in area wherever the scene lies: across the antimeridian, over a pole, in a CRS that stretches.
Control points are interpolated in it, for longitudes and latitudes break at the antimeridian and the poles.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sarwater.scenes.raster import gdal, ogr, osr

if TYPE_CHECKING:
    from sarwater.scenes.georeference import Georeference, GroundControlPoint

Points = npt.NDArray[np.float64]
"""(n, 2) float64: pixel and line from the upper left corner, x and y, or longitude and latitude in degrees."""
Mapping = Callable[[Points], Points]

_MOST_GCPS = 500
"""The spline through n control points costs n^3; more are thinned out evenly."""
_LINE = struct.Struct("<BII")
"""Before the points of a line in well-known binary: byte order, type, how many."""
_RPC_OPTIONS = ("METHOD=RPC", "RPC_PIXEL_ERROR_THRESHOLD=0.001")


class Ground:
    """Where the pixels of a raster lie. Each mapping raises RuntimeError for points that are not on the earth."""

    def __init__(self, crs: Any, to_crs: Mapping, to_lonlat: Mapping, to_plane: Mapping, plane_wkt: str) -> None:
        self.crs = crs
        """osr.SpatialReference of the map coordinates, x before y."""
        self.to_crs = to_crs
        """Pixels to map coordinates; longitudes go on beyond 180 where the scene does."""
        self.to_lonlat = to_lonlat
        """Pixels to WGS 84, longitudes within -180..180."""
        self.to_plane = to_plane
        """Pixels to metres in the equal-area plane."""
        self.plane_wkt = plane_wkt

    def area_m2(self, width_px: int, height_px: int) -> float:
        """Area of a raster of this size. Raises RuntimeError."""
        x, y = self.to_plane(outline(width_px, height_px)).T
        return abs(float(np.sum((x - x[0]) * (np.roll(y, -1) - np.roll(y, 1))))) / 2  # the shoelace formula


def ground_of(georeference: Georeference, width_px: int, height_px: int) -> Ground | None:
    """The ground of a raster of this size; None where it is not known, or what is told of it is nonsense."""
    middle = np.array([[width_px / 2, height_px / 2]])
    try:
        if georeference.geotransform is not None:
            return _by_affine(georeference.crs_wkt, georeference.geotransform, middle)
        if georeference.gcps:
            return _by_control_points(georeference.gcp_crs_wkt, georeference.gcps)
        if georeference.rpc:
            return _by_rpc(georeference, middle)
    except (RuntimeError, ValueError, IndexError):
        return None  # a CRS without a way to the ellipsoid, points beyond it, coefficients that do not converge
    return None


def crs_of(wkt: str) -> Any:
    """osr.SpatialReference with x before y; None for "". Raises RuntimeError."""
    if not wkt:
        return None
    crs = osr.SpatialReference(wkt)
    crs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return crs


def outline(width_px: int, height_px: int, steps: int = 128) -> Points:
    """(4 * steps, 2) pixels and lines along the edge of a raster, counter-clockwise from the upper left corner."""
    share = np.arange(steps)[:, None] / steps
    corners = np.array([(0, 0), (0, height_px), (width_px, height_px), (width_px, 0)], float)
    sides = zip(corners, np.roll(corners, -1, axis=0), strict=True)
    return np.concatenate([start + share * (end - start) for start, end in sides])


def affine(transform: tuple[float, ...], points: Points) -> Points:
    x, x_by_column, x_by_row, y, y_by_column, y_by_row = transform
    column, row = points.T
    with np.errstate(over="ignore", invalid="ignore"):  # nonsense leads nowhere, which whoever uses it finds out
        return np.stack([x + column * x_by_column + row * x_by_row, y + column * y_by_column + row * y_by_row], axis=1)


def spline(gcps: tuple[GroundControlPoint, ...], places: Points) -> Mapping:
    """Pixels to `places` (n, 2) of the control points, by the thin-plate spline that meets each of them exactly.
    Raises RuntimeError."""
    found = {(gcp.pixel, gcp.line): place for gcp, place in zip(gcps, places.tolist(), strict=True)}
    known = list(found.items())[:: -(-len(found) // _MOST_GCPS)]
    if len(known) < 3 or not np.isfinite(known).all():
        raise RuntimeError("fewer than three control points, or some that are not numbers")
    points = gdal.GetDriverByName("MEM").Create("", 1, 1)
    points.SetGCPs([gdal.GCP(x, y, 0, pixel, line) for (pixel, line), (x, y) in known], "")
    return _transformer(points, ["METHOD=GCP_TPS"])


def _by_affine(wkt: str, transform: tuple[float, ...], middle: Points) -> Ground | None:
    crs = crs_of(wkt)
    if crs is None or not (crs.IsProjected() or crs.IsGeographic()):
        return None
    return _ground(crs, partial(affine, transform), middle)


def _by_rpc(georeference: Georeference, middle: Points) -> Ground:
    raster = gdal.GetDriverByName("MEM").Create("", 1, 1)
    georeference.apply(raster)
    height = float(dict(georeference.rpc).get("HEIGHT_OFF", "0").split()[0])
    to_lonlat = _transformer(raster, [*_RPC_OPTIONS, f"RPC_HEIGHT={height!r}"])
    return _ground(wgs84(), to_lonlat, middle)


def _ground(crs: Any, to_crs: Mapping, middle: Points) -> Ground:
    """Of pixels that map to the CRS directly."""
    level = _level(crs)
    to_lonlat = _between(level, wgs84())
    plane = _plane(level, to_lonlat(to_crs(middle))[0])
    to_plane = _between(level, plane)
    return Ground(
        crs,
        to_crs,
        lambda points: to_lonlat(to_crs(points)),
        lambda points: to_plane(to_crs(points)),
        plane.ExportToWkt(),
    )


def _by_control_points(wkt: str, gcps: tuple[GroundControlPoint, ...]) -> Ground | None:
    crs = crs_of(wkt)
    places = np.array([(gcp.x, gcp.y) for gcp in gcps])
    if crs is None or not (crs.IsProjected() or crs.IsGeographic()) or not np.isfinite(places).all():
        return None
    level = _level(crs)
    centre = _centre(_between(level, wgs84())(places))
    plane = _plane(level, centre)
    to_plane = spline(gcps, _between(level, plane)(places))
    back, to_lonlat = _between(plane, level), _between(plane, wgs84())

    def to_crs(points: Points) -> Points:
        placed = back(to_plane(points))
        if level.IsGeographic():
            turn = 2 * np.pi / level.GetAngularUnits()
            middle = back(np.zeros((1, 2)))[0, 0]
            placed[:, 0] = middle + (placed[:, 0] - middle + turn / 2) % turn - turn / 2
        return placed

    return Ground(crs, to_crs, lambda points: to_lonlat(to_plane(points)), to_plane, plane.ExportToWkt())


def _transformer(raster: Any, options: list[str]) -> Mapping:
    """Pixels of a GDAL dataset to the coordinates of its control points or RPC. Raises RuntimeError."""
    transformer = gdal.Transformer(raster, None, options)
    if transformer is None:  # GDAL raises for some reasons only
        raise RuntimeError("control points or coefficients that lead nowhere")
    return partial(_through, transformer)


def _through(transformer: Any, points: Points) -> Points:
    moved, ok = transformer.TransformPoints(0, points.tolist())
    found = np.array(moved)[:, :2]
    if not np.all(ok) or not np.isfinite(found).all():
        raise RuntimeError("points that are not on the earth")
    return found


def _between(source: Any, target: Any) -> Mapping:
    transformation, geographic = osr.CoordinateTransformation(source, target), bool(source.IsGeographic())

    def move(points: Points) -> Points:
        if not np.isfinite(points).all():
            raise RuntimeError("points that are not numbers")
        if geographic and (np.abs(points) * source.GetAngularUnits() > (3 * np.pi, np.pi / 2 + 1e-9)).any():
            raise RuntimeError("longitudes of more than a turn and a half, or latitudes beyond the poles")
        # As a line from and to well-known binary: a list of points, each a tuple, takes four times as long.
        line = ogr.CreateGeometryFromWkb(_LINE.pack(1, ogr.wkbLineString, len(points)) + points.astype("<f8").tobytes())
        line.Transform(transformation)
        moved: Points = (
            np.frombuffer(bytes(line.ExportToWkb(ogr.wkbNDR)), "<f8", offset=_LINE.size).reshape(-1, 2).copy()
        )
        if not np.isfinite(moved).all():
            raise RuntimeError("points that are not on the earth")
        return moved

    return move


def _level(crs: Any) -> Any:
    """The horizontal part of a compound or three-dimensional CRS."""
    level = crs.Clone()
    if level.IsCompound():
        level.StripVertical()
    level.DemoteTo2D()
    level.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return level


def wgs84() -> Any:
    """osr.SpatialReference of longitude and latitude."""
    crs = osr.SpatialReference()
    crs.ImportFromEPSG(4326)
    crs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return crs


def _plane(crs: Any, centre: Points) -> Any:
    """Lambert's azimuthal equal-area plane about (longitude, latitude) `centre`, on the ellipsoid of `crs`."""
    longitude, latitude = centre.tolist()
    plane = osr.SpatialReference()
    plane.ImportFromProj4(
        f"+proj=laea +lat_0={latitude!r} +lon_0={longitude!r} +a={crs.GetSemiMajor()!r} +b={crs.GetSemiMinor()!r} "
        "+units=m"
    )
    return plane


def _centre(lonlat: Points) -> Points:
    """(longitude, latitude) in the middle of points on the sphere, wherever they lie."""
    longitude, latitude = np.radians(lonlat).T
    x, y, z = (
        float(np.mean(part))
        for part in (np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude))
    )
    centre: Points = np.degrees([np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))])
    return centre
