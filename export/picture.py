"""A picture of where the masks of one model's precisions differ."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.samples import Sample
from sarwater.atomic import replacing
from sarwater.classes import NODATA, WATER
from sarwater.dependencies import require

UInt8 = npt.NDArray[np.uint8]

TILES = 3
BLOCK_PX = 8
WATER_BLUE, GAINED_RED, LOST_ORANGE, EDGE_GREY = (0, 90, 200), (220, 0, 0), (255, 150, 0), (128, 128, 128)


Masks = tuple[str, Sequence[UInt8]]
"""A title, and one mask (T, T) for each sample."""


def draw_disagreement(path: Path, samples: Sequence[Sample], reference: Masks, others: Sequence[Masks]) -> None:
    """Draw the samples with most disagreement: pixels, label, the reference's mask, and how each other one differs.

    Raises DependencyMissing without matplotlib.
    """
    figure_of = require("matplotlib.figure", "--picture").Figure
    changed = [sum(int((masks[i] != reference[1][i]).sum()) for _, masks in others) for i in range(len(samples))]
    chosen = sorted(range(len(samples)), key=lambda index: -changed[index])[:TILES]
    columns = 3 + len(others)
    figure = figure_of(figsize=(3 * columns, 3.2 * len(chosen)), layout="constrained")
    grid = figure.subplots(len(chosen), columns, squeeze=False)
    for axes, index in zip(grid, chosen, strict=True):
        sample, mask = samples[index], reference[1][index]
        image = _decibel(sample.pixels[0])
        panels = [(sample.name, image), ("label", _blue(image, sample.truth)), (reference[0], _blue(image, mask))]
        for title, masks in others:
            count = int((masks[index] != mask).sum())
            panels.append((f"{title}\n{count} pixels", _difference(image, masks[index], mask)))
        for axis, (title, panel) in zip(axes, panels, strict=True):
            axis.imshow(panel)
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    figure.suptitle("blue: water; red: water only here, orange: water only in the reference", fontsize=9)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110)


def _decibel(plane: npt.NDArray[np.float32]) -> UInt8:
    """(T, T) raw pixels -> (T, T, 3) grey between the 2nd and 98th percentile, in decibels where they are amounts."""
    values = 20 * np.log10(np.maximum(plane, 1)) if plane.min() >= 0 else plane
    low, high = np.percentile(values[plane != 0], [2, 98]) if (plane != 0).any() else (0, 1)
    grey = np.clip((values - low) / max(high - low, 1e-6), 0, 1) * 255
    return grey.astype(np.uint8)[..., None].repeat(3, axis=2)


def _blue(image: UInt8, mask: UInt8) -> UInt8:
    return _painted(image, [(mask == WATER, WATER_BLUE), (mask == NODATA, EDGE_GREY)], opacity=0.5)


def _difference(image: UInt8, mask: UInt8, reference: UInt8) -> UInt8:
    gained, lost = (mask == WATER) & (reference != WATER), (mask != WATER) & (reference == WATER)
    return _painted(image // 2, [(_thick(gained), GAINED_RED), (_thick(lost), LOST_ORANGE)], opacity=1.0)


def _thick(where: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """A block of 8 x 8 px for every one that holds a changed pixel: single pixels would vanish in print."""
    side = where.shape[0]
    blocks = where.reshape(side // BLOCK_PX, BLOCK_PX, side // BLOCK_PX, BLOCK_PX).any(axis=(1, 3))
    return blocks.repeat(BLOCK_PX, axis=0).repeat(BLOCK_PX, axis=1)


def _painted(
    image: UInt8, layers: Sequence[tuple[npt.NDArray[np.bool_], tuple[int, int, int]]], opacity: float
) -> UInt8:
    painted = image.astype(np.float32)
    for where, colour in layers:
        painted[where] = (1 - opacity) * painted[where] + opacity * np.array(colour)
    return painted.astype(np.uint8)
