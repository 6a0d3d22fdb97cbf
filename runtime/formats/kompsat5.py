"""KOMPSAT-5 and COSMO-SkyMed products: HDF5 files, and folders of GeoTIFF or HDF5 with `_Aux.xml` and GIM.

Levels: L1A SCS (complex), L1B DGM (ground range), L1C GEC, L1D GTC (geocoded; GTC with an incidence-angle mask, GIM).

GDAL's own georeference of these HDF5 files is not used: in GDAL 3.4 to 3.8 it swaps the pixel's width and height
where the spacings differ, and gives L1A an identity transform. Source of the attribute names: GDAL's
hdf5imagedataset.cpp and SNAP's K5HDF, K5GeoTiff and Kompsat5Calibrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from runtime.formats.georeference import Georeference, GroundControlPoint
from runtime.formats.geotiff import open_geotiff, open_raster, time_in
from runtime.formats.layer import Incidence, Layer
from runtime.formats.product import Product
from runtime.job import SceneLimits, Window
from runtime.raster import osr
from sarwater.errors import SceneUnreadable, SceneUnsafe

Float32 = npt.NDArray[np.float32]

MISSIONS = {"KMPS": "KOMPSAT-5", "CSK": "COSMO-SkyMed", "CSG": "COSMO-SkyMed 2"}
LEVELS = {"SCS": "L1A", "DGM": "L1B", "GEC": "L1C", "GTC": "L1D", "WEC": "L1C", "WTC": "L1D", "DSM": "L1B"}
_GEOCODED = ("L1C", "L1D")
_WIDE_SWATH = ("WEC", "WTC")
_NO_SINE = ("GEC_B", "GTC_B")
_MAX_XML_BYTES = 16 << 20


def open_hdf5_product(path: Path, limits: SceneLimits) -> Product:
    """Raises SceneTruncated, SceneUnreadable, SceneUnsafe."""
    from runtime.formats.hdf5 import read_structure

    file = read_structure(path, limits)
    root = file.attributes["/"]
    mission = MISSIONS.get(str(root.get("MissionID", "")))
    level = LEVELS.get(str(root.get("ProductType", ""))[:3])
    images = [dataset for name, dataset in sorted(file.datasets.items()) if name.endswith(("/SBI", "/MBI"))]
    if mission is None or level is None or not images or '"' in str(path):
        raise SceneUnreadable(
            f"{path.name}: HDF5 with mission {root.get('MissionID')!r} and product type {root.get('ProductType')!r}; "
            f"expected a product of {', '.join(MISSIONS.values())}, level L1A to L1D, with an SBI or MBI image"
        )
    if any(image.shape[:2] != images[0].shape[:2] for image in images):
        raise SceneUnreadable(f"{path.name}: its images differ in size; process the subswaths as scenes of their own")
    gim = next((dataset for name, dataset in file.datasets.items() if name.endswith("/GIM")), None)
    layers, incidence, shadow = [], None, None
    if gim is not None and gim.shape[:2] == images[0].shape[:2]:
        incidence, shadow = (_incidence(_open_dataset(path, gim.path, limits), gim.attributes) for _ in range(2))
    for image in images:
        group = file.attributes.get(image.path.rsplit("/", 1)[0] or "/", {})
        known = {**root, **group, **image.attributes}
        raster = _open_dataset(path, image.path, limits)
        layers.append(
            Layer(
                raster,
                1,
                "amplitude_dn",
                str(known.get("Polarisation", "")).lower() or None,
                quadrature=Layer(raster, 2, "amplitude_dn") if raster.RasterCount == 2 else None,
                calibration=_calibration(known, incidence, image.shape[1]) if mission == "KOMPSAT-5" else None,
            )
        )
    height, width = images[0].shape[:2]
    return Product(
        width_px=width,
        height_px=height,
        layers=tuple(layers),
        georeference=_georeference({**root, **images[0].attributes}, level, width, height),
        format=f"{mission} {level} HDF5",
        nodata=0.0,
        acquired=_time(root, path),
        incidence=incidence,
        shadow=shadow,
    )


def open_folder(path: Path, limits: SceneLimits) -> Product:
    """A product folder: one image (HDF5, or GeoTIFF with `_Aux.xml`), and GIM where it is there. Raises as above."""
    files = sorted(path.iterdir())
    if links := [file for file in files if file.is_symlink()]:
        raise SceneUnsafe(f"{path.name}/{links[0].name}: a symbolic link; expected a folder of regular files")
    if products := [file for file in files if file.suffix.lower() == ".h5"]:
        return open_hdf5_product(products[0], limits)
    rasters = [file for file in files if file.suffix.lower() in (".tif", ".tiff")]
    gims = [file for file in rasters if "GIM" in file.stem.upper()]
    images = [file for file in rasters if file not in gims and "QL" not in file.stem.upper().split("_")]
    quadratures = [file for file in images if "Q" in file.stem.upper().split("_")]
    images = [file for file in images if file not in quadratures]
    if len(images) != 1:
        raise SceneUnreadable(
            f"{path.name}: a folder with {len(images)} images; expected one product: a .h5, or a .tif with its _Aux.xml"
        )
    product = open_geotiff(images[0], limits)
    aux = next((file for file in files if file.name.lower().endswith("_aux.xml")), None)
    known = _read_aux(aux) if aux else {}
    incidence = None
    if gims:
        gim = open_geotiff(gims[0], limits)
        if (gim.width_px, gim.height_px) == (product.width_px, product.height_px):
            angles = _prefixed(known, "GIM.")
            incidence = _incidence(gim.layers[0].dataset, angles)
            product.shadow = _incidence(open_geotiff(gims[0], limits).layers[0].dataset, angles)
        else:
            product.notes += (f"{gims[0].name} differs in size from the image and was not used",)
    polarisation = str(known.get("Polarisation", "")).lower() or product.layers[0].polarisation
    layer = replace(
        product.layers[0],
        polarisation=polarisation,
        quadrature=open_geotiff(quadratures[0], limits).layers[0] if quadratures else None,
        calibration=_calibration(known, incidence, product.width_px),
    )
    product.layers = (layer,)
    product.incidence = incidence
    product.format = f"KOMPSAT-5 {LEVELS.get(str(known.get('ProductType', ''))[:3], 'product')} folder"
    product.acquired = product.acquired or _time(known, path)
    return product


def _open_dataset(path: Path, name: str, limits: SceneLimits) -> Any:
    return open_raster(path, ["HDF5Image"], limits, f'HDF5:"{path.resolve()}":/{name}')


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


def _incidence(dataset: Any, known: Mapping[str, Any]) -> Incidence:
    scale, offset = known.get("RescalingFactor"), known.get("Offset")
    numbers = isinstance(scale, float) and isinstance(offset, float)
    return Incidence(Layer(dataset, 1, "incidence_dn"), scale if numbers else None, offset if numbers else None)


@dataclass(frozen=True)
class Sigma0:
    """sigma0 = C / (column spacing * line spacing) * rescaling^2 * DN^2 [* |sin theta|], SNAP's Kompsat5Calibrator.

    `angles_deg` is the incidence angle at the near and far edge, `incidence` the mask that tells it per pixel; both
    None where the product is already projected (GEC_B, GTC_B) and the sine does not apply.
    """

    factor: float
    width_px: int
    angles_deg: tuple[float, float] | None = None
    incidence: Incidence | None = None

    def __call__(self, amplitude: Float32, window: Window) -> Float32:
        """(H, W) float32 amplitude of `window` -> sigma0, linear."""
        power = amplitude.astype(np.float64) ** 2 * self.factor
        if self.incidence is not None:
            power *= np.abs(np.sin(np.radians(self.incidence.angle_deg(window))))
        elif self.angles_deg is not None:
            columns = (np.arange(window.width_px) + window.x_px + 0.5) / self.width_px
            near, far = self.angles_deg
            power *= np.abs(np.sin(np.radians(near + (far - near) * columns)))
        return power.astype(np.float32)


def _calibration(known: Mapping[str, Any], incidence: Incidence | None, width_px: int) -> Sigma0 | None:
    """None where the product does not say enough, or is wide swath, for which no calibration is published."""
    product_type = str(known.get("ProductType", ""))
    try:
        constant, rescaling = float(known["CalibrationConstant"]), float(known["RescalingFactor"])
        cell_m2 = float(known["ColumnSpacing"]) * float(known["LineSpacing"])
    except (KeyError, TypeError, ValueError):
        return None
    if product_type[:3] in _WIDE_SWATH or min(constant, rescaling, cell_m2) <= 0:
        return None
    constant = 1 / constant if constant > 1 else constant
    factor = constant / cell_m2 * rescaling**2
    if product_type in _NO_SINE:
        return Sigma0(factor, width_px)
    if incidence is not None and incidence.scale is not None:
        return Sigma0(factor, width_px, incidence=incidence)
    near, far = known.get("NearIncidenceAngle"), known.get("FarIncidenceAngle")
    if not isinstance(near, float) or not isinstance(far, float):
        return None
    return Sigma0(factor, width_px, angles_deg=(near, far))


def _read_aux(path: Path) -> dict[str, Any]:
    """The leaves of `_Aux.xml` by tag; those of a GIM element as `GIM.<tag>`. Raises SceneUnreadable, SceneUnsafe."""
    text = path.read_bytes()[: _MAX_XML_BYTES + 1]
    if len(text) > _MAX_XML_BYTES or b"<!" in text.replace(b"<!--", b""):
        raise SceneUnsafe(
            f"{path.name}: is larger than {_MAX_XML_BYTES:,} bytes or defines entities; expected plain XML"
        )
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise SceneUnreadable(f"{path.name}: not readable XML ({error}); send the product again") from error
    known: dict[str, Any] = {}
    _collect(root, "", known)
    return known


def _collect(element: ElementTree.Element, prefix: str, known: dict[str, Any]) -> None:
    if not len(element):
        known.setdefault(prefix + element.tag, _number_or_text((element.text or "").strip()))
    for child in element:
        _collect(child, "GIM." if element.tag == "GIM" else prefix, known)


def _number_or_text(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _prefixed(known: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) :]: value for name, value in known.items() if name.startswith(prefix)}


def _time(known: Mapping[str, Any], path: Path) -> str | None:
    """`SceneSensingStartUTC`, or the time in the name."""
    stated = str(known.get("SceneSensingStartUTC") or known.get("DownlinkStartUTC") or "")
    digits = "".join(character for character in stated[:19] if character.isdigit())
    return time_in(digits) or time_in(path.name)
