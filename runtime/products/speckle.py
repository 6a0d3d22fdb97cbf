"""Speckle calmed for the eye: edges stay, the grain of even ground goes.

Source: J.-S. Lee, Digital image enhancement and noise filtering by use of local statistics, IEEE Transactions on
Pattern Analysis and Machine Intelligence PAMI-2, 1980.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

_RADIUS_PX = 3
_EVEN_SHARE = 0.7
"""What share of a picture is taken for even ground, whose variation is speckle alone."""
_LOOKED_AT = 5
"""Every so many pixels are enough to tell it."""


def calmed(power: Float32, weight: Float32) -> Float32:
    """(h, w) float32 mean power of each pixel, filtered by Lee's minimum mean square error.

    `weight` (h, w) is how many measurements each pixel has, 0 where there are none. How strong the speckle is, is told
    by the picture itself: a scene of many looks is hardly changed.
    """
    count = np.maximum(_window_sum(weight), 1)
    mean = _window_sum(power * weight) / count
    spread = np.maximum(_window_sum(power * power * weight) / count - mean * mean, 0)
    variation = spread / np.maximum(mean * mean, np.float32(1e-30))
    measured = (weight > 0) & (mean > 0)
    if not measured.any():
        return power
    speckle = np.quantile(variation[measured][::_LOOKED_AT], _EVEN_SHARE)
    trust = np.clip(1 - speckle / np.maximum(variation, np.float32(1e-12)), 0, 1)
    return np.asarray(np.where(measured, mean + trust * (power - mean), 0), np.float32)


def _window_sum(values: Float32) -> Float32:
    """Sum over the square about each pixel, as far as it lies inside."""
    for axis in (0, 1):
        lines = np.moveaxis(values, axis, 0)
        sums = lines.copy()
        for distance in range(1, min(_RADIUS_PX + 1, len(lines))):
            sums[distance:] += lines[:-distance]
            sums[:-distance] += lines[distance:]
        values = np.moveaxis(sums, 0, axis)
    return values
