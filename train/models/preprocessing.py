"""What is made of the pixels before the network sees them; all of it is part of the exported graph.

Amplitudes are DN, 0 where there is no data. A plane is decibels, (N, 1, H, W) float32, and 0 where there is no data, as
beyond the edge of the input: there, a network is told nothing, not that it is dark.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from train.models.layers import enlarge_plane

SCALES_PX = (4, 16)
"""Means over so many pixels, across and down: what single-look speckle hides is seen in them."""
CELL_PX = 32
CELLS = 9
"""The surroundings of a place are so many cells, across and down."""
CONTRAST_DB = 5.0
"""Contrasts are given in this unit, so that they vary by about 1."""
MOST_CONTRAST = 8.0


def decibel(amplitude: Tensor) -> Tensor:
    return torch.log10(amplitude.clamp(min=1.0)) * 20.0


def scale_planes(amplitude: Tensor, mean_db: float, std_db: float) -> list[Tensor]:
    """Of one channel, H and W multiples of CELL_PX: the decibels of the power around each pixel at each of SCALES_PX,
    normalised as the pixels are, and how far the first lies above the mean of some 300 px around.

    Calibrations and products differ by more than water and land do: against its surroundings water is dark in all.
    """
    power, share = amplitude * amplitude, (amplitude > 0).to(amplitude.dtype)
    means_db, shares, scale_px = [], [], 1
    for wanted_px in SCALES_PX:
        power, share = (functional.avg_pool2d(plane, wanted_px // scale_px) for plane in (power, share))
        scale_px = wanted_px
        valid = (share > 0).to(share.dtype)
        means_db.append(decibel((power / share.clamp(min=0.5 / scale_px**2)).sqrt()) * valid)
        shares.append(valid)
    around_db = _surroundings(means_db[-1], share)
    planes = [
        enlarge_plane((mean - mean_db) / std_db * valid, SCALES_PX[index] // SCALES_PX[0])
        for index, (mean, valid) in enumerate(zip(means_db, shares, strict=True))
    ]
    finest, valid = means_db[0], shares[0]
    contrast = ((finest - around_db) / CONTRAST_DB).clamp(-MOST_CONTRAST, MOST_CONTRAST)
    inside = (amplitude > 0).to(amplitude.dtype)
    return [enlarge_plane(plane * valid, SCALES_PX[0]) * inside for plane in (*planes, contrast)]


def _surroundings(coarse_db: Tensor, share: Tensor) -> Tensor:
    """Mean decibels of CELLS x CELLS cells around, at the finest of SCALES_PX; both planes at the coarsest."""
    cells = [functional.avg_pool2d(plane, CELL_PX // SCALES_PX[-1]) for plane in (coarse_db * share, share)]
    total, count = (functional.avg_pool2d(plane, CELLS, 1, CELLS // 2) for plane in cells)
    return enlarge_plane(total / count.clamp(min=1e-3), CELL_PX // SCALES_PX[0])
