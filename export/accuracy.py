"""How far one network's answers are from another's, and how far they may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from export.samples import Sample
from sarwater.classes import LAND, NODATA, WATER
from sarwater.metrics import LARGEST_IOU_LOSS, Confusion, confusion

Float32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Accuracy:
    """One network against the reference, over the valid pixels of the same samples."""

    max_error: float
    """Of the probability, as the next."""
    mean_error: float
    changed_share: float
    """Share of pixels whose class is another."""
    iou: float
    """Pooled, against the truth, as the next three."""
    f1: float
    iou_loss: float
    """IoU of the reference less this one's."""
    f1_loss: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    def passes(self, precision: str) -> bool:
        """Whether it is inside the gate of `precision`; NaN never is."""
        return self.iou_loss <= LARGEST_IOU_LOSS[precision] and bool(np.isfinite(self.max_error))


def compare(
    found: Sequence[Float32], reference: Sequence[Float32], samples: Sequence[Sample], threshold: float
) -> Accuracy:
    """`found` and `reference`: one probability map (T, T) float32 for each sample."""
    maximum, total, changed, pixels = 0.0, 0.0, 0, 0
    scores, reference_scores = Confusion(), Confusion()
    for ours, theirs, sample in zip(found, reference, samples, strict=True):
        valid = sample.truth != NODATA
        error = np.abs(ours[valid].astype(np.float64) - theirs[valid])
        maximum = float(np.fmax(maximum, error.max())) if np.isfinite(error).all() else float("nan")
        total += float(error.sum())
        mask, reference_mask = to_mask(ours, threshold), to_mask(theirs, threshold)
        changed += int((mask != reference_mask)[valid].sum())
        pixels += int(valid.sum())
        scores += confusion(mask, sample.truth)
        reference_scores += confusion(reference_mask, sample.truth)
    return Accuracy(
        max_error=maximum,
        mean_error=total / max(pixels, 1),
        changed_share=changed / max(pixels, 1),
        iou=scores.iou,
        f1=scores.f1,
        iou_loss=reference_scores.iou - scores.iou,
        f1_loss=reference_scores.f1 - scores.f1,
    )


def to_mask(probability: Float32, threshold: float) -> npt.NDArray[np.uint8]:
    return np.where(probability >= np.float32(threshold), WATER, LAND).astype(np.uint8)
