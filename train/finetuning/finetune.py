"""Adapt a model to a station's own labelled scenes: one command, minutes on a CPU.

    python -m train.finetuning.finetune DIR [--from MODEL] [--out DIR] [--minutes N | --steps N]

DIR has img/ and mask/ (or any layout that training reads). A part of it that shares no ground with the rest is held
out: what a val.txt names, else a region chosen here. Training stops when the held-out score no longer rises.
Simulated scenes are mixed in, lightly, so that the old skill is not forgotten; others, never trained on, show whether
it was. Writes to runs/<model>/<date>/ as training does, and finetune.json with the scores before and after.

The step that is kept is the one that scored best on the held-out part, so the figures after it flatter a little.
Where the model was of use from the start, the result is the mean of its weights before and after.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DataError, DependencyMissing, OutputError, UsageError
from sarwater.models import DEFAULT_MODEL, RUNS

if TYPE_CHECKING:
    from train.data.labelled import LabelledScene
    from train.data.split import Counts, Split
    from train.finetuning.start import Start
    from train.loop.options import FitOptions
    from train.models import Architecture
    from train.scoring.comparison import Comparison

MINUTES = 10.0
EVALUATIONS = 12
"""In the whole run, evenly spread."""
PATIENCE = 4
"""Evaluations without a better score, after which training stops."""
REPLAY_WEIGHT = 0.1
"""Of the simulated scenes of each mode, where the station's own weigh 1."""
CROP_PX = 256
LEAST_PX = 64
USEFUL_IOU = 0.3
"""Held-out score from which a start is kept to: its normalisation stays, and the result is halfway between the two."""
TIMED_STEPS = 3


