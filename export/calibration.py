"""The pixels that calibrate a conversion: they must show what moves the ranges of activations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.samples import Reading, folder_pixels, simulated_samples
from sarwater.manifest import Channel

Float32 = npt.NDArray[np.float32]

TILE_PX = 256
"""The ranges of a convolutional network hardly depend on the tile size, the time and memory to find them do."""
TILES = 16
SCENES: int | None = None
"""Simulated ones; None for every kind as every sensor sees it."""
CANDIDATES = 400


def calibration_tiles(
    channels: Sequence[Channel], folder: Path | None = None, count: int = TILES, reading: Reading | None = None
) -> Float32:
    """(n, C, 256, 256) float32 raw pixels, n <= count, from the scenes in `folder`, else simulated.

    Chosen to differ: the darkest (water), the brightest (land), the one with the brightest targets and the one with
    the most nodata (a scene's edge) first, then always the one least like those already chosen. Raises DataError.
    """
    if folder is not None:
        candidates = folder_pixels(folder, channels, TILE_PX, CANDIDATES, reading)
    else:
        scenes = [sample.pixels for sample in simulated_samples(channels, 2 * TILE_PX, SCENES)]
        candidates = [quarter for scene in scenes for quarter in _quarters(scene)]
    features = np.stack([_features(candidate[0]) for candidate in candidates])
    return np.stack([candidates[index] for index in _different(features, count)])


def _quarters(scene: Float32) -> list[Float32]:
    return [scene[:, row : row + TILE_PX, column : column + TILE_PX] for row in (0, TILE_PX) for column in (0, TILE_PX)]


def _features(plane: Float32) -> npt.NDArray[np.float64]:
    """What sets a tile apart: median, bright tail and spread (of logarithms, where there are amounts), and nodata."""
    valid = plane[plane != 0]
    if valid.size == 0:
        return np.array([0.0, 0.0, 0.0, 1.0])
    values = np.log(valid) if valid.min() > 0 else valid
    low, median, high, tail = np.percentile(values, [10, 50, 90, 99.9])
    return np.array([median, tail, high - low, 1 - valid.size / plane.size])


def _different(features: npt.NDArray[np.float64], count: int) -> list[int]:
    """Indices of at most `count` rows that cover the space of `features` (n, 4): farthest-point sampling, begun with
    the extremes that must be there (Gonzalez 1985, "Clustering to minimize the maximum intercluster distance")."""
    spread = features.std(axis=0)
    points = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    median, tail, _, nodata = points.T
    chosen = list(dict.fromkeys(int(i) for i in (median.argmin(), median.argmax(), tail.argmax(), nodata.argmax())))
    distance = np.min([np.linalg.norm(points - points[index], axis=1) for index in chosen], axis=0)
    while len(chosen) < min(count, len(points)):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        distance = np.minimum(distance, np.linalg.norm(points - points[farthest], axis=1))
    return chosen[:count]
