"""Score networks on labelled tiles, and compare them.

    python -m train.scoring.evaluate MODEL... --data DIR [--holdout NAME] [--json FILE] [--figure FILE.png]

MODEL is a checkpoint, the name of a family or variant (its newest checkpoint under runs/), or `otsu`, the box filter
and threshold that every network should beat.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DependencyMissing, ModelNotFound, OutputError
from sarwater.models import checkpoint_path, looks_like_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from sarwater.manifest import Channel
    from sarwater.scenes.labels import Coding
    from train.data.labelled import LabelledScene
    from train.scoring.figure import Panel
    from train.scoring.scores import Scores

BASELINE = "otsu"
BOUNDARY_TOLERANCE_PX = 3


@dataclass(frozen=True)
class Candidate:
    """Something that makes masks: (rows, width) uint8 of a tile whose pixels have the `channels` named."""

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
    *,
    with_panels: bool,
) -> tuple[list[Scores], list[Panel]]:
    """Scores of each candidate on the held-out tiles of `data`, or on all of them where nothing is held out.

    Raises DataError, UsageError.
    """
    from train.scoring.figure import Panel, thin
    from train.scoring.scores import Scores, score_tile

    by_channels = {channels: _tiles(data, holdout, channels, coding) for channels in {c.channels for c in candidates}}
    tiles = [by_channels[candidate.channels] for candidate in candidates]
    scores: list[list[Any]] = [[] for _ in candidates]
    panels = []
    for same_tile in zip(*tiles, strict=True):  # one after the other: all masks of a tile, then the next tile
        tile = same_tile[0]
        truth = tile.truth()
        shown = []
        for candidate, its_tile, its_scores in zip(candidates, same_tile, scores, strict=True):
            mask = candidate.mask(its_tile)
            its_scores.append(score_tile(tile.name, mask, truth, boundary_tolerance_px))
            shown.append((thin(mask), f"{candidate.name}: IoU {its_scores[-1].confusion.iou:.3f}"))
        if with_panels:
            masks, titles = zip(*shown, strict=True)
            panels.append(Panel(tile.name, thin(tile.amplitude()), thin(truth), masks, titles))
    return [Scores(tuple(each)) for each in scores], panels


def _tiles(
    data: Sequence[str], holdout: Sequence[str], channels: tuple[Channel, ...], coding: Coding | None
) -> list[LabelledScene]:
    from train.data.labelled import find_labelled
    from train.data.split import split_sources

    sources = [find_labelled(item, channels, coding) for item in data]
    held_out = [tile for split in split_sources(sources, holdout) for tile in split.held_out]
    return held_out or [tile for tiles in sources for tile in tiles]


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
        lambda tile: water_mask(segmenter, tile, level, checkpoint.coarsest_m),
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


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m train.scoring.evaluate", description="Score and compare networks on labelled tiles."
    )
    p.add_argument("models", nargs="+", metavar="MODEL", help="a checkpoint, a family or variant, or `otsu`")
    p.add_argument("--data", action="append", required=True, metavar="DIR", help="as for training; repeat for several")
    p.add_argument("--holdout", action="append", default=[], metavar="NAME[@P]|P%%", help="score this part only")
    p.add_argument("--threshold", type=float, help="probability from which a pixel is water; default: the checkpoint's")
    p.add_argument("--boundary-tolerance", type=int, default=BOUNDARY_TOLERANCE_PX, metavar="PX")
    p.add_argument("--labels", metavar="CODING", help="what label values mean, as land=1,water=2,ignore=0")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    p.add_argument("--figure", type=Path, metavar="FILE.png", help="draw SAR, truth, masks and errors here")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        from sarwater.scenes.labels import Coding
    except ImportError as error:
        raise DependencyMissing(f"evaluation needs {error.name}: pip install 'sarwater[train]'") from error
    candidates = [candidate_of(name, arguments.threshold, arguments.device) for name in arguments.models]
    coding = Coding.parse(arguments.labels) if arguments.labels else None
    scores, panels = evaluate(
        candidates,
        arguments.data,
        arguments.holdout,
        coding,
        arguments.boundary_tolerance,
        with_panels=arguments.figure is not None,
    )
    _print_tables(candidates, scores, arguments.boundary_tolerance)
    if arguments.json:
        document = report(candidates, scores, arguments.boundary_tolerance)
        try:
            with replacing(arguments.json) as temporary:
                temporary.write_text(json.dumps(document, indent=2) + "\n")
        except OSError as error:
            raise OutputError(f"{arguments.json}: cannot write ({error})") from error
    if arguments.figure:
        from train.scoring.figure import draw

        draw(arguments.figure, panels)
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
