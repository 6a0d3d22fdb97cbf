"""Large simulated scenes, written row by row: speckled land with a winding river and lakes, and the truth beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.raster import gdal, osr

_ROWS = 512
_LAND, _WATER = 60.0, 14.0


def write_scene(
    path: Path,
    height_px: int,
    width_px: int,
    *,
    bands: Sequence[str] = ("",),
    data_rows: int | None = None,
    truth: Path | None = None,
) -> Path:
    """A tiled uint16 GeoTIFF with one band per description in `bands`, each with speckle of its own. Rows from
    `data_rows` on stay sparse, and so nodata; `truth` gets the mask, 0 or 255."""
    options = [
        "TILED=YES",
        "BLOCKXSIZE=512",
        "BLOCKYSIZE=512",
        "COMPRESS=DEFLATE",
        "ZLEVEL=1",
        "SPARSE_OK=TRUE",
        "BIGTIFF=IF_SAFER",
    ]
    rng = np.random.default_rng(7)
    scene = _create(path, width_px, height_px, gdal.GDT_UInt16, options, bands)
    label = _create(truth, width_px, height_px, gdal.GDT_Byte, options) if truth else None
    for row in range(0, min(height_px, data_rows or height_px), _ROWS):
        count = min(_ROWS, height_px - row)
        water = water_at(row, count, width_px)
        for number in range(1, len(bands) + 1):
            # Single-look amplitude over a reflectivity: Rayleigh speckle, drawn by inversion because that is quick.
            speckle = np.sqrt(-np.log(1 - rng.random((count, width_px), np.float32)))
            amplitude = np.where(water, np.float32(_WATER), np.float32(_LAND)) * speckle
            scene.GetRasterBand(number).WriteArray(np.clip(amplitude, 1, 65535).astype(np.uint16), 0, row)
        if label is not None:
            label.GetRasterBand(1).WriteArray(water.astype(np.uint8) * 255, 0, row)
    scene.FlushCache()
    return path


def water_at(row: int, count: int, width_px: int) -> npt.NDArray[np.bool_]:
    """(count, width) bool: a river that winds from north to south, and a grid of lakes of many sizes."""
    y = np.arange(row, row + count, dtype=np.float32)[:, None]
    x = np.arange(width_px, dtype=np.float32)[None]
    middle = width_px * (0.5 + 0.2 * np.sin(y / 900) + 0.05 * np.sin(y / 170))
    river = np.abs(x - middle) < 60 + 25 * np.sin(y / 300)
    spacing = 700
    radius = 40 + 90 * np.abs(np.sin(np.floor(x / spacing) * 12.9898 + np.floor(y / spacing) * 78.233))
    lakes = np.hypot(x % spacing - spacing / 2, y % spacing - spacing / 2) < radius
    water: npt.NDArray[np.bool_] = river | lakes
    return water


def _create(
    path: Path, width_px: int, height_px: int, kind: int, options: list[str], bands: Sequence[str] = ("",)
) -> gdal.Dataset:
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width_px, height_px, len(bands), kind, options)
    for number, description in enumerate(bands, 1):
        dataset.GetRasterBand(number).SetDescription(description)
    utm = osr.SpatialReference()
    utm.ImportFromEPSG(32652)
    dataset.SetProjection(utm.ExportToWkt())
    dataset.SetGeoTransform((300000.0, 1.25, 0.0, 4100000.0, 0.0, -1.25))
    return dataset
