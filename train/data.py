"""Labelled tiles on disk -> random crops for training, whole tiles for evaluation.

A data folder is laid out like the KOMPSAT-5 set:

    DIR/img/NAME*.tif     SAR amplitude
    DIR/mask/NAME*.tif    label: 0 land, 255 (or 1) water; where 1 is water, 255 is "ignore"
    DIR/gim/NAME*.tif     incidence angle, optional

with NAME the part before the first underscore; or it is a pair of large rasters, `IMAGE.tif:MASK.tif`, cut on the fly.
Pixels are read by window, never a whole raster at once.

A crop is a pure function of (seed, index): workers, restarts and the order of reading change nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sarwater.errors import DataError, DependencyMissing
from sarwater.metrics import LAND, NODATA, WATER
from train.augment import Augmentation, augment, window_side_px

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
SUFFIXES = (".tif", ".tiff", ".vrt", ".h5")


@dataclass(frozen=True)
class Tile:
    """One labelled raster. `rows` limits it to scene rows [first, last), so that one scene can be split by region."""

    name: str
    image: Path
    mask: Path
    width_px: int
    height_px: int
    nodata: float | None
    label_water: int
    """Value of water in the mask: 255, or 1 (then 255 means ignore)."""
    rows: tuple[int, int]

    def read(self, x: int, y: int, width: int, height: int) -> tuple[Float32, UInt8]:
        """Window at (x, y) in scene pixels: raw pixels (1, height, width) float32 with nodata as 0, and the truth
        (height, width) uint8 in LAND, WATER, NODATA."""
        image = _open(self.image).GetRasterBand(1).ReadAsArray(x, y, width, height)
        label = _open(self.mask).GetRasterBand(1).ReadAsArray(x, y, width, height)
        invalid = ~np.isfinite(image) | (image == (0 if self.nodata is None else self.nodata))
        truth = np.where(label == self.label_water, WATER, LAND).astype(np.uint8)
        if self.label_water == 1:
            invalid |= label == NODATA
        truth[invalid] = NODATA
        pixels = np.where(invalid, 0, image).astype(np.float32)
        return pixels[None], truth

    def read_all(self) -> tuple[Float32, UInt8]:
        first, last = self.rows
        return self.read(0, first, self.width_px, last - first)


def find_tiles(data: str) -> list[Tile]:
    """The tiles of a data folder or of one `IMAGE:MASK` pair, checked: each image has a mask of its size with the
    right values. Raises DataError naming the file."""
    if ":" in data:
        image, mask = (Path(part) for part in data.split(":", 1))
        return [_tile(image.stem, image, mask)]
    folder = Path(data)
    images = _rasters(folder / "img")
    if not images:
        raise DataError(f"{folder}: no images in {folder / 'img'}; expected img/NAME*.tif and mask/NAME*.tif")
    masks = {_key(path): path for path in _rasters(folder / "mask")}
    tiles = []
    for image in images:
        mask = masks.get(_key(image))
        if mask is None:
            raise DataError(f"{image}: no mask; expected {folder / 'mask' / _key(image)}*.tif")
        tiles.append(_tile(_key(image), image, mask))
    return tiles


def split_tiles(tiles: Sequence[Tile], holdout: Sequence[str]) -> tuple[list[Tile], list[Tile]]:
    """(training, held out). An item of `holdout` is a tile's name, or `NAME@P`: the lowest P percent of its rows.

    The split is by region: a crop never straddles it. Raises DataError for a name that no tile has.
    """
    training = {tile.name: tile for tile in tiles}
    held_out = []
    for item in holdout:
        name, _, percent = item.partition("@")
        tile = training.pop(name, None)
        if tile is None:
            raise DataError(f"--holdout {item}: no tile of that name; there are {', '.join(t.name for t in tiles)}")
        if percent:
            cut = round(tile.height_px * (1 - float(percent) / 100))
            training[name] = _with_rows(tile, 0, cut)
            tile = _with_rows(tile, cut, tile.height_px)
        held_out.append(tile)
    return list(training.values()), held_out


@dataclass(frozen=True)
class Source:
    """Tiles that share a weight: the probability that a crop comes from this source is weight / sum of weights."""

    tiles: tuple[Tile, ...]
    weight: float


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """`count` augmented crops: pixels (1, crop_px, crop_px) float32, truth (crop_px, crop_px) uint8.

    Inside a source, tiles are drawn in proportion to their area, windows uniformly; a window with almost no valid pixel
    is drawn again, and so, half of the time, is one without water or without land: a shoreline teaches more.
    """

    def __init__(self, sources: Sequence[Source], crop_px: int, count: int, seed: int, options: Augmentation) -> None:
        if not sources or not all(source.tiles for source in sources):
            raise DataError("no tiles to train on; all of them are held out")
        self.sources = sources
        self.crop_px = crop_px
        self.count = count
        self.seed = seed
        self.options = options
        for source in sources:
            for tile in source.tiles:
                height_px = tile.rows[1] - tile.rows[0]
                if min(tile.width_px, height_px) < crop_px:
                    raise DataError(
                        f"{tile.image}: {tile.width_px} x {height_px} px is smaller than the crop ({crop_px} px); "
                        "choose a smaller --crop"
                    )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        weights = np.array([source.weight for source in self.sources])
        source = self.sources[rng.choice(len(self.sources), p=weights / weights.sum())]
        picky = rng.random() < 0.5
        for _ in range(8):
            pixels, truth = self._window(source, rng)
            share_water = np.mean(truth == WATER)
            share_valid = np.mean(truth != NODATA)
            if share_valid > 0.2 and (not picky or 0.02 < share_water < 0.98 * share_valid):
                break
        pixels, truth = augment(pixels, truth, self.crop_px, self.options, rng)
        return torch.from_numpy(pixels), torch.from_numpy(truth)

    def _window(self, source: Source, rng: np.random.Generator) -> tuple[Float32, UInt8]:
        areas = np.array([tile.width_px * (tile.rows[1] - tile.rows[0]) for tile in source.tiles], float)
        tile = source.tiles[rng.choice(len(source.tiles), p=areas / areas.sum())]
        first, last = tile.rows
        side = min(window_side_px(self.crop_px, self.options, rng), tile.width_px, last - first)
        x = int(rng.integers(tile.width_px - side + 1))
        y = int(rng.integers(first, last - side + 1))
        return tile.read(x, y, side, side)


def _tile(name: str, image: Path, mask: Path) -> Tile:
    for path in (image, mask):
        if not path.is_file():
            raise DataError(f"{path}: no such file")
    scene, label = _open(image), _open(mask)
    size, label_size = (scene.RasterXSize, scene.RasterYSize), (label.RasterXSize, label.RasterYSize)
    if size != label_size:
        raise DataError(
            f"{mask}: {label_size[0]} x {label_size[1]} px, expected {size[0]} x {size[1]} px as its image has"
        )
    nodata = scene.GetRasterBand(1).GetNoDataValue()
    return Tile(name, image, mask, *size, nodata, _label_water(mask, label), (0, size[1]))


def _label_water(path: Path, dataset: Any) -> int:
    """Which value means water, from all the values that occur."""
    band = dataset.GetRasterBand(1)
    values: set[int] = set()
    for y in range(0, band.YSize, 1024):
        values |= set(np.unique(band.ReadAsArray(0, y, band.XSize, min(1024, band.YSize - y))).tolist())
    if not values <= {0, 1, 255}:
        odd = sorted(values - {0, 1, 255})[:5]
        raise DataError(
            f"{path}: label values {odd}; expected 0 (land) and 255 (water), or 0, 1 (water) and 255 (ignore)"
        )
    return 1 if 1 in values else 255


def _with_rows(tile: Tile, first: int, last: int) -> Tile:
    fields = {**tile.__dict__, "rows": (first, last)}
    return Tile(**fields)


def _rasters(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in SUFFIXES)


def _key(path: Path) -> str:
    return path.stem.split("_")[0]


# A handful of open rasters per process; GDAL handles must not cross a fork, hence the worker's own cache.
@lru_cache(maxsize=64)
def _open(path: Path) -> Any:
    try:
        from osgeo import gdal
    except ImportError as error:
        raise DependencyMissing("reading tiles needs GDAL's Python binding: run `make setup-dev`") from error
    gdal.UseExceptions()
    try:
        return gdal.OpenEx(str(path), gdal.OF_RASTER)
    except RuntimeError as error:
        raise DataError(f"{path}: not a readable raster ({error})") from error
