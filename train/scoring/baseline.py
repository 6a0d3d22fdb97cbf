"""The threshold that a network has to beat: box filter and Otsu, as an analyst would set it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sarwater.classes import LAND, WATER
from sarwater.errors import DependencyMissing
from sarwater.otsu import otsu

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
BOX_PX = 25


def box_otsu(amplitude: Float32, box_px: int = BOX_PX) -> UInt8:
    """Amplitude (H, W) float32, nodata 0 -> mask (H, W) uint8 of LAND and WATER."""
    try:
        from scipy.ndimage import uniform_filter
    except ImportError as error:
        raise DependencyMissing("the box filter needs scipy: pip install 'sarwater[train]'") from error
    decibel = 20 * np.log10(np.maximum(uniform_filter(amplitude, box_px), 1e-3))
    valid = amplitude > 0
    if not valid.any():
        return np.full(amplitude.shape, LAND, np.uint8)
    return np.where(decibel < otsu(decibel[valid]), WATER, LAND).astype(np.uint8)
