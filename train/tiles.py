"""Labelled rasters: checked before training starts, read by window.

In a mask 0 is land and 255 is water; or, where the value 1 occurs in the same data, 1 is water and 255 is ignored.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.amplitude import AMPLITUDE_DN_AT_0_DB, unlike_amplitude
from sarwater.enlargement import METRES_PER_DEGREE
from sarwater.errors import DataError, DependencyMissing, UsageError
from sarwater.metrics import LAND, NODATA, WATER
from sarwater.swath import beyond_swath, is_empty, measured_columns
from train.layout import LabelledFiles, find_files, first_part, stem

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
BLOCK_ROWS = 1024


@dataclass(frozen=True)
class Labels:
    """What the values of a mask mean, beside 0 for land. None: as the masks themselves suggest."""

    water: int | None = None
    ignore: int | None = None


@dataclass(frozen=True)
class Extent:
    """A rectangle on the ground in the units of its reference system `crs` (WKT)."""

    crs: str
    west: float
    south: float
    east: float
    north: float

    def side_m(self) -> float:
        """Side of a square as large, in metres on the ground."""
        from osgeo import osr

        area = (self.east - self.west) * (self.north - self.south)
        crs = osr.SpatialReference(self.crs)
        if not crs.IsGeographic():
            return math.sqrt(area) * float(crs.GetLinearUnits())
        latitude = math.radians((self.north + self.south) / 2)
        return math.sqrt(area * math.cos(latitude)) * METRES_PER_DEGREE


@dataclass(frozen=True)
class Tile:
    """One labelled raster. `rows` limits it to scene rows [first, last), so that one scene can be split by region."""

    name: str
    image: Path
    mask: Path
    gim: Path | None
    bands: tuple[int, ...]
    """GDAL bands of `image`, from 1, one for each SAR channel."""
    width_px: int
    height_px: int
    nodata: float
    water: int
    ignore: int | None
    rows: tuple[int, int]
    extent: Extent | None = None
    held_out: bool = False
    """Named by a val.txt."""
    swath: npt.NDArray[np.intp] | None = field(default=None, compare=False, repr=False)
    """(2, height_px): first measured column of each scene row and the one after the last; None: no row is cut off."""

    @property
    def rows_px(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def area_px(self) -> int:
        return self.width_px * self.rows_px

    @property
    def pixel_m(self) -> float | None:
        """Pixel spacing on the ground; None where it is not known."""
        return self.extent.side_m() / math.sqrt(self.width_px * self.height_px) if self.extent else None

    def read(self, x: int, y: int, width: int, height: int) -> tuple[Float32, UInt8]:
        """Window at (x, y) in scene pixels: raw pixels (C, height, width) float32 with nodata as 0, and the truth
        (height, width) uint8 in LAND, WATER, NODATA. A pixel is nodata where every SAR band is, or
        beyond the swath."""
        window = (x, y, width, height)
        sar = np.stack([_read(self.image, band, window) for band in self.bands])
        label = _read(self.mask, 1, window)
        empty = ~np.isfinite(sar) | (sar == self.nodata)
        if self.swath is not None:
            empty |= beyond_swath(*self.swath[:, y : y + height], np.arange(x, x + width))
        truth = np.where(label == self.water, WATER, LAND).astype(np.uint8)
        truth[empty.all(axis=0)] = NODATA
        if self.ignore is not None:
            truth[label == self.ignore] = NODATA
        pixels = np.where(empty, 0, sar).astype(np.float32)
        if self.gim:
            pixels = np.concatenate([pixels, _read(self.gim, 1, window)[None].astype(np.float32)])
        return pixels, truth

    def truth(self) -> UInt8:
        """Of the rows that the tile is limited to, (rows, width) uint8 in LAND, WATER, NODATA."""
        return np.concatenate([truth for _, truth in self.strips()])

    def amplitude(self) -> Float32:
        """First channel of the same rows, (rows, width) float32, nodata 0."""
        return np.concatenate([pixels[0] for pixels, _ in self.strips()])

    def strips(self) -> Iterator[tuple[Float32, UInt8]]:
        """As `read`, over the rows that the tile is limited to, top to bottom, for what does not fit into memory."""
        first, last = self.rows
        for y in range(first, last, BLOCK_ROWS):
            yield self.read(0, y, self.width_px, min(BLOCK_ROWS, last - y))


def find_tiles(data: str, channels: Sequence[str] = ("sar",), labels: Labels | None = None) -> list[Tile]:
    """The tiles of one data folder, list file or IMAGE:MASK[:GIM], checked: whole, of one size, with legal labels and
    without stray NaN. Raises DataError naming the file, UsageError for channels that no data can have."""
    if "gim" in channels[:-1] or tuple(channels) == ("gim",):
        raise UsageError(f"--channels {','.join(channels)}: `gim` comes last, after a SAR band")
    with_gim = channels[-1] == "gim"
    bands = tuple(range(1, len(channels) + (not with_gim)))
    found = list(find_files(data, with_gim))
    if not found:
        raise DataError(f"{data}: no images; expected img/NAME*.tif and mask/NAME*.tif, or train.txt, or IMAGE:MASK")
    tiles = [_open_tile(files, bands) for files in found]
    if repeated := [name for name, count in Counter(tile.name for tile in tiles).items() if count > 1]:
        tiles = [replace(tile, name=stem(tile.image)) if tile.name in repeated else tile for tile in tiles]
    return _with_labels(tiles, labels or Labels())


def _open_tile(files: LabelledFiles, bands: tuple[int, ...]) -> Tile:
    scene = open_raster(files.image)
    width, height = scene.RasterXSize, scene.RasterYSize
    if scene.RasterCount < len(bands):
        raise DataError(f"{files.image}: {scene.RasterCount} band(s), expected {len(bands)}, as --channels says")
    for path in (files.mask, files.gim):
        if path is None:
            continue
        other = open_raster(path)
        if (other.RasterXSize, other.RasterYSize) != (width, height):
            raise DataError(
                f"{path}: {other.RasterXSize} x {other.RasterYSize} px, expected {width} x {height} px "
                f"as {files.image.name}"
            )
    declared = scene.GetRasterBand(1).GetNoDataValue()
    return Tile(
        name=first_part(files.image),
        image=files.image,
        mask=files.mask,
        gim=files.gim,
        bands=bands,
        width_px=width,
        height_px=height,
        nodata=0.0 if declared is None else declared,
        water=255,
        ignore=None,
        rows=(0, height),
        extent=_extent(scene),
        held_out=files.held_out,
        swath=_look_through(files.image, scene, bands, declared),
    )


def _look_through(
    path: Path, scene: Any, bands: tuple[int, ...], declared: float | None
) -> npt.NDArray[np.intp] | None:
    """Read everything once: damage shows, what is no amplitude, and NaN, which is nodata where the file says so and
    anywhere else a fault upstream that no training survives.

    (2, height) as in Tile.swath; None where zeros are nodata wherever they lie.
    """
    nan_is_nodata = declared is not None and np.isnan(declared)
    swath = []
    for blocks in zip(*(_blocks(path, scene, band) for band in bands), strict=True):
        y, pixels = blocks[0][0], np.stack([block for _, block in blocks])
        if pixels.dtype.kind == "f" and not nan_is_nodata and not (finite := np.isfinite(pixels)).all():
            _, row, column = (int(at[0]) for at in np.nonzero(~finite))
            raise DataError(
                f"{path}: {np.count_nonzero(~finite)} pixels are NaN or infinite, first at row {y + row}, column "
                f"{column}; mask them, or declare NaN as nodata: gdal_edit.py -a_nodata nan"
            )
        if why := unlike_amplitude(pixels[0], declared or 0):
            scale = f"{AMPLITUDE_DN_AT_0_DB:.0f}"
            raise DataError(
                f"{path}: {why}; expected amplitude, or a declared nodata value. Backscatter becomes amplitude by "
                f'gdal_calc.py -A IN.tif --outfile OUT.tif --calc="{scale}*sqrt(A)", decibels by "{scale}*10**(A/20.)"'
            )
        if declared:
            swath.append(np.stack(measured_columns(is_empty(pixels, declared))))
    return np.concatenate(swath, axis=1) if swath else None


def _extent(scene: Any) -> Extent | None:
    """Where the raster lies; None without a reference system or where it is rotated."""
    west, dx, skew_x, north, skew_y, dy = scene.GetGeoTransform()
    crs = scene.GetProjection()
    if not crs or skew_x or skew_y or dx <= 0 or dy >= 0:
        return None
    return Extent(crs, west, north + dy * scene.RasterYSize, west + dx * scene.RasterXSize, north)


def _with_labels(tiles: list[Tile], labels: Labels) -> list[Tile]:
    """Settle what the masks' values mean, for all tiles of one source together: a tile without water has no 1 to
    tell by."""
    values = {tile.mask: _values(tile.mask) for tile in tiles}
    occurring = set().union(*values.values())
    water = labels.water if labels.water is not None else (1 if 1 in occurring else 255)
    ignore = labels.ignore if labels.ignore is not None else (255 if water == 1 else None)
    legal = {0, water} | ({ignore} if ignore is not None else set())
    for path, found in values.items():
        if odd := sorted(found - legal)[:5]:
            raise DataError(
                f"{path}: label values {odd}; expected 0 (land), {water} (water)"
                + (f" and {ignore} (ignored)" if ignore is not None else "")
                + "; --water-label and --ignore-label say otherwise"
            )
    return [replace(tile, water=water, ignore=ignore) for tile in tiles]


def _values(path: Path) -> set[float]:
    found: set[float] = set()
    for _, block in _blocks(path, open_raster(path), 1):
        # Counting is many times quicker than sorting, and masks are uint8 nearly always.
        unique = np.flatnonzero(np.bincount(block.ravel())) if block.dtype == np.uint8 else np.unique(block)
        found |= set(unique.tolist())
    return found


def _blocks(path: Path, dataset: Any, band: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """(first row, rows of full width), top to bottom: a whole scene need not fit into memory."""
    for y in range(0, dataset.RasterYSize, BLOCK_ROWS):
        yield y, _read(path, band, (0, y, dataset.RasterXSize, min(BLOCK_ROWS, dataset.RasterYSize - y)))


def _read(path: Path, band: int, window: tuple[int, int, int, int]) -> npt.NDArray[Any]:
    try:
        pixels: npt.NDArray[Any] = open_raster(path).GetRasterBand(band).ReadAsArray(*window)
    except RuntimeError as error:
        raise DataError(f"{path}: damaged ({error}); copy it again") from error
    return pixels


def open_raster(path: Path) -> Any:
    """The GDAL dataset at `path`, one per process: a handle that crossed a fork would share its file position."""
    return _open(path, os.getpid())


@lru_cache(maxsize=64)
def _open(path: Path, process: int) -> Any:
    try:
        from osgeo import gdal
    except ImportError as error:
        raise DependencyMissing("reading tiles needs GDAL's Python binding: run `make setup-dev`") from error
    gdal.UseExceptions()
    try:
        return gdal.OpenEx(str(path), gdal.OF_RASTER)
    except RuntimeError as error:
        raise DataError(f"{path}: not a readable raster ({error})") from error
