"""Scores of a mask against the truth of a tile, and of many tiles together.

The averages are named as in sarwater.metrics. The boundary F-score (Csurka et al., BMVC 2013) says how well shorelines
lie: a shoreline pixel is right where the other mask has one within a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.classes import NODATA, WATER
from sarwater.metrics import Confusion, confusion, mean_tile_iou

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]
BOUNDARY_TOLERANCE_PX = 3


@dataclass(frozen=True)
class Boundary:
    """Shoreline pixels, and how many of them lie within the tolerance of the other mask's. `a + b` pools two."""

    predicted: int = 0
    predicted_near: int = 0
    true: int = 0
    true_near: int = 0

    def __add__(self, other: Boundary) -> Boundary:
        return Boundary(
            self.predicted + other.predicted,
            self.predicted_near + other.predicted_near,
            self.true + other.true,
            self.true_near + other.true_near,
        )

    @property
    def f_score(self) -> float:
        """Harmonic mean of precision and recall of the shoreline; 1 where neither mask has any."""
        if self.predicted + self.true == 0:
            return 1.0
        precision = self.predicted_near / max(1, self.predicted)
        recall = self.true_near / max(1, self.true)
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True)
class TileScore:
    name: str
    confusion: Confusion
    boundary: Boundary | None = None


@dataclass(frozen=True)
class Scores:
    """Of one model on some tiles; at least one."""

    tiles: tuple[TileScore, ...]

    @property
    def pooled(self) -> Confusion:
        return sum((tile.confusion for tile in self.tiles), Confusion())

    @property
    def pooled_iou(self) -> float:
        return self.pooled.iou

    @property
    def mean_tile_iou(self) -> float:
        return mean_tile_iou(tile.confusion for tile in self.tiles)

    @property
    def boundary_f(self) -> float | None:
        boundaries = [tile.boundary for tile in self.tiles if tile.boundary]
        return sum(boundaries, Boundary()).f_score if boundaries else None

    def to_dict(self) -> dict[str, Any]:
        tiles = [{"name": tile.name, **_figures(tile.confusion, tile.boundary)} for tile in self.tiles]
        pooled = _figures(self.pooled, None)
        summary = {"pooled_iou": pooled.pop("iou"), "mean_tile_iou": self.mean_tile_iou, **pooled}
        if self.boundary_f is not None:
            summary |= {"boundary_f": self.boundary_f}
        return {**summary, "tiles": tiles}


def score_tile(name: str, mask: UInt8, truth: UInt8, boundary_tolerance_px: int | None = None) -> TileScore:
    """mask, truth: (H, W) uint8 of LAND, WATER, NODATA. Without a tolerance the boundary is not looked at."""
    if boundary_tolerance_px is None:
        return TileScore(name, confusion(mask, truth))
    boundary = Boundary(*(int(line.sum()) for line in shorelines(mask, truth, boundary_tolerance_px)))
    return TileScore(name, confusion(mask, truth), boundary)


def shorelines(mask: UInt8, truth: UInt8, tolerance_px: int) -> tuple[Bool, Bool, Bool, Bool]:
    """Where each field of `Boundary` counts, all (H, W): the predicted shoreline, the part of it near the true one, the
    true one, the part of it near the predicted one."""
    valid = (mask != NODATA) & (truth != NODATA)
    predicted, true = (_shoreline(plane == WATER, valid) for plane in (mask, truth))
    near_true, near_predicted = (_dilated(line, tolerance_px) for line in (true, predicted))
    return predicted, predicted & near_true, true, true & near_predicted


def _figures(counts: Confusion, boundary: Boundary | None) -> dict[str, float]:
    figures = {"iou": counts.iou, "f1": counts.f1, "precision": counts.precision, "recall": counts.recall}
    return figures if boundary is None else {**figures, "boundary_f": boundary.f_score}


def _shoreline(water: Bool, valid: Bool) -> Bool:
    """Water pixels beside a valid land pixel; neither nodata nor the tile's edge makes a shore."""
    land = valid & ~water
    beside = np.zeros_like(water)
    beside[1:] |= land[:-1]
    beside[:-1] |= land[1:]
    beside[:, 1:] |= land[:, :-1]
    beside[:, :-1] |= land[:, 1:]
    return water & valid & beside


def _dilated(line: Bool, radius_px: int) -> Bool:
    """Everything within `radius_px` of the line: a disc is a few shifts, where a distance transform of a whole scene
    would take gigabytes."""
    height, width = line.shape
    near = line.copy()
    for dy in range(-radius_px, radius_px + 1):
        for dx in range(-radius_px, radius_px + 1):
            if 0 < dy * dy + dx * dx <= radius_px * radius_px and abs(dy) < height and abs(dx) < width:
                rows, columns = slice(max(0, dy), height + min(0, dy)), slice(max(0, dx), width + min(0, dx))
                from_rows = slice(max(0, -dy), height + min(0, -dy))
                from_columns = slice(max(0, -dx), width + min(0, -dx))
                near[rows, columns] |= line[from_rows, from_columns]
    return near
