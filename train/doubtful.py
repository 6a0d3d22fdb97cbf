"""Labels that their image does not bear out: where water is labelled as if at random, by eyes that saw another image or
drew what they could not see. What is learned from such places is learned by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import stats

from sarwater.atomic import replacing
from sarwater.errors import DataError
from sarwater.metrics import LAND, NODATA, WATER
from train.regions import split_sources
from train.tiles import BLOCK_ROWS, Tile, find_tiles, open_raster

Bool = npt.NDArray[np.bool_]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
BLOCK_PX = 32
LEAST_AUC = 0.8
"""A pixel of labelled water, picked at random, should be darker than one of labelled land as often as this."""
LEAST_OF_EACH_PX = 16


def doubtful_blocks(amplitude: Float32, truth: UInt8) -> Bool:
    """(H, W) amplitude, or anything that grows with it, and truth in LAND, WATER, NODATA -> (H, W), True in the blocks
    of 32 px whose water is hardly darker than their land. Blocks of one kind alone are not judged; rows and columns
    that do not fill a block belong to none.

    The measure is the area under the ROC curve of darkness, from the ranks (Mann and Whitney 1947).
    """
    height, width = (side // BLOCK_PX * BLOCK_PX for side in truth.shape)
    known = truth != NODATA
    # What is unknown comes last, and so changes the rank of nothing else.
    values = _blocks(np.where(known, amplitude, np.inf)[:height, :width])
    water, land = (_blocks((truth == kind)[:height, :width]) for kind in (WATER, LAND))
    water_px, land_px = water.sum(axis=1), land.sum(axis=1)
    judged = (water_px >= LEAST_OF_EACH_PX) & (land_px >= LEAST_OF_EACH_PX)
    doubtful = np.zeros(len(values), bool)
    if judged.any():
        ranks = stats.rankdata(values[judged], axis=1)
        counts = water_px[judged]
        brighter = (ranks * water[judged]).sum(axis=1) - counts * (counts + 1) / 2
        doubtful[judged] = 1 - brighter / (counts * land_px[judged]) < LEAST_AUC
    found = np.zeros(truth.shape, bool)
    rows, columns = height // BLOCK_PX, width // BLOCK_PX
    found[:height, :width] = doubtful.reshape(rows, columns).repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)
    return found


def leave_out_doubtful(data: str, holdout: str, path: Path) -> float:
    """Write the labels of IMAGE:MASK to `path`: 1 water, 0 land, 255 where they are doubtful, and so to be ignored.

    Those that are held out stay as they are: what is measured there is agreement with them. Return the share of the
    water to be learned from that is left out. Raises DataError, also where no water is left.
    """
    (tile,) = find_tiles(data)
    (split,) = split_sources([[tile]], [holdout])
    label = np.concatenate([_borne_out(tile, y, split.training) for y in range(0, tile.height_px, BLOCK_ROWS)])
    learned = np.concatenate([label[slice(*part.rows)] for part in split.training])
    truth = np.concatenate([part.truth() for part in split.training])
    kept, all_px = np.count_nonzero(learned == WATER), np.count_nonzero(truth == WATER)
    if not kept:
        raise DataError(f"{tile.mask}: none of its water is darker than the land about it in {tile.image.name}")
    with replacing(path) as temporary:
        _write(temporary, label, tile.mask)
    return 1 - kept / all_px


def _borne_out(tile: Tile, y: int, training: tuple[Tile, ...]) -> UInt8:
    """The rows from `y` on, (rows, width) in LAND, WATER, NODATA."""
    pixels, truth = tile.read(0, y, tile.width_px, min(BLOCK_ROWS, tile.height_px - y))
    doubtful = doubtful_blocks(pixels[0], truth)
    rows = np.arange(y, y + len(truth))
    learned = np.any([(rows >= part.rows[0]) & (rows < part.rows[1]) for part in training], axis=0)
    truth[doubtful & learned[:, None]] = NODATA
    return truth


def _blocks(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """(H, W) -> (blocks, 1024), both sides multiples of 32."""
    height, width = plane.shape
    parts = plane.reshape(height // BLOCK_PX, BLOCK_PX, width // BLOCK_PX, BLOCK_PX)
    return parts.swapaxes(1, 2).reshape(-1, BLOCK_PX * BLOCK_PX)


def _write(path: Path, label: UInt8, like: Path) -> None:
    from osgeo import gdal

    mask = open_raster(like)
    options = ["TILED=YES", "COMPRESS=DEFLATE"]
    raster = gdal.GetDriverByName("GTiff").Create(str(path), *label.shape[::-1], 1, gdal.GDT_Byte, options)
    raster.SetProjection(mask.GetProjection())
    raster.SetGeoTransform(mask.GetGeoTransform())
    raster.WriteArray(label)
    raster.FlushCache()
