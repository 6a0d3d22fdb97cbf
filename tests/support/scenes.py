"""Synthetic pixels, without a file around them."""

from __future__ import annotations

import numpy as np


def lake_scene(height: int, width: int, *, seed: int = 0, lake: int = 20, land: int = 120) -> np.ndarray:
    """(H, W) uint16 amplitude: a dark ellipse in single-look speckle on brighter land; never 0."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    inside = ((y - height / 2) / (height / 3)) ** 2 + ((x - width / 2) / (width / 3)) ** 2 < 1
    amplitude = np.where(inside, lake, land) * rng.rayleigh(0.8, (height, width))
    return np.clip(amplitude, 1, 65535).astype(np.uint16)
