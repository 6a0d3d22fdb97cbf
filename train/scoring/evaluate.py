"""Score checkpoints on labelled scenes, and compare them with each other and with `otsu`, the box filter and threshold
that every network should beat: `python -m train.scoring.evaluate MODEL... --data DIR`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sarwater.atomic import replacing
from sarwater.command import command, given, invoke, option, record_options, run
from sarwater.dependencies import require
from sarwater.errors import ModelNotFound, OutputError
from sarwater.models import checkpoint_path, looks_like_path
from sarwater.progress import Progress
from sarwater.request import Request
from train.loop.options import ALIASES, GROUPS, FitOptions, help_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sarwater.manifest import Channel
    from sarwater.scenes.labels import Coding
    from train.data.labelled import LabelledScene
    from train.scoring.figure import Panel
    from train.scoring.scores import Scores

PROGRAM = "python -m train.scoring.evaluate"
BASELINE = "otsu"
BOUNDARY_TOLERANCE_PX = 3


@dataclass(frozen=True)
class Candidate:
    """Something that makes masks: (rows, width) uint8 of a scene whose pixels have the `channels` named."""

    name: str
    source: str
    channels: tuple[Channel, ...]
    threshold: float | None
    mask: Callable[[LabelledScene], npt.NDArray[np.uint8]]


def evaluate(
    candidates: Sequence[Candidate],
    data: Sequence[str],
    holdout: Sequence[str],
    coding: Coding | None,
    boundary_tolerance_px: int,
    request: Request | None = None,
    *,
    with_panels: bool,
) -> tuple[list[Scores], list[Panel]]:
    """Scores of each candidate on the held-out scenes of `data`, or on all of them where nothing is held out.

    Raises DataError, UsageError.
    """
    from train.scoring.figure import Panel, thin
    from train.scoring.scores import Scores, score_tile

    by_channels = {
        channels: _scenes(data, holdout, channels, coding, request) for channels in {c.channels for c in candidates}
    }
    scenes = [by_channels[candidate.channels] for candidate in candidates]
    scores: list[list[Any]] = [[] for _ in candidates]
    panels = []
    with Progress("scoring", "scenes") as progress:
        # One after the other: all masks of a scene, then the next scene.
        for number, same_scene in enumerate(zip(*scenes, strict=True)):
            scene = same_scene[0]
            progress(number, len(scenes[0]), scene.name)
            truth = scene.truth()
            shown = []
            for candidate, its_scene, its_scores in zip(candidates, same_scene, scores, strict=True):
                mask = candidate.mask(its_scene)
                its_scores.append(score_tile(scene.name, mask, truth, boundary_tolerance_px))
                shown.append((thin(mask), f"{candidate.name}: IoU {its_scores[-1].confusion.iou:.3f}"))
            if with_panels:
                masks, titles = zip(*shown, strict=True)
                panels.append(Panel(scene.name, thin(scene.amplitude()), thin(truth), masks, titles))
    return [Scores(tuple(each)) for each in scores], panels


def _scenes(
    data: Sequence[str],
    holdout: Sequence[str],
    channels: tuple[Channel, ...],
    coding: Coding | None,
    request: Request | None,
) -> list[LabelledScene]:
    from train.data.labelled import find_labelled
    from train.data.split import split_sources

    sources = [find_labelled(item, channels, coding, request) for item in data]
    held_out = [scene for split in split_sources(sources, holdout) for scene in split.held_out]
    return held_out or [scene for scenes in sources for scene in scenes]


def candidate_of(name: str, threshold: float | None, device: str) -> Candidate:
    """Raises ModelNotFound, CheckpointInvalid, DeviceUnavailable."""
    if name == BASELINE:
        from train.data.labelled import AMPLITUDE
        from train.scoring.baseline import BOX_PX, box_otsu

        return Candidate(f"box {BOX_PX} + Otsu", name, AMPLITUDE, None, lambda tile: box_otsu(tile.amplitude()))
    from train.loop.machine import choose_device
    from train.models.checkpoint import load_checkpoint
    from train.scoring.predict import water_mask

    path = _checkpoint_path(name)
    checkpoint = load_checkpoint(path)
    segmenter = checkpoint.segmenter().to(choose_device(device))
    level = checkpoint.threshold if threshold is None else threshold
    channels = checkpoint.architecture.channels
    return Candidate(
        checkpoint.architecture.name,
        str(path),
        channels,
        level,
        lambda tile: water_mask(segmenter, tile.levelled(checkpoint.level_db), level, checkpoint.coarsest_m),
    )


def _checkpoint_path(name: str) -> Path:
    if not looks_like_path(name):
        raise ModelNotFound(
            f"{name}: expected a checkpoint, as runs/{name}/latest, or `{BASELINE}`; models by name are scored by "
            f"`sarwater evaluate DIR --model {name}`"
        )
    return checkpoint_path(Path(name))


def report(candidates: Sequence[Candidate], scores: Sequence[Scores], boundary_tolerance_px: int) -> dict[str, Any]:
    """What --json writes; every average under its own name."""
    return {
        "boundary_tolerance_px": boundary_tolerance_px,
        "models": [
            {"model": candidate.name, "source": candidate.source, "threshold": candidate.threshold, **score.to_dict()}
            for candidate, score in zip(candidates, scores, strict=True)
        ],
    }


def _print_tables(candidates: Sequence[Candidate], scores: Sequence[Scores], boundary_tolerance_px: int) -> None:
    from rich.console import Console
    from rich.table import Column, Table

    console = Console()
    heads = ("IoU", "F1", "precision", "recall", f"boundary F ({boundary_tolerance_px} px)")
    for candidate, score in zip(candidates, scores, strict=True):
        table = Table("tile", *heads, title=candidate.name, title_justify="left")
        for tile in score.to_dict()["tiles"]:
            table.add_row(*_cells(tile.values()))
        console.print(table)
    table = Table(
        Column("model", overflow="fold"),
        "mean-tile IoU",
        "pooled IoU",
        *heads[1:],
        title="all tiles",
        title_justify="left",
    )
    for candidate, score in zip(candidates, scores, strict=True):
        summary = score.to_dict()
        keys = ("mean_tile_iou", "pooled_iou", "f1", "precision", "recall", "boundary_f")
        table.add_row(candidate.name, *_cells(summary[key] for key in keys))
    console.print(table)
    console.print("mean-tile IoU is the convention of kari_water_seg: a tile without water is scored on land.")


def _cells(values: Any) -> list[str]:
    return [value if isinstance(value, str) else f"{value:.4f}" for value in values]


@command(
    "evaluate",
    "Score and compare checkpoints on labelled scenes. MODEL is a checkpoint, a run's folder, or `otsu`.",
    examples="""
    python -m train.scoring.evaluate runs/unet-w16/latest otsu --data scenes --holdout 20%
    python -m train.scoring.evaluate runs/hrnet-w18-small/latest --data scenes --unit sigma0_db --figure scores.png
    """,
    more="`sarwater evaluate DIR --model MODEL` scores models as they run: exported ones, and those that ship.",
)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@option(
    "--data", multiple=True, required=True, metavar="DIR", group="data", help="As for training; repeat for several."
)
@option("--holdout", multiple=True, metavar="NAME[@P]|P%", group="data", help="Score this part only.")
@option("--labels", metavar="CODING", group="data", help=help_of("labels"))
@option("--threshold", type=float, metavar="P", help="Probability from which a pixel is water. [default: the model's]")
@option("--boundary-tolerance", type=int, default=BOUNDARY_TOLERANCE_PX, show_default=True, metavar="PX",
        help="How near a shoreline is right.")  # fmt: skip
@option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True, help="Where to run.")
@option("--json", type=Path, metavar="FILE", group="output", help="Write the figures here.")
@option("--figure", type=Path, metavar="FILE.png", group="output", help="Draw SAR, truth, masks and errors here.")
@record_options(FitOptions, {name: GROUPS[name] for name in ("reading scenes", "limits")}, ALIASES)
def evaluate_command(
    models: Sequence[str],
    data: Sequence[str],
    holdout: Sequence[str],
    labels: str | None,
    threshold: float | None,
    boundary_tolerance: int,
    device: str,
    json: Path | None,
    figure: Path | None,
    **options: Any,
) -> int:
    require("osgeo.gdal", "evaluation", "pip install 'sarwater[train]', and GDAL")
    from sarwater.scenes.labels import Coding

    request = Request(**given(options))
    candidates = [candidate_of(name, threshold, device) for name in models]
    coding = Coding.parse(labels) if labels else None
    scores, panels = evaluate(
        candidates, data, holdout, coding, boundary_tolerance, request, with_panels=figure is not None
    )
    _print_tables(candidates, scores, boundary_tolerance)
    if json:
        _write_json(json, report(candidates, scores, boundary_tolerance))
    if figure:
        from train.scoring.figure import draw

        draw(figure, panels)
    return 0


def _write_json(path: Path, document: dict[str, Any]) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(document, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot write ({error})") from error


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(evaluate_command, argv, PROGRAM)


def cli() -> int:
    return run(evaluate_command, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(cli())
