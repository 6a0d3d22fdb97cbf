"""Pictures of what a network fails at.

Only simulated scenes are drawn for the documentation: real ones may not be passed on, so their picture stays in the
cache folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.accuracy_methods import Network
from benchmarks.accuracy_sets import SIMULATED, Scenes
from benchmarks.bootstrap import Counts
from sarwater.atomic import replacing
from train.scoring.figure import BLUE, GREY, ORANGE, PURPLE, Panel, draw, thin

SHOWN = 6
WIDTH_PX = 900
GREYS = 40
"""Of the palette: speckle does not compress, fewer colours do."""


def draw_worst(
    sets: Mapping[str, Scenes],
    network: Network,
    results: Mapping[str, Mapping[str, Mapping[int, Counts]]],
    folder: Path,
    cache: Path,
) -> str | None:
    """Draw the SHOWN scenes with the lowest IoU (on land where there is no water): the simulated ones into `folder`,
    the real ones into `cache`. Returns where the first lie, if any."""
    ious = {
        (name, index): iou
        for name in sets
        for index, iou in enumerate(results[name][network.name][0].scene_iou.tolist())
    }
    simulated = {key: iou for key, iou in ious.items() if sets[key[0]].data_set.use == SIMULATED}
    _sheet(cache / "worst.png", {key: iou for key, iou in ious.items() if key not in simulated}, sets, network)
    _sheet(folder / "worst.png", simulated, sets, network)
    return str(folder / "worst.png") if simulated else None


def _sheet(path: Path, ious: Mapping[tuple[str, int], float], sets: Mapping[str, Scenes], network: Network) -> None:
    panels = []
    for name, index in sorted(ious, key=lambda key: ious[key])[:SHOWN]:
        sample = sets[name][index]
        mask = network.mask(sample, 0)
        title = f"{name} {sets[name].kinds[index] or sample.scene.name}"
        shown = (thin(np.zeros_like(sample.truth) if mask is None else mask),)
        iou = f"IoU {ious[name, index]:.3f}"
        panels.append(Panel(title, thin(sample.amplitude), thin(sample.truth), shown, (iou,)))
    if panels:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, panels)
        _make_small(path)


def _make_small(path: Path) -> None:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((WIDTH_PX, round(image.height * WIDTH_PX / image.width)))
    with replacing(path) as temporary:
        small.quantize(palette=_palette(), dither=Image.Dither.NONE).save(temporary, optimize=True)


def _palette() -> Image.Image:
    """Greys, and every colour of the legend, which a palette made from the picture leaves out where it is rare."""
    greys = [(level, level, level) for level in np.linspace(0, 255, GREYS).astype(int).tolist()]
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in (BLUE, ORANGE, PURPLE, GREY, *greys) for part in colour])
    return palette
