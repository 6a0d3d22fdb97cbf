"""Where a raster lies: geotransform or ground control points, kept exactly as the product has them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import UsageError
from sarwater.scenes.raster import gdal, osr
from sarwater.upsampling import METRES_PER_DEGREE


@dataclass(frozen=True)
class GroundControlPoint:
    """Scene position (pixel, line), from the upper left corner, and its place (x, y, z) in the control points' CRS."""

    pixel: float
    line: float
    x: float
    y: float
    z: float
    name: str = ""


@dataclass(frozen=True)
class Georeference:
    """Where a raster lies. All parts may be missing: such a scene still gives a mask."""

    crs_wkt: str = ""
    geotransform: tuple[float, ...] | None = None
    """GDAL's six numbers: x of the upper left corner, pixel width, row rotation, y, column rotation, pixel height."""
    gcps: tuple[GroundControlPoint, ...] = ()
    gcp_crs_wkt: str = ""
    area_or_point: str = "Area"

    @classmethod
    def of_affine(cls, transform: Any, crs: Any) -> Georeference:
        """Of an `affine.Affine` (rasterio's `transform`) or GDAL's six numbers, and a CRS: an EPSG code (32652 or
        "EPSG:32652"), WKT, or what has `to_wkt()` (rasterio's and pyproj's). Raises UsageError."""
        try:
            numbers = tuple(float(number) for number in getattr(transform, "to_gdal", lambda: transform)())
            _, width, shear, _, skew, height = numbers
        except (TypeError, ValueError):
            raise UsageError(f"transform {transform!r}: expected an affine.Affine, or GDAL's six numbers") from None
        if not np.isfinite(numbers).all() or width * height == shear * skew:
            raise UsageError(f"transform {transform!r}: not finite, or its pixels have no area")
        text = crs.to_wkt() if hasattr(crs, "to_wkt") else str(crs)
        reference = osr.SpatialReference()
        try:
            code = text.upper().removeprefix("EPSG:")
            reference.ImportFromEPSG(int(code)) if code.isdigit() else reference.ImportFromWkt(text)
        except RuntimeError as error:
            raise UsageError(f"crs {crs!r}: {error}; expected an EPSG code or WKT") from None
        return cls(reference.ExportToWkt(), numbers)

    @property
    def crs(self) -> str:
        """WKT of what coordinates are in, those of control points too; "" where it is not known."""
        return self.crs_wkt or self.gcp_crs_wkt

    @property
    def known(self) -> bool:
        return self.geotransform is not None or bool(self.gcps)

    @property
    def epsg(self) -> int | None:
        """EPSG code of the CRS, where it has one."""
        if not self.crs_wkt:
            return None
        code = osr.SpatialReference(self.crs_wkt).GetAuthorityCode(None)
        return int(code) if code and code.isdigit() else None

    def footprint(self, width_px: int, height_px: int) -> list[tuple[float, float]]:
        """(longitude, latitude) of the corners, counter-clockwise from the upper left; empty where they are unknown."""
        crs, transform = self.crs_wkt, self.geotransform
        if transform is None and len(self.gcps) >= 3:
            points = [gdal.GCP(gcp.x, gcp.y, gcp.z, gcp.pixel, gcp.line) for gcp in self.gcps]
            crs, transform = self.gcp_crs_wkt, gdal.GCPsToGeoTransform(points)
        if transform is None or not crs:
            return []
        geographic = osr.SpatialReference()
        geographic.ImportFromEPSG(4326)
        source = osr.SpatialReference(crs)
        for reference in (source, geographic):
            reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
        corners = [(0, 0), (0, height_px), (width_px, height_px), (width_px, 0)]
        try:
            to_geographic = osr.CoordinateTransformation(source, geographic)
            points = [
                to_geographic.TransformPoint(*gdal.ApplyGeoTransform(transform, *corner))[:2] for corner in corners
            ]
        except RuntimeError:
            return []  # a CRS without a way to longitude and latitude
        # Whoever wrote nonsense, the mask keeps it; nothing is computed from it.
        on_earth = np.isfinite(points).all() and (np.abs(points) <= (360, 90)).all()
        return points if on_earth else []

    @property
    def square_pixel_m(self) -> float | None:
        """Pixel size in metres where the raster lies north up in a projected CRS with square pixels; else None."""
        if self.geotransform is None or not self.crs_wkt:
            return None
        _, width, shear, _, skew, height = self.geotransform
        crs = osr.SpatialReference(self.crs_wkt)
        upright = width > 0 > height and shear == skew == 0 and abs(width + height) < 0.01 * width
        return width * crs.GetLinearUnits() if upright and crs.IsProjected() else None

    def pixel_m(self, width_px: int, height_px: int) -> float | None:
        """Pixel spacing on the ground of a raster of this size, the mean of both axes and of the whole raster; None
        where the ground is not known."""
        if self.geotransform is not None and self.crs_wkt:
            crs = osr.SpatialReference(self.crs_wkt)
            if crs.IsProjected():
                _, width, shear, _, skew, height = self.geotransform
                return math.sqrt(abs(width * height - shear * skew)) * float(crs.GetLinearUnits())
        corners = self.footprint(width_px, height_px)
        if not corners:
            return None
        east_m, north_m = _metres(corners)
        crossed_m2 = np.roll(east_m, -1) * north_m - east_m * np.roll(north_m, -1)  # the shoelace formula
        return math.sqrt(abs(float(crossed_m2.sum())) / 2 / (width_px * height_px)) or None

    def centre(self, width_px: int, height_px: int) -> tuple[float, float]:
        """(longitude, latitude) of the middle of the corners. Raises ValueError where they are unknown."""
        corners = self.footprint(width_px, height_px)
        if not corners:
            raise ValueError("no georeference")
        return sum(x for x, _ in corners) / len(corners), sum(y for _, y in corners) / len(corners)

    def scaled(self, factor: int) -> Georeference:
        """The georeference of the raster shrunk by `factor` on both axes."""
        gcps = tuple(replace(gcp, pixel=gcp.pixel / factor, line=gcp.line / factor) for gcp in self.gcps)
        transform = self.geotransform
        if transform is not None:
            x, x_by_column, x_by_row, y, y_by_column, y_by_row = transform
            transform = (x, x_by_column * factor, x_by_row * factor, y, y_by_column * factor, y_by_row * factor)
        return replace(self, geotransform=transform, gcps=gcps)

    def shifted(self, x_px: int, y_px: int) -> Georeference:
        """The georeference of a window whose upper left corner is at (x_px, y_px)."""
        if (x_px, y_px) == (0, 0):
            return self
        gcps = tuple(replace(gcp, pixel=gcp.pixel - x_px, line=gcp.line - y_px) for gcp in self.gcps)
        transform = self.geotransform
        if transform is not None:
            x, x_by_column, x_by_row, y, y_by_column, y_by_row = transform
            x += x_px * x_by_column + y_px * x_by_row
            y += x_px * y_by_column + y_px * y_by_row
            transform = (x, x_by_column, x_by_row, y, y_by_column, y_by_row)
        return replace(self, geotransform=transform, gcps=gcps)

    @classmethod
    def of(cls, dataset: Any) -> Georeference:
        """Read from a GDAL dataset. An identity geotransform is GDAL's way of saying that there is none; one that is
        not finite, or gives pixels no area, says no more."""
        transform = dataset.GetGeoTransform(can_return_null=True)
        identities = ((0.0, 1.0, 0.0, 0.0, 0.0, 1.0), (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
        if transform is not None:
            _, width, shear, _, skew, height = transform
            area = width * height - shear * skew
            if tuple(transform) in identities or not np.isfinite(transform).all() or area == 0:
                transform = None
        gcps = tuple(
            GroundControlPoint(gcp.GCPPixel, gcp.GCPLine, gcp.GCPX, gcp.GCPY, gcp.GCPZ, gcp.Id)
            for gcp in dataset.GetGCPs()
        )
        return cls(
            crs_wkt=dataset.GetProjection() if transform is not None else "",
            geotransform=tuple(transform) if transform is not None else None,
            gcps=gcps,
            gcp_crs_wkt=dataset.GetGCPProjection() if gcps else "",
            area_or_point=dataset.GetMetadataItem("AREA_OR_POINT") or "Area",
        )

    def apply(self, dataset: Any) -> None:
        """Write to a GDAL dataset, exactly as it was read."""
        dataset.SetMetadataItem("AREA_OR_POINT", self.area_or_point)
        if self.geotransform is not None:
            dataset.SetProjection(self.crs_wkt)
            dataset.SetGeoTransform(self.geotransform)
        elif self.gcps:
            points = [gdal.GCP(gcp.x, gcp.y, gcp.z, gcp.pixel, gcp.line, "", gcp.name) for gcp in self.gcps]
            dataset.SetGCPs(points, self.gcp_crs_wkt)


def _metres(corners: list[tuple[float, float]]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """(longitude, latitude) of points near each other in metres east and north of the first, on a sphere."""
    longitude_deg, latitude_deg = np.array(corners).T
    # Across the antimeridian the short way round.
    east_deg = (longitude_deg - longitude_deg[0] + 180) % 360 - 180
    scale = math.cos(math.radians(float(latitude_deg.mean())))
    return east_deg * scale * METRES_PER_DEGREE, (latitude_deg - latitude_deg[0]) * METRES_PER_DEGREE
