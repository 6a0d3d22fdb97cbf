"""Score a model, as the runtime runs it, against labelled scenes.

    python -m runtime.evaluate DATA_DIR [--model MODEL] [--json FILE]

DATA_DIR is labelled data, as sarwater/scenes/labels.py describes it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.commands.predict import add_scene_options, request_of
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DataError
from sarwater.metrics import Confusion, confusion, mean_tile_iou, pooled_iou
from sarwater.models import find_model
from sarwater.scenes.labels import Coding, Label, LabelledFiles, find_files, settle_coding

if TYPE_CHECKING:
    from runtime.backends import Backend
    from sarwater.request import Request


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from runtime.backends import open_backend

    request, model = request_of(arguments), find_model(arguments.model)
    pairs = find_files(str(arguments.data))
    coding = settle_coding((pair.label for pair in pairs), Coding.parse(arguments.labels) if arguments.labels else None)
    print(f"model {model.title}", file=sys.stderr)
    with open_backend(model, arguments.device) as backend:
        scores = {pair.image.stem: score(pair, coding, backend, request) for pair in pairs}
    report = {
        "model": model.manifest.name,
        "model_sha256": backend.model_sha256,
        "backend": backend.name,
        "pooled_iou": pooled_iou(scores.values()),
        "mean_tile_iou": mean_tile_iou(scores.values()),
        "tiles": [_tile(name, counts) for name, counts in scores.items()],
    }
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print_table(report)
    return 0


def score(files: LabelledFiles, coding: Coding, backend: Backend, request: Request) -> Confusion:
    """Run an image through the pipeline and count against its label. Raises SceneError, DataError for differing
    sizes."""
    from runtime.pipeline import infer_scene, open_for

    with open_for(backend, files.image, request) as scene:
        predicted = np.concatenate([finished.mask for finished in infer_scene(scene, backend, request)])
    label = Label(files.label)
    if (label.height_px, label.width_px) != predicted.shape:
        raise DataError(
            f"{files.label}: {label.width_px} x {label.height_px} px, expected the size of {files.image.name}"
        )
    return confusion(predicted, coding.truth(label.read(0, 0, label.width_px, label.height_px), label.nodata))


def _tile(name: str, counts: Confusion) -> dict[str, Any]:
    return {
        "name": name,
        "iou": counts.iou,
        "tile_iou": counts.tile_iou,
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
    }


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("tile", "IoU", "F1", "precision", "recall"):
        table.add_column(heading, justify="left" if heading == "tile" else "right")
    for tile in report["tiles"]:
        table.add_row(tile["name"], *(f"{tile[name]:.3f}" for name in ("iou", "f1", "precision", "recall")))
    console = Console()
    console.print(table)
    console.print(f"pooled IoU {report['pooled_iou']:.4f}   mean-tile IoU {report['mean_tile_iou']:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarwater-evaluate",
        description="Score a model, as the runtime runs it, against labelled scenes.",
        epilog="DATA_DIR/img/NAME.tif is paired with DATA_DIR/mask/NAME*.tif: 0 is land, all else is water.",
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR", help="folder that holds img/ and mask/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores to FILE")
    parser.add_argument("--labels", metavar="CODING", help="what label values mean, as land=1,water=2,ignore=0")
    add_scene_options(parser)
    return parser


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
