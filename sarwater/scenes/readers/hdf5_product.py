"""Products in one HDF5 file: the kinds of them, and those of the KOMPSAT-5 and COSMO-SkyMed family.

GDAL's own georeference of these files is not used: in GDAL 3.4 to 3.8 it swaps the pixel's width and height where the
spacings differ, and gives L1A an identity transform.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sarwater.errors import SceneUnreadable, UsageError
from sarwater.scenes.band import Band, Incidence
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.scenes.hdf5 import Hdf5File, Plane, is_hdf5, opened_hdf5
from sarwater.scenes.names import polarisation_in
from sarwater.scenes.raster import osr
from sarwater.scenes.readers.base import Kind, Reader, Source
from sarwater.scenes.readers.hdf5_kind import Hdf5Kind, open_plane, with_rasters
from sarwater.scenes.readers.iceye import Iceye
from sarwater.scenes.readers.kompsat5 import (
    LEVELS,
    MISSIONS,
    calibration_of,
    cosmo_calibration_of,
    incidence_of,
    sensing_time,
)
from sarwater.scenes.readers.netcdf import NetCdf
from sarwater.scenes.readers.nisar_gcov import NisarGcov
from sarwater.scenes.readers.opera_rtc import OperaRtc
from sarwater.scenes.scene import Scene

_GEOCODED = ("L1C", "L1D")
_IMAGE = re.compile(r"(?:/S\d\d)?/(?:SBI|MBI|IMG)")


class Hdf5Product(Reader):
    name = "HDF5 product"
    looks_for = "an HDF5 file"

    @property
    def kinds(self) -> Sequence[Kind]:
        return KINDS

    def matches(self, path: Path, name: str) -> bool:
        return path.is_file() and is_hdf5(path)

    def open(self, source: Source) -> Scene:
        return open_hdf5_product(source)


def open_hdf5_product(source: Source) -> Scene:
    """Raises SceneTruncated, SceneUnreadable, SceneUnsafe."""
    with opened_hdf5(source.path, source.limits, source.name) as file:
        for kind in KINDS:
            if kind.matches(file):
                return kind.open(source, file)
        held, advice = with_rasters(source, file)
    expected = "; ".join(kind.looks_for for kind in KINDS)
    raise SceneUnreadable(f"{source.name}: HDF5 {held}; expected {expected}: {advice}")


class Kompsat5Family(Hdf5Kind):
    """Images per swath, or of all swaths: SBI and MBI; IMG in COSMO-SkyMed of the second generation."""

    name = "KOMPSAT-5 or COSMO-SkyMed HDF5"
    reads = "levels L1A to L1D, every SBI, MBI or IMG image; corners or map projection; time; incidence angles (GIM)"
    unit = "amplitude in DN; sigma0 where it says its calibration"
    unused = "quicklooks (QLK), Doppler and orbit"
    looks_for = f"a product of {', '.join(MISSIONS.values())}, level L1A to L1D, with an SBI, MBI or IMG image"

    def matches(self, file: Hdf5File) -> bool:
        return str(file.attributes("/").get("MissionID", "")) in MISSIONS

    def open(self, source: Source, file: Hdf5File) -> Scene:
        root = file.attributes("/")
        mission = MISSIONS[str(root["MissionID"])]
        level = LEVELS.get(str(root.get("ProductType", ""))[:3])
        images = [file.plane(path) for path in sorted(file.datasets) if _IMAGE.fullmatch(path)]
        if level is None or not images:
            raise SceneUnreadable(
                f"{source.name}: {mission} of product type {root.get('ProductType')!r} "
                f"{'with' if images else 'without'} an image; expected {self.looks_for}: send the whole product again"
            )
        if any(image.shape[:2] != images[0].shape[:2] for image in images):
            raise SceneUnreadable(
                f"{source.name}: its images differ in size; process the subswaths as scenes of their own"
            )
        incidence, shadow = (_incidence(source, file, images[0]) for _ in range(2))
        bands = []
        for image in images:
            group = file.attributes(image.path.rsplit("/", 1)[0])
            known = {**root, **group, **file.attributes(image.path)}
            raster = open_plane(source, image)
            bands.append(
                Band(
                    raster,
                    1,
                    "amplitude_dn",
                    _polarisation(known) or polarisation_in(source.name),
                    quadrature=Band(raster, 2, "amplitude_dn") if raster.RasterCount == 2 else None,
                    calibration=calibration_of(known, incidence, image.shape[1])
                    if mission == "KOMPSAT-5"
                    else cosmo_calibration_of(known, image.shape[1]),
                    scene=source.name,
                )
            )
        height, width = images[0].shape[:2]
        return Scene(
            width_px=width,
            height_px=height,
            bands=tuple(bands),
            georeference=_georeference({**root, **file.attributes(images[0].path)}, level, width, height),
            format=f"{mission} {level} HDF5",
            nodata=0.0,
            acquired=sensing_time(root, source.name),
            incidence=incidence,
            shadow=shadow,
            name=source.name,
        )


KINDS: tuple[Hdf5Kind, ...] = (Kompsat5Family(), NisarGcov(), OperaRtc(), Iceye(), NetCdf())
"""The first that matches has it."""


def _incidence(source: Source, file: Hdf5File, image: Plane) -> Incidence | None:
    path = next((path for path in file.datasets if path.endswith("/GIM")), None)
    if path is None or file.datasets[path] != image.shape[:2]:
        return None
    return incidence_of(open_plane(source, file.plane(path)), file.attributes(path))


def _polarisation(known: Mapping[str, Any]) -> str | None:
    """COSMO-SkyMed of the second generation spells it with a z, in the root."""
    return polarisation_in(str(known.get("Polarisation") or known.get("Polarization") or ""))


def _georeference(known: Mapping[str, Any], level: str, width: int, height: int) -> Georeference:
    """Geocoded levels from the upper left corner and the spacings; the others, and those that do not tell them, from
    their four corners."""
    if level in _GEOCODED:
        try:
            east, north = known["TopLeftEast-North"]
            transform = (east, known["ColumnSpacing"], 0.0, north, 0.0, -known["LineSpacing"])
            return Georeference.of_affine(transform, _crs(known).ExportToWkt())
        except (KeyError, TypeError, ValueError, RuntimeError, UsageError):
            pass  # the corners are left
    corners = {"TopLeft": (0, 0), "TopRight": (width, 0), "BottomLeft": (0, height), "BottomRight": (width, height)}
    gcps = []
    for name, (pixel, line) in corners.items():
        place = known.get(f"{name}GeodeticCoordinates")
        if not isinstance(place, tuple) or len(place) < 3:
            return Georeference()
        latitude, longitude, up = place[:3]
        gcps.append(GroundControlPoint(pixel, line, longitude, latitude, up, name))
    geographic = osr.SpatialReference()
    geographic.ImportFromEPSG(4326)
    return Georeference(gcps=tuple(gcps), gcp_crs_wkt=geographic.ExportToWkt())


def _crs(known: Mapping[str, Any]) -> Any:
    """UTM (with its EPSG code where it is a regular zone) or polar stereographic. Raises KeyError, ValueError."""
    crs = osr.SpatialReference()
    crs.SetWellKnownGeogCS("WGS84")
    latitude, longitude = known["MapProjectionCentre"][:2]
    easting, northing = known["MapProjectionFalseEast-North"][:2]
    scale = known["MapProjectionScaleFactor"]
    projection = known["ProjectionID"]
    zone = int((longitude + 180) // 6) + 1
    regular = (latitude, scale, easting) == (0, 0.9996, 500_000) and longitude == zone * 6 - 183
    if projection == "UTM" and regular:
        crs.ImportFromEPSG((32600 if northing == 0 else 32700) + zone)
    elif projection == "UTM":
        crs.SetProjCS("Transverse Mercator")
        crs.SetTM(latitude, longitude, scale, easting, northing)
    elif projection == "UPS":
        crs.SetProjCS("Polar Stereographic")
        crs.SetPS(latitude, longitude, scale, easting, northing)
    else:
        raise ValueError(projection)
    return crs
