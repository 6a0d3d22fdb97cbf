"""TerraSAR-X, TanDEM-X and PAZ products in a folder: `TSX1_SAR__*.xml`, and an image for each polarisation in
`IMAGEDATA`: GeoTIFF (MGD, GEC, EEC), or COSAR, which is complex (SSC).

sigma0 = calFactor * |DN|^2 * sin(theta). Theta is, where AUXRASTER holds an incidence-angle mask (GIM) of the image's
size, the local incidence angle of each pixel, (G - G mod 10) / 100 degrees of its values G; else the incidence angle at
the centre of the scene, for all of it. Noise (NEBN) is not subtracted.

Sources: TerraSAR-X Level 1b Product Format Specification (TX-GS-DD-3307), Radiometric Calibration of TerraSAR-X Data
(TSXX-ITD-TN-0049), SNAP's TerraSARXCalibrator; rows and columns of corners count from 1. COSAR: GDAL's
cosar_dataset.cpp.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneTruncated, SceneUnreadable
from sarwater.regular import open_regular
from sarwater.request import Window
from sarwater.scenes.band import Band
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.scenes.limits import check_declared
from sarwater.scenes.names import polarisation_in, time_in
from sarwater.scenes.readers.base import Reader, Source, named
from sarwater.scenes.readers.geotiff import open_raster, open_tiff
from sarwater.scenes.readers.polarisations import calibrated, open_polarisations
from sarwater.scenes.readers.radarsat import read_product
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import file_named, read_xml

Float32 = npt.NDArray[np.float32]

_NAMES = ("TSX1_SAR__*", "TDX1_SAR__*", "PAZ1_SAR__*")
_NAME = re.compile(r"(?:TSX|TDX|PAZ)1_SAR__", re.IGNORECASE)
_MISSIONS = {"TSX": "TerraSAR-X", "TDX": "TanDEM-X", "PAZ": "PAZ"}
_IMAGES = ("IMAGE_*.tif", "IMAGE_*.tiff", "IMAGE_*.cos")
_CORNER = ("refColumn", "refRow", "lon", "lat")
_COSAR = struct.Struct(">7I4sI")
"""Bytes of the burst, its range index, samples, lines, burst number, bytes of a line, lines with annotation, `CSAR`,
version."""


class TerraSarXFolder(Reader):
    name = "TerraSAR-X folder"
    reads = "MGD, GEC, EEC (GeoTIFF) and SSC (COSAR) of every polarisation; calFactor; incidence angles (GIM); time"
    unit = "DN, calibrated to sigma0"
    unused = "noise, layover and shadow of the GIM, quicklooks, SSC of several bursts"
    looks_for = "a folder named TSX1_SAR__*, TDX1_SAR__* or PAZ1_SAR__*, or one that holds an .xml so named"
    images = tuple(f"IMAGEDATA/{pattern}" for pattern in _IMAGES)

    def matches(self, path: Path, name: str) -> bool:
        return path.is_dir() and bool(_headers(path) or _NAME.match(name))

    def missing(self, path: Path) -> list[str]:
        headers = _headers(path)
        if not headers:
            return [f"{path.name}.xml" if _NAME.match(path.name) else "TSX1_SAR__*.xml"]
        root = read_product(headers[0])
        listed = root.findall(".//imageData/file/location/filename") if root is not None else []
        names = sorted({name for element in listed if (name := file_named(element.text))})
        lack = [f"IMAGEDATA/{name}" for name in names if not named(path / "IMAGEDATA", name)]
        return lack if lack or named(path / "IMAGEDATA", *_IMAGES) else ["IMAGEDATA/IMAGE_*"]

    def open(self, source: Source) -> Scene:
        headers, images = _headers(source.path), named(source.path / "IMAGEDATA", *_IMAGES)
        if len(headers) != 1:
            raise SceneUnreadable(f"{source.name}: a folder of {len(headers)} products; process each by itself")
        header, root = headers[0], read_xml(headers[0])
        scene = open_polarisations(source, {file: polarisation_in(file.stem) for file in images}, _open_image)
        incidence = _incidence(source, scene)
        bands = []
        for band in scene.bands:
            sigma0 = _sigma0(header, root, band.polarisation, incidence)
            if sigma0 is None:
                scene.notes += (f"{band.label}: no calFactor: DN were taken for amplitude as they are",)
            bands.append(calibrated(band, sigma0, f"calFactor{'' if incidence is None else ' and the GIM'}"))
        scene.bands = tuple(bands)
        if not scene.georeference.known:
            scene.georeference = _corners(root)
        scene.format = f"{_MISSIONS[header.name[:3].upper()]} {root.findtext('.//productVariant') or 'product'}"
        scene.acquired = time_in(root.findtext(".//sceneInfo/start/timeUTC") or "") or time_in(source.name)
        return scene


@dataclass(frozen=True)
class Sigma0:
    """sigma0 of amplitudes in DN."""

    factor: float
    centre_deg: float
    incidence: Band | None = None
    """The GIM, where there is one: `centre_deg` stands in where it has no angle."""

    def __call__(self, amplitude: Float32, window: Window) -> Float32:
        """(H, W) float32 amplitude of `window` -> sigma0, linear."""
        sine: Any = math.sin(math.radians(self.centre_deg))
        if self.incidence is not None:
            stored = self.incidence.read(window).astype(np.int32)
            angles = (stored - stored % 10) / 100
            sine = np.where(stored > 0, np.sin(np.radians(angles)), sine)
        return np.asarray(np.square(amplitude) * self.factor * sine, np.float32)


def _headers(folder: Path) -> list[Path]:
    return [file for file in named(folder, *_NAMES) if file.suffix.lower() == ".xml"]


def _open_image(source: Source) -> Any:
    return _open_cosar(source) if source.path.suffix.lower() == ".cos" else open_tiff(source)


def _open_cosar(source: Source) -> Any:
    """Raises SceneUnreadable, SceneTruncated, SceneUnsafe."""
    with open_regular(source.path) as file:
        head = file.read(_COSAR.size)
    fields = _COSAR.unpack(head) if len(head) == _COSAR.size else (0,) * 9
    burst_bytes, _, samples, lines, _, line_bytes, *_ = fields
    if fields[7] != b"CSAR" or min(samples, lines) < 1 or line_bytes < 4 * samples:
        raise SceneUnreadable(f"{source.name}: not a COSAR file; the file is damaged: send it again")
    size_bytes = source.path.stat().st_size
    if max(burst_bytes, (lines + 4) * line_bytes) > size_bytes:
        raise SceneTruncated(
            f"{source.name}: declares {lines:,} lines of {line_bytes:,} bytes, but the file ends at {size_bytes:,}; "
            "the transfer was cut short: send it again"
        )
    if size_bytes > burst_bytes + line_bytes:
        raise SceneUnreadable(
            f"{source.name}: holds several bursts, of which GDAL reads the first; give a product of one burst, or a "
            "detected one (MGD, GEC, EEC)"
        )
    check_declared(
        source.name,
        source.limits,
        pixels=samples * lines,
        block_bytes=line_bytes,
        decoded_bytes=size_bytes,
        stored_bytes=size_bytes,
    )
    return open_raster(source, ["COSAR"])


def _incidence(source: Source, scene: Scene) -> Band | None:
    gims = named(source.path / "AUXRASTER", "GIM*.tif", "GIM*.tiff")
    if not gims:
        return None
    gim = open_tiff(Source(gims[0], gims[0].name, source.limits))
    if (gim.RasterXSize, gim.RasterYSize) != (scene.width_px, scene.height_px):
        scene.notes += (f"{gims[0].name} differs in size from the image and was not used",)
        return None
    return Band(gim, 1, "incidence_dn", scene=source.name)


def _sigma0(header: Path, root: ElementTree.Element, polarisation: str | None, gim: Band | None) -> Sigma0 | None:
    """None where the product states no factor for this polarisation. Raises SceneUnreadable for one that makes no
    sense."""
    constants = root.findall(".//calibration/calibrationConstant")
    own = [one for one in constants if (one.findtext("polLayer") or "").strip().lower() == (polarisation or "")]
    own = own or [one for one in constants if one.find("polLayer") is None]
    if not own:
        return None
    texts = (own[0].findtext("calFactor"), root.findtext(".//sceneInfo/sceneCenterCoord/incidenceAngle"))
    try:
        factor, centre_deg = (float(text or "nan") for text in texts)
    except ValueError:
        factor = centre_deg = math.nan
    if not (0 < factor < math.inf and 0 < centre_deg < 90):
        raise SceneUnreadable(
            f"{header.name}: calFactor {texts[0]!r} at an incidence angle of {texts[1]!r} degrees; expected a number "
            "above 0, and one between 0 and 90: send the product again"
        )
    return Sigma0(factor, centre_deg, gim)


def _corners(root: ElementTree.Element) -> Georeference:
    """The four corners as control points, for products in radar geometry."""
    points: list[GroundControlPoint] = []
    for corner in root.findall(".//sceneInfo/sceneCornerCoord"):
        try:
            column, row, longitude, latitude = (float(corner.findtext(name) or "nan") for name in _CORNER)
        except ValueError:
            continue
        if all(map(math.isfinite, (column, row, longitude, latitude))):
            name = str(len(points) + 1)
            points.append(GroundControlPoint(column - 0.5, row - 0.5, longitude, latitude, 0.0, name))
    return Georeference.of_points(points)
