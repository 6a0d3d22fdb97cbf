"""KOMPSAT-5 and COSMO-SkyMed products in one HDF5 file.

GDAL's own georeference of these files is not used: in GDAL 3.4 to 3.8 it swaps the pixel's width and height where the
spacings differ, and gives L1A an identity transform.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sarwater.errors import SceneEmpty, SceneUnreadable
from sarwater.scenes.band import Band
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.scenes.hdf5 import is_hdf5, read_structure
from sarwater.scenes.raster import osr
from sarwater.scenes.readers.base import Reader, Source
from sarwater.scenes.readers.geotiff import open_raster
from sarwater.scenes.readers.kompsat5 import LEVELS, MISSIONS, calibration_of, incidence_of, sensing_time
from sarwater.scenes.scene import Scene

_GEOCODED = ("L1C", "L1D")


class Hdf5Product(Reader):
    name = "KOMPSAT-5 or COSMO-SkyMed HDF5"
    looks_for = "an HDF5 file"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_file() and is_hdf5(path)

    def open(self, source: Source) -> Scene:
        return open_hdf5_product(source)


def open_hdf5_product(source: Source) -> Scene:
    """Raises SceneTruncated, SceneUnreadable, SceneUnsafe, SceneEmpty."""
    path = source.path
    file = read_structure(path, source.limits, source.name)
    root = file.attributes["/"]
    mission = MISSIONS.get(str(root.get("MissionID", "")))
    level = LEVELS.get(str(root.get("ProductType", ""))[:3])
    images = [dataset for name, dataset in sorted(file.datasets.items()) if name.endswith(("/SBI", "/MBI"))]
    if mission is None or level is None or not images or '"' in str(path):
        raise SceneUnreadable(
            f"{source.name}: HDF5 with mission {root.get('MissionID')!r} and product type {root.get('ProductType')!r}; "
            f"expected a product of {', '.join(MISSIONS.values())}, level L1A to L1D, with an SBI or MBI image"
        )
    if any(image.shape[:2] != images[0].shape[:2] for image in images):
        raise SceneUnreadable(f"{source.name}: its images differ in size; process the subswaths as scenes of their own")
    if any(len(image.shape) not in (2, 3) for image in images):
        raise SceneUnreadable(
            f"{source.name}: {images[0].path} has the shape {images[0].shape}, expected (H, W[, 2]); damaged"
        )
    if 0 in images[0].shape:
        raise SceneEmpty(f"{source.name}: {images[0].path} holds no pixel; send the product again")
    for image in images:
        image.check_expansion(source.name, source.limits)
    gim = next((dataset for name, dataset in file.datasets.items() if name.endswith("/GIM")), None)
    bands, incidence, shadow = [], None, None
    if gim is not None and gim.shape[:2] == images[0].shape[:2]:
        incidence, shadow = (incidence_of(_open_dataset(source, gim.path), gim.attributes) for _ in range(2))
    for image in images:
        group = file.attributes.get(image.path.rsplit("/", 1)[0] or "/", {})
        known = {**root, **group, **image.attributes}
        raster = _open_dataset(source, image.path)
        bands.append(
            Band(
                raster,
                1,
                "amplitude_dn",
                str(known.get("Polarisation", "")).lower() or None,
                quadrature=Band(raster, 2, "amplitude_dn") if raster.RasterCount == 2 else None,
                calibration=calibration_of(known, incidence, image.shape[1]) if mission == "KOMPSAT-5" else None,
                scene=source.name,
            )
        )
    height, width = images[0].shape[:2]
    return Scene(
        width_px=width,
        height_px=height,
        bands=tuple(bands),
        georeference=_georeference({**root, **images[0].attributes}, level, width, height),
        format=f"{mission} {level} HDF5",
        nodata=0.0,
        acquired=sensing_time(root, source.name),
        incidence=incidence,
        shadow=shadow,
        name=source.name,
    )


def _open_dataset(source: Source, name: str) -> Any:
    return open_raster(source, ["HDF5Image"], f'HDF5:"{source.path.resolve()}":/{name}')


def _georeference(known: Mapping[str, Any], level: str, width: int, height: int) -> Georeference:
    """Geocoded levels from the upper left corner and the spacings, the others from their four corners."""
    if level in _GEOCODED:
        try:
            east, north = known["TopLeftEast-North"]
            transform = (east, known["ColumnSpacing"], 0.0, north, 0.0, -known["LineSpacing"])
            return Georeference(_crs(known).ExportToWkt(), tuple(float(number) for number in transform))
        except (KeyError, TypeError, ValueError):
            return Georeference()
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
