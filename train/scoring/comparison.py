"""A model before and after it was adapted, on the same tiles: a table for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sarwater.atomic import replacing
from sarwater.errors import OutputError
from sarwater.manifest import sha256_of
from sarwater.progress import Progress
from train.data.labelled import LabelledScene
from train.loop.machine import choose_device
from train.models import Segmenter
from train.scoring.predict import water_mask
from train.scoring.scores import BOUNDARY_TOLERANCE_PX, Boundary, Scores, TileScore, score_tile

FORGOTTEN = 0.02
"""Loss of pooled IoU on simulated scenes from which it is called forgetting."""


@dataclass(frozen=True)
class Comparison:
    """Scores of one set of tiles by the model before and after."""

    before: Scores
    after: Scores


def scores_of(
    segmenter: Segmenter, scenes: Sequence[LabelledScene], threshold: float, coarsest_m: float | None, title: str
) -> Scores:
    """As the runtime would answer, which upsamples what is coarser than `coarsest_m`."""
    segmenter = segmenter.to(choose_device("auto"))
    scores = []
    with Progress(f"scoring {title}", "scenes") as progress:
        for number, scene in enumerate(scenes):
            progress(number, len(scenes), scene.name)
            mask = water_mask(segmenter, scene, threshold, coarsest_m)
            scores.append(score_tile(scene.name, mask, scene.truth(), BOUNDARY_TOLERANCE_PX))
    return Scores(tuple(scores))


def print_table(held_out: Comparison, simulated: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "IoU", "F1", "boundary F", title="before → after", title_justify="left")
    for before, after in zip(held_out.before.tiles, held_out.after.tiles, strict=True):
        table.add_row(before.name, *_change(_figures(before), _figures(after)))
    for name, each in (("held out, pooled", held_out), ("simulated, pooled", simulated)):
        table.add_row(name, *_change(_pooled(each.before), _pooled(each.after)), style="bold")
    console = Console(highlight=False)
    console.print(table)
    if (lost := simulated.before.pooled_iou - simulated.after.pooled_iou) > FORGOTTEN:
        console.print(
            f"On simulated scenes, IoU fell by {lost:.3f}: some of the old skill is forgotten. Use this model for "
            "scenes like these only, or label scenes of more kinds."
        )


def _figures(tile: TileScore) -> tuple[float, ...]:
    return tile.confusion.iou, tile.confusion.f1, (tile.boundary or Boundary()).f_score


def _pooled(scores: Scores) -> tuple[float, ...]:
    return scores.pooled_iou, scores.pooled.f1, scores.boundary_f or 0.0


def _change(before: Sequence[float], after: Sequence[float]) -> list[str]:
    return [f"{old:.3f} → {new:.3f}" for old, new in zip(before, after, strict=True)]


def write_report(path: Path, start: Path, held_out: Comparison, simulated: Comparison) -> None:
    sets = {"held_out": held_out, "simulated": simulated}
    document = {
        "from": {"name": start.name, "sha256": sha256_of(start)},
        **{name: {"before": each.before.to_dict(), "after": each.after.to_dict()} for name, each in sets.items()},
    }
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot write ({error})") from error
