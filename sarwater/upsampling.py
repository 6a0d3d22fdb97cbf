"""Scenes of coarser pixels than a network knows are upsampled for it: each pixel several times, across and down.

A network learns how many pixels wide rivers and ponds are. A river of 240 m is eight pixels of a product at 30 m and
two of one at 120 m, fewer than the first layers keep apart; by a factor of 4 it is eight again. Repeating a pixel makes
no value up, and leaves nodata what it is. What the network says of a pixel is the mean over the block it became.
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)

MAX_FACTOR = 4
"""Along an axis: sixteen times the work for a scene, as much as at a quarter of its pixel spacing."""
METRES_PER_DEGREE = 111_195.0
"""Of a great circle of the sphere of 6,371 km: near enough to tell the spacing of pixels in longitude and latitude."""


def upsampling_factor(pixel_m: float | None, coarsest_m: float | None) -> int:
    """The smallest factor that brings pixels of `pixel_m` to `coarsest_m`, the pixel spacing of the coarsest
    scenes that a network knows, or to a tenth more: 1 to MAX_FACTOR, 1 where either is not known."""
    if not pixel_m or not coarsest_m or not math.isfinite(pixel_m):
        return 1
    return min(max(1, math.ceil(pixel_m / coarsest_m - 0.1)), MAX_FACTOR)


def upsampled(pixels: npt.NDArray[Scalar], factor: int) -> npt.NDArray[Scalar]:
    """(..., H, W) -> (..., H * factor, W * factor); the same array for 1."""
    return pixels if factor == 1 else np.repeat(np.repeat(pixels, factor, axis=-2), factor, axis=-1)


def block_sums(values: npt.NDArray[np.generic], factor: int) -> npt.NDArray[np.float32]:
    """Sums over the block of each pixel, (H * factor, W * factor) -> (H, W) float32."""
    height, width = (side // factor for side in values.shape)
    sums: npt.NDArray[np.float32] = values.reshape(height, factor, width, factor).sum(axis=(1, 3), dtype=np.float32)
    return sums
