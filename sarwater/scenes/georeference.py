"""Where a raster lies: geotransform, ground control points or RPC, kept exactly as the product has them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sarwater.errors import SceneUnreadable, UsageError
from sarwater.scenes.footprint import Footprint, footprint_of
from sarwater.scenes.ground import Ground, ground_of, outline, wgs84
from sarwater.scenes.raster import gdal, osr, tags_of, text_of
from sarwater.upsampling import METRES_PER_DEGREE

_WGS84_MEASURES = (6378137.0, 298.257223563, math.radians(1), 0.0)
"""Semi-major axis in m, inverse flattening, radians in a unit of angle, prime meridian."""
_LONGEST_WKT = 1 << 16
"""Characters; the longest in the EPSG registry, of compound systems with their usage, have some ten thousand."""


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
    rpc: tuple[tuple[str, str], ...] = ()
    """Rational polynomial coefficients by GDAL's names (https://gdal.org/development/rfc/rfc22_rpc.html)."""

    @classmethod
    def of_points(cls, points: Sequence[GroundControlPoint]) -> Georeference:
        """Of control points in longitude and latitude (WGS 84); one that is not known where there are none."""
        return cls(gcps=tuple(points), gcp_crs_wkt=str(wgs84().ExportToWkt())) if points else cls()

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
        """WKT of what coordinates are in, those of control points and RPC too; "" where it is not known."""
        known = self.crs_wkt or self.gcp_crs_wkt
        return str(wgs84().ExportToWkt()) if self.rpc and not known else known

    @property
    def known(self) -> bool:
        return self.geotransform is not None or bool(self.gcps or self.rpc)

    @property
    def epsg(self) -> int | None:
        """EPSG code of the CRS, where it has one."""
        crs = self._crs()
        if crs is None or crs.GetAuthorityName(None) != "EPSG":
            return None
        code = crs.GetAuthorityCode(None)
        return int(code) if code and code.isdigit() else None

    @property
    def wkt2(self) -> str | None:
        """The CRS as WKT2:2019; None where it cannot be said in it."""
        crs = self._crs()
        try:
            return crs.ExportToWkt(["FORMAT=WKT2_2019"]) or None if crs is not None else None
        except RuntimeError:
            return None

    def _crs(self) -> Any:
        """None where there is none, or its text is nonsense."""
        try:
            return osr.SpatialReference(self.crs_wkt) if self.crs_wkt else None
        except RuntimeError:
            return None

    def ground(self, width_px: int, height_px: int) -> Ground | None:
        """From pixels to the ground of a raster of this size; None where that is not known, or nonsense."""
        return ground_of(self, width_px, height_px)

    def footprint(self, width_px: int, height_px: int) -> Footprint | None:
        """The outline in longitude and latitude (WGS 84), true to half a pixel; None where it is not known."""
        ground = self.ground(width_px, height_px)
        if ground is None:
            return None
        try:
            pixel_deg = math.sqrt(ground.area_m2(width_px, height_px) / (width_px * height_px)) / METRES_PER_DEGREE
            return footprint_of(ground.to_lonlat(outline(width_px, height_px)), pixel_deg / 2)
        except RuntimeError:
            return None  # an edge beyond the earth

    @property
    def is_north_up(self) -> bool:
        """Whether the raster lies upright, with square pixels, in a projected CRS."""
        crs = self._crs()
        if self.geotransform is None or crs is None:
            return False
        _, width, shear, _, skew, height = self.geotransform
        upright = width > 0 > height and shear == skew == 0 and abs(width + height) < 0.01 * width
        return upright and bool(crs.IsProjected())

    def pixel_m(self, width_px: int, height_px: int) -> float | None:
        """Pixel spacing on the ground of a raster of this size, the mean of both axes and of the whole raster; None
        where the ground is not known."""
        ground = self.ground(width_px, height_px)
        try:
            return math.sqrt(ground.area_m2(width_px, height_px) / (width_px * height_px)) or None if ground else None
        except RuntimeError:
            return None

    def scaled(self, factor: int) -> Georeference:
        """The georeference of the raster shrunk by `factor` on both axes."""
        gcps = tuple(replace(gcp, pixel=gcp.pixel / factor, line=gcp.line / factor) for gcp in self.gcps)
        transform = self.geotransform
        if transform is not None:
            x, x_by_column, x_by_row, y, y_by_column, y_by_row = transform
            transform = (x, x_by_column * factor, x_by_row * factor, y, y_by_column * factor, y_by_row * factor)
        return replace(self, geotransform=transform, gcps=gcps, rpc=_moved_rpc(self.rpc, (0, 0), factor))

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
        return replace(self, geotransform=transform, gcps=gcps, rpc=_moved_rpc(self.rpc, (x_px, y_px)))

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
            GroundControlPoint(gcp.GCPPixel, gcp.GCPLine, gcp.GCPX, gcp.GCPY, gcp.GCPZ, text_of(gcp.Id))
            for gcp in dataset.GetGCPs()
        )
        return cls(
            crs_wkt=text_of(dataset.GetProjection()) if transform is not None else "",
            geotransform=tuple(transform) if transform is not None else None,
            gcps=gcps,
            gcp_crs_wkt=text_of(dataset.GetGCPProjection()) if gcps else "",
            area_or_point=text_of(dataset.GetMetadataItem("AREA_OR_POINT")) or "Area",
            rpc=tuple(tags_of(dataset, "RPC").items()),
        )

    def refuse_nonsense(self, name: str) -> None:
        """A georeference that leads nowhere costs a scene its place. One that nobody can have written on purpose says
        that the header of the scene called `name` is damaged: raises SceneUnreadable."""
        if why := self._nonsense():
            raise SceneUnreadable(f"{name}: {why}; its header is damaged: send it again")

    def _nonsense(self) -> str:
        text = self.crs_wkt or self.gcp_crs_wkt
        if len(text) > _LONGEST_WKT:
            return f"its coordinate reference system is described in {len(text):,} characters"
        if not np.isfinite([(gcp.pixel, gcp.line, gcp.x, gcp.y) for gcp in self.gcps]).all():
            return "some of its control points are no numbers"
        try:
            crs = osr.SpatialReference(text)
        except RuntimeError:
            return ""
        sizes = (crs.GetLinearUnits(), crs.GetAngularUnits(), crs.GetProjParm(osr.SRS_PP_SCALE_FACTOR, 1.0))
        if not all(1e-6 < size < 1e6 for size in sizes):
            return "the units of its coordinate reference system are beyond all bounds"
        return ""

    def apply(self, dataset: Any) -> None:
        """Write to a GDAL dataset, exactly as it was read."""
        dataset.SetMetadataItem("AREA_OR_POINT", self.area_or_point)
        if self.geotransform is not None:
            dataset.SetProjection(self.crs_wkt)
            dataset.SetGeoTransform(self.geotransform)
        elif self.gcps:
            points = [gdal.GCP(gcp.x, gcp.y, gcp.z, gcp.pixel, gcp.line, "", gcp.name) for gcp in self.gcps]
            dataset.SetGCPs(points, self.gcp_crs_wkt)
        if self.rpc:
            dataset.SetMetadata(dict(self.rpc), "RPC")


