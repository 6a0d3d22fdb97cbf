"""Losses on the logit of water; pixels whose truth is NODATA count for nothing."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sarwater.metrics import NODATA, WATER


def bce_dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Mean binary cross-entropy plus soft Dice over the batch; logits (N, 1, H, W) float32, truth (N, H, W) uint8."""
    valid = (truth != NODATA).float()
    target = (truth == WATER).float()
    logit = logits[:, 0]
    count = valid.sum().clamp(min=1)
    bce = (F.binary_cross_entropy_with_logits(logit, target, reduction="none") * valid).sum() / count
    probability = torch.sigmoid(logit) * valid
    target = target * valid
    dice = 1 - (2 * (probability * target).sum() + 1) / (probability.sum() + target.sum() + 1)
    return bce + dice
