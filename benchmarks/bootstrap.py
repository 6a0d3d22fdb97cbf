"""Figures of masks with their uncertainty, by resampling.

Neighbouring pixels err together, so single pixels must not be drawn. Where a set has few large tiles, blocks of
BLOCK_PX x BLOCK_PX are drawn with replacement within each tile, as many as it has: the interval says how much the
figure of *these* tiles depends on their parts, not how another region would score. Where a set has many scenes that
were made independently of one another, whole scenes are drawn. Intervals are the 2.5th to the 97.5th percentile
(B. Efron, The jackknife, the bootstrap and other resampling plans, 1982; of blocks: H. Künsch, Ann. Statist. 17, 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sarwater.classes import NODATA, WATER
from train.scoring.scores import BOUNDARY_TOLERANCE_PX, shorelines

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
BLOCK_PX = 256
RESAMPLES = 2000
SEED = 0


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Counts:
    """What a method did on a set: for each tile (blocks, 8) int64, the columns true, false and missed water, true
    land, and the four of `train.scoring.scores.Boundary`. Several tiles of one block each are scenes, and drawn
    whole."""

    tiles: tuple[Int64, ...]

    def figures(self, resamples: int = RESAMPLES) -> dict[str, Figure]:
        """pooled_iou, mean_tile_iou, f1, boundary_f, and false_share: the share of land that is called water."""
        values, drawn = _all_figures(self._as_it_is()), _all_figures(self._drawn(resamples))
        return {name: _figure(values[name][0], drawn[name]) for name in values}

    def change_of_iou(self, other: Counts, resamples: int = RESAMPLES) -> Figure:
        """Pooled IoU of `other` less that of this one, on the same resamples of the same blocks."""
        value = _pooled_iou(other._as_it_is()) - _pooled_iou(self._as_it_is())
        return _figure(value[0], _pooled_iou(other._drawn(resamples)) - _pooled_iou(self._drawn(resamples)))

    def dry(self) -> Counts:
        """The blocks with land and no water by the truth, of each tile that has such."""
        tiles = (tile[(tile[:, 0] + tile[:, 2] == 0) & (tile[:, 1] + tile[:, 3] > 0)] for tile in self.tiles)
        return Counts(tuple(tile for tile in tiles if len(tile)))

    def false_shares(self) -> Float64:
        """Of each tile the share of its land that is called water, (tiles,)."""
        false_water, land = (self._as_it_is()[0][:, columns].sum(axis=1) for columns in ([1], [1, 3]))
        return np.asarray(false_water / np.maximum(land, 1))

    def _as_it_is(self) -> Int64:
        """(1, tiles, 8)."""
        return np.stack([tile.sum(axis=0) for tile in self.tiles])[None]

    def _drawn(self, resamples: int) -> Int64:
        """(resamples, tiles, 8)."""
        rng = np.random.default_rng(SEED)
        if len(self.tiles) > 1 and all(len(tile) == 1 for tile in self.tiles):
            scenes = self._as_it_is()[0]
            return scenes[rng.integers(len(scenes), size=(resamples, len(scenes)))]
        drawn = [rng.multinomial(len(tile), np.full(len(tile), 1 / len(tile)), resamples) @ tile for tile in self.tiles]
        return np.stack(drawn, axis=1)


def count(mask: UInt8, truth: UInt8, block_px: int = BLOCK_PX) -> Int64:
    """mask, truth: (H, W) uint8 of LAND, WATER, NODATA -> (blocks, 8) int64, see `Counts`."""
    valid = (mask != NODATA) & (truth != NODATA)
    found, water = (mask == WATER) & valid, (truth == WATER) & valid
    planes = (found & water, found & ~water, ~found & water, ~found & ~water & valid)
    rows, columns = (np.arange(0, side, block_px) for side in truth.shape)
    summed = [
        np.add.reduceat(np.add.reduceat(plane.astype(np.int64), rows, axis=0), columns, axis=1).ravel()
        for plane in (*planes, *shorelines(mask, truth, BOUNDARY_TOLERANCE_PX))
    ]
    return np.stack(summed, axis=1)


def pool(sets: Sequence[Counts]) -> Counts:
    return Counts(tuple(tile for each in sets for tile in each.tiles))


def _all_figures(counts: Int64) -> dict[str, Float64]:
    """(N, tiles, 8) -> each figure (N,)."""
    pooled = counts.sum(axis=1)
    true_water, false_water, missed_water, true_land, found, found_near, shore, shore_near = pooled.T
    precision, recall = found_near / np.maximum(found, 1), shore_near / np.maximum(shore, 1)
    boundary = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return {
        "pooled_iou": _pooled_iou(counts),
        "mean_tile_iou": _tile_iou(counts).mean(axis=1),
        "f1": _ratio(2 * true_water, 2 * true_water + false_water + missed_water),
        "boundary_f": np.where(found + shore == 0, 1.0, boundary),
        "false_share": false_water / np.maximum(false_water + true_land, 1),
    }


def _pooled_iou(counts: Int64) -> Float64:
    pooled = counts.sum(axis=1)
    return _ratio(pooled[:, 0], pooled[:, :3].sum(axis=1))


def _tile_iou(counts: Int64) -> Float64:
    """(N, tiles): as sarwater.metrics.Confusion.tile_iou, on land where the truth has no water."""
    true_water, false_water, missed_water, true_land = np.moveaxis(counts[..., :4], -1, 0)
    wrong = false_water + missed_water
    on_land = _ratio(true_land, true_land + wrong)
    return np.where(true_water + missed_water > 0, _ratio(true_water, true_water + wrong), on_land)


def _ratio(part: Int64, whole: Int64) -> Float64:
    return np.where(whole > 0, part / np.maximum(whole, 1), 1.0)


def _figure(value: float, drawn: Float64) -> Figure:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Figure(float(value), float(low), float(high))