def with_epsg(wkt: str) -> str:
    """A CRS that is longitude and latitude on WGS 84, or UTM on it, and does not say so (as SNAP and ENVI write it),
    with its EPSG code; any other as it is. Raises RuntimeError for what is no WKT."""
    crs, known = osr.SpatialReference(wkt), osr.SpatialReference()
    zone = crs.GetUTMZone() if crs.IsProjected() else 0
    datum = re.sub(r"[^a-z0-9]", "", (crs.GetAttrValue("DATUM") or "").lower())
    wgs84_datum = "wgs84" in datum or "wgs1984" in datum or "worldgeodeticsystem1984" in datum
    if crs.GetAuthorityCode(None) or not wgs84_datum or not (zone or crs.IsGeographic()):
        return wkt
    if zone:
        known.ImportFromEPSG(32600 + zone if zone > 0 else 32700 - zone)
        options = ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES", "CRITERION=EQUIVALENT_EXCEPT_AXIS_ORDER_GEOGCRS"]
        same = bool(crs.IsSame(known, options))
    else:
        known.ImportFromEPSG(4326)
        measures = (crs.GetSemiMajor(), crs.GetInvFlattening(), crs.GetAngularUnits(), crs.GetAttrValue("PRIMEM", 1))
        same = np.allclose([float(number or 0) for number in measures], _WGS84_MEASURES, rtol=1e-9, atol=0)
    return str(known.ExportToWkt()) if same else wkt


def _moved_rpc(
    rpc: tuple[tuple[str, str], ...], origin_px: tuple[int, int], factor: int = 1
) -> tuple[tuple[str, str], ...]:
    """Of a window that begins at `origin_px`, then shrunk by `factor`; they count from the middle of a pixel."""
    moved = dict(rpc)
    for axis, origin in zip(("SAMP", "LINE"), origin_px, strict=True):
        try:
            offset, scale = (float(moved[f"{axis}_{name}"].split()[0]) for name in ("OFF", "SCALE"))
        except (KeyError, ValueError, IndexError):
            continue  # nonsense stays as it is
        moved[f"{axis}_OFF"] = repr((offset + 0.5 - origin) / factor - 0.5)
        moved[f"{axis}_SCALE"] = repr(scale / factor)
    return tuple(moved.items())
