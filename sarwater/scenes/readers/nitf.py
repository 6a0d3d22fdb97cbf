"""SICD and SIDD products, and other SAR images, in NITF files.

SICD is complex and in the slant plane: read as amplitude, placed by the corners and the scene centre point that its XML
has, calibrated by the constant term of SigmaZeroSFPoly. SIDD is detected: its values are taken for amplitudes.
Sources: SICD volumes 1 (NGA.STND.0024-1, design and implementation) and 2 (-2, file format); SIDD (NGA.STND.0025).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from sarwater.errors import SceneNoBackscatter, SceneUnreadable
from sarwater.scenes.band import Band
from sarwater.scenes.foreign import geotiff_of, nitf_of
from sarwater.scenes.georeference import Georeference, GroundControlPoint
from sarwater.scenes.names import polarisation_in, time_in
from sarwater.scenes.nitf import NitfFile, NitfImage, is_nitf, read_structure
from sarwater.scenes.raster import tags_of
from sarwater.scenes.readers.base import Reader, Source
from sarwater.scenes.readers.geotiff import open_raster
from sarwater.scenes.scene import Scene
from sarwater.scenes.xml import parse_xml

_PRODUCTS = ("SICD", "SIDD")
_NAMED = 4
"""Segments that a message names."""
_NO_TIME = "20021216151629"
"""GDAL's, for want of any: NITFCreate."""
_SCALE_FACTORS = {"SigmaZeroSFPoly": "sigma0_amplitude", "BetaZeroSFPoly": "beta0_amplitude"}
_CORNERS = ("FRFC", "FRLC", "LRLC", "LRFC")
"""First row and column, clockwise; in the attribute `index` as `1:FRFC`."""


class Nitf(Reader):
    name = "NITF"
    reads = "SICD (I and Q, amplitude and phase), SIDD of 8 and 16 bits; corners; polarisation; start of collection"
    unit = "amplitude; sigma0 or beta0 by the constant term of the scale factor that a SICD states"
    unused = "phase, compressed images, further images and graphics"
    looks_for = "a NITF file (SICD, SIDD)"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_file() and is_nitf(path)

    def open(self, source: Source) -> Scene:
        file = read_structure(source.path, source.limits, source.name)
        known = _known(source.name, file)
        image = _the_image(source.name, file, known is not None)
        part = f"NITF_IM:{image.number}:{source.path.resolve()}" if image.number else None
        dataset = open_raster(source, ["NITF"], part)
        if (dataset.RasterXSize, dataset.RasterYSize) != (image.width_px, image.height_px):
            raise SceneUnreadable(f"{source.name}: its headers contradict each other; send it again")
        first = dataset.GetRasterBand(1)
        tags = tags_of(dataset)
        return Scene(
            width_px=image.width_px,
            height_px=image.height_px,
            bands=_bands(source.name, dataset, image, known),
            georeference=_georeference(known, image) or Georeference.of(dataset),
            format=_product(known) or "NITF",
            declared_nodata=first.GetNoDataValue(),
            nodata=0.0 if first.GetNoDataValue() is None else float(first.GetNoDataValue()),
            acquired=_acquired(known, source.name, tags),
            name=source.name,
        )


def _the_image(name: str, file: NitfFile, is_product: bool) -> NitfImage:
    """That of the radar, by its category, by its complex pixels, or because the product is one of SAR and has no other.
    Raises SceneNoBackscatter, SceneUnreadable."""
    images = [image for image in file.images if image.category.startswith("SAR") or image.is_complex]
    if not images and is_product:
        images = [image for image in file.images if image.category != "LEG"]
    if not images:
        found = ", ".join(sorted({image.category or "none" for image in file.images})) or "no image"
        raise SceneNoBackscatter(
            f"{name}: its image category is {found}, expected SAR or SARIQ; give the image of the radar (if this is "
            f"one, write it anew with {nitf_of(name, 'sar', 'ICAT=SAR')})"
        )
    if len(images) > 1:
        raise SceneUnreadable(
            f"{name}: its image lies in {len(images)} segments, expected one; give each by itself, taken out with "
            + ", ".join(
                geotiff_of(f"NITF_IM:{image.number}:{name}", f"{Path(name).stem}-{image.number}")
                for image in images[:_NAMED]
            )
        )
    return images[0]


def _known(name: str, file: NitfFile) -> Element | None:
    """The first XML that is SICD or SIDD. Raises SceneUnreadable, SceneUnsafe."""
    roots = (parse_xml(text, f"{name}: its XML") for text in file.texts)
    return next((root for root in roots if _local(root) in _PRODUCTS), None)


def _product(known: Element | None) -> str:
    return "" if known is None else _local(known)


