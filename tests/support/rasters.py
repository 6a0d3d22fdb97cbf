"""Real GDAL files of synthetic scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from osgeo import gdal, gdal_array, osr

from tests.support.scenes import lake_scene as lake_scene

gdal.UseExceptions()

UTM_52N = 32652
TRANSFORM = (300000.0, 1.25, 0.0, 4100000.0, 0.0, -1.25)


def write_geotiff(
    path: Path,
    pixels: np.ndarray,
    *,
    epsg: int | None = UTM_52N,
    transform: Sequence[float] | None = TRANSFORM,
    nodata: float | None = None,
    options: Sequence[str] = (),
    metadata: dict[str, str] | None = None,
    descriptions: Sequence[str] = (),
    gcps: Sequence[Any] = (),
) -> Path:
    """Write (H, W) or (C, H, W) pixels of any GDAL type."""
    bands = pixels if pixels.ndim == 3 else pixels[None]
    count, height, width = bands.shape
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(bands.dtype)
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, count, kind, list(options))
    dataset.SetMetadata(metadata or {})
    if gcps:
        dataset.SetGCPs(list(gcps), wkt(4326))
    elif transform is not None:
        dataset.SetGeoTransform(transform)
        if epsg is not None:
            dataset.SetProjection(wkt(epsg))
    for number, band in enumerate(bands, 1):
        raster = dataset.GetRasterBand(number)
        if nodata is not None:
            raster.SetNoDataValue(nodata)
        if descriptions:
            raster.SetDescription(descriptions[number - 1])
        raster.WriteArray(band)
    dataset.FlushCache()
    del dataset
    return path


def read_raster(path: Path) -> np.ndarray:
    pixels: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return pixels


def wkt(epsg: int) -> str:
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    text: str = reference.ExportToWkt()
    return text
