"""Large simulated scenes, written row by row: fields with a winding river and lakes under single-look speckle, and the
truth beside it. `train.simulator.simulate` makes better ones, but none of 27,000 px a side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sarwater.scenes.raster import gdal, osr

_ROWS = 512
_LAND, _WATER = 67.0, 15.0
"""Root mean square of the amplitude DN: the medians are those of the KOMPSAT-5 tiles, some 35 and 22 dB."""
_FIELD_PX, _FIELD_DB = (150, 110), 4.0
_IMPULSE_RESPONSE = np.array([0.3, 0.8, 1.0, 0.8, 0.3], np.float32) / np.float32(np.sqrt(2.46))
"""Of unit energy; the posting of KOMPSAT-5 is about half of its resolution, so that neighbours share their speckle."""


Float32 = npt.NDArray[np.float32]


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
            amplitude = np.where(water, np.float32(_WATER), _fields(row, count, width_px)) * _speckle(
                count, width_px, rng
            )
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


def _fields(row: int, count: int, width_px: int) -> Float32:
    """(count, width) root mean square amplitude of a patchwork of fields."""
    y, x = (
        np.arange(start, start + length) // side
        for start, length, side in zip((row, 0), (count, width_px), _FIELD_PX, strict=True)
    )
    level_db = np.random.default_rng(11).uniform(-_FIELD_DB / 2, _FIELD_DB / 2, 997).astype(np.float32)
    amplitude: Float32 = (_LAND * 10 ** (level_db / 20))[(y[:, None] * 31 + x * 17) % level_db.size]
    return amplitude


def _speckle(count: int, width_px: int, rng: np.random.Generator) -> Float32:
    """(count, width) amplitude of one look with mean power 1: circular Gaussian echoes through the impulse response."""
    edge = len(_IMPULSE_RESPONSE) - 1
    power = np.zeros((count, width_px), np.float32)
    for _ in ("real", "imaginary"):
        echoes = rng.standard_normal((count + edge, width_px + edge), np.float32)
        down = sum(weight * echoes[i : i + count] for i, weight in enumerate(_IMPULSE_RESPONSE))
        power += sum(weight * down[:, i : i + width_px] for i, weight in enumerate(_IMPULSE_RESPONSE)) ** 2
    amplitude: Float32 = np.sqrt(power / 2)
    return amplitude


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