def _bands(name: str, dataset: Any, image: NitfImage, known: Element | None) -> tuple[Band, ...]:
    polarisation = _polarisation(known) or polarisation_in(name)
    unit, scale, by = _radiometry(known)

    def band(number: int, quadrature: Band | None = None) -> Band:
        return Band(
            dataset,
            number,
            unit,
            polarisation,
            quadrature=quadrature,
            scene=name,
            scale=scale,
            stated_by=by,
        )

    if dataset.RasterCount == 2 and image.band_kinds == ("M", "P"):
        return (replace(band(1), amplitudes=_amplitudes(known)),)
    if dataset.RasterCount == 2 and (image.band_kinds == ("I", "Q") or image.category == "SARIQ"):
        return (band(1, Band(dataset, 2, "amplitude_dn", scene=name)),)
    return tuple(band(number) for number in range(1, dataset.RasterCount + 1))


def _amplitudes(known: Element | None) -> Any:
    """AmpTable of 8-bit amplitudes, (256,) float32; None where they are stored as they are."""
    table = None if known is None else known.find("{*}ImageData/{*}AmpTable")
    if table is None:
        return None
    values = np.full(256, np.nan, np.float32)
    for entry in table:
        index = entry.get("index", "")
        if index.isascii() and index.isdigit() and int(index) < values.size:
            values[int(index)] = _number(entry.text)
    return values


def _radiometry(known: Element | None) -> tuple[str, float, str]:
    """(unit, scale, who says so) of stored amplitudes: sigma0 = factor * (I^2 + Q^2), SICD volume 1, Radiometric."""
    for field, unit in _SCALE_FACTORS.items():
        polynomial = None if known is None else known.find(f"{{*}}Radiometric/{{*}}{field}")
        for coefficient in polynomial if polynomial is not None else ():
            factor = _number(coefficient.text)
            if (coefficient.get("exponent1"), coefficient.get("exponent2")) == ("0", "0") and factor > 0:
                return unit, math.sqrt(factor), f"its {field}"
    return "amplitude_dn", 1.0, ""


def _polarisation(known: Element | None) -> str | None:
    if known is None:
        return None
    processed = known.findtext("{*}ImageFormation/{*}TxRcvPolarizationProc", "")
    sent, received = (known.findtext(f".//{{*}}{way}Polarization", "") for way in ("Tx", "Rcv"))
    return polarisation_in(processed) or polarisation_in(f"{sent}:{received}")


def _acquired(known: Element | None, name: str, tags: Mapping[str, str]) -> str | None:
    stated = (
        "" if known is None else known.findtext(path, "")
        for path in ("{*}Timeline/{*}CollectStart", ".//{*}CollectionDateTime")
    )
    said = str(tags.get("NITF_IDATIM", ""))
    return next(filter(None, map(time_in, (*stated, name, "" if said == _NO_TIME else said))), None)


def _georeference(known: Element | None, image: NitfImage) -> Georeference | None:
    """The corners as control points, and the scene centre point where the image holds it; None where none are told."""
    if known is None:
        return None
    right, bottom = image.width_px - 0.5, image.height_px - 0.5
    places = dict(zip(_CORNERS, ((0.5, 0.5), (right, 0.5), (right, bottom), (0.5, bottom)), strict=True))
    points = []
    for corner in known.iterfind("{*}GeoData/{*}ImageCorners/{*}ICP"):
        place = places.pop(corner.get("index", "").rpartition(":")[2], None)
        if place is not None:
            points.append(_point(place, corner))
    if places:
        return None
    centre = known.find("{*}GeoData/{*}SCP/{*}LLH")
    if centre is not None:
        row, column = (
            _number(known.findtext(f"{{*}}ImageData/{{*}}SCPPixel/{{*}}{axis}"))
            - _number(known.findtext(f"{{*}}ImageData/{{*}}First{axis}"))
            for axis in ("Row", "Col")
        )
        if 1 < column < image.width_px - 2 and 1 < row < image.height_px - 2:
            points.append(_point((column + 0.5, row + 0.5), centre))
    return Georeference.of_points(points)


def _point(place: tuple[float, float], element: Element) -> GroundControlPoint:
    latitude, longitude = (_number(element.findtext(f"{{*}}{axis}")) for axis in ("Lat", "Lon"))
    height = element.findtext("{*}HAE")
    return GroundControlPoint(*place, longitude, latitude, _number(height) if height else 0.0)


def _number(text: str | None) -> float:
    """NaN for what is none: such control points lead nowhere, and such factors are no factors."""
    try:
        return float(text or "")
    except ValueError:
        return math.nan


def _local(element: Element) -> str:
    return element.tag.rpartition("}")[2]
