"""Figures of masks with their uncertainty, by resampling.

Neighbouring pixels err together, so single pixels must not be drawn. Where a set has LEAST_SCENES or more, or scenes
that are smaller than a block or independent of one another, whole scenes are drawn with replacement; else blocks of
BLOCK_PX x BLOCK_PX within each of them, as many as it has: the interval then says how much the figure of *these* scenes
depends on their parts, not how another region would score.
Intervals are the 2.5th to the 97.5th percentile (B. Efron, The jackknife, the bootstrap and other resampling plans,
1982; of blocks: H. Künsch, Ann. Statist. 17, 1989).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.water_width import WIDTHS
from sarwater.classes import NODATA, WATER

UInt8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
BLOCK_PX = 256
LEAST_SCENES = 10
SEED = 0
REFUSED, BY_WIDTH = 4, 5
"""Columns of the counts."""
POOLED_IOU, MEAN_SCENE_IOU, FALSE_SHARE, RECALL = "pooled_iou", "mean_scene_iou", "false_share", "recall"


@dataclass(frozen=True)
class Figure:
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Counts:
    """What a method did on a set: for each scene (blocks, 5 + 2 x widths) int64 pixels, the columns true, false and
    missed water, true land, those of a refused scene, then by WIDTHS the water that was found and all of it."""

    scenes: tuple[Int64, ...]
    independent: bool = False
    """Whether each scene is of a place of its own, as simulated ones are."""

    def figures(self, resamples: int) -> dict[str, Figure]:
        """pooled_iou, mean_scene_iou, false_share (of land that is called water), recall, and recall by WIDTHS; without
        those that nothing can be said of, as where there is no water."""
        values, drawn = _all_figures(self._as_it_is), _all_figures(self._drawn(resamples))
        return {name: _figure(value[0], drawn[name]) for name, value in values.items() if np.isfinite(value[0])}

    def change(self, other: Counts, name: str, resamples: int) -> Figure:
        """The figure `name` of `other` less that of this one, on the same resamples of the same scenes."""
        pairs = ((self._as_it_is, other._as_it_is), (self._drawn(resamples), other._drawn(resamples)))
        value, drawn = (_all_figures(after)[name] - _all_figures(before)[name] for before, after in pairs)
        return _figure(value[0], drawn)

    def part(self, chosen: Sequence[bool]) -> Counts:
        """Of the scenes where it is true."""
        scenes = tuple(scene for scene, each in zip(self.scenes, chosen, strict=True) if each)
        return Counts(scenes, self.independent)

    @property
    def refused(self) -> int:
        """How many scenes."""
        return int(np.count_nonzero(self._as_it_is[0, :, REFUSED]))

    @property
    def scene_iou(self) -> Float64:
        """(scenes,): as sarwater.metrics.Confusion.tile_iou, on land where the truth has no water."""
        return _scene_iou(self._as_it_is)[0]

    @property
    def _as_it_is(self) -> Int64:
        """(1, scenes, columns)."""
        return np.stack([scene.sum(axis=0) for scene in self.scenes])[None]

    def _drawn(self, resamples: int) -> Int64:
        """(resamples, scenes, columns)."""
        rng = np.random.default_rng(SEED)
        small = all(len(scene) == 1 for scene in self.scenes)
        if self.independent or small or len(self.scenes) >= LEAST_SCENES:
            whole = self._as_it_is[0]
            return whole[rng.integers(len(whole), size=(resamples, len(whole)))]
        drawn = [
            rng.multinomial(len(each), np.full(len(each), 1 / len(each)), resamples) @ each for each in self.scenes
        ]
        return np.stack(drawn, axis=1)


def count(mask: UInt8 | None, truth: UInt8, widths: UInt8 | None = None, block_px: int = BLOCK_PX) -> Int64:
    """mask, truth (H, W) uint8 of LAND, WATER, NODATA; widths (H, W) of `width_classes` -> (blocks, columns) int64, see
    `Counts`. What the truth knows counts, also where the mask has nodata or the scene was refused (None): it is not
    called water."""
    known, water = truth != NODATA, truth == WATER
    found = np.zeros_like(known) if mask is None else (mask == WATER) & known
    refused = known & (mask is None)
    planes = [found & water, found & ~water, ~found & water, ~found & ~water & known, refused]
    for number in range(1, len(WIDTHS) + 1):
        such = np.zeros_like(water) if widths is None else widths == number
        planes += [found & such, such]
    rows, columns = (np.arange(0, side, block_px) for side in truth.shape)
    summed = [
        np.add.reduceat(np.add.reduceat(plane.astype(np.int64), rows, axis=0), columns, axis=1).ravel()
        for plane in planes
    ]
    return np.stack(summed, axis=1)


def _all_figures(counts: Int64) -> dict[str, Float64]:
    """(N, scenes, columns) -> each figure (N,), NaN where nothing can be said."""
    pooled = counts.sum(axis=1)
    true_water, false_water, missed_water, true_land = pooled[:, :4].T
    water = true_water + missed_water
    by_width = {
        width: _ratio(pooled[:, BY_WIDTH + 2 * index], pooled[:, BY_WIDTH + 1 + 2 * index])
        for index, width in enumerate(WIDTHS)
    }
    return {
        POOLED_IOU: np.where(water > 0, _ratio(true_water, water + false_water), np.nan),
        MEAN_SCENE_IOU: _scene_iou(counts).mean(axis=1),
        FALSE_SHARE: _ratio(false_water, false_water + true_land),
        RECALL: _ratio(true_water, water),
        **by_width,
    }


def _scene_iou(counts: Int64) -> Float64:
    """(N, scenes, columns) -> (N, scenes)."""
    true_water, false_water, missed_water, true_land = np.moveaxis(counts[..., :4], -1, 0)
    wrong = false_water + missed_water
    right = np.where(true_water + missed_water > 0, true_water, true_land)
    return np.where(right + wrong > 0, right / np.maximum(right + wrong, 1), 1.0)


def _ratio(part: Int64, whole: Int64) -> Float64:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _figure(value: float, drawn: Float64) -> Figure:
    """A draw of which nothing can be said (no water in it) is left out."""
    low, high = np.nanpercentile(drawn, (2.5, 97.5))
    return Figure(float(value), float(low), float(high))
