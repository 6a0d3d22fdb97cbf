"""Losses on the logit of water; a pixel whose truth is NODATA counts for nothing.

A loss is chosen by name, or as a sum of names: `bce+dice`. Class weights are those of land and water.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sarwater.classes import NODATA, WATER
from sarwater.errors import UsageError

FOCAL_GAMMA = 2.0
"""Lin et al., ICCV 2017, section 5.1."""
OHEM_PROBABILITY = 0.9
OHEM_KEPT = 1 / 12
"""HRNet-Semantic-Segmentation keeps 131,072 of the 3 x 512 x 1024 px of a batch, and all below probability 0.9."""


@dataclass(frozen=True)
class Pixels:
    """The valid pixels of a batch, flat: logit (P,) float32, water (P,) float32 of 0 and 1, weight (P,) float32."""

    logit: Tensor
    water: Tensor
    weight: Tensor

    @property
    def bce(self) -> Tensor:
        """Binary cross-entropy of each pixel, unweighted, (P,)."""
        return F.binary_cross_entropy_with_logits(self.logit, self.water, reduction="none")

    def mean(self, per_pixel: Tensor) -> Tensor:
        """Weighted sum over the count of pixels, as Keras; 0 for a batch without any."""
        return (per_pixel * self.weight).sum() / max(1, per_pixel.numel())


def bce(pixels: Pixels) -> Tensor:
    return pixels.mean(pixels.bce)


def cross_entropy(pixels: Pixels) -> Tensor:
    """Two-class cross-entropy as PyTorch weighs it, over the sum of the weights. With one logit for the difference of
    the two scores it is `bce` up to that divisor."""
    return (pixels.bce * pixels.weight).sum() / pixels.weight.sum().clamp(min=1e-6)


def dice(pixels: Pixels) -> Tensor:
    """Soft Dice over the batch (Milletari et al., 3DV 2016); it has no use for class weights."""
    probability = torch.sigmoid(pixels.logit)
    overlap = (probability * pixels.water).sum()
    return 1 - (2 * overlap + 1) / (probability.sum() + pixels.water.sum() + 1)


def lovasz(pixels: Pixels) -> Tensor:
    """Lovász hinge, the convex surrogate of 1 - IoU (Berman et al., CVPR 2018), over the batch."""
    if pixels.logit.numel() == 0:
        return pixels.logit.sum()
    errors = 1 - pixels.logit * (2 * pixels.water - 1)
    errors, order = torch.sort(errors, descending=True)
    water = pixels.water[order]
    intersection = water.sum() - water.cumsum(0)
    union = water.sum() + (1 - water).cumsum(0)
    jaccard = 1 - intersection / union
    gradient = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
    return torch.dot(F.relu(errors), gradient)


def focal(pixels: Pixels) -> Tensor:
    cross_entropy_each = pixels.bce
    return pixels.mean((1 - torch.exp(-cross_entropy_each)) ** FOCAL_GAMMA * cross_entropy_each)


def ohem(pixels: Pixels) -> Tensor:
    """Online hard example mining (Shrivastava et al., CVPR 2016): the mean over the pixels whose true class has a
    probability below OHEM_PROBABILITY, but at least the worst OHEM_KEPT of all."""
    if pixels.logit.numel() == 0:
        return pixels.logit.sum()
    each = pixels.bce
    kept = max(1, round(each.numel() * OHEM_KEPT))
    easy = -torch.log(torch.tensor(OHEM_PROBABILITY, device=each.device))
    threshold = torch.minimum(torch.topk(each.detach(), kept, sorted=True).values[-1], easy)
    hard = (each.detach() >= threshold).float()
    return (each * pixels.weight * hard).sum() / hard.sum()


LOSSES: dict[str, Callable[[Pixels], Tensor]] = {
    "bce": bce,
    "cross-entropy": cross_entropy,
    "dice": dice,
    "lovasz": lovasz,
    "focal": focal,
    "ohem": ohem,
}


class Loss:
    """A sum of losses by name, for logits (N, 1, H, W) of any float type and truth (N, H, W) uint8.

    Raises UsageError for a name that does not exist.
    """

    def __init__(self, name: str, class_weights: tuple[float, float] = (1.0, 1.0)) -> None:
        parts = name.split("+")
        if unknown := [part for part in parts if part not in LOSSES]:
            raise UsageError(f"--loss {name}: no loss {unknown[0]!r}; expected a sum of: {', '.join(LOSSES)}")
        self.terms = [LOSSES[part] for part in parts]
        self.land, self.water = class_weights

    def __call__(self, logits: Tensor, truth: Tensor) -> Tensor:
        valid = truth != NODATA
        water = (truth[valid] == WATER).float()
        # float32, whatever the network computed in: a sum over a million pixels overflows or starves in 16 bits.
        pixels = Pixels(logits[:, 0].float()[valid], water, self.land + (self.water - self.land) * water)
        return torch.stack([term(pixels) for term in self.terms]).sum()
