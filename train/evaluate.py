"""Scores of a network on labelled tiles, computed in PyTorch with the windows and the blending of the runtime."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from sarwater.metrics import LAND, NODATA, WATER, Confusion, confusion, mean_tile_iou, pooled_iou
from sarwater.tiling import TilePlan, reflect_indices
from train.data import Tile
from train.models import Segmenter

Float32 = npt.NDArray[np.float32]
TILE_PX = 1024
OVERLAP_PX = 48


@dataclass(frozen=True)
class Scores:
    """Confusion per tile name; the averages are named as in sarwater.metrics."""

    tiles: dict[str, Confusion]

    @property
    def pooled_iou(self) -> float:
        return pooled_iou(self.tiles.values())

    @property
    def mean_tile_iou(self) -> float:
        return mean_tile_iou(self.tiles.values())

    def to_dict(self) -> dict[str, object]:
        return {
            "pooled_iou": self.pooled_iou,
            "mean_tile_iou": self.mean_tile_iou,
            "tiles": {name: tile.iou for name, tile in self.tiles.items()},
        }


def score(segmenter: Segmenter, tiles: Sequence[Tile], threshold: float = 0.5) -> Scores:
    """Every tile whole, by the segmenter in evaluation mode."""
    counts = {}
    for tile in tiles:
        pixels, truth = tile.read_all()
        mask = np.where(probability(segmenter, pixels) >= threshold, WATER, LAND).astype(np.uint8)
        mask[truth == NODATA] = NODATA
        counts[tile.name] = confusion(mask, truth)
    return Scores(counts)


@torch.inference_mode()
def probability(segmenter: Segmenter, pixels: Float32) -> Float32:
    """Raw pixels (C, H, W) float32 -> blended probability of water (H, W) float32."""
    height, width = pixels.shape[1:]
    plan = TilePlan(height, width, min(TILE_PX, _multiple_of_32(max(height, width))), OVERLAP_PX)
    blended = np.zeros((height, width), np.float32)
    for row in plan.rows:
        weight_y = plan.weights(row, height)
        rows = reflect_indices(row.start, plan.tile_px, height)
        for column in plan.columns:
            columns = reflect_indices(column.start, plan.tile_px, width)
            window = torch.from_numpy(np.ascontiguousarray(pixels[:, rows[:, None], columns]))[None]
            answer = segmenter(window)[0, 0].numpy()
            part = answer[row.lo - row.start : row.hi - row.start, column.lo - column.start : column.hi - column.start]
            blended[row.lo : row.hi, column.lo : column.hi] += part * weight_y[:, None] * plan.weights(column, width)
    return blended


def _multiple_of_32(size_px: int) -> int:
    return max(160, -(-size_px // 32) * 32)
