"""A network's mask of a whole scene, with the windows and the blending of the runtime, which moves windows only where
measurements end inside the scene. They are read as they come, so that a scene need not fit into memory."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from sarwater.blending import Mosaic, TileRow
from sarwater.classes import LAND, WATER
from sarwater.tiling import TilePlan, reflect_indices
from sarwater.upsampling import block_sums, upsampling_factor
from train.data.labelled import LabelledScene
from train.models import Segmenter

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
TILE_PX = 1024
OVERLAP_PX = 48


def water_mask(segmenter: Segmenter, tile: LabelledScene, threshold: float, coarsest_m: float | None = None) -> UInt8:
    """(rows, width) uint8 of LAND and WATER, for the rows that the tile is limited to; enlarged as at run time where
    the network knows scenes of `coarsest_m` at most."""
    factor = upsampling_factor(tile.pixel_m, coarsest_m)
    return np.where(probability(segmenter, tile, factor) >= threshold, WATER, LAND).astype(np.uint8)


@torch.inference_mode()
def probability(segmenter: Segmenter, tile: LabelledScene, factor: int = 1) -> Float32:
    """Blended probability of water, (rows, width) float32; 0 where a whole window is nodata. Of an upsampled scene,
    of which the network sees each pixel `factor` times along each axis, it is the mean of those answers."""
    device = next(segmenter.parameters()).device
    height, width = factor * tile.rows_px, factor * tile.width_px
    plan = TilePlan(height, width, _window_px(segmenter, max(height, width)), OVERLAP_PX).with_wide_fades()
    blended = np.zeros((height, width), np.float32)
    mosaic = Mosaic(plan)
    for row in plan.rows:
        valid = np.zeros((row.hi - row.lo, width), bool)
        tile_row = TileRow(plan, row, valid)
        for column in plan.columns:
            window = _window(tile, row.start, column.start, plan.tile_px, factor)
            if not window.any():
                continue
            measured = np.asarray(window[:, row.lo - row.start : row.hi - row.start].any(axis=0))
            valid[:, column.lo : column.hi] = measured[:, column.lo - column.start : column.hi - column.start]
            tile_row.add(column, segmenter(torch.from_numpy(window)[None].to(device))[0, 0].cpu().numpy())
        for finished in mosaic.push(tile_row):
            blended[finished.row : finished.row + len(finished.probability)] = finished.probability
    return blended if factor == 1 else block_sums(blended, factor) / np.float32(factor**2)


def _window(tile: LabelledScene, top: int, left: int, side_px: int, factor: int) -> Float32:
    """(C, side_px, side_px) float32, mirrored beyond the edges of the tile's rows and columns."""
    rows = reflect_indices(top, side_px, factor * tile.rows_px) // factor
    columns = reflect_indices(left, side_px, factor * tile.width_px) // factor
    y, x = int(rows.min()), int(columns.min())
    pixels, _ = tile.read(x, tile.rows[0] + y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y)
    return np.ascontiguousarray(pixels[:, (rows - y)[:, None], columns - x])


def _window_px(segmenter: Segmenter, size_px: int) -> int:
    """TILE_PX, or less for a small tile: the next multiple of the stride with room for the overlap."""
    stride_px = segmenter.arch.stride_px
    return min(TILE_PX, -(-max(size_px, 3 * OVERLAP_PX) // stride_px) * stride_px)
