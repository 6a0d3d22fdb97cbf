"""How far a window lies off its usual level: calibrations differ by some decibels, and products by more."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from train.models.layers import zeroed
from train.models.preprocessing import decibel, mean_where, several_looks

LEVEL_DB = 40.0
"""Between land and water in scenes of several looks."""
SCALES_DB = (5.0, 1.5, 0.33)
"""Of level, contrast and speckle, so that each varies by about 1."""
WIDTHS = (16, 24, 32)
"""Channels of the three layers, each at half the resolution of the one before."""


class LevelEstimator(nn.Module):
    """Estimates by how many decibels a window is brighter than it should be, from all that is in it.

    It is learned: from scenes whose gain was varied, told by how much, and from what helps the answer. What has a level
    and nothing else, a sea or a bare plain, it leaves as it is, as far as it can tell it.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((5, *WIDTHS)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*layers)
        # At first there is no change at all.
        self.readout = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 1), nn.ReLU(inplace=True), zeroed(nn.Conv2d(WIDTHS[-1], 1, 1))
        )

    def forward(self, coarse_amplitude: Tensor, coarse_answer: Tensor, speckle: Tensor) -> Tensor:
        """Decibels, (N, 1, 1, 1), from the amplitude, the logit and the speckle of coarse pixels, each (N, 1, h, w)."""
        valid = (coarse_amplitude > 0).to(coarse_amplitude.dtype)
        level_db = decibel(coarse_amplitude)
        level, contrast, roughness = SCALES_DB
        planes = [
            valid,
            (level_db - LEVEL_DB) * valid / level,
            (level_db - mean_where(level_db, valid)) * valid / contrast,
            torch.sigmoid(coarse_answer),
            speckle / roughness,
        ]
        features = self.features(torch.cat(planes, dim=1))
        off_db: Tensor = self.readout(mean_where(features, functional.avg_pool2d(valid, 2 ** len(WIDTHS))))
        return off_db


def levelling_gain(off_db: Tensor, speckle: Tensor) -> Tensor:
    """Factor on amplitudes that takes `off_db` away, (N, 1, 1, 1); 1 for a single look, whose level is left alone."""
    return torch.exp(off_db * several_looks(speckle) * (-math.log(10) / 20))
