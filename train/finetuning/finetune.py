"""Adapt a model to a station's own labelled scenes: one command, minutes on a CPU.

DIR has img/ and mask/ (or any layout that training reads), with scenes as the daemon takes them. A part of it that
shares no ground with the rest is held out: what a val.txt names, else a region chosen here. Training stops when the
held-out score no longer rises. Simulated scenes are mixed in, lightly, so that the old skill is not forgotten; others,
never trained on, show whether it was. Writes to runs/<model>/<date>/ as training does, and finetune.json with the
scores before and after.

The step that is kept is the one that scored best on the held-out part, so the figures after it flatter a little.
Where the model was of use from the start, the result is the mean of its weights before and after.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sarwater.atomic import replacing
from sarwater.command import command, given, invoke, option, record_options, run
from sarwater.dependencies import require
from sarwater.errors import DataError, OutputError, UsageError
from sarwater.models import DEFAULT_MODEL
from sarwater.progress import Progress
from sarwater.request import Reading, Request
from train.fit import INSTALL
from train.loop.options import ALIASES, GROUPS, FitOptions, help_of
from train.loop.runs import link_latest, new_run

if TYPE_CHECKING:
    from train.data.labelled import LabelledScene
    from train.data.split import Counts, Split
    from train.finetuning.start import Start
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
"""Of each part of a scene that is cut in two: what is trained on, and what is held out."""
USEFUL_IOU = 0.3
"""Held-out score from which a start is kept to: its normalisation stays, and the result is halfway between the two."""
TIMED_STEPS = 3


def finetune(
    data: str,
    model: str = DEFAULT_MODEL,
    out: Path | None = None,
    steps: int | None = None,
    minutes: float = MINUTES,
    request: Request | None = None,
    labels: str | None = None,
) -> Path:
    """Adapt `model` to `data`, whose scenes are read as `request` says and whose labels mean `labels`; return best.pt.

    Raises, before the first step, DataError, SceneError, UsageError, CheckpointInvalid, ModelNotFound and
    DependencyMissing; after the last, DataError where the held-out score did not rise: the checkpoint is then kept as
    best.pt.rejected.
    """
    with Progress("loading PyTorch"):
        require("torch", "training", INSTALL)
    from sarwater.scenes.labels import Coding
    from train.data.labelled import find_labelled
    from train.finetuning.replay import TEST_SEED, TRAINING_SEED, write_replay
    from train.finetuning.start import open_start, start_path
    from train.fit import fit
    from train.models.checkpoint import load_checkpoint, save_checkpoint
    from train.scoring.comparison import Comparison, print_table, scores_of, write_report

    request = request or Request()
    with Progress("opening the model"):
        start = open_start(start_path(model))
    found = find_labelled(data, start.arch.channels, Coding.parse(labels) if labels else None, request)
    scenes = [scene.levelled(start.level_db) for scene in found]
    split = split_of(scenes)
    out = out or new_run(start.arch.name)
    if (out / "options.json").exists():
        raise UsageError(f"{out}: holds a run already; choose another --out")
    crop_px = crop_px_for(split, start.arch)
    replay = write_replay(out / "replay", 3 * crop_px // 2, TRAINING_SEED)
    unseen = [
        scene.levelled(start.level_db)
        for folder in write_replay(out / "replay-test", 3 * crop_px // 2, TEST_SEED)
        for scene in find_labelled(folder, start.arch.channels)
    ]
    began_s = time.monotonic()
    before = scores_of(start.segmenter, split.held_out, start.threshold, start.coarsest_m, "before, held out")
    evaluation_s = time.monotonic() - began_s
    before_unseen = scores_of(start.segmenter, unseen, start.threshold, start.coarsest_m, "before, simulated")
    options = _options(
        start, split, replay, crop_px, out, useful=before.pooled_iou >= USEFUL_IOU, request=request, labels=labels
    )
    steps = steps or steps_in(60 * minutes, evaluation_s, options)
    print(_plan_in_words(start, split, steps), flush=True)
    best = fit(options.but(steps=steps, warmup_steps=max(1, steps // 10), evaluate_every=-(-steps // EVALUATIONS)))
    checkpoint = load_checkpoint(best)
    adapted, threshold, coarsest_m = checkpoint.segmenter(), start.threshold, checkpoint.coarsest_m
    held_out = Comparison(before, scores_of(adapted, split.held_out, threshold, coarsest_m, "after, held out"))
    checkpoint.training["metrics"]["held_out"] = held_out.after.to_dict()
    save_checkpoint(best, checkpoint)
    simulated = Comparison(before_unseen, scores_of(adapted, unseen, threshold, coarsest_m, "after, simulated"))
    write_report(out / "finetune.json", start.path, held_out, simulated)
    print_table(held_out, simulated)
    _accept(best, held_out)
    return best


def split_of(scenes: Sequence[LabelledScene]) -> Split:
    """What to train on and what to hold out. Raises DataError for labels or pixels that nothing can be learned from."""
    from train.data.split import choose_split

    counts = {}
    with Progress("counting water and land", "scenes") as progress:
        for number, scene in enumerate(scenes):
            progress(number, len(scenes))
            counts[scene.name] = _count(scene)
    water, land = sum(count.sum(axis=1) for count in counts.values())
    if not (water and land):
        raise DataError(
            f"{scenes[0].label.parent}: {'no land' if water else 'no water'} in {len(scenes)} label(s); expected both, "
            "with 0 for land and 255 (or 1) for water, or --labels that say what the values are"
        )
    return choose_split(scenes, counts, LEAST_PX)


def _count(scene: LabelledScene) -> Counts:
    """Water and land of each row."""
    import numpy as np

    from sarwater.classes import LAND, WATER

    counts = [[(truth == value).sum(axis=1) for value in (WATER, LAND)] for _, truth in scene.strips()]
    return np.concatenate(counts, axis=1)


def crop_px_for(split: Split, arch: Architecture) -> int:
    """As large as the largest training scene fills, up to CROP_PX: smaller ones are padded."""
    largest_px = max(min(scene.width_px, scene.rows_px) for scene in split.training)
    return max(2 * arch.stride_px, min(CROP_PX, largest_px) // arch.stride_px * arch.stride_px)


def _options(
    start: Start,
    split: Split,
    replay: Sequence[str],
    crop_px: int,
    out: Path,
    *,
    useful: bool,
    request: Request,
    labels: str | None,
) -> FitOptions:
    return FitOptions(
        **{name: getattr(request, name) for name in Reading.model_fields},
        model=start.arch.name,
        data=(str(_write_split(out / "split", split)),),
        simulated=tuple(f"{folder}={REPLAY_WEIGHT}" for folder in replay),
        holdout=tuple(_rows_held_out(split)),
        channels=",".join(channel.name for channel in start.arch.channels),
        labels=labels,
        batch_norm=start.arch.batch_norm,
        scales=start.arch.scales,
        init=start.path,
        # Batches of a few scenes have statistics of their own: with these the old skill is gone in ten steps.
        frozen_norm=useful,
        halfway=useful,
        crop_px=crop_px,
        learning_rate=3e-4,
        patience=PATIENCE,
        threshold=start.threshold,
        coarsest_m=start.coarsest_m or 0.0,
        levelled=start.level_db is not None,
        tensorboard=False,
        out=out,
    )


def _rows_held_out(split: Split) -> list[str]:
    """NAME@P for a scene of which only the lower rows are held out."""
    lower = [scene for scene in split.held_out if scene.rows[0] > 0]
    return [f"{scene.name}@{100 * scene.rows_px / scene.height_px}" for scene in lower]


def _write_split(folder: Path, split: Split) -> Path:
    """train.txt and val.txt, as training reads them: what was held out can be looked up, and scenes on the border of a
    region are in neither."""
    whole = [scene for scene in split.held_out if scene.rows[0] == 0]
    for name, scenes in (("train.txt", split.training), ("val.txt", whole)):
        files = [(scene.image, scene.label, *([scene.files.gim] if scene.files.gim else [])) for scene in scenes]
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
    from train.loop.trainer import TrainingRun

    plan = make_plan(options, Team())
    training = TrainingRun(plan)
    durations_s: list[float] = []
    with Progress("measuring the time of a step", "steps") as progress:
        for pixels, truth in loader(plan.crops, Share(0, 1 + TIMED_STEPS, options.batch), workers=0):
            progress(len(durations_s), 1 + TIMED_STEPS)
            began_s = time.monotonic()
            training.update(pixels, truth)
            training.take_mean_loss()  # waits for a GPU
            durations_s.append(time.monotonic() - began_s)
    step_s = sum(durations_s[1:]) / TIMED_STEPS
    return max(EVALUATIONS, int((seconds - EVALUATIONS * evaluation_s) / step_s))


def _plan_in_words(start: Start, split: Split, steps: int) -> str:
    held_out = ", ".join(
        scene.name if scene.rows[0] == 0 else f"{scene.name} from row {scene.rows[0]} on" for scene in split.held_out
    )
    return (
        f"{start.path}: {start.arch.name}\n{len(split.training)} scene(s) to learn from; held out: {held_out}"
        + (f"; left out between them: {', '.join(scene.name for scene in split.dropped)}" if split.dropped else "")
        + f"\nat most {steps} steps (--steps {steps} repeats this run)"
    )


def _accept(best: Path, held_out: Comparison) -> None:
    """A model that is no better must not be taken for the newest of its family."""
    before, after = held_out.before.pooled_iou, held_out.after.pooled_iou
    if after > before:
        print(f"{best}: export it with `sarwater export {best}`, or `sarwater build-engine {best}` for a GPU")
        return
    rejected = best.rename(best.with_name(best.name + ".rejected"))
    link_latest(best.parent)
    raise DataError(
        f"{rejected}: no better than the model it started from (held-out pooled IoU {before:.4f} before, {after:.4f} "
        "after); keep using that one, or label more scenes, or give it more --minutes"
    )


@command(
    "finetune",
    "Adapt a model to a station's own labelled scenes: img/NAME*.tif, or product folders, and mask/NAME*.tif.",
    examples="""
    sarwater finetune MY_SCENES                       # about ten minutes on a CPU
    sarwater finetune MY_SCENES --minutes 3           # for a first look
    sarwater finetune MY_SCENES --from runs/hrnet-w18-small/latest --unit sigma0_db
    """,
)
@click.argument("data", metavar="DIR")
@option(
    "--model",
    "--from",
    "model",
    default=DEFAULT_MODEL,
    show_default=True,
    metavar="MODEL",
    group="model",
    help="A model that ships by its name, a checkpoint, a run's folder, or an fp32 .onnx.",
)
@option("--labels", metavar="CODING", group="data", help=help_of("labels"))
@option("-o", "--output", "--out", "out", type=Path, metavar="DIR", group="output", help=help_of("out"))
@option("--minutes", type=float, metavar="N", group="length", help=f"About how long. [default: {MINUTES:g}]")
@option("--steps", type=int, metavar="N", group="length", help="In place of --minutes.")
@record_options(FitOptions, {name: GROUPS[name] for name in ("reading scenes", "limits")}, ALIASES)
def finetune_command(
    data: str,
    model: str,
    labels: str | None,
    out: Path | None,
    minutes: float | None,
    steps: int | None,
    **options: Any,
) -> int:
    if minutes is not None and steps is not None:
        raise UsageError("--minutes and --steps: give one of the two")
    if (minutes is not None and minutes <= 0) or (steps is not None and steps < 1):
        raise UsageError("--minutes and --steps: expected more than 0")
    request = Request(**given(options))
    print(f"adapt {model} to {data}", file=sys.stderr, flush=True)
    finetune(data, model, out, steps, minutes or MINUTES, request, labels)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(finetune_command, argv)


def cli() -> int:
    return run(finetune_command)


if __name__ == "__main__":
    sys.exit(cli())
