"""From pixels to the ground: geometries and areas, for affine georeferences, control points, or none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from sarwater.scenes.georeference import Georeference
from sarwater.scenes.raster import gdal, ogr, osr


class Placement:
    """Maps geometries from scene pixels to `crs` and tells their area in m2 (None where the ground is unknown).

    In a projected CRS the area is that of the map plane; in longitude and latitude it is the true one, taken in the
    cylindrical equal-area projection, where edges along parallels and meridians stay straight.
    """

    def __init__(self, crs: Any, to_crs: Callable[[Any], Any], pixel_units2: float = math.inf) -> None:
        self.crs = crs
        self._to_crs = to_crs
        self._m2_per_unit2 = crs.GetLinearUnits() ** 2 if crs is not None and crs.IsProjected() else None
        self.pixel_m2 = pixel_units2 * (self._m2_per_unit2 or math.inf)
        """Area of every pixel, where they are alike; infinity where they are not, which keeps all of them."""
        self._to_equal_area = _equal_area(crs) if crs is not None and crs.IsGeographic() else None

    def __call__(self, geometry: Any) -> tuple[Any, float | None]:
        """(placed copy, area in m2) of `geometry`, given in scene pixels with rows counted to the south."""
        placed = self._to_crs(geometry)
        if self._m2_per_unit2 is not None:
            return placed, placed.Area() * self._m2_per_unit2
        if self._to_equal_area is None:
            return placed, None
        flat = placed.Clone()
        try:
            flat.Transform(self._to_equal_area)
        except RuntimeError:
            return placed, None  # beyond the poles
        return placed, flat.Area()


def placement_of(georeference: Georeference) -> Placement:
    """Without a georeference, geometries stay in pixels with rows counted negative, as QGIS shows such a raster."""
    if georeference.geotransform is not None:
        _, width, shear, _, skew, height = georeference.geotransform
        pixel_units2 = abs(width * height - shear * skew)
        return Placement(_crs(georeference.crs_wkt), _affine(georeference.geotransform), pixel_units2)
    if georeference.gcps:
        return Placement(_crs(georeference.gcp_crs_wkt), _through_gcps(georeference))
    return Placement(None, _affine((0.0, 1.0, 0.0, 0.0, 0.0, -1.0)))


def _crs(wkt: str) -> Any:
    if not wkt:
        return None
    crs = osr.SpatialReference(wkt)
    crs.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return crs


def _affine(transform: tuple[float, ...]) -> Callable[[Any], Any]:
    x, x_by_column, x_by_row, y, y_by_column, y_by_row = (repr(float(number)) for number in transform)
    # https://proj.org/operations/transformations/affine.html
    operation = (
        f"+proj=affine +xoff={x} +s11={x_by_column} +s12={x_by_row} +yoff={y} +s21={y_by_column} +s22={y_by_row}"
    )
    options = osr.CoordinateTransformationOptions()
    options.SetOperation(operation)
    transformation = osr.CreateCoordinateTransformation(None, None, options)

    def place(geometry: Any) -> Any:
        placed = geometry.Clone()
        placed.Transform(transformation)
        return placed

    return place


def _through_gcps(georeference: Georeference) -> Callable[[Any], Any]:
    """By the thin-plate spline through the control points, which meets each of them exactly."""
    points = gdal.GetDriverByName("MEM").Create("", 1, 1)
    georeference.apply(points)
    transformer = gdal.Transformer(points, None, ["METHOD=GCP_TPS"])

    def place(geometry: Any) -> Any:
        placed = ogr.Geometry(geometry.GetGeometryType())
        for ring in geometry:
            moved, _ = transformer.TransformPoints(0, [point[:2] for point in ring.GetPoints()])
            new = ogr.Geometry(ogr.wkbLinearRing)
            for x, y, _ in moved:
                new.AddPoint_2D(x, y)
            placed.AddGeometryDirectly(new)
        return placed

    return place


def _equal_area(crs: Any) -> Any:
    flat = osr.SpatialReference()
    flat.ImportFromProj4(f"+proj=cea +a={crs.GetSemiMajor()!r} +b={crs.GetSemiMinor()!r} +units=m")
    return osr.CoordinateTransformation(crs, flat)
