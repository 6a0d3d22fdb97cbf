"""U-Net: four halvings down to 1/16 of the input, four doublings up, the finer half concatenated at each.

Ronneberger et al., "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015, in the form of
the reference implementation: padded convolutions and nearest-neighbour doubling without a convolution of its own.

Batch normalisation is ours: the reference has none and needs a learning rate of 1e-4 for it. With it the net takes ten
times that rate, and a recalibrated scene (every pixel times a constant) changes its inner statistics less.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.layers import conv_relu, initialise

WIDTHS = {"w64": 64, "w32": 32, "w16": 16}
"""Channels at full resolution; each of the four halvings doubles them. `w64` is the published one."""


class UNet(nn.Module):
    """(N, C, H, W) float32 -> logit of water (N, 1, H, W) float32; H and W multiples of 16."""

    def __init__(self, variant: str, channels: int = 1, *, normalise: bool = True) -> None:
        super().__init__()
        width = WIDTHS[variant]
        widths = [width << level for level in range(5)]
        inputs = [channels, *widths[:-1]]
        self.down = nn.ModuleList(_double(*pair, normalise) for pair in zip(inputs, widths, strict=True))
        self.up = nn.ModuleList(_double(2 * w + w, w, normalise) for w in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, 1, 1)
        initialise(self, self.head)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)  # (N, width << level, H >> level, W >> level)
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = block(torch.cat([skips.pop(), x], dim=1))
        return self.head(x)  # (N, 1, H, W)


def _double(inputs: int, outputs: int, normalise: bool) -> nn.Sequential:
    return nn.Sequential(
        conv_relu(inputs, outputs, 3, normalise=normalise), conv_relu(outputs, outputs, 3, normalise=normalise)
    )
