"""DeepUNet: a U-Net of narrow blocks that reaches down to 1/128 of the input, for large uniform areas of sea and land.

Li et al., "DeepUNet: A Deep Fully Convolutional Network for Pixel-Level Sea-Land Segmentation", IEEE JSTARS 2018, in
the form of the reference implementation: one block at full resolution, seven down, seven up. Its "plus" connections
concatenate where the paper adds, so that every block passes on more channels than it received, 32 as published.

Batch normalisation is ours: without it the fifteen blocks in a row start so slowly that some hundred steps teach them
little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.layers import conv_relu, initialise

HALVINGS = 7
GROWTHS = {"": 32, "w8": 8}
"""Channels that each block adds, by variant; the published network's are 32. `w8` is its form with a quarter of the
channels everywhere: the last block of the other takes 544 at full resolution, and nineteen times HRNet's time."""


class DeepUNet(nn.Module):
    """(N, C, H, W) float32 -> logit of water (N, 1, H, W) float32; H and W multiples of 128."""

    def __init__(self, variant: str = "", channels: int = 1, *, normalise: bool = True) -> None:
        super().__init__()
        growth = GROWTHS[variant]
        self.first = _block(channels, growth, 2, normalise)
        self.down = nn.ModuleList(_block(growth * (level + 1), growth, 2, normalise) for level in range(HALVINGS))
        skips = [growth * (level + 2) for level in range(HALVINGS)]
        width = skips[-1]
        self.up = nn.ModuleList()
        for skip in reversed(skips):
            self.up.append(_block(width + skip, growth, 3, normalise))
            width += growth
        self.head = nn.Conv2d(width, 1, 1)
        initialise(self, self.head)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)  # (N, growth, H, W)
        skips = []
        for block in self.down:
            skips.append(torch.cat([x, block(x)], dim=1))
            x = F.max_pool2d(skips[-1], 2)  # (N, growth * (level + 2), H >> (level + 1), W >> (level + 1))
        for block in self.up:
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
            x = torch.cat([block(torch.cat([x, skips.pop()], dim=1)), x], dim=1)
        return self.head(x)  # (N, 1, H, W)


def _block(inputs: int, growth: int, kernel: int, normalise: bool) -> nn.Sequential:
    """Wide, then narrow; the second convolution is 2 x 2 on the way down and 3 x 3 on the way up."""
    return nn.Sequential(
        conv_relu(inputs, 2 * growth, 3, normalise=normalise),
        conv_relu(2 * growth, growth, kernel, normalise=normalise),
    )