def finetune(
    data: str, model: str = DEFAULT_MODEL, out: Path | None = None, steps: int | None = None, minutes: float = MINUTES
) -> Path:
    """Adapt `model` to `data`; return best.pt.

    Raises, before the first step, DataError, UsageError, CheckpointInvalid, ModelNotFound and DependencyMissing; after
    the last, DataError where the held-out score did not rise: the checkpoint is then kept as best.pt.rejected.
    """
    from train.data.labelled import find_labelled
    from train.finetuning.replay import TEST_SEED, TRAINING_SEED, write_replay
    from train.finetuning.start import open_start, start_path
    from train.fit import fit
    from train.models.checkpoint import load_checkpoint, save_checkpoint
    from train.scoring.comparison import Comparison, print_table, scores_of, write_report

    start = open_start(start_path(model))
    tiles = find_labelled(data, start.arch.channels)
    least_px = max(LEAST_PX, 2 * start.arch.stride_px)
    split = split_of(tiles, least_px)
    out = out or RUNS / start.arch.name / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    if (out / "options.json").exists():
        raise UsageError(f"{out}: holds a run already; choose another --out")
    crop_px = _crop_px(split, start.arch)
    replay = write_replay(out / "replay", 3 * crop_px // 2, TRAINING_SEED)
    unseen = [
        tile
        for folder in write_replay(out / "replay-test", 3 * crop_px // 2, TEST_SEED)
        for tile in find_labelled(folder, start.arch.channels)
    ]
    began_s = time.monotonic()
    before = scores_of(start.segmenter, split.held_out, start.threshold, start.coarsest_m)
    evaluation_s = time.monotonic() - began_s
    before_unseen = scores_of(start.segmenter, unseen, start.threshold, start.coarsest_m)
    useful = before.pooled_iou >= USEFUL_IOU
    options = _options(start, split, replay, crop_px, out, useful=useful)
    steps = steps or steps_in(60 * minutes, evaluation_s, options)
    print(_plan_in_words(start, split, steps), flush=True)
    best = fit(replace(options, steps=steps, warmup_steps=max(1, steps // 10), evaluate_every=-(-steps // EVALUATIONS)))
    checkpoint = load_checkpoint(best)
    adapted = checkpoint.segmenter()
    held_out = Comparison(before, scores_of(adapted, split.held_out, start.threshold, checkpoint.coarsest_m))
    checkpoint.training["metrics"]["held_out"] = held_out.after.to_dict()
    save_checkpoint(best, checkpoint)
    simulated = Comparison(before_unseen, scores_of(adapted, unseen, start.threshold, checkpoint.coarsest_m))
    write_report(out / "finetune.json", start.path, held_out, simulated)
    print_table(held_out, simulated)
    _accept(best, held_out)
    return best


def split_of(tiles: Sequence[LabelledScene], least_px: int) -> Split:
    """What to train on and what to hold out. Raises DataError for labels or pixels that nothing can be learned from."""
    from train.data.split import choose_split

    counts = {}
    for tile in tiles:
        if min(tile.width_px, tile.height_px) < least_px:
            raise DataError(
                f"{tile.image}: {tile.width_px} x {tile.height_px} px, expected at least {least_px} px each way"
            )
        counts[tile.name] = _count(tile)
    water, land = sum(count.sum(axis=1) for count in counts.values())
    if not (water and land):
        raise DataError(
            f"{tiles[0].label.parent}: {'no land' if water else 'no water'} in {len(tiles)} mask(s); expected both, "
            "with 0 for land and 255 (or 1) for water"
        )
    return choose_split(tiles, counts, least_px)


def _count(tile: LabelledScene) -> Counts:
    """Water and land of each row."""
    import numpy as np

    from sarwater.classes import LAND, WATER

    counts = []
    for _, truth in tile.strips():
        counts.append([(truth == value).sum(axis=1) for value in (WATER, LAND)])
    return np.concatenate(counts, axis=1)


def _crop_px(split: Split, arch: Architecture) -> int:
    """As large as the smallest training tile lets it be, up to CROP_PX."""
    smallest_px = min(min(tile.width_px, tile.rows_px) for tile in split.training)
    return max(2 * arch.stride_px, min(CROP_PX, smallest_px) // arch.stride_px * arch.stride_px)


def _options(start: Start, split: Split, replay: Sequence[str], crop_px: int, out: Path, *, useful: bool) -> FitOptions:
    from train.loop.options import FitOptions

    return FitOptions(
        model=start.arch.name,
        data=(str(_write_split(out / "split", split)), *(f"{folder}={REPLAY_WEIGHT}" for folder in replay)),
        holdout=tuple(_rows_held_out(split)),
        channels=",".join(start.arch.channels),
        batch_norm=start.arch.batch_norm,
        contrast=start.arch.contrast,
        coarse=start.arch.coarse,
        level_control=start.arch.level_control,
        init=start.path,
        # Batches of a few tiles have statistics of their own: with these the old skill is gone in ten steps.
        frozen_norm=useful,
        halfway=useful,
        crop_px=crop_px,
        learning_rate=3e-4,
        patience=PATIENCE,
        threshold=start.threshold,
        coarsest_m=start.coarsest_m or 0.0,
        tensorboard=False,
        out=out,
    )


def _rows_held_out(split: Split) -> list[str]:
    """NAME@P for a tile of which only the lower rows are held out."""
    lower = [tile for tile in split.held_out if tile.rows[0] > 0]
    return [f"{tile.name}@{100 * tile.rows_px / tile.height_px}" for tile in lower]


def _write_split(folder: Path, split: Split) -> Path:
    """train.txt and val.txt, as training reads them: what was held out can be looked up, and tiles on the border of a
    region are in neither."""
    whole = [tile for tile in split.held_out if tile.rows[0] == 0]
    for name, tiles in (("train.txt", split.training), ("val.txt", whole)):
        files = [(tile.image, tile.label, *([tile.files.gim] if tile.files.gim else [])) for tile in tiles]
        text = "".join(", ".join(str(path.absolute()) for path in row) + "\n" for row in files)
        try:
            with replacing(folder / name) as temporary:
                temporary.write_text(text)
        except OSError as error:
            raise OutputError(f"{folder / name}: cannot write there ({error}); choose another --out") from error
    return folder


def steps_in(seconds: float, evaluation_s: float, options: FitOptions) -> int:
    """How many steps, with their evaluations, this machine does in that time, measured by a few."""
    from train.data.crops import Share, loader
    from train.loop.machine import Team
    from train.loop.plan import make_plan
    from train.loop.trainer import State

    plan = make_plan(options, Team())
    state = State(plan)
    durations_s = []
    for pixels, truth in loader(plan.crops, Share(0, 1 + TIMED_STEPS, options.batch), workers=0):
        began_s = time.monotonic()
        state.update(pixels, truth)
        state.take_mean_loss()  # waits for a GPU
        durations_s.append(time.monotonic() - began_s)
    step_s = sum(durations_s[1:]) / TIMED_STEPS
    return max(EVALUATIONS, int((seconds - EVALUATIONS * evaluation_s) / step_s))


def _plan_in_words(start: Start, split: Split, steps: int) -> str:
    held_out = ", ".join(
        tile.name if tile.rows[0] == 0 else f"{tile.name} from row {tile.rows[0]} on" for tile in split.held_out
    )
    return (
        f"{start.path}: {start.arch.name}\n{len(split.training)} tile(s) to learn from; held out: {held_out}"
        + (f"; left out between them: {', '.join(tile.name for tile in split.dropped)}" if split.dropped else "")
        + f"\nat most {steps} steps (--steps {steps} repeats this run)"
    )


def _accept(best: Path, held_out: Comparison) -> None:
    """A model that is no better must not be taken for the newest of its family."""
    before, after = held_out.before.pooled_iou, held_out.after.pooled_iou
    if after > before:
        print(f"{best}: export it with `python -m export.build_engine {best}`")
        return
    rejected = best.rename(best.with_name(best.name + ".rejected"))
    raise DataError(
        f"{rejected}: no better than the model it started from (held-out pooled IoU {before:.4f} before, {after:.4f} "
        "after); keep using that one, or label more tiles, or give it more --minutes"
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="sarwater-finetune", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DIR", help="labelled scenes: img/NAME*.tif and mask/NAME*.tif")
    parser.add_argument(
        "--from",
        dest="model",
        default=DEFAULT_MODEL,
        metavar="MODEL",
        help="a checkpoint, an fp32 .onnx or a family; default: as shipped",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/<model>/<date>")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=MINUTES, metavar="N", help="about; default: %(default)g")
    length.add_argument("--steps", type=int, metavar="N", help="in place of --minutes")
    arguments = parser.parse_args(argv)
    if arguments.minutes <= 0 or (arguments.steps is not None and arguments.steps < 1):
        raise UsageError("--minutes and --steps: expected more than 0")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise DependencyMissing("training needs torch: pip install 'sarwater[train]'") from error
    finetune(arguments.data, arguments.model, arguments.out, arguments.steps, arguments.minutes)
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
