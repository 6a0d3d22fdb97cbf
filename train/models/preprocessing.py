"""What is made of the pixels before the network sees them, and the speckle that it is told of.

All of it is part of the exported graph. Amplitudes are DN, 0 where there is no data.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.models.layers import enlarge_plane

CONTRAST_CELL_PX = 32
CONTRAST_CELLS = 9
"""The local mean is that of so many cells, across and down."""
CONTRAST_DB = 5.0
COARSE = 4
"""Pixels along one of a coarse pixel, in networks that also look from further away."""
SPECKLE_CELL_PX = 32
"""Coarse pixels; the speckle of a place is told from so many, across and down."""
SEVERAL_LOOKS_DB = (0.8, 1.2)
"""Speckle below the first is of several looks, above the second of a single one."""


def decibel(amplitude: Tensor) -> Tensor:
    return torch.log10(amplitude.clamp(min=1.0)) * 20.0


def speckle(amplitude: Tensor, coarse_amplitude: Tensor) -> Tensor:
    """Decibels by which the mean of a coarse pixel exceeds the mean of its decibels, (N, 1, H / COARSE, W / COARSE).

    1.5 dB for the speckle of a single look, a quarter of that for four; 0 where a pixel is not valid.
    """
    complete = (-functional.max_pool2d(-amplitude, COARSE) > 0).to(amplitude.dtype)
    return (decibel(coarse_amplitude) - functional.avg_pool2d(decibel(amplitude), COARSE)) * complete


def several_looks(speckle: Tensor) -> Tensor:
    """1 for windows of several looks, 0 for those of a single one, (N, 1, 1, 1), from what `speckle` says of them."""
    several_db, single_db = SEVERAL_LOOKS_DB
    mean_db = mean_where(speckle, (speckle > 0).to(speckle.dtype))
    return ((single_db - mean_db) / (single_db - several_db)).clamp(0.0, 1.0)


def mean_where(plane: Tensor, inside: Tensor) -> Tensor:
    """Mean of (N, C, h, w) where `inside`, (N, 1, h, w), is not 0, and as far as it is not, (N, C, 1, 1); 0 where it is
    nowhere."""
    total, count = (functional.adaptive_avg_pool2d(part, 1) for part in (plane * inside, inside))
    return total / count.clamp(min=1e-6)


def contrast(level_db: Tensor, valid: Tensor, *, against_all: bool = False) -> Tensor:
    """Decibels above the mean of some 300 px around, in units of CONTRAST_DB; 0 where not valid. All (N, 1, H, W).

    Calibrations and products differ by more than water and land do: what is water in one is as bright as land in
    another. Against its surroundings water is dark in all of them.

    `against_all`: above the mean of the whole input. At the coarse resolution the surroundings are wider than a crop
    in training and about as wide as a window at run time, where a mean that ends with the window shows as a seam.
    """
    level_db = level_db * valid
    cells = [functional.avg_pool2d(plane, CONTRAST_CELL_PX) for plane in (level_db, valid)]
    if against_all:
        total, count = (functional.adaptive_avg_pool2d(plane, 1) for plane in cells)
        return (level_db - total / count.clamp(min=1e-3) * valid) / CONTRAST_DB
    total, count = (functional.avg_pool2d(plane, CONTRAST_CELLS, 1, CONTRAST_CELLS // 2) for plane in cells)
    mean_db = functional.interpolate(
        total / count.clamp(min=1e-3), scale_factor=CONTRAST_CELL_PX / 4, mode="bilinear", align_corners=False
    )
    mean_db = enlarge_plane(mean_db, 4)
    return (level_db - mean_db * valid) / CONTRAST_DB
