"""What is made of the pixels before the network sees them, and the speckle that it is told of.

All of it is part of the exported graph. Amplitudes are DN, 0 where there is no data.
"""

from __future__ import annotations

import math

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
LEVEL_CELL_PX = 32
"""The level of a scene is told from means of so many pixels, across and down."""
USUAL_LEVEL_DB = 44.0
"""Of land in scenes of several looks, in decibels of DN: 43.9 in the middle of the windows of the Sentinel-1 scene that
training sees (42.5 to 44.7), 44 in the simulated ones with more land than water."""
LEVEL_REACH_DB = (4.0, 8.0)
"""A level so far off is brought back to the usual one, and from there on less and less, until from the second on it is
left alone: calibrations differ by some 3 dB and lands by another; a sea lies 10 dB below."""
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


def levelling_gain(amplitude: Tensor, speckle: Tensor) -> Tensor:
    """Factor that brings each window to the usual level, (N, 1, 1, 1); 1 for a single look, and far from that level.

    The level is that of the brighter half: with a river or a flood in the window still that of its land. All of a
    window is changed alike, so what is told by contrast stays as it is. The amplitude is (N, 1, H, W), its speckle that
    of `speckle`.
    """
    share = functional.avg_pool2d((amplitude > 0).to(amplitude.dtype), LEVEL_CELL_PX)
    level_db = decibel(functional.avg_pool2d(amplitude, LEVEL_CELL_PX) / share.clamp(min=1e-3))
    valid = (share > 0.5).to(amplitude.dtype)
    bright = valid * (level_db > _mean_where(level_db, valid) - 0.01).to(amplitude.dtype)
    off_db = _mean_where(level_db, bright) - USUAL_LEVEL_DB
    near_db, far_db = LEVEL_REACH_DB
    several_db, single_db = SEVERAL_LOOKS_DB
    speckle_db = _mean_where(speckle, (speckle > 0).to(speckle.dtype))
    looks = ((single_db - speckle_db) / (single_db - several_db)).clamp(0.0, 1.0)
    reach = ((far_db - off_db.abs()) / (far_db - near_db)).clamp(0.0, 1.0)
    return torch.exp(off_db * reach * looks * (-math.log(10) / 20))


def _mean_where(plane: Tensor, inside: Tensor) -> Tensor:
    """Mean of (N, 1, h, w) where `inside` is 1, (N, 1, 1, 1); 0 where it is nowhere."""
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
