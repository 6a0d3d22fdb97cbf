"""Train a network: labelled scenes -> checkpoint.

    sarwater fit unet --data DIR --holdout NAME
    torchrun --nproc-per-node 4 -m train.fit hrnet-w48 --data DIR

Writes to runs/<model>/<date>/: best.pt (by held-out pooled IoU), last.pt (for --resume), log.csv, options.json and
tensorboard/.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sarwater.atomic import replacing
from sarwater.command import command, given, invoke, option, record_options, run
from sarwater.dependencies import require
from sarwater.errors import OutputError, UsageError
from sarwater.progress import Progress
from train.loop.options import ALIASES, GROUPS, FitOptions, help_of, options_of
from train.loop.runs import link_latest

if TYPE_CHECKING:
    from train.loop.plan import Plan
    from train.loop.trainer import TrainingRun
    from train.scoring.scores import Scores

INSTALL = "pip install 'sarwater[train]'"


def fit(options: FitOptions) -> Path:
    """Train and return the path of `best.pt`.

    Raises, before the first step, DataError, SceneError, UsageError, CheckpointInvalid, DependencyMissing,
    DeviceUnavailable, and OutputError where the checkpoints would not fit on the disk; later OutputError, and
    UsageError if training diverges.
    """
    torch = require("torch", "training", INSTALL)
    from train.loop.machine import team
    from train.loop.plan import make_plan
    from train.loop.trainer import TrainingRun

    with team(options.device) as crew:
        plan = make_plan(options, crew)
        torch.backends.cudnn.benchmark = True  # all crops have one size, so the search for kernels pays
        with Progress("preparing the network", quiet=not crew.leads):
            training = TrainingRun(plan)
        if crew.leads:
            _begin(plan, training)
        _train(plan, training)
        crew.wait()
        if crew.leads:
            print(f"best checkpoint: {plan.out / 'best.pt'}", flush=True)
    return plan.out / "best.pt"


def _train(plan: Plan, training: TrainingRun) -> None:
    from train.data.crops import Share, loader
    from train.loop.run_log import RunLog

    options, team = plan.options, plan.team
    share = Share(training.step, plan.steps, options.batch, team.rank, team.size)
    batches = loader(plan.crops, share, options.workers, pinned=plan.device.type == "cuda")
    logging = (
        RunLog(plan.out, training.step, plan.steps, tensorboard=options.tensorboard) if team.leads else nullcontext()
    )
    with logging as log:  # only the process that leads has one
        for pixels, truth in batches:
            if training.exhausted:
                break
            rate = training.rate
            training.update(pixels, truth)
            evaluating = training.step % options.evaluate_every == 0 or training.step == plan.steps
            if log is not None:
                log.at(training.step, "scoring the held-out scenes" if evaluating and plan.held_out else "")
            if not evaluating and training.step % options.log_every:
                continue
            loss = training.take_mean_loss()
            if not math.isfinite(loss):
                raise UsageError(
                    f"step {training.step}: the loss is {loss}, training diverged; lower --learning-rate, or set "
                    f"--clip 1 or --precision bf16. {plan.out} keeps the last good checkpoint"
                )
            scores = _held_out_scores(plan, training) if evaluating and plan.held_out else None
            best = evaluating and training.judge(scores)
            if log is not None:
                log.row(training.step, rate, loss, scores)
                if evaluating:
                    log.say(training.step, loss, scores)
                    training.save(scores, best=best)
                    link_latest(plan.out)


def _held_out_scores(plan: Plan, training: TrainingRun) -> Scores:
    """Of the weights that are kept; the scenes are shared out among the processes."""
    import torch

    from sarwater.metrics import Confusion, confusion
    from train.scoring.predict import water_mask
    from train.scoring.scores import Scores, TileScore

    plan.team.share_buffers(training.average)
    segmenter = training.scored
    counts = torch.zeros(len(plan.held_out), 4, dtype=torch.int64)
    for index in range(plan.team.rank, len(plan.held_out), plan.team.size):
        scene = plan.held_out[index]
        mask = water_mask(segmenter, scene, plan.options.threshold, plan.options.coarsest_m)
        found = confusion(mask, scene.truth())
        counts[index] = torch.tensor([found.true_water, found.false_water, found.missed_water, found.true_land])
    everybody = plan.team.sum(counts.to(plan.device)).tolist()
    named = zip(plan.held_out, everybody, strict=True)
    return Scores(tuple(TileScore(scene.name, Confusion(*row)) for scene, row in named))


def _begin(plan: Plan, training: TrainingRun) -> None:
    """Say what is about to happen, check that its results can be written, and leave options.json."""
    from train.loop.plan import check_room

    tensors = training.segmenter.net.state_dict().values()
    checkpoint_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    check_room(plan.out, checkpoint_bytes, halfway=plan.options.halfway)
    try:
        with replacing(plan.out / "options.json") as temporary:
            temporary.write_text(json.dumps(plan.provenance, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{plan.out}: cannot write there ({error}); choose another --out") from error
    scenes = sum(len(source.scenes) for source in plan.crops.sources)
    lines = [
        f"{plan.arch.name}, {sum(p.numel() for p in training.segmenter.parameters()) / 1e6:.1f} M parameters, on "
        f"{plan.device}, {str(plan.precision).removeprefix('torch.')}, {plan.team.size} process(es)",
        f"{scenes} scene(s) to train on, {len(plan.held_out)} held out, {len(plan.dropped)} left out on the border; "
        f"steps {training.step} to {plan.steps}; writing {plan.out}",
    ]
    if training.init_report is not None:
        lines.append(f"{plan.options.init}: {training.init_report}")
    print("\n".join(lines), file=sys.stderr, flush=True)


@command(
    "fit",
    "Train a network on labelled scenes. MODEL is fcn, unet, deepunet or hrnet, also with its variant: unet-w64.",
    examples="""
    sarwater fit unet --data scenes --holdout 20%
    sarwater fit hrnet --data scenes --unit sigma0_db --labels land=0,water=1,ignore=255
    sarwater fit hrnet --data scenes --config reference --init hrnetv2_w48_imagenet_pretrained.pth
    sarwater fit --recipe hrnet --data DIR
    torchrun --nproc-per-node 4 -m train.fit hrnet-w48 --data scenes
    """,
    more="A key of a TOML file is the name of an option with underscores: crop_px = 256.",
)
@click.argument("model", required=False)
@option("--data", multiple=True, metavar="DIR[=WEIGHT]", group="data", help=help_of("data"))
@option("--simulated", multiple=True, metavar="DIR[=WEIGHT]", group="data", help=help_of("simulated"))
@option("--holdout", multiple=True, metavar="NAME[@P]|P%", group="data", help=help_of("holdout"))
@option(
    "--config",
    default="default",
    show_default=True,
    metavar="FILE.toml",
    group="recipe",
    help="Options from a file; `reference` is the recipe of kari_water_seg for the family, `default` is ours.",
)
@option(
    "--recipe",
    metavar="MODEL|FILE.toml",
    group="recipe",
    help="Make a model that ships anew, on the sets that recipes/open-data.toml names, or FILE.toml; --data is the "
    "folder that holds them. An interrupted run goes on.",
)
@option(
    "--whatever-terms",
    is_flag=True,
    group="recipe",
    help="Learn from sets, too, that the recipe says may only measure.",
)
@option("-o", "--output", "--out", "out", type=Path, metavar="DIR", group="output", help=help_of("out"))
@option(
    "--class-weights", nargs=2, type=float, metavar="LAND WATER", group="optimisation", help=help_of("class_weights")
)
@record_options(FitOptions, GROUPS, ALIASES)
def fit_command(model: str | None, config: str, recipe: str | None, whatever_terms: bool, **options: Any) -> int:
    chosen = given(options)
    if recipe is not None:
        from train.loop.recipe_run import run_recipe

        if model is not None:
            raise UsageError(f"{model}: --recipe {recipe} says which model; give one of the two")
        run_recipe(recipe, chosen, whatever_terms=whatever_terms)
        return 0
    settled = options_of(chosen | ({"model": model} if model else {}), config)
    print(f"fit {settled.model} on {', '.join(settled.data)}", file=sys.stderr, flush=True)
    fit(settled)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(fit_command, argv)


def cli() -> int:
    return run(fit_command)


if __name__ == "__main__":
    sys.exit(cli())
