"""Pictures of what the network fails at.

Only simulated scenes are drawn for the documentation: the K5 tiles may not be passed on, so their picture stays in the
cache folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.accuracy_networks import Network
from benchmarks.accuracy_sets import Sample, UInt8
from sarwater.atomic import replacing
from sarwater.metrics import Confusion, confusion
from train.scoring.figure import BLUE, GREY, ORANGE, PURPLE, Panel, draw, thin

WIDTH_PX = 900
GREYS = 40
"""Of the palette: speckle does not compress, fewer colours do."""


def draw_worst(
    simulated: Mapping[str, Sequence[Sample]],
    kompsat: Sequence[Sample],
    network: Network,
    folds: Mapping[str, Network],
    arguments: argparse.Namespace,
    count: int,
) -> dict[str, Any]:
    """The `count` worst simulated scenes by IoU (on land where there is no water), and every K5 tile; returns what they
    show."""
    scenes = [sample for each in simulated.values() for sample in each]
    worst = sorted(((sample, network.mask(sample)) for sample in scenes), key=_tile_iou)[:count]
    picture = _sheet(arguments.pictures / "worst.png", worst)
    if kompsat:
        _sheet(arguments.cache / "k5.png", sorted(((s, folds[s.name].mask(s)) for s in kompsat), key=_tile_iou))
    return {"worst": str(picture), "scenes": [_in_words(sample, mask) for sample, mask in worst]}


def _tile_iou(pair: tuple[Sample, UInt8]) -> float:
    sample, mask = pair
    return confusion(mask, sample.truth).tile_iou


def _in_words(sample: Sample, mask: UInt8) -> dict[str, Any]:
    counts = confusion(mask, sample.truth)
    total = max(1, sum(vars(counts).values()))
    return {
        "scene": sample.name,
        "iou": counts.iou,
        "water": (counts.true_water + counts.missed_water) / total,
        "false_water": counts.false_water / total,
        "missed_water": counts.missed_water / total,
    }


def _sheet(path: Path, pairs: Sequence[tuple[Sample, UInt8]]) -> Path:
    panels = [
        Panel(s.name, thin(s.amplitude), thin(s.truth), (thin(mask),), (_title(confusion(mask, s.truth)),))
        for s, mask in pairs
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(path, panels)
    with Image.open(path) as image:
        small = image.convert("RGB").resize((WIDTH_PX, round(image.height * WIDTH_PX / image.width)))
    with replacing(path) as temporary:
        small.quantize(palette=_palette(), dither=Image.Dither.NONE).save(temporary, optimize=True)
    return path


def _palette() -> Image.Image:
    """Greys, and every colour of the legend, which a palette made from the picture leaves out where it is rare."""
    greys = [(level, level, level) for level in np.linspace(0, 255, GREYS).astype(int).tolist()]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in (BLUE, ORANGE, PURPLE, GREY, *greys) for part in colour])
    return palette


def _title(counts: Confusion) -> str:
    return f"IoU {counts.iou:.3f}"
