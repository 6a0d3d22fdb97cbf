"""Small labelled rasters with a lake in each, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from osgeo import gdal, gdal_array, osr

gdal.UseExceptions()
SPACING_M = 1.0


def write_raster(
    path: Path,
    pixels: np.ndarray,
    *,
    nodata: float | None = None,
    west_north: tuple[float, float] | None = None,
    pixel_m: float = SPACING_M,
) -> Path:
    """(H, W) or (B, H, W) -> GeoTIFF, in EPSG:32632 where its corner is given."""
    bands = pixels[None] if pixels.ndim == 2 else pixels
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(bands.dtype)
    raster = gdal.GetDriverByName("GTiff").Create(str(path), bands.shape[2], bands.shape[1], len(bands), kind)
    if west_north:
        system = osr.SpatialReference()
        system.ImportFromEPSG(32632)
        raster.SetProjection(system.ExportToWkt())
        raster.SetGeoTransform((west_north[0], pixel_m, 0, west_north[1], 0, -pixel_m))
    for index, band in enumerate(bands, start=1):
        if nodata is not None:
            raster.GetRasterBand(index).SetNoDataValue(nodata)
        raster.GetRasterBand(index).WriteArray(band)
    raster.FlushCache()
    return path


def lake(size_px: int, seed: int, looks: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Amplitude uint16 and label uint8 {0, 255}: a dark disc in speckled land."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size_px, :size_px]
    centre = rng.uniform(0.3, 0.7, 2) * size_px
    water = np.hypot(y - centre[0], x - centre[1]) < size_px * rng.uniform(0.2, 0.35)
    speckle = np.sqrt(rng.gamma(looks, 1 / looks, water.shape))
    amplitude = np.maximum(1, np.where(water, 15, 60) * speckle)
    return amplitude.astype(np.uint16), np.where(water, 255, 0).astype(np.uint8)


def write_lakes(
    folder: Path, count: int = 2, size_px: int = 96, *, apart: bool = True, west_m: float = 500_000.0
) -> Path:
    """A data folder in the K5 layout, each tile at its own place on the ground (or all at one, if not `apart`)."""
    for index in range(count):
        amplitude, label = lake(size_px, seed=index)
        corner = (west_m + (2 * size_px * index if apart else 0), 6_000_000.0)
        gim = np.full((size_px, size_px), 100 + index, np.uint8)
        write_raster(folder / "img" / f"WTR{index}_K5_T.tif", amplitude, west_north=corner)
        write_raster(folder / "mask" / f"WTR{index}_K5_T_label.tif", label, west_north=corner)
        write_raster(folder / "gim" / f"WTR{index}_GIM_K5_T.tif", gim, west_north=corner)
    return folder
