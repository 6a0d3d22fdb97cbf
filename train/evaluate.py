"""Score networks on labelled tiles, and compare them.

    python -m train.evaluate MODEL... --data DIR [--holdout NAME] [--json FILE] [--figure FILE.png]

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
from sarwater.models import check_family, looks_like_path, newest_checkpoint

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from train.figure import Panel
    from train.scores import Scores
    from train.tiles import Labels, Tile

BASELINE = "otsu"
BOUNDARY_TOLERANCE_PX = 3


@dataclass(frozen=True)
class Candidate:
    """Something that makes masks: (rows, width) uint8 of a tile whose pixels have the `channels` named."""

    name: str
    source: str
    channels: tuple[str, ...]
    threshold: float | None
    mask: Callable[[Tile], npt.NDArray[np.uint8]]


def evaluate(
    candidates: Sequence[Candidate],
    data: Sequence[str],
    holdout: Sequence[str],
    labels: Labels,
    boundary_tolerance_px: int,
    *,
    with_panels: bool,
) -> tuple[list[Scores], list[Panel]]:
    """Scores of each candidate on the held-out tiles of `data`, or on all of them where nothing is held out.

    Raises DataError, UsageError.
    """
    from train.figure import Panel, thin
    from train.scores import Scores, score_tile

    by_channels = {channels: _tiles(data, holdout, channels, labels) for channels in {c.channels for c in candidates}}
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


def _tiles(data: Sequence[str], holdout: Sequence[str], channels: tuple[str, ...], labels: Labels) -> list[Tile]:
    from train.regions import split_sources
    from train.tiles import find_tiles

    sources = [find_tiles(item, channels, labels) for item in data]
    held_out = [tile for split in split_sources(sources, holdout) for tile in split.held_out]
    return held_out or [tile for tiles in sources for tile in tiles]


def candidate_of(name: str, threshold: float | None, device: str) -> Candidate:
    """Raises ModelNotFound, CheckpointInvalid, DeviceUnavailable."""
    if name == BASELINE:
        from train.baseline import BOX_PX, box_otsu

        return Candidate(f"box {BOX_PX} + Otsu", name, ("sar",), None, lambda tile: box_otsu(tile.amplitude()))
    from train.checkpoint import load_checkpoint
    from train.machine import choose_device
    from train.predict import water_mask

    path = _checkpoint_path(name)
    checkpoint = load_checkpoint(path)
    segmenter = checkpoint.segmenter().to(choose_device(device))
    level = checkpoint.threshold if threshold is None else threshold
    channels = tuple(channel.name for channel in checkpoint.architecture.channels)
    return Candidate(
        checkpoint.architecture.name,
        str(path),
        channels,
        level,
        lambda tile: water_mask(segmenter, tile, level, checkpoint.coarsest_m),
    )


def _checkpoint_path(name: str) -> Path:
    if looks_like_path(name):
        return Path(name)
    check_family(name)
    path = newest_checkpoint(name)
    if path is None:
        raise ModelNotFound(
            f"{name}: no checkpoint under runs/; train one (`sarwater-fit {name} --data DIR`), or give a path"
        )
    print(f"{name}: {path}", file=sys.stderr)
    return path


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
        prog="python -m train.evaluate", description="Score and compare networks on labelled tiles."
    )
    p.add_argument("models", nargs="+", metavar="MODEL", help="a checkpoint, a family or variant, or `otsu`")
    p.add_argument("--data", action="append", required=True, metavar="DIR", help="as for training; repeat for several")
    p.add_argument("--holdout", action="append", default=[], metavar="NAME[@P]|P%%", help="score this part only")
    p.add_argument("--threshold", type=float, help="probability from which a pixel is water; default: the checkpoint's")
    p.add_argument("--boundary-tolerance", type=int, default=BOUNDARY_TOLERANCE_PX, metavar="PX")
    p.add_argument("--water-label", type=int, help="mask value of water")
    p.add_argument("--ignore-label", type=int, help="mask value to leave out")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    p.add_argument("--figure", type=Path, metavar="FILE.png", help="draw SAR, truth, masks and errors here")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        from train.tiles import Labels
    except ImportError as error:
        raise DependencyMissing(f"evaluation needs {error.name}: pip install 'sarwater[train]'") from error
    candidates = [candidate_of(name, arguments.threshold, arguments.device) for name in arguments.models]
    labels = Labels(arguments.water_label, arguments.ignore_label)
    scores, panels = evaluate(
        candidates,
        arguments.data,
        arguments.holdout,
        labels,
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
        from train.figure import draw

        draw(arguments.figure, panels)
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
