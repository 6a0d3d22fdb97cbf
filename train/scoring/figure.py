"""One picture per evaluation: SAR, truth, and every model's mask and errors side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sarwater.atomic import replacing
from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import DependencyMissing, OutputError

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
Pixel = TypeVar("Pixel", bound=np.generic)
LONGEST_PX = 1024
"""Larger tiles are thinned out for the picture."""
# Okabe and Ito's colours can be told apart by everyone.
BLUE, ORANGE, PURPLE, GREY = (0, 114, 178), (230, 159, 0), (204, 121, 167), (200, 200, 200)


@dataclass(frozen=True)
class Panel:
    """One tile: amplitude (H, W) float32, truth and one mask per model (H, W) uint8, with their titles."""

    name: str
    amplitude: Float32
    truth: UInt8
    masks: tuple[UInt8, ...]
    titles: tuple[str, ...]


def thin(plane: npt.NDArray[Pixel]) -> npt.NDArray[Pixel]:
    """Every n-th pixel, so that no side is longer than LONGEST_PX."""
    step = -(-max(plane.shape) // LONGEST_PX)
    return plane[::step, ::step]


def draw(path: Path, panels: Sequence[Panel]) -> None:
    """Write the figure, PNG or PDF. Raises DependencyMissing without matplotlib, OutputError where it cannot write."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing("--figure needs matplotlib: pip install 'sarwater[train]'") from error
    columns = 2 + 2 * len(panels[0].masks)
    figure = Figure(figsize=(3 * columns, 3.2 * len(panels)), layout="constrained", dpi=150)
    grid = figure.subplots(len(panels), columns, squeeze=False)
    for axes, panel in zip(grid, panels, strict=True):
        images = [(panel.name, _grey(panel.amplitude)), ("truth", _coloured(panel.truth, panel.truth))]
        for title, mask in zip(panel.titles, panel.masks, strict=True):
            shown = np.where(panel.truth == NODATA, NODATA, mask)
            images += [(title, _coloured(shown, shown)), ("errors", _coloured(shown, panel.truth))]
        for axis, (title, image) in zip(axes, images, strict=True):
            axis.imshow(image, interpolation="nearest")
            axis.set_title(title, fontsize=8)
            axis.set_axis_off()
    figure.supxlabel("blue: water   orange: false water   purple: missed water   grey: no truth", fontsize=8)
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary)
    except (OSError, ValueError) as error:
        raise OutputError(f"{path}: cannot write the figure ({error})") from error


def _grey(amplitude: Float32) -> UInt8:
    """Decibels between the 1st and the 99th percentile, (H, W, 3) uint8."""
    decibel = 20 * np.log10(np.maximum(amplitude, 1))
    valid = decibel[amplitude > 0]
    low, high = np.percentile(valid, (1, 99)) if valid.size else (0.0, 1.0)
    grey = np.clip((decibel - low) / max(high - low, 1e-6) * 255, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _coloured(mask: UInt8, truth: UInt8) -> UInt8:
    """(H, W, 3) uint8: what the mask says, where it agrees with the truth and where it errs."""
    image = np.full((*mask.shape, 3), 255, np.uint8)
    image[(mask == WATER) & (truth == WATER)] = BLUE
    image[(mask == WATER) & (truth == LAND)] = ORANGE
    image[(mask == LAND) & (truth == WATER)] = PURPLE
    image[truth == NODATA] = GREY
    return image
