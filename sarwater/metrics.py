"""Confusion matrix of water against land, and the scores that follow from it.

Two averages are in use and are not comparable, so both are named wherever they appear:
`pooled_iou` adds up the pixels of all tiles first; `mean_tile_iou` is the convention of kari_water_seg, one IoU per
tile, then the mean, where a tile without water in its label is scored on the inverted masks.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sarwater.classes import NODATA, WATER

LARGEST_IOU_LOSS = {"fp32": 0.001, "fp16": 0.001, "int8": 0.005}
"""The gates: how much pooled IoU a precision may cost against fp32 on the same samples (0.001 is 0.1 point)."""
LARGEST_CHANGED_SHARE = {"fp32": 0.002, "fp16": 0.01, "int8": 0.05}
"""Where there is no truth: the share of a scene's pixels whose class may be another than fp32's. Of int8, scenes of
simulated cities and flat deserts change up to 0.03, most change 0.005."""


@dataclass(frozen=True)
class Confusion:
    """Pixel counts. `a + b` pools two of them."""

    true_water: int = 0
    false_water: int = 0
    missed_water: int = 0
    true_land: int = 0

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(
            self.true_water + other.true_water,
            self.false_water + other.false_water,
            self.missed_water + other.missed_water,
            self.true_land + other.true_land,
        )

    @property
    def inverted(self) -> Confusion:
        """The same counts with land as the class of interest."""
        return Confusion(self.true_land, self.missed_water, self.false_water, self.true_water)

    @property
    def iou(self) -> float:
        """Intersection over union; 1 where neither side has any water."""
        return _ratio(self.true_water, self.true_water + self.false_water + self.missed_water)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.true_water, 2 * self.true_water + self.false_water + self.missed_water)

    @property
    def precision(self) -> float:
        return _ratio(self.true_water, self.true_water + self.false_water)

    @property
    def recall(self) -> float:
        return _ratio(self.true_water, self.true_water + self.missed_water)

    @property
    def tile_iou(self) -> float:
        """IoU as kari_water_seg counts one tile: on the inverted masks where the label has no water."""
        has_water = self.true_water + self.missed_water > 0
        return self.iou if has_water else self.inverted.iou


def confusion(predicted: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]) -> Confusion:
    """Count two uint8 masks of one shape (LAND, WATER, NODATA); what is NODATA in either is left out.

    Raises ValueError where the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"predicted mask is {predicted.shape}, truth is {truth.shape}: expected one shape")
    valid = (predicted != NODATA) & (truth != NODATA)
    code = (truth[valid] == WATER) * 2 + (predicted[valid] == WATER)
    true_land, false_water, missed_water, true_water = (int(n) for n in np.bincount(code, minlength=4))
    return Confusion(true_water, false_water, missed_water, true_land)


def pooled_iou(tiles: Iterable[Confusion]) -> float:
    return sum(tiles, Confusion()).iou


def mean_tile_iou(tiles: Iterable[Confusion]) -> float:
    """Raises ValueError for no tiles at all."""
    ious = [tile.tile_iou for tile in tiles]
    if not ious:
        raise ValueError("no tiles to average")
    return sum(ious) / len(ious)


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
