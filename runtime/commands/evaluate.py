"""Score a model, as the runtime runs it, against labelled scenes.

python -m runtime.evaluate DATA_DIR [--model MODEL] [--json FILE]

DATA_DIR is labelled data, as sarwater/scenes/labels.py describes it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from runtime.commands.options import ALIASES, CHOICES, MODEL_AND_PIXELS, SCENE_GROUPS, device_option
from runtime.commands.output import check_writable, write_report
from sarwater.command import command, given, invoke, model_option, option, record_options, run
from sarwater.errors import DataError
from sarwater.metrics import Confusion, confusion, mean_tile_iou, pooled_iou
from sarwater.models import find_model
from sarwater.progress import Progress
from sarwater.request import Request
from sarwater.scenes.labels import Coding, Label, LabelledFiles, find_files, settle_coding

if TYPE_CHECKING:
    from runtime.backends import Backend


_EXAMPLES = """
sarwater evaluate MY_SCENES
sarwater evaluate MY_SCENES --model engines/my-lakes.onnx --json scores.json
sarwater evaluate MY_SCENES --labels land=1,water=2,ignore=0
sarwater evaluate scene.tif:label.tif
"""
_MORE = """
DATA_DIR/img/NAME.tif is paired with DATA_DIR/mask/NAME_label.tif; DATA_DIR may also be a list of files or
IMAGE:LABEL. In a label, 0 is land and 255 water, or 0 is land, 1 water and 255 or -1 not known; other values are
refused until --labels says what each of them is. Pixels that are not known are not counted.
"""


@command("evaluate", "Score a model, as the runtime runs it, on labelled scenes.", examples=_EXAMPLES, more=_MORE)
@click.argument("data", metavar="DATA_DIR")
@option(
    "--labels", metavar="CODING", help="What the values of the labels mean, as land=1,water=2,ignore=0; all of them."
)
@option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write the scores to FILE.")
@model_option(MODEL_AND_PIXELS)
@device_option()
@record_options(Request, SCENE_GROUPS, ALIASES, CHOICES)
def evaluate(data: str, labels: str | None, json_file: Path | None, model: str, device: str, **asked: Any) -> int:
    request, coding = Request(**given(asked)), Coding.parse(labels) if labels else None
    if json_file is not None:
        check_writable(json_file)
    found = find_model(model)
    print(f"model {found.title}", file=sys.stderr)
    from runtime.backends import open_backend

    with Progress("evaluating", "scenes") as progress:
        progress(0, note="reading the labels")
        pairs = find_files(data)
        coding = settle_coding((pair.label for pair in pairs), coding, request)
        progress(0, len(pairs), "opening the model")
        scores: dict[str, Confusion] = {}
        with open_backend(found, device) as backend:
            for number, pair in enumerate(pairs):
                progress(number, len(pairs), pair.image.name)
                scores[pair.image.stem] = score(pair, coding, backend, request)
    report = {
        "model": found.manifest.name,
        "model_sha256": backend.model_sha256,
        "backend": backend.name,
        "pooled_iou": pooled_iou(scores.values()),
        "mean_tile_iou": mean_tile_iou(scores.values()),
        "tiles": [_tile(name, counts) for name, counts in scores.items()],
    }
    if json_file is not None:
        write_report(json_file, json.dumps(report, indent=2) + "\n")
    _print_table(report)
    return 0


def score(files: LabelledFiles, coding: Coding, backend: Backend, request: Request) -> Confusion:
    """Run an image through the pipeline and count against its label. Raises SceneError, DataError for differing
    sizes."""
    from runtime.pipeline import infer_scene, open_for

    with open_for(backend, files.image, request) as scene:
        predicted = np.concatenate([finished.mask for finished in infer_scene(scene, backend, request)])
    label = Label(files.label, request)
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
    """Names last: nothing is cut, on a terminal or in a pipe."""
    columns = ("iou", "f1", "precision", "recall")
    print("  ".join([*(f"{name:>9}" for name in ("IoU", "F1", "precision", "recall")), "scene"]))
    for tile in report["tiles"]:
        print("  ".join([*(f"{tile[name]:>9.3f}" for name in columns), tile["name"]]))
    print(f"pooled IoU {report['pooled_iou']:.4f}   mean-tile IoU {report['mean_tile_iou']:.4f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`."""
    return invoke(evaluate, argv)


def cli() -> int:
    return run(evaluate)


if __name__ == "__main__":
    sys.exit(cli())
