"""A second look at the same crops: a part of each, under another calibration. What a network says of a place should
depend neither on the window in which it sees the place nor on the gain, and here it can be held to that."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sarwater.metrics import NODATA

VIEW_SHARE = 0.75
"""Of the crop's side, at most; rounded down to what the network takes."""
MARGIN_PX = 32
"""Along the view's borders nothing is compared: at run time, too, windows overlap by some 70 px."""


@dataclass(frozen=True)
class View:
    """Pixels (N, C, h, w) float32 of the rows and columns `top` to `top + h`, `left` to `left + w` of a batch."""

    pixels: Tensor
    top: int
    left: int

    def of(self, whole: Tensor) -> Tensor:
        """The view's part of (..., H, W)."""
        height, width = self.pixels.shape[-2:]
        return whole[..., self.top : self.top + height, self.left : self.left + width]


def second_view(pixels: Tensor, stride_px: int, gain_db: float, sar_channels: int, generator: torch.Generator) -> View:
    """Of a batch (N, C, S, S): one place for all, a gain of up to `gain_db` to either side for each."""
    side_px = max(1, int(pixels.shape[-1] * VIEW_SHARE) // stride_px) * stride_px
    room_px = pixels.shape[-1] - side_px
    top, left = (int(torch.randint(room_px + 1, (), generator=generator)) for _ in range(2))
    decibels = (torch.rand(len(pixels), 1, 1, 1, generator=generator) * 2 - 1) * gain_db
    part = pixels[..., top : top + side_px, left : left + side_px].clone()
    part[:, :sar_channels] *= 10 ** (decibels / 20)
    return View(part, top, left)


def disagreement(first: Tensor, second: Tensor, truth: Tensor) -> Tensor:
    """Mean square of the difference of two probabilities, from logits (N, 1, h, w) of the same place, over the pixels
    that are valid in truth (N, h, w) uint8 and no nearer than MARGIN_PX (of small views, a quarter) to the border."""
    margin_px = min(MARGIN_PX, min(truth.shape[-2:]) // 4)
    inner = (..., slice(margin_px, -margin_px), slice(margin_px, -margin_px))
    valid = truth[inner] != NODATA
    difference = torch.sigmoid(first[:, 0][inner].float()) - torch.sigmoid(second[:, 0][inner].float())
    return (difference.square() * valid).sum() / valid.sum().clamp(min=1)
