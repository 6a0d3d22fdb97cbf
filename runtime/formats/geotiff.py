"""GeoTIFF in all its forms (striped, tiled, BigTIFF, cloud-optimised) -> Product."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from runtime.formats.georeference import Georeference
from runtime.formats.layer import UNKNOWN_UNIT, Layer
from runtime.formats.product import Product
from runtime.formats.tiff import check_structure, is_tiff
from runtime.job import SceneLimits
from runtime.raster import gdal, gdal_array
from sarwater.errors import SceneUnreadable, SceneUnsafe

_POLARISATION = re.compile(r"(?<![A-Za-z])(hh|hv|vh|vv)(?![A-Za-z])", re.IGNORECASE)
_TIMESTAMP = re.compile(
    r"(?<!\d)((?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]))T?([01]\d|2[0-3])([0-5]\d)([0-5]\d)(?!\d)"
)
_SMALL_BYTES = 256 << 20


def open_geotiff(path: Path, limits: SceneLimits) -> Product:
    """Raises SceneTruncated, SceneUnreadable, SceneUnsafe."""
    if not is_tiff(path):
        raise SceneUnreadable(
            f"{path.name}: not a SAR product this version reads; expected a GeoTIFF: convert it with gdal_translate"
        )
    structure = check_structure(path)
    decoded_bytes, stored_bytes = structure.stored_bytes, path.stat().st_size
    for what, found, limit in (
        ("pixels", structure.width_px * structure.height_px, limits.pixels),
        ("bytes in one strip or tile", structure.block_bytes, limits.block_bytes),
        (
            "decoded bytes per stored byte",
            decoded_bytes // stored_bytes if decoded_bytes > _SMALL_BYTES else 0,
            limits.expansion,
        ),
    ):
        if found > limit:
            raise SceneUnsafe(
                f"{path.name}: declares {found:,} {what}, more than the limit of {limit:,}; raise it if that is right"
            )
    return product_of(path, open_raster(path, ["GTiff"], limits))


def open_raster(path: Path, drivers: list[str], limits: SceneLimits, name: str | None = None) -> Any:
    """Open one file with GDAL and the drivers named, no other; `name` is GDAL's name for a part of it.

    Raises SceneUnreadable, SceneUnsafe.
    """
    try:
        # An absolute path of a real file: never one of GDAL's /vsi or connection-string names.
        dataset = gdal.OpenEx(
            name or str(path.resolve()), gdal.OF_RASTER | gdal.OF_READONLY | gdal.OF_VERBOSE_ERROR, drivers
        )
    except RuntimeError as error:
        raise SceneUnreadable(
            f"{path.name}: GDAL cannot read it ({error}); expected a SAR raster: send it again"
        ) from error
    if not 1 <= dataset.RasterCount <= limits.bands:
        raise SceneUnsafe(
            f"{path.name}: has {dataset.RasterCount} bands, expected 1 to {limits.bands}; "
            "take the SAR bands out of it (gdal_translate -b)"
        )
    return dataset


def product_of(path: Path, dataset: Any) -> Product:
    """A Product of every band of `dataset` that holds measurements."""
    texts = (path.name, *dataset.GetMetadata().values())
    bands = [dataset.GetRasterBand(number) for number in range(1, dataset.RasterCount + 1)]
    measured = [band for band in bands if band.GetColorInterpretation() != gdal.GCI_AlphaBand]
    layers = tuple(
        Layer(dataset, band.GetBand(), _unit_of(band), _polarisation_of(band, texts if len(measured) == 1 else ()))
        for band in measured
    )
    masked = measured[0].GetMaskFlags() & (gdal.GMF_PER_DATASET | gdal.GMF_ALPHA)
    return Product(
        width_px=dataset.RasterXSize,
        height_px=dataset.RasterYSize,
        layers=layers,
        georeference=Georeference.of(dataset),
        format="GeoTIFF",
        declared_nodata=measured[0].GetNoDataValue(),
        nodata=_nodata_of(measured),
        mask_band=measured[0].GetMaskBand() if masked else None,
        acquired=next(filter(None, map(time_in, texts)), None),
    )


def _polarisation_of(band: Any, texts: tuple[str, ...]) -> str | None:
    """What the band says of itself, else what the file's name and tags say (for a file of one band)."""
    metadata = band.GetMetadata()
    for text in (metadata.get("POLARISATION"), metadata.get("POLARIZATION"), band.GetDescription(), *texts):
        if text and (found := _POLARISATION.search(text.replace("_", " "))):
            return found[1].lower()
    return None


def _unit_of(band: Any) -> str:
    """Integers and complex numbers are amplitudes; floats are what their unit or name says."""
    if _dtype_of(band).kind != "f":
        return "amplitude_dn"
    text = " ".join((band.GetUnitType(), band.GetDescription(), *band.GetMetadata().values())).lower()
    in_db = re.search(r"(?<![a-z])db(?![a-z])", text.replace("_", " "))
    for quantity in ("sigma0", "gamma0", "beta0", "intensity"):
        if quantity in text or quantity.replace("0", "_0") in text:
            return f"{quantity}_db" if in_db else f"{quantity}_linear"
    return "amplitude_dn" if "amplitude" in text else UNKNOWN_UNIT


def _dtype_of(band: Any) -> np.dtype[np.generic]:
    kind: np.dtype[np.generic] = np.dtype(gdal_array.GDALTypeCodeToNumericTypeCode(band.DataType))
    return kind


def _nodata_of(bands: list[Any]) -> float | None:
    """The declared value; else 0 for integers, as KOMPSAT-5 and Sentinel-1 products have it; else None."""
    declared = bands[0].GetNoDataValue()
    if declared is not None:
        return None if np.isnan(declared) else float(declared)
    return 0.0 if _dtype_of(bands[0]).kind in "iuc" else None


def time_in(text: str) -> str | None:
    """The first UTC time in a product name, as ISO 8601."""
    found = _TIMESTAMP.search(text)
    if not found:
        return None
    when = datetime.strptime("".join(found.groups()), "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    return when.isoformat().replace("+00:00", "Z")
