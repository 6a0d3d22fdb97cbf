"""Each of the four networks, from nothing to the daemon: trained for some hundred steps, scored, exported, run.

    python -m benchmarks.learning --data K5_DIR [--holdout WTR00006] [--only unet,fcn] [-o benchmarks/learning.md]

Every step is the command that a user would type, and is printed as such. The held-out tile is never trained on; beside
each network stands box filter + Otsu on the same tile. The daemon gets the built model and nothing else.
"""

from __future__ import annotations

import argparse
import csv
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.benchmarking.device_state import Sensors
from sarwater.command import run_command
from sarwater.errors import SarwaterError


@dataclass(frozen=True)
class Lesson:
    """What `sarwater fit` is told, besides the data."""

    model: str
    steps: int
    crop_px: int
    batch: int


LESSONS = (
    Lesson("unet-w16", steps=300, crop_px=256, batch=4),
    Lesson("deepunet", steps=200, crop_px=128, batch=4),
    Lesson("hrnet-w18-small", steps=300, crop_px=256, batch=8),
    Lesson("fcn-vgg16", steps=200, crop_px=128, batch=4),
)
TILE_PX = 512
"""Of the exported model: the largest network needs 2 GB at 1024 px."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.learning", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="img/ and mask/ of labelled tiles")
    parser.add_argument("--holdout", default="WTR00006", metavar="NAME", help="default: %(default)s")
    parser.add_argument("--only", default="", metavar="LIST", help="these families alone")
    parser.add_argument("--out", type=Path, default=Path("runs/learning"), metavar="DIR", help="default: %(default)s")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the table in Markdown")
    arguments = parser.parse_args(argv)
    only = [name for name in arguments.only.split(",") if name]
    lessons = [lesson for lesson in LESSONS if not only or lesson.model.partition("-")[0] in only]
    rows = [learn(lesson, arguments.data, arguments.holdout, arguments.out) for lesson in lessons]
    text = _markdown(rows, arguments.holdout)
    print(text)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    return 0


def learn(lesson: Lesson, data: Path, holdout: str, out: Path) -> dict[str, Any]:
    """One network's row; what was done before is not done again. Raises SarwaterError where a command fails."""
    folder = out / lesson.model
    checkpoint, exported = folder / "last.pt", folder / f"{lesson.model}-fp32-{TILE_PX}.onnx"
    if not checkpoint.is_file():
        fit = ["train.fit", lesson.model, "--data", str(data), "--holdout", holdout, "--steps", str(lesson.steps)]
        fit += ["--crop", str(lesson.crop_px), "--batch", str(lesson.batch), "--warmup", "20", "--ema", "0.98"]
        started_s = time.monotonic()
        _run(*fit, "--evaluate-every", str(lesson.steps), "--out", str(folder))
        (folder / "seconds.txt").write_text(f"{time.monotonic() - started_s:.0f}\n")
    scores = folder / "scores.json"
    tile = ["--data", str(data), "--holdout", holdout, "--json", str(scores)]
    _run("train.scoring.evaluate", str(checkpoint), "otsu", *tile, "--figure", str(folder / "figure.png"))
    _run("export.to_onnx", str(checkpoint), "-o", str(exported), "--tile", str(TILE_PX))
    mine, baseline = json.loads(scores.read_text())["models"]
    losses = [float(row["loss"]) for row in csv.DictReader((folder / "log.csv").open())]
    return {
        "lesson": lesson,
        "seconds": float((folder / "seconds.txt").read_text()),
        "losses": (losses[0], losses[-1]),
        "iou": mine["pooled_iou"],
        "baseline_iou": baseline["pooled_iou"],
        "daemon": _in_the_daemon(exported, data, holdout),
    }


def _in_the_daemon(model: Path, data: Path, holdout: str) -> dict[str, Any]:
    """The latency record of the held-out scene, and the IoU of the mask that the daemon published."""
    from osgeo import gdal

    from sarwater.metrics import confusion
    from sarwater.scenes.labels import Coding, Label

    (scene,) = (data / "img").glob(f"{holdout}*")
    (label,) = (data / "mask").glob(f"{holdout}*")
    with tempfile.TemporaryDirectory(prefix="sarwater-learning-") as name:
        incoming, outgoing, state = (Path(name) / part for part in ("in", "out", "state"))
        incoming.mkdir()
        (incoming / scene.name).write_bytes(scene.read_bytes())
        folders = ["--incoming", str(incoming), "--outgoing", str(outgoing), "--state", str(state)]
        _run("runtime.commands.watch", "--once", "--model", str(model), *folders)
        record: dict[str, Any] = json.loads((state / "latency.jsonl").read_text())
        mask = gdal.Open(str(outgoing / f"{scene.stem}_water.tif")).ReadAsArray()
        known = Label(label)
        truth = Coding().truth(known.read(0, 0, known.width_px, known.height_px), known.nodata)
        record["iou"] = confusion(mask, truth).iou
    return record


def _run(*arguments: str) -> None:
    print("$ python -m " + shlex.join(arguments), file=sys.stderr, flush=True)
    code = subprocess.run([sys.executable, "-m", *arguments], stdout=sys.stderr).returncode
    if code:
        raise SarwaterError(f"python -m {shlex.join(arguments)}: ended with {code}; its reason is above")


def _markdown(rows: Sequence[dict[str, Any]], holdout: str) -> str:
    lines = [
        "# Every network learns the KOMPSAT-5 tiles in some hundred steps",
        "",
        "Made by `python -m benchmarks.learning --data K5_DIR -o benchmarks/learning.md` on "
        f"{Sensors().machine().cpu}; {holdout} is held out. Other work may share the machine, so the minutes are no "
        "benchmark; training.md is.",
        "",
        f"| network | steps | crop, batch | minutes | loss, first to last | IoU on {holdout} | box + Otsu | "
        "IoU in the daemon | its total, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lesson, (first, last) = row["lesson"], row["losses"]
        lines.append(
            f"| {lesson.model} | {lesson.steps} | {lesson.crop_px} px, {lesson.batch} | {row['seconds'] / 60:.1f} | "
            f"{first:.2f} to {last:.2f} | **{row['iou']:.3f}** | {row['baseline_iou']:.3f} | "
            f"{row['daemon']['iou']:.3f} | {row['daemon']['total_s']:.1f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(run_command(main))
